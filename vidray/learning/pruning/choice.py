"""How many channels go, and which: the least of each group, until enough operations are saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vidray.errors import UserError
from vidray.learning.pruning.groups import ChannelGroup
from vidray.models.networks import cut_channels
from vidray.models.networks.cut_channels import Kept

# Of a group at least this share stays, so that no layer becomes a bottleneck of few numbers.
_LEAST = 0.125
# CPUs and GPUs compute by vectors of 8, 16 or more channels.
_STEP = 8

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class LayerCosts:
    """Operations of a network by layer.

    Attributes:
        operations: of one clip, by the layer's name.
        shapes: ``cut_channels.shape_of`` of each.
        depthwise: names of the depthwise convolutions.
        rest: operations of one clip that are of no such layer, as of a recurrent one.
    """

    operations: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    depthwise: frozenset[str]
    rest: int

    @property
    def total(self) -> int:
        """Operations of one clip: additions and multiplications, counted apart."""
        return self.rest + sum(self.operations.values())

    def after(self, groups: Sequence[ChannelGroup], kept: Sequence[int]) -> float:
        """Operations of one clip when of each group so many channels are left."""
        gone: dict[tuple[str, str], int] = {}
        for group, count in zip(groups, kept, strict=True):
            for member in group.members:
                key = (member.layer, member.side)
                each = member.places.shape[1]
                gone[key] = gone.get(key, 0) + each * (group.size - count)
        total = float(self.rest)
        for name, operations in self.operations.items():
            out, into = self.shapes[name]
            share = 1 - gone.get((name, "outputs"), 0) / out
            if name not in self.depthwise:
                share *= 1 - gone.get((name, "inputs"), 0) / into
            total += operations * share
        return total


def count_operations(network: nn.Module, clip_shape: Sequence[int]) -> LayerCosts:
    """Operations of a network for a clip (C, T, H, W), as ``cost.flops_per_clip`` counts them; none
    is done.
    """
    layers = {
        name: layer
        for name, layer in network.named_modules()
        if len(cut_channels.shape_of(layer)) == 2
    }
    counted = dict.fromkeys(layers, 0)

    def counting(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        products = layers[name].get_parameter("weight")[0].numel()  # of each output

        def count(_layer: nn.Module, _inputs: Any, outputs: Tensor) -> None:
            counted[name] += 2 * outputs.numel() * products  # Each with its sum.

        return count

    handles = [layer.register_forward_hook(counting(name)) for name, layer in layers.items()]
    try:
        with FlopCounterMode(display=False) as counter:
            cut_channels.run_empty(network, clip_shape)
    finally:
        for handle in handles:
            handle.remove()
    return LayerCosts(
        operations=counted,
        rest=int(counter.get_total_flops()) - sum(counted.values()),
        shapes={name: cut_channels.shape_of(layer) for name, layer in layers.items()},
        depthwise=frozenset(n for n, layer in layers.items() if cut_channels.is_depthwise(layer)),
    )


def choose(
    groups: Sequence[ChannelGroup],
    scores: Sequence[NDArray[np.float64]],
    costs: LayerCosts,
    share: float,
) -> list[Mask]:
    """The channels that stay, ``bool (size,)`` of each group.

    Args:
        groups: as ``groups.find_groups`` gives them.
        scores: the importance of each channel.
        costs: of the network.
        share: of the operations that goes, at least.

    Raises:
        UserError: even the fewest channels take more.
    """
    ranked = [_ranks(one) for one in scores]
    sizes = np.array([group.size for group in groups])
    owner = np.concatenate([np.full(group.size, k) for k, group in enumerate(groups)])
    order = np.argsort(np.concatenate(ranked), kind="stable")
    budget = (1 - share) * costs.total

    def kept_of(removed: int) -> NDArray[np.int64]:
        gone = np.bincount(owner[order[:removed]], minlength=len(groups))
        return _stepped(sizes - gone, sizes)

    low, high = 0, len(order)  # The fewest that go and save enough are in (low, high].
    if costs.after(groups, kept_of(high).tolist()) > budget:
        most = 1 - costs.after(groups, kept_of(high).tolist()) / costs.total
        raise UserError(f"prune is {share}: of this network {most:.2f} can go at the most")
    while high - low > 1:
        middle = (low + high) // 2
        if costs.after(groups, kept_of(middle).tolist()) > budget:
            low = middle
        else:
            high = middle
    return [
        _best(score, count) for score, count in zip(ranked, kept_of(high).tolist(), strict=True)
    ]


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the channels of a group that are worth less, ``float64 (size,)``.

    So every group loses the same share. Importance does not compare across groups: where the least
    important of all went, s3d lost 95 % of its parameters with half of its operations, and knew
    0.34 after tuning; by ranks 0.45, tuned alike (docs/benchmarks.md).
    """
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(len(scores)) / len(scores)
    return ranks


def least_left(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fewest channels that stay of groups of these sizes."""
    return _stepped(np.zeros_like(sizes), sizes)


def _stepped(left: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of channels, rounded up to whole vectors, and not below the least of each group."""
    wanted = np.maximum(left, np.ceil(sizes * _LEAST))
    steps = np.where(sizes >= 2 * _STEP, _STEP, 1)
    whole: NDArray[np.int64] = np.minimum(np.ceil(wanted / steps) * steps, sizes).astype(np.int64)
    return whole


def _best(scores: NDArray[np.float64], count: int) -> Mask:
    mask = np.zeros(len(scores), np.bool_)
    mask[np.argsort(-scores, kind="stable")[:count]] = True
    return mask


def remove(network: nn.Module, groups: Sequence[ChannelGroup], kept: Sequence[Mask]) -> None:
    """Remove all channels but those that are kept, in place."""
    layers = dict(network.named_modules())
    gone: dict[str, dict[str, list[NDArray[np.int64]]]] = {}
    for group, mask in zip(groups, kept, strict=True):
        for member in group.members:
            places = member.places[~mask].ravel()
            gone.setdefault(member.layer, {}).setdefault(member.side, []).append(places)
    for name, sides in gone.items():
        shape = cut_channels.shape_of(layers[name])
        left = {
            side: torch.from_numpy(np.setdiff1d(np.arange(size), np.concatenate(sides[side])))
            for side, size in (("outputs", shape[0]), ("inputs", shape[-1]))
            if side in sides
        }
        cut_channels.keep(layers[name], Kept(**left))
