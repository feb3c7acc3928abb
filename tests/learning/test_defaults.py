"""Defaults that follow from what is trained, and what a digest makes of them."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch

from tests.made_runs import clips_run
from vidray.distributed import training
from vidray.errors import UserError
from vidray.learning import defaults
from vidray.learning.deep_job import DeepJob, facts, make_job, make_network, model_info
from vidray.learning.defaults import Facts, numbers
from vidray.learning.examples import read_clips
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.train_config import DeepSettings, LearningSettings, Workers
from vidray.models.names import DEEP

CONVOLUTIONS = Facts(name="r3d_18", is_pretrained=True)
TRANSFORMER = Facts(name="timesformer_space", is_transformer=True, drop_path=0.0)


def values(given: Facts, **settings: Any) -> dict[str, float]:
    return dataclasses.asdict(numbers(Training(**settings), given))


def test_a_fresh_convolutional_network_is_trained_as_ever() -> None:
    assert values(Facts()) == {
        "learning_rate": 1e-3, "warmup_steps": 20, "backbone_rate": 1.0, "layer_decay": 1.0,
        "clip_gradient_norm": 0.0, "drop_path": 0.0, "ema": 0.0,
    }  # fmt: skip
    assert values(Facts(), warmup_epochs=0.5)["warmup_steps"] == 0  # Who gives epochs wants those.
    assert values(Facts(drop_path=0.2))["drop_path"] == 0.2  # As it was built.


def test_weights_are_changed_slowly() -> None:
    assert values(CONVOLUTIONS) == {
        "learning_rate": 1e-3, "warmup_steps": 0, "backbone_rate": 0.1, "layer_decay": 1.0,
        "clip_gradient_norm": 1.0, "drop_path": 0.0, "ema": 0.999,
    }  # fmt: skip
    found = values(dataclasses.replace(TRANSFORMER, is_pretrained=True))
    assert found == {
        "learning_rate": 3e-4, "warmup_steps": 0, "backbone_rate": 1.0, "layer_decay": 0.75,
        "clip_gradient_norm": 1.0, "drop_path": 0.1, "ema": 0.999,
    }  # fmt: skip
    built_so = dataclasses.replace(TRANSFORMER, is_pretrained=True, drop_path=0.2)
    assert values(built_so)["drop_path"] == 0.2


def test_a_fresh_transformer_needs_a_lower_rate() -> None:
    found = values(TRANSFORMER)
    assert (found["learning_rate"], found["clip_gradient_norm"]) == (1e-4, 1.0)
    assert (found["layer_decay"], found["drop_path"], found["ema"]) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("given", [CONVOLUTIONS, TRANSFORMER])
def test_the_head_alone_has_one_rate(given: Facts) -> None:
    head = dataclasses.replace(given, is_pretrained=True, trains_backbone=False)
    found = values(head)
    assert (found["learning_rate"], found["backbone_rate"], found["layer_decay"]) == (1e-3, 1, 1)
    assert found["drop_path"] == 0
    for name in ("backbone_rate", "layer_decay"):
        with pytest.raises(UserError, match=f"{name} has no effect where only the head is trained"):
            values(head, **{name: 0.5})


def test_what_is_given_stays() -> None:
    given = {
        "learning_rate": 0.5, "warmup_steps": 7, "backbone_rate": 0.4, "layer_decay": 0.3,
        "clip_gradient_norm": 0.2, "drop_path": 0.25, "ema": 0.15,
    }  # fmt: skip
    assert values(dataclasses.replace(TRANSFORMER, is_pretrained=True), **given) == given


def test_drop_path_is_refused_where_there_is_nothing_to_skip() -> None:
    told = "drop_path is 0.1 and r3d_18 has no residual blocks of one width"
    with pytest.raises(UserError, match=told):
        values(CONVOLUTIONS, drop_path=0.1)
    assert values(CONVOLUTIONS, drop_path=0.0)["drop_path"] == 0


@pytest.mark.parametrize(
    ("name", "is_transformer", "drop_path"),
    [
        ("r3d_18", False, None), ("s3d", False, None), ("c3d", False, None),
        ("resnet18_lstm", False, None), ("slowfast_r50", False, None),
        ("efficientnet_b0_avg", False, 0.2 * 15 / 16),
        ("swin3d_t", True, 0.1), ("mvit_v2_s", True, 0.2),
        ("timesformer_space", True, 0.0), ("timesformer_divided", True, 0.0),
    ],
)  # fmt: skip
def test_facts_come_from_the_modules(
    name: str, is_transformer: bool, drop_path: float | None
) -> None:
    network = {"name": name, "num_classes": 3, "head": "layernorm_dropout_linear"}
    found = facts(network, "none", "all")
    assert (found.is_transformer, found.is_pretrained) == (is_transformer, False)
    assert (
        found.drop_path == pytest.approx(drop_path) if drop_path else found.drop_path == drop_path
    )
    assert facts(network, "weights.safetensors", "head") == dataclasses.replace(
        found, is_pretrained=True, trains_backbone=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
def test_every_model_has_facts(name: str) -> None:
    assert facts({"name": name, "num_classes": 2}, "none", "all").name == name


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return read_clips(str(clips_run(tmp_path_factory.mktemp("clips"), 16, frames=8)))


def job_of(examples: Any, model: str, *, weights: str = "none", **settings: Any) -> DeepJob:
    return make_job(
        model, examples, examples.class_names, deep=DeepSettings(weights=weights),
        training=Training(**settings), augmentation=Augmentation(),
    )  # fmt: skip


@pytest.mark.slow
def test_a_job_holds_the_numbers_and_its_network_is_made_by_them(examples: Any) -> None:
    job = job_of(examples, "timesformer_space", weights="default")
    assert job.training.layer_decay == 0.75
    assert job.training.drop_path == 0.1
    assert job.training.precision is None  # The device decides, and the record of epochs says it.
    assert DeepJob.from_json(job.to_json()) == job
    built = make_network(job, fresh=False)
    hooked = [block for block in built.blocks if block._forward_hooks]
    assert len(hooked) == len(built.blocks) - 1  # The first is never skipped.


def test_the_digest_of_a_training_by_default_is_as_it_was(examples: Any) -> None:
    """Its keys and values are those of before there were layers' rates, averages and the rest."""
    deciding = job_of(examples, "r3d_18").deciding()
    assert deciding["training"] == {
        "epochs": 30, "batch_size": 16, "learning_rate": 1e-3, "optimizer": "adamw",
        "weight_decay": 0.05, "schedule": "cosine", "warmup_epochs": 1.0, "label_smoothing": 0.1,
        "accumulate": 1, "precision": "float32", "checkpointing": False, "patience": 0,
        "stop_on": "loss", "keep": "accuracy", "class_weights": False, "clip_gradient_norm": 0.0,
        "mixup_alpha": 0.0, "cutmix_alpha": 0.0, "channels_last": False, "seed": 0,
    }  # fmt: skip
    other = job_of(examples, "r3d_18", ema=0.9, balanced_sampling=True).deciding()["training"]
    assert (other["ema"], other["balanced_sampling"]) == (0.9, True)


