"""The best trial of each kind as a model folder, judged on val and, once, on test."""

from pathlib import Path
from typing import Any

import pytest

from tests.labelling.test_embedding import SIZE, save_network
from tests.made_runs import embedding_run, features_run
from vidray import models
from vidray.learning.examples import read_features
from vidray.models.names import ModelKind
from vidray.search import winners
from vidray.search.labelled_runs import LabelledRun
from vidray.search.proposals import Trial
from vidray.tables.run_folder import RunFolder


def _trial(number: int, score: float, **settings: Any) -> Trial:
    own = {
        "model": "knn", "parameters": {"n_neighbors": 3}, "scaling": "standard",
        "dimensionality": "none", "families": ("motion",), **settings,
    }  # fmt: skip
    return Trial(
        kind="classical",
        number=number,
        params={"model": own["model"]},
        settings=own,
        state="ok",
        score=score,
        metrics={"accuracy": 0.75, "log_loss": score, "macro_f1": 0.7, "macro_auc": None},
    )


def _times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.slow
def test_a_winner_is_made_and_judged_once_until_another_trial_wins(tmp_path: Path) -> None:
    data = str(features_run(tmp_path / "features"))
    runs: dict[ModelKind, LabelledRun] = {
        "classical": LabelledRun(uri=data, examples=read_features(data))
    }
    folder = RunFolder(out=str(tmp_path / "out"), kind="search", settings={"seed": 0})
    folder.claim()

    def hand_over(*trials: Trial) -> dict[str, Any]:
        return winners.hand_over(folder, runs, trials, metric="log_loss", seed=0)["classical"]

    found = hand_over(_trial(0, 0.5), _trial(1, 0.6))
    assert (found["trial"], found["score"]) == ("classical-0000", 0.5)
    assert found["search"] == {
        "num_videos": 32, "accuracy": 0.75, "log_loss": 0.5, "macro_f1": 0.7, "macro_auc": None,
    }  # fmt: skip
    assert found["val"]["num_videos"] == found["test"]["num_videos"] == 16
    model, test = tmp_path / "out" / "classical", tmp_path / "out" / "test" / "classical"
    before = _times(model), _times(test)
    # Its digest is another one when the search goes on with another kind of models.
    folder.settings["deep_data"] = "another"
    assert hand_over(_trial(0, 0.5), _trial(1, 0.6)) == found
    assert (_times(model), _times(test)) == before

    assert hand_over(_trial(0, 0.5), _trial(1, 0.4, model="svm", parameters={}))["model"] == "svm"
    assert models.load(str(model)).name == "svm"
    assert _times(test) != before[1]
    assert winners.choose(folder, {"classical": found}, metric="log_loss") == "classical"
    assert models.load(str(tmp_path / "out" / "best")).name == "svm"


@pytest.mark.slow
def test_a_winner_by_embeddings_carries_their_network(tmp_path: Path) -> None:
    network = save_network(tmp_path / "network")
    data = str(embedding_run(tmp_path / "features", network, SIZE))
    runs: dict[ModelKind, LabelledRun] = {
        "classical": LabelledRun(uri=data, examples=read_features(data))
    }
    folder = RunFolder(out=str(tmp_path / "out"), kind="search", settings={"seed": 0})
    folder.claim()

    def best(families: tuple[str, ...], number: int) -> Any:
        trial = _trial(number, 0.5 - number / 10, families=families)
        found = winners.hand_over(folder, runs, [trial], metric="log_loss", seed=0)
        winners.choose(folder, found, metric="log_loss")
        return models.load(str(tmp_path / "out" / "best")), found["classical"]

    model, found = best(("embedding",), 0)
    assert model.features.families == ("embedding",)
    assert found["test"]["cost"]["parameters"] > 11e6
    carried = tmp_path / "out" / "best" / "embedding"
    assert {path.name for path in carried.iterdir()} == {"model.json", "weights.safetensors"}
    model, found = best(("motion",), 1)
    assert (model.features.families, model.features.embedding) == (("motion",), None)
    assert found["test"]["cost"]["parameters"] is None
    assert not carried.exists()
