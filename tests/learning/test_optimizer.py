"""What decays in each network, and that parts of a batch have the gradient of the whole one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from vidray.errors import UserError
from vidray.learning import loop
from vidray.learning.deep_job import DeepJob, make_network
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.loader import TrainingLoader
from vidray.learning.optimizer import (
    decayed,
    make_optimizer,
    parameter_groups,
    rate_shares,
)
from vidray.models.names import DEEP, FLOW_MODELS
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.build import (
    build,
    set_trained,
)
from vidray.models.preprocess import KINETICS, Preprocessing

WITHOUT_BATCH_NORM = (
    "c3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t",
    "timesformer_divided", "timesformer_space", "timesformer_joint", "timesformer_sparse",
    "videomae_small", "videomae_base", "videomae_large",
)  # fmt: skip
# Tokens and tables of positions by the name that each author gave them.
POSITIONS = {
    "mvit_v1_b": ("spatial_pos", "temporal_pos", "class_pos", "class_token"),
    "mvit_v2_s": ("rel_pos_h", "rel_pos_w", "rel_pos_t", "class_token"),
    "swin3d_t": ("relative_position_bias_table",),
    "timesformer_divided": ("class_token", "space_position", "time_position"),
    "timesformer_space": ("class_token", "space_position"),
    "timesformer_joint": ("class_token", "space_position", "time_position"),
    "timesformer_sparse": ("class_token", "space_position", "time_position"),
}
CLIPS, SIDE_PX = 5, 32


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
def test_matrices_and_kernels_decay_and_nothing_else(name: str) -> None:
    network = build(name, num_classes=3, frames=8, size_px=SIDE_PX).network
    found = make_optimizer(network, Training(weight_decay=0.3)).param_groups
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    pulled, left = ([names[id(parameter)] for parameter in group["params"]] for group in found)
    assert [group["weight_decay"] for group in found] == [0.3, 0.0]
    assert len(pulled) + len(left) == len(names)
    positions = {name for name in names.values() if name.split(".")[-1] in POSITIONS.get(name, ())}
    shapes = {name: parameter.ndim for name, parameter in network.named_parameters()}
    ends = POSITIONS.get(name, ())
    for parameter, dimensions in shapes.items():
        end = parameter.rsplit(".", 1)[-1]
        assert (parameter in pulled) == (dimensions > 1 and end not in ends), parameter
    assert {parameter.rsplit(".", 1)[-1] for parameter in left} >= set(ends)
    assert not positions & set(pulled)


def test_a_parameter_of_no_layer_does_not_decay() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(5, 3))
            self.places = nn.Embedding(4, 3)
            self.attention = nn.MultiheadAttention(3, 1)
            self.lstm = nn.LSTM(3, 2)

    network = Own()
    own = {id(parameter): name for name, parameter in network.named_parameters()}
    assert {own[id(parameter)] for parameter in decayed(network)} == {
        "attention.in_proj_weight", "attention.out_proj.weight",
        "lstm.weight_ih_l0", "lstm.weight_hh_l0",
    }  # fmt: skip


# --- rates by layer ----------------------------------------------------------------------------


class Stack(nn.Module):
    """Positions, two blocks with something between, a last norm, a head: as transformers have."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, 3))
        self.first = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
        self.between = nn.Linear(3, 3, bias=False)
        self.second = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
        self.norm = nn.LayerNorm(3)
        self.head = nn.Linear(3, 2)

    def forward(self, clips: Tensor) -> Tensor:
        tokens = clips.mean(dim=(2, 3, 4)) + self.positions
        tokens = self.second(self.between(self.first(tokens)))
        logits: Tensor = self.head(self.norm(tokens))
        return logits


def stack() -> Architecture:
    network = Stack()
    return Architecture(network=network, blocks=[network.first, network.second], head=network.head)


def test_the_rate_falls_from_block_to_block() -> None:
    shares = rate_shares(stack(), Training(layer_decay=0.5, backbone_rate=0.8))
    expected = {"positions": 0.1, "first": 0.2, "between": 0.2, "second": 0.4}
    for name, share in shares.items():
        assert share == pytest.approx(expected.get(name.split(".")[0], 1.0)), name
    assert set(rate_shares(stack(), Training()).values()) == {1.0}


def test_groups_are_by_rate_and_decay() -> None:
    built, training = stack(), Training(layer_decay=0.5, weight_decay=0.3, learning_rate=2.0)
    shares = rate_shares(built, training)
    groups = parameter_groups(built.network, training, shares)
    assert [(group.share, group.weight_decay) for group in groups] == [
        (1.0, 0.3), (1.0, 0.0), (0.5, 0.3), (0.5, 0.0), (0.25, 0.3), (0.25, 0.0), (0.125, 0.0),
    ]  # fmt: skip
    assert sum(len(group.parameters) for group in groups) == len(list(built.network.parameters()))
    found = make_optimizer(built.network, training, shares).param_groups
    assert [group["lr"] for group in found] == [2 * group.share for group in groups]


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
def test_the_head_learns_fastest_and_the_beginning_slowest(name: str) -> None:
    built = build(name, num_classes=3, frames=8, size_px=SIDE_PX)
    shares = rate_shares(built, Training(layer_decay=0.5))
    by_id = {id(p): shares[n] for n, p in built.network.named_parameters()}
    assert {by_id[id(parameter)] for parameter in built.head.parameters()} == {1.0}
    count = len(built.blocks)
    for index, block in enumerate(built.blocks):
        own = {by_id[id(parameter)] for parameter in block.parameters()}
        assert own <= {0.5 ** (count - index)}, f"block {index}"
    assert min(shares.values()) in (0.5**count, 0.5 ** (count + 1))


