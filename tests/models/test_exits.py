"""Networks with exits: as without where no clip leaves, and in smaller batches where some do."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vidray.errors import UserError
from vidray.evaluation.cost import flops_per_clip
from vidray.models import names
from vidray.models.inference import evaluating
from vidray.models.networks.build import build
from vidray.models.networks.chains import units
from vidray.models.networks.exits import ExitNetwork, Leaving, flops_by_stage, placed, with_exits

SHAPE = (3, 8, 32, 32)
QUICK = ("resnet18_avg",)
SLOW = ("s3d", "x3d_s", "r3d_18", "mc3_18", "r2plus1d_18", "slow_r50", "i3d_r50", "r2plus1d_r50",
        "c3d", "resnet18_lstm", "efficientnet_lite0_attention")  # fmt: skip
EACH = (*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW))


@functools.cache
def made(name: str) -> tuple[nn.Module, ExitNetwork]:
    """A fresh network with and without two exits; the same weights."""
    torch.manual_seed(0)
    built = build(name, num_classes=4, frames=SHAPE[1], size_px=SHAPE[2])
    without = built.network.eval()
    network = with_exits(built, name, placed(built, name, 2, SHAPE), 4).network.eval()
    assert isinstance(network, ExitNetwork)
    return without, network


def some_clips(count: int) -> Tensor:
    return torch.randn((count, *SHAPE), generator=torch.Generator().manual_seed(1))


def by_rows(*wanted: list[bool]) -> Any:
    """A rule by which clips leave: which of those still there, at each exit."""
    return lambda stage, logits: torch.tensor(wanted[stage])


@pytest.mark.parametrize("name", EACH)
@torch.no_grad()
def test_where_none_leaves_it_is_the_network_without_exits(name: str) -> None:
    without, network = made(name)
    clips = some_clips(3)
    expected = without(clips)
    assert torch.equal(network(clips), expected)
    heads = network.each(clips)
    assert [tuple(one.shape) for one in heads] == [(3, 4)] * 3
    torch.testing.assert_close(heads[-1], expected, rtol=1e-5, atol=1e-6)
    none = by_rows([False] * 3, [False] * 3)
    logits, stages = network.answer(clips, none)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
    assert stages.tolist() == [2, 2, 2]
    own = {key for key in network.state_dict() if not key.startswith("exits.")}
    assert own == set(without.state_dict())


@pytest.mark.parametrize("name", EACH)
@torch.no_grad()
def test_each_clip_gets_the_answer_of_the_exit_where_it_leaves(name: str) -> None:
    _, network = made(name)
    clips = some_clips(5)
    heads = torch.stack(network.each(clips))
    # Of 5 the second and the fourth leave, then of the others the last.
    rule = by_rows([False, True, False, True, False], [False, False, True])
    for rows_at_once in (None, 2):
        logits, stages = network.answer(clips, rule, rows_at_once=rows_at_once)
        assert stages.tolist() == [2, 0, 2, 0, 1]
        expected = heads[stages, torch.arange(5)]
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_batches_shrink_and_the_rest_of_the_network_rests_when_all_have_left() -> None:
    _, network = made("resnet18_avg")
    seen: list[int] = []
    first, second, last = (network.get_submodule(names[0]) for names in network.stages)
    for unit in (first, second, last):
        unit.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    frames = SHAPE[1]
    network.answer(some_clips(4), by_rows([True, False, False, True], [False, True]))
    assert seen == [4 * frames, 2 * frames, frames]
    seen.clear()
    network.answer(some_clips(4), by_rows([True, False, True, True], [True]))
    assert seen == [4 * frames, frames]
    seen.clear()
    network.answer(some_clips(4), by_rows([True] * 4))
    assert seen == [4 * frames]


@pytest.mark.parametrize("name", EACH)
@torch.no_grad()
def test_what_is_said_of_a_clip_does_not_depend_on_who_goes_on_beside_it(name: str) -> None:
    _, network = made(name)
    clips = some_clips(5)
    alone = by_rows([True, True, False, True, True], [False])
    beside = by_rows([False] * 5, [False] * 5)
    one, _ = network.answer(clips, alone, rows_at_once=2)
    other, _ = network.answer(clips, beside, rows_at_once=2)
    assert torch.equal(one[2], other[2])


@pytest.mark.parametrize("name", EACH)
def test_every_weight_learns(name: str) -> None:
    _, network = made(name)
    network = copy.deepcopy(network).train()
    outputs = network(some_clips(2))
    assert outputs.shape == (2, 3, 4)
    outputs.square().mean().backward()
    still = [key for key, weight in network.named_parameters() if weight.grad is None]
    assert still == []


@torch.no_grad()
def test_leaving_divides_by_the_temperature_of_the_exit_alone() -> None:
    _, network = made("resnet18_avg")
    clips = some_clips(4)
    heads = network.each(clips)
    first = (heads[0] / 0.5).softmax(dim=1).amax(dim=1)
    leaves_at = float(first.sort().values[1:3].mean())  # Two of four leave at the first.
    found = Leaving(network, (0.5, 1e2), leaves_at)(clips)
    early = first >= leaves_at
    expected = torch.where(early[:, None], heads[0] / 0.5, heads[2])
    torch.testing.assert_close(found[:, :4], expected, rtol=1e-4, atol=1e-5)
    # At temperature 100 nobody is sure, so the others go to the end.
    assert found[:, 4].tolist() == torch.where(early, 1, 3).tolist()
    assert sorted(found[:, 4].tolist()) == [1, 1, 3, 3]


def test_a_copy_has_its_own_weights() -> None:
    _, network = made("resnet18_avg")
    other = copy.deepcopy(network)
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
        assert not other.answer(some_clips(1), by_rows([False], [False]))[0].any()
        assert network(some_clips(1)).any()


@pytest.mark.parametrize("name", ["resnet18_avg", "s3d", "x3d_s"])
def test_the_work_of_each_stage(name: str) -> None:
    without, network = made(name)
    flops = flops_by_stage(network, SHAPE)
    assert flops == sorted(flops)
    whole = flops_per_clip(without, SHAPE)
    assert flops_per_clip(network, SHAPE) == whole  # In evaluation no exit is asked.
    each = [_flops_of_head(head, network, k) for k, head in enumerate(network.exits)]
    assert flops[-1] == whole + sum(each)
    # The exits are where a third and two thirds of the work are done, as far as units allow.
    shares = [(flops[0] - each[0]) / whole, (flops[1] - sum(each)) / whole]
    assert shares == pytest.approx([1 / 3, 2 / 3], abs=0.1)


def _flops_of_head(head: nn.Module, network: ExitNetwork, stage: int) -> int:
    channels = head.narrow.in_channels  # type: ignore[union-attr]
    return flops_per_clip(head, (channels, 2, 2, 2))


@pytest.mark.slow
def test_who_can_have_exits() -> None:
    for name in names.DEEP:
        with torch.device("meta"):
            built = build(name, num_classes=2, frames=16, size_px=32)
        if name in names.WITH_EXITS:
            assert placed(built, name, 1, (3, 16, 64, 64))
        else:
            with pytest.raises(UserError, match=f"^{name} can have no early exits"):
                placed(built, name, 1, (3, 16, 64, 64))


def test_as_many_exits_as_there_are_places() -> None:
    with torch.device("meta"):
        built = build("c3d", num_classes=2)
    there = [unit.number for unit in units(built.network, "c3d")]
    assert placed(built, "c3d", len(there), SHAPE) == there == [0, 1, 2, 3]
    with pytest.raises(UserError, match="exits is 5: c3d has places for 1 to 4"):
        placed(built, "c3d", 5, SHAPE)


@pytest.mark.parametrize("exits", [[], [4], [-1], [0, 99]])
def test_places_that_there_are_not(exits: list[int]) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=r"exits is .* may have them after"):
        build("c3d", num_classes=2, exits=exits)


def test_modes_are_left_as_they_were() -> None:
    _, network = made("resnet18_avg")
    network.train()
    with evaluating(network):
        assert network(some_clips(1)).shape == (1, 4)
    assert all(module.training for module in network.modules())
    network.eval()


def test_a_clip_of_one_frame() -> None:
    _, network = made("resnet18_avg")
    with torch.no_grad():
        logits, stages = network.answer(some_clips(1)[:, :, :1], by_rows([True]))
    assert np.isfinite(logits.numpy()).all()
    assert stages.tolist() == [0]
