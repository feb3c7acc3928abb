"""The training loop against hand-computed steps, itself uninterrupted, and two processes."""

import json
import math
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn

from vidray.errors import UserError
from vidray.learning import checkpoints, loop, losses
from vidray.learning.average import Average
from vidray.learning.epochs import (
    EpochRow,
    Validation,
    best_epoch,
    should_stop,
)
from vidray.learning.hyperparameters import Augmentation, OptimizerKind, Training
from vidray.learning.loader import TrainingLoader
from vidray.learning.optimizer import learning_rate_at, make_optimizer
from vidray.learning.processes import predict_shared
from vidray.learning.teacher import Distilled, Teacher, answer_of_network
from vidray.models import inference
from vidray.models.names import Precision
from vidray.models.networks import batchnorm
from vidray.models.networks.batchnorm import world_size
from vidray.models.preprocess import Preprocessing

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(num_frames=2, size_px=6, mean=(0.5,) * 3, std=(0.25,) * 3)
CLASSES = 3
PLAIN = Training(
    epochs=3,
    batch_size=5,
    learning_rate=0.05,
    optimizer="sgd",
    weight_decay=0.01,
    warmup_epochs=0.5,
)


# Of ``make_network``: the convolution and its norm are the backbone.
SHARES = {
    "0.weight": 0.5, "0.bias": 0.5, "1.weight": 0.5, "1.bias": 0.5, "6.weight": 1.0, "6.bias": 1.0,
}  # fmt: skip


def make_labels(rows: int) -> np.ndarray:
    # Class 0 is as common as the two others together.
    return np.array([0, 1, 0, 2], np.int64)[np.arange(rows) % 4]


def read(rows: np.ndarray) -> np.ndarray:
    """Noise, the channel of the class a little brighter: uint8 (N, 2, 6, 6, 3)."""
    clips = np.empty((len(rows), 2, 6, 6, 3), np.uint8)
    for clip, row, label in zip(clips, rows.tolist(), make_labels(12)[rows % 12], strict=True):
        clip[:] = np.random.default_rng(row).integers(0, 200, clip.shape)
        clip[..., label] += 50
    return clips


def make_loader(training: Training, rows: int = 12, *, taught: bool = False) -> TrainingLoader:
    """Of a taught network every third clip has no label."""
    labels = make_labels(rows)
    return TrainingLoader(
        read=read,
        labels=np.where(taught & (np.arange(rows) % 3 == 2), -1, labels),
        teacher=PREPROCESSING if taught else None,
        num_classes=CLASSES,
        preprocessing=PREPROCESSING,
        augmentation=Augmentation.none(),
        batch_size=training.batch_size,
        seed=training.seed,
        rank=torch.distributed.get_rank() if world_size() > 1 else 0,
        world=world_size(),
        mixup_alpha=training.mixup_alpha,
        balanced=training.balanced_sampling,
        threads=1,
    )


def make_network(*, norm: bool = False, dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv3d(3, 4, (1, 3, 3)),
        nn.BatchNorm3d(4) if norm else nn.Identity(),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(4, CLASSES),
    )


def fit(
    network: nn.Module,
    training: Training,
    *,
    rows: int = 12,
    validate: int = 7,
    start: Path | None = None,
    on_epoch: Callable[..., bool | None] = lambda rows, save: None,
    taught: bool = False,
) -> list[EpochRow]:
    teacher, objective = None, None
    if taught:
        other = answer_of_network(make_network(seed=1), PREPROCESSING)
        teacher = Teacher(other, PREPROCESSING, np.arange(CLASSES))
        objective = Distilled(
            temperature=2.0, share=0.7, label_smoothing=0.1,
            class_weights=torch.tensor([0.5, 1.0, 2.0]),
        )  # fmt: skip
    return loop.fit(
        network,
        make_loader(training, rows, taught=taught),
        training=training,
        device=CPU,
        on_epoch=on_epoch,
        # Clips that were not trained on: 120 is a multiple of 12, so their labels are the same.
        validation=Validation(read=lambda rows: read(rows + 120), labels=make_labels(validate))
        if validate
        else None,
        start=start,
        shares=SHARES if training.backbone_rate else None,
        is_fresh=True,
        teacher=teacher,
        objective=objective,
    )


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_bitwise(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


def assert_close(left: dict[str, Tensor], right: dict[str, Tensor], atol: float = 1e-6) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.allclose(value, right[name], rtol=1e-5, atol=atol), name


def curve(rows: list[EpochRow]) -> list[tuple[Any, ...]]:
    return [
        (r.epoch, r.train_loss, r.train_accuracy, r.val_loss, r.val_accuracy, r.learning_rate)
        for r in rows
    ]


# --- the schedule, the loss, the weights -------------------------------------------------------


def rates(training: Training, steps_per_epoch: int = 4) -> list[float]:
    total = training.epochs * steps_per_epoch
    return [
        learning_rate_at(step, steps_per_epoch=steps_per_epoch, training=training)
        for step in range(total)
    ]


def test_the_cosine_by_hand() -> None:
    training = Training(epochs=2, learning_rate=1.0, warmup_epochs=1.0)
    half = math.sqrt(0.5) / 2
    assert rates(training) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 0.5 + half, 0.5, 0.5 - half])


