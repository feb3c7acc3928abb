"""Whether the videos of one night are unlike others: two-sample tests that keep recordings whole.

Videos of a recording come together and are alike, so they say less than as many separate ones, and
a test that takes them for separate finds a difference every night. Here whole recordings change
sides: of the two samples a statistic is taken, then of ``PERMUTATIONS`` random divisions of the
recordings into as many on each side. That is right for any statistic, and for any number of videos.

- numbers: the Kolmogorov-Smirnov distance, over at most 64 steps of equal share
- names: the chi-square statistic; its size is the total variation (the share of videos to relabel)
- vectors: the maximum mean discrepancy of a Gaussian kernel, by random Fourier features
  (Gretton et al. 2012; Rahimi and Recht 2007); its size is how well a direction found on half of
  the recordings tells the two sides apart on the other half

A recording with videos on both sides counts as two: it makes the sides alike, never unlike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vidray.evaluation.intervals import Floats, Integers

Masks = NDArray[np.bool_]
Sums = NDArray[np.float32]

LEVEL = 0.05
# p-values go down to 1 / 2,000, so that Holm's correction of up to 100 tests can reach 0.05.
PERMUTATIONS = 1999
# Who looks like chance after the first ones is not looked at longer.
_FIRST, _CHANCE = 199, 0.1
# Recordings of a side that are divided anew, drawn at random; sizes are taken from all videos.
_MOST_RECORDINGS = 1000
_STEPS = 64
_FREQUENCIES = 64  # Twice as many features.
_MOST_PAIRS = 400  # Videos from whose distances the width of the kernel is taken.


@dataclass(frozen=True)
class Codes:
    """A number, or a name, of each video.

    Attributes:
        values: ``int64 (N,)``: the step that a number lies in, or which name it is; -1 where there
            is none.
        count: how many there are.
        is_ordered: of numbers, not of names.
    """

    values: Integers
    count: int
    is_ordered: bool

    @property
    def is_known(self) -> Masks:
        """Whether a video has one."""
        return self.values >= 0

    def sums(self, rows: Integers, unit_of: Integers, units: int) -> Sums:
        """``float32 (G, K)``: how many videos of each recording have each value."""
        values = self.values[rows]
        known = values >= 0
        at = unit_of[known] * self.count + values[known]
        counts = np.bincount(at, minlength=units * self.count)
        return counts.reshape(units, self.count).astype(np.float32)

    def distance(self, night: Sums, others: Sums) -> Floats:
        """The statistic (B,) of sums (B, K) of both sides."""
        first, second = _shares(night), _shares(others)
        if self.is_ordered:
            steps: Floats = np.abs(np.cumsum(first - second, axis=1)).max(axis=1)
            return steps
        # Names that are as rare in every division count as much as frequent ones.
        together = (night + others)[:1].astype(np.float64)
        weight = np.divide(1, together, out=np.zeros_like(together), where=together > 0)
        squares: Floats = (first - second) ** 2 * weight
        return np.asarray(squares.sum(axis=1))

    def effect(self, is_night: Masks) -> float:
        """How far the sides are apart, 0 to 1, over all videos."""
        night, others = (
            np.bincount(self.values[side & self.is_known], minlength=self.count)
            for side in (is_night, ~is_night)
        )
        apart = night / night.sum() - others / others.sum()
        size = np.abs(np.cumsum(apart)).max() if self.is_ordered else np.abs(apart).sum() / 2
        return float(size)


def numbers(values: Floats) -> Codes:
    """Codes of numbers; NaN is none. Of more than 64 different ones, steps of equal share."""
    known = np.isfinite(values)
    steps = np.unique(values[known])
    if len(steps) > _STEPS:
        steps = np.unique(np.quantile(values[known], np.arange(_STEPS) / _STEPS))
    codes = np.full(len(values), -1, np.int64)
    codes[known] = np.searchsorted(steps, values[known], side="right") - 1
    return Codes(codes, max(1, len(steps)), is_ordered=True)


@dataclass(frozen=True)
class Vectors:
    """A vector of each video, as random Fourier features.

    Attributes:
        row_of: ``int64 (N,)``: the row of ``features`` of a video; -1 where there is none.
        features: ``float32 (M, F)``.
    """

    row_of: Integers
    features: Sums

    @property
    def is_known(self) -> Masks:
        """Whether a video has one."""
        return self.row_of >= 0

    def sums(self, rows: Integers, unit_of: Integers, units: int) -> Sums:
        """``float32 (G, F + 1)``: the features of each recording added up, and their number."""
        at = self.row_of[rows]
        known = at >= 0
        order = np.argsort(unit_of[known], kind="stable")
        of_unit, first = np.unique(unit_of[known][order], return_index=True)
        found = np.zeros((units, self.features.shape[1] + 1), np.float32)
        if len(first):
            found[of_unit, :-1] = np.add.reduceat(self.features[at[known][order]], first)
            found[of_unit, -1] = np.diff(np.append(first, known.sum()))
        return found

    def distance(self, night: Sums, others: Sums) -> Floats:
        """The squared maximum mean discrepancy (B,) of sums (B, F + 1) of both sides."""
        apart = _means(night) - _means(others)
        found: Floats = (apart.astype(np.float64) ** 2).sum(axis=1)
        return found


def vectors(values: NDArray[np.float32], row_of: Integers, seed: int) -> Vectors:
    """Random Fourier features of vectors ``float32 (M, D)``, of a Gaussian kernel.

    Its width is the median distance of two of them, each number in its standard deviations. Rows
    with a number that is not finite have no features.
    """
    rng = np.random.default_rng(seed)
    is_whole = np.isfinite(values).all(axis=1)
    kept = values[is_whole].astype(np.float32)
    new_row = np.where(is_whole, np.cumsum(is_whole) - 1, -1)
    row_of = np.where(row_of >= 0, new_row[row_of], -1) if len(values) else np.full_like(row_of, -1)
    if not len(kept):
        return Vectors(row_of, np.zeros((0, 2 * _FREQUENCIES), np.float32))
    spread = kept.std(axis=0, dtype=np.float64)
    varies = spread > 0
    # One wild number must not decide the distance of two videos.
    scaled = ((kept[:, varies] - kept[:, varies].mean(axis=0)) / spread[varies]).clip(-5, 5)
    some = scaled[rng.permutation(len(scaled))[:_MOST_PAIRS]]
    squares = (some**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * some @ some.T
    apart = distances[np.triu_indices(len(some), k=1)]
    width = float(np.sqrt(np.median(apart))) if len(apart) and np.median(apart) > 0 else 1.0
    waves = rng.normal(0, 1 / width, (scaled.shape[1], _FREQUENCIES)).astype(np.float32)
    angles = scaled.astype(np.float32) @ waves
    made = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / np.sqrt(_FREQUENCIES)
    return Vectors(row_of, made.astype(np.float32))


@dataclass(frozen=True)
class Difference:
    """How one variable of a night differs from that of the other videos.

    Attributes:
        night, others: videos of each side of which it is known.
        effect: its size; 0 to 1 for numbers and names; for vectors the share of pairs, one of each
            side, that are told apart right, of which 0.5 is chance. None where a side is empty.
        p: of the test; None where a side is empty, or all videos are the same: then there is
            nothing to test.
        least_p: the smallest p that so few recordings can come to.
    """

    night: int
    others: int
    effect: float | None = None
    p: float | None = None
    least_p: float | None = None


def compare(
    columns: Sequence[Codes | Vectors], is_night: Masks, recordings: Integers, seed: int
) -> list[Difference]:
    """Each variable of a night against that of other videos.

    Args:
        columns: of the same N videos.
        is_night: ``bool (N,)``: the side that a video is on.
        recordings: ``int64 (N,)``: the recording it is of.
    """
    rng = np.random.default_rng(seed)
    rows, unit_of, night_units, units = _units(is_night, recordings, rng)
    sides = [(c.is_known & is_night, c.is_known & ~is_night) for c in columns]
    found = [Difference(int(one.sum()), int(other.sum())) for one, other in sides]
    tested = []
    for k, column in enumerate(columns):
        if not found[k].night or not found[k].others:
            continue
        if isinstance(column, Codes) and len(np.unique(column.values[column.is_known])) == 1:
            found[k] = replace(found[k], effect=0.0)
        else:
            tested.append(k)
    if not tested:
        return found
    chosen = [columns[k] for k in tested]
    least_p = 1 / min(math.comb(units, night_units), PERMUTATIONS + 1)
    p_values = _p_values(chosen, rows, unit_of, night_units, units, rng)
    for k, column, p in zip(tested, chosen, p_values, strict=True):
        if isinstance(column, Codes):
            effect: float | None = column.effect(is_night)
        else:
            effect = _told_apart(column, rows, unit_of, night_units, units, rng)
        found[k] = replace(found[k], effect=effect, p=float(p), least_p=least_p)
    return found


def _units(
    is_night: Masks, recordings: Integers, rng: np.random.Generator
) -> tuple[Integers, Integers, int, int]:
    """Rows of the recordings that are divided anew, the unit of each, and how many units are of
    the night and of both sides. Units of the night come first.
    """
    rows, unit_of, count = [], [], [0]
    for side in (is_night, ~is_night):
        where = np.flatnonzero(side)
        own, number = np.unique(recordings[where], return_inverse=True)
        drawn = rng.permutation(len(own))[:_MOST_RECORDINGS]
        unit = np.full(len(own), -1)
        unit[drawn] = count[-1] + np.arange(len(drawn))
        kept = unit[number] >= 0
        rows.append(where[kept])
        unit_of.append(unit[number][kept])
        count.append(count[-1] + len(drawn))
    return np.concatenate(rows), np.concatenate(unit_of), count[1], count[2]


def _p_values(
    columns: Sequence[Codes | Vectors],
    rows: Integers,
    unit_of: Integers,
    night_units: int,
    units: int,
    rng: np.random.Generator,
) -> Floats:
    """The share of divisions, the real one among them, at least as far apart as the real one."""
    sums = [column.sums(rows, unit_of, units) for column in columns]
    ends = np.cumsum([0, *(one.shape[1] for one in sums)])
    both = np.concatenate(sums, axis=1)
    total = both.sum(axis=0, keepdims=True)

    def distances(inside: Sums) -> Floats:
        night = inside @ both
        others = total - night
        return np.stack(
            [c.distance(night[:, a:b], others[:, a:b]) for c, a, b in _spans(columns, ends)]
        )

    is_of_night = (np.arange(units) < night_units).astype(np.float32)
    real = distances(is_of_night[None])
    at_least = np.ones(len(columns))
    done = 1
    for size in (_FIRST, PERMUTATIONS - _FIRST):
        divisions = rng.permuted(np.tile(is_of_night, (size, 1)), axis=1)
        # Equal divisions differ in the last digit where numbers were added in another order.
        at_least += (~(distances(divisions) < real * (1 - 1e-5))).sum(axis=1)
        done += size
        if (at_least / done > _CHANCE).all():
            break
    return at_least / done


def _spans(
    columns: Sequence[Codes | Vectors], ends: Integers
) -> Iterator[tuple[Codes | Vectors, int, int]]:
    return zip(columns, ends[:-1].tolist(), ends[1:].tolist(), strict=True)


def _shares(counts: Sums) -> Floats:
    """Counts (B, K) as shares; NaN, which no distance is below, where a side has none."""
    total = counts.sum(axis=1, keepdims=True, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        found: Floats = counts / total
    return found


def _means(sums: Sums) -> Sums:
    with np.errstate(invalid="ignore"):
        found: Sums = sums[:, :-1] / sums[:, -1:]
    return found


def _told_apart(
    column: Vectors,
    rows: Integers,
    unit_of: Integers,
    night_units: int,
    units: int,
    rng: np.random.Generator,
) -> float | None:
    """The share of pairs, one video of each side, that a direction tells apart which was found on
    the other half of the recordings; None where a side has too few recordings to be halved.
    """
    at = column.row_of[rows]
    features, unit = column.features[at[at >= 0]], unit_of[at >= 0]
    is_night = unit < night_units
    half = np.zeros(units, np.int64)
    for side in (is_night, ~is_night):
        own = rng.permutation(np.unique(unit[side]))
        if len(own) < 2:
            return None
        half[own[: len(own) // 2]] = 1
    shares = []
    for judged in (0, 1):
        is_judged = half[unit] == judged
        means = [features[~is_judged & side].mean(axis=0) for side in (is_night, ~is_night)]
        scores = features[is_judged] @ (means[0] - means[1])
        shares.append(_ordered(scores, is_night[is_judged]))
    return float(np.mean(shares))


def _ordered(scores: Sums, is_night: Masks) -> float:
    """The share of pairs in which the night's score is the higher; ties count half."""
    others = np.sort(scores[~is_night])
    below = np.searchsorted(others, scores[is_night], "left")
    upto = np.searchsorted(others, scores[is_night], "right")
    return float((below + upto).mean() / 2 / len(others))
