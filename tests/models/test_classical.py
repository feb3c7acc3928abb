"""Classical models against scikit-learn and made data; their files against what could run code."""

import copy
import io
import json
import os
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from tests.features.test_flow import part_slices
from vidray import features
from vidray.errors import UserError
from vidray.models import classical, importance
from vidray.models.cross_validation import cross_validate
from vidray.models.folds import group_folds
from vidray.models.matrices import family_columns, feature_names, metadata_matrix, to_matrix
from vidray.models.names import CLASSICAL, MAJORITY
from vidray.tables import schema

THREE = ("a", "b", "c")
# Small, so that each name is tested in seconds.
FEW = {
    "random_forest": {"n_estimators": 20},
    "extra_trees": {"n_estimators": 20},
    "gradient_boosting": {"max_iter": 10, "min_samples_leaf": 5},
}


def _made(rows: int = 90, *, classes: int = 3, columns: int = 12, seed: int = 0) -> Any:
    """Rows (N, D) whose first two columns tell the class, y, and groups of three rows."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) // 3 % classes
    x = rng.normal(size=(rows, columns)).astype(np.float32)
    x[:, 0] += 2 * y
    x[:, 1] -= 2 * (y == 1)
    return x, y, [f"g{row // 3}" for row in range(rows)]


def _fit(name: str, x: Any, y: Any, groups: Any, names: Any = THREE, **options: Any) -> Any:
    own = options.pop("parameters", FEW.get(name))
    return classical.fit(name, x, y, groups, names, seed=0, parameters=own, **options)


def _table(rows: int, families: list[str], seed: int = 0) -> tuple[pa.Table, dict[str, Any]]:
    rng = np.random.default_rng(seed)
    arrays = {
        f: rng.normal(size=(rows, features.FAMILIES[f].length)).astype(np.float32) for f in families
    }
    lengths = {f: features.FAMILIES[f].length for f in families}
    kinds = schema.features_schema(lengths)
    columns = {
        f: pa.FixedSizeListArray.from_arrays(pa.array(a.ravel()), type=kinds.field(f).type)
        for f, a in arrays.items()
    }
    return pa.table(columns), arrays


def test_a_matrix_is_arrows_own_memory_where_it_can_be() -> None:
    table, arrays = _table(5, ["motion"])
    matrix = to_matrix(table, ["motion"])
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, arrays["motion"])
    buffer = table["motion"].chunk(0).values.buffers()[1]
    assert matrix.__array_interface__["data"][0] == buffer.address


def test_a_matrix_of_slices_chunks_and_nulls() -> None:
    table, arrays = _table(6, ["motion", "temporal"])
    rows = table["temporal"].to_pylist()
    rows[3] = None
    rows[4] = [1.0, None, 3.0, 4.0]
    table = table.set_column(1, "temporal", pa.array(rows, table.schema.field("temporal").type))
    cut = pa.concat_tables([table.slice(1, 2), table.slice(3, 3)])
    matrix = to_matrix(cut, ["temporal", "motion"])
    assert matrix.shape == (5, 76)
    np.testing.assert_array_equal(matrix[:, 4:], arrays["motion"][1:])
    np.testing.assert_array_equal(matrix[:2, :4], arrays["temporal"][1:3])
    assert np.isnan(matrix[2, :4]).all()
    np.testing.assert_array_equal(matrix[3, :4], np.float32([1, np.nan, 3, 4]))
    alone = to_matrix(table.slice(2, 4), ["temporal"])
    np.testing.assert_array_equal(alone, np.vstack([arrays["temporal"][2:3], matrix[2:, :4]]))


def test_a_matrix_of_missing_or_unknown_families_is_refused() -> None:
    table, _ = _table(2, ["motion"])
    with pytest.raises(UserError, match="no features flow: the table has motion"):
        to_matrix(table, ["motion", "flow"])
    with pytest.raises(UserError, match="did you mean flow"):
        to_matrix(table, ["flov"])
    with pytest.raises(UserError, match="no features are named"):
        to_matrix(table, [])
    old = pa.table({"motion": pa.array([[1.0] * 3], pa.list_(pa.float32(), 3))})
    with pytest.raises(UserError, match="should be 72 float32"):
        to_matrix(old, ["motion"])


def test_each_column_has_a_name_and_each_family_its_columns() -> None:
    names = feature_names(["temporal", "flow"])
    columns = family_columns(["temporal", "flow"])
    assert len(names) == len(set(names)) == 4 + features.FAMILIES["flow"].length
    begin = part_slices(features.FAMILIES["flow"])["hof"].start
    assert names[4 + begin + 3] == "flow.hof[3]"
    assert [names[k].split(".")[0] for k in columns["flow"]] == ["flow"] * len(columns["flow"])
    np.testing.assert_array_equal(columns["temporal"], [0, 1, 2, 3])


def test_metadata_are_the_probes_numbers() -> None:
    table = pa.table(
        {
            "width_px": pa.array([320, None], pa.int32()),
            "height_px": pa.array([240, 480], pa.int32()),
            "duration_seconds": pa.array([1.5, 2.0]),
            "frames_per_second": pa.array([25.0, None]),
            "num_frames": pa.array([37, 60], pa.int64()),
        }
    )
    expected = [[320, 240, 1.5, 25, 37], [np.nan, 480, 2, np.nan, 60]]
    matrix = metadata_matrix(table)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, np.float32(expected))


@pytest.mark.parametrize("shape", [(40, 200), (200, 40), (30, 30)])
def test_pca_is_scikit_learns_up_to_sign(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    scales = np.geomspace(5, 0.1, shape[1])
    x = (rng.normal(size=shape) * scales).astype(np.float32)
    ours = classical.RowPca(0.95).fit(x)
    theirs = PCA(0.95, svd_solver="full").fit(x.astype(np.float64))
    assert ours.components_.shape == theirs.components_.shape
    assert ours.components_.dtype == np.float32
    cosines = np.abs((ours.components_ * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-3)
    ours_at = np.abs(ours.transform(x))
    np.testing.assert_allclose(ours_at, np.abs(theirs.transform(x)), atol=0.05)


def test_pca_of_equal_rows_is_all_zero() -> None:
    assert (classical.RowPca().fit_transform(np.ones((4, 9), np.float32)) == 0).all()


@settings(max_examples=40)
@given(st.data())
def test_folds_never_split_a_group_and_leave_each_row_out_once(data: st.DataObject) -> None:
    classes, folds = data.draw(st.integers(2, 4)), data.draw(st.integers(2, 4))
    y: list[int] = []
    groups: list[str | None] = []
    for index in range(classes):
        for group in range(data.draw(st.integers(folds, folds + 4))):
            size = data.draw(st.integers(1, 5))
            y += [index] * size
            groups += [f"{index}-{group}"] * size
    loners = data.draw(st.integers(0, 5))
    y += [0] * loners
    groups += [None] * loners
    splits = group_folds(
        y, groups, folds=folds, seed=data.draw(st.integers(0, 9)), class_names="abcd"[:classes]
    )
    left_out = np.concatenate([test for _, test in splits])
    assert sorted(left_out) == list(range(len(y)))
    for train, test in splits:
        assert sorted([*train, *test]) == list(range(len(y)))
        inside = {groups[k] for k in train} - {None}
        assert not inside & {groups[k] for k in test}
        assert {y[k] for k in train} == set(range(classes))


def test_rows_without_a_group_are_not_one_group() -> None:
    splits = group_folds([0, 1] * 10, [None] * 20, folds=5, seed=0, class_names=("a", "b"))
    assert [len(test) for _, test in splits] == [4] * 5


def test_too_few_groups_for_the_folds() -> None:
    y, groups = [0] * 10 + [1] * 10, [f"{k}" for k in range(10)] + ["x", "y"] * 5
    with pytest.raises(UserError, match=r"class 'b' has 2 groups .*, 5 folds need one each"):
        group_folds(y, groups, folds=5, seed=0, class_names=("a", "b"))
    with pytest.raises(UserError, match="folds is 1"):
        group_folds(y, groups, folds=1, seed=0, class_names=("a", "b"))
    with pytest.raises(UserError, match="3 groups for 20 rows"):
        group_folds(y, ["x"] * 3, folds=2, seed=0, class_names=("a", "b"))


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSICAL)
def test_each_model_learns_and_its_probabilities_are_in_class_order(name: str) -> None:
    x, y, groups = _made(180)
    train, test = np.arange(120), np.arange(120, 180)
    model = _fit(name, x[train], y[train], groups[:120])
    probabilities = classical.predict(model, x[test])
    assert probabilities.shape == (60, 3)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-9)
    assert accuracy_score(y[test], probabilities.argmax(axis=1)) > 0.7
    again = _fit(name, x[train], y[train], groups[:120])
    np.testing.assert_array_equal(classical.predict(again, x[test]), probabilities)


def test_calibration_never_sees_a_group_it_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, groups = _made()
    seen: list[Any] = []
    real = classical.make_pipeline

    def spy(*args: Any, **options: Any) -> Any:
        seen.append(options["calibration_splits"])
        return real(*args, **options)

    monkeypatch.setattr(classical, "make_pipeline", spy)
    model = _fit("svm", x, y, groups)
    assert len(seen[0]) == 5
    for train, test in seen[0]:
        assert not {groups[k] for k in train} & {groups[k] for k in test}
    assert model.cv is None


def test_calibrated_probabilities_are_nearer_the_truth_than_raw_ones() -> None:
    rng = np.random.default_rng(1)
    y = np.arange(600) % 2
    x = (rng.normal(size=(600, 4)) + 0.7 * y[:, None]).astype(np.float32)
    losses = [
        log_loss(y[300:], classical.predict(model, x[300:]))
        for model in (
            _fit("knn", x[:300], y[:300], None, ("a", "b"), calibrated=calibrated)
            for calibrated in (True, False)
        )
    ]
    assert losses[0] < 0.8 * losses[1]
    certain = classical.predict(_fit("svm", x, y, None, ("a", "b"), calibrated=False), x)
    assert set(np.unique(certain)) == {0.0, 1.0}
    assert (certain.sum(axis=1) == 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSICAL)
def test_unknown_constant_and_duplicate_columns(name: str) -> None:
    x, y, groups = _made()
    x[::4, 2] = np.nan
    x[::7, 3] = np.inf
    x[:, 4] = 5.1
    x[:, 5] = x[:, 0]
    x[:, 6] = np.nan
    model = _fit(name, x, y, groups)
    assert np.isfinite(classical.predict(model, x)).all()
    # Imputation is the median of the training rows: writing it in by hand changes nothing.
    filled = np.where(np.isinf(x), np.nan, x)
    medians = np.nanmedian(np.delete(filled, 6, axis=1), axis=0)
    filled = np.where(np.isnan(filled), np.insert(medians, 6, 0), filled).astype(np.float32)
    np.testing.assert_array_equal(classical.predict(model, x), classical.predict(model, filled))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["svm", "logistic_regression", "gradient_boosting", "knn"])
def test_many_more_numbers_than_rows_take_seconds(name: str) -> None:
    x, y, groups = _made(60, columns=5_000)
    x[:, :100] += 3 * y[:, None]
    began = time.perf_counter()
    model = _fit(name, x, y, groups)
    assert classical.predict(model, x).argmax(axis=1).tolist() == y.tolist()
    assert time.perf_counter() - began < 60


@pytest.mark.slow
def test_cross_validation_is_of_rows_left_out() -> None:
    x, y, groups = _made()
    found = cross_validate("logistic_regression", x, y, groups, THREE, seed=3, folds=3, repeats=2)
    assert found.probabilities.shape == (2, 90, 3)
    assert repr(found) == "CrossValidation(2 repeats, 90 rows, 3 classes)"
    # By hand, one fold: nothing but its training rows is given to fit.
    test = np.flatnonzero(found.fold_of_row[1] == 2)
    train = np.flatnonzero(found.fold_of_row[1] != 2)
    assert not {groups[k] for k in test} & {groups[k] for k in train}
    kept = [groups[k] for k in train]
    model = classical.fit("logistic_regression", x[train], y[train], kept, THREE, seed=4)
    expected = model.predict_proba(x[test])
    np.testing.assert_array_equal(found.probabilities[1, test], expected)
    row = next(m for m in found.metrics if (m["repeat"], m["fold"]) == (1, 2))
    assert row["rows"] == len(test)
    assert row["accuracy"] == accuracy_score(y[test], expected.argmax(axis=1))
    assert row["log_loss"] == pytest.approx(log_loss(y[test], expected))
    auc = roc_auc_score(y[test], expected, multi_class="ovr", average="macro")
    assert row["macro_auc"] == pytest.approx(auc)
    assert len(found.metrics) == 6
    np.testing.assert_allclose(found.probabilities.sum(axis=2), 1)


@pytest.mark.slow
def test_cross_validation_in_threads_gives_the_same_bits() -> None:
    x, y, groups = _made()
    own = {"parameters": {"n_estimators": 10}}
    one, two = (
        cross_validate(
            "extra_trees", x, y, groups, THREE, seed=0, folds=3, repeats=1, n_jobs=n, **own
        )
        for n in (1, 2)
    )
    np.testing.assert_array_equal(one.probabilities, two.probabilities)
    assert one.metrics == two.metrics


@pytest.mark.slow
def test_what_tells_only_the_recording_does_not_help() -> None:
    # Each recording has one label and its own number: rows split at random would score 1.0.
    rng = np.random.default_rng(0)
    recordings = rng.normal(size=(40, 3))
    of_row = np.repeat(np.arange(40), 6)
    labels = rng.permutation(np.arange(40) % 2)[of_row]
    x = recordings[of_row].astype(np.float32)
    named = [f"r{k}" for k in of_row]
    scores = {
        kind: np.mean([
            row["accuracy"]
            for row in cross_validate(
                "knn", x, labels, groups, ("a", "b"), seed=0, repeats=1
            ).metrics
        ])
        for kind, groups in (("by recording", named), ("by row", None))
    }  # fmt: skip
    assert scores["by row"] > 0.95
    assert scores["by recording"] < 0.65


def test_neighbours_are_no_more_than_there_are_rows() -> None:
    x, y, groups = _made(rows=18)  # folds of 9 rows and 9
    model = _fit("knn", x, y, groups)
    assert classical.predict(model, x).shape == (18, 3)
    assert _fit("knn", x, y, groups, parameters={"n_neighbors": 3}).estimator[-1].n_neighbors == 3


def test_the_majority_baseline_is_the_share_of_each_class() -> None:
    y = np.array([0] * 14 + [1] * 6)
    x = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    found = cross_validate(MAJORITY, x, y, None, ("a", "b"), seed=0, folds=2, repeats=1)
    np.testing.assert_allclose(found.probabilities[0], np.tile([0.7, 0.3], (20, 1)))


def test_wrong_arguments_say_what_is_right() -> None:
    x, y, groups = _made(30)
    with pytest.raises(UserError, match="unknown model 'forest': one of svm, random_forest"):
        _fit("forest", x, y, groups)
    with pytest.raises(UserError, match="unknown dimensionality 'ica': one of pca, select, none"):
        _fit("svm", x, y, groups, dimensionality="ica")
    with pytest.raises(UserError, match=r"svm refuses \{'trees': 3\}"):
        _fit("svm", x, y, groups, parameters={"trees": 3})
    with pytest.raises(UserError, match="class 'd' has no rows"):
        _fit("svm", x, y, groups, (*THREE, "d"))
    with pytest.raises(UserError, match="labels go from 0 to 2"):
        _fit("svm", x, y, groups, ("a", "b"))
    with pytest.raises(UserError, match="class 'a' has 1 groups"):
        _fit("svm", x, y, ["same"] * 30)
    with pytest.raises(UserError, match="11 numbers a row, the model was fitted to 12"):
        classical.predict(_fit("knn", x, y, groups), x[:, 1:])
    with pytest.raises(UserError, match="repeats is 0"):
        cross_validate("knn", x, y, groups, THREE, seed=0, repeats=0)
    assert classical.predict(_fit("knn", x, y, groups), x[:0]).shape == (0, 3)


@pytest.mark.slow
def test_importance_finds_the_one_family_and_the_one_feature_that_tell() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(240) % 2
    columns = {"noise": np.arange(20), "signal": np.arange(20, 40), "other": np.arange(40, 60)}
    x = rng.normal(size=(240, 60)).astype(np.float32)
    x[:, 33] += 3 * y
    model = _fit("svm", x[:120], y[:120], None, ("a", "b"))
    found = importance.by_columns(model, x[120:], y[120:], columns, seed=0)
    assert [found[0].name, len(found)] == ["signal", 3]
    assert found[0].accuracy_drop > 0.2
    assert found[0].log_loss_rise > 10 * max(abs(other.log_loss_rise) for other in found[1:])
    assert found[0].log_loss_rise_std > 0
    names = [f"f{k}" for k in range(60)]
    single = importance.by_feature(model, x[120:], y[120:], names, seed=0, candidates=8)
    assert len(single) == 8
    assert single[0].name == "f33"
    again = importance.by_feature(model, x[120:], y[120:], names, seed=0, candidates=8)
    assert again == single


def test_shuffling_is_of_whole_rows_and_leaves_the_input_alone() -> None:
    x, y, _ = _made(12)
    before = x.copy()
    seen: list[Any] = []

    class Model:
        n_features_in_ = 12

        def predict_proba(self, rows: Any) -> Any:
            seen.append(np.array(rows))
            return np.full((len(rows), 3), 1 / 3)

    sets = {"first": np.array([0, 1]), "last": np.array([11])}
    found = importance.by_columns(Model(), x, y, sets, seed=0, repeats=1)
    assert [f.log_loss_rise for f in found] == [0, 0]
    np.testing.assert_array_equal(x, before)
    _, first, last = seen
    assert sorted(map(tuple, first[:, :2])) == sorted(map(tuple, x[:, :2]))
    assert (first[:, :2] != x[:, :2]).any()
    np.testing.assert_array_equal(first[:, 2:], x[:, 2:])
    np.testing.assert_array_equal(last[:, :11], x[:, :11])
    with pytest.raises(UserError, match="1 rows"):
        importance.by_columns(Model(), x[:1], y[:1], sets, seed=0)
    with pytest.raises(UserError, match="2 names for 12 columns"):
        importance.by_feature(Model(), x, y, ["a", "b"], seed=0)


def test_correlation_with_the_answers_is_pearsons() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6)).astype(np.float32)
    x[:, 5] = 0.1
    probabilities = rng.dirichlet([1, 1, 1], size=50)
    found = importance.answer_correlation(probabilities, x)
    with np.errstate(divide="ignore", invalid="ignore"):
        both = np.corrcoef(x[:, :5].T, np.log(probabilities).T)
    np.testing.assert_allclose(found[:5], np.abs(both[:5, 5:]).max(axis=1), rtol=1e-5)
    assert found[5] == 0
    x[0, 0] = np.nan
    assert np.isfinite(importance.answer_correlation(probabilities, x)).all()


PREDICT = """
import sys, numpy as np
from vidray.models import classical
x = np.load("x.npy")
for name in sys.argv[1:]:
    model = classical.load(f"{name}.skops")
    np.save(f"{name}.npy", classical.predict(model, x), allow_pickle=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CLASSICAL, MAJORITY])
