"""The confidence from which a cheap answer may stand in for a dear one, and proof that it may.

A video whose cheap answer is at least as confident as a threshold keeps it; the others are asked of
the dear model, or of the network's last exit. What is lost on a video that keeps it is 1 where the
dear answer alone were right, -1 where the cheap one alone is, else 0. ``choose_threshold`` goes
down from the highest confidence of split val and tests at each threshold whether the mean loss may
be above what is allowed; it stops at the first that cannot exclude it. So no price is paid for
trying many (fixed-sequence testing: Angelopoulos et al., "Learn then Test", 2021), and with the
sureness asked for, the loss on new videos is at most what is allowed.

The test of independent videos is exact: of a difference of two paired shares (Hsueh, Liu and Chen,
2001), whose points are ordered by Tango's score (1998) and whose nuisance is kept to its interval
(Berger and Boos, 1994). Videos of one recording are alike; there recordings are what is
independent, and the test is a bet against the loss (Waudby-Smith and Ramdas, 2024).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from vidray.errors import UserError
from vidray.models.folds import Groups, group_codes
from vidray.storage import checked_json

_Floats = NDArray[np.float64]
_Integers = NDArray[np.int64]
PValue = Callable[[_Integers, float], float]
"""Losses ``int64 (N,)`` and a value -> p-value of "the mean loss is that value or more"."""

# Spent on the interval of the nuisance; and on the tails of its binomial that are not summed.
_NUISANCE, _TAILS = 1e-4, 1e-9
_NUISANCE_STEPS = 32
# Shares of the largest stake: a small one wins where some loss is seen, the largest where none is.
_STAKES = 0.5 ** np.arange(9)
_STAKE_WEIGHTS = np.array([0.5, *[0.5 / 8] * 8])


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Cheap answers of at least this confidence are kept, and what that loses on the videos that
    it was chosen by.
    """

    value: float | None
    """None: nothing could be shown, and no cheap answer is kept."""
    share: float
    """Of the videos, whose cheap answer is kept."""
    lost: float
    """Accuracy of the dear model alone minus that of both."""
    lost_interval: tuple[float, float]
    """Two-sided, of ``sureness``."""
    allow: float
    """Accuracy that may be lost."""
    sureness: float
    """Probability, over draws of the videos, that no more is lost on new ones."""
    num_videos: int
    num_groups: int
    """Recordings; a video of none is one of its own."""

    def __post_init__(self) -> None:
        check_allow(self.allow, self.sureness)
        if self.value is not None and not 0 <= self.value <= 1:
            raise UserError(f"value is {self.value}: a confidence is 0 to 1")
        if not 0 <= self.share <= 1:
            raise UserError(f"share is {self.share}: it must be 0 to 1")
        if self.value is None and self.share:
            raise UserError(f"share is {self.share} and value null: nothing is kept then")
        low, high = self.lost_interval
        if not -1 <= low <= high <= 1 or not -1 <= self.lost <= 1:
            rule = "both are -1 to 1, and the interval's ends in order"
            raise UserError(f"lost is {self.lost} and its interval {low} to {high}: {rule}")
        if not 1 <= self.num_groups <= self.num_videos:
            raise UserError(
                f"num_groups is {self.num_groups} and num_videos {self.num_videos}: there is one "
                "recording or more, and none without a video"
            )

    def keeps(self, confidence: float) -> bool:
        """Whether a cheap answer of this confidence is kept."""
        return self.value is not None and confidence >= self.value

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` takes."""
        return {**asdict(self), "lost_interval": list(self.lost_interval)}

    @classmethod
    def from_json(cls, values: Any, where: str = "threshold") -> Threshold:
        """The threshold of ``to_json``, checked.

        Raises:
            UserError: it is none.
        """
        if isinstance(values, Mapping):
            ends = values.get("lost_interval")
            if not isinstance(ends, list) or len(ends) != 2:
                rule = "a list of two numbers"
                raise UserError(
                    f"{where}.lost_interval is {checked_json.shown(ends)}: it must be {rule}"
                )
        return checked_json.build(cls, values, where)


def check_allow(allow: float, sureness: float = 0.95) -> None:
    """Raise UserError unless there is a loss that may be, and a probability below one."""
    if not 0 < allow < 1:
        raise UserError(f"allow is {allow}: accuracy that may be lost is above 0 and below 1")
    if not 0.5 <= sureness < 1:
        raise UserError(f"sureness is {sureness}: it must be 0.5 or more, and below 1")


def fewest_videos(allow: float, sureness: float = 0.95, *, recordings: bool = False) -> int:
    """How many videos show that at most ``allow`` is lost if none of them loses anything; with
    fewer nothing can be shown: 299 for 0.01, 0.99 ** 299 being 0.05.

    Args:
        allow: accuracy that may be lost.
        sureness: as of ``choose_threshold``.
        recordings: of videos that are alike within recordings of one size: how many recordings.
    """
    check_allow(allow, sureness)
    number = int(np.log(1 - sureness) / np.log1p(-allow))  # As many as the binomial test needs.

    def shows(number: int) -> bool:
        none = np.zeros(number, np.int64)
        p_value = _p_of_recordings(np.arange(number)) if recordings else _p_of_videos
        return number > 0 and p_value(none, allow) <= 1 - sureness

    return next(count for count in itertools.count(number) if shows(count))


def choose_threshold(
    confidence: ArrayLike,
    cheap_right: ArrayLike,
    dear_right: ArrayLike,
    *,
    allow: float,
    groups: Groups | None = None,
    sureness: float = 0.95,
) -> Threshold:
    """The lowest threshold at which no more than ``allow`` of the accuracy is lost.

    Args:
        confidence: ``float (N,)``, 0 to 1, of the cheap answers to videos that neither model has
            learnt from.
        cheap_right: ``bool (N,)``, whether they are right.
        dear_right: ``bool (N,)``, whether the dear answers are.
        allow: accuracy that may be lost against the dear answers alone.
        groups: N names of recordings, None where it is not known; None for all is none.
        sureness: with what probability, over draws of the videos, no more is lost on new ones.

    Raises:
        UserError: no videos, not as many of each, or a confidence that is none.
    """
    check_allow(allow, sureness)
    sure = np.asarray(confidence, np.float64)
    cheap, dear = np.asarray(cheap_right, bool), np.asarray(dear_right, bool)
    if not len(sure) or not sure.shape == cheap.shape == dear.shape == (len(sure),):
        shapes = f"{sure.shape}, {cheap.shape} and {dear.shape}"
        raise UserError(f"confidences and answers are {shapes}: one of each for each video")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise UserError("a confidence is no number from 0 to 1")
    loss = dear.astype(np.int64) - cheap
    num_groups, p_value = _test_of(groups, len(sure))

    kept = _walk(sure, loss, lambda lost: p_value(lost, allow) <= 1 - sureness)
    value = None if kept is None else _between(sure, kept)
    keeps = np.zeros(len(sure), bool) if kept is None else sure >= kept
    lost = np.where(keeps, loss, 0)
    return Threshold(
        value=value,
        share=float(keeps.mean()),
        lost=float(lost.mean()),
        lost_interval=(_interval(lost, p_value, (1 - sureness) / 2) if keeps.any() else (0.0, 0.0)),
        allow=allow,
        sureness=sureness,
        num_videos=len(sure),
        num_groups=num_groups,
    )


def choose_in_sequence(
    tried: Sequence[float],
    losses: _Integers,
    shares: Sequence[float],
    *,
    allow: float,
    groups: Groups | None = None,
    sureness: float = 0.95,
) -> Threshold:
    """The last of several thresholds, tested one after the other, up to which the loss is shown to
    be no more than ``allow``: for answers that depend on the threshold in more ways than one.

    Args:
        tried: thresholds in the order of the tests, chosen without a look at the videos.
        losses: ``int (S, N)``, of each threshold and video: 1 where only the dear answer is right,
            -1 where only the other is, else 0.
        shares: of each threshold, of what is answered cheaply.
        allow, groups, sureness: as of ``choose_threshold``.

    Raises:
        UserError: as ``choose_threshold``.
    """
    check_allow(allow, sureness)
    number = losses.shape[1]
    num_groups, p_value = _test_of(groups, number)
    kept = None
    for k, lost in enumerate(losses):
        if p_value(lost, allow) > 1 - sureness:
            break
        kept = k
    lost = np.zeros(number, np.int64) if kept is None else losses[kept]
    return Threshold(
        value=None if kept is None else tried[kept],
        share=0.0 if kept is None else shares[kept],
        lost=float(lost.mean()),
        lost_interval=_interval(lost, p_value, (1 - sureness) / 2),
        allow=allow,
        sureness=sureness,
        num_videos=number,
        num_groups=num_groups,
    )


def interval_of_lost(
    lost: ArrayLike, groups: Groups | None, *, sureness: float = 0.95
) -> tuple[float, float]:
    """The two-sided interval of a mean loss, by the tests that choose a threshold.

    Args:
        lost: ``int (N,)``, -1, 0 or 1: the dear answer right less the answer given right.
        groups: as of ``choose_threshold``.
    """
    each = np.asarray(lost, np.int64)
    if not len(each):
        raise UserError("there are no videos to judge")
    _, p_value = _test_of(groups, len(each))
    return _interval(each, p_value, (1 - sureness) / 2)


def _test_of(groups: Groups | None, count: int) -> tuple[int, PValue]:
    """How many recordings there are, and the test: exact where each has one video."""
    codes = group_codes(groups, count)
    num_groups = len(np.unique(codes))
    return num_groups, _p_of_videos if num_groups == count else _p_of_recordings(codes)


def _walk(sure: _Floats, loss: _Integers, passes: Callable[[_Integers], bool]) -> float | None:
    """The lowest confidence such that the test passes there and at every higher one."""
    order = np.argsort(-sure, kind="stable")
    lasts = np.flatnonzero(np.diff(sure[order], append=-1.0))  # Of equal confidences all or none.
    lost = np.zeros_like(loss)
    lowest: float | None = None
    begin = 0
    for last in lasts:
        here = order[begin : last + 1]
        lost[here] = loss[here]
        # Without a loss or a gain among the new ones the counts are those that have passed.
        if (lowest is None or loss[here].any()) and not passes(lost):
            break
        lowest, begin = float(sure[order[last]]), int(last) + 1
    return lowest


def _between(sure: _Floats, kept: float) -> float:
    """A threshold midway to the next lower confidence, so that its last digits decide nothing; 0
    where there is none, since the test then was of keeping every answer.
    """
    lower = sure[sure < kept]
    if not len(lower):
        return 0.0
    middle = float((lower.max() + kept) / 2)
    return middle if middle > lower.max() else kept


def _p_of_videos(lost: _Integers, allow: float) -> float:
    """The largest probability of a result like this one, or a better one, where the mean of
    ``lost`` (-1, 0 or 1 each, independent) is ``allow`` or more.
    """
    number = len(lost)
    losses, gains = int((lost > 0).sum()), int((lost < 0).sum())
    if losses - gains >= number * allow:
        return 1.0
    reached = float(_score(np.array(losses), np.array(gains), number, allow))
    # The share of gains: its interval, and those that leave room for as many losses.
    low = special.betaincinv(gains, number - gains + 1, _NUISANCE / 2) if gains else 0.0
    high = special.betaincinv(gains + 1, max(number - gains, 1), 1 - _NUISANCE / 2)
    high = min(high, (1 - allow) / 2)
    low = min(max(low, -allow), high)
    shares = np.linspace(np.sqrt(low), np.sqrt(high), _NUISANCE_STEPS) ** 2
    # The gains that are not summed are less likely than _TAILS on either side (Bernstein).
    nats = np.log(1 / _TAILS)
    reach = nats / 3 + np.sqrt(nats**2 / 9 + 2 * nats * number * shares * (1 - shares))
    first, last = (number * shares - reach).min(), (number * shares + reach).max()
    others = np.arange(max(0, int(first)), min(number, int(last) + 1) + 1)
    most = np.minimum(_most_losses(others, number, allow, reached), number - others)  # (G,)
    rest = np.clip((shares + allow) / (1 - shares), 0, 1)[:, None]
    within = np.where(most >= 0, special.bdtr(np.maximum(most, 0), number - others, rest), 0.0)
    found = (_binomial(others, number, shares[:, None]) * within).sum(axis=1)
    return float(min(1.0, found.max() + _NUISANCE + 2 * _TAILS))


def _binomial(count: _Integers, number: int, share: _Floats) -> _Floats:
    """Probability of ``count`` among ``number``."""
    ways = special.gammaln(number + 1) - special.gammaln(count + 1)
    ways -= special.gammaln(number - count + 1)
    log_p = special.xlogy(count, share) + special.xlog1py(number - count, -share)
    return np.asarray(np.exp(ways + log_p))


def _most_losses(gains: _Integers, number: int, allow: float, reached: float) -> _Integers:
    """For each number of gains the most losses whose score is ``reached`` or lower; -1: none.

    More gains allow no fewer losses: so the probability is largest where the mean is ``allow``.
    """
    low, high = np.full_like(gains, -1), number - gains
    while (low < high).any():
        middle = (low + high + 1) // 2
        fits = _score(middle, gains, number, allow) <= reached + 1e-9
        low, high = np.where(fits, middle, low), np.where(fits, high, middle - 1)
    return np.maximum.accumulate(low)


def _score(losses: _Integers, gains: _Integers, number: int, allow: float) -> _Floats:
    """Tango's score of a mean loss of ``allow``: how many standard deviations it is above."""
    a = 2.0 * number
    b = (2 * number - losses + gains) * allow - losses - gains
    c = -gains * allow * (1 - allow)
    share = (np.sqrt(np.maximum(b * b - 4 * a * c, 0)) - b) / (2 * a)
    variance = number * (2 * share + allow * (1 - allow))
    return np.asarray((losses - gains - number * allow) / np.sqrt(np.maximum(variance, 1e-12)))


def _p_of_recordings(codes: _Integers) -> PValue:
    """The p-value of videos that are alike within a recording: recordings are independent.

    A bet that pays ``1 - stake * (loss - allow)`` for each recording, in sums over its videos, has
    a mean of one at the most if the mean loss is ``allow`` or more, whatever the stake; so does a
    mixture of stakes, and it is above ``1 / p`` with a probability of ``p`` at the most.
    """
    sizes = np.bincount(codes)

    def p_value(lost: _Integers, allow: float) -> float:
        sums = np.bincount(codes, weights=lost) - allow * sizes  # (R,)
        stakes = _STAKES / (sizes.max() * (1 - allow))
        with np.errstate(divide="ignore"):  # All of a recording lost: the largest stake is gone.
            won = np.log(np.maximum(1 - stakes[:, None] * sums, 0)).sum(axis=1)
        capital = float(_STAKE_WEIGHTS @ np.exp(np.minimum(won, 700.0)))
        return min(1.0, 1 / capital) if capital > 0 else 1.0

    return p_value


def _interval(lost: _Integers, p_value: PValue, tail: float) -> tuple[float, float]:
    """The means of ``lost`` that the test does not exclude from either side."""
    mean = float(lost.mean())
    return -_highest(-lost, p_value, tail, -mean), _highest(lost, p_value, tail, mean)


def _highest(lost: _Integers, p_value: PValue, tail: float, mean: float) -> float:
    low, high = mean, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        if p_value(lost, middle) <= tail:
            high = middle
        else:
            low = middle
    return high