def test_the_steps_by_hand() -> None:
    training = Training(epochs=2, learning_rate=2.0, warmup_epochs=0.5, schedule="step")
    assert rates(training) == pytest.approx([1, 2, 2, 2, 0.2, 0.2, 0.02, 0.02])


def test_a_constant_rate_and_a_warm_up_cut_at_half_of_the_training() -> None:
    training = Training(epochs=1, learning_rate=1.0, warmup_epochs=5.0, schedule="constant")
    assert rates(training) == pytest.approx([0.5, 1, 1, 1])
    assert rates(replace(training, warmup_epochs=0.0)) == [1.0] * 4


def test_the_warm_up_has_no_fewer_steps_than_asked() -> None:
    training = Training(epochs=3, learning_rate=1.0, warmup_steps=5, schedule="constant")
    assert rates(training) == pytest.approx([0.2, 0.4, 0.6, 0.8, *[1] * 8])
    assert rates(replace(training, warmup_steps=2))[3] == 1.0  # An epoch, 4 steps, is more.
    # Of a fresh network 20, and here half of the training.
    assert rates(replace(training, warmup_steps=None))[5:7] == pytest.approx([1, 1])
    assert rates(replace(training, warmup_steps=None))[0] == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.inf),
        ("optimizer", "lamb"),
        ("weight_decay", -0.1),
        ("schedule", "linear"),
        ("warmup_epochs", -1.0),
        ("warmup_steps", -1),
        ("label_smoothing", 1.0),
        ("accumulate", 0),
        ("accumulate", 17),
        ("precision", "float64"),
        ("patience", -1),
        ("stop_on", "f1"),
        ("keep", "f1"),
        ("clip_gradient_norm", -1.0),
        ("mixup_alpha", math.nan),
        ("seed", -1),
    ],
)
def test_impossible_settings_are_refused(field: str, value: object) -> None:
    with pytest.raises(UserError, match=f"{field} is {value}: it must be"):
        Training(**{field: value})


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 1.5])])
def test_the_loss_of_hard_targets_is_torchs(smoothing: float, weights: Tensor | None) -> None:
    logits, labels = torch.randn(9, 3), torch.from_numpy(make_labels(9))
    targets = nn.functional.one_hot(labels, 3).float()
    total = losses.loss_sum(logits, targets, label_smoothing=smoothing, class_weights=weights)
    mean = total / losses.row_weights(targets, weights).sum()
    expected = nn.functional.cross_entropy(
        logits, labels, weight=weights, label_smoothing=smoothing
    )
    assert mean.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_loss_of_soft_targets_by_hand() -> None:
    logits = torch.tensor([[1.0, 2.0, 4.0]])
    targets, weights = torch.tensor([[0.25, 0.75, 0.0]]), torch.tensor([1.0, 2.0, 3.0])
    log_sum = math.log(math.e + math.e**2 + math.e**4)
    nll = [log_sum - 1, log_sum - 2, log_sum - 4]
    smoothed = [0.9 * 0.25 + 0.1 / 3, 0.9 * 0.75 + 0.1 / 3, 0.1 / 3]
    expected = smoothed[0] * nll[0] + 2 * smoothed[1] * nll[1] + 3 * smoothed[2] * nll[2]
    total = losses.loss_sum(logits, targets, label_smoothing=0.1, class_weights=weights)
    assert total.item() == pytest.approx(expected, rel=1e-6)
    assert losses.row_weights(targets, weights).tolist() == [0.25 + 2 * 0.75]
    assert losses.row_weights(targets, None).tolist() == [1.0]


