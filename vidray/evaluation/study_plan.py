"""Units of a study: which model learns from which videos and is judged on which others.

All models share the videos, recordings, folds and the test set, so that what differs is the model.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray import storage
from vidray.errors import UserError
from vidray.learning import recordings
from vidray.learning.examples import Examples
from vidray.learning.recordings import Demand
from vidray.learning.train_config import FoldSettings
from vidray.models import names
from vidray.models.arrays import RowNumbers
from vidray.models.folds import fewest_groups, group_folds
from vidray.sources import splits

Purpose = Literal["test", "cross-validation", "learning-curve"]

# Extra trees over the metadata alone: see ``matrices.metadata_matrix``.
METADATA = "metadata"
BASELINES = (names.MAJORITY, METADATA)
_CALIBRATED = (*names.CLASSICAL, METADATA)
_COLUMNS = ("video_id", "uri", "fingerprint", "label", "split", "group")


@dataclass(frozen=True, kw_only=True, eq=False)
class Unit:
    """One model to train and judge. Videos are rows of the table they were planned for.

    Attributes:
        seed: of folds and model; the same for all models.
        train: ``int64 (N,)``, what is learnt from.
        val: what a deep model picks its best epoch by; classical ones leave it alone.
        judged: what it gives probabilities for; no recording of it is in ``train`` or ``val``.
        folds, repeat, fold: of a cross-validation.
        fraction: of a learning curve.
        folder: of a finished model, which is judged and not trained.
        digest: ``name_and_digest`` of it.
        family: ``classical`` or ``deep``, of it.
    """

    model: str
    purpose: Purpose
    seed: int
    train: RowNumbers
    val: RowNumbers
    judged: RowNumbers
    folds: int | None = None
    repeat: int | None = None
    fold: int | None = None
    fraction: float | None = None
    folder: str | None = None
    digest: str | None = None
    family: str | None = None

    @property
    def takes(self) -> Literal["features", "clips"] | None:
        """The run that it is given; None for a baseline."""
        if self.model in BASELINES and self.folder is None:
            return None
        is_deep = self.family == "deep" if self.folder else names.is_deep(self.model)
        return "clips" if is_deep else "features"

    @property
    def name(self) -> str:
        """The name, also of its file, such as ``svm.cross-validation.5-folds.repeat-0.fold-2``."""
        parts = [self.model, self.purpose]
        if self.purpose == "cross-validation":
            parts += [f"{self.folds}-folds", f"repeat-{self.repeat}", f"fold-{self.fold}"]
        if self.purpose == "learning-curve":
            parts += [repr(self.fraction)]
        return ".".join(parts)


def common_videos(sources: Sequence[Examples]) -> Examples:
    """The videos that every source has, one row each, sorted by id.

    Raises:
        UserError: no video is common, sources contradict each other, or a recording is in two
            splits.
    """
    tables = [source.table.select(list(_COLUMNS)) for source in sources]
    rows_by_id = [{row["video_id"]: row for row in table.to_pylist()} for table in tables]
    giving = next((k for k, source in enumerate(sources) if source.gives_splits), None)
    if giving is not None:
        for source, rows in zip(sources, rows_by_id, strict=True):
            if not source.gives_splits:  # It says nothing of them: the other's count.
                for video in rows.keys() & rows_by_id[giving].keys():
                    rows[video]["split"] = rows_by_id[giving][video]["split"]
    first, *others = rows_by_id
    shared = sorted(set(first).intersection(*others))
    if not shared:
        raise UserError(
            "features and clips have no video in common: make both from the same --videos"
        )
    for other in others:
        for video in shared:
            _refuse_difference(first[video], other[video])
    table = pa.Table.from_pylist(
        [first[video] for video in shared], pa.schema([(name, pa.string()) for name in _COLUMNS])
    )
    splits.check_splits(table)
    return Examples(
        table=table,
        families=(),
        settings={},
        source=sources[0].source,
        listed=sources[0].listed,
    )


def _refuse_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    for name, value in one.items():
        if other[name] != value:
            raise UserError(
                f"{storage.without_secrets(one['uri'])}: {name} is {value} in the features and "
                f"{other[name]} in the clips: make both from the same --videos"
            )


def subset(
    labels: NDArray[np.int64], groups: Sequence[str | None], *, fraction: float, seed: int
) -> RowNumbers:
    """A part of the videos: no group is split, classes keep their shares, each has a group.

    Groups are put into one seeded order in which the next is always of the class that has the
    smallest share so far; a subset is the beginning of that order whose number of videos is the
    nearest to the fraction. So a smaller subset is contained in a larger one.

    Args:
        labels: ``int (N,)``.
        groups: N names; a video without one is a group of its own.
        fraction: above 0, up to 1.
        seed: of the order.

    Returns:
        ``int64 (M,)``, sorted.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"fraction is {fraction}: it must be above 0 and 1 at the most")
    keys = [(0, row) if name is None else (1, name) for row, name in enumerate(groups)]
    members: dict[tuple[int, str | int], list[int]] = {}
    for row, key in enumerate(keys):
        members.setdefault(key, []).append(row)
    classes, codes = np.unique(labels, return_inverse=True)
    counts = np.array([np.bincount(codes[m], minlength=len(classes)) for m in members.values()])
    order, first_whole = _order(counts, seed)
    sizes = counts.sum(axis=1)[order].cumsum()
    # Of the beginnings in which every class is: the nearest, of two the smaller.
    off = np.abs(sizes[first_whole:] - fraction * len(labels))
    taken = order[: first_whole + int(off.argmin()) + 1]
    of_group = list(members.values())
    return np.sort(np.concatenate([np.array(of_group[group], np.int64) for group in taken]))


