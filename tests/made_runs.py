"""Finished runs of jobs/extract.py and jobs/clips.py, made by hand: nothing is decoded."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vidray import features
from vidray.features.embedding import Embedding
from vidray.features.extraction import Settings
from vidray.models.model_files import name_and_digest
from vidray.tables import runs, schema
from vidray.video.clips import ClipSettings

LABELS = ("jump", "run")
Rows = Sequence[dict[str, Any]]


def publish(
    out: str,
    table: str,
    settings: Any,
    rows: Rows,
    key: str,
    source: str = "x",
    **shown: object,
) -> str:
    """A finished run of ``rows``, as the jobs leave it, of videos found in ``source``; ``shown`` is
    the rest of the config in run.json.
    """
    run = runs.Run(out=out, table=table, videos=source, digest=settings.digest)
    config = {**shown, key: dataclasses.asdict(settings)}
    first = {row["video_id"]: row for row in reversed(rows)}
    of_row = ("video_id", "uri", "fingerprint", "label", "split", "group")
    listed = [
        {**{name: first[video].get(name) for name in of_row}, "size_bytes": 1}
        for video in dict.fromkeys(row["video_id"] for row in rows)
    ]
    run.videos_to_do(config, lambda: pa.Table.from_pylist(listed, schema=schema.VIDEOS))
    filled = [{**row, "config_digest": settings.digest} for row in rows]
    run.write_part(0, pa.Table.from_pylist(filled, schema=settings.schema))
    run.publish(config, {})
    return out


def videos(number: int) -> list[dict[str, Any]]:
    """Of two classes, each recording of two; half train, the rest val and test."""
    rows = []
    for k in range(number):
        recording = k // 2
        rows.append(
            {
                "video_id": f"v{k:03}",
                "uri": f"/videos/v{k:03}.mp4",
                "fingerprint": f"f-v{k:03}",
                "label": LABELS[recording % 2],
                "split": ("train", "val", "train", "test")[recording // 2 % 4],
                "group": f"g{recording}",
                "status": "ok",
            }
        )
    return rows


def features_run(
    out: Path, number: int = 64, *, rows: Rows | None = None, source: str = "x"
) -> Path:
    """Families ``motion``, which tells the class mostly, and ``temporal``, which does not."""
    rng = np.random.default_rng(0)
    settings = Settings(families=("motion", "temporal"))
    filled = []
    for row in videos(number) if rows is None else rows:
        made = {f: rng.normal(size=features.FAMILIES[f].length) for f in settings.families}
        made["motion"] += 0.3 * _class_of(row)
        numbers = {family: values.astype(np.float32).tolist() for family, values in made.items()}
        filled.append({**row, **(numbers if row["status"] == "ok" else {}), "num_frames": 10})
    publish(str(out), "features", settings, filled, "extraction", source)
    return out


def embedding_run(out: Path, network: str, size: int) -> Path:
    """Families ``motion`` and ``embedding``, which tells the class mostly, of the network in the
    folder ``network``.
    """
    rng = np.random.default_rng(0)
    used = Embedding(model="resnet18_avg", digest=name_and_digest(network)[1], size=size)
    settings = Settings(families=("motion", "embedding"), embedding=used)
    filled = []
    for row in videos(64):
        made = {f: rng.normal(size=settings.family(f).length) for f in settings.families}
        made["embedding"] += 0.3 * _class_of(row)
        numbers = {family: values.astype(np.float32).tolist() for family, values in made.items()}
        filled.append({**row, **numbers, "num_frames": 10})
    publish(str(out), "features", settings, filled, "extraction", embed=network)
    return out


def clips_run(
    out: Path,
    number: int = 64,
    *,
    frames: int = 4,
    size_px: int = 32,
    rows: Rows | None = None,
    source: str = "x",
    **cut: Any,
) -> Path:
    """Noise; that of one class is a little brighter. ``cut`` are other ``ClipSettings``."""
    rng = np.random.default_rng(0)
    settings = ClipSettings(frames_per_clip=frames, size_px=size_px, **cut)
    filled = []
    for row in videos(number) if rows is None else rows:
        pixels = rng.normal(110 + 30 * _class_of(row), 40, (frames, size_px, size_px, 3))
        made = {"clip_index": 0, "pixels": pixels.clip(0, 255).astype(np.uint8).tobytes()}
        filled.append({**row, **(made if row["status"] == "ok" else {})})
    publish(str(out), "clips", settings, filled, "clip", source)
    return out


def _class_of(row: Mapping[str, Any]) -> int:
    """Labels beyond the two are told apart too."""
    return (*LABELS, *sorted({row["label"]} - set(LABELS), key=str)).index(row["label"])
