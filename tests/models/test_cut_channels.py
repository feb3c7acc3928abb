"""Networks cut to fewer channels: what stays, what a hostile model.json asks for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from vidray.errors import UserError
from vidray.models.networks.build import build
from vidray.models.networks.cut_channels import (
    Kept,
    channels_of,
    check_runs,
    cut,
    is_depthwise,
    keep,
    run_empty,
    shape_of,
)


def small() -> nn.Sequential:
    """Convolution, norm, depthwise convolution, mean, norm, linear layer: 6 channels."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(3, 6, 1),
        nn.BatchNorm3d(6),
        nn.Conv3d(6, 6, 3, padding=1, groups=6),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.LayerNorm(6),
        nn.Linear(6, 2),
    )
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network.eval()


FEWER = {"0": [4, 3], "1": [4], "2": [4, 4], "5": [4], "6": [2, 4]}


def test_what_stays_are_the_numbers_of_the_channels_kept() -> None:
    whole, network = small(), small()
    clip = torch.randn(2, 3, 2, 4, 4)
    kept = [0, 2, 3, 5]
    for layer in network[:6]:
        keep(layer, Kept(outputs=kept))
    keep(network[6], Kept(inputs=kept))
    assert network(clip).shape == (2, 2)
    # By hand, on the whole network's features.
    features = whole[:5](clip)[:, kept]
    normed = nn.functional.layer_norm(
        features, (4,), whole[5].weight[kept], whole[5].bias[kept], whole[5].eps
    )
    expected = normed @ whole[6].weight[:, kept].T + whole[6].bias
    assert torch.allclose(network(clip), expected, atol=1e-5)
    assert network[2].groups == network[2].in_channels == network[2].out_channels == 4
    assert network[1].num_features == len(network[1].running_var) == 4


def test_a_layer_without_numbers_of_its_own_keeps_its_channels() -> None:
    norm = nn.BatchNorm3d(6, affine=False)
    keep(norm, Kept(outputs=[1, 4]))
    assert norm.num_features == len(norm.running_mean if norm.running_mean is not None else ()) == 2


def test_cut_and_channels_of_are_each_other_s_inverse() -> None:
    network = small()
    cut(network, FEWER)
    assert channels_of(network, small()) == FEWER
    assert channels_of(small(), small()) == {}
    assert run_empty(network, (3, 2, 4, 4)).shape == (1, 2)


def test_frozen_layers_stay_frozen_and_modes_as_they_were() -> None:
    network = small().train()
    network[0].requires_grad_(False)
    cut(network, FEWER)
    assert not network[0].weight.requires_grad
    assert network[6].weight.requires_grad
    run_empty(network, (3, 2, 4, 4))
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize(
    ("channels", "told"),
    [
        ({"0": [7, 3]}, "network.channels of 0 is [7, 3], and the network has 6 and 3 at the most"),
        ({"0": [4, 4]}, "6 and 3 at the most"),
        ({"0": [0, 3]}, "1 or more"),
        ({"0": [-1, 3]}, "1 or more"),
        ({"0": [1 << 40, 3]}, "6 and 3 at the most"),
        ({"0": [4]}, "6 and 3 at the most"),
        ({"1": [4, 4]}, "6 at the most"),
        ({"2": [4, 5]}, "a depthwise convolution has as many outputs as inputs"),
        ({"3": [4]}, 'names "3", and the network has no convolution'),
        ({"": [4]}, "has no convolution, linear layer or norm of that name"),
        ({"no\nsuch": [4]}, 'names "no\\nsuch"'),
    ],
)
def test_more_than_there_is_cannot_be_asked_for(channels: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as error:
        cut(small(), channels)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_layers_that_do_not_fit_each_other_are_told_before_a_clip() -> None:
    network = small()
    cut(network, {"0": [4, 3]})
    with pytest.raises(UserError, match=r"network.channels of r3d_18 do not fit each other"):
        check_runs(network, (3, 2, 4, 4), shown="r3d_18")


def test_what_cannot_be_cut_has_no_shape() -> None:
    assert shape_of(nn.LSTM(4, 4)) == ()
    assert shape_of(nn.Conv3d(4, 8, 1, groups=2)) == ()
    assert shape_of(nn.ConvTranspose3d(4, 8, 1)) == ()
    assert not is_depthwise(nn.Conv3d(1, 1, 1))


def test_build_makes_the_cut_network_and_checks_that_it_runs() -> None:
    channels = {"layer4.1.conv1.0": [8, 512], "layer4.1.conv1.1": [8], "layer4.1.conv2.0": [512, 8]}
    with torch.device("meta"):
        built = build("r3d_18", num_classes=2, frames=4, size_px=16, channels=channels)
        assert built.channels == channels
        assert built.network.get_parameter("layer4.1.conv1.0.weight").shape[:2] == (8, 512)
        broken = copy.copy(channels) | {"layer4.1.conv2.0": [512, 9]}
        with pytest.raises(UserError, match="do not fit each other"):
            build("r3d_18", num_classes=2, frames=4, size_px=16, channels=broken)


def test_channels_that_do_not_fit_are_told_of_a_network_with_exits() -> None:
    with pytest.raises(UserError, match=r"network.channels of resnet18_avg do not fit each other"):
        build("resnet18_avg", num_classes=2, channels={"head": [2, 10]}, exits=(2,))
