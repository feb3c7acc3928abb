"""What is said of models that were judged on the same videos; each sentence from its figures.

A rule takes the facts and gives a sentence where its condition holds, and none where it does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from vidray.evaluation.intervals import Integers
from vidray.evaluation.pairs import SIGNIFICANT, PairedDifference, differences, holm
from vidray.report.formats import listing, plural, seconds, size
from vidray.report.judged import paired
from vidray.report.judged.comparable import ComparedModels, kind_of
from vidray.report.judged.compare_baselines import BaselineResult
from vidray.report.judged.compare_figures import interval_of
from vidray.report.judged.compare_pairs import PairedModels, p_in_words, witnesses
from vidray.report.judged.paired import Bools
from vidray.report.runs import JudgedModel
from vidray.report.verdict.by_quality import ByQuality
from vidray.report.verdict.damage_trials import GroupTrial

# A gain that somebody would change the model for.
_FASTER, _SMALLER = 2.0, 5.0
# Of accuracy: a larger loss is named first, even where it is not proven.
_SMALL_LOSS = 0.1
# Half of what separates a well calibrated model (0.05) from one that is not (0.15).
_ECE_GAIN = 0.05
# Videos of a class below which its recall says little: one more right moves it by over 0.2.
FEW_VIDEOS = 5
# A true difference shows in 8 of 10 cases at 5 %: 1.96 + 0.84 standard errors.
_DEVIATIONS = 2.80


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """One sentence, and where it stands.

    Attributes:
        rank: the lower, the more important.
        is_limit: it says what to beware of; else what is good, or to choose.
        is_compared: another chapter says it on the first screen.
    """

    rank: int
    text: str
    is_limit: bool
    is_compared: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupFacts:
    """The figures of one group of models.

    Attributes:
        pairs: each pair of models compared, those with the best first.
        baselines: what needs no picture.
        by_quality: run of an evaluation -> accuracy by thirds of quality.
        quality_values: column -> video -> its value.
        damage: the models on videos that were damaged on purpose, if that was measured.
        seed: of bootstraps.
    """

    group: ComparedModels
    pairs: Sequence[PairedModels] = ()
    baselines: Sequence[BaselineResult] = ()
    by_quality: Mapping[str, Sequence[ByQuality]] = field(default_factory=dict)
    quality_values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    damage: GroupTrial | None = None
    seed: int = 0

    @property
    def best(self) -> JudgedModel:
        """The most accurate model."""
        return self.group.best

    @cached_property
    def with_best(self) -> Sequence[PairedModels]:
        """The best model against each other one, the next best first."""
        return [pair for pair in self.pairs if pair.first is self.best]

    def name(self, member: JudgedModel) -> str:
        """The model's name on the page."""
        return self.group.label(member)

    def cost(self, member: JudgedModel, key: str) -> float | None:
        """A measured cost above 0."""
        found = member.cost.get(key)
        return found if found and found > 0 else None


def best_model(facts: GroupFacts) -> Iterator[Sentence]:
    """Which model is best, by how much against the next, and whether that is real."""
    best, group = facts.best, facts.group
    right = int(group.rights(best).sum())
    accuracy = best.metrics["accuracy"]
    text = (
        f"{facts.name(best)} is right on {right} of {witnesses(group)} ({accuracy:.3f}"
        f"{_between(interval_of(best.metrics, 'accuracy'))})"
    )
    if not facts.with_best:
        yield Sentence(rank=0, text=f"{text}. No other model was judged on them.", is_limit=False)
        return
    pair = facts.with_best[0]
    verdict = _verdict(pair.accuracy)
    number = len(group.members)
    yield Sentence(
        rank=0,
        text=(
            f"{text}, the most of {number} models, and on {_videos(abs(_more(pair)))} more than "
            f"the next one, {facts.name(pair.second)} ({pair.second.metrics['accuracy']:.3f}): "
            f"{verdict}."
        ),
        is_limit=False,
    )


def _more(pair: PairedModels) -> int:
    return pair.only_first - pair.only_second


def _verdict(found: PairedDifference) -> str:
    p = p_in_words(found.corrected)
    if found.is_real:
        return f"more than chance explains ({p})"
    return f"no more than chance may give ({p})"


