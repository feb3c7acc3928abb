"""Fronts, costs and curves, against counts by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest

from tests.report.made_models import features, judged, mostly, nights, study, tools, trained
from vidray.report import beside
from vidray.report.blocks import Chart, DataTable, Part, Prose, Section
from vidray.report.drawing import text_width
from vidray.report.judged import costs, tradeoffs
from vidray.report.judged.comparable import groups
from vidray.report.judged.front_names import SIDES, names_beside
from vidray.report.runs import JudgedModel, Runs
from vidray.report.settings import ReportSettings


def _runs(*models: JudgedModel, **more: object) -> Runs:
    return Runs(folders=("/runs",), judged=models, **more)  # type: ignore[arg-type]


def _made(runs: Runs, **settings: float) -> Section:
    found = tradeoffs.section(runs, tools(**settings))
    assert found is not None
    return found


def _parts(section: Section) -> dict[str, Part]:
    every = beside.parts(section.blocks)
    return {part.name: part for part in every if isinstance(part, DataTable | Chart)}


def _frame(section: Section, name: str) -> pd.DataFrame:
    part = _parts(section)[name]
    assert isinstance(part, DataTable | Chart)
    return part.frame.set_index("model")


# Fronts


def test_the_front_by_hand() -> None:
    costs_of = [1.0, 2.0, 3.0, 3.0, 4.0, float("nan"), 4.0]
    accuracies = [0.5, 0.6, 0.6, 0.7, 0.7, 0.9, 0.8]
    expected = [True, True, False, True, False, False, True]
    assert tradeoffs.pareto(costs_of, accuracies) == expected
    # Of two that are equal in both, both are on it.
    assert tradeoffs.pareto([1.0, 1.0], [0.5, 0.5]) == [True, True]


def test_no_model_beats_one_of_the_front_and_every_other_is_beaten_by_one_of_it() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        spent, reached = rng.integers(0, 6, 12).astype(float), rng.integers(0, 6, 12) / 6

        def beats(one: int, other: int, spent: np.ndarray, reached: np.ndarray) -> bool:
            at_least = spent[one] <= spent[other] and reached[one] >= reached[other]
            return bool(at_least and (spent[one] < spent[other] or reached[one] > reached[other]))

        front = tradeoffs.pareto(spent.tolist(), reached.tolist())
        for other in range(12):
            beaten_by = [one for one in range(12) if beats(one, other, spent, reached)]
            assert front[other] == (not beaten_by)
            assert front[other] or any(front[one] for one in beaten_by)


def _three() -> tuple[JudgedModel, ...]:
    """A quick one, an accurate one, and one that the quick one beats."""
    cost = "end_to_end_seconds_per_video"
    return (
        judged("svm", mostly(40, 8), cost={cost: 0.36, "size_bytes": 1e6, "timed_videos": 8}),
        judged("s3d", mostly(40, 2), cost={cost: 7.2, "size_bytes": 5e7, "parameters": 9.0}),
        judged("knn", mostly(40, 10), cost={cost: 0.72, "size_bytes": 9e5}),
    )


def test_each_cost_has_a_chart_whose_front_is_named() -> None:
    section = _made(_runs(*_three()))
    names = {"pareto-seconds-1", "pareto-size-1", "pareto-cost-1"}
    assert names | {"tradeoffs-1"} == set(_parts(section))
    chart = _parts(section)["pareto-seconds-1"]
    assert isinstance(chart, Chart)
    assert chart.frame.set_index("model")["front"].to_dict() == {
        "svm": True,
        "knn": False,
        "s3d": True,
    }
    assert chart.note == (
        "On the line: svm (360 ms, 0.800) and s3d (7.2 s, 0.950). Each other costs no less than "
        "one of these, for no more accuracy."
    )
    assert "svm: accuracy 0.800, seconds a video 360 ms, on the front" in chart.svg
    table = _frame(section, "tradeoffs-1")
    assert table.loc["svm", "front"] == "seconds a video, size, cost"
    assert table.loc["knn", "front"] == "size"


# Money


def test_a_million_videos_cost_the_seconds_times_the_price() -> None:
    section = _made(_runs(*_three()), cpu_hour_price=0.05)
    table = _frame(section, "tradeoffs-1")
    # 0.36 s of a core a video: a million are 100 hours.
    assert table.loc["svm", "cost_per_million"] == pytest.approx(100 * 0.05)
    assert table.loc["s3d", "cost_per_million"] == pytest.approx(2000 * 0.05)
    assert "on 8 videos" in table.loc["svm", "cost_from"]


def test_a_model_judged_on_a_gpu_pays_for_it_while_it_runs() -> None:
    cost = {
        "end_to_end_seconds_per_video": 0.36,
        "seconds_per_video": 0.036,
        "peak_gpu_bytes": 1e9,
    }
    rate = costs.rate_alone(judged("s3d", mostly(20, 1), cost=cost))
    assert rate is not None
    settings = ReportSettings(cpu_hour_price=0.05, gpu_hour_price=3.0)
    assert rate.per_million(settings) == pytest.approx(100 * 0.05 + 10 * 3.0)


def _night(videos: int, cpu: float, gpu: float = 0.0, before: int = 0) -> dict[str, object]:
    return {
        "counts": {"videos": videos},
        "videos_done_before": before,
        "cost_per_thousand_videos": {"cpu_seconds": cpu, "gpu_seconds": gpu},
    }


def test_nights_count_by_their_videos_and_only_those_of_this_very_model() -> None:
    model = judged("svm", mostly(20, 1), report={"model_digest": "abc"})
    reports = {
        1: _night(100, 1000.0, 100.0),
        2: _night(400, 2000.0, before=100),
        3: {"cost_per_thousand_videos": None, "counts": {"videos": "many"}},
    }
    rate = costs.rate_in_jobs(model, _runs(model, labels=(nights("n", "abc", reports),)))
    assert rate is not None
    # 100 videos at 1 s of a core, 300 at 2 s; 0.1 s of a GPU for the first 100.
    assert rate.cpu_seconds == pytest.approx((100 * 1 + 300 * 2) / 400)
    assert rate.gpu_seconds == pytest.approx(100 * 0.1 / 400)
    assert rate.source == "labelling 400 videos in 2 nights"
    others = _runs(model, labels=(nights("n", "of another", reports),))
    assert costs.rate_in_jobs(model, others) is None


@pytest.mark.parametrize(("made", "is_known"), [(["flow"], True), (["flow", "color"], False)])
def test_features_count_where_the_run_made_no_others(made: list[str], is_known: bool) -> None:
    model = judged(
        "svm",
        mostly(20, 1),
        cost={"seconds_per_video": 0.25},
        model=trained("svm", info={"families": ["flow"]}),
        report={"config": {"model": "/runs/svm", "data": "/runs/features"}},
    )
    run = features(
        "features", {"v0": None}, families=dict.fromkeys(made, 3), report=_night(200, 500.0)
    )
    rate = costs.rate_in_jobs(model, _runs(model, features=(run,)))
    assert (rate is not None) == is_known
    if rate is not None:
        assert rate.cpu_seconds == pytest.approx(0.75)


def test_models_are_compared_by_one_kind_of_rate() -> None:
    svm, s3d, knn = _three()
    of_svm = JudgedModel(**{**vars(svm), "report": {**svm.report, "model_digest": "abc"}})
    labels = (nights("n", "abc", {1: _night(100, 36_000.0)}),)
    runs = _runs(of_svm, s3d, knn, labels=labels)
    [group] = groups(runs)
    frame = tradeoffs.frame_of(group, runs, ReportSettings(cpu_hour_price=1.0)).set_index("model")
    # In the job svm takes a hundred times as long as alone: beside the others' rates alone, no.
    assert frame.loc["svm", "cost_per_million"] == pytest.approx(100.0)
    assert frame.loc["svm", "cost_in_jobs"] == pytest.approx(10_000.0)
    alone = _runs(of_svm, labels=labels)
    [group] = groups(alone)
    frame = tradeoffs.frame_of(group, alone, ReportSettings(cpu_hour_price=1.0))
    assert frame["cost_per_million"].tolist() == pytest.approx([10_000.0])


# Names of points


def test_names_stand_over_no_point_and_no_other_name() -> None:
    rng = np.random.default_rng(1)
    placed = 0
    for _ in range(30):
        x = pd.Series(np.sort(rng.random(8)))
        y = pd.Series(np.sort(rng.random(8)))  # All on the front.
        found = names_beside(x, y, [f"model_{k}" for k in range(8)], [True] * 8)
        boxes = []
        for k, side in enumerate(found):
            if side is None:
                continue
            align, dx, dy = SIDES[side]
            width = text_width([f"model_{k}"])
            across = 12 + (x[k] - x.min()) / (x.max() - x.min()) * 246 + dx
            down = 200 - (12 + (y[k] - y.min()) / (y.max() - y.min()) * 176) + dy
            left = across - {"left": 0, "center": width / 2, "right": width}[align]
            boxes.append((left, down - 6, left + width, down + 6))
        placed += len(boxes)
        for one, other in itertools.combinations(boxes, 2):
            apart = one[2] <= other[0] or other[2] <= one[0]
            assert apart or one[3] <= other[1] or other[3] <= one[1]
    assert placed > 60


# Curves


def _curve(model: str, points: dict[int, float], loss: float = 0.5) -> list[dict[str, object]]:
    return [
        {"model": model, "purpose": "learning-curve", "fraction": number / 100,
         "train_videos": number, "judged_videos": 50, "accuracy": accuracy,
         "accuracy_low": accuracy - 0.1, "accuracy_high": accuracy + 0.1, "log_loss": loss,
         "training_seconds": 1.0}
        for number, accuracy in points.items()
    ]  # fmt: skip


def test_learning_curves_are_of_both_kinds_and_say_what_the_last_data_brought() -> None:
    rows = [
        *_curve("svm", {100: 0.8, 50: 0.7, 25: 0.6}),
        *_curve("s3d", {25: 0.3, 50: 0.4, 100: 0.65}),
        *_curve("c3d", {25: 0.3, 50: 0.3, 100: 0.3}, loss=9.0),
        {**_curve("majority", {100: 0.5}, loss=0.7)[0], "purpose": "test"},
    ]
    section = _made(Runs(folders=("/runs",), studies=(study("s", rows),)))
    parts = _parts(section)
    assert set(parts) == {"learning-accuracy-1", "learning-best-1", "learning-log-loss-1"}
    chart = parts["learning-accuracy-1"]
    assert isinstance(chart, Chart)
    # The best at the end first, each from little to much.
    assert chart.frame["model"].drop_duplicates().tolist() == ["svm", "s3d", "c3d"]
    assert chart.frame["train_videos"].tolist() == 3 * [25, 50, 100]
    best = parts["learning-best-1"]
    assert isinstance(best, Chart)
    assert set(best.frame["model"]) == {"svm", "s3d"}
    loss = parts["learning-log-loss-1"]
    assert isinstance(loss, Chart)
    assert "c3d (9)" in loss.note
    assert "c3d" not in set(loss.frame["model"])
    [prose] = [part for part in beside.parts(section.blocks) if isinstance(part, Prose)]
    assert prose.paragraphs[0] == (
        "From 50 to 100 videos accuracy changed by s3d +0.250, svm +0.100 and c3d +0.000."
    )


def test_training_curves_leave_out_what_is_no_number() -> None:
    history: list[dict[str, object]] = [
        {"epoch": 1, "train_loss": 1.0, "val_loss": 1.1, "train_accuracy": 0.4, "val_accuracy": 1},
        {"epoch": 2, "train_loss": 0.8, "val_loss": 0.9, "train_accuracy": 0.6},
        {"epoch": 3, "train_loss": 0.6, "val_loss": "much", "train_accuracy": 0.8},
        {"epoch": 4, "train_loss": 0.5, "val_loss": 1.3, "train_accuracy": 0.9},
    ]
    model = trained("s3d", family="deep", history=history)
    parts = _parts(_made(Runs(folders=("/runs",), models=(model,))))
    loss = parts["training-loss-1"]
    assert isinstance(loss, Chart)
    rows = loss.frame[loss.frame["videos"] == "validation"]
    assert rows["epoch"].tolist() == [1, 2, 4]
    assert loss.note == "Validation was best in epoch 2 of 4 (0.900); in the last it was 1.300."
    assert set(parts) == {"training-loss-1", "training-accuracy-1"}


@pytest.mark.parametrize("history", [[], [{"epoch": 1, "train_loss": 0.5}], [{"epoch": "x"}] * 3])
def test_a_model_without_epochs_has_no_curve(history: list[dict[str, object]]) -> None:
    model = trained("s3d", family="deep", history=history)
    assert tradeoffs.section(Runs(folders=("/runs",), models=(model,)), tools()) is None
