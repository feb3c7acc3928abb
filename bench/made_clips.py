"""Clips that a benchmark makes in memory, as a finished run of jobs/clips.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from vidray.tables import runs, schema
from vidray.video.clips import ClipSettings


def write_rows(out: str | Path, clip: ClipSettings, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a run folder that holds the rows of CLIPS, one clip a video."""
    run = runs.Run(out=str(out), table="clips", videos="/made", digest=clip.digest)
    config = {"clip": dataclasses.asdict(clip)}
    columns = ("video_id", "uri", "fingerprint", "label", "split", "group")
    videos = [{**{name: row[name] for name in columns}, "size_bytes": 1} for row in rows]
    run.videos_to_do(config, lambda: pa.Table.from_pylist(videos, schema=schema.VIDEOS))
    run.write_part(0, pa.Table.from_pylist(rows, schema=clip.schema))
    run.publish(config, {})