@pytest.mark.parametrize("dimensionality", ["pca", "select", "none"])
def test_a_model_comes_back_to_the_last_bit(name: str, dimensionality: Any) -> None:
    x, y, groups = _made()
    model = _fit(name, x, y, groups, dimensionality=dimensionality)
    loaded = classical.loads(classical.dumps(model))
    np.testing.assert_array_equal(classical.predict(loaded, x), classical.predict(model, x))
    halves = y % 2
    model = _fit(name, x, halves, groups, ("a", "b"), calibrated=name == "svm")
    loaded = classical.loads(classical.dumps(model))
    np.testing.assert_array_equal(classical.predict(loaded, x), classical.predict(model, x))


@pytest.mark.slow
@pytest.mark.timeout(300)  # a new process imports torch, slowly where cores are busy
def test_models_come_back_to_the_last_bit_in_a_new_process(tmp_path: Path) -> None:
    x, y, groups = _made()
    np.save(tmp_path / "x.npy", x)
    models = {name: _fit(name, x, y, groups) for name in CLASSICAL}
    for name, model in models.items():
        classical.save(model, str(tmp_path / f"{name}.skops"))
    place = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    subprocess.run([sys.executable, "-c", PREDICT, *models], check=True, cwd=tmp_path, env=place)
    for name, model in models.items():
        np.testing.assert_array_equal(
            np.load(tmp_path / f"{name}.npy"), classical.predict(model, x)
        )


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "model.skops"
    path.write_bytes(pickle.dumps(Payload(str(tmp_path / "proof"))))
    with pytest.raises(UserError, match=r"not a skops file .*pickle"):
        classical.load(str(path))
    assert not (tmp_path / "proof").exists()
    pickle.loads(path.read_bytes()).close()
    assert (tmp_path / "proof").exists()  # It would have.


