"""Drift: each night against the nights before, and against what its model learnt and was tested on.

Every variable is tested against each of them, and the p-values of one night are corrected together
(Holm), so that a night like all others raises an alarm once in twenty, however much is watched. An
alarm needs a difference that matters, too: of 100,000 videos the smallest one is beyond chance. And
where nights differ from one another as a rule, as weekends do, a night that differs no more than
they do is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from vidray.evaluation import drift
from vidray.evaluation.drift import Codes, Difference, Masks, Vectors
from vidray.evaluation.intervals import Integers
from vidray.evaluation.pairs import holm
from vidray.report.formats import MISSING, cell
from vidray.report.judged.compare_pairs import p_in_words
from vidray.report.nights.rows import NightRows
from vidray.report.nights.watched import TESTED, TRAINING, NightVariable, WatchedNights

# Nights that are looked at, the newest; and nights before each that it is compared with, a month,
# so that what changes with the seasons is no alarm.
MOST_NIGHTS, BEFORE = 30, 30
# What nights differ by as a rule: nine of ten of at least so many nights, by no more.
_RULE, _NIGHTS_OF_RULE = 0.9, 10
BEFORE_NAME, TRAINING_NAME, TESTED_NAME = "nights before", "training data", "test videos"


@dataclass(frozen=True, kw_only=True)
class NightDrift:
    """One variable of one night against one reference.

    Attributes:
        night: its place among the history's nights.
        against: ``BEFORE_NAME``, ``TRAINING_NAME`` or ``TESTED_NAME``.
        nights_before: how many, where it is compared with them.
        variable: what is compared.
        found: how it differs.
        p: the test's, corrected with all others of the night.
        sides: ``bool (M,)``: the videos of the night, and the others.
        usual: the size by which the nights before differed from those before them, as a rule; None
            where they are few.
    """

    night: int
    against: str
    nights_before: int
    variable: NightVariable
    found: Difference
    p: float | None
    sides: tuple[Masks, Masks]
    usual: float | None = None

    @property
    def size(self) -> float:
        """The difference in units of the smallest one that matters; 0 where there is none."""
        effect, least = self.found.effect, self.variable.least
        if effect is None:
            return 0.0
        if isinstance(self.variable.column, Vectors):  # 0.5 is chance.
            effect, least = effect - 0.5, least - 0.5
        return max(0.0, effect / least)

    @property
    def is_alarm(self) -> bool:
        """Whether it is beyond chance, large enough to matter, and more than is usual."""
        return self.is_beyond_chance and self.size >= 1 and not self.is_usual

    @property
    def is_beyond_chance(self) -> bool:
        """Whether its p-value, corrected, is below the level."""
        return self.p is not None and self.p < drift.LEVEL

    @property
    def is_usual(self) -> bool:
        """Whether nights differ so as a rule."""
        return self.usual is not None and self.size <= self.usual

    @property
    def reference(self) -> str:
        """What it is compared with, in words."""
        if self.against != BEFORE_NAME:
            return f"the {self.against}"
        if self.nights_before == 1:
            return "the night before"
        return f"the {self.nights_before} nights before"


def of_nights(found: NightRows, watched: WatchedNights, *, seed: int) -> list[NightDrift]:
    """The differences of the newest nights, the oldest night first."""
    made: list[NightDrift] = []
    sizes: dict[str, list[float]] = {}  # By variable, of the nights before against those before.
    for night in range(max(0, found.count - MOST_NIGHTS), found.count):
        for one in _of_night(watched, night, seed):
            if one.against != BEFORE_NAME:
                made.append(one)
                continue
            known = sizes.setdefault(one.variable.title, [])
            is_rule = len(known) >= _NIGHTS_OF_RULE
            made.append(replace(one, usual=float(np.quantile(known, _RULE)) if is_rule else None))
            known.append(one.size)
    return made


def _of_night(watched: WatchedNights, night: int, seed: int) -> list[NightDrift]:
    made: list[NightDrift] = []
    for against, others, is_chosen in _references(watched, night):
        own = watched.is_new & (watched.night == night)
        if against != BEFORE_NAME:
            own &= ~watched.is_learnt
        variables = [one for one in watched.variables if is_chosen(one)]
        rows = np.flatnonzero(own | others)
        if not own.any() or not others.any() or not variables:
            continue
        columns = [_only(one.column, rows) for one in variables]
        differences = drift.compare(columns, own[rows], watched.recording[rows], seed)
        made += [
            NightDrift(
                night=night,
                against=against,
                nights_before=min(night, BEFORE),
                variable=variable,
                found=difference,
                p=None,
                sides=(own, others),
            )
            for variable, difference in zip(variables, differences, strict=True)
            if difference.effect is not None or difference.p is not None
        ]
    tested = [k for k, one in enumerate(made) if one.found.p is not None]
    for k, p in zip(tested, holm([made[k].found.p or 0.0 for k in tested]), strict=True):
        made[k] = replace(made[k], p=p)
    return made


def _references(
    watched: WatchedNights, night: int
) -> Iterator[tuple[str, Masks, Callable[[NightVariable], bool]]]:
    """Name, videos, and which variables are compared with them."""
    before = (watched.night >= max(0, night - BEFORE)) & (watched.night < night)
    yield BEFORE_NAME, before & watched.is_new, lambda _: True
    yield TRAINING_NAME, watched.night == TRAINING, lambda one: one.against == "training"
    yield TESTED_NAME, watched.night == TESTED, lambda one: one.against == "tested"


def _only(column: Codes | Vectors, rows: Integers) -> Codes | Vectors:
    if isinstance(column, Codes):
        return replace(column, values=column.values[rows])
    return replace(column, row_of=column.row_of[rows])


# In words


def said(one: NightDrift) -> str:
    """``duration: median 12.1 s, 8.0 s in the 29 nights before (KS 0.31, p = 0.001)``."""
    title, p = one.variable.title, "" if one.p is None else f", {p_in_words(one.p)}"
    if isinstance(one.variable.column, Vectors):
        return (
            f"{title}: a video of the night and one of {one.reference} are told apart in "
            f"{difference(one)} (50 is chance{p})"
        )
    first, second = sides_in_words(one)
    return f"{title}: {first}, {second} in {one.reference} ({difference(one)}{p})"


def difference(one: NightDrift) -> str:
    """The size of a difference in the field's words."""
    effect = one.found.effect
    if isinstance(one.variable.column, Vectors):
        return f"{100 * effect:.0f} of 100 pairs" if effect is not None else "not known"
    if one.variable.numbers is not None:
        return f"KS {effect:.2f}"
    return f"{100 * (effect or 0):.1f} % differ"


