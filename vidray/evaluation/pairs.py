"""Models compared in pairs on the same videos: which differences are real.

Answers for one video depend on the video, and those for videos of one recording on the recording,
so differences are taken video by video, added up by recording, and tested there:

- accuracy: the exact test of the signs of the recordings' differences. It is McNemar's exact test
  where every video is a recording of its own (McNemar 1947; Edwards 1948 for the binomial).
- log loss: the same, all signs tried up to 2^14 of them, 10,000 drawn beyond.
- the interval of a difference: bootstrap over recordings.

Many pairs are tested at once, and one in twenty would differ by chance alone, so the p-values are
corrected as Holm (1979) does: the chance of even one false "better" is then below 5 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from vidray.evaluation.intervals import Floats, Integers, interval, resampled
from vidray.evaluation.metrics import RESAMPLES

SIGNIFICANT = 0.05
# 2^14 sign patterns are as quick as the drawn ones, and exact.
_MOST_EXACT = 14
_DRAWN = 10_000  # the least p is then 0.0001
_BLOCK = 500  # sign patterns at a time: 10,000 recordings then take 40 MB


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """How much one model's mean is above another's on the same videos.

    Attributes:
        value: mean of the first minus mean of the second.
        interval: 95 %, by bootstrap over recordings, of this pair alone; None of one recording, and
            where every resample gives the same, which is less certain than it looks.
        p: of a difference as large where there is none; both directions.
        corrected: ``p`` after Holm over all pairs that were tested together.
    """

    value: float
    interval: tuple[float, float] | None
    p: float
    corrected: float

    @property
    def is_real(self) -> bool:
        """Whether chance is no explanation: ``corrected`` is at most 0.05."""
        return self.corrected <= SIGNIFICANT


def differences(
    values: ArrayLike,
    pairs: Sequence[tuple[int, int]],
    group_of: Integers,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[PairedDifference]:
    """The difference of each pair of rows, all corrected together.

    Args:
        values: (M, N): of each model (or baseline) for each video, the same videos in the same
            order: 0 and 1 for wrong and right, tested exactly, or numbers such as losses.
        pairs: rows (first, second) of ``values``.
        group_of: int64 (N,): the number of each video's recording, from 0.
        resamples, seed: of the bootstrap; ``seed`` also of drawn signs.
    """
    rows = np.asarray(values)
    if rows.ndim != 2 or rows.shape[1] != len(group_of) or not rows.shape[1]:
        raise ValueError(f"values have shape {rows.shape} for {len(group_of)} videos: one each")
    if not pairs:
        return []
    first, second = np.array(pairs, np.int64).T
    numbers = rows.astype(np.float64)
    apart = numbers[first] - numbers[second]  # (P, N)
    ends = _intervals(numbers, first, second, group_of, resamples, seed)
    if rows.dtype == np.bool_ or np.issubdtype(rows.dtype, np.integer):
        p = [sign_test(by_recording(row, group_of).astype(np.int64)) for row in apart]
    else:
        p = flip_test(np.stack([by_recording(row, group_of) for row in apart]), seed=seed)
    return [
        PairedDifference(value=float(row.mean()), interval=end, p=one, corrected=corrected)
        for row, end, one, corrected in zip(apart, ends, p, holm(p), strict=True)
    ]


def _intervals(
    numbers: Floats,
    first: Integers,
    second: Integers,
    group_of: Integers,
    resamples: int,
    seed: int,
) -> list[tuple[float, float] | None]:
    """An interval for each pair. Each model's mean is resampled once, for all of its pairs."""
    if group_of.max() == 0:
        return [None] * len(first)  # One recording resampled is that recording.
    blocks = [
        numbers @ weights / weights.sum(axis=0) for weights in resampled(group_of, resamples, seed)
    ]
    means = np.concatenate(blocks, axis=1)  # (M, resamples)
    found = (interval(means[one] - means[other]) for one, other in zip(first, second, strict=True))
    return [(ends[0], ends[1]) if ends and ends[0] < ends[1] else None for ends in found]


def by_recording(row: Floats, group_of: Integers) -> Floats:
    """float64 (G,): the sum over each recording's videos."""
    return np.bincount(group_of, weights=row).astype(np.float64)


def mcnemar(first_right: ArrayLike, second_right: ArrayLike) -> float:
    """McNemar's exact test that two models are right on as many videos; p of both directions.

    Only for independent videos: where recordings have several, use ``differences``.

    Args:
        first_right, second_right: bool (N,): whether each model is right, video by video.
    """
    return sign_test(np.asarray(first_right).astype(np.int64) - np.asarray(second_right))


def sign_test(whole: ArrayLike) -> float:
    """The exact p of a sum of whole numbers whose signs are chance: as far from 0 or farther.

    Numbers of one size have a binomial number of plus signs; the sizes are added by convolution, so
    nothing is drawn, and tens of thousands take no time.
    """
    numbers = np.asarray(whole, np.int64)
    total = np.ones(1)  # of a sum of nothing: it is 0
    sizes, counts = np.unique(np.abs(numbers[numbers != 0]), return_counts=True)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        spread = np.zeros(2 * size * count + 1)
        # k plus signs of ``count`` give size · (2 k - count).
        spread[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        total = np.convolve(total, spread)
    reach = len(total) // 2
    sums = np.abs(np.arange(-reach, reach + 1))
    return float(min(1.0, total[sums >= abs(numbers.sum())].sum()))


def flip_test(sums: Floats, *, seed: int = 0) -> list[float]:
    """The p of each row's sum if the sign of every recording were chance.

    Args:
        sums: float64 (P, G), differences by recording; the rows share the sign patterns.
        seed: of the patterns, where there are too many to try them all.
    """
    seen = np.abs(sums.sum(axis=1))
    # Sums of the same numbers in another order differ by rounding.
    least = seen - 1e-9 * np.abs(sums).sum(axis=1)
    count, tried = np.zeros(len(sums)), 0
    number = sums.shape[1]
    for signs in _all_signs(number) if number <= _MOST_EXACT else _drawn_signs(number, seed):
        count += (np.abs(signs @ sums.T) >= least).sum(axis=0)
        tried += len(signs)
    if number > _MOST_EXACT:  # What was seen is one of the patterns (Davison & Hinkley 1997, 4.2).
        count, tried = count + 1, tried + 1
    return [float(one) for one in np.minimum(1.0, count / tried)]


def _all_signs(number: int) -> Iterator[Floats]:
    """Every pattern of signs, (2^number, number)."""
    bits = (np.arange(2**number)[:, None] >> np.arange(number)) & 1
    yield np.where(bits == 1, 1.0, -1.0)


def _drawn_signs(number: int, seed: int) -> Iterator[Floats]:
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWN // _BLOCK):
        yield np.where(rng.integers(0, 2, (_BLOCK, number)) == 1, 1.0, -1.0)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): the k-th smallest of m times m + 1 - k, none
    below the one before it, none above 1.
    """
    found = np.asarray(p, np.float64)
    order = np.argsort(found, kind="stable")
    factors = np.arange(len(found), 0, -1)
    corrected = np.empty_like(found)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(found[order] * factors))
    return [float(one) for one in corrected]


def least_p(num_recordings: int) -> float:
    """The smallest p that so many recordings can give, all of them for one model."""
    return min(1.0, 2.0 ** (1 - num_recordings))