def _rewritten(data: bytes, change: Any) -> bytes:
    """A skops file with its schema changed, as an attacker would."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as changed:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "schema.json":
                content = json.dumps(change(json.loads(content))).encode()
            changed.writestr(name, content)
    return out.getvalue()


def test_a_skops_file_that_would_make_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    x, y, groups = _made()
    proof = tmp_path / "proof"
    words = {"__loader__": "JsonNode", "__module__": "builtins", "__class__": "str"}
    call = {
        "__class__": "WindowsPath",
        "__module__": "pathlib",
        "__loader__": "MethodNode",
        "content": {"func": "touch", "obj": {**words, "content": json.dumps(str(proof))}},
    }
    function = {
        "__class__": "system",
        "__module__": "posix",
        "__loader__": "FunctionNode",
        "content": "os.system",
    }
    good = classical.dumps(_fit("svm", x, y, groups))
    for evil in (call, function):

        def insert(state: Any, evil: Any = evil) -> Any:
            state["content"]["content"]["method"] = evil
            return state

        with pytest.raises(UserError, match=f"{evil['__class__']} .as {evil['__loader__']}"):
            classical.loads(_rewritten(good, insert))
    assert not proof.exists()


def test_a_type_that_skops_itself_trusts_is_refused_too() -> None:
    x, _, _ = _made()
    forest = IsolationForest(n_estimators=2, random_state=0).fit(x)
    with pytest.raises(UserError, match="IsolationForest"):
        classical.loads(skops.io.dumps(forest))
    own = {"algorithm": "kd_tree"}
    model = classical.fit("knn", *_made(), THREE, seed=0, calibrated=False, parameters=own)
    with pytest.raises(UserError, match="KDTree"):
        classical.dumps(model)


def test_packed_and_damaged_files_are_refused() -> None:
    x, y, groups = _made()
    model = _fit("knn", x, y, groups)
    packed = skops.io.dumps(model, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="compressed parts"):
        classical.loads(packed)
    data = classical.dumps(model)
    with pytest.raises(UserError, match="not a skops file"):
        classical.loads(data[: len(data) // 2])
    with pytest.raises(UserError, match="not a skops file"):
        classical.loads(b"")

    def forget(state: Any) -> Any:
        del state["content"]["content"]
        return state

    with pytest.raises(UserError, match="damaged"):
        classical.loads(_rewritten(data, forget))


def _with_parts(data: bytes, change: Any) -> bytes:
    """A skops file of which ``change(name, content)`` gives each part."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as changed:
        for name in archive.namelist():
            changed.writestr(name, change(name, archive.read(name)))
    return out.getvalue()


