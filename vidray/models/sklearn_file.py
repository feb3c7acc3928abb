"""Fitted scikit-learn models as files that cannot run code: skops, with a list of our own on top.

skops trusts every estimator of scikit-learn and more by itself. Here a file may hold only what the
models of ``classical`` are made of, built by the plainest of skops' loaders; it is looked through
before anything is built. Trees are looked through afterwards: scikit-learn follows the numbers of
nodes and features in them without checking, so a wrong one would read foreign memory.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.tree._tree import Tree

from vidray import storage
from vidray.errors import UserError
from vidray.storage import checked_json

# Errors of zipfile, NumPy's header and JSON for data that they cannot read.
_DAMAGES = (
    zipfile.BadZipFile, KeyError, ValueError, TypeError, SyntaxError, EOFError, OSError,
    NotImplementedError, RuntimeError, OverflowError, struct.error,
)  # fmt: skip
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
    """The bytes of a skops file of a fitted model of ``classical``.

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
        _check_trees(model, source)
    except UntrustedTypesFoundException as error:
        raise UserError(f"{source} is refused: {error}") from error
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Whoever made the file decides which.
        said = " ".join(str(error).split())[:300]
        raise UserError(
            f"{source} is damaged or of other library versions "
            f"({type(error).__name__}: {said}): train the model again"
        ) from error
    return model


def _check_types(data: bytes, source: str) -> None:
    """Raise UserError unless every object in the file is one of ours, and no larger than it is."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_sizes(archive, len(data), source)
            schema = checked_json.loads(archive.read("schema.json"))
            nodes = list(_nodes(schema))
    except UserError:
        raise
    except _DAMAGES as error:
        raise UserError(
            f"{source} is not a skops file ({error}), and nothing else is loaded (a pickle can "
            "run code): train the model again with jobs/train.py"
        ) from error
    found = {
        (loader, kind) for loader, kind in map(_kind, nodes) if kind not in _ALLOWED.get(loader, ())
    }
    if found:
        named = ", ".join(sorted(f"{kind} (as {loader})" for loader, kind in found)[:5])
        raise _foreign(source, named)
    # Of one array skops makes another for each object that is not the same one.
    arrays = {(str(node["file"]), str(node.get("__id__"))) for node in nodes if "file" in node}
    if len(arrays) > len({file for file, _ in arrays}):
        raise _foreign(source, "one array as many")


def _foreign(source: str, what: str) -> UserError:
    return UserError(
        f"{source} holds what no model of vidray is made of: {what}; it is not loaded, since it "
        "could run code: get the model from its author, or train again"
    )


def _check_sizes(archive: zipfile.ZipFile, file_bytes: int, source: str) -> None:
    """Raise UserError where reading would take more memory than the file does, before reading.

    We store without compression. A small file could be a large one packed, parts that are the same
    bytes many times over, or arrays of which only the header says how large they are.
    """
    parts = archive.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise _foreign(source, "compressed parts")
    if sum(max(part.file_size, part.compress_size) for part in parts) > file_bytes:
        raise _foreign(source, "parts that are larger together than the file")
    for part in parts:
        if part.filename == "schema.json":
            continue
        with archive.open(part) as file:
            needed = _array_bytes(file)
        if needed > part.file_size:
            raise _foreign(source, f"an array of {needed} bytes in {part.file_size}")


def _array_bytes(file: IO[bytes]) -> int:
    """Bytes of the array in an npy file, by its header."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"an array of format {version}")
    shape, _, dtype = read(file)
    return math.prod(shape) * dtype.itemsize


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object described in a skops schema, however deep; not by recursion, which ends."""
    left = [schema]
    while left:
        state = left.pop()
        if isinstance(state, dict):
            if "__loader__" in state or "__class__" in state:
                yield state
            left += state.values()
        elif isinstance(state, list):
            left += state


def _kind(node: dict[str, Any]) -> tuple[str, str]:
    """The (loader, type) of an object."""
    return str(node.get("__loader__")), f"{node.get('__module__')}.{node.get('__class__')}"


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
