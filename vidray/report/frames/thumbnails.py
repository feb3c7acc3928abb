"""Small frames of videos for the page, decoded in a child process: a video may be hostile.

The videos of a table are opened as the jobs open them, and fewer of them (``decoding`` says which);
one that is gone, or cannot be decoded any more, gives the reason in the place of its frames. The
page stays whole, however many these are: seconds and bytes are counted, and a folder whose videos
are gone is not asked again and again.
"""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from vidray import storage
from vidray.distributed.sandbox import Sandbox
from vidray.errors import ERROR_KINDS, JobError, UserError, VideoError
from vidray.report.blocks import Thumbnail
from vidray.report.frames.decoding import WIDEST

HEIGHT_PX = 96
_QUALITY = 70  # 96 px high: 3 to 6 kB
_MOST_SECONDS = 20.0
_MEMORY_BYTES = 2 << 30
_MOST_FRAMES = 64
_MOST_HEIGHT_PX = 360
# Of all frames of a page, which is to open at once and to go by mail: 12 MB of JPEG are 16 of HTML.
PAGE_BYTES = 12_000_000
# A short clip takes 40 ms; a bucket that is slow, or a video that hangs, takes what it is given.
PAGE_SECONDS = 180.0
# A folder was moved, or a bucket is down: so many videos in a row show it.
_MOST_GONE = {"missing": 8, "unavailable": 2, "timeout": 2}
_GONE = {"missing": "missing", "unavailable": "unavailable", "timeout": "not read in time"}


@dataclass(frozen=True)
class _Asked:
    """A request to the child process, as JSON has it."""

    uri: str
    count: int
    begin_seconds: float | None
    end_seconds: float | None
    at_seconds: tuple[float, ...] | None
    height_px: int


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
            "vidray.report.frames.decoding:worker",
            {"hosts": [host.lower() for host in hosts]},
            memory_bytes=_MEMORY_BYTES,
            timeout_seconds=_MOST_SECONDS,
        )
        self._most_seconds, self._most_bytes = most_seconds, most_bytes
        self._seconds, self._bytes = 0.0, 0
        self._known: dict[_Asked, Sequence[Thumbnail]] = {}
        self._refused: dict[_Asked | str, str] = {}
        self._given: set[str] = set()
        self._places: Counter[str] = Counter()
        # Place -> what its last videos were, and how many of them.
        self._gone: dict[str, tuple[str, int]] = {}

    def __enter__(self) -> Thumbnails:
        return self

    def __exit__(self, *_: object) -> None:
        self._sandbox.close()

    @property
    def places(self) -> Mapping[str, int]:
        """Where the videos are whose frames were given out, and how many of them in each place:
        a stranger's table may name videos that are no business of the page's readers.
        """
        return dict(self._places.most_common())

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
            count: so many, spread evenly over the video or the stretch; 64 at the most.
            begin_seconds, end_seconds: the stretch.
            at_seconds: instead, the frame that is shown at each of these times, in their order.
            height_px: of the frames; very wide ones are less high.
        """
        times = None if at_seconds is None else tuple(map(float, at_seconds))[:_MOST_FRAMES]
        asked = _Asked(
            uri,
            max(1, min(count, _MOST_FRAMES)),
            begin_seconds,
            end_seconds,
            times,
            max(1, min(height_px, _MOST_HEIGHT_PX)),
        )
        if why := self._why_off or self._refused.get(uri) or self._refused.get(asked):
            return why
        one = replace(asked, count=1)
        if asked not in self._known:
            if why := self._why_given_up(uri):
                return why
            try:
                self._known[asked] = self._decoded(asked)
            except VideoError as error:
                return self._refuse(asked, error)
            except (JobError, UserError) as error:  # The same would be said of any other video.
                self._why_off = f"no frames: {error}"
                return self._why_off
        found = self._known[asked]
        if times is None:  # Who wants one frame next may have one of these.
            self._known.setdefault(one, [found[len(found) // 2]])
        if self._bytes >= self._most_bytes:
            return f"no frames: the page has {self._most_bytes / 1e6:.3g} MB of them, its most"
        if uri not in self._given:
            self._given.add(uri)
            self._places[_place(uri)] += 1
        # Each time: what is shown twice is in the page twice.
        self._bytes += sum(len(one.jpeg) for one in found)
        return found

    def _decoded(self, asked: _Asked) -> Sequence[Thumbnail]:
        began = time.monotonic()
        try:
            batch = self._sandbox.run(dict(vars(asked)))
            found = [
                Thumbnail(jpeg=jpeg(frame), alt=f"frame at {at:.2f} s", caption=f"at {at:.2f} s")
                for at, frame in _checked(batch, asked)
            ]
        except (pa.ArrowException, ValueError, LookupError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            # Nothing that our code says: something has taken the process over.
            self._sandbox.close()
            raise VideoError("crashed", "the decoding process answers nonsense") from error
        finally:
            self._seconds += time.monotonic() - began
        self._gone.pop(_place(asked.uri), None)
        return found

    def _refuse(self, asked: _Asked, error: VideoError) -> str:
        """Keep why there are no frames: of this stretch, or of the whole video."""
        why = f"no frames: {error.message} ({error.kind})"
        self._refused[asked if error.kind == "too_short" else asked.uri] = why
        kind, count = self._gone.get(_place(asked.uri), ("", 0))
        self._gone[_place(asked.uri)] = (error.kind, count + 1 if kind == error.kind else 1)
        return why

    def _why_given_up(self, uri: str) -> str:
        if self._seconds >= self._most_seconds:
            spent = f"{self._most_seconds:.3g} seconds"
            return f"no frames: not looked for, as those of other videos took {spent}"
        kind, count = self._gone.get(_place(uri), ("", 0))
        if count >= _MOST_GONE.get(kind, np.inf):
            return f"no frames: not looked for, as {count} others beside it are {_GONE[kind]}"
        return ""


def _checked(batch: pa.RecordBatch, asked: _Asked) -> list[tuple[float, NDArray[np.uint8]]]:
    """Time and pixels ``uint8 (H, W, 3)`` of each frame in the child's answer.

    Raises:
        VideoError: the reason that it gives instead.
        ValueError, LookupError, TypeError: it is no answer.
    """
    said = batch.schema.metadata or {}
    if b"kind" in said:
        kind = said[b"kind"].decode()
        raise VideoError(
            kind if kind in ERROR_KINDS else "crashed", said[b"why"].decode(errors="replace")[:300]
        )
    times, heights, pixels = (batch.column(k).to_pylist() for k in range(3))
    if not 0 < len(times) <= _MOST_FRAMES:
        raise ValueError(f"{len(times)} frames")
    found = []
    for at, height, data in zip(times, heights, pixels, strict=True):
        frame = np.frombuffer(data, np.uint8).reshape(height, -1, 3)
        if frame.shape[0] > asked.height_px or frame.shape[1] > WIDEST * asked.height_px:
            raise ValueError(f"a frame {frame.shape}")
        found.append((float(at), frame))
    return found


def _place(uri: str) -> str:
    """What is gone or down as a whole: a folder of this machine; a bucket, a host."""
    return "/".join(uri.split("/")[:3]) if storage.is_bucket(uri) else uri.rpartition("/")[0]


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """The JPEG file of a frame ``uint8 (H, W, 3)``, RGB.

    It is made here, of numbers, so that no byte that a decoder writes comes into the page.
    """
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=_QUALITY, optimize=True)
    return sink.getvalue()
