"""The notebooks' grids by tune/search.py against their nested loops: same folds, fits and scores.

    python jobs/extract.py --videos DIR --preset notebook --out runs/notebook_features
    python bench/search.py --features runs/notebook_features

Their way is GridSearchCV, one model after another in one process: 54 fits of SVMs, 36 of forests,
72 of nearest neighbours, each with its own imputation, scaling and PCA. Both sides have the same
folds over whole recordings and the same PCA (by the Gram matrix; scikit-learn's own takes 15 times
as long on such rows, which is listed separately and not counted). vidray's time is that of the
whole command, Ray's start, the winner's model folder and its evaluation included. Some minutes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import tyro
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV

from tune.spaces import NOTEBOOK
from vidray.learning.examples import read_features
from vidray.models import classical
from vidray.models.folds import group_folds

_ROOT = Path(__file__).resolve().parents[1]
_FOLDS = 3


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Search both ways."""

    features: str
    """Finished run of jobs/extract.py with splits."""
    models: tuple[str, ...] = tuple(NOTEBOOK)
    """Models to search, of svm, random_forest and knn."""


def main(bench: Bench) -> None:
    """Run both, compare scores and seconds."""
    train = read_features(bench.features).of_split("train")
    names = train.class_names
    x, y = classical.without_infinities(train.matrix()), train.targets(names)
    folds = group_folds(y, train.groups, folds=_FOLDS, seed=0, class_names=names)
    print(f"{x.shape[0]} videos of {x.shape[1]} numbers, {_FOLDS} folds", flush=True)
    known = np.nan_to_num(x[folds[0][0]])
    began = time.perf_counter()
    PCA(0.95, svd_solver="full").fit(known)
    theirs = time.perf_counter() - began
    began = time.perf_counter()
    classical.RowPca().fit(known)
    print(f"one PCA: scikit-learn {theirs:.1f} s, ours {time.perf_counter() - began:.1f} s")

    seconds, best = 0.0, {}
    for model in bench.models:
        began = time.perf_counter()
        best[model] = _grid_search(model, x, y, folds)
        taken = time.perf_counter() - began
        seconds += taken
        print(f"loops, {model}: {best[model]:.4f} in {taken:.1f} s", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        began = time.perf_counter()
        out = _search(bench, f"{scratch}/out")
        ours = time.perf_counter() - began
    for model in bench.models:
        print(f"vidray, {model}: {out[model]:.4f}, {out[model] - best[model]:+.4f}")
    print(f"loops {seconds:.1f} s, vidray {ours:.1f} s: {seconds / ours:.2f} times as fast")


def _grid_search(model: str, x: Any, y: Any, folds: list[Any]) -> float:
    """The best accuracy over all videos, each judged by a model that did not see it."""
    # The notebooks' forest has scikit-learn's leaves.
    fixed = {"min_samples_leaf": 1} if model == "random_forest" else {}
    pipeline = classical.make_pipeline(
        model, seed=0, dimensionality="pca", scaling="standard", parameters=fixed
    )
    grid = {f"classify__{name}": list(values) for name, values in NOTEBOOK[model].items()}
    found = GridSearchCV(pipeline, grid, cv=folds, scoring="accuracy", refit=False).fit(x, y)
    by_fold = np.stack([found.cv_results_[f"split{k}_test_score"] for k in range(len(folds))])
    sizes = np.array([len(test) for _, test in folds])
    pooled = sizes @ by_fold / sizes.sum()
    return float(pooled.max())


def _search(bench: Bench, out: str) -> dict[str, float]:
    """The same by the command a user gives; model -> best accuracy."""
    flags = [
        "--data", bench.features, "--kinds", "classical", "--preset", "notebook",
        "--models", *bench.models, "--metric", "accuracy", "--no-calibrated",
        "--folds", str(_FOLDS), "--out", out,
    ]  # fmt: skip
    subprocess.run([sys.executable, str(_ROOT / "tune" / "search.py"), *flags], check=True)
    rows = pq.read_table(f"{out}/trials.parquet").to_pylist()
    return {m: max(row["score"] for row in rows if row["model"] == m) for m in bench.models}


if __name__ == "__main__":
    main(tyro.cli(Bench))
