"""What is said at the end of a search: figures side by side, and doubts."""

from typing import Any

import pytest

from vidray.models.names import ModelKind
from vidray.search import closing
from vidray.search.closing import doubts
from vidray.search.proposals import Trial
from vidray.search.search_run import Found, Search
from vidray.search.settings import SearchSettings

_MODELS: dict[ModelKind, tuple[str, ...]] = {"classical": ("knn", "svm")}


def _trials(*models: str, state: Any = "ok") -> list[Trial]:
    return [
        Trial(
            kind="classical",
            number=number,
            params={"model": model},
            settings={"model": model},
            state=state,
            score=0.5,
        )
        for number, model in enumerate(models)
    ]


def _figures(accuracy: float, low: float) -> dict[str, Any]:
    return {
        "num_videos": 40,
        "num_groups": 40,
        "per_class": {name: {"support": 20} for name in ("jump", "run")},
        "accuracy": accuracy,
        "macro_auc": None,
        "log_loss": 0.6,
        "intervals": {"accuracy": [low, low + 0.2]},
        "baselines": {"majority": {"label": "run", "accuracy": 0.5}},
    }


def _found(trials: list[Trial], test: dict[str, Any]) -> Found:
    searched = {"num_videos": 90, "accuracy": 0.81, "macro_auc": 0.9, "log_loss": 0.41}
    val = _figures(0.7, 0.6)
    winner = {"model": "knn", "score": 0.41, "search": searched, "val": val, "test": test}
    return Found(
        trials=trials,
        best="classical",
        winners={"classical": winner},
        importances={},
        seconds=3.0,
    )


def test_nothing_is_doubted_where_trials_are_many_and_the_winner_is_good() -> None:
    assert doubts(_found(_trials("knn", "svm", "svm", "svm"), _figures(0.9, 0.8)), _MODELS) == []


def test_models_that_were_not_tried_are_named() -> None:
    (doubt,) = doubts(_found(_trials("knn", "knn", "knn", "knn"), _figures(0.9, 0.8)), _MODELS)
    assert doubt == (
        "classical: 4 trials of 2 models are too few to compare them (not tried: svm): give more "
        "--minutes or --trials"
    )


def test_few_trials_and_failed_ones_are_too_few_to_compare() -> None:
    few = _trials("knn", "svm") + _trials("knn", "svm", state="failed")
    (doubt,) = doubts(_found(few, _figures(0.9, 0.8)), _MODELS)
    assert doubt.startswith("classical: 2 trials of 2 models are too few to compare them: give")


def test_a_winner_that_may_be_no_better_than_guessing_is_doubted() -> None:
    trials = _trials("knn", "svm", "svm", "svm")
    (doubt,) = doubts(_found(trials, _figures(0.6, 0.45)), _MODELS)
    assert doubt == (
        "knn on split test: hardly better than chance: guessing is right 0.50 of the time, and the "
        "accuracy of this model may be as low as 0.45"
    )


def test_cross_validation_stands_beside_the_test(capsys: pytest.CaptureFixture[str]) -> None:
    search = Search(
        out="/runs/search",
        settings=SearchSettings(kinds=("classical",)),
        runs={"classical": None},  # type: ignore[dict-item]  # Its kind is asked for only.
        models=_MODELS,
        first=_MODELS,
        space_of=lambda *_: None,  # type: ignore[arg-type,return-value]
    )
    closing.show(_found(_trials("knn", "svm"), _figures(0.65, 0.6)), search)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "classical cross-validation 90 0.810 0.900 0.410" in lines
    assert "classical split test 40 0.650 0.60 to 0.80 - 0.600" in lines
    assert lines[-1] == "best: knn (classical), model folder /runs/search/best, in 3s"
