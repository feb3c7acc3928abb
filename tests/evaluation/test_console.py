"""What figures do not show is said, and nothing where they show it."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from vidray.evaluation import console
from vidray.evaluation.judge_settings import JudgeSettings
from vidray.evaluation.judging import Evaluation
from vidray.evaluation.metrics import baselines, compute_metrics
from vidray.evaluation.teaching import Taught
from vidray.learning.selection import Selection

NAMES = ("jump", "run")
Captured = pytest.CaptureFixture[str]


def _metrics(number: int, *, right: float, videos_each: int = 1) -> dict[str, Any]:
    """Two classes, as many of each; the first of them are right."""
    truth = np.tile([0, 1], number // 2)
    answers = np.where(np.arange(number) < right * number, truth, 1 - truth)
    probabilities = np.where(answers[:, None] == [0, 1], 0.8, 0.2)
    groups = [f"g{k // videos_each}" for k in range(number)]
    return compute_metrics(truth, probabilities, NAMES, groups=groups)


def test_a_good_model_on_many_videos_needs_no_caveat() -> None:
    assert console.caveats(_metrics(400, right=0.9), 0.5) == []


def test_chance_is_said() -> None:
    (sentence,) = console.caveats(_metrics(400, right=0.52), 0.5)
    assert sentence.startswith("hardly better than chance: guessing is right 0.50 of the time")
    # Better than half is not better than always answering the class that most videos have.
    (sentence,) = console.caveats(_metrics(400, right=0.8), 0.8)
    assert "guessing is right 0.80 of the time" in sentence
    # Where the class with most training videos is rare here, one of two at random is the measure.
    assert console.caveats(_metrics(400, right=0.52), 0.0)


def test_too_few_recordings_to_compare() -> None:
    (sentence,) = console.caveats(_metrics(40, right=0.9, videos_each=2), 0.5)
    assert sentence.startswith("20 recordings are too few to compare models whose accuracy differs")
    low, high = _metrics(40, right=0.9, videos_each=2)["intervals"]["accuracy"]
    assert f"by less than about {(high - low) / 2:.2f}" in sentence


def test_one_recording_and_classes_of_few_videos() -> None:
    first, second = console.caveats(_metrics(8, right=1, videos_each=8), 0.5)
    assert first.startswith("all videos are of one recording")
    assert second.startswith("2 of 2 classes have fewer than 5 videos here")
    assert second.endswith("jump 4, run 4")


def _evaluation(metrics: dict[str, Any], *, is_known: bool) -> Evaluation:
    """Of videos whose recordings are known and whose splits are the training's, or neither."""
    return Evaluation(
        metrics=metrics,
        selection=Selection(),
        gives_splits=True,
        knows_recordings=is_known,
        is_as_trained=is_known,
    )


def test_an_evaluation_says_what_it_rests_on(capsys: Captured) -> None:
    metrics = _metrics(400, right=0.9)
    found = {
        **metrics,
        "baselines": baselines(np.tile([0, 1], 200), NAMES),
        "cost": {
            "end_to_end_seconds_per_video": 0.5, "seconds_per_video": 0.01, "timed_videos": 8,
        },
    }  # fmt: skip
    for knows in (True, False):
        console.print_evaluation(JudgeSettings(), "/out", _evaluation(found, is_known=knows))
        shown = capsys.readouterr().out
        assert ("no recordings known" in shown) == (not knows)
        assert "a column group of the list of videos" in shown or knows
        assert ("not the splits, that the model was trained with" in shown) == (not knows)
        assert "500 ms a video from file to label, 10.0 ms of it the model" in shown
        assert "(measured on 8 videos)" in shown
        assert "predictions, worst first: /out/predictions.parquet" in shown


@pytest.mark.parametrize("split", ["val", "test"])
def test_videos_that_chose_when_clips_leave_are_not_said_to_judge_it(
    capsys: Captured, split: Literal["val", "test"]
) -> None:
    stage = {"share": 0.5, "flops_per_clip": 5, "accuracy": 0.9}
    exits = {
        "threshold": 0.8, "stages": [stage, stage], "lost": 0.0, "lost_interval": [0.0, 0.01],
        "flops_per_clip": 5, "flops_without_exits": 10, "seconds_saved_per_video": None,
    }  # fmt: skip
    found = {
        **_metrics(40, right=0.9), "baselines": baselines(np.tile([0, 1], 20), NAMES),
        "cost": None, "exits": exits,
    }  # fmt: skip
    evaluation = _evaluation(found, is_known=True)
    console.print_evaluation(JudgeSettings(split=split), "/out", evaluation)
    shown = capsys.readouterr().out
    assert "early exits: 50% of the work saved" in shown
    assert ("split val has chosen when clips leave early" in shown) == (split == "val")


def test_the_cost_of_videos_that_are_gone_is_of_the_model_alone(capsys: Captured) -> None:
    gone = {"end_to_end_seconds_per_video": None, "seconds_per_video": 0.01, "timed_videos": 8}
    found = {**_metrics(40, right=0.9), "baselines": baselines(np.tile([0, 1], 20), NAMES)}
    evaluation = _evaluation({**found, "cost": gone}, is_known=True)
    console.print_evaluation(JudgeSettings(), "/out", evaluation)
    shown = capsys.readouterr().out
    assert "10.0 ms a video for the model alone (measured on 8 videos; from file" in shown


def test_a_training_says_how_long_it_took_in_all(capsys: Captured) -> None:
    metrics = {"val": _metrics(40, right=0.9), "cross_validation": None}
    taught = Taught(metrics=metrics, training_seconds=4.0, report={})
    console.print_taught("svm", str(Path("models") / "svm"), taught, seconds=150.0)
    shown = capsys.readouterr().out
    assert "svm: 4s of training, 2m 30s in all; model folder models/svm" in shown
