"""Studies: fair subsets and plans, figures against scikit-learn, killed and gone on with."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

from jobs import study as job
from tests.command_lines import ROOT, exit_code
from tests.labelling.test_embedding import SIZE, save_network
from tests.made_runs import embedding_run
from tests.ray_cluster import Cluster, Job
from vidray import models
from vidray.errors import UserError
from vidray.evaluation import judging, study, study_figures, study_plan
from vidray.evaluation.judged import judge
from vidray.evaluation.study import StudyRun
from vidray.evaluation.study_answers import StudyTeacher, UnitAnswer
from vidray.evaluation.study_plan import Unit
from vidray.evaluation.study_settings import StudySettings
from vidray.features import FAMILIES
from vidray.features.extraction import Settings
from vidray.learning.examples import Examples, read_clips, read_features
from vidray.learning.hyperparameters import Training
from vidray.learning.train_config import ClassicalSettings, FoldSettings, LearningSettings
from vidray.models import classical
from vidray.models.folds import group_folds
from vidray.storage import parquet
from vidray.tables import schema
from vidray.video import synthetic

LABELS = ("run", "sit")
_HEAD = ("video_id", "uri", "fingerprint", "label", "split", "group")


def _rows(number: int = 48, *, per_group: int = 2) -> list[dict[str, Any]]:
    """Videos of two classes, in recordings of ``per_group``; half train, the rest val and test."""
    rows = []
    for k in range(number):
        recording = k // per_group
        split = ("train", "val", "train", "test")[recording // 2 % 4]
        rows.append({
            "video_id": f"v{k:03d}", "uri": f"/videos/{k:03d}.mp4", "fingerprint": f"f{k}",
            "label": LABELS[recording % 2], "split": split, "group": f"g{recording}",
        })  # fmt: skip
    return rows


def _examples(rows: list[dict[str, Any]]) -> Examples:
    kinds = pa.schema([(name, pa.string()) for name in _HEAD])
    return Examples(table=pa.Table.from_pylist(rows, kinds), families=(), settings={})


def _plan(rows: list[dict[str, Any]], *names: str, **changed: Any) -> list[Unit]:
    asked = {"fractions": (0.5, 1.0), "seed": 0, **changed}
    folds = FoldSettings(folds=asked.pop("folds", 3), repeats=asked.pop("repeats", 2))
    models = names or ("majority", "svm", "r3d_18")
    return study_plan.plan(_examples(rows), models, folds=folds, **asked)


# Subsets


@given(
    videos=st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(0, 12)), min_size=1),
    one=st.floats(0.01, 1),
    two=st.floats(0.01, 1),
    seed=st.integers(0, 3),
)
def test_subsets_are_nested_and_split_no_group(
    videos: list[tuple[int, int | None]], one: float, two: float, seed: int
) -> None:
    labels = np.array([label for label, _ in videos], np.int64)
    groups = [None if group is None else f"g{group}" for _, group in videos]
    smaller, larger = (
        study_plan.subset(labels, groups, fraction=fraction, seed=seed).tolist()
        for fraction in sorted((one, two))
    )
    assert smaller == sorted(set(smaller))
    assert set(smaller) <= set(larger)
    for taken in (smaller, larger):
        inside = {groups[row] for row in taken} - {None}
        left = set(range(len(videos))) - set(taken)
        assert not inside & {groups[row] for row in left}
        assert set(labels[taken]) == set(labels)
    whole = study_plan.subset(labels, groups, fraction=1.0, seed=seed)
    assert whole.tolist() == list(range(len(videos)))


@given(
    sizes=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), min_size=1, max_size=40),
    fraction=st.floats(0.01, 1),
)
def test_classes_keep_their_shares(sizes: list[tuple[int, int]], fraction: float) -> None:
    """Recordings of one class each: shares are apart by one recording at the most."""
    labels = np.array([label for label, size in sizes for _ in range(size)], np.int64)
    groups = [f"g{k}" for k, (_, size) in enumerate(sizes) for _ in range(size)]
    taken = study_plan.subset(labels, groups, fraction=fraction, seed=1)
    shares, steps = [], []
    for label in set(labels.tolist()):
        total = (labels == label).sum()
        shares.append((labels[taken] == label).sum() / total)
        steps.append(max(size for other, size in sizes if other == label) / total)
    assert max(shares) - min(shares) <= max(steps) + 1e-9


def test_a_subset_has_the_size_asked_for() -> None:
    labels = np.array([0] * 80 + [1] * 20, np.int64)
    for fraction in (0.05, 0.1, 0.25, 0.5, 0.77):
        taken = study_plan.subset(labels, [None] * 100, fraction=fraction, seed=0)
        assert len(taken) == round(100 * fraction)
        assert (labels[taken] == 1).sum() == pytest.approx(20 * fraction, abs=1)
    # Recordings of 10: 12 wanted are 10, but each class must be there, so 20.
    groups = [f"g{k // 10}" for k in range(100)]
    assert len(study_plan.subset(labels, groups, fraction=0.12, seed=0)) == 20
    assert len(study_plan.subset(labels, groups, fraction=0.42, seed=0)) == 40
    others = study_plan.subset(labels, groups, fraction=0.42, seed=1)
    assert study_plan.subset(labels, groups, fraction=0.42, seed=0).tolist() != others.tolist()
    with pytest.raises(UserError, match="fraction is 0"):
        study_plan.subset(labels, groups, fraction=0, seed=0)


# Videos


def test_only_videos_of_both_runs_are_compared() -> None:
    rows = _rows(12)
    clips = [row for row in reversed(rows[2:]) for _ in range(3)]  # three clips of each
    found = study_plan.common_videos([_examples(rows[:-2]), _examples(clips)])
    assert found.table.to_pylist() == rows[2:-2]
    alone = study_plan.common_videos([_examples(clips)])
    assert alone.table.to_pylist() == rows[2:]


def test_runs_that_tell_different_things_are_refused() -> None:
    rows = _rows(12)
    for name in ("label", "split", "group", "fingerprint"):
        other = [*rows[:5], {**rows[5], name: "another"}, *rows[6:]]
        with pytest.raises(UserError, match=f"005.mp4: {name} is .* in the features and another"):
            study_plan.common_videos([_examples(rows), _examples(other)])
    with pytest.raises(UserError, match="no video in common"):
        study_plan.common_videos([_examples(rows[:6]), _examples(rows[6:])])
    leak = [{**row, "group": "same"} for row in rows]
    with pytest.raises(UserError, match="more than one split"):
        study_plan.common_videos([_examples(leak)])


# Plans


def test_every_model_gets_the_same_videos() -> None:
    units = _plan(_rows())
    assert len({unit.name for unit in units}) == len(units) == 3 + 3 * 2 * 3 + 2
    of_model = {
        model: [
            (
                u.name.removeprefix(model),
                u.seed,
                u.train.tolist(),
                u.val.tolist(),
                u.judged.tolist(),
            )
            for u in units
            if u.model == model
        ]
        for model in ("svm", "r3d_18", "majority")
    }
    assert of_model["svm"] == of_model["r3d_18"]
    assert of_model["majority"] == of_model["svm"][:-1]  # without a learning curve
    assert of_model["svm"][2][0] == ".cross-validation.3-folds.repeat-0.fold-1"
    assert of_model["svm"][-1][0] == ".learning-curve.0.5"


def test_what_is_judged_was_not_learnt_from() -> None:
    rows = _rows()
    by_split = {
        name: [k for k, row in enumerate(rows) if row["split"] == name]
        for name in ("train", "val", "test")
    }
    recordings = np.array([row["group"] for row in rows])
    judged: dict[int | None, list[int]] = {}
    for unit in _plan(rows, "svm"):
        learnt = set(recordings[unit.train]) | set(recordings[unit.val])
        assert not learnt & set(recordings[unit.judged])
        if unit.purpose == "cross-validation":
            judged.setdefault(unit.repeat, []).extend(unit.judged.tolist())
            assert sorted([*unit.train, *unit.judged]) == list(range(len(rows)))
            assert len(unit.val) == 0
            continue
        assert unit.judged.tolist() == by_split["test"]
        assert unit.val.tolist() == by_split["val"]
        assert set(unit.train.tolist()) <= set(by_split["train"])
        expected = 24 if unit.purpose == "test" else 12
        assert len(unit.train) == expected
    assert {repeat: sorted(of) for repeat, of in judged.items()} == {
        0: list(range(len(rows))), 1: list(range(len(rows))),
    }  # fmt: skip
    assert judged[0] != judged[1]


def test_folds_are_those_of_classical_models() -> None:
    rows = _rows()
    examples = _examples(rows)
    y = examples.targets(LABELS)
    units = [unit for unit in _plan(rows, "r3d_18", seed=5) if unit.repeat == 1]
    for unit, (train, test) in zip(
        units,
        group_folds(y, examples.groups, folds=3, seed=6, class_names=LABELS),
        strict=True,
    ):
        assert unit.seed == 6
        assert unit.train.tolist() == train.tolist()
        assert unit.judged.tolist() == test.tolist()


def test_too_little_for_a_plan_is_said_at_once() -> None:
    rows = _rows()
    with pytest.raises(UserError, match="no labelled video is in split test"):
        _plan([row for row in rows if row["split"] != "test"])
    with pytest.raises(UserError, match=r"12 groups .*, 13 folds need one each"):
        _plan(rows, folds=13)
    message = r"svm.learning-curve.0.05 would learn class 'run' from 1 recordings"
    with pytest.raises(UserError, match=message):
        _plan(rows, "svm", fractions=(0.05,))
    assert _plan(rows, "r3d_18", fractions=(0.05,))[-1].train.size == 4
    assert {unit.purpose for unit in _plan(rows, folds=0, fractions=())} == {"test"}


def test_time_left_is_by_model() -> None:
    known = [("svm", 1.0), ("svm", 3.0), ("r3d_18", 50.0)]
    assert study.seconds_left(known, ["svm", "svm", "r3d_18"]) == pytest.approx(2 + 2 + 50)
    assert study.seconds_left(known, ["knn"]) == pytest.approx(54 / 3)
    assert study.seconds_left([], ["knn"]) == 0


# Figures

# Seconds a video: the CPU-seconds that a run says, beside those of the model alone.
_MAKING = {"features": 0.5, "clips": None}


def _answers(units: list[Unit]) -> dict[str, UnitAnswer]:
    rng = np.random.default_rng(0)
    return {
        unit.name: UnitAnswer(
            probabilities=rng.dirichlet((1, 1), len(unit.judged)),
            training_seconds=float(number),
            best_epoch=3 if unit.model == "r3d_18" else None,
            seconds_per_video=1.0,
        )
        for number, unit in enumerate(units)
    }


@pytest.mark.slow
def test_figures_are_scikit_learns() -> None:
    rows = _rows()
    units = _plan(rows)
    answers = _answers(units)
    found = study_figures.summarise(_examples(rows), units, answers, (0.5, 1.0), making=_MAKING)
    assert json.loads(json.dumps(found))["class_names"] == list(LABELS)
    y = np.array([LABELS.index(row["label"]) for row in rows])

    accuracies = []
    for repeat in (0, 1):
        folds = [u for u in units if u.model == "svm" and u.repeat == repeat]
        pooled = np.empty((len(rows), 2))
        for unit in folds:
            pooled[unit.judged] = answers[unit.name].probabilities
        one = found["cross_validation"]["svm"]["repeats"][repeat]
        accuracies.append(accuracy_score(y, pooled.argmax(axis=1)))
        metrics = one["metrics"]
        assert metrics["accuracy"] == pytest.approx(accuracies[-1])
        expected = f1_score(y, pooled.argmax(axis=1), average="macro")
        assert metrics["macro_f1"] == pytest.approx(expected)
        assert metrics["macro_auc"] == pytest.approx(roc_auc_score(y, pooled[:, 1]))
        assert metrics["log_loss"] == pytest.approx(log_loss(y, pooled))
        assert metrics["num_groups"] == 24
        seconds = sum(answers[unit.name].training_seconds for unit in folds)
        assert (one["training_seconds"], one["train_videos"]) == (seconds, 32)
    summary = found["cross_validation"]["svm"]
    assert summary["mean"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert summary["std"]["accuracy"] == pytest.approx(np.std(accuracies, ddof=1))
    test = found["test"]["r3d_18"]
    judged = [k for k, row in enumerate(rows) if row["split"] == "test"]
    expected = accuracy_score(y[judged], answers["r3d_18.test"].probabilities.argmax(axis=1))
    assert test["metrics"]["accuracy"] == pytest.approx(expected)
    assert (test["best_epoch"], test["train_videos"]) == (3, 24)
    seconds = {model: one["seconds_per_video"] for model, one in found["test"].items()}
    assert seconds == {"majority": None, "svm": 1.5, "r3d_18": None}
    assert [one["on_front"] for one in found["test"].values()] == [False, True, False]
    kinds = [one["kind"] for one in found["test"].values()]
    assert kinds == ["baseline", "classical", "deep"]


def test_one_repeat_has_no_deviation() -> None:
    rows = _rows()
    units = _plan(rows, "svm", repeats=1)
    found = study_figures.summarise(_examples(rows), units, _answers(units), making=_MAKING)
    assert found["cross_validation"]["svm"]["std"]["accuracy"] is None
    assert [one["fraction"] for one in found["learning_curve"]] == [0.5]


@pytest.mark.slow
def test_the_table_has_a_row_per_repeat_and_fraction() -> None:
    rows = _rows()
    units = _plan(rows)
    found = study_figures.summarise(
        _examples(rows), units, _answers(units), (0.5, 1.0), making=_MAKING
    )
    table = study_figures.to_table(found)
    assert table.schema == schema.STUDY
    keys = [(r["model"], r["purpose"], r["repeat"], r["fraction"]) for r in table.to_pylist()]
    assert [key[1:] for key in keys if key[0] == "r3d_18"] == [
        ("test", None, None), ("cross-validation", 0, None), ("cross-validation", 1, None),
        ("learning-curve", None, 0.5), ("learning-curve", None, 1.0),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys) == 3 * 3 + 2 * 2
    curve = study_figures.curve_rows(table)
    assert [(one["model"], one["train_videos"]) for one in curve] == [
        ("svm", 12), ("r3d_18", 12), ("svm", 24), ("r3d_18", 24),
    ]  # fmt: skip
    whole = found["test"]["svm"]["metrics"]
    assert curve[2]["accuracy"] == whole["accuracy"]
    assert [curve[2]["low"], curve[2]["high"]] == whole["intervals"]["accuracy"]


# The folder


def _run(out: Path, **settings: Any) -> StudyRun:
    return StudyRun(out=str(out), settings={"seed": 0, **settings}, asked={})


def test_an_answer_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    rows = _rows()
    units = _plan(rows)
    run = _run(tmp_path)
    for name, answer in _answers(units).items():
        unit = next(unit for unit in units if unit.name == name)
        run.write(unit, _examples(rows), answer)
        found = run.read(unit, _examples(rows))
        assert found is not None
        assert np.array_equal(found.probabilities, answer.probabilities)
        assert (found.training_seconds, found.best_epoch) == (
            answer.training_seconds,
            answer.best_epoch,
        )
    assert run.read(dataclasses.replace(units[0], model="knn"), _examples(rows)) is None
    fewer = dataclasses.replace(units[0], train=units[0].train[1:])
    assert run.read(fewer, _examples(rows)) is None


def test_an_answer_that_a_stranger_touched_is_one_line(tmp_path: Path) -> None:
    rows = _rows()
    (unit, *_), run = _plan(rows), _run(tmp_path)
    run.write(unit, _examples(rows), _answers([unit])[unit.name])
    (path,) = (path for path in tmp_path.rglob("*.json"))
    good = json.loads(path.read_text())
    needed = good.keys() - {"video_ids", "seconds_per_video"}
    texts = [json.dumps({k: v for k, v in good.items() if k != name}) for name in needed]
    texts += [
        "",
        "[]",
        "{}",
        *(
            json.dumps({**good, name: value})
            for name in ("probabilities", "training_seconds", "best_epoch", "seconds_per_video")
            for value in ("x", [[0.5]], [float("nan")], {})
        ),
    ]
    for text in texts:
        path.write_text(text)
        with pytest.raises(UserError, match=f"{path.name} is damaged"):
            run.read(unit, _examples(rows))


def test_a_folder_is_one_studys(tmp_path: Path) -> None:
    out = tmp_path / "study"
    _run(out, epochs=3, aspect=(0.8, 1.25)).folder.claim()
    _run(out, epochs=3, aspect=(0.8, 1.25)).folder.claim()
    with pytest.raises(UserError, match=r"other settings \(epochs: 3 -> 4\)"):
        _run(out, epochs=4).folder.claim()
    _run(out).folder.claim()  # Now without a deep model ...
    with pytest.raises(UserError, match="epochs: 3 -> 4"):  # ... which is not forgotten.
        _run(out, epochs=4).folder.claim()
    wide = _run(out, epochs=3, features="x")
    wide.folder.claim()
    wide.folder.finish()
    report = json.loads((out / "run.json").read_text())
    assert (report["state"], report["settings"]) == (
        "finished",
        {"seed": 0, "epochs": 3, "aspect": [0.8, 1.25], "features": "x"},
    )
    (out / "notes.txt").write_text("mine")
    _run(out, epochs=4).folder.claim(overwrite=True)
    assert not (out / "_SUCCESS").exists()
    assert (out / "notes.txt").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "run.json").write_text('{"table": "features"}')
    (tmp_path / "units" / "units").mkdir(parents=True)
    for name, message in {
        "file": "is a file",
        "job": "holds features, not a study",
        "units": "holds units but no run.json",
    }.items():
        for overwrite in (True, False):
            with pytest.raises(UserError, match=message):
                _run(tmp_path / name).folder.claim(overwrite=overwrite)


# The job


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """A finished run of jobs/extract.py, made by hand: ``motion`` tells the class, mostly."""
    rng = np.random.default_rng(0)
    length = FAMILIES["motion"].length
    rows = []
    for row in _rows():
        values = rng.normal(size=length).astype(np.float32) + LABELS.index(row["label"])
        metadata = {"width_px": 64, "height_px": 48, "num_frames": int(rng.integers(20, 40))}
        found = {"status": "ok", "config_digest": "x", "motion": values.tolist(), **metadata}
        rows.append({**row, **found, "duration_seconds": 1.0, "frames_per_second": None})
    out = tmp_path / "features"
    (out / "features").mkdir(parents=True)
    table = pa.Table.from_pylist(rows, schema.features_schema({"motion": length}))
    (out / "features" / "part-00000.parquet").write_bytes(parquet.parquet_bytes(table))
    extraction = dataclasses.asdict(Settings(families=("motion",)))
    report = {"table": "features", "state": "finished", "config": {"extraction": extraction}}
    (out / "run.json").write_text(json.dumps(report))
    (out / "_SUCCESS").write_bytes(b"")
    return out


def _config(features: Path, out: Path, **changed: Any) -> job.StudyConfig:
    folds = FoldSettings(folds=changed.pop("folds", 2), repeats=changed.pop("repeats", 1))
    asked = {
        "models": ("svm", "logistic_regression"), "fractions": (0.5, 1.0), "folds": folds,
        "features": str(features), **changed,
    }  # fmt: skip
    return job.StudyConfig(settings=StudySettings(**asked), out=str(out))


def _times(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "units").iterdir()}


_CLOCK = ("training_seconds", "seconds_per_video", "on_front")


def _figures(out: Path) -> Any:
    """study.json without what the clock told."""
    text = (out / "study.json").read_text()

    def timeless(values: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if key not in _CLOCK}

    return json.loads(text, object_hook=timeless)


@pytest.mark.slow
def test_two_models_and_baselines_from_features_to_figures(
    features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    job.main(_config(features, out))
    told = capsys.readouterr().out
    assert "14/14 logistic_regression.learning-curve.0.5: " in told
    assert "0s left" in told
    assert {path.name for path in out.iterdir()} == {
        "run.json", "units", "study.json", "study.parquet", "learning_curve.json",
        "learning_curve.png", "_SUCCESS",
    }  # fmt: skip
    found = json.loads((out / "study.json").read_text())
    assert list(found["test"]) == ["majority", "metadata", "svm", "logistic_regression"]
    assert found["videos"] == {"train": 24, "val": 12, "test": 12, "all": 48, "left_out": 0}
    assert found["test"]["majority"]["metrics"]["accuracy"] == 0.5
    assert found["test"]["svm"]["metrics"]["accuracy"] > 0.9
    assert len(parquet.read_parquet(str(out / "study.parquet"))) == 4 * 2 + 2 * 2

    # What jobs/train.py would have trained on the same split gives the same probabilities.
    examples = read_features(str(features))
    train, test = examples.of_split("train"), examples.of_split("test")
    own = classical.fit("svm", train.matrix(), train.targets(LABELS), train.groups, LABELS, seed=0)
    unit = json.loads((out / "units" / "svm.test.json").read_text())
    assert unit["video_ids"] == test.table["video_id"].to_pylist()
    assert unit["probabilities"] == classical.predict(own, test.matrix()).tolist()

    # Once more does nothing; with a file lost it makes that one; with a model more, its units.
    before, figures = _times(out), _figures(out)
    lost = "logistic_regression.test.json"
    (out / "units" / lost).unlink()
    job.main(_config(features, out))
    told = capsys.readouterr().out
    assert "13 of 14 units were done already" in told
    after = _times(out)
    assert {name for name in after if after[name] != before.get(name)} == {lost}
    assert _figures(out) == figures
    job.main(_config(features, out, models=("svm", "knn"), fractions=()))
    told = capsys.readouterr().out
    assert "9 of 12 units were done already" in told
    assert list(_figures(out)["test"]) == ["majority", "metadata", "svm", "knn"]
    assert len(_times(out)) == 14 + 3
    learning = LearningSettings(training=Training(seed=1))
    with pytest.raises(UserError, match="seed: 0 -> 1"):
        job.main(_config(features, out, learning=learning))


@pytest.mark.slow
def test_a_killed_study_goes_on_to_the_same_figures(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_plan, "BASELINES", ("majority",))  # The other one takes its time.
    asked = {"models": ("knn", "svm"), "fractions": ()}
    job.main(_config(features, tmp_path / "whole", **asked))
    answer: Callable[..., UnitAnswer] = StudyTeacher.answer
    answered = []

    def answer_five(teacher: StudyTeacher, unit: Unit) -> UnitAnswer:
        if len(answered) == 5:
            raise KeyboardInterrupt
        answered.append(unit.name)
        return answer(teacher, unit)

    out = tmp_path / "killed"
    monkeypatch.setattr(StudyTeacher, "answer", answer_five)
    with pytest.raises(KeyboardInterrupt):
        job.main(_config(features, out, **asked))
    assert not (out / "_SUCCESS").exists()
    assert not (out / "study.json").exists()
    before = _times(out)
    assert len(before) == 5
    monkeypatch.setattr(StudyTeacher, "answer", answer)
    job.main(_config(features, out, **asked))
    after = _times(out)
    assert {name: after[name] for name in before} == before
    assert _figures(out) == _figures(tmp_path / "whole")


def _trained(features: Path, out: Path, *flags: str) -> Path:
    argv = ("--data", features, "--model", "knn", "--out", out, "--folds", 0, *flags)
    assert exit_code("jobs/train.py", *argv) == 0
    return out


@pytest.mark.slow
def test_a_model_folder_is_judged_beside_the_models(features: Path, tmp_path: Path) -> None:
    report = json.loads((features / "run.json").read_text())
    measured = {"counts": {"videos": 48}, "seconds": {"in_workers": {"decode": 24.0}}}
    (features / "run.json").write_text(json.dumps(report | measured))
    folder, out = _trained(features, tmp_path / "mine"), tmp_path / "study"
    asked = {"models": ("knn",), "folders": (str(folder),), "folds": 0, "fractions": ()}
    job.main(_config(features, out, **asked))
    found = json.loads((out / "study.json").read_text())["test"]
    assert found["mine"]["metrics"] == found["knn"]["metrics"]
    assert found["mine"]["training_seconds"] is None
    assert found["mine"]["kind"] == "classical"
    assert 0.5 < found["mine"]["seconds_per_video"] < 0.6
    assert (out / "pareto.png").stat().st_size > 10_000
    # Another model in the same folder is judged anew, and one of other videos is refused.
    before = _times(out)
    _trained(features, folder, "--overwrite", "--seed", "3")
    job.main(_config(features, out, **asked))
    assert {name for name, at in _times(out).items() if before.get(name) != at} == {
        "mine.test.json"
    }
    other = _trained(
        features, tmp_path / "other", "--split-fractions", "0.3", "0.2", "0.5", "--seed", "1"
    )
    with pytest.raises(UserError, match=r"test videos were in its training|learnt from other"):
        job.main(_config(features, out, **asked | {"folders": (str(other),)}))
    with pytest.raises(UserError, match="two models of this study are called 'mine'"):
        job.main(_config(features, out, **asked | {"folders": (str(folder), str(folder))}))


def test_mistakes_are_told(features: Path, tmp_path: Path) -> None:
    for changed, message in (
        ({"models": ("extra_tree",)}, "did you mean extra_trees"),
        ({"models": ()}, "no models are named"),
        ({"models": ("r3d_18",)}, "r3d_18 learns from clips: give --clips"),
        ({"folds": 1}, "folds is 1"),
        ({"repeats": 0}, "repeats is 0"),
        ({"fractions": (0.5, 1.5)}, "fraction 1.5"),
        (
            {"learning": LearningSettings(training=Training(epochs=3))},
            "--epochs has no effect on a study without a deep model",
        ),
    ):
        with pytest.raises(UserError, match=message):
            _config(features, tmp_path / "x", **changed)
    with pytest.raises(UserError, match="svm learns from features"):
        StudySettings(models=("svm",), clips="clips")
    learning = LearningSettings(classical=ClassicalSettings(families=("color",)))
    with pytest.raises(UserError, match="no family color"):
        job.main(_config(features, tmp_path / "x", learning=learning))
    assert not (tmp_path / "x").exists()


def test_the_command_line_tells_a_mistake_in_one_line(features: Path, tmp_path: Path) -> None:
    flags = ["--features", features, "--models", "svm", "--out", tmp_path / "x", "--epochs", 0]
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "study.py"), *map(str, flags)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: epochs is 0: it must be 1 or more")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_deep_model_is_studied_on_the_same_videos(cluster: Cluster, tmp_path: Path) -> None:
    videos, clips, out = tmp_path / "videos", tmp_path / "clips", tmp_path / "study"
    synthetic.make_clips(videos)
    splits = ("--split-fractions", "0.5", "0.25", "0.25")
    cut = ("--frames-per-clip", "4", "--size-px", "32", "--clips-per-video", "2", *splits)
    Job("jobs/clips.py", cluster).call("--videos", videos, "--out", clips, *cut)
    deep = ("--epochs", "2", "--batch-size", "8", "--optimizer", "sgd", "--normalise", "dataset")
    flags = ("--clips", clips, "--models", "resnet18_avg", "--out", out, *deep)
    told = Job("jobs/study.py", cluster).call(*flags, "--folds", "0", "--fractions", "0.5", "1.0")
    assert "resnet18_avg.learning-curve.0.5" in told
    assert not (out / "_work").exists()
    found = json.loads((out / "study.json").read_text())
    assert list(found["test"]) == ["majority", "resnet18_avg"]
    assert found["test"]["resnet18_avg"]["best_epoch"] in (1, 2)
    curve = json.loads((out / "learning_curve.json").read_text())
    assert [one["fraction"] for one in curve] == [0.5, 1.0]
    assert curve[0]["train_videos"] < curve[1]["train_videos"]

    # The test unit is what jobs/train.py trains.
    model = tmp_path / "model"
    given = ("--data", clips, "--model", "resnet18_avg", "--out", model, *deep)
    Job("jobs/train.py", cluster).call(*given)
    test = read_clips(str(clips)).of_split("test")
    judged = judge(test.table, judging.predict(models.load(str(model)), test))
    unit = json.loads((out / "units" / "resnet18_avg.test.json").read_text())
    expected = dict(zip(judged.video_ids, judged.probabilities, strict=True))
    assert set(unit["video_ids"]) == set(expected)
    for video, probabilities in zip(unit["video_ids"], unit["probabilities"], strict=True):
        assert probabilities == pytest.approx(expected[video], abs=1e-6)


@pytest.mark.slow
def test_a_study_learns_from_embeddings(tmp_path: Path) -> None:
    """Its models are not kept, so it does not need the network."""
    network = save_network(tmp_path / "network")
    data = embedding_run(tmp_path / "features", network, SIZE)
    shutil.rmtree(network)
    accuracy = {}
    for family in ("embedding", "motion"):
        learning = LearningSettings(classical=ClassicalSettings(families=(family,)))
        asked = {"learning": learning, "models": ("knn",), "folds": 0, "fractions": ()}
        config = _config(data, tmp_path / family, **asked)
        job.main(config)
        rows = pq.read_table(tmp_path / family / "study.parquet").to_pylist()
        (accuracy[family],) = [row["accuracy"] for row in rows if row["model"] == "knn"]
    assert accuracy["embedding"] > 0.8
    assert accuracy["embedding"] > accuracy["motion"]
