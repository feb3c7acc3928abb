"""Times of frames: cases worked by hand, and what holds for any list of numbers."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vidray.video import timestamps
from vidray.video.timestamps import TimeKind, presentation_seconds

NAN = float("nan")
STATED = st.lists(
    st.one_of(st.floats(-1e15, 1e15), st.integers(-50, 50).map(float), st.just(NAN)), max_size=80
)
RATES = st.one_of(st.none(), st.floats(0.01, 300))
KINDS = st.sampled_from(get_args(TimeKind))
STEPS = st.lists(st.floats(0.001, 5.0), min_size=1, max_size=60)


def _times(
    stated: list[float], *, kind: TimeKind = "shown", rate: float | None = 25.0
) -> list[float]:
    found = presentation_seconds(np.array(stated, np.float64), rate=rate, kind=kind)
    return [round(seconds, 6) for seconds in found.tolist()]


@pytest.mark.parametrize(
    ("kind", "stated", "expected"),
    [
        ("shown", [], []),
        ("shown", [7], [7]),
        ("shown", [5, 6, 8, 20], [5, 6, 8, 20]),
        # Nothing stated: by the header's rate. Some stated: evenly between, evenly on.
        ("shown", [NAN, NAN, NAN], [0, 0.04, 0.08]),
        ("shown", [0.5, NAN, NAN], [0.5, 0.54, 0.58]),
        ("shown", [NAN, 1, NAN, 2, 2.5, NAN], [0.5, 1, 1.5, 2, 2.5, 3]),
        # Two frames with each other's times; a time that is none of the others'.
        ("shown", [0, 1, 3, 2, 4], [0, 1, 2, 3, 4]),
        ("shown", [0, 1, 900, *range(3, 30)], list(range(30))),
        ("shown", [0, 1, -900, *range(3, 30)], list(range(30))),
        # Milliseconds are too coarse for 2,000 frames a second.
        ("shown", [0, 0, 1, 1, 2, 2], [0, 0.5, 1, 1.5, 2, 2.5]),
        # AVI and ASF: in the order shown, B-frames are decoded after the frame behind them.
        ("decoded", [0, 2, 3, 1, 5, 6, 4], [0, 1, 2, 3, 4, 5, 6]),
        ("decoded", [0, 3, 2, 4, 1, 7, 6, 8, 5], list(range(9))),
        # XviD holds back frames behind the first one.
        ("decoded", [0, 4, 3, 6, 5, 8, 7], list(range(7))),
        # Frames dropped while recording, without B-frames: a true gap. Late begin: none.
        ("decoded", [3, 4, 5, 8, 9], [0, 1, 2, 5, 6]),
        ("broadcast", [95443.7, 95444.7, 95446.7], [0, 1, 3]),
        # A clock set back or forward goes on; a single wild time is passed over.
        ("broadcast", [*range(50, 70), *range(3, 23)], list(range(40))),
        ("broadcast", [*range(20), *range(5000, 5020)], list(range(40))),
        ("broadcast", [0, 1, 5000, 3, 4], [0, 1, 2, 3, 4]),
        ("shown", [0, 1, 5000, 5001], [0, 1, 5000, 5001]),
        # Numbers beside which a step is nothing.
        ("shown", [1e18, 1e18, 1e18], [0, 0.04, 0.08]),
        ("decoded", [1e18, 1e18, 1e18], [0, 0.04, 0.08]),
        # A header with one flipped byte: two billion frames a second.
        ("decoded", [0, 5e-10, 1e-9], [0, 0.04, 0.08]),
        ("shown", [0, 1e-4, 2e-4], [0, 1e-4, 2e-4]),
    ],
)
def test_by_hand(kind: TimeKind, stated: list[float], expected: list[float]) -> None:
    assert _times(stated, kind=kind) == pytest.approx(expected, abs=1e-5)


@given(stated=STATED, rate=RATES, kind=KINDS)
@example(stated=[0.0, 0.03125, -562949953421312.0], rate=None, kind="decoded")
def test_times_are_finite_and_rise(stated: list[float], rate: float | None, kind: TimeKind) -> None:
    times = presentation_seconds(np.array(stated, np.float64), rate=rate, kind=kind)
    assert times.shape == (len(stated),)
    assert times.dtype == np.float64
    assert np.isfinite(times).all()
    assert (np.diff(times) > 0).all()


@given(begin=st.floats(-1000, 1e6), steps=STEPS)
def test_times_that_rise_are_kept(begin: float, steps: list[float]) -> None:
    stated = begin + np.cumsum(steps)
    assert np.array_equal(presentation_seconds(stated, rate=25.0, kind="shown"), stated)
    counted = stated - stated[0]
    for kind in ("decoded", "broadcast"):
        found = presentation_seconds(stated, rate=25.0, kind=kind)
        assert np.array_equal(found, counted)


@given(
    steps=st.lists(st.floats(0.1, 0.4), min_size=40, max_size=80),
    size=st.integers(1, 16),
    seed=st.integers(0, 99),
)
def test_times_that_are_only_out_of_order_are_put_in_order(
    steps: list[float], size: int, seed: int
) -> None:
    """As groups of B-frames are: frames change places within a group, and with no other."""
    times = np.cumsum(steps)
    rng = np.random.default_rng(seed)
    groups = [times[k : k + size] for k in range(0, len(times), size)]
    stated = np.concatenate([rng.permutation(group) for group in groups])
    assert np.allclose(presentation_seconds(stated, rate=25.0, kind="shown"), times)


@given(first=st.integers(20, 60), second=st.integers(20, 60), begin=st.floats(-100.0, 0.0))
def test_a_clock_set_back_goes_on_one_frame_later(first: int, second: int, begin: float) -> None:
    stated = np.concatenate([np.arange(first) / 10, begin + np.arange(second) / 10])
    for kind in ("shown", "broadcast"):
        times = presentation_seconds(stated, rate=None, kind=kind)
        assert np.allclose(times, np.arange(first + second) / 10, atol=1e-6)


def test_a_million_frames_out_of_order_take_seconds() -> None:
    stated = np.arange(1_000_000.0).reshape(-1, 4)[:, [1, 2, 3, 0]].reshape(-1)
    times = presentation_seconds(stated, rate=None, kind="decoded")
    assert np.array_equal(times, np.arange(1_000_000.0))


def test_duration_ends_when_the_last_frame_is_gone() -> None:
    even = np.arange(50) / 25
    assert timestamps.duration_seconds(even, 25.0) == pytest.approx(2.0)
    # 4 s at 30, then 56 s at 1 frame a second: the last frame lasts a second, too.
    uneven = np.concatenate([np.arange(120) / 30, np.arange(4, 60)])
    rate = timestamps.mean_rate(uneven, [30.0])
    assert rate is not None
    assert timestamps.duration_seconds(uneven, rate) == pytest.approx(60.0)
    assert timestamps.duration_seconds(np.zeros(1), 10.0) == pytest.approx(0.1)


def test_the_headers_rate_is_believed_where_frames_bear_it_out() -> None:
    thirty = np.arange(100) * 1001 / 30000
    assert timestamps.mean_rate(thirty.round(3), [30000 / 1001]) == 30000 / 1001
    assert timestamps.mean_rate(thirty, [1000.0]) == pytest.approx(29.97003)
    assert timestamps.mean_rate(thirty, []) == pytest.approx(29.97003)
    assert timestamps.mean_rate(thirty[:1], [25.0]) == 25.0
    assert timestamps.mean_rate(thirty[:1], []) is None
    # FFmpeg tells two rates of a header, and of H.264 in AVI the first may be twice the right one.
    assert timestamps.mean_rate(np.arange(100) / 25, [50.0, 25.0]) == 25.0


@pytest.mark.parametrize("rate", [10.0, 25.0, 30000 / 1001])
@pytest.mark.parametrize("rounded", [6, 3])
def test_frames_that_are_lost_do_not_slow_a_video_down(rate: float, rounded: int) -> None:
    frames = np.arange(200)
    for lost in ([9], range(60, 90), range(0, 200, 7)):  # a packet, a second, here and there
        times = (np.delete(frames, lost) / rate).round(rounded)
        assert timestamps.mean_rate(times, [rate]) == rate
        assert timestamps.duration_seconds(times, rate) == pytest.approx(
            (200 - (0 in lost)) / rate, abs=2 * 10.0**-rounded
        )


def test_a_rate_that_varies_is_not_taken_for_lost_frames() -> None:
    half = np.concatenate([np.arange(100) / 30, 100 / 30 + np.arange(100) / 20])
    assert timestamps.mean_rate(half, [30.0]) == pytest.approx(24, rel=0.01)
    paused = np.concatenate([np.arange(90) / 30, 3 + np.arange(10)])
    assert timestamps.mean_rate(paused, [30.0]) == pytest.approx(99 / 12)


@pytest.mark.parametrize("kind", ["shown", "broadcast"])
def test_a_time_every_few_frames_is_enough(kind: TimeKind) -> None:
    wanted = np.arange(60) / 25
    for stride, first in ((15, 0), (2, 1), (12, 5)):
        stated = np.full(60, np.nan)
        stated[first::stride] = wanted[first::stride]
        times = presentation_seconds(stated, rate=None, kind=kind)
        assert np.allclose(times - times[0], wanted)


@pytest.mark.parametrize("kind", ["shown", "decoded", "broadcast"])
def test_a_clock_that_stands_still_tells_nothing(kind: TimeKind) -> None:
    times = presentation_seconds(np.full(60, 3.0), rate=25.0, kind=kind)
    assert np.allclose(times - times[0], np.arange(60) / 25)
    stated = np.arange(60) / 25
    stated[20:25] = stated[20]
    times = presentation_seconds(stated, rate=25.0, kind=kind)
    assert np.allclose(times, np.arange(60) / 25)


def test_a_clock_gone_wild_still_gives_a_rate() -> None:
    times = presentation_seconds(np.array([0.0, 0.04, 1e9]), rate=25.0, kind="shown")
    rate = timestamps.mean_rate(times, [25.0])
    assert rate == pytest.approx(2e-9)
    assert timestamps.duration_seconds(times, rate) > 1e9  # over any cap, and so refused


@pytest.mark.parametrize("kind", ["shown", "broadcast"])
@pytest.mark.parametrize("by", [-3.0, -0.5, 0.7, 5.0, 1e6])
def test_a_stretch_of_wrong_times_moves_no_others(kind: TimeKind, by: float) -> None:
    """A damaged byte of a Matroska cluster's time: all of its frames are moved, no others."""
    wanted = np.arange(150) / 25
    stated = wanted.copy()
    stated[50:75] += by
    times = presentation_seconds(stated, rate=25.0, kind=kind)
    assert np.allclose(times, wanted, atol=0.021)
