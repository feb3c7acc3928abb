"""Drop path: who is dropped how often, and that evaluation and recomputation do not notice."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from vidray.models.networks.architecture import Architecture
from vidray.models.networks.build import build
from vidray.models.networks.checkpointing import checkpoint_blocks
from vidray.models.networks.drop_path import published_rate, set_drop_path
from vidray.models.networks.timesformer import TimeSformer


class Add(nn.Module):
    """A residual block that adds 1 to each of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(3)

    def forward(self, token: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        return token + 1, patches + 1


class Row(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Add() for _ in range(depth))
        self.head = nn.Identity()

    def forward(self, token: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        for block in self.blocks:
            token, patches = block(token, patches)
        return token, patches


def row(depth: int) -> Architecture:
    network = Row(depth)
    return Architecture(network=network, blocks=list(network.blocks), head=network.head)


@pytest.fixture(autouse=True)
def seeded() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_the_last_block_is_skipped_as_often_as_asked_and_the_mean_stays() -> None:
    built = row(3)
    set_drop_path(built, 0.4)
    token, patches = torch.zeros(4000, 1, 3), torch.zeros(4000, 2, 2, 3)
    after, beside = built.network.train()(token, patches)
    # What is left of 1 + 1 / 0.8 + 1 / 0.6: the first block is never skipped.
    values, counts = after[:, 0, 0].unique(return_counts=True)
    expected = torch.tensor([1, 1 + 1 / 0.8, 1 + 1 / 0.6, 1 + 1 / 0.8 + 1 / 0.6])
    assert torch.allclose(values, expected)
    shares = torch.tensor([0.2 * 0.4, 0.8 * 0.4, 0.2 * 0.6, 0.8 * 0.6])
    assert torch.allclose(counts / 4000, shares, atol=0.02)
    assert after.mean().item() == pytest.approx(3, abs=0.05)
    # Token and patches of a clip share a fate.
    assert torch.equal(beside, after[:, :, None].expand_as(beside))


def small() -> Architecture:
    network = TimeSformer(3, attention="divided", frames=2, size_px=32, width=24, depth=4, heads=2)
    return Architecture(network=network, blocks=list(network.blocks), head=network.head)


def test_evaluation_drops_nothing() -> None:
    built = small()
    clips = torch.rand(3, 3, 2, 32, 32)
    expected = built.network.eval()(clips)
    state = built.network.state_dict().keys()
    set_drop_path(built, 0.9)
    assert torch.equal(built.network(clips), expected)
    assert built.network.state_dict().keys() == state
    assert not torch.equal(built.network.train()(clips), expected)


def test_a_block_that_is_computed_again_is_dropped_as_before() -> None:
    built = small()
    set_drop_path(built, 0.5)
    again = copy.deepcopy(built.network)
    checkpoint_blocks(again, list(again.blocks))
    clips = torch.rand(6, 3, 2, 32, 32)
    gradients = []
    for network in (built.network, again):
        torch.manual_seed(7)
        network.train()(clips).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)


@pytest.mark.parametrize(("name", "published"), [("swin3d_t", 0.1), ("mvit_v2_s", 0.2)])
def test_modules_of_their_own_are_set(name: str, published: float) -> None:
    with torch.device("meta"):
        built = build(name, num_classes=2)
    own = [m for m in built.network.modules() if isinstance(m, StochasticDepth)]
    before = [module.p for module in own]
    assert published_rate(built) == pytest.approx(published)
    set_drop_path(built, published_rate(built) or 0)
    assert [module.p for module in own] == before
    set_drop_path(built, 0.3)
    assert [m.p for m in own] == pytest.approx([p * 0.3 / published for p in before])
    assert not any(block._forward_hooks for block in built.blocks)


def test_networks_of_stages_have_nothing_to_skip() -> None:
    built = build("resnet18_avg", num_classes=2)
    assert published_rate(built) is None
    set_drop_path(built, 0.0)
    with pytest.raises(ValueError, match="no residual blocks"):
        set_drop_path(built, 0.1)


def test_a_block_that_changes_the_width_cannot_be_skipped() -> None:
    network = nn.Sequential(nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 3)), nn.Linear(3, 4))
    built = Architecture(network=network, blocks=list(network), head=network[1])
    set_drop_path(built, 0.5)
    with pytest.raises(ValueError, match=r"makes \(2, 4\) of \(2, 3\)"):
        network.train()(torch.rand(2, 3))
