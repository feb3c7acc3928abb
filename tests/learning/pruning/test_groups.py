"""Channels that go together, in every convolutional network: what is left is the whole network with
those channels at zero.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests import prunable
from tests.command_lines import ROOT
from tests.prunable import CONVOLUTIONAL, TRANSFORMERS, clip_shape
from vidray.errors import UserError
from vidray.learning.pruning import groups as groups_module
from vidray.learning.pruning.choice import remove
from vidray.learning.pruning.groups import ChannelGroup, check_installed, find_groups, why_not
from vidray.models import names
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.build import build
from vidray.models.networks.cut_channels import channels_of

QUICK = ("r3d_18", "s3d", "x3d_s", "resnet18_avg", "efficientnet_b0_lstm")
Masks = Sequence[NDArray[np.bool_]]


def made(name: str) -> Architecture:
    """A network whose norms do something."""
    torch.manual_seed(0)
    _, frames, size_px, _ = clip_shape(name)
    built = build(name, num_classes=4, frames=frames, size_px=size_px)
    for module in built.network.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    built.network.eval()
    return built


def silence(network: nn.Module, groups: Sequence[ChannelGroup], kept: Masks) -> None:
    """Make channels zero wherever they are made or normalised; all layers keep their sizes."""
    for group, mask in zip(groups, kept, strict=True):
        for member in group.members:
            if member.side == "outputs":
                layer = network.get_submodule(member.layer)
                places = member.places[~mask].ravel()
                with torch.no_grad():
                    for tensor in ("weight", "bias", "running_mean"):
                        if getattr(layer, tensor, None) is not None:
                            getattr(layer, tensor)[places] = 0


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in CONVOLUTIONAL
    ],
)
def test_what_is_left_is_the_whole_with_channels_at_zero(name: str) -> None:
    built = made(name)
    clips = torch.randn(1, *clip_shape(name))
    found = find_groups(built, clip_shape(name))
    rng = np.random.default_rng(0)
    kept = [rng.permutation(group.size) < max(1, group.size // 2) for group in found]
    whole, silenced = copy.deepcopy(built.network), copy.deepcopy(built.network)
    silence(silenced, found, kept)
    remove(built.network, found, kept)
    with torch.no_grad():
        expected, logits = silenced(clips), built.network(clips)
        assert not torch.allclose(logits, whole(clips), rtol=1e-2)
    assert torch.allclose(logits, expected, rtol=1e-3, atol=1e-5 + 1e-4 * float(expected.std()))
    parameters = sum(p.numel() for p in built.network.parameters())
    whole_parameters = sum(p.numel() for p in whole.parameters())
    assert parameters < (0.9 if name.endswith("_lstm") else 0.6) * whole_parameters
    # model.json is enough to make it again.
    _, frames, size_px, _ = clip_shape(name)
    channels = channels_of(built.network, whole)
    again = build(name, num_classes=4, frames=frames, size_px=size_px, channels=channels).network
    again.load_state_dict(built.network.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(clips), logits)


def test_the_network_is_as_it_was() -> None:
    built = build("resnet18_avg", num_classes=3)
    built.network.train()
    built.head.requires_grad_(False)
    before = copy.deepcopy(built.network.state_dict())
    found = find_groups(built, (3, 2, 32, 32))
    assert all(module.training for module in built.network.modules())
    assert not any(parameter.requires_grad for parameter in built.head.parameters())
    assert all(torch.equal(before[k], v) for k, v in built.network.state_dict().items())
    assert {member.layer for group in found for member in group.members} <= {
        name for name, _ in built.network.named_modules()
    }


def test_logits_stay_whole() -> None:
    built = build("s3d", num_classes=4, head="layernorm_dropout_linear")
    last = {
        (member.layer, member.side)
        for group in find_groups(built, (3, 8, 32, 32))
        for member in group.members
        if member.layer.startswith("head")
    }
    assert {side for layer, side in last if layer.endswith("2")} == {"inputs"}


@pytest.mark.parametrize("name", ["swin3d_t", "timesformer_space"])
def test_a_transformer_is_not_pruned(name: str) -> None:
    with torch.device("meta"):
        built = build(name, num_classes=3)
    reason = why_not(built, name, None)
    assert reason is not None
    assert "transformer" in reason


def test_networks_are_either_pruned_or_transformers() -> None:
    assert {*CONVOLUTIONAL} | {n for n in names.DEEP if n.startswith(TRANSFORMERS)} == {*names.DEEP}
    for name in CONVOLUTIONAL:
        if name in QUICK:
            with torch.device("meta"):
                built = build(name, num_classes=3)
            assert why_not(built, name, None) is None
            assert why_not(built, name, "shifted") is not None


def test_the_package_is_asked_for_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setattr(groups_module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'vidray\[prune\]'"):
        check_installed()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_table_of_the_docs_is_as_the_networks_are() -> None:
    told = "python -m tests.prunable, and put it into docs/training.md"
    assert prunable.page() in (ROOT / "docs" / "training.md").read_text(), f"make it anew: {told}"
