"""Models of prepared rows against the same pipelines on the rows themselves."""

import copy
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from tests.models.test_classical import FEW, _made
from vidray.models.cross_validation import cross_validate
from vidray.models.names import CLASSICAL
from vidray.models.prepared import Prepared

NAMES = ("a", "b", "c")


def _prepared(folder: Path, **made: Any) -> tuple[Prepared, Any, Any]:
    x, y, groups = _made(**made)
    x[::7, 3] = np.nan
    return Prepared(name="x", x=x, y=y, folder=folder), y, groups


@pytest.mark.slow
@pytest.mark.parametrize("dimensionality", ["none", "pca", "select"])
@pytest.mark.parametrize("name", CLASSICAL)
def test_the_same_answers_as_of_the_rows_themselves(
    name: str, dimensionality: Any, tmp_path: Path
) -> None:
    prepared, y, groups = _prepared(tmp_path)
    options: Any = {
        "seed": 0, "folds": 3, "repeats": 1, "parameters": FEW.get(name),
        "dimensionality": dimensionality, "scaling": "robust", "kept_variance": 0.8,
    }  # fmt: skip
    plain = cross_validate(name, prepared.x, y, groups, NAMES, **options)
    shared = cross_validate(
        name, prepared.row_numbers, y, groups, NAMES, prepared=prepared, **options
    )
    # A product of other shapes may round another way, and a tree splits there.
    assert np.abs(plain.probabilities - shared.probabilities).mean() < 1e-3
    files = list(tmp_path.glob("*.npy"))
    # Three folds, and five within each that the sigmoid is fitted to.
    assert len(files) == (0 if dimensionality == "none" else 3 * 6)


@pytest.mark.slow
def test_what_is_there_is_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, y, groups = _prepared(tmp_path)
    options: Any = {"seed": 0, "folds": 3, "repeats": 1, "dimensionality": "pca"}
    for name in ("svm", "knn"):
        cross_validate(name, prepared.row_numbers, y, groups, NAMES, prepared=prepared, **options)
        monkeypatch.setattr(Prepared, "compute", lambda *_: pytest.fail("computed again"))


def test_other_rows_settings_and_tables_are_others(tmp_path: Path) -> None:
    prepared, y, _ = _prepared(tmp_path)
    steps = Pipeline([("scale", StandardScaler())])
    other = Prepared(name="other", x=prepared.x + 1, y=y, folder=tmp_path)
    rows = np.arange(10)
    prepared.rows(steps, "a", rows)
    prepared.rows(steps, "a", rows + 1)
    prepared.rows(steps, "b", rows)
    other.rows(steps, "a", rows)
    prepared.rows(steps, "a", rows)
    assert len(list(tmp_path.glob("*.npy"))) == 4


def _ask(prepared: Prepared, queue: Any) -> None:
    steps = Pipeline([("scale", _Slow())])
    queue.put(float(np.nansum(prepared.rows(steps, "a", np.arange(30)))))


class _Slow(StandardScaler):  # type: ignore[misc]
    def fit(self, x: Any, y: Any = None) -> Any:
        import time

        with open("computed.txt", "a") as file:
            file.write("x")
        time.sleep(0.5)
        return super().fit(x, y)


@pytest.mark.slow
def test_processes_wait_for_the_one_that_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepared, _, _ = _prepared(tmp_path / "made")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_ask, args=(prepared, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    answers = {queue.get(timeout=240) for _ in processes}
    for process in processes:
        process.join()
    assert len(answers) == 1
    assert (tmp_path / "computed.txt").read_text() == "x"


def test_copies_share_the_rows(tmp_path: Path) -> None:
    prepared, _, _ = _prepared(tmp_path)
    assert copy.deepcopy(prepared) is prepared