def _bomb(data: bytes, what: str) -> bytes:
    """A small file that is large once it is read."""
    if what == "packed":
        out = io.BytesIO(data)
        with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("more.npy", bytes(1 << 28))
        return out.getvalue()
    if what == "packed schema":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("schema.json", b" " * (1 << 28) + b"{}")
        return out.getvalue()
    if what == "said to be stored":
        # The directory at the end says that packed bytes are plain, and how many they would be.
        packed = _bomb(data, "packed schema")
        at = packed.rindex(b"PK\x01\x02")
        return packed[: at + 10] + b"\0\0" + packed[at + 12 :]
    if what == "claimed by a header":
        header = io.BytesIO()
        shape = {"shape": (1 << 37,), "fortran_order": False, "descr": "<f8"}
        np.lib.format.write_array_header_1_0(header, shape)  # type: ignore[arg-type]
        return _with_parts(data, lambda name, old: old if "json" in name else header.getvalue())
    if what == "one array as many":

        def repeat(state: Any) -> Any:
            array = next(node for node in _dicts(state) if node.get("file"))
            more = [{**array, "__id__": 10**6 + k} for k in range(5000)]
            words = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode"}
            state["content"]["content"]["more"] = {**words, "content": more, "__id__": 999}
            return state

        return _rewritten(data, repeat)
    assert what == "the same bytes many times"
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive:
        first = next(i for i in archive.infolist() if i.filename.endswith(".npy"))
        for k in range(50):
            twin = copy.copy(first)
            twin.filename = f"{k}.npy"
            archive.filelist.append(twin)
        archive._didModify = True  # type: ignore[attr-defined]
    return out.getvalue()