def test_balanced_weights() -> None:
    import sklearn.utils.class_weight  # here: the two processes need no sklearn

    labels = make_labels(11)
    expected = sklearn.utils.class_weight.compute_class_weight(
        "balanced", classes=np.arange(3), y=labels
    )
    assert losses.balanced_weights(labels, 3).tolist() == pytest.approx(expected)
    # 6 clips of two classes, of the last one none: 6 / (2 * 4), 6 / (2 * 2).
    labels = np.array([0, 0, 1, 0, 1, 0])
    assert losses.balanced_weights(labels, 3).tolist() == [0.75, 1.5, 0.0]


def test_vectors_do_not_decay_and_what_is_frozen_is_not_trained() -> None:
    network = make_network(norm=True)
    network[6].requires_grad_(False)
    optimizer = make_optimizer(network, Training(weight_decay=0.3))
    decayed, rest = optimizer.param_groups
    assert decayed["weight_decay"] == 0.3
    assert [parameter is network[0].weight for parameter in decayed["params"]] == [True]
    assert rest["weight_decay"] == 0.0
    assert len(rest["params"]) == 3  # a bias, a scale and a shift
    with pytest.raises(UserError, match="no parameter of the network is trained"):
        make_optimizer(network.requires_grad_(False), Training())


# --- training in one process -------------------------------------------------------------------


