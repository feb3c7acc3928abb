"""tune/search.py as a user runs it: both kinds, killed, two at once, and trials that fail."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from tests.command_lines import ROOT
from tests.made_runs import clips_run, features_run
from tests.ray_cluster import PATIENCE_SECONDS, Cluster, Process, ray_workers
from tune import search as job
from vidray import models
from vidray.errors import UserError
from vidray.learning.hyperparameters import Training
from vidray.learning.train_config import ClassicalSettings, FoldSettings, LearningSettings
from vidray.search.settings import SearchSettings

pytestmark = pytest.mark.timeout(1500)

_FLAGS = (
    "--kinds", "classical", "deep", "--models", "knn", "logistic_regression", "resnet18_avg",
    "s3d", "--trials", "4", "--folds", "2", "--epochs", "3", "--batch-size", "16",
    "--optimizer", "sgd", "--seed", "2",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features and clips of the same videos; of the clips the networks are given 4 frames."""
    folder = tmp_path_factory.mktemp("data")
    features_run(folder / "features")
    clips_run(folder / "clips")
    return folder


def _start(cluster: Cluster, data: Path, out: Path, *flags: object) -> Process:
    given = ["--data", data, "--out", out, *_FLAGS, *flags]
    return Process(
        [sys.executable, str(ROOT / "tune" / "search.py"), *map(str, given)],
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for(process: Process, words: str) -> str:
    """What is told up to a line with these words."""
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if words in line:
            return told
    raise AssertionError(told)


def _table(out: Path) -> list[tuple[Any, ...]]:
    """What came of every trial, without what the clock told."""
    query = f"select * exclude (seconds) from '{out}/trials.parquet' order by trial"
    return duckdb.sql(query).fetchall()


def _written(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "trials").iterdir()}


@pytest.mark.slow
def test_two_searches_at_once_one_of_them_killed_come_to_the_same(
    data: Path, cluster: Cluster, tmp_path: Path
) -> None:
    plain, killed = tmp_path / "plain", tmp_path / "killed"
    with _start(cluster, data, plain) as first:
        with _start(cluster, data, killed) as second:
            _wait_for(second, "deep 1/4")
            kept = _written(killed)
            second.send_signal(signal.SIGKILL)
        told, _ = first.communicate(timeout=PATIENCE_SECONDS)
    assert first.returncode == 0, told
    assert len(kept) == 5
    with _start(cluster, data, killed) as second:
        _wait_for(second, "epoch 1/3")
        for process in ray_workers(cluster, "ray::ImplicitFunc"):
            process.kill()
        again, _ = second.communicate(timeout=PATIENCE_SECONDS)
    assert second.returncode == 0, again
    assert {name: _written(killed)[name] for name in kept} == kept
    assert _table(killed) == _table(plain)

    # What a person is told, and what is left for a program.
    assert "classical: up to 4 trials of knn, logistic_regression; 2 at once" in told
    assert re.search(r"^classical 4/4 .*0s left$", told, flags=re.MULTILINE)
    assert "s3d failed: " in told
    states = duckdb.sql(
        f"select family, state, count(*) from '{plain}/trials.parquet' group by all order by all"
    ).fetchall()
    assert states[0] == ("classical", "ok", 4)
    assert ("deep", "failed", 1) in states or ("deep", "failed", 2) in states
    found = json.loads((plain / "search.json").read_text())
    for kind in ("classical", "deep"):
        winner = found["winners"][kind]
        scores = duckdb.sql(
            f"select min(score) from '{plain}/trials.parquet' "
            f"where family = '{kind}' and state = 'ok'"
        ).fetchall()
        assert scores == [(winner["score"],)]
        assert winner["val"]["num_videos"] == winner["test"]["num_videos"] == 16
        assert (plain / "test" / kind / "predictions.parquet").exists()
    best = models.load(str(plain / "best"))
    assert best.class_names == ("jump", "run")
    chosen = plain / found["best"]
    for name in ("model.json", "_SUCCESS"):
        assert (plain / "best" / name).read_bytes() == (chosen / name).read_bytes()
    deep = models.load(str(plain / "deep"))
    assert deep.predict(np.zeros((1, 4, 32, 32, 3), np.uint8)).shape == (1, 2)  # type: ignore[arg-type]
    assert not (plain / "_work").exists()
    for name in ("deep", "classical"):
        weights = "weights.safetensors" if name == "deep" else "metrics.json"
        ours, theirs = ((out / name / weights).read_bytes() for out in (plain, killed))
        assert ours == theirs


