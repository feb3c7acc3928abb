"""Paired tests against SciPy's binomial test, hand computations and simulations."""

import itertools

import numpy as np
import pytest
from scipy import stats

from vidray.evaluation.metrics import compute_metrics
from vidray.evaluation.pairs import (
    differences,
    flip_test,
    holm,
    least_p,
    mcnemar,
    sign_test,
)


def _right(both: int, first: int, second: int, none: int) -> tuple[list[bool], list[bool]]:
    """Answers of two models: so many right by both, by one alone, by none."""
    one = [True] * both + [True] * first + [False] * second + [False] * none
    other = [True] * both + [False] * first + [True] * second + [False] * none
    return one, other


def test_mcnemar_of_a_published_table() -> None:
    # The approval ratings of Agresti, Categorical Data Analysis, chapter 10: 794, 150, 86, 570. His
    # z is -4.17, (86 - 150) / sqrt(86 + 150), which is p = 3.1e-5; the exact binomial is SciPy's.
    p = mcnemar(*_right(794, 150, 86, 570))
    assert p == pytest.approx(stats.binomtest(86, 236).pvalue, rel=1e-9)
    assert 1e-5 < p < 1e-4
    # statsmodels' documentation: [[101, 121], [59, 33]], exact p 4.434e-06.
    assert mcnemar(*_right(101, 121, 59, 33)) == pytest.approx(4.434e-06, rel=1e-3)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (0, 5), (6, 1), (9, 9), (30, 12)])
def test_mcnemar_is_the_binomial_test_of_discordant_videos(first: int, second: int) -> None:
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(*_right(7, first, second, 3)) == pytest.approx(expected, rel=1e-12)


def test_mcnemar_by_hand() -> None:
    # 5 against 1: (C(6,0) + C(6,1) + C(6,5) + C(6,6)) / 2^6 = 14 / 64.
    assert mcnemar(*_right(20, 5, 1, 4)) == pytest.approx(14 / 64)


def test_signs_of_recordings_are_all_tried() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        sums = rng.integers(-4, 5, size=9)
        every = [np.dot(signs, sums) for signs in itertools.product((-1, 1), repeat=9)]
        expected = np.mean(np.abs(every) >= abs(sums.sum()))
        assert sign_test(sums) == pytest.approx(expected)
        assert flip_test(sums[None].astype(float))[0] == pytest.approx(expected)


def test_drawn_signs_are_near_the_exact_ones() -> None:
    sums = np.random.default_rng(3).integers(-3, 5, size=40)
    [drawn] = flip_test(sums[None].astype(float), seed=1)
    exact = sign_test(sums)
    assert 0.01 < exact < 0.99
    # Four standard errors of a share of 10,000 draws.
    assert abs(drawn - exact) < 4 * np.sqrt(exact * (1 - exact) / 10_000)


def test_holm_by_hand() -> None:
    # 4 · 0.005, 3 · 0.01, 2 · 0.03, and 0.04 is not below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_difference_to_nothing_right_has_the_interval_of_the_accuracy() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 60)
    scores = rng.dirichlet((1, 1, 1), 60)
    recordings = [f"r{k // 4}" for k in range(60)]
    metrics = compute_metrics(truth, scores, "abc", groups=recordings)
    right = scores.argmax(axis=1) == truth
    found = differences(np.stack([right, np.zeros(60, bool)]), [(0, 1)], np.arange(60) // 4)
    assert found[0].value == pytest.approx(metrics["accuracy"])
    assert found[0].interval == pytest.approx(metrics["intervals"]["accuracy"], abs=1e-9)


def test_videos_of_one_recording_are_one_witness() -> None:
    right = np.array([[True] * 12, [False] * 12])
    [alone] = differences(right, [(0, 1)], np.arange(12))
    [three] = differences(right, [(0, 1)], np.arange(12) // 4)
    [one] = differences(right, [(0, 1)], np.zeros(12, np.int64))
    assert alone.p == pytest.approx(2**-11)
    assert three.p == pytest.approx(2**-2) == least_p(3)
    assert one.p == 1
    assert one.interval is None


def test_losses_are_compared_too() -> None:
    rng = np.random.default_rng(2)
    base = rng.exponential(size=50)
    losses = np.stack([base, base + 0.3, base + rng.normal(0, 0.3, 50)])
    worse, same = differences(losses, [(1, 0), (2, 0)], np.arange(50))
    assert worse.value == pytest.approx(0.3)
    assert worse.p == pytest.approx(1 / 10_001)
    assert worse.is_real
    assert not same.is_real
    [low, high] = same.interval or (0.0, 0.0)
    assert low < same.value < high


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) for 4 videos"):
        differences(np.zeros((2, 3)), [(0, 1)], np.arange(4))


def _clustered(rng: np.random.Generator, models: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers of equal models for 12 recordings of 5 videos; a recording's share their fate: each
    model has its own luck with each recording.
    """
    luck = rng.normal(0, 1.5, (models, 12))
    chance = 1 / (1 + np.exp(-np.repeat(luck, 5, axis=1)))
    return rng.random((models, 60)) < chance, np.arange(60) // 5


def test_equal_models_are_told_apart_in_one_of_twenty_at_most() -> None:
    rng = np.random.default_rng(4)
    found, by_videos = [], []
    for _ in range(300):
        right, group_of = _clustered(rng, 2)
        found.append(differences(right, [(0, 1)], group_of, resamples=2)[0].p <= 0.05)
        by_videos.append(mcnemar(*right) <= 0.05)
    # 5 % and three standard errors; the test is exact, so it is below in the long run.
    assert np.mean(found) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    # Not so where videos of a recording pass for independent: the simulation can tell.
    assert np.mean(by_videos) > 0.1


def test_no_pair_of_five_equal_models_is_real_in_nineteen_of_twenty_groups() -> None:
    rng = np.random.default_rng(5)
    pairs = list(itertools.combinations(range(5), 2))
    any_real, uncorrected = [], []
    for _ in range(200):
        right = rng.random((5, 80)) < 0.6
        found = differences(right, pairs, np.arange(80), resamples=2)
        any_real.append(any(one.is_real for one in found))
        uncorrected.append(any(one.p <= 0.05 for one in found))
    assert np.mean(any_real) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert np.mean(uncorrected) > 0.1


def test_intervals_of_equal_models_hold_zero_in_nine_of_ten() -> None:
    rng = np.random.default_rng(6)
    held = []
    for _ in range(100):
        right = rng.random((2, 60)) < 0.7
        [found] = differences(right, [(0, 1)], np.arange(60), resamples=300)
        low, high = found.interval or (1.0, 1.0)
        held.append(low <= 0 <= high)
    assert np.mean(held) > 0.9