class Linear(nn.Module):
    """Logits of the mean colour of a clip: what a step does to it can be computed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(CLASSES, 3))

    def forward(self, clips: Tensor) -> Tensor:
        return clips.mean(dim=(2, 3, 4)) @ self.weight.T


def hand_gradient(weights: np.ndarray | None) -> np.ndarray:
    """Of the loss of all 12 clips at weights of zero, smoothing 0.1; float64 (K, 3)."""
    colours = (read(np.arange(12)) / 255 - 0.5).mean(axis=(1, 2, 3)) / 0.25  # (12, 3)
    labels = make_labels(12)
    smoothed = 0.9 * np.eye(CLASSES)[labels] + 0.1 / CLASSES  # (12, K)
    if weights is None:
        weights = np.ones(CLASSES)
    smoothed *= weights
    # d/dlogit of -sum(t log softmax) is softmax * sum(t) - t, with softmax 1/K everywhere.
    of_logits = smoothed.sum(axis=1, keepdims=True) / CLASSES - smoothed
    gradient: np.ndarray = of_logits.T @ colours / weights[labels].sum()
    return gradient


@pytest.mark.parametrize("class_weights", [False, True])
@pytest.mark.parametrize("accumulate", [1, 5])
def test_a_step_by_hand(class_weights: bool, accumulate: int) -> None:
    network = Linear()
    training = Training(
        epochs=1,
        batch_size=12,
        learning_rate=2.0,
        optimizer="sgd",
        schedule="constant",
        class_weights=class_weights,
        accumulate=accumulate,
    )
    (row,) = fit(network, training, validate=0)
    gradient = hand_gradient(np.array([12 / 18, 12 / 9, 12 / 9]) if class_weights else None)
    np.testing.assert_allclose(network.weight.detach().numpy(), -2.0 * gradient, atol=1e-6)
    assert row.train_loss == pytest.approx(math.log(3), rel=1e-6) or class_weights
    assert row.val_loss is None
    assert row.steps == 1


def test_a_long_gradient_is_clipped() -> None:
    network = Linear()
    training = Training(
        epochs=1,
        batch_size=12,
        learning_rate=2.0,
        optimizer="sgd",
        schedule="constant",
        clip_gradient_norm=1e-3,
    )
    fit(network, training, validate=0)
    gradient = hand_gradient(None)
    expected = -2.0 * gradient / np.linalg.norm(gradient) * 1e-3
    np.testing.assert_allclose(network.weight.detach().numpy(), expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_simple_task_is_learnt(precision: Precision) -> None:
    seen = []
    network = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, CLASSES))
    network.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    training = Training(epochs=15, learning_rate=0.1, precision=precision, batch_size=6)
    rows = fit(network, training)
    assert rows[-1].train_accuracy == 1.0
    assert rows[-1].val_accuracy == 1.0
    assert rows[-1].val_loss < 0.5 < rows[0].val_loss
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    assert set(seen) == {getattr(torch, precision)}


def test_a_row_is_what_the_network_does_and_json_can_hold_it() -> None:
    import sklearn.metrics

    network = make_network(norm=True)
    rows = fit(network, replace(PLAIN, epochs=2))
    clips, labels = read(np.arange(7) + 120), make_labels(7)
    with torch.no_grad():
        inputs = PREPROCESSING.to_input(torch.from_numpy(clips))
        probabilities = network.eval()(inputs).softmax(dim=1).numpy()
    row = rows[-1]
    assert row.val_loss == pytest.approx(sklearn.metrics.log_loss(labels, probabilities), rel=1e-5)
    assert row.val_accuracy == np.mean(probabilities.argmax(axis=1) == labels)
    assert (row.epoch, row.steps) == (2, 3)
    assert row.seconds > row.seconds_waiting_for_data > 0
    assert row.clips_per_second == pytest.approx(12 / row.seconds)
    assert row.peak_memory_bytes > 50e6  # torch alone is more
    assert EpochRow(**json.loads(json.dumps(vars(row)))) == row


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_interrupted_after_two_epochs_it_ends_as_if_it_had_not_been(
    tmp_path: Path, optimizer: OptimizerKind, channels_last: bool, ema: float
) -> None:
    training = replace(
        PLAIN,
        epochs=4,
        optimizer=optimizer,
        channels_last=channels_last,
        mixup_alpha=0.4,
        ema=ema,
        balanced_sampling=ema > 0,
    )
    straight = make_network(norm=True, dropout=0.5)

    def save_each(rows: list[EpochRow], save: loop.Save) -> None:
        save(tmp_path / str(len(rows)))

    expected = fit(straight, training, on_epoch=save_each)
    torch.manual_seed(99)  # whatever else a new process has drawn before
    resumed = make_network(norm=True, dropout=0.5)
    new: list[int] = []
    rows = fit(
        resumed,
        training,
        start=tmp_path / "2",
        on_epoch=lambda rows, save: new.append(rows[-1].epoch),
    )
    assert new == [3, 4]
    assert curve(rows) == curve(expected)
    assert_bitwise(state_of(resumed), state_of(straight))
    # The end of a training is a checkpoint like the others: there is nothing left to do.
    finished = make_network(norm=True, dropout=0.5)
    assert curve(fit(finished, training, start=tmp_path / "4")) == curve(expected)
    assert_bitwise(state_of(finished), state_of(straight))


@pytest.mark.parametrize("decay", [0.3, 0.9])
def test_the_average_of_the_weights_by_hand(decay: float) -> None:
    """After each step, in float64: decay x average + rest x weights, the decay warmed up."""
    network = make_network(norm=True)
    taken: list[dict[str, Tensor]] = [state_of(network)]
    average = Average(network, decay)
    generator = torch.Generator().manual_seed(0)
    for step in range(12):
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.randn(value.shape, generator=generator))
            else:
                value.add_(1)
        taken.append(state_of(network))
        average.update(network, step)
    expected = {name: value.double() for name, value in taken[0].items()}
    for step, state in enumerate(taken[1:]):
        share = min(decay, (1 + step) / (10 + step))
        for name, value in state.items():
            counts = not value.is_floating_point()
            expected[name] = value if counts else share * expected[name] + (1 - share) * value
    for name, value in average.network.state_dict().items():
        assert torch.allclose(value.double(), expected[name].double(), atol=1e-5), name
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


def test_the_average_is_what_is_judged_and_saved(tmp_path: Path) -> None:
    training = replace(PLAIN, epochs=2, ema=0.9)
    network = make_network(norm=True)
    rows = fit(network, training, on_epoch=lambda rows, save: save(tmp_path))
    file = checkpoints.judged_weights(tmp_path)
    assert file.name == checkpoints.AVERAGE
    judged, last = make_network(norm=True), make_network(norm=True)
    judged.load_state_dict(safetensors.torch.load_file(file))
    last.load_state_dict(safetensors.torch.load_file(tmp_path / checkpoints.NETWORK))
    assert_bitwise(state_of(last), state_of(network))
    clips, labels = read(np.arange(7) + 120), torch.from_numpy(make_labels(7))
    inputs = PREPROCESSING.to_input(torch.from_numpy(clips))
    losses_of = [
        nn.functional.cross_entropy(one.eval()(inputs), labels).item() for one in (judged, last)
    ]
    assert rows[-1].val_loss == pytest.approx(losses_of[0], rel=1e-5)
    assert rows[-1].val_loss != pytest.approx(losses_of[1], rel=1e-3)
    # The steps themselves are those of a training without.
    plain = make_network(norm=True)
    fit(plain, replace(training, ema=0.0))
    assert_bitwise(state_of(plain), state_of(network))


@pytest.mark.parametrize(("before", "now"), [(0.0, 0.9), (0.9, 0.0)])
def test_an_average_that_is_missing_or_too_much_is_told(
    tmp_path: Path, before: float, now: float
) -> None:
    training = replace(PLAIN, epochs=1, ema=before)
    fit(make_network(), training, on_epoch=lambda rows, save: save(tmp_path))
    with pytest.raises(UserError, match=rf"ema: {before} -> {now}"):
        fit(make_network(), replace(training, ema=now), start=tmp_path)
    network = make_network()
    word = "with" if before else "without"
    told = f"was saved {word} averaged weights: resume it with the ema"
    with pytest.raises(UserError, match=told):
        checkpoints.load(
            tmp_path, network, make_optimizer(network, training),
            average=make_network() if now else None,
        )  # fmt: skip


def test_a_checkpoint_of_an_older_vidray_goes_on(tmp_path: Path) -> None:
    """Its settings and rows lack what came later, and mean what they meant."""
    training = replace(PLAIN, epochs=2, precision=None)
    straight = make_network()

    def save_first(rows: list[EpochRow], save: loop.Save) -> None:
        if len(rows) == 1:
            save(tmp_path)

    expected = fit(straight, training, on_epoch=save_first)
    path = tmp_path / checkpoints.HEADER
    header = json.loads(path.read_text())
    for name in ("backbone_rate", "layer_decay", "ema", "balanced_sampling", "drop_path"):
        del header["progress"]["settings"][name]
    for row in header["progress"]["epochs"]:
        del row["precision"]
    path.write_text(json.dumps(header))
    resumed = make_network()
    assert curve(fit(resumed, training, start=tmp_path)) == curve(expected)
    assert_bitwise(state_of(resumed), state_of(straight))
    with pytest.raises(UserError, match=r"backbone_rate: 1\.0 -> 0\.5"):
        fit(make_network(), replace(training, backbone_rate=0.5), start=tmp_path)


def test_a_resumed_training_keeps_its_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an epoch on a GPU, the other half on a CPU: one precision, whatever they would choose.

    Here the device changes its mind; no GPU is needed for that.
    """
    training = replace(PLAIN, epochs=2)
    assert training.precision is None
    monkeypatch.setattr(loop, "default_precision", lambda device: "bfloat16")
    rows = fit(make_network(), replace(training, epochs=1))
    assert rows[0].precision == "bfloat16"

    def save_first(rows: list[EpochRow], save: loop.Save) -> None:
        if len(rows) == 1:
            save(tmp_path)

    fit(make_network(), training, on_epoch=save_first)
    monkeypatch.undo()
    resumed = fit(make_network(), training, start=tmp_path)
    assert [row.precision for row in resumed] == ["bfloat16"] * 2
    with pytest.raises(UserError, match="precision: bfloat16 -> float32"):
        fit(make_network(), replace(training, precision="float32"), start=tmp_path)
    header = json.loads((tmp_path / checkpoints.HEADER).read_text())
    header["progress"]["settings"]["precision"] = "int8"
    (tmp_path / checkpoints.HEADER).write_text(json.dumps(header))
    with pytest.raises(UserError, match=r"progress\.settings\.precision is \"int8\""):
        fit(make_network(), training, start=tmp_path)