def test_the_digest_of_settings_tells_what_is_given_from_what_follows() -> None:
    def deciding(**settings: Any) -> dict[str, Any]:
        return LearningSettings(training=Training(**settings)).deciding_deep()

    plain, given = deciding(), deciding(learning_rate=1e-3)
    assert plain["learning_rate"] == given["learning_rate"] == 1e-3
    assert "ema" not in plain
    assert "given" not in plain
    assert given["given"] == ["learning_rate"]
    assert plain != given


def test_settings_of_an_old_checkpoint_are_completed() -> None:
    training = defaults.resolved(Training(precision="float32"), Facts())
    now = {**dataclasses.asdict(training), "drop_path": 0.2, "steps_per_epoch": 20}
    old = {**now}
    for name in (
        "backbone_rate", "layer_decay", "ema", "balanced_sampling", "drop_path", "warmup_steps",
    ):  # fmt: skip
        del old[name]
    assert defaults.completed(old, now) == now
    assert defaults.completed(old, {**now, "ema": 0.9})["ema"] == 0.0
    # An epoch of 19 steps was warmed up in 19.
    assert defaults.completed(old, {**now, "steps_per_epoch": 19})["warmup_steps"] == 0


def test_balanced_sampling_and_class_weights_are_one_too_many() -> None:
    with pytest.raises(UserError, match="balanced_sampling and class_weights both"):
        Training(balanced_sampling=True, class_weights=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backbone_rate", 0.0), ("backbone_rate", 1.5), ("layer_decay", 0.0),
        ("layer_decay", np.nan), ("drop_path", 1.0), ("drop_path", -0.1), ("ema", 1.0),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{name} is {value}: it must be"):
        Training(**{name: value})


@pytest.mark.slow
def test_a_training_from_weights_says_by_which_numbers(examples: Any, tmp_path: Path) -> None:
    """From a file of its own network: what is kept is the average, and the record has it all."""
    one = {"epochs": 1, "batch_size": 8}
    folder = str(tmp_path)
    train = partial(
        training.train, folder=folder, workers=Workers(in_process=True), on_rows=lambda rows: None
    )
    fresh = train(job_of(examples, "resnet18_avg", **one))
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(fresh.state, file)
    job = job_of(examples, "resnet18_avg", weights=str(file), balanced_sampling=True, **one)
    tuned = train(job)
    told = model_info(job, examples, tuned.rows)["training"]
    assert (told["backbone_rate"], told["ema"], told["clip_gradient_norm"]) == (0.1, 0.999, 1.0)
    assert (told["precision"], told["learning_rate"]) == ("float32", 1e-3)
    last = train(dataclasses.replace(job, training=dataclasses.replace(job.training, ema=0.0)))
    moved, average = (
        max(float((state[name] - value).abs().max()) for name, value in fresh.state.items()
            if "conv" in name)
        for state in (last.state, tuned.state)
    )  # fmt: skip
    assert 0 < average < moved