def really_worse(facts: GroupFacts) -> Iterator[Sentence]:
    """The models that are worse than the best beyond chance."""
    worse = [pair for pair in facts.with_best if pair.accuracy.is_real]
    if worse:
        names = [f"{facts.name(one.second)} (by {one.accuracy.value:.3f})" for one in worse]
        others = len(facts.with_best)
        yield Sentence(
            rank=10,
            text=(
                f"{facts.name(facts.best)} is really more accurate than {len(worse)} of the "
                f"{others} others: {listing(names)}."
            ),
            is_limit=False,
        )


def not_told_apart(facts: GroupFacts) -> Iterator[Sentence]:
    """The models whose order means nothing, and how many recordings would order them."""
    open_ = [pair for pair in facts.with_best if not pair.accuracy.is_real]
    if not open_:
        return
    names = [facts.name(one.second) for one in open_]
    text = (
        f"The order of {facts.name(facts.best)} and {listing(names)} means nothing yet: on "
        f"{witnesses(facts.group)}, chance alone may have made it"
    )
    number = facts.group.num_recordings
    needed = needed_recordings(
        facts.group.rights(facts.best), facts.group.rights(open_[0].second), facts.group.group_of
    )
    if needed is not None and needed > number:
        text += (
            f". If {facts.name(facts.best)} really is better than {names[0]} by "
            f"{open_[0].accuracy.value:.3f}, about {_rounded(needed):,} recordings would show it; "
            f"these are {number:,}"
        )
    yield Sentence(rank=20, text=f"{text}.", is_limit=True, is_compared=True)


def needed_recordings(first: Bools, second: Bools, group_of: Integers) -> int | None:
    """Recordings like these that show such a difference in 8 of 10 cases; None without one."""
    apart = np.bincount(group_of, weights=first.astype(np.float64) - second)  # (G,)
    if not apart.sum():
        return None
    return int(np.ceil((_DEVIATIONS * apart.std() / apart.mean()) ** 2))


