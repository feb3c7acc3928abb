"""Presentation times: strictly rising, made from the times that the container states.

A sequential decode gives the order of the frames, and that is always right. Their times are not:
AVI and ASF state when a packet is decoded and not when it is shown, so that B-frames seem to go
back; program streams state one time in a while, bare streams none; in a transport stream the clock
may be set back; and a damaged or badly written file states anything. Pure arithmetic, no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# Kinds of times in a container: when frames are shown; when packets are decoded; or a clock that
# starts anywhere and may be reset at any moment.
TimeKind = Literal["shown", "decoded", "broadcast"]
_KIND_OF_FORMAT: dict[str, TimeKind] = {
    "avi": "decoded", "asf": "decoded", "mpegts": "broadcast", "mpeg": "broadcast",
}  # fmt: skip

# H.264 and HEVC hold back 16 frames at the most, so that a frame is decoded 16 places too early.
_MOST_REORDERED = 17
# Frames that have each other's times lie no further apart; a wild time does.
_LONGEST_REORDERED_STEPS = 10
# FFmpeg's own -dts_delta_threshold: a longer step of a broadcast clock is a clock set anew.
_LONGEST_BROADCAST_STEP_SECONDS = 10.0
# A video of a constant rate of which frames are lost has still so many of its steps and frames.
_LEAST_USUAL = 0.75
# No camera films faster: one flipped byte of a header gives a clock of a billion frames a second.
_SHORTEST_STEP_SECONDS = 1e-5
# Where neither the frames nor the header give a rate.
UNKNOWN_RATE = 25.0


def kind_of_times(container_format: str) -> TimeKind:
    """The kind of the times in packets of this FFmpeg format."""
    return _KIND_OF_FORMAT.get(container_format, "shown")


def presentation_seconds(
    stated: NDArray[np.float64], *, rate: float | None, kind: TimeKind
) -> NDArray[np.float64]:
    """Times at which the frames are shown, ``float64 (N,)``: finite and strictly rising.

    Times that rise are kept as they are stated, whatever their steps. A frame without a time, or
    with that of the frame before it, lies evenly between its neighbours. Decoding times are those
    of the frames in another order. A clock that is set back goes on from where it was, one step
    later. Decoding times and broadcast clocks count from the first frame, since where they start
    says nothing.

    Args:
        stated: seconds of each frame ``float64 (N,)``, in the order of a sequential decode; not
            finite where there is none.
        rate: frames per second by the header, for where the times give no step.
        kind: what the times are.
    """
    times = np.where(np.isfinite(stated), stated, np.nan)
    is_whole = _rises(times)
    if not is_whole or kind == "decoded":
        known = np.flatnonzero(~np.isnan(times))
        # One that repeats the one before it says nothing: the clock is coarse, or stands still.
        times[known[1:][np.diff(times[known]) == 0]] = np.nan
        known = np.flatnonzero(~np.isnan(times))
        step = _usual_step(times, rate)
        longest = np.inf if kind == "decoded" else _LONGEST_REORDERED_STEPS * step
        in_order = _sorted_where_reordered(times[known], longest)
        is_reordered = (in_order != times[known]).any()
        times[known] = in_order
        if kind == "decoded" and is_reordered:
            times[known] = _without_encoder_delay(in_order, _usual_step(times, rate))
    if not _rises(times) or kind == "broadcast":
        step = _usual_step(times, rate)
        longest = _LONGEST_BROADCAST_STEP_SECONDS if kind == "broadcast" else np.inf
        times = _filled(_gone_on(times, step, longest), step)
    if kind != "shown" and len(times):
        times = times - times[0]
    if not _rises(times):  # Absurd numbers, beside which a step is nothing.
        times = np.arange(len(times)) * _usual_step(times, rate)
    if len(times) > 1 and times[-1] - times[0] < _SHORTEST_STEP_SECONDS * (len(times) - 1):
        times = np.arange(len(times)) / (rate or UNKNOWN_RATE)
    return times


def duration_seconds(pts_seconds: NDArray[np.float64], rate: float) -> float:
    """Seconds from the first frame shown to the last one gone.

    The last frame lasts as long as those before it: one frame of ``rate`` where they keep to it.
    """
    steps = np.diff(pts_seconds)
    last = 1 / rate
    if len(steps):
        lately = float(np.median(steps[-3:]))
        last = last if abs(lately - last) < 0.2 * last else lately
    return float(steps.sum()) + last


def mean_rate(pts_seconds: NDArray[np.float64], header_rates: Sequence[float]) -> float | None:
    """Frames per second: the first of the header's that the frames bear out, else their mean.

    They do where their mean is the same to 0.5 %, and where it is without the gaps that a few lost
    frames left: then the video still runs at that rate.
    """
    if len(pts_seconds) < 2:
        return next(iter(header_rates), None)
    measured = float((len(pts_seconds) - 1) / (pts_seconds[-1] - pts_seconds[0]))
    without_gaps = _rate_without_gaps(pts_seconds, measured)
    for rate in header_rates:
        if any(abs(rate - found) <= 0.005 * found for found in (measured, without_gaps)):
            return rate
    return float(f"{measured:.9g}")  # Also of a clock gone wild: never 0.


def _rate_without_gaps(pts_seconds: NDArray[np.float64], measured: float) -> float:
    """The rate from frame to next frame; ``measured`` where that is not what the video runs at."""
    steps = np.diff(pts_seconds)
    usual = steps[steps < 1.5 * np.median(steps)]
    rate = float(1 / usual.mean())
    # With more gaps, or longer ones, it is a video of variable rate.
    are_few = len(usual) >= _LEAST_USUAL * len(steps) and measured >= _LEAST_USUAL * rate
    return rate if are_few else measured


def _rises(times: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(times).all() and (np.diff(times) > 0).all())


def _usual_step(times: NDArray[np.float64], rate: float | None) -> float:
    """Seconds from a frame to the next: the median of steps forward, else the header's."""
    known = np.flatnonzero(~np.isnan(times))
    steps = np.diff(times[known]) / np.diff(known)
    forward = steps[steps > 0]
    if len(forward):
        return float(np.median(forward))
    return 1 / (rate or UNKNOWN_RATE)