_TRIALS = """
import os, sys, time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from vidray.distributed.capacity import connect
from vidray.search import conductor
from vidray.search.conductor import Plan
from vidray.search.proposals import Proposals, SearchSpace
from vidray.tables.run_folder import RunFolder

out = sys.argv[1]


@dataclass
class Trials:
    folder: str

    def run(self, settings, report):
        kind = settings["kind"]
        with open(f"{out}/begun.txt", "a") as file:
            file.write(f"{kind}\\n")
        if kind == 1:
            raise RuntimeError("no good")
        if kind == 2:
            np.empty(1 << 50, np.uint8)
        if kind == 3:
            os.kill(os.getpid(), 9)
        report({"accuracy": kind / 10, "best_score": kind / 10})


def space(trial):
    model = trial.suggest_categorical("model", ["a"])
    return {"model": model, "kind": trial.suggest_int("a.kind", 0, 9)}


first = [{"model": "a", "a.kind": kind} for kind in range(6)]
proposals = Proposals(
    SearchSpace(space=space, first=first, is_grid=True),
    searcher="tpe", metric="accuracy", seed=0, limit=6, generation=6,
)
folder = RunFolder(out=out, kind="search")
connect()
plan = Plan(
    kind="classical", folder=folder, proposals=proposals, metric="accuracy", at_once=2
)
for trial in conductor.run_classical(plan, Trials(conductor.node_folder())):
    print("TOLD", trial.number, trial.state, trial.score, trial.error)
"""


def test_trials_that_raise_run_out_of_memory_or_die_are_recorded(
    cluster: Cluster, tmp_path: Path
) -> None:
    script = tmp_path / "run.py"
    script.write_text(_TRIALS)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={**cluster.environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    told = [line.removeprefix("TOLD ") for line in done.stdout.splitlines() if "TOLD" in line]
    assert told[0] == "0 ok 0.0 None"
    assert told[1] == "1 failed None RuntimeError: no good"
    assert told[2].startswith("2 failed None out of memory: ")
    assert told[3] == "3 failed None its process died 2 times: it was killed, or out of memory"
    assert told[4:] == ["4 ok 0.4 None", "5 ok 0.5 None"]
    begun = (tmp_path / "begun.txt").read_text().split()
    # What raises is not tried again, what died is, once.
    assert sorted(begun) == ["0", "1", "2", "3", "3", "4", "5"]


def _config(folder: Path, out: Path, **changed: Any) -> job.SearchConfig:
    """Settings as the command line takes them: flat."""
    data = changed.pop("data", (str(folder),))
    given = {"kinds": ("classical",), **changed}

    def group(made: Any) -> Any:
        own = {f.name: given.pop(f.name) for f in dataclasses.fields(made) if f.name in given}
        return dataclasses.replace(made, **own)

    folds = group(FoldSettings(repeats=1))
    learning = LearningSettings(
        classical=group(ClassicalSettings()), training=given.pop("training", Training())
    )
    settings = SearchSettings(**given, folds=folds, learning=learning)
    return job.SearchConfig(data=data, out=str(out), search=settings)


def test_mistakes_are_told_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    both = ("classical", "deep")
    for changed, message in (
        ({"trials": 0}, "trials is 0"),
        ({"folds": 1}, "folds is 1"),
        ({"folds": 0}, "folds is 0"),
        ({"minutes": 0.0}, "minutes is 0"),
        ({"at_once": 0}, "at_once is 0"),
        ({"kinds": ()}, "give --kinds classical, deep or both"),
        ({"models": ("knm",)}, "did you mean knn"),
        ({"models": ("s3d",)}, "no classical model is among --models"),
        ({"models": ("knn", "s3d")}, "one of a kind that is not among --kinds"),
        ({"calibrated": False}, "give --metric accuracy"),
        ({"preset": "notebook", "models": ("extra_trees",)}, "no grid of extra_trees"),
        ({"preset": "notebook", "kinds": ("deep",)}, "--preset has no effect"),
        ({"folds": 3, "kinds": ("deep",)}, "--folds has no effect"),
        ({"families": ("flow",), "kinds": ("deep",)}, "--families has no effect"),
        ({"early_stopping": False}, "--no-early-stopping has no effect"),
        ({"kinds": both, "training": Training(keep="loss")}, "--keep has no effect"),
        ({"training": Training(epochs=3)}, "--epochs has no effect on a search without --kinds"),
    ):
        with pytest.raises(UserError, match=message):
            _config(data, tmp_path / "x", **changed)
    for changed, message in (
        ({"data": (str(tmp_path),)}, "is not a run folder"),
        ({"data": (str(data / "features"), str(data / "features"))}, "--data takes one run"),
        ({"data": (str(data / "clips"),)}, "classical models learn from features"),
        ({"data": (str(data / "features"),), "kinds": both}, "deep models learn from clips"),
        ({"families": ("flow",)}, "no family flow"),
        ({"folds": 40}, "has 8 groups .* 40 folds need one each"),
    ):
        with pytest.raises(UserError, match=message):
            job.main(_config(data, tmp_path / "x", **changed))
    assert not (tmp_path / "x").exists()


def test_folds_that_leave_too_little_to_calibrate_are_refused(tmp_path: Path) -> None:
    few = features_run(tmp_path / "features", number=16)  # Two recordings of a class to learn from.
    with pytest.raises(UserError, match=r"leaves 1 recording of class .* --no-calibrated"):
        job.main(_config(few, tmp_path / "x", folds=2))
    assert not (tmp_path / "x").exists()


def test_a_folder_without_a_split_to_search_by_is_refused(tmp_path: Path) -> None:
    folder = features_run(tmp_path / "features", number=12)
    with pytest.raises(UserError, match="no labelled video in split test"):
        job.main(_config(folder, tmp_path / "x"))
