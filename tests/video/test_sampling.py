"""Samplers: cases worked by hand, and properties that hold for any video."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vidray.video import sampling

LENGTHS = st.integers(0, 5000)
COUNTS = st.integers(1, 300)
SEEDS = st.integers(0, 2**32)
RATES = st.sampled_from([1.0, 7.5, 10.0, 12.5, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0])
PTS = st.lists(st.floats(0.0, 2.0), max_size=60).map(lambda steps: np.cumsum(np.array(steps)))


def check_indices(indices: NDArray[np.int64], *, num_frames: int) -> None:
    """What every sampler owes: int64, within the video."""
    assert indices.dtype == np.int64
    assert ((indices >= 0) & (indices < num_frames)).all()


# uniform


@pytest.mark.parametrize(
    ("num_frames", "count", "expected"),
    [
        (10, 5, [1, 3, 5, 7, 9]),
        (10, 1, [5]),
        (9, 3, [1, 4, 7]),
        (100, 4, [12, 37, 62, 87]),
        (4, 4, [0, 1, 2, 3]),
        (2, 5, [0, 0, 1, 1, 1]),  # middles at 0.2, 0.6, 1.0, 1.4, 1.8
        (1, 3, [0, 0, 0]),
        (0, 3, []),
    ],
)
def test_uniform_by_hand(num_frames: int, count: int, expected: list[int]) -> None:
    assert sampling.uniform(num_frames=num_frames, count=count).tolist() == expected


@given(num_frames=LENGTHS, count=COUNTS)
def test_uniform_is_even_and_symmetric(num_frames: int, count: int) -> None:
    indices = sampling.uniform(num_frames=num_frames, count=count)
    check_indices(indices, num_frames=num_frames)
    assert len(indices) == (count if num_frames else 0)
    if num_frames == 0:
        return
    gaps = np.diff(indices)
    assert (gaps >= 0).all()
    if len(gaps):
        assert gaps.max() - gaps.min() <= 1
    if num_frames >= count:
        assert len(set(indices.tolist())) == count
    else:
        assert set(indices.tolist()) == set(range(num_frames))
    # As much video before the first sample as after the last, to a frame.
    assert abs(indices[0] - (num_frames - 1 - indices[-1])) <= 1


# at_fps


@pytest.mark.parametrize(
    ("num_frames", "frames_per_second", "fps", "expected"),
    [
        (10, 5.0, 1.0, [0, 5]),
        (11, 5.0, 1.0, [0, 5, 10]),
        (6, 2.0, 4.0, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]),
        # Ticks at 0, .4, .8, 1.2, 1.6, 2.0: frames 0, 1.2, 2.4, 3.6, 4.8 and 6, rounded down.
        (7, 3.0, 2.5, [0, 1, 2, 3, 4, 6]),
        (1, 25.0, 1.0, [0]),
        (0, 25.0, 1.0, []),
        # 3 * 0.1 is 0.30000000000000004: frame 3, and every other, must still be seen once.
        (100, 10.0, 10.0, list(range(100))),
        (300, 29.97, 29.97, list(range(300))),
    ],
)
def test_at_fps_of_a_constant_rate_by_hand(
    num_frames: int, frames_per_second: float, fps: float, expected: list[int]
) -> None:
    indices = sampling.at_fps(num_frames=num_frames, frames_per_second=frames_per_second, fps=fps)
    assert indices.tolist() == expected


@pytest.mark.parametrize(
    ("pts_seconds", "fps", "expected"),
    [
        # A still picture held for three seconds, then a burst: frame 1 is shown at 1, 2 and 3 s.
        ([0.0, 0.5, 3.5, 3.6, 3.7, 4.0], 1.0, [0, 1, 1, 1, 5]),
        # The clock starts at the first frame, whatever its pts.
        ([10.0, 10.5, 11.0], 1.0, [0, 2]),
        ([-1.0, -0.5, 0.0], 1.0, [0, 2]),
        # A tick just before a frame shows the one before.
        ([0.0, 1.01, 2.0], 1.0, [0, 0, 2]),
        # Of two frames at one time, the later covers the earlier.
        ([0.0, 1.0, 1.0], 1.0, [0, 2]),
        ([5.0], 1.0, [0]),
        ([], 1.0, []),
    ],
)
def test_at_fps_of_a_variable_rate_by_hand(
    pts_seconds: list[float], fps: float, expected: list[int]
) -> None:
    assert sampling.at_fps(pts_seconds=pts_seconds, fps=fps).tolist() == expected


@given(pts_seconds=PTS, start=st.floats(-5, 1000), fps=st.sampled_from([0.5, 1.0, 2.0, 7.0]))
def test_at_fps_picks_the_frame_on_the_screen(
    pts_seconds: NDArray[np.float64], start: float, fps: float
) -> None:
    times = pts_seconds + start
    indices = sampling.at_fps(pts_seconds=times, fps=fps)
    check_indices(indices, num_frames=len(times))
    if not len(times):
        return
    assert indices[0] >= 0
    assert (np.diff(indices) >= 0).all()
    span = times[-1] - times[0]
    assert abs(len(indices) - (span * fps + 1)) <= 1
    for tick, index in enumerate(indices):
        shown_at = times[0] + tick / fps
        assert times[index] <= shown_at + 1e-5
        assert index == len(times) - 1 or times[index + 1] > shown_at - 1e-5


@given(num_frames=st.integers(1, 2000), rate=RATES, fps=RATES, most=st.integers(1, 50))
def test_at_fps_by_rate_and_by_times_agree(
    num_frames: int, rate: float, fps: float, most: int
) -> None:
    by_rate = sampling.at_fps(num_frames=num_frames, frames_per_second=rate, fps=fps)
    by_times = sampling.at_fps(pts_seconds=np.arange(num_frames) / rate, fps=fps)
    np.testing.assert_array_equal(by_rate, by_times)
    check_indices(by_rate, num_frames=num_frames)
    capped = sampling.at_fps(
        num_frames=num_frames, frames_per_second=rate, fps=fps, max_frames=most
    )
    np.testing.assert_array_equal(capped, by_rate[:most])


def test_at_fps_cap_keeps_a_lying_clock_cheap() -> None:
    indices = sampling.at_fps(pts_seconds=[0.0, 1e15], fps=25.0, max_frames=4)
    assert indices.tolist() == [0, 0, 0, 0]


# dense


@pytest.mark.parametrize(
    ("num_frames", "max_frames", "expected"),
    [(4, 10, [0, 1, 2, 3]), (4, 4, [0, 1, 2, 3]), (10, 5, [1, 3, 5, 7, 9]), (0, 5, [])],
)
def test_dense_by_hand(num_frames: int, max_frames: int, expected: list[int]) -> None:
    assert sampling.dense(num_frames=num_frames, max_frames=max_frames).tolist() == expected


@given(num_frames=LENGTHS, max_frames=COUNTS)
def test_dense_never_repeats(num_frames: int, max_frames: int) -> None:
    indices = sampling.dense(num_frames=num_frames, max_frames=max_frames)
    check_indices(indices, num_frames=num_frames)
    assert len(indices) == min(num_frames, max_frames)
    assert (np.diff(indices) > 0).all()


# random_frames


@given(num_frames=LENGTHS, count=COUNTS, seed=SEEDS)
def test_random_frames_are_distinct_sorted_and_repeatable(
    num_frames: int, count: int, seed: int
) -> None:
    indices = sampling.random_frames(num_frames=num_frames, count=count, seed=seed)
    check_indices(indices, num_frames=num_frames)
    assert len(indices) == min(count, num_frames)
    assert (np.diff(indices) > 0).all()
    again = sampling.random_frames(num_frames=num_frames, count=count, seed=seed)
    np.testing.assert_array_equal(indices, again)


def test_random_frames_reach_every_frame_equally() -> None:
    draws = [sampling.random_frames(num_frames=10, count=3, seed=seed) for seed in range(2000)]
    counts = np.bincount(np.concatenate(draws), minlength=10)
    # 600 expected each, standard deviation sqrt(2000 * 0.3 * 0.7) = 20: five of them either way.
    assert counts.min() > 500
    assert counts.max() < 700


def test_random_frames_leave_numpys_global_generator_alone() -> None:
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    sampling.random_frames(num_frames=10, count=3, seed=0)
    sampling.random_clip(num_frames=10, count=3, seed=0)
    assert np.random.rand() == expected  # noqa: NPY002


# random_clip


@given(num_frames=LENGTHS, count=COUNTS, stride=st.integers(1, 9), seed=SEEDS)
def test_random_clip_is_contiguous(num_frames: int, count: int, stride: int, seed: int) -> None:
    indices = sampling.random_clip(num_frames=num_frames, count=count, stride=stride, seed=seed)
    check_indices(indices, num_frames=num_frames)
    assert len(indices) == (count if num_frames else 0)
    if num_frames >= (count - 1) * stride + 1:
        assert (np.diff(indices) == stride).all()
    again = sampling.random_clip(num_frames=num_frames, count=count, stride=stride, seed=seed)
    np.testing.assert_array_equal(indices, again)


@pytest.mark.parametrize(
    ("num_frames", "count", "stride", "expected"),
    [
        (3, 5, 1, [0, 1, 2, 0, 1]),
        (4, 4, 2, [0, 2, 0, 2]),
        (1, 3, 1, [0, 0, 0]),
        (5, 5, 1, [0, 1, 2, 3, 4]),
        (0, 5, 1, []),
    ],
)
def test_random_clip_of_a_short_video_goes_round(
    num_frames: int, count: int, stride: int, expected: list[int]
) -> None:
    indices = sampling.random_clip(num_frames=num_frames, count=count, stride=stride, seed=7)
    assert indices.tolist() == expected


def test_random_clip_begins_anywhere_it_fits() -> None:
    clips = [
        sampling.random_clip(num_frames=10, count=3, stride=2, seed=seed) for seed in range(300)
    ]
    assert {int(clip[0]) for clip in clips} == {0, 1, 2, 3, 4, 5}


# sliding_windows


@pytest.mark.parametrize(
    ("num_frames", "window", "step", "begins"),
    [
        (10, 4, 2, [0, 2, 4, 6]),
        (11, 4, 2, [0, 2, 4, 6, 7]),  # the last one added, to see frame 10
        (10, 4, 4, [0, 4, 6]),
        (10, 2, 6, [0, 6, 8]),
        (4, 4, 3, [0]),
        (3, 4, 1, []),
        (0, 1, 1, []),
    ],
)
def test_sliding_windows_by_hand(
    num_frames: int, window: int, step: int, begins: list[int]
) -> None:
    windows = sampling.sliding_windows(num_frames=num_frames, window=window, step=step)
    assert windows.shape == (len(begins), window)
    assert windows.tolist() == [list(range(begin, begin + window)) for begin in begins]


@given(num_frames=LENGTHS, window=st.integers(1, 64), step=st.integers(1, 64))
def test_sliding_windows_see_first_and_last_frame(num_frames: int, window: int, step: int) -> None:
    windows = sampling.sliding_windows(num_frames=num_frames, window=window, step=step)
    check_indices(windows, num_frames=num_frames)
    if num_frames < window:
        assert windows.shape == (0, window)
        return
    assert windows.shape[1] == window
    assert (np.diff(windows, axis=1) == 1).all()
    begins = windows[:, 0]
    assert begins[0] == 0
    assert windows[-1, -1] == num_frames - 1
    assert ((np.diff(begins) > 0) & (np.diff(begins) <= step)).all()
    assert (np.diff(begins)[:-1] == step).all()
    if step <= window:
        assert len(np.unique(windows)) == num_frames


# every_second


@pytest.mark.parametrize(
    ("num_frames", "frames_per_second", "expected"),
    [
        (100, 25.0, [0, 25, 50, 75]),
        (101, 25.0, [0, 25, 50, 75, 100]),
        (60, 29.97, [0, 30]),
        (60, 24.5, [0, 24, 48]),  # Python rounds a half to the even number
        (60, 25.5, [0, 26, 52]),
        (3, 0.4, [0, 1, 2]),  # never less than one frame a step
        (5, 1000.0, [0]),
        (0, 25.0, []),
    ],
)
def test_every_second_by_hand(
    num_frames: int, frames_per_second: float, expected: list[int]
) -> None:
    indices = sampling.every_second(num_frames=num_frames, frames_per_second=frames_per_second)
    assert indices.dtype == np.int64
    assert indices.tolist() == expected


@given(num_frames=st.integers(0, 1000), rate=st.floats(0.01, 240))
def test_every_second_is_the_notebooks_loop(num_frames: int, rate: float) -> None:
    stride = max(1, round(rate))
    kept = [k for k in range(num_frames) if k % stride == 0]
    indices = sampling.every_second(num_frames=num_frames, frames_per_second=rate)
    assert indices.tolist() == kept


# bursts


def even_bursts(num_frames: int, moments: int, length: int) -> sampling.Indices:
    middles = sampling.uniform(num_frames=num_frames, count=moments)
    return sampling.bursts(num_frames=num_frames, middles=middles, frames_each=length)


@pytest.mark.parametrize(
    ("num_frames", "bursts", "length", "expected"),
    [
        # Middles of four stretches of 25: 12, 37, 62, 87.
        (100, 4, 3, [[11, 12, 13], [36, 37, 38], [61, 62, 63], [86, 87, 88]]),
        (100, 2, 2, [[25, 26], [75, 76]]),
        (10, 1, 4, [[4, 5, 6, 7]]),
        (4, 4, 3, [[0, 1, 2], [1, 2, 3]]),  # only two moments differ
        (3, 8, 3, [[0, 1, 2]]),
        (2, 8, 3, []),
        (0, 8, 3, []),
        (2, 2, 1, [[0], [1]]),
    ],
)
def test_bursts_by_hand(
    num_frames: int, bursts: int, length: int, expected: list[list[int]]
) -> None:
    indices = even_bursts(num_frames, bursts, length)
    assert indices.shape == (len(expected), length)
    assert indices.tolist() == expected


@given(num_frames=LENGTHS, bursts=st.integers(1, 64), length=st.integers(1, 32))
def test_bursts_are_adjacent_frames_at_even_moments(
    num_frames: int, bursts: int, length: int
) -> None:
    indices = even_bursts(num_frames, bursts, length)
    check_indices(indices, num_frames=num_frames)
    if num_frames < length:
        assert indices.shape == (0, length)
        return
    assert 1 <= indices.shape[0] <= bursts
    assert indices.shape[1] == length
    assert (np.diff(indices, axis=1) == 1).all()
    begins = indices[:, 0]
    assert (np.diff(begins) > 0).all()
    if num_frames >= bursts * length:
        # Room for all: every moment is there, none overlaps, and the gaps are equal to a frame.
        assert indices.shape[0] == bursts
        assert len(np.unique(indices)) == indices.size
        if bursts > 1:
            assert np.diff(begins).max() - np.diff(begins).min() <= 1
    possible = num_frames - length + 1
    if possible <= bursts:
        assert set(begins.tolist()) <= set(range(possible))


@pytest.mark.parametrize(
    ("num_frames", "middles", "length", "expected"),
    [
        (100, [50], 3, [[49, 50, 51]]),
        (100, [50, 50, 60], 2, [[50, 51], [60, 61]]),
        (10, [0, 9], 4, [[0, 1, 2, 3], [6, 7, 8, 9]]),
        (3, [0, 1, 2], 4, []),
    ],
)
def test_bursts_around_given_moments(
    num_frames: int, middles: list[int], length: int, expected: list[list[int]]
) -> None:
    indices = sampling.bursts(num_frames=num_frames, middles=np.array(middles), frames_each=length)
    assert indices.shape == (len(expected), length)
    assert indices.tolist() == expected


# errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sampling.uniform(num_frames=-1, count=2), "num_frames=-1 is below 0"),
        (lambda: sampling.uniform(num_frames=5, count=0), "count=0 is below 1; pass count=1"),
        (lambda: sampling.dense(num_frames=5, max_frames=0), "max_frames=0 is below 1"),
        (lambda: sampling.random_frames(num_frames=5, count=-2, seed=0), "count=-2 is below 1"),
        (lambda: sampling.random_frames(num_frames=5, count=2, seed=-1), "seed=-1 is below 0"),
        (lambda: sampling.random_clip(num_frames=5, count=2, stride=0, seed=0), "stride=0"),
        (lambda: sampling.sliding_windows(num_frames=5, window=0, step=1), "window=0"),
        (lambda: sampling.sliding_windows(num_frames=5, window=1, step=0), "step=0"),
        (lambda: even_bursts(5, 0, 2), "count=0"),
        (lambda: even_bursts(5, 1, 0), "frames_each=0"),
        (
            lambda: sampling.bursts(num_frames=-1, middles=np.zeros(1, np.int64), frames_each=1),
            "num_frames=-1",
        ),
        (
            lambda: sampling.every_second(num_frames=5, frames_per_second=0.0),
            "frames_per_second=0.0 is not a rate; pass a finite number above 0",
        ),
        (
            lambda: sampling.every_second(num_frames=5, frames_per_second=float("inf")),
            "frames_per_second=inf is not a rate",
        ),
        (lambda: sampling.at_fps(pts_seconds=[0.0], fps=float("nan")), "fps=nan is not a rate"),
        (lambda: sampling.at_fps(pts_seconds=[0.0], fps=1, max_frames=0), "max_frames=0"),
        (lambda: sampling.at_fps(fps=1.0), "pts_seconds or both num_frames and"),
        (lambda: sampling.at_fps(fps=1.0, num_frames=5), "pts_seconds or both num_frames and"),
        (lambda: sampling.at_fps(fps=1.0, num_frames=5, pts_seconds=[0.0]), "pass one of the two"),
        (lambda: sampling.at_fps(fps=1.0, pts_seconds=[0.0, 2.0, 1.0]), "goes back at frame 2"),
        (lambda: sampling.at_fps(fps=1.0, pts_seconds=[0.0, float("nan")]), "1 of 2 pts_seconds"),
        (
            lambda: sampling.at_fps(fps=1.0, pts_seconds=np.zeros((2, 2))),
            r"shape \(2, 2\); pass one time",
        ),
    ],
)
def test_impossible_values_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", ["uniform", "dense", "random_frames", "sliding_windows"])
def test_samplers_take_keywords_only(name: str) -> None:
    with pytest.raises(TypeError, match="positional"):
        getattr(sampling, name)(10, 5)
