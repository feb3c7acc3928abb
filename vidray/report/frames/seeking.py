"""A few frames of a long video by its own times, without a pass over all of it.

``vidray.video`` counts frames, since a model must see the same ones in every container, and reads a
long file once from end to end for that: all of a film in a bucket, for four small pictures. Here
the container's times are believed instead; where they say nothing or contradict themselves, the
caller counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import av.error
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vidray.errors import VideoError
from vidray.video.clock import Stretch
from vidray.video.demux import Source
from vidray.video.frames import Limits, Request
from vidray.video.pixels import quarter_turns, render
from vidray.video.stream import Stream

# Below that a pass over all packets takes no longer than some seeks.
LONG_SECONDS = 120.0
# From a key frame to the frame wanted: 24 s at 25 a second. Longer groups are rare.
_MOST_DECODED = 600
# Times in files have milliseconds.
COARSEST_CLOCK_SECONDS = 1e-3
Size = tuple[int, int]


def frames_by_seeking(
    source: Source,
    request: Mapping[str, Any],
    limits: Limits,
    size_of: Callable[[Size], Size],
) -> list[tuple[float, NDArray[np.uint8]]] | None:
    """Seconds from the first frame, and pixels ``uint8 (H, W, 3)``, of each frame asked for.

    Of frames that are to be spread evenly, the key frames before their places are taken.

    Args:
        size_of: width and height wanted of those of an upright frame.

    Returns:
        None where the video is short, or its times are not enough.
    """
    # What is wrong with the file is found out again, and said, by who counts.
    with (
        contextlib.suppress(VideoError, av.error.FFmpegError, OverflowError),
        contextlib.closing(Stream(source, limits)) as stream,
    ):
        if stream.header.times != "shown" or _duration(stream) < LONG_SECONDS:
            return None
        first = next(stream.frames(), None)
        if first is None or first.pts is None:
            return None
        found = _found(stream, request, _seconds(stream, first.pts))
        if found is None:
            return None
        shape = stream.header.square_pixel_size
        width, height = size_of(shape[::-1] if quarter_turns(first.rotation) % 180 else shape)
        wanted = Request([], width_px=width, height_px=height)
        return [(at, render(frame, wanted, stream.header)) for at, frame in found]
    return None


def _found(
    stream: Stream, request: Mapping[str, Any], begin: float
) -> list[tuple[float, VideoFrame]] | None:
    times = request["at_seconds"]
    if times is not None:
        return _at(stream, times, begin, is_key_enough=False)
    earliest, middles = _spread(stream, request)
    # The key frames of a stretch within one group are all the same one, or lie before it.
    for is_key_enough in (True, False):
        found = _at(stream, middles, begin, is_key_enough=is_key_enough)
        if found is not None:
            at = [seconds for seconds, _ in found]
            if at[0] >= earliest - COARSEST_CLOCK_SECONDS and (np.diff(at) > 0).all():
                return found
    return None


def _at(
    stream: Stream, times: Sequence[float], begin: float, *, is_key_enough: bool
) -> list[tuple[float, VideoFrame]] | None:
    """The frame shown at each of these seconds from ``begin``, or the key frame before it."""
    found: list[tuple[float, VideoFrame]] = []
    for seconds in times:
        at = begin + max(0.0, seconds) + COARSEST_CLOCK_SECONDS
        stream.seek(int(at / _seconds(stream, 1)))
        shown = _shown(stream, at, is_key_enough=is_key_enough)
        if shown is None:
            return None
        found.append((shown[0] - begin, shown[1]))
    return found


def _spread(stream: Stream, request: Mapping[str, Any]) -> tuple[float, list[float]]:
    """Where the stretch begins, and the middle of each of ``count`` equal parts of it, by the
    header's duration.
    """
    stretch = Stretch.of_row(request)
    begin, end = max(0.0, stretch.begin_seconds), min(_duration(stream), stretch.end_seconds)
    if not begin < end:
        raise VideoError("too_short", "nothing lies in the stretch")
    middles = (np.arange(request["count"]) + 0.5) / request["count"]
    return begin, [float(at) for at in begin + middles * (end - begin)]


def _shown(stream: Stream, at: float, *, is_key_enough: bool) -> tuple[float, VideoFrame] | None:
    """The last frame that is not later than ``at``, from here on."""
    last = None
    for number, frame in enumerate(stream.frames()):
        if frame.pts is None or number == _MOST_DECODED:
            return None
        seconds = _seconds(stream, frame.pts)
        if seconds > at:
            return last
        if not frame.is_corrupt:
            last = (seconds, frame)
            if is_key_enough:
                return last
    return None if stream.so_far.damaged_packets else last


def _duration(stream: Stream) -> float:
    return stream.header.duration_seconds or 0.0


def _seconds(stream: Stream, pts: int) -> float:
    return float(stream.seconds(np.array([pts], np.int64))[0])