def _order(counts: NDArray[np.int64], seed: int) -> tuple[RowNumbers, int]:
    """Groups (rows of ``counts``, a column a class) in order, and where the last class comes in."""
    shuffled = np.random.default_rng(seed).permutation(len(counts))
    # A queue for each class; a group of several classes is in several, and taken once.
    queues = [iter(shuffled[counts[shuffled, k] > 0].tolist()) for k in range(counts.shape[1])]
    have, total = np.zeros(counts.shape[1], np.int64), counts.sum(axis=0)
    order: list[int] = []
    taken: set[int] = set()
    first_whole = -1
    while len(order) < len(counts):
        neediest = int((have / total).argmin())
        group = next(group for group in queues[neediest] if group not in taken)
        taken.add(group)
        order.append(group)
        have += counts[group]
        if first_whole < 0 and have.all():
            first_whole = len(order) - 1
    return np.array(order, np.int64), first_whole


def plan(
    videos: Examples,
    models: Sequence[str],
    *,
    folds: FoldSettings,
    fractions: Sequence[float],
    seed: int,
    calibrated: bool = True,
) -> list[Unit]:
    """All units, the most useful ones first.

    Args:
        videos: what ``common_videos`` returned.
        models: names, baselines among them; those have no learning curve.
        folds: of the cross-validation over all videos, repeat r with ``seed + r``.
        fractions: of split train, for the learning curve; 1.0 is the unit of the test.
        seed: 0 or more.
        calibrated: whether classical models are, on recordings left out.

    Raises:
        UserError: a split or a class has too little for what is asked for.
    """
    class_names = videos.class_names
    y, groups = videos.targets(class_names), videos.groups
    split = np.array(videos.table["split"].to_pylist(), object)
    train, val, test = (np.flatnonzero(split == s) for s in ("train", "val", "test"))
    if not len(test):
        raise UserError(
            f"no labelled video is in split test: {videos.other_fractions()}or add recordings"
        )
    demand = Demand(
        folds=folds.folds,
        repeats=folds.repeats,
        calibrated=calibrated and any(name in _CALIBRATED for name in models),
        seed=seed,
        left_out=videos.selection.without_classes,
    )
    recordings.check(y, groups, class_names, demand, of="all labelled videos")
    own_groups = [groups[row] for row in train]
    alone = dataclasses.replace(demand, folds=0)
    recordings.check(y[train], own_groups, class_names, alone)
    units = [
        Unit(model=model, purpose="test", seed=seed, train=train, val=val, judged=test)
        for model in models
    ]
    for repeat in range(folds.repeats if folds.folds else 0):
        units += _fold_units(y, groups, class_names, models, folds, repeat, seed=seed + repeat)
    for fraction in sorted(set(fractions) - {1.0}):
        part = train[subset(y[train], own_groups, fraction=fraction, seed=seed)]
        units += [
            Unit(
                model=model, purpose="learning-curve", seed=seed, train=part, val=val, judged=test,
                fraction=fraction,
            )
            for model in models
            if model not in BASELINES
        ]  # fmt: skip
    if demand.calibrated:
        _check_parts(units, y, groups, class_names, demand.left_out)
    return units


def _fold_units(
    y: NDArray[np.int64],
    groups: Sequence[str | None],
    class_names: Sequence[str],
    models: Sequence[str],
    folds: FoldSettings,
    repeat: int,
    *,
    seed: int,
) -> list[Unit]:
    found = group_folds(y, groups, folds=folds.folds, seed=seed, class_names=class_names)
    return [
        Unit(
            model=model,
            purpose="cross-validation",
            seed=seed,
            train=learnt,
            val=np.empty(0, np.int64),
            judged=judged,
            folds=folds.folds,
            repeat=repeat,
            fold=fold,
        )
        for model in models
        for fold, (learnt, judged) in enumerate(found)
    ]


def _check_parts(
    units: Sequence[Unit],
    y: NDArray[np.int64],
    groups: Sequence[str | None],
    class_names: Sequence[str],
    left_out: Sequence[str],
) -> None:
    """Check that parts of split train can be calibrated too: now, not after hours."""
    for unit in units:
        if unit.purpose != "learning-curve" or unit.model not in _CALIBRATED:
            continue
        own = [groups[row] for row in unit.train]
        number, name = fewest_groups(y[unit.train], own, class_names)
        if number < 2:
            raise UserError(
                f"{unit.name} would learn class {name!r} from {number} recordings, and "
                "classical models need 2: use larger --fractions, --no-calibrated, "
                f"--without-classes {shlex.join([*left_out, name])}, or add recordings"
            )
