"""Proposals, trials and what is made of them, without Ray."""

import dataclasses
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pytest

from tests.made_runs import clips_run, features_run
from tune import spaces
from tune.spaces import Stored
from vidray import models, storage
from vidray.errors import UserError
from vidray.evaluation import judging
from vidray.evaluation.drawing import save_figure
from vidray.learning.examples import read_clips, read_features
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.train_config import DeepSettings, Workers
from vidray.models import classical
from vidray.models.cross_validation import cross_validate
from vidray.models.matrices import family_columns, to_matrix
from vidray.models.names import CLASSICAL, DEEP
from vidray.search.conductor import _Conductor
from vidray.search.importances import importances
from vidray.search.plots import importance_bars, search_curve
from vidray.search.proposals import (
    TRIALS,
    Proposal,
    Proposals,
    SearchSpace,
    Trial,
    best_trial,
    failed,
    from_json,
    to_json,
    to_table,
)
from vidray.search.trials import (
    STOP,
    ClassicalTrials,
    DeepTrials,
    classical_options,
    recorded,
)
from vidray.tables.run_folder import RunFolder


def _space(trial: optuna.Trial) -> dict[str, Any]:
    model = trial.suggest_categorical("model", ["bowl", "plane"])
    return {"model": model, "x": trial.suggest_float(f"{model}.x", -3, 3)}


def _value(settings: dict[str, Any]) -> float:
    x = settings["x"]
    return float((x - 1) ** 2 if settings["model"] == "bowl" else 5 + x)


def _trial(number: int, score: float | None, **changed: Any) -> Trial:
    values: dict[str, Any] = {
        "kind": "deep", "number": number, "params": {"model": "bowl", "bowl.x": 0.1 * number},
        "settings": {"model": "bowl"}, "state": "ok" if score is not None else "failed",
        "score": score, **changed,
    }  # fmt: skip
    return Trial(**values)


def _proposals(searcher: Any = "tpe", **changed: Any) -> Proposals:
    asked = {"metric": "log_loss", "seed": 0, "limit": 40, "generation": 4, **changed}
    return Proposals(SearchSpace(space=_space, first=[]), searcher=searcher, **asked)


def _told(proposal: Any, **changed: Any) -> Trial:
    score = _value(proposal.settings)
    return _trial(
        proposal.number, score, params=proposal.params, settings=proposal.settings, **changed
    )


def _all(proposals: Proposals, *, at_once: int, seed: int = 0) -> list[dict[str, Any]]:
    """Every proposal's parameters, trials coming to their end in a random order."""
    rng = np.random.default_rng(seed)
    running: list[Any] = []
    tried = []
    while not proposals.is_over or running:
        proposal = None
        if len(running) < at_once and not proposals.is_over:
            proposal = proposals.ask()
        if proposal is not None:
            running.append(proposal)
            tried.append(proposal.params)
            continue
        proposals.tell(_told(running.pop(rng.integers(len(running)))))
    return tried


@pytest.mark.parametrize("searcher", ["tpe", "random"])
def test_proposals_do_not_depend_on_who_is_quickest(searcher: str) -> None:
    one = _all(_proposals(searcher), at_once=1)
    assert len(one) == 40
    assert _all(_proposals(searcher), at_once=3, seed=1) == one
    assert _all(_proposals(searcher), at_once=40, seed=2) == one
    assert _all(_proposals(searcher, seed=1), at_once=1) != one


def test_a_generation_waits_for_the_one_before() -> None:
    proposals = _proposals(generation=2)
    first, second = proposals.ask(), proposals.ask()
    assert proposals.ask() is None
    proposals.tell(_told(second))
    assert proposals.ask() is None
    proposals.tell(_told(first))
    third = proposals.ask()
    assert third is not None
    assert third.number == 2


def test_tpe_learns_where_random_does_not() -> None:
    def late(searcher: str) -> float:
        tried = _all(_proposals(searcher, generation=1, limit=60), at_once=1)
        return float(np.mean([p["model"] == "bowl" for p in tried[30:]]))

    assert late("tpe") > 0.8
    assert late("random") < 0.7


def test_failed_and_stopped_trials_are_learnt_from_and_not_chosen() -> None:
    proposals = _proposals(generation=1, limit=20)
    for _ in range(20):
        proposal = proposals.ask()
        assert proposal is not None
        if proposal.number % 3 == 0:
            proposals.tell(failed(proposal, "deep", "no memory", 1.0))
        elif proposal.number % 3 == 1:
            row = {"epoch": 1, "score": 0.0, "best_score": 0.0}
            proposals.tell(_told(proposal, state="stopped", history=[row]))
        else:
            proposals.tell(_told(proposal))
    assert proposals.is_over
    trials = [_trial(0, None), _trial(1, 0.1, state="stopped"), _trial(2, 0.5), _trial(3, 0.5)]
    chosen = best_trial(trials, "log_loss")
    assert chosen is not None
    assert chosen.number == 2
    assert best_trial(trials[:2], "log_loss") is None
    highest = best_trial([_trial(0, 0.2), _trial(1, 0.7)], "accuracy")
    assert highest is not None
    assert highest.number == 1


