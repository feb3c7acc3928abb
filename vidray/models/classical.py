"""Classical models: scikit-learn pipelines over FEATURES, judged without splitting a recording.

    FEATURES -> to_matrix -> median imputation -> standard scaling -> PCA | selection | nothing
             -> classifier -> Platt's sigmoid, fitted to predictions for recordings left out

All of it is one estimator, fitted on training rows only: what a fold's test rows look like never
reaches its imputation, scaling, PCA, selection or calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack, cast

import numpy as np
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
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import RobustScaler, StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from vidray.errors import UserError
from vidray.models.arrays import Labels, Matrix
from vidray.models.folds import Groups, Split, calibration_folds
from vidray.models.names import MAJORITY
from vidray.models.prepared import Prepared, PreparedRows
from vidray.models.sklearn_file import dumps, load, loads, save

__all__ = [
    "RowPca",
    "dumps",
    "fit",
    "load",
    "loads",
    "make_pipeline",
    "predict",
    "save",
    "without_infinities",
]

Dimensionality = Literal["pca", "select", "none"]
Scaling = Literal["standard", "robust", "none"]


KEPT_VARIANCE = 0.95
# Under this many rows the threads of gradient boosting wait for each other more than they work:
# on two busy cores 186 rows took ten times as long with them.
_ROWS_WORTH_THREADS = 10_000

_NEIGHBORS = 9  # Neighbours of knn; all rows where a table has fewer.

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

# Trees lose by PCA (extra trees 0.80 to 0.71 accuracy), the linear model too (0.78 to 0.75).
# Distances need it where numbers are many. Boosting looks at every number for every leaf: 163,828
# of them do not fit.
_DIMENSIONALITY: dict[str, Dimensionality] = {
    "svm": "pca",
    "knn": "pca",
    "gradient_boosting": "select",
}


class PipelineOptions(TypedDict, total=False):
    """Options that ``fit`` passes to ``make_pipeline``, which explains them."""

    dimensionality: Dimensionality | None
    scaling: Scaling
    kept_variance: float
    parameters: Mapping[str, Any] | None
    prepared: Prepared | None


class Options(PipelineOptions, total=False):
    """Options that ``cross_validate`` passes to ``fit``."""

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
        name: one of names.CLASSICAL, or names.MAJORITY.
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
        name: one of names.CLASSICAL, or names.MAJORITY.
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
    matrix, labels = checked_rows(x, y, class_names)
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
        model.cv = None  # Rows of this table, which a loaded model does not need.
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


def checked_rows(
    x: Matrix | Labels, y: ArrayLike, class_names: Sequence[str]
) -> tuple[Matrix, Labels]:
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
    """Infinities as NaN: scikit-learn takes NaN for unknown, and refuses infinities."""
    is_infinite = np.isinf(x)
    return cast(Matrix, np.where(is_infinite, np.float32(np.nan), x) if is_infinite.any() else x)
