"""Right and wrong answers by recording: the unit in which videos are drawn, and fail together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from vidray.evaluation.intervals import interval, resampled
from vidray.evaluation.metrics import RESAMPLES
from vidray.report.runs import JudgedModel

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Ends = tuple[float, float] | None  # of an interval

# Of a two-sided test at 5 % that finds a true difference in 8 of 10 cases: 1.96 + 0.84.
_DEVIATIONS = 2.80
_FLIPS = 4999
_MANY = 1000  # recordings in which the two differ: 40 MB of signs


def hits(judged: JudgedModel) -> Bools:
    """Whether each answer is right, ``bool (N,)``; the answer is the most probable class."""
    best = judged.probabilities.argmax(axis=1)
    names = np.array(judged.class_names, object)
    found: Bools = names[best] == np.array(judged.truth, object)
    return found


def recordings(groups: Sequence[str | None]) -> Integers:
    """The number of each video's recording, 0 to G - 1; an unknown one is its own."""
    keys: list[str | int] = [k if group is None else group for k, group in enumerate(groups)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], np.int64)


def share_interval(values: Floats, chosen: Bools, group_of: Integers, *, seed: int) -> Ends:
    """The 95 % interval of the mean of ``values`` over the chosen videos, by recording.

    None where they are of one recording: nothing shows how another one would do.
    """
    if len(np.unique(group_of[chosen])) < 2:
        return None
    of_values, of_count = values * chosen, chosen.astype(np.float64)
    blocks = []
    for weights in resampled(group_of, RESAMPLES, seed):
        counts = of_count @ weights
        nothing = np.full_like(counts, np.nan)
        blocks.append(np.divide(of_values @ weights, counts, out=nothing, where=counts > 0))
    found = interval(np.concatenate(blocks))
    return None if found is None else (found[0], found[1])


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much more often one is right than another, on the same videos.

    Attributes:
        mean: accuracy of the first, less that of the second.
        ends: its 95 % interval by bootstrap over recordings.
        p_value: of a test that exchanges the two within recordings, at random.
        first_only, second_only: videos that only this one has right.
        num_recordings: in which the two are compared.
        needed: recordings that would show a difference of this size in 8 of 10 cases; None where
            there is none.
    """

    mean: float
    ends: Ends
    p_value: float
    first_only: int
    second_only: int
    num_recordings: int
    needed: int | None

    @property
    def is_real(self) -> bool:
        """Whether chance alone is no likely reason."""
        return self.p_value < 0.05


def difference(first: Bools, second: Bools, group_of: Integers, *, seed: int) -> Difference:
    """The difference of two rows of right answers on the same videos.

    Under the hypothesis that both are equally good, the two may be exchanged within any recording.
    """
    apart = first.astype(np.float64) - second  # (N,)
    of_recording = np.bincount(group_of, weights=apart)  # (G,)
    total, count = float(of_recording.sum()), len(of_recording)
    return Difference(
        mean=total / len(apart),
        ends=share_interval(apart, np.ones(len(apart), np.bool_), group_of, seed=seed),
        p_value=_exchange_test(of_recording, seed),
        first_only=int((first & ~second).sum()),
        second_only=int((second & ~first).sum()),
        num_recordings=count,
        needed=_needed(of_recording) if total else None,
    )


def _exchange_test(of_recording: Floats, seed: int) -> float:
    """The two-sided p-value of the sum, signs of recordings drawn; exact where they are few."""
    apart = of_recording[of_recording != 0]
    if not len(apart):
        return 1.0
    observed = abs(apart.sum()) - 1e-9
    if len(apart) <= 12:
        signs = 1 - 2 * ((np.arange(2 ** len(apart))[:, None] >> np.arange(len(apart))) & 1)
        return float((np.abs(signs @ apart) >= observed).mean())
    if len(apart) > _MANY:  # The sum is as good as normal.
        return float(2 * norm.sf(observed / np.sqrt((apart**2).sum())))
    rng = np.random.default_rng(seed)
    signs = rng.choice((-1.0, 1.0), (_FLIPS, len(apart)))
    as_far = int((np.abs(signs @ apart) >= observed).sum())
    return (as_far + 1) / (_FLIPS + 1)


def _needed(of_recording: Floats) -> int:
    """Recordings like these that tell such a difference from none."""
    mean, deviation = float(of_recording.mean()), float(of_recording.std())
    return max(2, int(np.ceil((_DEVIATIONS * deviation / mean) ** 2)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for how many there are: Holm (1979)."""
    order = np.argsort(p_values, kind="stable")
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(order.tolist()):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[k]))
        corrected[k] = largest
    return corrected
