"""Two-sample tests that keep recordings whole, against other implementations and by simulation."""

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from vidray.evaluation import drift
from vidray.evaluation.drift import Codes, Difference, Vectors
from vidray.evaluation.pairs import holm

Column = Codes | Vectors


def _sides(night: int, others: int) -> NDArray[np.bool_]:
    return np.arange(night + others) < night


def _one(
    column: Column, is_night: NDArray[np.bool_], recordings: NDArray[np.int64] | None = None
) -> Difference:
    units = np.arange(len(is_night)) if recordings is None else recordings
    (found,) = drift.compare([column], is_night, units, seed=0)
    return found


def _names(values: list[int], count: int) -> Codes:
    return Codes(np.array(values), count, is_ordered=False)


def test_the_distance_of_numbers_is_that_of_kolmogorov_and_smirnov() -> None:
    rng = np.random.default_rng(1)
    few = rng.integers(0, 30, 500).astype(float)
    found = _one(drift.numbers(few), _sides(150, 350))
    assert found.effect == pytest.approx(stats.ks_2samp(few[:150], few[150:]).statistic, abs=1e-12)
    many = np.concatenate([rng.normal(0.7, 1, 400), rng.normal(0, 1, 1600)])
    found = _one(drift.numbers(many), _sides(400, 1600))
    # Steps of equal share lie 1/64 apart.
    exact = stats.ks_2samp(many[:400], many[400:]).statistic
    assert found.effect is not None
    assert exact - 1 / 64 <= found.effect <= exact


@pytest.mark.slow
def test_p_of_separate_videos_is_that_of_the_exact_tests() -> None:
    rng = np.random.default_rng(2)
    for shift in (0.0, 0.25, 0.35):
        values = np.round(rng.normal(0, 1, 300), 1)
        values[:100] += shift
        found = _one(drift.numbers(values), _sides(100, 200))
        other = stats.permutation_test(
            (values[:100], values[100:]),
            lambda a, b: stats.ks_2samp(a, b).statistic,
            n_resamples=500,
            alternative="greater",
            rng=3,
        ).pvalue
        assert found.p == pytest.approx(other, abs=0.06)


@pytest.mark.parametrize("is_ordered", [True, False])
def test_p_of_recordings_is_the_share_of_all_divisions_of_them(is_ordered: bool) -> None:
    values = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 1, 1, 0, 1, 2, 2, 2])
    recordings = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 4, 4, 5, 6, 6, 6, 6])
    is_night = recordings < 3
    column = Codes(values, 3, is_ordered=is_ordered)

    def distance(inside: NDArray[np.bool_]) -> float:
        first, second = (np.bincount(values[s], minlength=3) for s in (inside, ~inside))
        apart = first / first.sum() - second / second.sum()
        if is_ordered:
            return float(np.abs(np.cumsum(apart)).max())
        return float((apart**2 / np.bincount(values)).sum())

    divisions = [
        distance(np.isin(recordings, chosen)) for chosen in itertools.combinations(range(7), 3)
    ]
    exact = np.mean(np.array(divisions) >= distance(is_night) - 1e-12)
    found = _one(column, is_night, recordings)
    assert found.p == pytest.approx(exact, abs=3 * math.sqrt(exact * (1 - exact) / 200) + 0.005)
    assert found.least_p == pytest.approx(1 / math.comb(7, 3))


def test_the_size_of_a_difference_of_names_is_the_share_that_would_have_to_change() -> None:
    found = _one(_names([0] * 6 + [1] * 4 + [0] * 30 + [1] * 50 + [2] * 20, 3), _sides(10, 100))
    assert found.effect == pytest.approx(0.3)
    assert (found.night, found.others) == (10, 100)


def test_a_rare_name_that_becomes_frequent_is_found() -> None:
    rng = np.random.default_rng(4)
    codes = np.concatenate([rng.random(500) < 0.05, rng.random(5000) < 0.005]).astype(int)
    found = _one(_names(codes.tolist(), 2), _sides(500, 5000))
    assert found.p == 1 / (drift.PERMUTATIONS + 1)
    assert found.effect == pytest.approx(0.045, abs=0.02)


def test_vectors_of_another_spread_are_found_which_no_mean_tells() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=(600, 6)).astype(np.float32)
    values[:200] *= 1.8
    wide = _one(drift.vectors(values, np.arange(600), seed=0), _sides(200, 400))
    assert wide.p is not None
    assert wide.p < 0.01
    values[:200] /= 1.8
    same = _one(drift.vectors(values, np.arange(600), seed=0), _sides(200, 400))
    assert same.p is not None
    assert same.p > 0.05


