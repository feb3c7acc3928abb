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
from vidray.learning.optimizer import decayed, make_optimizer
from vidray.models.names import DEEP, FLOW_MODELS
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
