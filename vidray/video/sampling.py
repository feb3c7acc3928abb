"""Samplers choose the frames to look at: arithmetic on numbers, no file opened.

Every function takes keyword arguments only and returns int64 frame indices; index k is the k-th
frame in presentation order. Seconds are counted in ticks of ``clock``, which are frames where the
rate is constant. A video shorter than what is asked for never raises: each function says whether it
then repeats frames or returns fewer, because one short clip must not stop a job. A count, rate or
length that can never be right raises ValueError.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

# Ticks and times are compared with this tolerance, well under a frame at 100,000 frames a second:
# 3 / 30 and 0.1 differ in the last bit, and a tick that falls on a frame must show that frame.
TOLERANCE_SECONDS = 1e-6


def uniform(*, num_frames: int, count: int) -> Indices:
    """``count`` frames spread evenly: the middle frame of each of ``count`` equal stretches.

    A video of fewer frames than ``count`` gives every frame, some more than once, so that the shape
    is always the same; one of no frames gives none.

    Args:
        num_frames: frames in the video, 0 or more.
        count: frames wanted, 1 or more.

    Returns:
        int64 (count,), not decreasing; (0,) for a video of no frames.

    Raises:
        ValueError: ``num_frames`` is negative or ``count`` is not positive.
    """
    _at_least("num_frames", num_frames, 0)
    _at_least("count", count, 1)
    if num_frames == 0:
        return np.empty(0, dtype=np.int64)
    # Integers throughout: floor((k + 1/2) * num_frames / count) without a float's last bit.
    return (2 * np.arange(count, dtype=np.int64) + 1) * num_frames // (2 * count)


def at_fps(
    *,
    fps: float,
    pts_seconds: Sequence[float] | NDArray[np.float64] | None = None,
    num_frames: int | None = None,
    frames_per_second: float | None = None,
    max_frames: int | None = None,
) -> Indices:
    """The frame on the screen at each tick of a clock of ``fps``, from the first frame on.

    Give ``pts_seconds`` where they are known: at a variable frame rate the frame shown at time t is
    the last one with pts <= t, which no multiple of an average rate finds. Otherwise give
    ``num_frames`` and ``frames_per_second``. The last tick is at or before the last frame's pts. A
    clock faster than the video shows the same frame at several ticks, so frames repeat.

    Args:
        fps: ticks a second, above 0.
        pts_seconds: float (num_frames,), not decreasing; need not begin at 0.
        num_frames: frames in a video of constant rate.
        frames_per_second: that rate.
        max_frames: stop after this many ticks.

    Returns:
        int64 (ticks,), not decreasing, beginning with frame 0; (0,) for a video of no frames.

    Raises:
        ValueError: a rate is not above 0, times decrease or are not finite, or not exactly one of
            ``pts_seconds`` and ``num_frames`` with ``frames_per_second`` is given.
    """
    _above_zero("fps", fps)
    if max_frames is not None:
        _at_least("max_frames", max_frames, 1)
    if pts_seconds is not None and num_frames is None and frames_per_second is None:
        times = _seconds_from_first(np.asarray(pts_seconds, dtype=np.float64))
    elif pts_seconds is None and num_frames is not None and frames_per_second is not None:
        _at_least("num_frames", num_frames, 0)
        _above_zero("frames_per_second", frames_per_second)
        times = np.arange(num_frames) / frames_per_second
    else:
        raise ValueError(
            "at_fps needs either pts_seconds or both num_frames and frames_per_second; "
            "pass one of the two"
        )
    if len(times) == 0:
        return np.empty(0, dtype=np.int64)
    num_ticks = math.floor((times[-1] + TOLERANCE_SECONDS) * fps) + 1
    if max_frames is not None:
        num_ticks = min(num_ticks, max_frames)
    ticks = np.arange(num_ticks) / fps  # (ticks,)
    # "right" minus one: the last frame at or before the tick, of several with the same time too.
    return np.searchsorted(times, ticks + TOLERANCE_SECONDS, side="right").astype(np.int64) - 1


def dense(*, num_frames: int, max_frames: int) -> Indices:
    """Every frame, or ``max_frames`` of them spread evenly where there are more.

    Returns:
        int64 (min(num_frames, max_frames),), strictly increasing.

    Raises:
        ValueError: ``num_frames`` is negative or ``max_frames`` is not positive.
    """
    _at_least("num_frames", num_frames, 0)
    _at_least("max_frames", max_frames, 1)
    if num_frames <= max_frames:
        return np.arange(num_frames, dtype=np.int64)
    return uniform(num_frames=num_frames, count=max_frames)


def random_frames(*, num_frames: int, count: int, seed: int) -> Indices:
    """``count`` different frames, each choice equally likely, in order of time.

    A video of fewer frames than ``count`` gives each of its frames once: a draw without replacement
    has no more to draw.

    Args:
        num_frames: frames in the video, 0 or more.
        count: frames wanted, 1 or more.
        seed: 0 or more; the same seed draws the same frames.

    Returns:
        int64 (min(count, num_frames),), strictly increasing.

    Raises:
        ValueError: ``num_frames`` or ``seed`` is negative, or ``count`` is not positive.
    """
    _at_least("num_frames", num_frames, 0)
    _at_least("count", count, 1)
    _at_least("seed", seed, 0)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(num_frames, size=min(count, num_frames), replace=False, shuffle=False)
    return np.sort(drawn).astype(np.int64)


def random_clip(*, num_frames: int, count: int, stride: int = 1, seed: int) -> Indices:
    """``count`` frames, ``stride`` apart, from a random beginning: one clip to train on.

    Where ``(count - 1) * stride + 1`` frames do not fit, the clip begins at frame 0 and goes round
    to the beginning again at the end of the video (what mmaction2 calls "loop"), so that a clip's
    shape never depends on the video.

    Args:
        num_frames: frames in the video, 0 or more.
        count: frames wanted, 1 or more.
        stride: 1 for adjacent frames.
        seed: 0 or more; the same seed begins at the same frame.

    Returns:
        int64 (count,), strictly increasing where the clip fits; (0,) for a video of no frames.

    Raises:
        ValueError: ``num_frames`` or ``seed`` is negative, or ``count`` or ``stride`` not positive.
    """
    _at_least("num_frames", num_frames, 0)
    _at_least("count", count, 1)
    _at_least("stride", stride, 1)
    _at_least("seed", seed, 0)
    if num_frames == 0:
        return np.empty(0, dtype=np.int64)
    steps = stride * np.arange(count, dtype=np.int64)
    last_begin = num_frames - 1 - int(steps[-1])
    if last_begin < 0:
        return steps % num_frames
    return np.random.default_rng(seed).integers(0, last_begin + 1) + steps


def sliding_windows(*, num_frames: int, window: int, step: int) -> Indices:
    """Windows of ``window`` adjacent frames, one every ``step`` frames, that together see the end.

    If the last full window stops before the last frame, one more is added that ends there, so it
    overlaps its neighbour by more than the others do. A video shorter than one window gives none.

    Args:
        num_frames: frames in the video, 0 or more.
        window: frames in each window, 1 or more.
        step: frames from one beginning to the next, 1 or more; above ``window`` it leaves gaps.

    Returns:
        int64 (windows, window), each row adjacent frames; (0, window) for a short video.

    Raises:
        ValueError: ``num_frames`` is negative, or ``window`` or ``step`` is not positive.
    """
    _at_least("num_frames", num_frames, 0)
    _at_least("window", window, 1)
    _at_least("step", step, 1)
    last_begin = num_frames - window
    begins = np.arange(0, last_begin + 1, step, dtype=np.int64)
    if len(begins) and begins[-1] < last_begin:
        begins = np.append(begins, last_begin)
    return begins[:, None] + np.arange(window, dtype=np.int64)[None, :]  # (windows, window)


def every_second(*, num_frames: int, frames_per_second: float) -> Indices:
    """The notebooks' one frame a second: frame 0, then every ``max(1, round(fps))``-th.

    Python's ``round``, so 24.5 steps by 24 and 25.5 by 26. At a variable rate these frames are not
    a second apart: count ticks of a ``vidray.video.clock.Clock`` instead of frames.

    Returns:
        int64 (ceil(num_frames / stride),), strictly increasing.

    Raises:
        ValueError: ``num_frames`` is negative or ``frames_per_second`` is not above 0.
    """
    _at_least("num_frames", num_frames, 0)
    _above_zero("frames_per_second", frames_per_second)
    return np.arange(0, num_frames, max(1, round(frames_per_second)), dtype=np.int64)


def bursts(*, num_frames: int, middles: Indices, frames_each: int) -> Indices:
    """Adjacent frames around each of several moments: what optical flow is measured on.

    A burst is moved inwards at the ends of the video. In a short video bursts overlap, and those
    that would be the same are given once, so that no moment counts twice.

    Args:
        num_frames: frames in the video, 0 or more.
        middles: ``int64 (moments,)``, 0 to ``num_frames - 1``.
        frames_each: adjacent frames in each, 1 or more.

    Returns:
        int64 (M, frames_each), M <= moments, rows in order of time and all different;
        (0, frames_each) for a video shorter than one burst.

    Raises:
        ValueError: ``num_frames`` is negative, or ``frames_each`` is not positive.
    """
    _at_least("num_frames", num_frames, 0)
    _at_least("frames_each", frames_each, 1)
    last_begin = num_frames - frames_each
    if last_begin < 0:
        return np.empty((0, frames_each), dtype=np.int64)
    begins = np.unique(np.clip(middles - (frames_each - 1) // 2, 0, last_begin))  # (M,)
    return begins[:, None] + np.arange(frames_each, dtype=np.int64)[None, :]


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name}={value} is below {least}; pass {name}={least} or more")


def _above_zero(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}={value} is not a rate; pass a finite number above 0")


def _seconds_from_first(pts_seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    if pts_seconds.ndim != 1:
        raise ValueError(f"pts_seconds has shape {pts_seconds.shape}; pass one time for each frame")
    if not np.isfinite(pts_seconds).all():
        missing = int((~np.isfinite(pts_seconds)).sum())
        raise ValueError(
            f"{missing} of {len(pts_seconds)} pts_seconds are not finite; where times are missing "
            "pass num_frames and frames_per_second"
        )
    if (np.diff(pts_seconds) < 0).any():
        frame = int(np.argmax(np.diff(pts_seconds) < 0)) + 1
        raise ValueError(
            f"pts_seconds goes back at frame {frame} ({pts_seconds[frame - 1]} to "
            f"{pts_seconds[frame]}); pass times in presentation order"
        )
    return pts_seconds - pts_seconds[:1]