@pytest.mark.parametrize("shift", [0.0, 0.7, 2.0])
def test_shifted_vectors_are_told_apart_as_often_as_their_distance_says(shift: float) -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(size=(1000, 4)).astype(np.float32)
    values[:500, 0] += shift
    found = _one(drift.vectors(values, np.arange(1000), seed=0), _sides(500, 500))
    assert found.effect is not None
    best = stats.norm.cdf(shift / math.sqrt(2))
    assert best - 0.08 <= found.effect <= best + 0.05


def test_what_is_missing_on_one_side_or_the_same_everywhere_is_not_tested() -> None:
    is_night = _sides(3, 4)
    gone = drift.numbers(np.array([np.nan, np.nan, np.nan, 1.0, 2, 3, 4]))
    same = _names([1] * 7, 2)
    rows = drift.vectors(np.zeros((0, 5), np.float32), np.full(7, -1), seed=0)
    found = drift.compare([gone, same, rows], is_night, np.arange(7), seed=0)
    assert found == [Difference(0, 4), Difference(3, 4, 0.0), Difference(0, 0)]


def test_rows_of_vectors_that_are_not_finite_are_left_out() -> None:
    values = np.ones((4, 2), np.float32)
    values[1, 0] = np.nan
    made = drift.vectors(values, np.array([0, 1, 2, -1, 3]), seed=0)
    assert made.is_known.tolist() == [True, False, True, False, True]
    assert len(made.features) == 3


def test_three_videos_are_no_alarm_by_chance_and_one_recording_has_no_size_of_vectors() -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(size=(53, 8)).astype(np.float32)
    columns: list[Column] = [drift.numbers(v.astype(float)) for v in values.T]
    found = drift.compare(columns, _sides(3, 50), np.arange(53), seed=0)
    assert min(holm([one.p or 0 for one in found])) > 0.05
    vectors = drift.vectors(values, np.arange(53), seed=0)
    units = np.array([0, 0, 0, *range(1, 51)])
    one = _one(vectors, _sides(3, 50), units)
    assert one.effect is None
    assert one.least_p == pytest.approx(1 / 51)


def test_a_recording_with_videos_on_both_sides_makes_them_alike() -> None:
    values = np.repeat(np.arange(20.0), 2)
    is_night = np.tile([True, False], 20)
    found = _one(drift.numbers(values), is_night, np.repeat(np.arange(20), 2))
    assert found.effect == 0
    assert found.p == 1


# By simulation


def _night(
    seed: int, *, shift: float = 0.0, night: int = 30, others: int = 200
) -> list[Difference]:
    """A night of recordings of 4 videos each, on average, against those before; of ten variables
    the first is shifted by so many standard deviations.
    """
    return drift.compare(*_made(seed, shift, night, others), seed=seed)


def _made(
    seed: int, shift: float, night: int, others: int
) -> tuple[list[Column], NDArray[np.bool_], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    recordings = np.repeat(np.arange(night + others), rng.geometric(0.25, night + others))
    is_night = recordings < night

    def number(shift: float = 0.0) -> NDArray[np.float64]:
        of_recording = rng.normal(size=night + others)[recordings]
        return of_recording + 0.5 * rng.normal(size=len(recordings)) + shift * is_night

    columns: list[Column] = [drift.numbers(number(1.118 * shift))]
    columns += [drift.numbers(number()) for _ in range(7)]
    columns.append(Codes(number().round().clip(-2, 2).astype(int) + 2, 5, is_ordered=False))
    vectors = np.stack([number() for _ in range(12)], axis=1).astype(np.float32)
    columns.append(drift.vectors(vectors, np.arange(len(recordings)), seed))
    return columns, is_night, recordings


def _alarms(found: list[Difference]) -> list[bool]:
    return [p < drift.LEVEL for p in holm([one.p or 1.0 for one in found])]


@pytest.mark.slow
@pytest.mark.parametrize(("night", "others"), [(30, 200), (4, 60)])
def test_an_unchanged_night_raises_no_alarm_in_19_of_20(night: int, others: int) -> None:
    nights = 200
    raised = sum(any(_alarms(_night(seed, night=night, others=others))) for seed in range(nights))
    # 5 %, and what 200 nights may add by chance (99 in 100 of such counts are no higher).
    assert raised <= stats.binom.ppf(0.99, nights, drift.LEVEL)


@pytest.mark.slow
def test_videos_taken_for_separate_would_raise_one_nearly_every_night() -> None:
    raised = 0
    for seed in range(20):
        columns, is_night, recordings = _made(seed, 0.0, 30, 200)
        separate = np.arange(len(recordings))
        raised += any(_alarms(drift.compare(columns, is_night, separate, seed=seed)))
    assert raised >= 15


@pytest.mark.slow
def test_a_shift_of_one_standard_deviation_raises_the_alarm_of_its_variable() -> None:
    raised = np.array([_alarms(_night(seed, shift=1.0)) for seed in range(40)])
    assert raised[:, 0].mean() >= 0.9  # 30 recordings against 200, of ten variables
    assert raised[:, 1:].any(axis=1).mean() <= 0.15
