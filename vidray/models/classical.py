"""Classical models: scikit-learn pipelines over FEATURES, judged without splitting a recording.

    FEATURES -> to_matrix -> median imputation -> standard scaling -> PCA | selection | nothing
             -> classifier -> Platt's sigmoid, fitted to predictions for recordings left out

All of it is one estimator, fitted on training rows only: what a fold's test rows look like never
reaches its imputation, scaling, PCA, selection or calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack, cast

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.feature_selection import SelectFromModel
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import RobustScaler, StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from vidray import features
from vidray.errors import UserError
from vidray.models.prepared import Prepared, PreparedRows
from vidray.models.sklearn_file import dumps, load, loads, save

__all__ = [
    "MAJORITY",
    "METADATA_COLUMNS",
    "NAMES",
    "CrossValidation",
    "RowPca",
    "calibration_folds",
    "cross_validate",
    "dumps",
    "family_columns",
    "feature_names",
    "fewest_groups",
    "fit",
    "group_folds",
    "groups_per_class",
    "load",
    "loads",
    "make_pipeline",
    "metadata_matrix",
    "predict",
    "save",
    "to_matrix",
    "without_infinities",
]

Dimensionality = Literal["pca", "select", "none"]
Scaling = Literal["standard", "robust", "none"]
Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]
Groups = Sequence[str | None]
Split = tuple[NDArray[np.int64], NDArray[np.int64]]

MOST_REPEATS = 1000  # Of a cross-validation: each trains all folds.
MAJORITY = "majority"
METADATA_COLUMNS = (
    "width_px",
    "height_px",
    "duration_seconds",
    "frames_per_second",
    "num_frames",
)

KEPT_VARIANCE = 0.95
_CALIBRATION_FOLDS = 5
# Under this many rows the threads of gradient boosting wait for each other more than they work:
# on two busy cores 186 rows took ten times as long with them.
_ROWS_WORTH_THREADS = 10_000

_NEIGHBORS = 9  # Of knn; all there are where a table is smaller.

# Name -> (seed, parameters) -> classifier. Defaults by 5-fold cross-validation over recordings of
# the 362 flow numbers of 233 fight clips.
_CLASSIFIERS: dict[str, Callable[[int, Mapping[str, Any]], Any]] = {
    "svm": lambda _, own: SVC(**own),
    "random_forest": lambda seed, own: RandomForestClassifier(
        **{"n_estimators": 300, "min_samples_leaf": 2, "random_state": seed, **own}
    ),
    "knn": lambda _, own: KNeighborsClassifier(
        # A tree of neighbours gains nothing in many dimensions, and is one more type to trust.
        **{"n_neighbors": _NEIGHBORS, "weights": "distance", "algorithm": "brute", **own}
    ),
    "logistic_regression": lambda seed, own: LogisticRegression(
        **{"C": 0.1, "max_iter": 2000, "random_state": seed, **own}
    ),
    # Early stopping would take rows of the same recordings to decide when to stop.
    "gradient_boosting": lambda seed, own: HistGradientBoostingClassifier(
        **{"learning_rate": 0.05, "early_stopping": False, "random_state": seed, **own}
    ),
    "extra_trees": lambda seed, own: ExtraTreesClassifier(
        **{"n_estimators": 300, "min_samples_leaf": 2, "random_state": seed, **own}
    ),
    MAJORITY: lambda _, own: DummyClassifier(**{"strategy": "prior", **own}),
}
NAMES = tuple(name for name in _CLASSIFIERS if name != MAJORITY)

# Trees lose by PCA (extra trees 0.80 to 0.71 accuracy), the linear model too (0.78 to 0.75).
# Distances need it where numbers are many. Boosting looks at every number for every leaf: 163,828
# of them do not fit.
_DIMENSIONALITY: dict[str, Dimensionality] = {
    "svm": "pca",
    "knn": "pca",
    "gradient_boosting": "select",
}


class PipelineOptions(TypedDict, total=False):
    """What ``fit`` hands on to ``make_pipeline``, which says what they are."""

    dimensionality: Dimensionality | None
    scaling: Scaling
    kept_variance: float
    parameters: Mapping[str, Any] | None
    prepared: Prepared | None


class Options(PipelineOptions, total=False):
    """What ``cross_validate`` hands on to ``fit``."""

    calibrated: bool


class RowPca(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """PCA by the Gram matrix: scikit-learn's numbers, in N * N * D steps for D > N.

    180 rows of 163,828 numbers take 1.4 seconds, scikit-learn's full SVD of them 22.

    Args:
        kept_variance: as few components as explain at least this share, above 0 to 1.
    """

    def __init__(self, kept_variance: float = KEPT_VARIANCE) -> None:
        self.kept_variance = kept_variance

    def fit(self, x: Matrix, y: Any = None) -> RowPca:  # noqa: ARG002  scikit-learn passes y
        """Learn mean ``(D,)`` and components ``(C, D)`` from ``float (N, D)``."""
        self.mean_ = x.mean(axis=0, dtype=np.float64).astype(x.dtype)
        centred = x - self.mean_  # (N, D)
        is_wide = x.shape[1] > x.shape[0]
        square = centred @ centred.T if is_wide else centred.T @ centred
        values, vectors = np.linalg.eigh(square.astype(np.float64))
        values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]  # largest first
        # Constant rows explain nothing: one component, along which all are 0, keeps the shape.
        share = np.cumsum(values) / max(values.sum(), np.finfo(np.float64).tiny)
        count = min(int(np.searchsorted(share, self.kept_variance)) + 1, len(values))
        vectors = vectors[:, :count]
        if is_wide:
            vectors = centred.T @ vectors.astype(x.dtype)  # (D, C)
            lengths = np.linalg.norm(vectors, axis=0)
            vectors = vectors / np.where(lengths > 0, lengths, 1)
        # An eigenvector's sign is the library's whim: its largest number is made positive.
        largest = np.abs(vectors).argmax(axis=0)
        signs = np.where(vectors[largest, np.arange(count)] < 0, -1, 1)
        self.components_ = np.ascontiguousarray((vectors * signs).T, dtype=x.dtype)
        self.n_features_in_ = x.shape[1]
        return self

    def transform(self, x: Matrix) -> Matrix:
        """``float (N, D)`` -> ``float (N, C)``."""
        return cast(Matrix, (x - self.mean_) @ self.components_.T)


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

    @property
    def mean_probabilities(self) -> NDArray[np.float64]:
        """``float64 (N, K)``, averaged over the repeats: an ensemble, better than one model is."""
        return cast(NDArray[np.float64], self.probabilities.mean(axis=0))


def to_matrix(table: pa.Table, families: Sequence[str]) -> Matrix:
    """Feature columns side by side: ``float32 (N, D)``; null rows and numbers become NaN.

    One family in one chunk without a null is a read-only view of Arrow's memory; anything else is
    copied once.

    Raises:
        UserError: a family is unknown or not among the columns, or none is given.
    """
    lengths = [features.get_family(family).length for family in families]
    missing = [family for family in families if family not in table.column_names]
    if missing or not lengths:
        raise UserError(
            f"no features {', '.join(missing) or 'are named'}: the table has "
            f"{', '.join(f for f in features.FAMILIES if f in table.column_names) or 'none'}; "
            "extract with --families"
        )
    columns = [table.column(family) for family in families]
    if len(columns) == 1 and columns[0].num_chunks == 1 and not columns[0].null_count:
        return _chunk_values(columns[0].chunk(0), lengths[0])
    matrix = np.empty((len(table), sum(lengths)), np.float32)
    left = 0
    for column, length in zip(columns, lengths, strict=True):
        top = 0
        for chunk in column.chunks:
            matrix[top : top + len(chunk), left : left + length] = _chunk_values(chunk, length)
            top += len(chunk)
        left += length
    return matrix


def _chunk_values(chunk: pa.FixedSizeListArray, length: int) -> Matrix:
    """``float32 (n, length)``; ``values`` ignores a slice's offset and still holds null rows."""
    if chunk.type != pa.list_(pa.float32(), length):
        raise UserError(
            f"a feature column is {chunk.type}, should be {length} float32: extract again with "
            "this version of vidray"
        )
    numbers = chunk.values.slice(chunk.offset * length, len(chunk) * length)
    values = numbers.to_numpy(zero_copy_only=False).reshape(len(chunk), length)
    if chunk.null_count:
        values = values.copy()
        values[chunk.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return cast(Matrix, values)


def feature_names(families: Sequence[str]) -> list[str]:
    """A name per column of ``to_matrix``: family, part and index, such as ``flow.hof[3]``."""
    return [f"{family}.{name}" for family in families for name in features.column_names(family)]


def family_columns(families: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Family -> its columns of ``to_matrix``."""
    lengths = [features.get_family(family).length for family in families]
    ends = np.cumsum(lengths)
    return {
        family: np.arange(end - length, end)
        for family, length, end in zip(families, lengths, ends, strict=True)
    }


def metadata_matrix(table: pa.Table) -> Matrix:
    """What can be told without looking: ``float32 (N, 5)``, in the order of METADATA_COLUMNS.

    A model of these alone is the baseline: what it reaches is how the clips were collected, not
    what they show. Nulls become NaN.
    """
    columns = [table.column(name).cast(pa.float32()) for name in METADATA_COLUMNS]
    return np.column_stack([column.to_numpy() for column in columns]).astype(np.float32)


def make_pipeline(
    name: str,
    *,
    seed: int,
    calibration_splits: Sequence[Split] | None = None,
    dimensionality: Dimensionality | None = None,
    scaling: Scaling = "standard",
    kept_variance: float = KEPT_VARIANCE,
    parameters: Mapping[str, Any] | None = None,
    prepared: Prepared | None = None,
) -> Any:
    """An unfitted model: a scikit-learn estimator of ``float (N, D)``, NaN allowed.

    Args:
        name: one of NAMES, or MAJORITY.
        seed: 0 or more; the same seed, rows and machine give the same model.
        calibration_splits: (train rows, test rows), the test rows together every row once, no group
            on both sides. The sigmoid is fitted to predictions for the test rows; the classifier
            itself then to all rows. None: not calibrated.
        dimensionality: None is the model's default; ``pca`` keeps ``kept_variance``, ``select``
            the numbers of more than average importance to 100 extra trees.
        scaling: ``standard`` to mean 0 and deviation 1, ``robust`` to median 0 and interquartile
            range 1, or ``none``.
        kept_variance: of ``pca``, above 0 to 1.
        parameters: the classifier's own, over the defaults.
        prepared: makes a model of row numbers ``int (N, 1)`` of its table, the same to the last
            bit, that shares imputation, scaling and reduction with others: to search, not to keep.

    Raises:
        UserError: an unknown name, dimensionality, scaling or parameter.
    """
    if name not in _CLASSIFIERS:
        raise UserError(f"unknown model {name!r}: one of {', '.join(_CLASSIFIERS)}")
    reducers: dict[str, Callable[[], list[tuple[str, Any]]]] = {
        "pca": lambda: [("pca", RowPca(kept_variance))],
        "select": lambda: [("select", SelectFromModel(_selector(seed)))],
        "none": list,
    }
    wanted = dimensionality or _DIMENSIONALITY.get(name, "none")
    if wanted not in reducers:
        raise UserError(f"unknown dimensionality {wanted!r}: one of {', '.join(reducers)}")
    scalers: dict[str, Callable[[], list[tuple[str, Any]]]] = {
        "standard": lambda: [("scale", StandardScaler())],
        "robust": lambda: [("scale", RobustScaler())],
        "none": list,
    }
    if scaling not in scalers:
        raise UserError(f"unknown scaling {scaling!r}: one of {', '.join(scalers)}")
    if not 0 < kept_variance <= 1:
        raise UserError(f"kept_variance is {kept_variance}: above 0 and 1 at the most")
    try:
        classifier = _CLASSIFIERS[name](seed, parameters or {})
    except TypeError as error:
        raise UserError(f"{name} refuses {dict(parameters or {})}: {error}") from error
    steps = [
        # A column without a number anywhere becomes 0 and stays in its place.
        ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
        *scalers[scaling](),
        *reducers[wanted](),
    ]
    if prepared is not None:
        name_of_steps = f"{scaling}-{wanted}-{kept_variance}-{seed}"
        rows = PreparedRows(Pipeline(steps), prepared, name_of_steps, is_kept=wanted != "none")
        steps = [("rows", rows)]
    pipeline = Pipeline([*steps, ("classify", classifier)])
    if calibration_splits is None:
        return pipeline
    return CalibratedClassifierCV(pipeline, cv=list(calibration_splits), ensemble=False)


def _selector(seed: int) -> ExtraTreesClassifier:
    return ExtraTreesClassifier(100, min_samples_leaf=2, random_state=seed)


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
    codes = _group_codes(groups, len(labels))
    if folds < 2:
        raise UserError(f"folds is {folds}: 2 or more")
    for index, group_count in enumerate(_groups_per_class(labels, codes, len(class_names))):
        if group_count < folds:
            raise UserError(
                f"class {class_names[index]!r} has {group_count} groups (source recordings), "
                f"{folds} folds need one each: use fewer folds or add recordings"
            )
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
    """How many groups each of so many classes has; a row without a group is a group of its own."""
    return _groups_per_class(y, _group_codes(groups, len(y)), classes)


def calibration_folds(
    y: Labels, groups: Groups | None, class_names: Sequence[str], *, seed: int
) -> list[Split]:
    """The ``group_folds`` that ``fit`` calibrates by: at most five, and one for each group."""
    smallest, _ = fewest_groups(y, groups, class_names)
    folds = max(2, min(_CALIBRATION_FOLDS, smallest))
    return group_folds(y, groups, folds=folds, seed=seed, class_names=class_names)


def _group_codes(groups: Groups | None, count: int) -> NDArray[np.int64]:
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


def fit(
    name: str,
    x: Matrix,
    y: ArrayLike,
    groups: Groups | None,
    class_names: Sequence[str],
    *,
    seed: int,
    calibrated: bool = True,
    **options: Unpack[PipelineOptions],
) -> Any:
    """A fitted model whose ``predict_proba`` gives ``float64 (n, K)`` in the order of the names.

    Args:
        name: one of NAMES, or MAJORITY.
        x: ``float32 (N, D)``, NaN where unknown.
        y: ``int (N,)``, indices into ``class_names``.
        groups: as ``group_folds`` takes them: calibration never splits one.
        class_names: K names, 2 or more.
        seed: see ``make_pipeline``.
        calibrated: whether a sigmoid turns scores into probabilities. It lowers the log loss of
            all six on the fight clips (gradient boosting 0.49 to 0.47, knn 1.69 to 0.54) and costs
            five more fits. ``svm`` has no probabilities without: it answers with 0 and 1.
        options: those of ``make_pipeline``.

    Raises:
        UserError: a class has no rows, or too few groups to calibrate.
    """
    matrix, labels = _checked(x, y, class_names)
    splits = None
    if calibrated and name != MAJORITY:
        splits = calibration_folds(labels, groups, class_names, seed=seed)
    if name == "knn":
        fewest = min(len(rows) for rows, _ in splits) if splits else len(labels)
        own = {"n_neighbors": _NEIGHBORS, **(options.get("parameters") or {})}
        options["parameters"] = {**own, "n_neighbors": min(own["n_neighbors"], fewest)}
    model = make_pipeline(name, seed=seed, calibration_splits=splits, **options)
    with _threads_worth(len(matrix)):
        model.fit(matrix, labels)
    if splits is not None:
        model.cv = None  # Rows of this table: of no use to whoever loads the model.
    return model


def predict(model: Any, x: Matrix) -> NDArray[np.float64]:
    """Probabilities ``float64 (N, K)`` of rows ``float32 (N, D)``, in the order of the class names.

    Args:
        model: what ``fit`` or ``load`` returned.
        x: the families the model was fitted to, in the same order.

    Raises:
        UserError: another number of columns.
    """
    if x.shape[1] != model.n_features_in_:
        raise UserError(
            f"{x.shape[1]} numbers a row, the model was fitted to {model.n_features_in_}: extract "
            "the same feature families"
        )
    if not len(x):
        return np.zeros((0, len(model.classes_)))
    with _threads_worth(len(x)):
        known = without_infinities(x)
        if hasattr(model, "predict_proba"):
            return np.asarray(model.predict_proba(known), np.float64)
        return np.asarray(model.predict(known)[:, None] == model.classes_, np.float64)


def _threads_worth(rows: int) -> threadpool_limits:
    return threadpool_limits(1 if rows < _ROWS_WORTH_THREADS else None, user_api="openmp")


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
    matrix, labels = _checked(x, y, class_names)
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


def _checked(x: Matrix | Labels, y: ArrayLike, class_names: Sequence[str]) -> tuple[Matrix, Labels]:
    """The rows, infinities as NaN, and their labels, every class with a row."""
    labels = np.asarray(y, np.int64)
    if x.ndim != 2 or labels.shape != x.shape[:1]:
        raise UserError(f"x has shape {x.shape} and y {labels.shape}: give (N, D) and (N,)")
    if len(class_names) < 2:
        raise UserError(f"classes are {', '.join(class_names) or 'none'}: 2 or more are needed")
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(class_names)):
        raise UserError(
            f"labels go from {labels.min()} to {labels.max()}: give indices into the "
            f"{len(class_names)} class names"
        )
    for index, count in enumerate(np.bincount(labels, minlength=len(class_names))):
        if not count:
            raise UserError(
                f"class {class_names[index]!r} has no rows: add videos of it or leave it out"
            )
    return without_infinities(x), labels


def without_infinities(x: Matrix | Labels) -> Matrix:
    """scikit-learn takes NaN for unknown, and refuses infinities."""
    is_infinite = np.isinf(x)
    return cast(Matrix, np.where(is_infinite, np.float32(np.nan), x) if is_infinite.any() else x)


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
    """One class against the rest, averaged over classes."""
    if len(np.unique(labels)) < probabilities.shape[1]:
        return None
    areas = [roc_auc_score(labels == k, column) for k, column in enumerate(probabilities.T)]
    return float(np.mean(areas))
