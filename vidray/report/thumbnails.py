"""Small frames of videos for the page, decoded in a child process: a video may be hostile.

The videos of a table are opened as the jobs open them, and fewer of them (``decoding`` says which);
one that is gone, or cannot be decoded any more, gives the reason in the place of its frames. The
page says so and stays whole, however many there are: seconds and bytes are counted, and folders
whose videos are gone are not asked again and again.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidray import storage
from vidray.distributed.sandbox import Sandbox
from vidray.errors import JobError, UserError, VideoError
from vidray.report.blocks import Thumbnail

HEIGHT_PX = 96
_QUALITY = 70  # 96 px high: 3 to 6 kB
_MOST_SECONDS = 20.0
_MEMORY_BYTES = 2 << 30
_MOST_FRAMES = 64
# Of all frames of a page, which is to open at once and to go by mail: 12 MB of JPEG are 16 of HTML.
# A short clip takes 40 ms; a bucket that is slow, or a video that hangs, takes what it is given.
PAGE_SECONDS = 180.0
PAGE_BYTES = 12_000_000
# A folder was moved, or a bucket is down: so many videos in a row show it.
_MOST_GONE = {"missing": 8, "unavailable": 2, "timeout": 2}


class Thumbnails:
    """Decodes frames of videos; what was decoded once is kept.

    Args:
        is_on: without, no video is opened and every video has the reason.
        hosts: that web addresses of videos may name; folders and buckets need none.
        most_seconds, most_bytes: of all frames; from then on every video has the reason.
    """

    def __init__(
        self,
        *,
        is_on: bool = True,
        hosts: Sequence[str] = (),
        most_seconds: float = PAGE_SECONDS,
        most_bytes: int = PAGE_BYTES,
    ) -> None:
        self._why_off = "" if is_on else "frames are turned off (--no-frames)"
        self._sandbox = Sandbox(
            "vidray.report.decoding:worker",
            {"hosts": [host.lower() for host in hosts]},
            memory_bytes=_MEMORY_BYTES,
            timeout_seconds=_MOST_SECONDS,
        )
        self._most_seconds, self._most_bytes = most_seconds, most_bytes
        self._seconds, self._bytes = 0.0, 0
        self._known: dict[tuple[Any, ...], Sequence[Thumbnail]] = {}
        self._refused: dict[Any, str] = {}
        # Place -> what its last videos were, and how many of them.
        self._gone: dict[str, tuple[str, int]] = {}

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
        at_seconds: Sequence[float] | None = None,
        height_px: int = HEIGHT_PX,
    ) -> Sequence[Thumbnail] | str:
        """Frames of a video, or why there are none. Times count from the first frame shown.

        Args:
            count: so many, spread evenly over the video or the stretch.
            begin_seconds, end_seconds: the stretch.
            at_seconds: instead, the frame that is shown at each of these times, in their order.
            height_px: of the frames; very wide ones are less high.
        """
        times = None if at_seconds is None else tuple(map(float, at_seconds))[:_MOST_FRAMES]
        key = (uri, min(count, _MOST_FRAMES), begin_seconds, end_seconds, times, height_px)
        if why := self._why_off or self._refused.get(uri) or self._refused.get(key):
            return why
        if key not in self._known:
            if why := self._why_given_up(uri):
                return why
            try:
                self._known[key] = self._decoded(key)
            except VideoError as error:
                return self._refuse(key, error)
            except (JobError, UserError) as error:  # The same would be said of any other video.
                self._why_off = str(error)
                return self._why_off
        found = self._known[key]
        if self._bytes >= self._most_bytes:
            return f"the page has {self._most_bytes / 1e6:.0f} MB of frames, and takes no more"
        # Each time: what is shown twice is in the page twice.
        self._bytes += sum(len(one.jpeg) for one in found)
        return found

    def _decoded(self, key: tuple[Any, ...]) -> Sequence[Thumbnail]:
        names = ("uri", "count", "begin_seconds", "end_seconds", "at_seconds", "height_px")
        began = time.monotonic()
        try:
            batch = self._sandbox.run(dict(zip(names, key, strict=True)))
        finally:
            self._seconds += time.monotonic() - began
        said = batch.schema.metadata or {}
        if b"kind" in said:
            raise VideoError(said[b"kind"].decode(), said[b"why"].decode(errors="replace"))
        self._gone.pop(_place(key[0]), None)
        return [
            _thumbnail(row["pixels"], row["height_px"], row["at_seconds"])
            for row in batch.to_pylist()
        ]

    def _refuse(self, key: tuple[Any, ...], error: VideoError) -> str:
        """Keep why there are no frames: of this stretch, or of the whole video."""
        why = f"no frames: {error.message} ({error.kind})"
        self._refused[key if error.kind == "too_short" else key[0]] = why
        kind, count = self._gone.get(_place(key[0]), ("", 0))
        self._gone[_place(key[0])] = (error.kind, count + 1 if kind == error.kind else 1)
        return why

    def _why_given_up(self, uri: str) -> str:
        if self._seconds >= self._most_seconds:
            return (
                f"no frames: those above took {self._most_seconds:.0f} seconds, which is all that "
                "a page may take"
            )
        kind, count = self._gone.get(_place(uri), ("", 0))
        if count >= _MOST_GONE.get(kind, np.inf):
            return f"no frames: not looked for, as the {count} before it in its folder are {kind}"
        return ""


def _place(uri: str) -> str:
    """What is gone or down as a whole: a folder of this machine; a bucket, a host."""
    return "/".join(uri.split("/")[:3]) if storage.is_bucket(uri) else uri.rpartition("/")[0]


def _thumbnail(pixels: bytes, height_px: int, at_seconds: float) -> Thumbnail:
    """The JPEG is made here, of numbers: nothing that a decoder writes comes into the page."""
    frame = np.frombuffer(pixels, np.uint8).reshape(height_px, -1, 3)
    return Thumbnail(
        jpeg=jpeg(frame), alt=f"frame at {at_seconds:.2f} s", caption=f"{at_seconds:.2f} s"
    )


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """The JPEG file of a frame ``uint8 (H, W, 3)``, RGB."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=_QUALITY, optimize=True)
    return sink.getvalue()
