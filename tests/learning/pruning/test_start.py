"""The pruned network that a training begins with, and the model folder that it ends as."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.made_runs import clips_run, videos
from vidray import models
from vidray.errors import UserError
from vidray.evaluation import lesson_changes, teaching
from vidray.evaluation.cost import flops_per_clip, num_parameters
from vidray.learning.deep_job import DeepJob, make_network, model_info
from vidray.learning.examples import Examples, read_clips
from vidray.learning.hyperparameters import Training
from vidray.learning.pruning import start
from vidray.learning.train_config import DeepSettings, FoldSettings, LearningSettings, Workers
from vidray.models.folder import DeepModel, save_deep
from vidray.models.model_files import read_info

MODEL = "resnet18_avg"
SHAPE = (3, 4, 32, 32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(clips_run(tmp_path_factory.mktemp("clips") / "run", 16))


@pytest.fixture(scope="module")
def examples(data: str) -> Examples:
    return read_clips(data)


@pytest.fixture(scope="module")
def parent(examples: Examples, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder whose network is as good as any."""
    folder = str(tmp_path_factory.mktemp("parent"))
    job = lesson(examples).job
    save_deep(folder, model_info(job, examples), make_network(job, fresh=True).network.state_dict())
    return folder


def lesson(
    examples: Examples, *, weights: str = "none", prune: float | None = None, model: str = MODEL
) -> teaching.DeepLesson:
    settings = LearningSettings(
        deep=DeepSettings(weights=weights),
        training=Training(epochs=1, batch_size=8, optimizer="sgd"),
        workers=Workers(in_process=True),
    )
    made = teaching.lesson_of(
        model, examples, settings, folds=FoldSettings(), on_rows=lambda rows: None
    )
    if prune is not None:
        made = lesson_changes.with_pruning(made, prune)
    assert isinstance(made, teaching.DeepLesson)
    return made


def teach(made: teaching.DeepLesson, out: Path) -> str:
    run = teaching.model_run(made, data="x", out=str(out))
    run.claim()
    run.finish(**made.teach(run).report)
    return str(out)


def loaded(folder: str) -> DeepModel:
    model = models.load(folder)
    assert isinstance(model, DeepModel)
    return model


def weights_of(folder: str) -> bytes:
    return (Path(folder) / "weights.safetensors").read_bytes()


