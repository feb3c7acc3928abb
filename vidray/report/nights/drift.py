"""Drift: each night against the nights before it, and against what its model learnt and was tested on.

Every variable is tested against each of them, and the p-values of one night are corrected together
(Holm), so that a night like all others raises an alarm once in twenty, however much is watched. An
alarm needs a difference that matters, too: of 100,000 videos the smallest one is beyond chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from vidray.evaluation import drift
from vidray.evaluation.drift import Bools, Codes, Difference, Vectors
from vidray.evaluation.intervals import Integers
from vidray.report.nights.rows import NightRows
from vidray.report.nights.watched import TESTED, TRAINING, NightVariable, Watched

# Nights that are looked at, the newest; and nights before each that it is compared with, a month,
# so that what changes with the seasons is no alarm.
MOST_NIGHTS, BEFORE = 30, 30
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
    """

    night: int
    against: str
    nights_before: int
    variable: NightVariable
    found: Difference
    p: float | None
    sides: tuple[Bools, Bools]

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
        """Whether it is beyond chance, and large enough to matter."""
        return self.p is not None and self.p < drift.LEVEL and self.size >= 1

    @property
    def reference(self) -> str:
        """What it is compared with, in words."""
        if self.against != BEFORE_NAME:
            return f"the {self.against}"
        if self.nights_before == 1:
            return "the night before"
        return f"the {self.nights_before} nights before"


def of_nights(found: NightRows, watched: Watched, *, seed: int) -> list[NightDrift]:
    """The differences of the newest nights, the oldest night first."""
    return [
        one
        for night in range(max(0, found.count - MOST_NIGHTS), found.count)
        for one in _of_night(watched, night, seed)
    ]


def _of_night(watched: Watched, night: int, seed: int) -> list[NightDrift]:
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
            if difference.p is not None
        ]
    corrected = drift.holm([one.found.p for one in made])
    return [replace(one, p=p) for one, p in zip(made, corrected, strict=True)]


def _references(
    watched: Watched, night: int
) -> Iterator[tuple[str, Bools, Callable[[NightVariable], bool]]]:
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
    [side & one.variable.column.is_known for side in one.sides]
    chance = f"p = {one.p:.2g}"
    effect = one.found.effect or 0.0
    column, title = one.variable.column, one.variable.title
    if isinstance(column, Vectors):
        return (
            f"{title}: a video of the night and one of {one.reference} are told apart in "
            f"{100 * effect:.0f} of 100 pairs (50 is chance; {chance})"
        )
    if one.variable.numbers is not None:
        first, second = summary(one)
        return f"{title}: {first}, {second} in {one.reference} (KS {effect:.2f}, {chance})"
    first, second = summary(one)
    return f"{title}: {first}, {second} in {one.reference} (differs by {effect:.1%}, {chance})"


def summary(one: NightDrift) -> tuple[str, str]:
    """What the night and the others come to, in a few words each."""
    variable = one.variable
    sides = [side & variable.column.is_known for side in one.sides]
    if isinstance(variable.column, Vectors):
        return tuple(f"{side.sum():,} videos" for side in sides)
    if variable.numbers is None:
        return _shares(variable, sides)
    values = [variable.numbers[side] for side in sides]
    unit = f" {variable.unit}" if variable.unit else ""
    medians = [f"{np.median(some):,.3g}" for some in values]
    if medians[0] != medians[1]:
        return f"median {medians[0]}{unit}", f"{medians[1]}{unit}"
    # The middle is the same: where the two are farthest apart.
    steps = np.unique(np.concatenate(values))
    shares = [np.searchsorted(np.sort(some), steps, "right") / len(some) for some in values]
    at = int(np.abs(shares[0] - shares[1]).argmax())
    above = [f"{1 - share[at]:.1%}" for share in shares]
    return f"{above[0]} above {steps[at]:,.3g}{unit}", above[1]


def _shares(variable: NightVariable, sides: Sequence[Bools]) -> tuple[str, str]:
    """The share of the name that differs most."""
    assert isinstance(variable.column, Codes)
    counts = [
        np.bincount(variable.column.values[side], minlength=variable.column.count) for side in sides
    ]
    first, second = (one / max(1, one.sum()) for one in counts)
    most = int(np.abs(first - second).argmax())
    return f"{first[most]:.1%} {variable.names[most]}", f"{second[most]:.1%}"


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
