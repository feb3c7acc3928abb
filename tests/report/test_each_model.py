"""The chapter of each model: what it confuses, its curves, its classes."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from tests.report.made_models import judged, mostly, tools
from vidray.report import beside
from vidray.report.blocks import Chart, DataTable, Fold, Part, Section
from vidray.report.judged import each_model
from vidray.report.judged.class_figures import class_frame
from vidray.report.runs import JudgedModel, Runs


def _made(*models: JudgedModel) -> Section:
    found = each_model.section(Runs(folders=("/runs",), judged=models), tools())
    assert found is not None
    return found


def _parts(section: Section) -> dict[str, Part]:
    every = beside.parts(section.blocks)
    return {part.name: part for part in every if isinstance(part, DataTable | Chart)}


def _frame(section: Section, name: str) -> pd.DataFrame:
    part = _parts(section)[name]
    assert isinstance(part, DataTable | Chart)
    return part.frame


def _drawn(number: int, classes: list[str], *, seed: int = 0) -> JudgedModel:
    """Right for two of three videos, at random."""
    right = np.random.default_rng(seed).random(number) < 2 / 3
    return judged("svm", right.tolist(), classes=classes)


def test_each_model_is_folded_and_the_best_is_open() -> None:
    section = _made(judged("svm", mostly(40, 8)), judged("knn", mostly(40, 3)))
    folds = [part for part in section.blocks if isinstance(part, Fold)]
    assert [(fold.title, fold.is_open) for fold in folds] == [
        ("knn: accuracy 0.925 on 40 videos", True),
        ("svm: accuracy 0.800 on 40 videos", False),
    ]
    # Numbered as the runs are, so that the tables of other chapters link to them.
    kinds = ("confusion", "roc", "precision-recall", "reliability", "classes")
    assert set(_parts(section)) == {f"{kind}-{number}" for kind in kinds for number in (1, 2)}


def test_the_confusion_matrix_counts_and_names_the_worst() -> None:
    model = judged("svm", mostly(40, 7), truth=["jump"] * 10 + ["run"] * 30)
    section = _made(model)
    cells = _frame(section, "confusion-1").set_index(["true_class", "predicted"])
    assert cells["videos"].to_dict() == {
        ("jump", "jump"): 3,
        ("jump", "run"): 7,
        ("run", "run"): 30,
        ("run", "jump"): 0,
    }
    assert cells.loc[("jump", "run"), "share"] == pytest.approx(0.7)
    chart = _parts(section)["confusion-1"]
    assert isinstance(chart, Chart)
    assert "jump is taken for run: 7 of 10 videos" in chart.note
    assert "jump, taken for run: 7 videos, 70 % of the class" in chart.svg


def test_more_than_thirty_classes_have_a_table_of_pairs() -> None:
    model = _drawn(330, [f"class {k:02}" for k in range(33)])
    section = _made(model)
    assert "confusion-1" not in _parts(section)
    pairs = _frame(section, "confused-1")
    wrong = sum(one != other for one, other in zip(model.truth, model.predicted, strict=True))
    assert pairs["videos"].sum() == wrong
    assert pairs["videos"].is_monotonic_decreasing
    top = pairs.iloc[0]
    here = [k for k in range(330) if model.truth[k] == top["true_class"]]
    assert top["videos"] == sum(model.predicted[k] == top["predicted"] for k in here)
    assert top["share"] == pytest.approx(top["videos"] / len(here))
    # The mean, and the five with the lowest area.
    curves = _frame(section, "roc-1")["curve"].drop_duplicates().tolist()
    assert len(curves) == 6
    assert "mean of 33 classes" in curves[0]
    truth = np.array(model.truth)
    areas = [
        sk.roc_auc_score(truth == name, model.probabilities[:, k])
        for k, name in enumerate(model.class_names)
    ]
    worst = sorted(areas)[:5]
    assert [float(name.split()[0]) for name in curves[1:]] == pytest.approx(worst, abs=5e-4)
    assert float(curves[0].split()[0]) == pytest.approx(np.mean(areas), abs=5e-4)
    frame = _frame(section, "roc-1")
    mean = frame[frame["curve"] == curves[0]].sort_values("order")
    assert np.trapezoid(mean["y"], mean["x"]) == pytest.approx(np.mean(areas), abs=0.005)
    frame = _frame(section, "precision-recall-1")
    mean = frame[frame["curve"].str.contains("mean of")].sort_values("order")
    precisions = [
        sk.average_precision_score(truth == name, model.probabilities[:, k])
        for k, name in enumerate(model.class_names)
    ]
    steps = np.diff(mean["x"]) @ mean["y"].to_numpy()[1:]
    assert steps == pytest.approx(np.mean(precisions), abs=0.01)


def test_curves_are_of_the_probabilities() -> None:
    rng = np.random.default_rng(3)
    model = judged("svm", [True] * 60)
    scores = rng.dirichlet((1, 1), 60)
    model = JudgedModel(**{**vars(model), "probabilities": scores})
    section = _made(model)
    frame = _frame(section, "roc-1")
    positive = np.array(model.truth) == "jump"
    [name] = [curve for curve in frame["curve"].unique() if curve.endswith(" jump")]
    drawn = frame[frame["curve"] == name].sort_values("order")
    area = np.trapezoid(drawn["y"], drawn["x"])
    assert area == pytest.approx(sk.roc_auc_score(positive, scores[:, 0]), abs=1e-6)
    assert float(name.split()[0]) == pytest.approx(area, abs=5e-4)
    # Steps of precision and recall add up to the average precision.
    frame = _frame(section, "precision-recall-1")
    [name] = [curve for curve in frame["curve"].unique() if curve.endswith(" jump")]
    drawn = frame[frame["curve"] == name].sort_values("order")
    assert drawn["x"].is_monotonic_increasing
    steps = np.diff(drawn["x"]) @ drawn["y"].to_numpy()[1:]
    assert steps == pytest.approx(sk.average_precision_score(positive, scores[:, 0]), abs=1e-6)


@pytest.mark.parametrize(
    ("wrong", "tendency"),
    [(4, "not sure enough: 0.80 stated, 0.90 right"), (16, "too sure: 0.80 stated, 0.60 right"),
     (8, "as sure (0.80) as it is right (0.80)")],
)  # fmt: skip
def test_reliability_says_which_way_probabilities_are_wrong(wrong: int, tendency: str) -> None:
    section = _made(judged("svm", mostly(40, wrong), sure=0.8))
    chart = _parts(section)["reliability-1"]
    assert isinstance(chart, Chart)
    assert tendency in chart.note
    assert f"(ECE) {abs(0.8 - (40 - wrong) / 40):.3f}" in chart.note
    assert chart.frame["num_videos"].sum() == 40


def test_classes_have_intervals_over_recordings() -> None:
    rng = np.random.default_rng(4)
    right = (rng.random(120) < 0.7).tolist()
    model = judged("svm", right, groups=[f"r{k // 4}" for k in range(120)])
    frame = class_frame(model).set_index("class")
    truth, predicted = np.array(model.truth), np.array(model.predicted)
    recordings = np.arange(120) // 4
    # An independent bootstrap, recording by recording.
    found: dict[str, list[float]] = {"recall": [], "precision": []}
    for _ in range(1500):
        drawn = rng.integers(30, size=30)
        rows = np.concatenate([np.flatnonzero(recordings == one) for one in drawn])
        hits = (truth[rows] == "jump") & (predicted[rows] == "jump")
        found["recall"].append(hits.sum() / (truth[rows] == "jump").sum())
        found["precision"].append(hits.sum() / (predicted[rows] == "jump").sum())
    for name, values in found.items():
        ends = frame.loc["jump", [f"{name}_low", f"{name}_high"]].tolist()
        assert ends == pytest.approx(np.percentile(values, [2.5, 97.5]).tolist(), abs=0.03)
    assert frame.loc["jump", ["videos", "recordings"]].tolist() == [60, 30]


def test_a_class_of_one_recording_has_no_interval_and_one_without_videos_no_recall() -> None:
    model = judged(
        "svm",
        mostly(24, 3),
        truth=["jump"] * 6 + ["run"] * 18,
        classes=("jump", "run", "sit"),
        groups=["a"] * 6 + [f"r{k}" for k in range(18)],
    )
    frame = class_frame(model).set_index("class")
    assert pd.isna(frame.loc["jump", "recall_low"])
    assert frame.loc["run", "recall_low"] == 1.0
    assert frame.loc["jump", "mistaken_for"] == "run (3 of 3 errors)"
    assert pd.isna(frame.loc["sit", "recall"])
    assert frame.loc["sit", "videos"] == 0


def test_classes_with_few_videos_are_on_the_first_screen() -> None:
    few = judged("svm", mostly(39, 4), truth=["jump"] * 9 + ["run"] * 30)
    [finding] = _made(few).findings
    assert finding.level == "warning"
    assert "1 of 2 classes have fewer than 10 test videos" in finding.text
    assert finding.text.endswith("jump 9.")
    enough = judged("svm", mostly(40, 4), truth=["jump"] * 10 + ["run"] * 30)
    assert not _made(enough).findings


def test_many_models_are_not_all_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(each_model, "_MOST_DRAWN", 1)
    parts = _parts(_made(*(judged(f"m{k:02}", mostly(20, k)) for k in range(3))))
    assert [name for name in parts if name.startswith("confusion-")] == ["confusion-1"]
    assert sum(name.startswith("classes-") for name in parts) == 3


def test_nothing_judged_is_no_chapter() -> None:
    assert each_model.section(Runs(folders=("/runs",)), tools()) is None
