"""Histories of labels, made in memory: nothing is labelled and no folder is written."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from vidray.report.frames.thumbnails import Thumbnails
from vidray.report.reading import LABEL_COLUMNS
from vidray.report.runs import LabelHistory
from vidray.report.settings import ReportSettings
from vidray.report.tools import Tools
from vidray.tables import schema

CLASSES = ("jump", "run", "walk")
SET = "knn-0123456789ab"
SCHEMA = pa.schema([schema.LABELS.field(name) for name in LABEL_COLUMNS])


def row(video: str, commit: int, **changes: Any) -> dict[str, Any]:
    """A label of a video; ``changes`` are other values, by column."""
    made = {
        "video_id": video,
        "uri": f"/videos/{video}.mp4",
        "status": "ok",
        "label": "jump",
        "probability": 0.7,
        "probabilities": [0.7, 0.2, 0.1],
        "class_names": list(CLASSES),
        "duration_seconds": 10.0,
        "corrupt_share": 0.0,
        "attempts": 1,
        "model_digest": "d" * 12,
        "labelled_at": datetime(2026, 10, 26, 3, tzinfo=UTC) + timedelta(days=commit),
        "commit": commit,
    }
    return {**made, **changes}


def failure(video: str, commit: int, kind: str, **changes: Any) -> dict[str, Any]:
    """A video that was not labelled."""
    names = ("label", "probability", "probabilities", "class_names", "duration_seconds")
    nothing = dict.fromkeys((*names, "corrupt_share"))
    said = {"status": "failed", "error_kind": kind, "error_message": f"it is {kind}"}
    return row(video, commit, **{**nothing, **said, **changes})


def history(
    rows: Sequence[Mapping[str, Any]] | pa.Table,
    nights: Mapping[int, Mapping[str, Any]] | None = None,
    *,
    set_name: str = SET,
    **report: Any,
) -> LabelHistory:
    """The history of rows, the oldest commit first."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=SCHEMA)
    return LabelHistory(
        out="/labels",
        name="labels",
        report=report,
        set_name=set_name,
        rows=table.sort_by([("commit", "ascending"), ("uri", "ascending")]),
        nights=nights or {},
    )


def night(
    commit: int,
    count: int,
    *,
    seconds: float = 8.0,
    shares: Sequence[float] = (0.5, 0.3, 0.2),
    failed: float = 0.02,
    of_recording: int = 4,
    seed: int = 0,
) -> pa.Table:
    """Rows of videos of recordings, whose videos are nearly as long as one another, and of one
    label mostly.
    """
    rng = np.random.default_rng([seed, commit])
    recording = np.arange(count) // of_recording
    of_all = rng.choice(len(CLASSES), count, p=shares)
    label = np.where(rng.random(count) < 0.7, of_all[recording], of_all)
    lengths = seconds * np.exp(0.4 * rng.normal(size=count)[recording])
    lengths *= np.exp(0.1 * rng.normal(size=count))
    sure = rng.uniform(0.4, 1, count)
    has_failed = rng.random(count) < failed
    rows = []
    for k in range(count):
        video = f"n{commit}v{k:05}"
        if has_failed[k]:
            rows.append(failure(video, commit, "unreadable", group=f"n{commit}g{recording[k]}"))
            continue
        rest = (1 - sure[k]) / 2
        each = [sure[k] if c == label[k] else rest for c in range(len(CLASSES))]
        rows.append(
            row(
                video,
                commit,
                group=f"n{commit}g{recording[k]}",
                label=CLASSES[label[k]],
                true_label=CLASSES[of_all[k]],
                probability=sure[k],
                probabilities=each,
                duration_seconds=lengths[k],
            )
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def report(videos: int, **changes: Any) -> dict[str, Any]:
    """run.json of a night."""
    made = {
        "counts": {"videos": videos, "ok": videos, "failed": 0, "skipped": 0, "error_kinds": {}},
        "seconds": {"startup": 5.0, "working": videos / 2},
        "videos_per_second": 2.0,
        "cost_per_thousand_videos": {"cpu_seconds": 3600.0, "gpu_seconds": 360.0},
        "hours_of_video": videos / 100,
    }
    return {**made, **changes}


def tools(**settings: Any) -> Tools:
    """Tools that decode no frames."""
    return Tools(
        settings=ReportSettings(frames=False, **settings), thumbnails=Thumbnails(is_on=False)
    )