def _rounded(number: int) -> int:
    """A number of which no more than two digits are known."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // step) * step


def faster(facts: GroupFacts) -> Iterator[Sentence]:
    """A model that takes much less time a video, file to label, and what that costs."""
    key = "end_to_end_seconds_per_video"
    if found := _cheapest(facts, key, _FASTER):
        pair, ratio = found
        mine, other = facts.best.cost[key], pair.second.cost[key]
        yield Sentence(
            rank=30,
            text=(
                f"{facts.name(pair.second)} is {_times(ratio)} as fast as "
                f"{facts.name(facts.best)} ({seconds(other)} a video from file to label, against "
                f"{seconds(mine)}), and {_at_the_price(pair)}."
            ),
            is_limit=False,
        )


def smaller(facts: GroupFacts) -> Iterator[Sentence]:
    """A model of a much smaller folder, and what that costs."""
    if found := _cheapest(facts, "size_bytes", _SMALLER):
        pair, ratio = found
        mine, other = (one.cost["size_bytes"] for one in (facts.best, pair.second))
        yield Sentence(
            rank=55,
            text=(
                f"{facts.name(pair.second)} takes {size(other)} where {facts.name(facts.best)} "
                f"takes {size(mine)} ({_times(ratio)} as much), and {_at_the_price(pair)}."
            ),
            is_limit=False,
        )


def _cheapest(facts: GroupFacts, key: str, least_ratio: float) -> tuple[PairedModels, float] | None:
    """The cheapest model of those not shown to be worse; if there is none, of all others."""
    mine = facts.cost(facts.best, key)
    if mine is None:
        return None
    ratios = [
        (pair, mine / cost)
        for pair in facts.with_best
        if (cost := facts.cost(pair.second, key)) is not None and mine / cost >= least_ratio
    ]
    as_good = [
        found
        for found in ratios
        if not found[0].accuracy.is_real and found[0].accuracy.value <= _SMALL_LOSS
    ]
    return max(as_good or ratios, key=lambda found: found[1], default=None)


def _at_the_price(pair: PairedModels) -> str:
    if not pair.accuracy.value:
        return "is as often right"
    by = f"by {abs(pair.accuracy.value):.3f}"
    if pair.accuracy.is_real:
        return f"is really less accurate, {by}"
    if pair.accuracy.value > _SMALL_LOSS:
        return f"was right less often here, {by}, though so few videos do not prove it"
    return f"is not shown to be less accurate (lower {by} here)"


def _times(ratio: float) -> str:
    return f"{ratio:.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def better_calibrated(facts: GroupFacts) -> Iterator[Sentence]:
    """A model whose probabilities are nearer to how often it is right."""
    mine = facts.best.metrics["ece"]
    others = [pair.second for pair in facts.with_best]
    if not others:
        return
    other = min(others, key=lambda one: float(one.metrics["ece"]))
    if mine - other.metrics["ece"] >= _ECE_GAIN:
        yield Sentence(
            rank=60,
            text=(
                f"Where probabilities matter, {facts.name(other)} is the better one: they lie "
                f"{other.metrics['ece']:.3f} from how often it is right (calibration error), those "
                f"of {facts.name(facts.best)} {mine:.3f}."
            ),
            is_limit=False,
        )


def better_on_class(facts: GroupFacts) -> Iterator[Sentence]:
    """Classes that another model finds really more often than the best one."""
    group = facts.group
    truth = np.array(group.truth, object)
    others = [pair.second for pair in facts.with_best]
    tested: list[tuple[str, JudgedModel, PairedDifference]] = []
    for name in group.class_names:
        chosen = truth == name
        if others and chosen.sum() >= FEW_VIDEOS:
            found = _against_best(facts, others, chosen)
            tested += [(name, other, one) for other, one in zip(others, found, strict=True)]
    corrected = holm([one.p for _, _, one in tested])
    gains = [
        (name, other, one, p)
        for (name, other, one), p in zip(tested, corrected, strict=True)
        if one.value > 0 and p <= SIGNIFICANT
    ]
    for name, other, _, p in sorted(gains, key=lambda gain: -gain[2].value)[:2]:
        mine, theirs = (_found(facts, one, name) for one in (facts.best, other))
        yield Sentence(
            rank=40,
            text=(
                f"{facts.name(other)} finds more of class {quoted(name)}: {theirs}; "
                f"{facts.name(facts.best)} {mine} ({p_in_words(p)})."
            ),
            is_limit=False,
        )


def _against_best(
    facts: GroupFacts, others: Sequence[JudgedModel], chosen: Bools
) -> list[PairedDifference]:
    """Each other model less the best one, on some of the videos."""
    rights = np.stack([facts.group.rights(one)[chosen] for one in (*others, facts.best)])
    _, recordings = np.unique(facts.group.group_of[chosen], return_inverse=True)
    pairs = [(k, len(others)) for k in range(len(others))]
    return differences(rights, pairs, recordings, seed=facts.seed)


def _found(facts: GroupFacts, member: JudgedModel, name: str) -> str:
    """How many videos of a class a model finds, with the interval: ``7 of 12 (0.30 to 0.80)``."""
    chosen = np.array(facts.group.truth, object) == name
    right = facts.group.rights(member)
    ends = paired.share_interval(
        right.astype(np.float64), chosen, facts.group.group_of, seed=facts.seed
    )
    between = "" if ends is None else f" ({ends[0]:.2f} to {ends[1]:.2f})"
    return f"{int(right[chosen].sum())} of {int(chosen.sum())}{between}"


def classical_or_deep(facts: GroupFacts) -> Iterator[Sentence]:
    """The best classical model against the best deep one."""
    members = facts.group.members
    first = {kind: [one for one in members if kind_of(one) == kind][:1]
             for kind in ("classical", "deep")}  # fmt: skip
    if not first["classical"] or not first["deep"]:
        return
    ahead, behind = sorted((first["classical"][0], first["deep"][0]), key=members.index)
    found = next((one for one in facts.pairs if one.first is ahead and one.second is behind), None)
    if found is None:
        return
    kind = kind_of(ahead)
    yield Sentence(
        rank=35,
        text=(
            f"The best {kind} model, {facts.name(ahead)} ({ahead.metrics['accuracy']:.3f}), is "
            f"ahead of the best {kind_of(behind)} one, {facts.name(behind)} "
            f"({behind.metrics['accuracy']:.3f}): {_verdict(found.accuracy)}."
        ),
        is_limit=False,
    )


def quoted(name: str) -> str:
    """The name of a class in a sentence."""
    return f"\u201c{name}\u201d"


def _between(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f", 95 % interval {ends[0]:.2f} to {ends[1]:.2f}"


def _videos(number: int) -> str:
    return plural(number, "video")


RULES = (
    best_model, really_worse, not_told_apart, faster, classical_or_deep, better_on_class, smaller,
    better_calibrated,
)  # fmt: skip
