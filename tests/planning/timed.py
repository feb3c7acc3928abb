"""Finished runs that were timed, made by hand: nothing is decoded, and Ray is not started."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidray.distributed.timing import Timing
from vidray.labelling.commits import LabelSet
from vidray.planning.driver import Driver, Line
from vidray.planning.rates import Rates
from vidray.tables import schema

SET, DIGEST = "tiny-0123456789ab", "0" * 12
# 30 videos of a second and 10 of three: 1.5 seconds in the mean.
TIMING: dict[str, Any] = {
    "nodes": 1, "cpus": 2.0, "gpus": 0.0, "workers": 2, "worker_bytes": 2 << 30, "predictors": 0,
    "gpus_each": 0.0, "video_bytes": 40_000_000, "video_seconds": [[1.0, 30], [3.0, 10]],
    "cpu_wait_seconds": 6.0, "parts": 40, "part_seconds": 2.0, "blocks": 12, "block_gaps": 10,
    "block_gap_seconds": 1.0, "worker_starts_seconds": [0.0, 0.5], "predictor_seconds": None,
}  # fmt: skip
SECONDS: dict[str, Any] = {
    "startup": 8.0, "working": 33.0, "checking": 0.1, "committing": 0.2, "listing": 0.3,
    "in_workers": {"decode": 12.0, "predict": 42.0},
}  # fmt: skip


def timing(**changed: Any) -> Timing:
    values = {**TIMING, **changed}
    for name in ("video_seconds", "worker_starts_seconds"):
        values[name] = tuple(tuple(v) if isinstance(v, list) else v for v in values[name])
    return Timing(**values)


def rates(*, of_timing: dict[str, Any] | None = None, **changed: Any) -> Rates:
    values: dict[str, Any] = {
        "run": "runs/labels", "kind": "label", "timing": timing(**(of_timing or {})),
        "stages": SECONDS["in_workers"], "startup_seconds": 8.0, "working_seconds": 33.0,
        "listing_seconds": 0.3, "listed": 40, "checking_seconds": 0.1, "committing_seconds": 0.2,
        "videos": 40, "table_bytes": 100.0, "hours_of_video_per_hour": 12.0,
    }  # fmt: skip
    return Rates(**{**values, **changed})


def line(each: float, fixed: float = 0.0) -> Line:
    return Line(fixed=fixed, each=each, low=each, high=each)


def driver(each: float = 0.0, fixed: float = 0.0) -> Driver:
    """A driver each of whose four parts takes ``fixed + each * number`` seconds."""
    one = line(each, fixed)
    return Driver(
        listing=one, comparing=one, checking=one, committing=one, commit_bytes=500.0,
        compare_bytes=600.0,
    )  # fmt: skip


def label_folder(
    folder: Path,
    *,
    videos: int = 40,
    seconds: dict[str, Any] | None = None,
    of_timing: dict[str, Any] | None = None,
    **report: Any,
) -> str:
    """A folder of labels with one commit, and run.json as a timed night leaves it."""
    listed = pa.table(
        {
            "video_id": [f"{k:04}" for k in range(videos)],
            "uri": [f"/v/{k:04}.mp4" for k in range(videos)],
            "size_bytes": np.full(videos, 1_000_000),
            "fingerprint": ["f"] * videos,
            **{name: [None] * videos for name in schema.VIDEOS.names[4:]},
        },
        schema=schema.VIDEOS,
    )
    labels = LabelSet(out=str(folder), name=SET)
    run = labels.new_run("/v", DIGEST)
    labels.claim(run, labels.todo(listed, max_attempts=1), {})
    plan = run.read_videos()
    numbers = run.part_numbers(plan)
    for part in numbers.unique().to_pylist():
        rows = [
            {**row, "status": "ok", "label": "a", "probability": 0.5, "probabilities": [0.5, 0.5],
             "config_digest": DIGEST}
            for row in plan.filter(pc.equal(numbers, part)).to_pylist()
        ]  # fmt: skip
        run.write_part(part, pa.Table.from_pylist(rows, schema.LABELLED))
    labels.commit(run, model_digest="m", class_names=["a", "b"])
    values = {
        "kind": "label", "state": "finished", "set": SET, "commit": 1, "listed": videos,
        "counts": {"videos": videos}, "seconds": {**SECONDS, **(seconds or {})},
        "timing": {**TIMING, **(of_timing or {})}, "hours_of_video_per_hour": 12.0, **report,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(values))
    return str(folder)
