"""Folds that never split a recording, and what the recordings allow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vidray.errors import UserError
from vidray.models.arrays import Labels

Groups = Sequence[str | None]
Split = tuple[NDArray[np.int64], NDArray[np.int64]]
_CALIBRATION_FOLDS = 5


def group_folds(
    y: ArrayLike, groups: Groups | None, *, folds: int, seed: int, class_names: Sequence[str]
) -> list[Split]:
    """Stratified folds that keep each group whole; a row without a group is a group of its own.

    Args:
        y: ``int (N,)``, indices into ``class_names``.
        groups: N names or None; None for all is no groups at all.
        folds: 2 or more.

    Returns:
        (train rows, test rows) per fold; the test rows of all folds are every row once.

    Raises:
        UserError: a class has fewer groups than folds, or would be missing from a fold's training.
    """
    labels = np.asarray(y, np.int64)
    codes = group_codes(groups, len(labels))
    if folds < 2:
        raise UserError(f"folds is {folds}: 2 or more")
    for index, group_count in enumerate(_groups_per_class(labels, codes, len(class_names))):
        if group_count < folds:
            raise UserError(
                f"class {class_names[index]!r} has {group_count} groups (source recordings), "
                f"{folds} folds need one each: use fewer folds or add recordings"
            )
    # It takes seconds to import, and counting recordings does without.
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    splits = [
        (train.astype(np.int64), test.astype(np.int64))
        for train, test in splitter.split(labels, labels, codes)
        if len(test)
    ]
    for train, _ in splits:
        absent = np.setdiff1d(np.arange(len(class_names)), labels[train])
        if len(absent):
            raise UserError(
                f"{folds} folds leave a model without class {class_names[absent[0]]!r}, whose "
                "rows are in too few groups: use other folds, another seed or more recordings"
            )
    return splits


def fewest_groups(y: Labels, groups: Groups | None, class_names: Sequence[str]) -> tuple[int, str]:
    """The smallest number of groups that a class has, and that class."""
    counts = groups_per_class(y, groups, len(class_names))
    return min(zip(counts, class_names, strict=True))


def groups_per_class(y: Labels, groups: Groups | None, classes: int) -> list[int]:
    """Number of groups of each class; a row without a group is a group of its own."""
    return _groups_per_class(y, group_codes(groups, len(y)), classes)


def calibration_folds(
    y: Labels, groups: Groups | None, class_names: Sequence[str], *, seed: int
) -> list[Split]:
    """The ``group_folds`` that ``fit`` calibrates by: at most five, and one for each group."""
    smallest, _ = fewest_groups(y, groups, class_names)
    folds = max(2, min(_CALIBRATION_FOLDS, smallest))
    return group_folds(y, groups, folds=folds, seed=seed, class_names=class_names)


def group_codes(groups: Groups | None, count: int) -> NDArray[np.int64]:
    """``int64 (N,)``: equal where the group is the same."""
    names: Groups = [None] * count if groups is None else groups
    if len(names) != count:
        raise UserError(f"{len(names)} groups for {count} rows: give one each, None where unknown")
    codes: dict[str | int, int] = {}
    return np.array(
        [codes.setdefault(name or row, len(codes)) for row, name in enumerate(names)], np.int64
    )


def _groups_per_class(labels: Labels, codes: NDArray[np.int64], classes: int) -> list[int]:
    return [len(np.unique(codes[labels == index])) for index in range(classes)]