def test_a_step_moves_each_layer_by_its_share() -> None:
    """With plain SGD the first step is the rate times the gradient."""
    moved = {}
    for decay in (1.0, 0.5):
        torch.manual_seed(0)
        built = stack()
        before = {name: value.clone() for name, value in built.network.state_dict().items()}
        training = Training(
            epochs=1, batch_size=CLIPS, optimizer="sgd", weight_decay=0.0, learning_rate=0.1,
            schedule="constant", layer_decay=decay,
        )  # fmt: skip
        clips = np.random.default_rng(0).integers(0, 256, (CLIPS, 2, 8, 8, 3), "u1")
        mean, std = KINETICS
        loader = TrainingLoader(
            read=lambda rows, clips=clips: clips[rows], labels=np.array([0, 1, 0, 1, 1]),
            num_classes=2, augmentation=Augmentation.none(), batch_size=CLIPS, seed=0, threads=1,
            preprocessing=Preprocessing(num_frames=2, size_px=8, mean=mean, std=std),
        )  # fmt: skip
        rows = loop.fit(
            built.network, loader, training=training, device=torch.device("cpu"),
            on_epoch=lambda rows, save: None, shares=rate_shares(built, training),
        )  # fmt: skip
        assert rows[0].learning_rate == 0.1  # The head's.
        after = built.network.state_dict()
        moved[decay] = {name: after[name] - value for name, value in before.items()}
    shares = rate_shares(stack(), Training(layer_decay=0.5))
    for name, step in moved[1.0].items():
        assert torch.allclose(moved[0.5][name], shares[name] * step, rtol=1e-3, atol=1e-7), name
        assert step.abs().max() > 1e-6, name


# --- accumulation ------------------------------------------------------------------------------


def gradient(name: str, *, accumulate: int, trained: str = "all") -> Tensor:
    """Of the loss of five clips, all parameters in one: what the first step of the loop follows."""
    frames = 8 if name in ("s3d", "slowfast_r50") else 4
    clips = np.random.default_rng(0).integers(0, 256, (CLIPS, frames, SIDE_PX, SIDE_PX, 3), "u1")
    mean, std = KINETICS
    preprocessing = Preprocessing(
        num_frames=frames, size_px=SIDE_PX, mean=mean, std=std, flow=name in FLOW_MODELS
    )
    settings = Training(
        epochs=1, batch_size=CLIPS, optimizer="sgd", accumulate=accumulate, class_weights=True
    )
    loader = TrainingLoader(
        read=lambda rows: clips[rows],
        labels=np.array([0, 1, 2, 1, 1]),
        num_classes=3,
        preprocessing=preprocessing,
        augmentation=Augmentation.none(),
        batch_size=CLIPS,
        seed=0,
        threads=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = build(name, num_classes=3, frames=frames, size_px=SIDE_PX)
        set_trained(built, trained)
        for module in built.network.modules():  # Drawn anew for each part: another matter.
            if isinstance(module, nn.Dropout | StochasticDepth):
                module.p = 0.0
        loop.fit(
            built.network,
            loader,
            training=settings,
            device=torch.device("cpu"),
            on_epoch=lambda rows, save: None,
        )
    parts = [p.grad.flatten() for p in built.network.parameters() if p.grad is not None]
    return torch.cat(parts).double()


def relative_difference(name: str, *, trained: str = "all") -> float:
    """Of the gradient in three parts of 1, 2 and 2 clips from that of the whole batch."""
    whole, parts = (gradient(name, accumulate=k, trained=trained) for k in (1, 3))
    assert whole.norm() > 0
    return float((parts - whole).norm() / whole.norm())


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHOUT_BATCH_NORM)
def test_parts_have_the_gradient_of_the_batch(name: str) -> None:
    assert relative_difference(name) < 1e-4


def test_frozen_batch_norm_is_the_same_in_parts() -> None:
    assert relative_difference("resnet18_attention", trained="head") < 1e-4


@pytest.mark.parametrize("name", [name for name in DEEP if name not in WITHOUT_BATCH_NORM])
def test_batch_norm_in_parts_is_refused(name: str) -> None:
    network = build(name, num_classes=3).network
    told = "accumulate is 2 and the network trains batch norm.*: give --accumulate 1"
    with pytest.raises(UserError, match=told):
        loop.check_accumulate(network, Training(accumulate=2))
    loop.check_accumulate(network, Training())


@pytest.mark.slow
def test_batch_norm_in_parts_would_give_another_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="trains batch norm"):
        gradient("r3d_18", accumulate=3)
    monkeypatch.setattr(loop, "check_accumulate", lambda network, training: None)
    assert relative_difference("r3d_18") > 0.1


@pytest.mark.slow
def test_a_training_job_is_refused_before_its_workers_start() -> None:
    mean, std = KINETICS
    job = DeepJob(
        data="nowhere",
        class_names=("a", "b"),
        network={"name": "resnet18_avg", "num_classes": 2},
        weights="none",
        trained="all",
        training=Training(accumulate=4),
        augmentation=Augmentation.none(),
        preprocessing=Preprocessing(num_frames=4, size_px=32, mean=mean, std=std),
    )
    with pytest.raises(UserError, match="accumulate is 4 and the network trains batch norm"):
        make_network(job, fresh=True)
    make_network(dataclasses.replace(job, trained="head"), fresh=True)