def sides_in_words(one: NightDrift) -> tuple[str, str]:
    """What the numbers or the names of the night and of the others come to; of vectors nothing."""
    variable = one.variable
    if isinstance(variable.column, Vectors):
        return MISSING, MISSING
    sides = [side & variable.column.is_known for side in one.sides]
    if variable.numbers is None:
        return _shares(variable, sides)
    samples = [variable.numbers[side] for side in sides]
    unit = f" {variable.unit}" if variable.unit else ""
    medians = [cell(float(np.median(some)), "number") for some in samples]
    if medians[0] != medians[1]:
        return f"median {medians[0]}{unit}", f"{medians[1]}{unit}"
    # The middle is the same: where the two are farthest apart.
    steps = np.unique(np.concatenate(samples))
    shares = [np.searchsorted(np.sort(some), steps, "right") / len(some) for some in samples]
    at = int(np.abs(shares[0] - shares[1]).argmax())
    above = [f"{100 * (1 - share[at]):.1f} %" for share in shares]
    return f"{above[0]} above {cell(float(steps[at]), 'number')}{unit}", above[1]


def _shares(variable: NightVariable, sides: Sequence[Masks]) -> tuple[str, str]:
    """The share of the name that differs most."""
    assert isinstance(variable.column, Codes)
    counts = [
        np.bincount(variable.column.values[side], minlength=variable.column.count) for side in sides
    ]
    first, second = (one / max(1, one.sum()) for one in counts)
    most = int(np.abs(first - second).argmax())
    return f"{100 * first[most]:.1f} % {variable.names[most]}", f"{100 * second[most]:.1f} %"


def table(found: NightRows, made: Sequence[NightDrift]) -> pd.DataFrame:
    """A row a comparison, as the CSV holds it."""
    return pd.DataFrame(
        {
            "night": [int(found.numbers[one.night]) for one in made],
            "against": [one.against for one in made],
            "what": [one.variable.title for one in made],
            "videos": [one.found.night for one in made],
            "other_videos": [one.found.others for one in made],
            "effect": [one.found.effect for one in made],
            "size": [one.size for one in made],
            "p": [one.found.p for one in made],
            "p_corrected": [one.p for one in made],
            "is_alarm": [one.is_alarm for one in made],
        }
    )