def test_a_cpu_computes_in_float32_if_nothing_is_said() -> None:
    assert fit(make_network(), replace(PLAIN, epochs=1))[0].precision == "float32"


def test_statistics_of_a_fresh_network_forget_their_beginning() -> None:
    """With weights that do not move, they are the mean of the batches' own, from the first on."""
    training = replace(PLAIN, epochs=1, learning_rate=1e-30, weight_decay=0.0)
    seen: list[Tensor] = []
    network = make_network(norm=True)
    network[1].register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].detach()) if module.training else None
    )
    loop.fit(
        network, make_loader(training), training=training, device=CPU,
        on_epoch=lambda rows, save: None, is_fresh=True,
    )  # fmt: skip
    means = torch.stack([one.mean(dim=(0, 2, 3, 4)) for one in seen])
    variances = torch.stack([one.var(dim=(0, 2, 3, 4)) for one in seen])
    assert len(means) == 3
    assert torch.allclose(network[1].running_mean, means.mean(dim=0), atol=1e-6)
    assert torch.allclose(network[1].running_var, variances.mean(dim=0), rtol=1e-5)
    long = batchnorm.momenta(network)
    batchnorm.set_momentum([(long[0][0], 0.1)], step=50)
    assert network[1].momentum == 0.1


def test_balanced_sampling_shows_all_classes_equally_often() -> None:
    training = replace(PLAIN, epochs=1, balanced_sampling=True, batch_size=5)
    shown = np.zeros(CLASSES)
    network = make_network()
    network.register_forward_pre_hook(lambda module, inputs: None)
    loader = make_loader(training)
    for batch in loader.epoch(0):
        shown += batch.targets.numpy().sum(axis=0)
    assert shown.tolist() == [4, 4, 4]
    assert fit(network, training)[0].steps == 3