def _dicts(value: Any) -> Any:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from _dicts(inner)


BOMBS = ("packed", "packed schema", "said to be stored", "claimed by a header",
         "one array as many", "the same bytes many times")  # fmt: skip


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    data = classical.dumps(_fit("svm", *_made()))
    return {what: _bomb(data, what) for what in BOMBS}


@pytest.mark.slow
@pytest.mark.parametrize("what", BOMBS)
def test_a_small_file_that_is_large_once_read_is_refused_before(
    what: str, bombs: dict[str, bytes]
) -> None:
    assert len(bombs[what]) < 4 << 20
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"not a skops file|no model of vidray is") as e:
            classical.loads(bombs[what])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in str(e.value)
    assert peak < 64 << 20


_LISTS = 400  # As JSON they may be read; skops goes down by several calls each.
_OPEN = '{"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": ['


@pytest.mark.slow
@pytest.mark.parametrize("deep", ["[" * 200_000, '{"a":' * 200_000, _OPEN * _LISTS + "]}" * _LISTS])
def test_nested_brackets_are_refused_in_a_line(deep: str) -> None:
    data = classical.dumps(_fit("svm", *_made()))

    def nest(name: str, content: bytes) -> bytes:
        first = b'"estimator": {'  # Among the attributes of the outermost object.
        assert name != "schema.json" or first in content
        return content.replace(first, b'"more": ' + deep.encode() + b", " + first, 1)

    with pytest.raises(UserError, match=r"nested too deeply|other library versions") as caught:
        classical.loads(_with_parts(data, nest))
    assert "\n" not in str(caught.value)


