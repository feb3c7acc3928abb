"""Fitted scikit-learn models as files that cannot run code: skops, with a list of our own on top.

skops trusts every estimator of scikit-learn and more by itself. Here a file may hold only what the
models of ``classical`` are made of, built by the plainest of skops' loaders; it is looked through
before anything is built. Trees are looked through afterwards: scikit-learn follows the numbers of
nodes and features in them without checking, so a wrong one would read foreign memory.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.tree._tree import Tree

from vidray import storage
from vidray.errors import UserError

# Not trusted by skops itself: data without code, as far as they go. The last two are the reason for
# ``_check_trees``.
_TRUSTED = (
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "vidray.models.classical.RowPca",
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)
# skops' loader -> the types it may build here.
_ALLOWED = {
    "DictNode": {"builtins.dict"},
    "ListNode": {"builtins.list"},
    "TupleNode": {"builtins.tuple"},
    "JsonNode": {"builtins.str"},
    "TypeNode": {"builtins.str"},
    "DTypeNode": {"numpy.dtype"},
    "NdArrayNode": {
        f"numpy.{name}"
        for name in ("ndarray", "float32", "float64", "int32", "int64", "uint64", "bool")
    },
    "RandomGeneratorNode": {"numpy.random._generator.Generator"},
    "TreeNode": {"sklearn.tree._tree.Tree"},
    "LossNode": {
        "sklearn._loss._loss.CyHalfBinomialLoss",
        "sklearn._loss._loss.CyHalfMultinomialLoss",
    },
    "ObjectNode": {
        "sklearn.pipeline.Pipeline",
        "sklearn.impute._base.SimpleImputer",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.preprocessing._label.LabelEncoder",
        "vidray.models.classical.RowPca",
        "sklearn.preprocessing._data.RobustScaler",
        "sklearn.feature_selection._from_model.SelectFromModel",
        "sklearn.calibration.CalibratedClassifierCV",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.dummy.DummyClassifier",
        "sklearn.svm._classes.SVC",
        "sklearn.neighbors._classification.KNeighborsClassifier",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.ensemble._forest.ExtraTreesClassifier",
        "sklearn.ensemble._forest.RandomForestClassifier",
        "sklearn.tree._classes.DecisionTreeClassifier",
        "sklearn.tree._classes.ExtraTreeClassifier",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.link.MultinomialLogit",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss.loss.HalfMultinomialLoss",
    },
}


def save(model: Any, path: str) -> None:
    """Write ``dumps(model)``, whole or not at all; a bucket URI will do."""
    storage.write_bytes(path, dumps(model))


def load(path: str) -> Any:
    """``loads`` of a file, local or in a bucket."""
    return loads(storage.read_bytes(path), source=path)


def dumps(model: Any) -> bytes:
    """A fitted model of ``classical`` as the bytes of a skops file.

    Raises:
        UserError: it holds a type that ``loads`` would refuse.
    """
    import skops.io  # 3 seconds, for a list of every type of NumPy and SciPy.
    from skops.io.exceptions import UnsupportedTypeException

    try:
        data = skops.io.dumps(model)
    except UnsupportedTypeException as error:
        raise UserError(f"the model cannot be saved: {error}; use plain parameters") from error
    _check_types(data, "the model")
    return bytes(data)


def loads(data: bytes, *, source: str = "the model file") -> Any:
    """The model of a skops file, giving the same probabilities to the last bit.

    Raises:
        UserError: not such a file, damaged, or holding anything but a model of ``classical``.
            Nothing in the file has been run or built by then.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    _check_types(data, source)
    try:
        model = skops.io.loads(data, trusted=list(_TRUSTED))
    except UntrustedTypesFoundException as error:
        raise UserError(f"{source} is refused: {error}") from error
    except (TypeError, ValueError, KeyError, AttributeError, OSError, ImportError) as error:
        raise UserError(
            f"{source} is damaged or of other library versions "
            f"({type(error).__name__}: {error}): train the model again"
        ) from error
    _check_trees(model, source)
    return model


def _check_types(data: bytes, source: str) -> None:
    """Raise UserError unless every object in the file is one of ours."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # We store without compression: a small file that unpacks to a large one is not ours.
            is_packed = any(i.compress_type != zipfile.ZIP_STORED for i in archive.infolist())
            schema = json.loads(archive.read("schema.json"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UserError(
            f"{source} is not a skops file ({error}), and nothing else is loaded (a pickle can "
            "run code): train the model again with jobs/train.py"
        ) from error
    found = {pair for pair in _objects(schema) if pair[1] not in _ALLOWED.get(pair[0], ())}
    if found or is_packed:
        named = ", ".join(sorted(f"{kind} (as {loader})" for loader, kind in found))
        raise UserError(
            f"{source} holds what no model of vidray is made of: {named or 'compressed parts'}; "
            "it is not loaded, since it could run code: get the model from whoever trained it, or "
            "train again"
        )


def _objects(state: Any) -> Iterator[tuple[str, str]]:
    """(loader, type) of every object described in a skops schema."""
    if isinstance(state, dict):
        if "__loader__" in state or "__class__" in state:
            kind = f"{state.get('__module__')}.{state.get('__class__')}"
            yield str(state.get("__loader__")), kind
        for value in state.values():
            yield from _objects(value)
    elif isinstance(state, list):
        for value in state:
            yield from _objects(value)


def _check_trees(model: Any, source: str) -> None:
    """Raise UserError unless every tree stays within its nodes and features."""
    for tree, num_features in _trees(model, 0):
        if isinstance(tree, Tree):
            nodes = tree.__getstate__()["nodes"]
            inner = nodes["left_child"] != -1
            children, used = ("left_child", "right_child"), nodes["feature"][inner]
            is_plain = tree.n_features == num_features
        else:
            nodes = tree.nodes
            inner = nodes["is_leaf"] == 0
            children, used = ("left", "right"), nodes["feature_idx"][inner]
            is_plain = not nodes["is_categorical"].any()
        if not (
            is_plain and len(nodes) and _stay_within(nodes, inner, children, used, num_features)
        ):
            raise UserError(f"{source} holds a tree that leads out of itself: it is not loaded")


def _stay_within(
    nodes: NDArray[Any],
    inner: NDArray[np.bool_],
    children: tuple[str, str],
    used: NDArray[Any],
    num_features: int,
) -> bool:
    """Whether children come after their parent, so that every walk ends, and features exist."""
    numbers = np.flatnonzero(inner)
    return bool(
        all(
            (nodes[child][inner] > numbers).all() and (nodes[child][inner] < len(nodes)).all()
            for child in children
        )
        and (used >= 0).all()
        and (used < num_features).all()
    )


def _trees(value: Any, num_features: int) -> Iterator[tuple[Any, int]]:
    """Every tree in a model, with the columns of the nearest estimator around it."""
    if isinstance(value, (Tree, TreePredictor)):
        yield value, num_features
    elif isinstance(value, dict):
        for item in value.values():
            yield from _trees(item, num_features)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _trees(item, num_features)
    elif isinstance(value, np.ndarray):
        if value.dtype == object:
            yield from _trees(value.ravel().tolist(), num_features)
    elif hasattr(value, "__dict__"):
        own = vars(value)
        yield from _trees(dict(own), int(own.get("n_features_in_", num_features)))
