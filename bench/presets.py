"""Accuracy of each feature family and preset, on groups never seen in training.

    python bench/presets.py --videos DIR [--cache FILE] [--quick]

DIR holds a ``videos.csv`` (clip_path, label, group), or is any other source of two classes whose
videos have groups; those without one, or of the group ``unknown``, are left out. Features come
from the same code as ``jobs/extract.py``; ``--cache`` keeps them in a Parquet file. Each model is
fitted 15 times: stratified 5-fold cross-validation that never splits a group, three shuffles.
Nothing is tuned. Prints accuracy and AUC (means over the 15 folds) beside what the majority class
and the metadata alone reach, and how well the features predict the metadata, which they should not.
About 3 minutes of extraction for 233 clips and 25 of fitting, on one core. Needs scikit-learn.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # read when numpy is loaded, so before it is
import dataclasses  # noqa: E402

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402
from sklearn.model_selection import StratifiedGroupKFold  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.svm import SVC  # noqa: E402

from vidray import features  # noqa: E402
from vidray.features.extraction import Settings, describe_videos  # noqa: E402
from vidray.sources import list_videos  # noqa: E402

FOLDS, SHUFFLES = 5, 3
QUALITY = ("sharpness", "noise", "blockiness", "brightness", "contrast")
SETS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in features.FAMILIES if name not in ("shape", "temporal")},
    "flow + audio": ("flow", "audio"),
    "flow + color": ("flow", "color"),
    "flow + texture": ("flow", "texture"),
    "flow + shape_pooled": ("flow", "shape_pooled"),
    "flow + color + texture": ("flow", "color", "texture"),
    "preset default": features.PRESETS["default"],
}
Matrix = NDArray[Any]


def extra_trees() -> Any:
    """Many random trees: no scaling needed, hard to overfit."""
    return ExtraTreesClassifier(300, min_samples_leaf=2, random_state=0)


MODELS: dict[str, Callable[[], Any]] = {
    "extra trees": extra_trees,
    "random forest": lambda: RandomForestClassifier(300, min_samples_leaf=2, random_state=0),
    "SVM (RBF)": lambda: make_pipeline(StandardScaler(), SVC()),
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=3000)),
    "boosting": lambda: HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.05, random_state=0
    ),
}


def extract(source: str) -> pa.Table:
    """FEATURES of all families, in this process."""
    folder_list = Path(source) / "videos.csv"
    videos = list_videos(str(folder_list) if folder_list.is_file() else source)
    families = tuple(dict.fromkeys(n for p in features.PRESETS.values() for n in p))
    describe = describe_videos(dataclasses.asdict(Settings(families=families)))
    batches = []
    for index, video in enumerate(videos.to_pylist()):
        batches.append(describe(video).replace_schema_metadata(None))
        print(f"\r{index + 1} of {videos.num_rows} videos", end="", file=sys.stderr)
    print(file=sys.stderr)
    return pa.Table.from_batches(batches)


def known_groups(table: pa.Table) -> pa.Table:
    """The rows that worked, of a class and a known group."""
    columns = table.select(["status", "label", "group"]).to_pylist()
    keep = [
        row["status"] == "ok" and None not in row.values() and row["group"] != "unknown"
        for row in columns
    ]
    return table.filter(pa.array(keep))


def family_matrix(table: pa.Table, family: str) -> Matrix:
    """One row per video; NaN where the video has no such family."""
    column = table.column(family).combine_chunks()
    length = features.FAMILIES[family].length
    matrix = np.full((len(column), length), np.nan, np.float32)
    there = np.array(column.is_valid())
    matrix[there] = column.drop_null().flatten().to_numpy().reshape(-1, length)
    return matrix


def numbers_matrix(table: pa.Table, columns: tuple[str, ...]) -> Matrix:
    """Plain columns, NaN for null."""
    rows = [table.column(name).to_pylist() for name in columns]
    return np.array([[np.nan if v is None else float(v) for v in column] for column in rows]).T


def cross_validate(
    matrix: Matrix, positive: NDArray[np.bool_], groups: NDArray[Any], model: Callable[[], Any]
) -> tuple[float, float]:
    """Mean accuracy and AUC over the folds of all shuffles."""
    accuracies, areas = [], []
    # Medians of 163,828 whole columns would take longer than the models.
    whole = bool(np.isfinite(matrix).all())
    impute = [] if whole else [SimpleImputer(strategy="median", keep_empty_features=True)]
    for shuffle in range(SHUFFLES):
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=shuffle)
        for train, test in folds.split(matrix, positive, groups):
            pipeline = make_pipeline(*impute, model())
            pipeline.fit(matrix[train], positive[train])
            accuracies.append(float((pipeline.predict(matrix[test]) == positive[test]).mean()))
            if 0 < positive[test].sum() < len(test):
                scores = (
                    pipeline.predict_proba(matrix[test])[:, 1]
                    if hasattr(pipeline, "predict_proba")
                    else pipeline.decision_function(matrix[test])
                )
                areas.append(float(roc_auc_score(positive[test], scores)))
    return float(np.mean(accuracies)), float(np.mean(areas))


def report(
    name: str,
    matrix: Matrix,
    truth: tuple[NDArray[np.bool_], NDArray[Any]],
    models: Mapping[str, Callable[[], Any]],
) -> None:
    """Print one line: accuracy and AUC of each model."""
    found = [cross_validate(matrix, *truth, model) for model in models.values()]
    cells = "".join(f"{accuracy:>9.3f} {area:.3f}" for accuracy, area in found)
    print(f"{name:<24}{matrix.shape[1]:>8}{cells}", flush=True)


def main() -> None:
    """Extract, then compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", required=True, help="folder with a videos.csv, or a source")
    parser.add_argument("--cache", type=Path, help="Parquet file that keeps the features")
    parser.add_argument("--quick", action="store_true", help="extra trees only")
    options = parser.parse_args()

    if options.cache and options.cache.is_file():
        table = pq.read_table(options.cache)
    else:
        table = extract(options.videos)
        if options.cache:
            pq.write_table(table, options.cache)
    table = known_groups(table)
    labels, groups = (np.array(table.column(name).to_pylist()) for name in ("label", "group"))
    classes = sorted(set(labels))
    if len(classes) != 2 or len(set(groups)) < FOLDS:
        sys.exit(
            f"{table.num_rows} videos of known group in {len(set(groups))} groups, classes "
            f"{classes}: two classes and {FOLDS} groups or more are needed"
        )
    positive = labels == classes[0]
    truth = (positive, groups)
    models = {"extra trees": extra_trees} if options.quick else MODELS
    share = max(float(positive.mean()), 1 - float(positive.mean()))
    print(f"{table.num_rows} videos, {len(set(groups))} groups, majority {share:.3f}")
    print(f"{'accuracy, AUC':<24}{'numbers':>8}" + "".join(f"{name:>15}" for name in models))

    shape = numbers_matrix(table, ("width_px", "height_px"))
    rate = numbers_matrix(table, ("frames_per_second",))
    length = numbers_matrix(table, ("num_frames", "duration_seconds"))
    report("frame size", shape, truth, models)
    report("frame rate", rate, truth, models)
    report("metadata", np.hstack([shape, rate, length]), truth, models)
    report("quality", numbers_matrix(table, QUALITY), truth, models)
    for name, families in SETS.items():
        matrix = np.hstack([family_matrix(table, family) for family in families])
        report(name, matrix, truth, models)
    notebook = np.hstack([family_matrix(table, family) for family in features.PRESETS["notebook"]])
    small = {
        name: (
            lambda model=MODELS[name]: make_pipeline(
                StandardScaler(), PCA(50, random_state=0), model()
            )
        )
        for name in ("random forest", "SVM (RBF)")
    }
    print(f"with 50 principal components: {', '.join(small)}")
    report("preset notebook", notebook, truth, small)

    print("\nhow well the features predict the metadata (extra trees; near the majority is good)")
    flow = family_matrix(table, "flow")
    for name, matrix in (
        ("flow", flow),
        (
            "preset default",
            np.hstack([family_matrix(table, f) for f in features.PRESETS["default"]]),
        ),
    ):
        for target, known in (("wide frames", shape[:, 0]), ("high frame rate", rate[:, 0])):
            high = known > np.median(known)
            accuracy, area = cross_validate(matrix, high, groups, extra_trees)
            most = max(high.mean(), 1 - high.mean())
            print(
                f"{name:<16}{target:<18}{accuracy:.3f} {area:.3f}, majority {most:.3f}", flush=True
            )


if __name__ == "__main__":
    main()