def _sorted_where_reordered(times: NDArray[np.float64], longest: float) -> NDArray[np.float64]:
    """Times sorted within each short stretch that is a permutation of rising times.

    Stretches that would keep a step above ``longest`` stay: there a time is wrong, not out of
    order.
    """
    if len(times) < 2:
        return times
    room = np.full(_MOST_REORDERED, np.inf)
    view = np.lib.stride_tricks.sliding_window_view
    before = view(np.concatenate([-room, times]), _MOST_REORDERED).max(axis=1)[:-1]
    after = view(np.concatenate([times, room]), _MOST_REORDERED).min(axis=1)[:-1]
    stretch = np.cumsum(before < after)  # (N,), the number of each frame's stretch
    order = np.lexsort((times, stretch))
    in_order = times[order]
    steps = np.diff(in_order)
    is_none = ((steps <= 0) | (steps > longest)) & (np.diff(stretch) == 0)
    size = np.bincount(stretch)
    size[stretch[1:][is_none]] += _MOST_REORDERED
    return np.where(size[stretch] <= _MOST_REORDERED, in_order, times)


def _without_encoder_delay(times: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """No gap behind the first frame.

    An encoder that holds frames back (XviD) writes the first one and then empty chunks; no frame
    is missing there.
    """
    if len(times) > 1:
        times = times.copy()
        times[0] = max(times[0], times[1] - step)
    return times


def _gone_on(times: NDArray[np.float64], step: float, longest: float) -> NDArray[np.float64]:
    """Times that rise by ``longest`` at the most; what does not fit in becomes NaN.

    That is a single time, or a stretch of them before the clock is where it would be without them:
    in Matroska one damaged byte moves a cluster.
    """
    gone_on = np.full(len(times), np.nan)
    near = _LONGEST_REORDERED_STEPS * step
    shift = before = 0.0  # What the clock was set back by so far, and until the last time it was.
    last = before_last = jump = -1  # ``jump``: the frame before the last long step.

    def fits(now: float, behind: int, most: float = longest) -> bool:
        return behind < 0 or 0 < now - gone_on[behind] <= most

    known = np.flatnonzero(~np.isnan(times)).tolist()
    for place, k in enumerate(known):
        now = float(times[k]) + shift
        if not fits(now, last, near) and fits(float(times[k]) + before, last, near):
            shift, now = before, float(times[k]) + before
        if not fits(now, last):
            following = known[place + 1] if place + 1 < len(known) else None
            if before_last >= 0 and fits(now, before_last):
                gone_on[last], last = np.nan, before_last
            elif following is not None and fits(float(times[following]) + shift, last):
                continue
            elif jump >= 0 and abs(now - gone_on[jump] - step * (k - jump)) <= near:
                gone_on[jump + 1 : k], last, jump = np.nan, jump, -1
            else:
                before, shift = shift, shift + float(gone_on[last]) + step * (k - last) - now
                now = float(times[k]) + shift
        if not fits(now, last, near):
            jump = last
        gone_on[k] = now
        last, before_last = k, last
    return gone_on


def _filled(times: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Times for frames that have none: evenly between those that have one, by ``step`` outside."""
    known = np.flatnonzero(~np.isnan(times))
    places = np.arange(len(times))
    if not len(known):
        return (places * step).astype(np.float64)
    filled: NDArray[np.float64] = np.interp(places, known, times[known]).astype(np.float64)
    first, last = int(known[0]), int(known[-1])
    filled[:first] = times[first] - (first - places[:first]) * step
    filled[last:] = times[last] + (places[last:] - last) * step
    return filled