@pytest.mark.slow
def test_the_model_is_really_smaller_and_needs_no_package(
    examples: Examples, parent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = teach(lesson(examples, weights=parent, prune=0.5), tmp_path / "half")
    monkeypatch.setitem(sys.modules, "torch_pruning", None)  # Importing it would fail.
    before, after = loaded(parent), loaded(pruned)
    said = after.info["pruned"]
    for figure, whole, left in (
        ("parameters", num_parameters(before.network), num_parameters(after.network)),
        ("flops_per_clip", *(flops_per_clip(m.network, SHAPE) for m in (before, after))),
    ):
        assert said[figure] == [whole, left], figure
    assert 0.4 < said["flops_per_clip"][1] / said["flops_per_clip"][0] <= 0.5
    assert len(weights_of(pruned)) < 0.75 * len(weights_of(parent))
    clips = np.zeros((1, 4, 32, 32, 3), np.uint8)
    assert after.predict(clips).shape == (1, 2)
    assert not (tmp_path / "half" / "_checkpoints").exists()


@pytest.mark.slow
def test_a_pruned_model_is_trained_and_pruned_again(
    examples: Examples, parent: str, tmp_path: Path
) -> None:
    half = teach(lesson(examples, weights=parent, prune=0.5), tmp_path / "half")
    tuned = loaded(teach(lesson(examples, weights=half), tmp_path / "tuned"))
    assert tuned.info["network"]["channels"] == loaded(half).info["network"]["channels"]
    quarter = loaded(teach(lesson(examples, weights=half, prune=0.5), tmp_path / "quarter"))
    first = num_parameters(loaded(half).network)
    assert num_parameters(quarter.network) < first == num_parameters(tuned.network)
    built = models.build_model(MODEL, num_classes=2, weights=half)
    assert num_parameters(built) == first


@pytest.mark.slow
def test_what_goes_is_decided_once(examples: Examples, parent: str, tmp_path: Path) -> None:
    """A training that is killed and started again has the network it began with."""
    other = str(shutil.copytree(parent, tmp_path / "parent"))
    job = lesson(examples, weights=other, prune=0.5).job
    begun, said = start.begun(job, examples, str(tmp_path / "work"))
    assert begun.weights == str(tmp_path / "work" / "pruned")
    first = weights_of(begun.weights)
    again, told = start.begun(job, examples, str(tmp_path / "anew"))
    assert weights_of(again.weights) == first
    assert told == said
    # Killed before all was stored: decided again, to the same.
    (tmp_path / "work" / "pruned" / "model.json").unlink()
    assert start.begun(job, examples, str(tmp_path / "work"))[1] == said
    (Path(other) / "weights.safetensors").unlink()  # From here on nobody asks for it.
    resumed, _ = start.begun(job, examples, str(tmp_path / "work"))
    assert asdict(resumed) == asdict(begun)
    assert weights_of(resumed.weights) == first
    sent = DeepJob.from_json(json.loads(json.dumps(resumed.to_json())))
    network = make_network(sent, fresh=False).network
    assert num_parameters(network) == said["pruned"]["parameters"][1]


def test_an_unpruned_training_is_what_it_was(examples: Examples, parent: str) -> None:
    """Its digest, too: a run begun before there was pruning goes on."""
    deciding = lesson(examples, weights=parent).deciding()
    assert "prune" not in deciding
    assert "channels" not in deciding["network"]
    assert lesson(examples, weights=parent, prune=0.5).deciding()["prune"] == 0.5


@pytest.mark.slow
def test_what_cannot_be_pruned_is_told_in_a_line(
    examples: Examples, parent: str, tmp_path: Path
) -> None:
    def told(made: Any, **flags: Any) -> str:
        with pytest.raises(UserError) as error:
            start.begun(lesson(made, prune=0.5, **flags).job, made, str(tmp_path / "work"))
        assert "\n" not in str(error.value)
        return str(error.value)

    file = str(tmp_path / "some.safetensors")
    shutil.copy(Path(parent) / "weights.safetensors", file)
    assert "is no model folder" in told(examples, weights=file)
    assert "this is r3d_18" in told(examples, weights=parent, model="r3d_18")
    rows = [{**row, "label": row["label"].upper()} for row in videos(16)]
    shouted = read_clips(str(clips_run(tmp_path / "clips", rows=rows)))
    assert "a network of the same classes" in told(shouted, weights=parent)
    lost = replace(lesson(examples, weights=parent, prune=0.5).job, prune=0.999)
    with pytest.raises(UserError, match="can go at the most"):
        start.begun(lost, examples, str(tmp_path / "work"))
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("layer", "sizes", "told"),
    [
        ("backbone.stem.conv1", [64, 1 << 19], "and resnet18_avg has 64 and 3 at the most"),
        ("backbone.stem.conv1", [-8, 3], "a list of one or two whole numbers"),
        ("backbone.stem.conv1", [8.5, 3], "a list of one or two whole numbers"),
        ("backbone.stem.conv1", [1 << 70, 3], "a list of one or two whole numbers"),
        ("backbone.stem.conv1", [8, 3], "do not fit each other"),
        ("../../x", [8, 3], "has no convolution"),
        ("backbone.stem.conv1", {"a": 1}, "a list of one or two whole numbers"),
    ],
)
def test_a_hostile_model_json_is_refused_in_a_line(
    layer: str, sizes: Any, told: str, parent: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(parent, tmp_path / "model")
    info = json.loads((folder / "model.json").read_text())
    info["network"]["channels"] = {layer: sizes}
    (folder / "model.json").write_text(json.dumps(info))
    with pytest.raises(UserError) as error:
        models.load(str(folder))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("channels", [{}, [], "x", {f"a{k}": [1] for k in range(10_001)}])
def test_channels_are_an_object_of_some_layers(channels: Any, parent: str, tmp_path: Path) -> None:
    folder = shutil.copytree(parent, tmp_path / "model")
    info = json.loads((folder / "model.json").read_text())
    info["network"]["channels"] = channels
    (folder / "model.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="channels"):
        read_info(str(folder))


@pytest.mark.slow
def test_weights_of_other_sizes_than_model_json_says_are_refused(
    examples: Examples, parent: str, tmp_path: Path
) -> None:
    job = lesson(examples, weights=parent, prune=0.5).job
    where = start.begun(job, examples, str(tmp_path / "work"))[0].weights
    shutil.copy(Path(parent) / "weights.safetensors", where)
    with pytest.raises(UserError):
        models.load(where)
    with pytest.raises(UserError):
        models.build_model(MODEL, num_classes=2, weights=where)


def test_norms_are_measured_again_and_nothing_else_changes() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm3d(3), nn.Dropout(0.5), nn.Flatten()).train()
    network[0].running_mean.fill_(7.0)
    batches = [torch.randn(4, 3, 2, 2, 2) + k for k in range(3)]
    start.remeasure_norms(network, iter(batches))
    mean = torch.stack([batch.mean(dim=(0, 2, 3, 4)) for batch in batches]).mean(0)
    variance = torch.stack([batch.var(dim=(0, 2, 3, 4)) for batch in batches]).mean(0)
    assert torch.allclose(network[0].running_mean, mean, atol=1e-6)
    assert torch.allclose(network[0].running_var, variance, atol=1e-5)
    assert network[0].momentum == 0.1
    assert all(module.training for module in network)


def test_the_seed_draws_the_clips(examples: Examples, parent: str) -> None:
    job = lesson(examples, weights=parent).job
    drawn = [labels for _, labels in start._batches(job, torch.device("cpu"))]
    again = [labels for _, labels in start._batches(job, torch.device("cpu"))]
    assert [one.tolist() for one in drawn] == [one.tolist() for one in again]
    assert sum(map(len, drawn)) == 8
