"""Small frames of videos for the page, decoded in a child process: a video may be hostile.

The videos of a table are opened as the job that made it opened them; one that is gone, or cannot be
decoded any more, gives the reason in the place of its frames.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from vidray import storage
from vidray.distributed.sandbox import Sandbox
from vidray.errors import JobError, VideoError
from vidray.report.blocks import Thumbnail
from vidray.video.decode import Video
from vidray.video.frames import Limits, Request

HEIGHT_PX = 96
_QUALITY = 70  # 96 px high: 3 to 6 kB
_MOST_SECONDS = 20.0
_MEMORY_BYTES = 2 << 30
_MOST_FRAMES = 16
_MOST_PIXELS = 36_000_000


class Thumbnails:
    """Decodes frames of videos; what was decoded once is kept.

    Args:
        is_on: without, no video is opened and every video has the reason.
    """

    def __init__(self, *, is_on: bool = True) -> None:
        self._is_on = is_on
        self._sandbox = Sandbox(
            "vidray.report.thumbnails:worker",
            {},
            memory_bytes=_MEMORY_BYTES,
            timeout_seconds=_MOST_SECONDS,
        )
        self._known: dict[tuple[Any, ...], Sequence[Thumbnail] | str] = {}

    def __enter__(self) -> Thumbnails:
        return self

    def __exit__(self, *_: object) -> None:
        self._sandbox.close()

    def of(
        self,
        uri: str,
        *,
        count: int = 4,
        begin_seconds: float | None = None,
        end_seconds: float | None = None,
    ) -> Sequence[Thumbnail] | str:
        """``count`` frames spread evenly over a video or a stretch of it, or why there are none."""
        if not self._is_on:
            return "frames are turned off (--no-frames)"
        key = (uri, count, begin_seconds, end_seconds)
        if key not in self._known:
            self._known[key] = self._decode(key)
        return self._known[key]

    def _decode(self, key: tuple[Any, ...]) -> Sequence[Thumbnail] | str:
        names = ("uri", "count", "begin_seconds", "end_seconds")
        try:
            batch = self._sandbox.run(dict(zip(names, key, strict=True)))
        except (VideoError, JobError) as error:
            return str(error)
        jpegs, times = (batch.column(k).to_pylist() for k in range(2))
        return [
            Thumbnail(jpeg=jpeg, alt=f"frame at {at:.2f} s", caption=f"{at:.2f} s")
            for jpeg, at in zip(jpegs, times, strict=True)
        ]


def worker(_config: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], pa.RecordBatch]:
    """The work of the child process: a request of ``Thumbnails`` -> ``jpeg``, ``at_seconds``."""
    return _frames


def _frames(request: Mapping[str, Any]) -> pa.RecordBatch:
    with (
        storage.opened(request["uri"]) as source,
        Video(source, limits=Limits(max_pixels=_MOST_PIXELS)) as video,
    ):
        times = video.pts_seconds
        begin = request["begin_seconds"] or 0.0
        end = request["end_seconds"]
        inside = np.flatnonzero((times >= begin) & (times < (np.inf if end is None else end)))
        if not len(inside):
            raise VideoError("too_short", "no frame is shown in the stretch")
        count = min(request["count"], _MOST_FRAMES, len(inside))
        # The middle of each of ``count`` equal parts.
        chosen = inside[((np.arange(count) + 0.5) * len(inside) / count).astype(np.int64)]
        header = video.probe(count_frames=False)
        width = round(HEIGHT_PX * header.display_width_px / header.display_height_px)
        width = min(max(width, HEIGHT_PX // 3), 3 * HEIGHT_PX)
        found = video.read(Request(chosen, width_px=width, height_px=HEIGHT_PX))[0]
    jpegs = [jpeg(pixels) for pixels in found.pixels]
    return pa.record_batch(
        {"jpeg": pa.array(jpegs, pa.binary()), "at_seconds": pa.array(found.pts_seconds)}
    )


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """The JPEG file of a frame ``uint8 (H, W, 3)``, RGB."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=_QUALITY)
    return sink.getvalue()
