"""A check, before anything is trained, that each class has enough recordings.

A fold of a cross-validation, and a fold of a calibration, leaves whole recordings out. A class of
one recording can be learnt, but neither judged nor calibrated on another one.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidray.errors import UserError
from vidray.models.arrays import Labels
from vidray.models.folds import calibration_folds, fewest_groups, group_folds, groups_per_class


@dataclass(frozen=True, kw_only=True)
class Demand:
    """A job's needs of recordings.

    Args:
        folds: of a cross-validation; 0 is none.
        repeats: times it is done, repeat r with ``seed + r``.
        calibrated: whether classifiers are calibrated, on recordings left out.
        seed: of the folds.
        least_folds: what the job's --folds may be lowered to: 0 leaves the cross-validation out.
        uncalibrated: the flags by which the job does not calibrate; None if it has no such.
        left_out: classes that --without-classes names already.
    """

    folds: int
    repeats: int
    calibrated: bool
    seed: int
    least_folds: int = 0
    uncalibrated: str | None = "--no-calibrated"
    left_out: tuple[str, ...] = ()

    @property
    def fewest(self) -> int:
        """Recordings that a class needs at the least."""
        return max(self.folds, 2 if self.calibrated else 1)


def check(
    y: Labels,
    groups: Sequence[str | None],
    class_names: Sequence[str],
    demand: Demand,
    *,
    of: str = "split train",
) -> None:
    """Raise UserError where a model could not be trained or judged as asked for.

    Args:
        y: ``int64 (N,)``, indices into ``class_names``.
        groups: N recordings; a row without one is a recording of its own.
        of: what these rows are, to be named in the message.

    Raises:
        UserError: names the classes, their recordings, and flags with which the same data will do.
    """
    if (reason := _reason(y, groups, class_names, demand)) is None:
        return
    ways = [*_ways(y, groups, class_names, demand), "add recordings"]
    advice = f"{', '.join(ways[:-1])} or {ways[-1]}" if len(ways) > 1 else ways[0]
    raise UserError(f"in {of}, {reason}: {advice}")


def _reason(
    y: Labels, groups: Sequence[str | None], names: Sequence[str], demand: Demand
) -> str | None:
    counts = dict(zip(names, groups_per_class(y, groups, len(names)), strict=True))
    few = sorted((number, name) for name, number in counts.items() if number < demand.fewest)
    if few:
        (number, name), *others = few
        more = ", ".join(f"{other!r} {count}" for count, other in others[:3])
        also = f" ({len(others)} more classes have too few: {more})" if others else ""
        need = f"{demand.folds} folds need one each" if demand.folds else "calibration needs 2"
        unit = f"group{'s' * (number != 1)} (source recording{'s' * (number != 1)})"
        return f"class {name!r} has {number} {unit}, {need}{also}"
    try:
        for seed, learnt in _learnt(y, groups, names, demand):
            own = [groups[row] for row in learnt]
            number, name = fewest_groups(y[learnt], own, names)
            if demand.calibrated and number < 2:
                return (
                    f"a fold leaves {number} recording of class {name!r} to learn from, of "
                    f"{counts[name]}, and calibration needs 2"
                )
            if demand.calibrated and _is_mixed(y, groups):
                calibration_folds(y[learnt], own, names, seed=seed)
    except UserError as error:
        return str(error).rpartition(": ")[0]
    return None


def _learnt(
    y: Labels, groups: Sequence[str | None], names: Sequence[str], demand: Demand
) -> Iterator[tuple[int, Labels]]:
    """The seed and the rows of each model to train."""
    yield demand.seed, np.arange(len(y))
    for seed in range(demand.seed, demand.seed + (demand.repeats if demand.folds else 0)):
        found = group_folds(y, groups, folds=demand.folds, seed=seed, class_names=names)
        yield from ((seed, learnt) for learnt, _ in found)


def _is_mixed(y: Labels, groups: Sequence[str | None]) -> bool:
    """Whether a recording has videos of several classes, which no rule can always spread."""
    pairs = {(group, label) for group, label in zip(groups, y.tolist(), strict=True) if group}
    return len(pairs) > len({group for group, _ in pairs})


def _ways(
    y: Labels, groups: Sequence[str | None], names: Sequence[str], demand: Demand
) -> list[str]:
    """Flags with which the job would work, tried one by one."""
    ways = []
    fewer = [k for k in range(demand.folds - 1, 1, -1) if k >= demand.least_folds]
    fewer += [0] if demand.folds and not demand.least_folds else []

    def first(**changed: Any) -> int | None:
        for folds in fewer:
            asked = dataclasses.replace(demand, folds=folds, **changed)
            if _reason(y, groups, names, asked) is None:
                return folds
        return None

    folds = first()
    if folds is not None:
        ways.append(f"give --folds {folds}{_meaning(folds)}")
    if demand.calibrated and demand.uncalibrated:
        plain = dataclasses.replace(demand, calibrated=False)
        if _reason(y, groups, names, plain) is None:
            ways.append(f"give {demand.uncalibrated}")
        elif not folds and (other := first(calibrated=False)) not in (None, folds):
            ways.append(f"give {demand.uncalibrated} --folds {other}{_meaning(other)}")
    if few := _few(y, groups, names, demand):
        kept = np.array([names[label] not in few for label in y.tolist()])
        left = [name for name in names if name not in few]
        number = {name: k for k, name in enumerate(left)}
        own = np.array([number[names[label]] for label in y[kept].tolist()], np.int64)
        own_groups = [group for group, is_kept in zip(groups, kept, strict=True) if is_kept]
        if len(left) > 1 and _reason(own, own_groups, left, demand) is None:
            named = shlex.join([*demand.left_out, *few])
            ways.append(f"give --without-classes {named}")
    return ways


def _few(
    y: Labels, groups: Sequence[str | None], names: Sequence[str], demand: Demand
) -> list[str]:
    """The classes with too few recordings, else the one with the fewest."""
    counts = groups_per_class(y, groups, len(names))
    few = [n for n, number in zip(names, counts, strict=True) if number < demand.fewest]
    return few or [min(zip(counts, names, strict=True))[1]]


def _meaning(folds: int | None) -> str:
    return "" if folds else " (no cross-validation)"
