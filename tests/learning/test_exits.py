"""Exits trained with the network's own head: the loss by hand, and a training that goes on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.learning.test_loop import assert_bitwise, curve, state_of
from vidray.learning import loop
from vidray.learning.epochs import EpochRow, Validation
from vidray.learning.exits import EveryExit, of_every_exit
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.loader import TrainingLoader
from vidray.learning.losses import Classification
from vidray.models.networks.build import build
from vidray.models.networks.exits import ExitNetwork
from vidray.models.preprocess import Preprocessing

PREPROCESSING = Preprocessing(num_frames=2, size_px=16, mean=(0.5,) * 3, std=(0.25,) * 3)
TRAINING = Training(epochs=3, batch_size=4, learning_rate=1e-3, ema=0.5)
PLAIN = Classification(label_smoothing=0.1, class_weights=None)


def made(weight: float = 0.5) -> ExitNetwork:
    torch.manual_seed(0)
    network = build("resnet18_avg", num_classes=3, exits=[1, 4]).network
    assert isinstance(network, ExitNetwork)
    network.loss_weight = weight
    return network


def read(rows: np.ndarray) -> np.ndarray:
    clips = [np.random.default_rng(row).integers(0, 256, (2, 16, 16, 3)) for row in rows]
    return np.array(clips, np.uint8)


def fit(
    network: ExitNetwork, on_epoch: object = lambda rows, save: None, start: Path | None = None
) -> list[EpochRow]:
    labels = np.arange(8) % 3
    return loop.fit(
        network,
        TrainingLoader(
            read=read, labels=labels, num_classes=3, preprocessing=PREPROCESSING,
            augmentation=Augmentation(), batch_size=4, seed=0, threads=1,
        ),
        training=TRAINING,
        device=torch.device("cpu"),
        on_epoch=on_epoch,  # type: ignore[arg-type]
        validation=Validation(read=lambda rows: read(rows + 50), labels=labels[:5]),
        start=start,
        is_fresh=True,
    )  # fmt: skip


def one_hot(*labels: int) -> Tensor:
    return torch.eye(3)[list(labels)]


def test_the_loss_is_the_weighted_mean_of_all_heads() -> None:
    outputs = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(0))
    targets = one_hot(0, 1, 2, 2)
    every = EveryExit(PLAIN, made(weight=0.25))
    first, second, own = (PLAIN.loss_sum(outputs[:, k], targets) for k in range(3))
    expected = (0.25 * first + 0.25 * second + own) / 1.5
    torch.testing.assert_close(every.loss_sum(outputs, targets), expected)
    assert every.weights(targets).tolist() == [1.0] * 4
    # Right answers, and an epoch's figures, are of the network's own head.
    labels = outputs[:, 2].argmax(dim=1)
    assert every.right(outputs, labels) == 4
    assert every.judged(outputs[:, 2], labels)[1] == 1.0


def test_a_network_without_exits_keeps_its_objective() -> None:
    network = build("resnet18_avg", num_classes=3).network
    assert of_every_exit(network, PLAIN) is PLAIN


@pytest.mark.slow
def test_interrupted_after_two_epochs_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    straight = made()
    expected = fit(straight)
    stopped = made()

    def stop(rows: list[EpochRow], save: object) -> bool:
        save(tmp_path / str(len(rows)))  # type: ignore[operator]
        return len(rows) < 2

    assert len(fit(stopped, stop)) == 2
    resumed = made()
    rows = fit(resumed, start=tmp_path / "2")
    assert curve(rows) == curve(expected)
    assert_bitwise(state_of(resumed), state_of(straight))
    # The exits have learnt, too.
    fresh = state_of(made())
    for name, weight in state_of(resumed).items():
        if name.startswith("exits.") and "weight" in name:
            assert not torch.equal(weight, fresh[name]), name


@pytest.mark.slow
def test_exits_that_weigh_more_learn_more() -> None:
    """Of eight clips by heart the first exit knows more where its loss counts more."""
    losses = {}
    for weight in (0.01, 10.0):
        network = made(weight)
        fit(network)
        network.eval()
        clips = PREPROCESSING.to_input(torch.from_numpy(read(np.arange(8))))
        with torch.no_grad():
            logits = network.each(clips)[0]
        labels = torch.from_numpy(np.arange(8) % 3)
        losses[weight] = float(torch.nn.functional.cross_entropy(logits, labels))
    assert losses[10.0] < losses[0.01]
