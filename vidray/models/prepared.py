"""Imputed, scaled and reduced rows, computed once for all models that begin with the same steps.

A search fits hundreds of classifiers to the same few folds, and what comes before the classifier
(a PCA of 163,828 numbers takes a second) depends on the fold and its own settings alone. So a model
that is searched for is one of row numbers, and its first step looks its rows up:

    row numbers -> PreparedRows -> rows as its steps, fitted to the rows of ``fit``, make them
                       │ Prepared: a file for each (steps, rows fitted to), read by every process
                       └─> classifier
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline

from vidray.models.arrays import Matrix, RowNumbers
from vidray.tables import digests


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A table's rows, and a folder of this machine for what is made of them.

    Args:
        name: of the table: another one, another name.
        x: ``float32 (N, D)``, NaN where unknown.
        y: ``int64 (N,)``, for steps that look at labels.
        folder: for files of arrays; whoever makes it removes it.
    """

    name: str
    x: Matrix
    y: NDArray[np.int64]
    folder: Path

    def __deepcopy__(self, memo: object) -> Prepared:
        """scikit-learn copies what an estimator is given: not a gigabyte for each fold."""
        return self

    @property
    def row_numbers(self) -> NDArray[np.int64]:
        """``int64 (N, 1)``: what a model of prepared rows is fitted to."""
        return np.arange(len(self.x))[:, None]

    def rows(self, steps: Pipeline, name: str, fitted_to: RowNumbers) -> Matrix:
        """All rows ``float32 (N, C)``, as ``steps``, fitted to some of them, make them.

        Args:
            name: of the steps and their settings.
            fitted_to: ``int64 (M,)``.
        """
        digest = digests.of([self.name, name, fitted_to.tolist()])
        path = self.folder / f"{digest}.npy"
        self.folder.mkdir(parents=True, exist_ok=True)
        # One process computes, the others wait; a lock ends with its process.
        with open(self.folder / f"{digest}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                unfinished = path.with_suffix(f".{os.getpid()}.npy")
                np.save(unfinished, self.compute(steps, fitted_to))
                unfinished.replace(path)
        return cast(Matrix, np.load(path, mmap_mode="r"))

    def compute(self, steps: Pipeline, fitted_to: RowNumbers) -> Matrix:
        """The same, not kept."""
        steps.fit(self.x[fitted_to], self.y[fitted_to])
        return np.asarray(steps.transform(self.x))


class PreparedRows(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The first step of a model of row numbers.

    Args:
        steps: unfitted, from rows to what the next step takes.
        prepared: the rows.
        name: of ``steps`` and their settings.
        is_kept: whether the result is worth a file: where it is much smaller than the rows.
    """

    def __init__(self, steps: Pipeline, prepared: Prepared, name: str, is_kept: bool) -> None:
        self.steps, self.prepared, self.name, self.is_kept = steps, prepared, name, is_kept

    def fit(self, x: NDArray[np.int64], y: Any = None) -> PreparedRows:  # noqa: ARG002
        """Fit the steps to rows ``x``, ``int (M, 1)``."""
        fitted_to = np.asarray(x[:, 0], np.int64)
        if self.is_kept:
            self.rows_ = self.prepared.rows(self.steps, self.name, fitted_to)
        else:
            self.rows_ = self.prepared.compute(self.steps, fitted_to)
        self.n_features_in_ = 1
        return self

    def transform(self, x: NDArray[np.int64]) -> Matrix:
        """Row numbers ``int (M, 1)`` -> ``float32 (M, C)``."""
        return np.asarray(self.rows_[x[:, 0]])
