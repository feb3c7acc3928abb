"""The sandbox's work where pixels go through Ray Data: a video in, a row for each clip out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from vidray import storage
from vidray.labelling import wire
from vidray.models.model_files import read_info
from vidray.video import clips
from vidray.video.clips import ClipSettings
from vidray.video.decode import Video


def cut_videos(config: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], pa.RecordBatch]:
    """The work of a sandbox: a video -> a row for each of its clips."""
    clip = ClipSettings.from_json(read_info(config["model"])["clip"])

    def cut(video: Mapping[str, Any]) -> pa.RecordBatch:
        with storage.opened(video["uri"], video["size_bytes"]) as source, Video(source) as opened:
            pixels, _, decoder = clips.read_clips(opened, source, clip)
        rows = wire.question(pixels)
        rows = rows.append_column("video_id", pa.array([video["video_id"]] * len(rows)))
        return rows.append_column("decoder", pa.array([decoder] * len(rows)))

    return cut