def test_a_grid_is_tried_once_from_end_to_end() -> None:
    points = spaces.notebook_grid(["svm", "random_forest", "knn"])
    assert [sum(p["model"] == m for p in points) for m in ("svm", "random_forest", "knn")] == [
        18, 12, 24,
    ]  # fmt: skip
    space = spaces.notebook(["svm", "random_forest", "knn"], ["motion"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proposals = Proposals(
            SearchSpace(space=space, first=points, is_grid=True),
            searcher="tpe", metric="accuracy", seed=0, limit=100, generation=4,
        )  # fmt: skip
        assert len(proposals) == 54
        tried = []
        while not proposals.is_over:
            proposal = proposals.ask()
            assert proposal is not None
            tried.append(proposal.params)
    assert tried == points


# Spaces


@pytest.mark.parametrize("name", CLASSICAL)
def test_first_come_the_defaults_of_the_library(name: str) -> None:
    (first,) = spaces.classical_defaults([name], ["motion", "flow"])
    proposals = Proposals(
        SearchSpace(space=spaces.classical([name], ["motion", "flow"]), first=[first]),
        searcher="tpe", metric="log_loss", seed=0, limit=1, generation=1,
    )  # fmt: skip
    proposal = proposals.ask()
    assert proposal is not None
    assert proposal.params == first
    assert proposal.settings["families"] == ["motion", "flow"]
    ours = classical.make_pipeline(name, seed=3, **classical_options(proposal.settings))
    plain = classical.make_pipeline(name, seed=3)

    def parameters(model: Any) -> dict[str, str]:
        return {key: repr(value) for key, value in model.get_params().items()}

    assert parameters(ours) == parameters(plain)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSICAL)
def test_every_classical_setting_can_be_trained(name: str) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = (rng.normal(size=(60, 6)) + y[:, None]).astype(np.float32)
    proposals = Proposals(
        SearchSpace(space=spaces.classical([name], ["motion"]), first=[]),
        searcher="random", metric="log_loss", seed=0, limit=12, generation=1,
    )  # fmt: skip
    while not proposals.is_over:
        proposal = proposals.ask()
        assert proposal is not None
        options = classical_options(proposal.settings)
        for key in ("n_estimators", "max_iter"):
            if key in options["parameters"]:
                options["parameters"][key] = 5
        model = classical.fit(
            name, x, y, None, ("a", "b"), seed=0, calibrated=name == "svm", **options
        )
        again = classical.loads(classical.dumps(model))
        np.testing.assert_array_equal(classical.predict(again, x), classical.predict(model, x))


def _deep(models: list[str], *, pretrained: bool = False, **fixed: Any) -> list[dict[str, Any]]:
    stored = Stored(frames=16, size_px=112)
    given: Any = {"pretrained": pretrained, "fixed": fixed, "rates": dict.fromkeys(models, 1e-3)}
    proposals = Proposals(
        SearchSpace(
            space=spaces.deep(models, stored, **given),
            first=spaces.deep_defaults(models, stored, **given),
        ),
        searcher="random", metric="log_loss", seed=0, limit=60, generation=1,
    )  # fmt: skip
    settings = []
    while not proposals.is_over:
        proposal = proposals.ask()
        assert proposal is not None
        settings.append(proposal.settings)
    return settings


def test_deep_settings_begin_with_the_defaults_and_fit_the_stored_clips() -> None:
    tried = _deep(["resnet18", "s3d"])
    plain_deep, plain = DeepSettings(), Training()
    for settings, model in zip(tried, ("resnet18_avg", "s3d"), strict=False):
        assert settings["model"] == model
        assert settings["augmentation"] == dataclasses.asdict(Augmentation())
        assert (settings["frames"], settings["stride"], settings["crop_px"]) == (16, None, 112)
        assert settings["learning_rate"] == 0.001
        for name in ("weight_decay", "schedule", "label_smoothing", "batch_size"):
            assert settings[name] == getattr(plain, name), name
        assert settings["head"] == plain_deep.head
    assert {s["model"] for s in tried} == {
        "s3d", "resnet18_avg", "resnet18_max", "resnet18_attention", "resnet18_lstm",
    }  # fmt: skip
    assert {s["model"] for s in tried} <= set(DEEP)
    assert {(s["frames"], s["stride"]) for s in tried} == {(16, None), (8, None), (8, 1)}
    assert {s["crop_px"] for s in tried} == {112, 80}
    assert "trained" not in tried[0]
    for settings in tried:
        Augmentation(**settings["augmentation"])
        names = settings.keys() & {f.name for f in dataclasses.fields(Training)}
        Training(**{name: settings[name] for name in names})


def test_what_the_user_has_decided_is_not_searched() -> None:
    tried = _deep(["s3d"], frames=8, learning_rate=0.01, augmentation=True)
    assert not any({"frames", "learning_rate", "augmentation"} & set(s) for s in tried)
    assert {s["stride"] for s in tried} == {None, 1}
    assert {s["trained"] for s in _deep(["s3d"], pretrained=True)} == {
        "all", "last_1_block", "last_2_blocks", "head",
    }  # fmt: skip


# One trial


@pytest.mark.slow
def test_a_classical_trial_is_the_cross_validation_of_its_settings(tmp_path: Path) -> None:
    examples = read_features(str(features_run(tmp_path / "features"))).of_split("train")
    names = examples.class_names
    y = examples.targets(names)
    trials = ClassicalTrials(
        x=examples.matrix(), y=y, groups=examples.groups, class_names=names,
        columns=family_columns(examples.families), folder=str(tmp_path / "made"),
        folds=4, repeats=2, calibrated=True, metric="accuracy", seed=0,
    )  # fmt: skip
    settings = {
        "model": "logistic_regression", "families": ["motion"], "scaling": "robust",
        "dimensionality": "pca", "kept_variance": 0.9, "parameters": {"C": 0.5},
    }  # fmt: skip
    told: list[dict[str, Any]] = []
    recorded(trials.run, settings, told.append)
    own = cross_validate(
        "logistic_regression", to_matrix(examples.table, ["motion"]), y, examples.groups,
        names, seed=0, folds=4, repeats=2, scaling="robust", dimensionality="pca",
        kept_variance=0.9, parameters={"C": 0.5},
    )  # fmt: skip
    right = (own.probabilities.argmax(axis=2) == y).mean()
    assert told[0]["best_score"] == told[0]["accuracy"] == pytest.approx(right)
    assert told[0]["accuracy"] > 0.6
    log_loss = -np.log(own.probabilities[:, np.arange(len(y)), y]).mean()
    assert told[0]["log_loss"] == pytest.approx(log_loss, rel=1e-4)


def _raises(error: BaseException) -> Any:
    def run(settings: Any, report: Any) -> None:
        raise error

    return run


def test_what_a_trial_raises_is_its_result() -> None:
    told: list[dict[str, Any]] = []
    recorded(_raises(UserError("frames is 3: it must be 4")), {}, told.append)
    recorded(_raises(ValueError("no  such\nthing")), {}, told.append)
    recorded(lambda *_: np.empty(1 << 50, np.uint8), {}, told.append)  # type: ignore[arg-type,return-value]
    assert [one["error_message"] for one in told[:2]] == [
        "frames is 3: it must be 4", "ValueError: no such thing",
    ]  # fmt: skip
    assert told[2]["error_message"].startswith("out of memory: ")
    with pytest.raises(KeyboardInterrupt):
        recorded(_raises(KeyboardInterrupt()), {}, told.append)


def _deep_trials(tmp_path: Path) -> DeepTrials:
    return DeepTrials(
        data=str(clips_run(tmp_path / "clips", 16)),
        work=str(tmp_path / "work"),
        deep=DeepSettings(),
        training=Training(epochs=3, batch_size=8, optimizer="sgd"),
        augmentation=Augmentation.none(),
        workers=Workers(in_process=True),
        metric="log_loss",
    )


@pytest.mark.slow
def test_a_deep_trial_leaves_a_model_of_the_epoch_it_is_scored_by(tmp_path: Path) -> None:
    trials = _deep_trials(tmp_path)
    told: list[dict[str, Any]] = []
    settings = {"number": 7, "model": "resnet18_avg", "learning_rate": 0.003}
    recorded(trials.run, settings, told.append)
    assert [one.get("epoch") for one in told] == [1, 2, 3], told
    assert [bool(one.get("is_whole")) for one in told] == [False, False, True]
    losses = [one["score"] for one in told]
    assert [one["best_score"] for one in told] == [min(losses[:k]) for k in (1, 2, 3)]
    model = models.load(f"{trials.folder(7)}/model")
    val = read_clips(trials.data).of_split("val")
    probabilities = judging.predict(model, val)
    own = probabilities[np.arange(len(val.table)), val.targets(model.class_names)]
    assert -np.log(own).mean() == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.slow
def test_a_deep_trial_ends_where_it_is_told_to_and_leaves_no_model(tmp_path: Path) -> None:
    trials = _deep_trials(tmp_path)
    told: list[dict[str, Any]] = []
    storage.write_bytes(f"{trials.folder(0)}/{STOP}", b"2")
    recorded(trials.run, {"number": 0, "model": "resnet18_avg"}, told.append)
    assert [one.get("epoch") for one in told] == [1, 2], told
    assert not storage.exists(f"{trials.folder(0)}/model")


# What is told of trials


def test_the_table_has_a_column_for_each_parameter() -> None:
    other = {"model": "plane", "plane.kind": "flat", "plane.deep": None}
    trials = [
        _trial(0, 0.5, metrics={"accuracy": 0.7}, history=[{"epoch": 1}, {"epoch": 2}]),
        _trial(1, None, params=other, settings={"model": "plane"}, error="no memory"),
    ]
    table = to_table(trials)
    assert table.schema.names[: len(TRIALS)] == TRIALS.names
    assert table["bowl.x"].type == pa.float64()
    rows = table.to_pylist()
    assert [row["plane.kind"] for row in rows] == [None, "flat"]
    assert [row["epochs"] for row in rows] == [2, 0]
    assert [row["state"] for row in rows] == ["ok", "failed"]
    assert rows[1]["error_message"] == "no memory"
    assert rows[0]["trial"] == "deep-0000"


def test_a_trial_comes_back_from_json() -> None:
    trial = _trial(3, 0.25, metrics={"accuracy": None}, history=[{"epoch": 1, "score": 0.2}])
    stored = json.loads(json.dumps(to_json(trial)))
    assert stored["family"] == "deep"  # As in the files of older searches.
    assert from_json(stored) == trial


def _wrong(values: dict[str, Any]) -> Iterator[str]:
    """What may be in the place of a part that holds ``values``."""
    yield from ("", "{", "[]", "{}", "[" * 9999)
    for name in values:
        yield json.dumps({k: v for k, v in values.items() if k != name})
    for name in ("state", "score", "metrics", "history", "seconds", "error"):
        for value in ("../x", [5], {"x": "y"}, "x" * 9999):
            if (name, value) != ("error", "../x") and (name, value) != ("error", "x" * 9999):
                yield json.dumps({**values, name: value})


def test_a_trial_that_a_stranger_touched_is_one_line_and_never_a_path(tmp_path: Path) -> None:
    settings = {"model": "svm", "families": ("flow",)}
    proposal = Proposal(number=3, params={"much": 0.5}, settings=settings)
    folder = RunFolder(out=str(tmp_path), kind="search")
    plan: Any = SimpleNamespace(_plan=SimpleNamespace(folder=folder, kind="deep"))
    trial = _trial(3, 0.25, params=proposal.params, settings=settings)
    stored = {**to_json(trial), "family": "../../victim", "number": 9}
    folder.write("trials/deep-0003.json", stored)
    kept = _Conductor._kept(plan, proposal)
    assert kept is not None
    assert (kept.name, kept.settings, kept.score) == ("deep-0003", settings, 0.25)
    for text in _wrong(stored):
        folder.write("trials/deep-0003.json", {})
        (tmp_path / "trials" / "deep-0003.json").write_text(text)
        with pytest.raises(UserError, match=r"trials/deep-0003\.json is damaged"):
            _Conductor._kept(plan, proposal)


def test_importance_finds_what_decides_the_score() -> None:
    rng = np.random.default_rng(0)
    trials = []
    for number in range(40):
        params = {
            "model": "bowl", "bowl.much": float(rng.uniform(0, 1)),
            "bowl.little": float(10 ** rng.uniform(-4, 0)), "bowl.same": 1,
            "bowl.kind": str(rng.choice(["a", "b"])),
        }  # fmt: skip
        if number % 2:
            params["bowl.sometimes"] = 1.0
        score = 3 * params["bowl.much"] + (params["bowl.kind"] == "a")
        trials.append(_trial(number, float(score), params=params))
    shares = importances(trials, seed=0)["bowl"]
    assert list(shares)[:2] == ["bowl.much", "bowl.kind"]
    assert set(shares) == {"bowl.much", "bowl.little", "bowl.kind"}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["bowl.little"] < 0.1
    assert importances(trials[:5], seed=0) == {}


def test_pictures_are_drawn_of_any_search(tmp_path: Path) -> None:
    history = [{"epoch": 1, "score": 0.7, "best_score": 0.7}]
    ok = _trial(0, 0.5, params={"model": "s3d"}, history=history)
    failed = _trial(1, None, params={"model": "s3d"})
    for some in ([ok, failed], [failed]):
        save_figure(search_curve(some, metric="log_loss"), str(tmp_path / "a.png"))
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    figure = importance_bars({"s3d": {"s3d.learning_rate": 0.9, "s3d.head": 0.1}})
    save_figure(figure, str(tmp_path / "b.png"))
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
