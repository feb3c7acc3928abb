"""Cross-validation of a classical model: each video judged by fits without its recording."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from vidray.errors import UserError
from vidray.models.arrays import Labels, Matrix
from vidray.models.classical import Options, checked_rows, fit, predict
from vidray.models.folds import Groups, group_folds
from vidray.models.names import MOST_REPEATS


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """Every row predicted by models that saw no row of its group, ``R`` times over.

    Args:
        class_names: K names, in the order of the columns of ``probabilities``.
        probabilities: ``float64 (R, N, K)``, out of fold.
        fold_of_row: ``int64 (R, N)``, the fold in which a row was left out.
        metrics: one dict per repeat and fold: repeat, fold, rows, accuracy, macro_f1, log_loss,
            macro_auc (None where the fold lacks a class).
    """

    class_names: tuple[str, ...]
    probabilities: NDArray[np.float64]
    fold_of_row: NDArray[np.int64]
    metrics: list[dict[str, Any]]

    def __post_init__(self) -> None:
        if self.probabilities.shape != (*self.fold_of_row.shape, len(self.class_names)):
            raise ValueError(
                f"probabilities {self.probabilities.shape} are not (R, N, K) of fold_of_row "
                f"{self.fold_of_row.shape} and {len(self.class_names)} classes"
            )

    def __repr__(self) -> str:
        repeats, rows, classes = self.probabilities.shape
        return f"CrossValidation({repeats} repeats, {rows} rows, {classes} classes)"

    def mean_metrics(self, labels: Labels) -> dict[str, float | None]:
        """accuracy, macro_f1, log_loss and macro_auc of all rows, averaged over the repeats."""
        every = [_fold_metrics(labels, repeat) for repeat in self.probabilities]
        names = [name for name in every[0] if name != "rows"]
        return {
            name: None if every[0][name] is None else float(np.mean([one[name] for one in every]))
            for name in names
        }


def cross_validate(
    name: str,
    x: Matrix | Labels,
    y: ArrayLike,
    groups: Groups | None,
    class_names: Sequence[str],
    *,
    seed: int,
    folds: int = 5,
    repeats: int = 3,
    n_jobs: int = 1,
    **options: Unpack[Options],
) -> CrossValidation:
    """Repeated stratified cross-validation that never splits a group.

    Args:
        seed: repeat r draws its folds and its models with ``seed + r``.
        folds: models per repeat.
        repeats: times that every row is predicted, each time with other folds.
        n_jobs: folds at once, in threads; the result is the same to the last bit.
        options: those of ``make_pipeline``, and ``calibrated``; all else as in ``fit``. With
            ``prepared``, ``x`` is its row numbers.

    Raises:
        UserError: a class has fewer groups than folds, or a wrong argument.
    """
    matrix, labels = checked_rows(x, y, class_names)
    if not 1 <= repeats <= MOST_REPEATS:
        raise UserError(f"repeats is {repeats}: 1 or more, and {MOST_REPEATS} at the most")
    tasks = [
        (repeat, fold, *split)
        for repeat in range(repeats)
        for fold, split in enumerate(
            group_folds(labels, groups, folds=folds, seed=seed + repeat, class_names=class_names)
        )
    ]

    def predict_fold(task: tuple[int, int, Labels, Labels]) -> NDArray[np.float64]:
        repeat, _, train, test = task
        kept = None if groups is None else [groups[row] for row in train]
        model = fit(
            name, matrix[train], labels[train], kept, class_names, seed=seed + repeat, **options
        )
        return predict(model, matrix[test])

    with ThreadPoolExecutor(n_jobs) as pool:
        predicted = list(pool.map(predict_fold, tasks))
    probabilities = np.empty((repeats, len(labels), len(class_names)))
    fold_of_row = np.empty((repeats, len(labels)), np.int64)
    metrics = []
    for (repeat, fold, _, test), found in zip(tasks, predicted, strict=True):
        probabilities[repeat, test] = found
        fold_of_row[repeat, test] = fold
        metrics.append({"repeat": repeat, "fold": fold, **_fold_metrics(labels[test], found)})
    return CrossValidation(
        class_names=tuple(class_names),
        probabilities=probabilities,
        fold_of_row=fold_of_row,
        metrics=metrics,
    )


def _fold_metrics(labels: Labels, probabilities: NDArray[np.float64]) -> dict[str, Any]:
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    return {
        "rows": len(labels),
        "accuracy": float((predicted == labels).mean()),
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        "log_loss": float(log_loss(labels, probabilities, labels=classes)),
        "macro_auc": _macro_auc(labels, probabilities),
    }


def _macro_auc(labels: Labels, probabilities: NDArray[np.float64]) -> float | None:
    """AUC of each class against the rest, averaged over classes."""
    if len(np.unique(labels)) < probabilities.shape[1]:
        return None
    areas = [roc_auc_score(labels == k, column) for k, column in enumerate(probabilities.T)]
    return float(np.mean(areas))
