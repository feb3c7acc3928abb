"""Sampling in seconds, over made-up frame times: by index at a constant rate, else by the clock."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vidray.errors import VideoError
from vidray.features import flow
from vidray.features.material import frames_a_second_apart
from vidray.labelling.settings import LabelOptions
from vidray.labelling.windows import window_begins, window_frames
from vidray.video import sampling
from vidray.video.clips import ClipSettings, clip_frames, clip_spans
from vidray.video.clock import Clock, Stretch

Times = NDArray[np.float64]

RATES = (1.0, 7.5, 10.0, 12.5, 23.976, 24.0, 24.5, 25.0, 29.97, 30.0, 59.94, 60.0)
# What a frame's moment may be off by: one tick, and what floats lose.
CLOSE = 3e-6

# 4 s at 30 frames a second, then 56 s at one: screen recordings and cameras in the dark are so.
SLOWING = np.concatenate([np.arange(120) / 30, np.arange(4, 60)])


@st.composite
def constant(draw: st.DrawFn) -> tuple[Times, float]:
    """Times at a rate: exact, in milliseconds (MKV, FLV) or at 90 kHz (TS), from any beginning."""
    rate = draw(st.sampled_from(RATES))
    times = np.arange(draw(st.integers(40, 900))) / rate
    ticks = draw(st.sampled_from([None, 1000, 90_000]))
    times = times if ticks is None else np.rint(times * ticks) / ticks
    return times + draw(st.sampled_from([0.0, 1.4, -0.08, 86_400.0])), rate


@st.composite
def variable(draw: st.DrawFn) -> Times:
    """Runs of frames at rates from one in seven seconds to 120 a second, gaps and jitter."""
    step = st.one_of(st.sampled_from([1 / 120, 1 / 60, 1 / 30, 1 / 25, 0.1, 0.5, 1.0, 7.0]))
    runs = draw(st.lists(st.tuples(step, st.integers(1, 80)), min_size=2, max_size=8))
    steps = np.concatenate([np.full(count, step) for step, count in runs])
    jitter = draw(st.sampled_from([0.0, 0.3]))
    steps *= np.random.default_rng(len(steps)).uniform(1 - jitter, 1 + jitter, len(steps))
    times = np.concatenate([[0.0], np.cumsum(steps)])
    assume(Clock.of(times).ticks_per_second == 1_000_000)
    return times


def on_screen(times: Times, frame: int, moment: float) -> bool:
    """Whether the frame is on the screen at a moment, told by its neighbours alone."""
    last = frame == len(times) - 1
    return bool(times[frame] <= moment + CLOSE and (last or times[frame + 1] > moment - CLOSE))


def end_of(times: Times) -> float:
    """When the last frame goes, if it stays as long as the one before it."""
    return float(2 * times[-1] - times[-2])


# Constant rates: what counting frames gives.


@given(constant())
def test_a_constant_rate_counts_frames(made: tuple[Times, float]) -> None:
    times, rate = made
    clock = Clock.of(times, frames_per_second=rate)
    count = len(times)
    assert (clock.num_ticks, clock.num_frames, clock.first_frame) == (count, count, 0)
    assert clock.ticks_per_second == rate
    every = np.arange(count)
    assert np.array_equal(clock.frames(every), every)
    assert np.allclose(clock.seconds(every), times - times[0], atol=1e-9)
    assert clock.seconds(np.array([count]))[0] == pytest.approx(count / rate, abs=2e-3)


@pytest.mark.slow
@given(constant(), st.integers(1, 40))
def test_one_frame_a_second_of_a_constant_rate_is_the_notebooks(
    made: tuple[Times, float], most: int
) -> None:
    times, rate = made
    clock = Clock.of(times, frames_per_second=rate)
    strided = list(range(0, len(times), max(1, round(rate))))
    assert frames_a_second_apart(clock, most=10_000).tolist() == strided
    few = [strided[(2 * k + 1) * len(strided) // (2 * most)] for k in range(most)]
    found = frames_a_second_apart(clock, most=most).tolist()
    assert found == (strided if len(strided) <= most else few)


@pytest.mark.slow
@given(constant(), st.integers(1, 9), st.integers(1, 32), st.none() | st.floats(0.01, 40))
def test_clips_and_bursts_of_a_constant_rate_are_by_index(
    made: tuple[Times, float], clips: int, length: int, seconds: float | None
) -> None:
    times, rate = made
    clock = Clock.of(times, frames_per_second=rate)
    settings = ClipSettings(frames_per_clip=length, clips_per_video=clips, clip_seconds=seconds)
    found = clock.frames(clip_frames(clock.num_ticks, clock.ticks_per_second, settings))
    assert np.array_equal(found, clip_frames(len(times), rate, settings))
    middles = sampling.uniform(num_frames=len(times), count=flow.BURSTS.count)
    by_index = sampling.bursts(
        num_frames=len(times), middles=middles, frames_each=flow.BURSTS.frames_each
    )
    assert np.array_equal(flow.BURSTS.frame_indices(clock), by_index)


@pytest.mark.slow
@given(constant(), st.floats(0.05, 10), st.floats(0.1, 1), st.integers(1, 32))
def test_windows_of_a_constant_rate_are_by_index(
    made: tuple[Times, float], window: float, share: float, length: int
) -> None:
    times, rate = made
    settings = _windows(window, window * share)
    clock = Clock.of(times, frames_per_second=rate)
    windows, bounds = window_frames(clock, settings, ClipSettings(frames_per_clip=length))
    span, step = max(1, round(window * rate)), max(1, round(window * share * rate))
    begins = window_begins(len(times), span, step)
    within = sampling.uniform(num_frames=min(span, len(times)), count=length)
    assert np.array_equal(windows, begins[:, None] + within)
    gone = np.append(times, end_of(times)) - times[0]
    assert np.allclose(bounds[:, 0], gone[begins], atol=1e-9)
    assert np.allclose(bounds[:, 1], gone[np.minimum(begins + span, len(times))], atol=1e-9)


def test_what_trembles_by_less_than_half_a_frame_is_constant() -> None:
    rng = np.random.default_rng(0)
    times = np.arange(300) / 30
    times[1:-1] += rng.uniform(-0.49, 0.49, 298) / 30
    times = np.sort(times)
    assert Clock.of(times, frames_per_second=30.0).ticks_per_second == 30
    times[150:] += 1 / 30  # One frame was dropped: from there on, all are a frame late.
    assert Clock.of(times, frames_per_second=29.9).ticks_per_second == 1_000_000


# Variable rates: the frame on the screen at its moment.


@pytest.mark.slow
@given(variable())
def test_one_frame_a_second_is_the_one_on_the_screen(times: Times) -> None:
    found = frames_a_second_apart(Clock.of(times), most=100_000)
    assert found[0] == 0
    assert (np.diff(found) > 0).all()
    assert found[-1] < len(times)
    for second in range(math.ceil(end_of(times) - CLOSE)):  # Every second has its frame,
        assert any(on_screen(times, frame, second) for frame in found)
    for frame in found:  # and every frame its second.
        assert on_screen(times, frame, math.ceil(times[frame] - CLOSE))


def test_one_frame_a_second_of_a_video_that_slows_down() -> None:
    found = frames_a_second_apart(Clock.of(SLOWING), most=300)
    assert SLOWING[found].astype(int).tolist() == list(range(60))
    few = frames_a_second_apart(Clock.of(SLOWING), most=6)
    assert SLOWING[few].tolist() == [5, 15, 25, 35, 45, 55]


@pytest.mark.slow
@given(variable(), st.integers(1, 50))
def test_never_more_than_asked(times: Times, most: int) -> None:
    found = frames_a_second_apart(Clock.of(times), most=most)
    assert 1 <= len(found) <= most
    assert set(found.tolist()) <= set(frames_a_second_apart(Clock.of(times), most=100_000))


@pytest.mark.slow
@given(variable(), st.integers(1, 6), st.integers(1, 40), st.none() | st.floats(0.01, 40))
def test_clips_are_equal_in_time(
    times: Times, clips: int, length: int, seconds: float | None
) -> None:
    settings = ClipSettings(frames_per_clip=length, clips_per_video=clips, clip_seconds=seconds)
    clock = Clock.of(times)
    spans = clock.seconds(clip_spans(clock.num_ticks, clock.ticks_per_second, settings))
    frames = clock.frames(clip_frames(clock.num_ticks, clock.ticks_per_second, settings))
    assert frames.shape == (clips, length)
    assert 0 <= frames.min() <= frames.max() < len(times)
    stretch = end_of(times) / clips
    span = stretch if seconds is None else min(seconds, stretch)
    for number, (begin, end) in enumerate(spans):
        assert begin == pytest.approx((number + 0.5) * stretch - span / 2, abs=CLOSE)
        assert end - begin == pytest.approx(span, abs=CLOSE)
        for k, frame in enumerate(frames[number]):
            assert on_screen(times, frame, begin + (k + 0.5) * span / length)


def test_two_seconds_in_the_middle_of_a_video_that_slows_down() -> None:
    settings = ClipSettings(frames_per_clip=8, clip_seconds=2.0)
    clock = Clock.of(SLOWING)
    spans = clip_spans(clock.num_ticks, clock.ticks_per_second, settings)
    assert clock.seconds(spans).tolist() == [[29.0, 31.0]]
    (frames,) = clock.frames(clip_frames(clock.num_ticks, clock.ticks_per_second, settings))
    assert SLOWING[frames].tolist() == [29, 29, 29, 29, 30, 30, 30, 30]


@pytest.mark.slow
@given(variable(), st.floats(0.05, 20), st.floats(0.1, 1), st.integers(1, 16))
def test_windows_span_seconds(times: Times, window: float, share: float, length: int) -> None:
    step = window * share
    whole = end_of(times)
    assume(whole / step < 500)
    frames, bounds = window_frames(
        Clock.of(times), _windows(window, step), ClipSettings(frames_per_clip=length)
    )
    assert 0 <= frames.min() <= frames.max() < len(times)
    span = min(window, whole)
    assert np.allclose(bounds[:, 1] - bounds[:, 0], span, atol=CLOSE)
    assert bounds[0, 0] == 0
    assert bounds[-1, 1] == pytest.approx(whole, abs=CLOSE)
    begins = np.arange(len(bounds) - 1) * step
    assert np.allclose(bounds[:-1, 0], begins, atol=CLOSE * len(bounds))
    for (begin, _), window_frames_ in zip(bounds, frames, strict=True):
        for k, frame in enumerate(window_frames_):
            assert on_screen(times, frame, begin + (k + 0.5) * span / length)


@pytest.mark.slow
@given(variable())
def test_bursts_are_adjacent_frames_at_moments_equal_in_time(times: Times) -> None:
    bursts = flow.BURSTS.frame_indices(Clock.of(times))
    if len(times) < flow.BURSTS.frames_each:
        assert bursts.shape == (0, flow.BURSTS.frames_each)
        return
    assert 1 <= len(bursts) <= flow.BURSTS.count
    assert 0 <= bursts.min() <= bursts.max() < len(times)
    assert (np.diff(bursts, axis=1) == 1).all()
    moments = (np.arange(flow.BURSTS.count) + 0.5) * end_of(times) / flow.BURSTS.count
    for moment in moments:  # The frame then on the screen is in the middle, or near an end.
        assert any(
            on_screen(times, burst[flow.BURSTS.frames_each // 2], moment)
            or (burst[0] == 0 and moment < times[burst[-1]])
            or (burst[-1] == len(times) - 1 and moment > times[burst[0]])
            for burst in bursts
        )


# Stretches.


@pytest.mark.slow
@given(
    st.one_of(variable(), constant().map(lambda made: made[0] - made[0][0])),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_stretch_is_looked_at_as_a_file_of_these_frames(
    times: Times, first: float, second: float
) -> None:
    begin, end = sorted((first * end_of(times), second * end_of(times)))
    inside = [k for k, time in enumerate(times) if begin - 1e-6 <= time < end - 1e-6]
    stretch = Stretch(begin, end)
    if not inside:
        with pytest.raises(VideoError, match="no frame from"):
            Clock.of(times, stretch=stretch)
        return
    clock = Clock.of(times + 5.0, stretch=stretch)
    assert clock.first_frame == inside[0]
    assert clock.num_frames == len(inside)
    every = np.linspace(0, clock.num_ticks - 1, 50).astype(np.int64)
    assert set(clock.frames(every)) <= set(inside)
    until = clock.seconds(np.array([clock.num_ticks]))[0]
    assert times[inside[-1]] < until <= end + 1e-6
    assert clock.seconds(np.zeros(1, np.int64))[0] == pytest.approx(times[inside[0]], abs=1e-9)
    assert set(frames_a_second_apart(clock, most=100).tolist()) <= set(inside)
    assert set(flow.BURSTS.frame_indices(clock).ravel().tolist()) <= set(inside)


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        (0.0, 2.0, (0, 20)),
        (0.3, 0.6, (3, 3)),  # 3 * 0.1 is above 0.3, by a bit
        (1.05, 1.15, (11, 1)),
        (9.0, 99.0, (90, 10)),
        (None, 1.0, (0, 10)),
        (9.5, None, (95, 5)),
        (-3.0, 0.1, (0, 1)),
        (None, None, (0, 100)),
    ],
)
def test_stretches_by_hand(
    begin: float | None, end: float | None, expected: tuple[int, int]
) -> None:
    stretch = Stretch.of_row({"begin_seconds": begin, "end_seconds": end})
    clock = Clock.of(np.arange(100) * 0.1 + 1.4, frames_per_second=10.0, stretch=stretch)
    assert (clock.first_frame, clock.num_frames) == expected
    assert clock.ticks_per_second == 10


@pytest.mark.parametrize(
    ("begin", "end", "told"),
    [
        (10.0, 20.0, "no frame from 10.000 s to 20.000 s: the video's last one is at 9.900 s"),
        (99.5, None, "no frame from 99.500 s on: the video's last one is at 9.900 s"),
        (5.0, 5.0, "no frame from 5.000 s to 5.000 s"),
        (6.0, 5.0, "no frame from 6.000 s to 5.000 s"),
        (math.nan, 5.0, "no frame"),
        (1.0, math.nan, "no frame"),
        (None, -1.0, "no frame from 0.000 s to -1.000 s"),
        (1.01, 1.09, "no frame from 1.010 s to 1.090 s"),
    ],
)
def test_a_stretch_without_a_frame_says_so(
    begin: float | None, end: float | None, told: str
) -> None:
    stretch = Stretch.of_row({"begin_seconds": begin, "end_seconds": end})
    with pytest.raises(VideoError, match=told) as raised:
        Clock.of(np.arange(100) * 0.1, frames_per_second=10.0, stretch=stretch)
    assert raised.value.kind == "too_short"


def test_a_row_without_the_columns_is_the_whole_file() -> None:
    assert Stretch.of_row({}) == Stretch()
    assert Stretch().duration_seconds(7.5) == 7.5
    assert Stretch(2.0, 99.0).duration_seconds(7.5) == 5.5
    assert Stretch(2.0, 3.0).duration_seconds(7.5) == 1.0


def test_one_frame() -> None:
    alone = Clock.of(np.array([3.0]))
    assert (alone.num_ticks, alone.ticks_per_second) == (1, 25)
    assert alone.seconds(np.array([0, 1])).tolist() == [0.0, 0.04]


def _windows(window_seconds: float, step_seconds: float) -> LabelOptions:
    return LabelOptions(window_seconds=window_seconds, step_seconds=step_seconds, long_seconds=1e9)