def test_a_skops_file_damaged_anywhere_is_refused_in_a_line_or_read() -> None:
    x, y, groups = _made()
    data = classical.dumps(_fit("logistic_regression", x, y, groups, calibrated=False))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 20):
            damaged[at] = rng.integers(0, 256)
        try:
            classical.loads(bytes(damaged))
        except UserError:  # Whatever else is raised fails the test.
            refused += 1
    assert refused > 200


@pytest.mark.parametrize("name", ["extra_trees", "gradient_boosting"])
@pytest.mark.parametrize("what", ["child", "feature", "loop"])
def test_a_tree_that_leads_out_of_itself_is_refused(name: str, what: str) -> None:
    x, y, groups = _made()
    own = {"n_estimators": 1} if name == "extra_trees" else {"max_iter": 1}
    model = _fit(name, x, y, groups, parameters=own, calibrated=False, dimensionality="none")
    classifier = model.named_steps["classify"]
    if name == "extra_trees":
        tree = classifier.estimators_[0].tree_
        state = tree.__getstate__()
        state["nodes"] = nodes = state["nodes"].copy()
        column = {"child": "left_child", "loop": "left_child", "feature": "feature"}[what]
    else:
        nodes = classifier._predictors[0][0].nodes
        column = {"child": "left", "loop": "left", "feature": "feature_idx"}[what]
    nodes[column][0] = {"child": 10**6, "feature": 10**6, "loop": 0}[what]
    if name == "extra_trees":
        tree.__setstate__(state)
    with pytest.raises(UserError, match="leads out of itself"):
        classical.loads(classical.dumps(model))