def test_who_is_told_of_an_epoch_can_end_the_training() -> None:
    rows = fit(make_network(), replace(PLAIN, epochs=4), on_epoch=lambda rows, save: len(rows) < 2)
    assert [row.epoch for row in rows] == [1, 2]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    fit(make_network(), replace(PLAIN, epochs=1), on_epoch=lambda rows, save: save(tmp_path))
    with pytest.raises(UserError, match=r"learning_rate: 0\.05 -> 0\.01; steps_per_epoch: 3 -> 2"):
        fit(make_network(), replace(PLAIN, epochs=1, learning_rate=0.01), rows=8, start=tmp_path)


@pytest.mark.parametrize(
    ("progress", "what"),
    [
        ({}, "progress has no settings, or no epochs"),
        ({"settings": [], "epochs": []}, "progress has no settings, or no epochs"),
        ({"settings": None, "epochs": []}, "progress has no settings, or no epochs"),
        ({"epochs": [5]}, r"progress\.epochs\[0\] is 5: it must be an object"),
        ({"epochs": [{"epoch": 1}]}, r"progress\.epochs\[0\]\.train_loss is missing"),
    ],
)
def test_damaged_progress_of_a_checkpoint_is_told(
    tmp_path: Path, progress: dict[str, Any], what: str
) -> None:
    training = replace(PLAIN, epochs=1)
    fit(make_network(), training, on_epoch=lambda rows, save: save(tmp_path))
    path = tmp_path / checkpoints.HEADER
    header = json.loads(path.read_text())
    good = {} if progress == {} else header["progress"]
    path.write_text(json.dumps({**header, "progress": {**good, **progress}}))
    with pytest.raises(UserError, match=rf"checkpoint\.json is damaged \({what}\).*: put back"):
        fit(make_network(), training, start=tmp_path)


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    network = make_network(dropout=0.5)
    torch.manual_seed(5)
    fit(network, replace(PLAIN, epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_accumulated_parts_are_as_one_batch() -> None:
    # 7 clips in 3 parts: 2, 2 and 3 of them; class weights make the parts' weights unequal too.
    training = replace(PLAIN, batch_size=7, class_weights=True, label_smoothing=0.2)
    whole, parts, sizes = make_network(), make_network(), []
    expected = fit(whole, training, rows=7)
    parts.register_forward_pre_hook(
        lambda module, inputs: sizes.append(len(inputs[0])) if module.training else None
    )
    rows = fit(parts, replace(training, accumulate=3), rows=7)
    assert sizes == [2, 2, 3] * 3
    assert_close(state_of(parts), state_of(whole))
    np.testing.assert_allclose(np.array(curve(rows)), np.array(curve(expected)), rtol=1e-5)


def test_channels_last_gives_the_same_network() -> None:
    plain, last = make_network(), make_network()
    fit(plain, PLAIN)
    fit(last, replace(PLAIN, channels_last=True))
    assert last[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert_close(state_of(plain), state_of(last))


def row(epoch: int, loss: float, accuracy: float) -> EpochRow:
    return EpochRow(
        epoch=epoch,
        train_loss=1.0,
        train_accuracy=0.5,
        val_loss=loss,
        val_accuracy=accuracy,
        learning_rate=0.1,
        seconds=1.0,
        seconds_waiting_for_data=0.0,
        seconds_validating=0.0,
        steps=1,
        clips_per_second=1.0,
        peak_memory_bytes=1,
    )


def test_the_best_epoch() -> None:
    rows = [row(1, 0.9, 0.5), row(2, 0.8, 0.7), row(3, 0.7, 0.7), row(4, 0.6, 0.6)]
    default = Training()
    assert best_epoch(rows, default) == 2  # the better loss of the two that are the most accurate
    assert best_epoch([*rows, row(5, 0.7, 0.7)], default) == 2  # the first of equals
    assert best_epoch(rows, Training(keep="loss")) == 3  # not the most accurate
    unknown = [replace(r, val_loss=None, val_accuracy=None) for r in rows]
    assert best_epoch(unknown, default) == 3


def test_when_to_stop() -> None:
    rows = [row(1, 0.9, 0.5), row(2, 0.8, 0.7), row(3, 0.9, 0.6), row(4, 0.8, 0.8)]
    on_loss, on_accuracy = Training(patience=2), Training(patience=2, stop_on="accuracy")
    assert [should_stop(rows[:k], on_loss) for k in range(5)] == [False] * 4 + [True]
    assert not should_stop(rows, on_accuracy)
    assert not should_stop(rows, Training(patience=0))


def test_a_training_that_gets_no_better_stops_and_stays_stopped(tmp_path: Path) -> None:
    # A rate too small to change a float32: every epoch is like the first.
    training = Training(epochs=9, learning_rate=1e-30, batch_size=12, patience=3, weight_decay=0.0)
    rows = fit(make_network(), training, on_epoch=lambda rows, save: save(tmp_path))
    assert len(rows) == 4
    assert len(fit(make_network(), training, start=tmp_path)) == 4


def test_settings_that_do_not_go_together() -> None:
    with pytest.raises(UserError, match="patience is 3 but there is no validation split"):
        fit(make_network(), replace(PLAIN, patience=3), validate=0)
    with pytest.raises(UserError, match="precision is float16, which needs a GPU"):
        fit(make_network(), replace(PLAIN, precision="float16"))


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    with pytest.raises(UserError, match=r"loss of epoch \d is (nan|inf): pass a lower"):
        fit(make_network(), replace(PLAIN, learning_rate=1e30, warmup_epochs=0.0))


# --- predictions -------------------------------------------------------------------------------


def test_predictions_are_those_of_evaluation_and_modes_stay() -> None:
    network = make_network(norm=True, dropout=0.5).train()
    network[2].eval()
    modes = [module.training for module in network.modules()]
    stored = np.repeat(np.repeat(read(np.arange(5)), 2, axis=2), 2, axis=3)  # 12 x 12 pixels
    stored.flags.writeable = False  # as a mapped file's
    logits = inference.predict_logits(
        network, [stored[:2], stored[2:]], preprocessing=PREPROCESSING, device=CPU
    )
    assert [module.training for module in network.modules()] == modes
    inputs = PREPROCESSING.to_input(torch.from_numpy(read(np.arange(5))))
    expected = network.eval()(inputs).detach().numpy()
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    assert inference.predict_logits(network, [], preprocessing=PREPROCESSING, device=CPU).shape == (
        0,
        0,
    )


# --- two processes -----------------------------------------------------------------------------


# Most of the time is torch's imports in two new processes.
def two_process_test(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.slow(pytest.mark.timeout(300)(test))


# 12 clips in batches of 5 are 4, 4, 4; 13 are 5, 4, 4, so shares are 3 and 2 of the first.
SCENARIOS: dict[str, tuple[bool, int, int, Training]] = {
    "plain": (False, 13, 7, PLAIN),
    "accumulated": (False, 13, 6, replace(PLAIN, accumulate=2, class_weights=True)),
    "batch norm": (True, 13, 1, replace(PLAIN, clip_gradient_norm=0.5, mixup_alpha=0.4)),
    "averaged": (True, 13, 7, replace(PLAIN, ema=0.9, backbone_rate=0.5)),
    "balanced": (False, 13, 7, replace(PLAIN, balanced_sampling=True)),
    "adamw": (False, 12, 7, replace(PLAIN, optimizer="adamw", learning_rate=1e-3)),
    "taught": (True, 13, 7, replace(PLAIN, mixup_alpha=0.4)),
    "stopped": (False, 12, 3, replace(PLAIN, learning_rate=1e-30, patience=1, weight_decay=0.0)),
}


def run_scenario(name: str) -> dict[str, Tensor]:
    norm, rows, validate, training = SCENARIOS[name]
    network = make_network(norm=norm)
    curves = fit(network, training, rows=rows, validate=validate, taught=name == "taught")
    numbers = torch.tensor(curve(curves), dtype=torch.float64)
    return {"curve": numbers, **state_of(network)}


def predict(num_rows: int) -> np.ndarray:
    return predict_shared(
        make_network(), read, num_rows, batch_size=2, preprocessing=PREPROCESSING, device=CPU
    )


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
    )
    results = {name: run_scenario(name) for name in SCENARIOS}
    results["predictions"] = {
        str(num_rows): torch.from_numpy(predict(num_rows)) for num_rows in (1, 2, 7)
    }
    results["resumed"] = run_resumed(Path(folder), rank)
    # Only the first process says that it is enough.
    ended = fit(make_network(), PLAIN, on_epoch=lambda rows, save: rank == 1 or len(rows) < 2)
    results["ended"] = {"epochs": torch.tensor([len(ended)])}
    for name, tensors in results.items():
        safetensors.torch.save_file(tensors, Path(folder) / f"{name}-{rank}.safetensors")
    torch.distributed.destroy_process_group()


def run_resumed(folder: Path, rank: int) -> dict[str, Tensor]:
    """The final weights of a training, and those of one that goes on from its first epoch."""

    def save(rows: list[EpochRow], save: loop.Save) -> None:
        if rank == 0 and len(rows) == 1:
            save(folder / "checkpoint")

    straight, resumed = (make_network(norm=True, dropout=0.5) for _ in range(2))
    training = replace(PLAIN, optimizer="adamw", ema=0.9, backbone_rate=0.5)
    fit(straight, training, rows=13, on_epoch=save)
    fit(resumed, training, rows=13, start=folder / "checkpoint")
    return {
        **{f"straight:{name}": value for name, value in state_of(straight).items()},
        **{f"resumed:{name}": value for name, value in state_of(resumed).items()},
    }


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Tensor]]:
    """What both processes have of a scenario: equal in both."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, str(folder)), nprocs=2)

    def results(name: str) -> dict[str, Tensor]:
        first, second = (
            safetensors.torch.load_file(folder / f"{name}-{rank}.safetensors") for rank in (0, 1)
        )
        assert_bitwise(first, second)
        return first

    return results


@pytest.mark.slow
@two_process_test
@pytest.mark.parametrize("name", SCENARIOS)
def test_two_processes_train_the_same_network_as_one(
    two_processes: Callable[[str], dict[str, Tensor]], name: str
) -> None:
    # Adam divides by the size of the gradient, so a last digit of a small one is a larger one.
    assert_close(two_processes(name), run_scenario(name), atol=1e-4 if name == "adamw" else 2e-6)


@two_process_test
def test_two_processes_stop_early_together(
    two_processes: Callable[[str], dict[str, Tensor]],
) -> None:
    assert len(two_processes("stopped")["curve"]) == 2


@two_process_test
def test_one_process_ends_the_training_of_both(
    two_processes: Callable[[str], dict[str, Tensor]],
) -> None:
    assert two_processes("ended")["epochs"].tolist() == [2]


@two_process_test
def test_every_row_is_predicted_once_in_order(
    two_processes: Callable[[str], dict[str, Tensor]],
) -> None:
    for num_rows, logits in two_processes("predictions").items():
        np.testing.assert_allclose(logits.numpy(), predict(int(num_rows)), atol=1e-6)


@two_process_test
def test_two_processes_resume_bit_by_bit(
    two_processes: Callable[[str], dict[str, Tensor]],
) -> None:
    results = two_processes("resumed")
    for name, value in results.items():
        if name.startswith("straight:"):
            assert torch.equal(value, results[name.replace("straight:", "resumed:")]), name


def test_no_thread_predicts_with_weights_that_another_has_rounded() -> None:
    """Autocasting keeps rounded weights for the whole process: on two streams of a GPU, one thread
    reads those that the other has not written yet. Here weights that change between tell.
    """
    inside, go_on = threading.Event(), threading.Event()
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 6 * 6, CLASSES))

    def wait(*_: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            go_on.wait(60)

    network.register_forward_hook(wait)

    def predict() -> Tensor:
        clips = np.full((1, 2, 6, 6, 3), 200, np.uint8)
        return torch.from_numpy(
            inference.predict_logits(
                network, [clips], preprocessing=PREPROCESSING, device=CPU, precision="bfloat16"
            )
        )

    other = threading.Thread(target=predict)
    other.start()
    try:
        assert inside.wait(60)
        with torch.no_grad():
            network[1].weight.zero_()
        assert torch.allclose(predict(), network[1].bias.detach()[None], atol=1e-2)
    finally:
        go_on.set()
        other.join()


# --- on a GPU ----------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_learns_and_resumes_on_a_gpu(tmp_path: Path, precision: Precision) -> None:
    training = Training(
        epochs=15, learning_rate=0.1, precision=precision, batch_size=6, clip_gradient_norm=5.0
    )

    def train(start: Path | None) -> list[EpochRow]:
        network = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, CLASSES))
        return loop.fit(
            network,
            make_loader(training),
            training=training,
            device=torch.device("cuda", 0),
            on_epoch=lambda rows, save: save(tmp_path / str(len(rows))),
            validation=Validation(read=read, labels=make_labels(12)),
            start=start,
        )

    torch.manual_seed(0)
    rows = train(None)
    assert rows[-1].val_accuracy == 1.0
    assert rows[-1].peak_memory_bytes > 0
    resumed = train(tmp_path / "7")
    assert resumed[-1].val_loss == pytest.approx(rows[-1].val_loss, rel=1e-3)
