"""Which channels of a network go together: removing one of a layer removes it wherever it is seen.

A channel that a convolution makes is normalised, added to others by a shortcut, joined with others,
and taken by the next convolutions. The dependency graph of torch-pruning (DepGraph, Fang et al.
2023) follows it through one pass of the network. Only here torch-pruning is needed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vidray.errors import UserError
from vidray.models.inference import evaluating
from vidray.models.networks import cut_channels
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.two_stream import FusedHeads

LayerSide = Literal["outputs", "inputs"]


@dataclass(frozen=True, kw_only=True)
class Member:
    """A layer's part in a group of channels.

    Attributes:
        layer: its name in the network.
        side: whether they are its outputs or its inputs.
        places: ``int64 (channels of the group, m)``: the indices on that side which each channel
            is; m is above 1 behind a flattening, where a channel is several features.
    """

    layer: str
    side: LayerSide
    places: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ChannelGroup:
    """Channels of which any can be removed, each from all ``members`` at once."""

    members: tuple[Member, ...]

    @property
    def size(self) -> int:
        """The number of its channels."""
        return len(self.members[0].places)


def why_not(built: Architecture, name: str, variant: str | None) -> str | None:
    """Why this network cannot be pruned, in words; None where it can."""
    if built.is_transformer:
        return (
            f"{name} is a transformer, whose widths its heads and its residual stream tie together"
        )
    if variant == "shifted":
        return f"{name} shifts an eighth of its channels in time, and others would take their place"
    return None


def check_installed() -> None:
    """Raise UserError unless torch-pruning is there."""
    if find_spec("torch_pruning") is None:
        raise UserError("--prune needs the package torch-pruning: pip install 'vidray[prune]'")


def find_groups(built: Architecture, clip_shape: Sequence[int]) -> list[ChannelGroup]:
    """The groups of a network, without the logits and whatever else has to stay whole.

    Args:
        built: in its place and mode afterwards as before.
        clip_shape: of a clip that it takes, (C, T, H, W).
    """
    import torch_pruning

    network = built.network
    device = next(network.parameters()).device
    graph = torch_pruning.DependencyGraph()
    was = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        for parameter, _ in was:  # It follows the gradient's way.
            parameter.requires_grad_(True)
        with evaluating(network), warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            clip = torch.zeros((1, *clip_shape), device=device)
            graph.build_dependency(network, example_inputs=clip, verbose=False)
            found = list(
                graph.get_all_groups(root_module_types=[nn.modules.conv._ConvNd, nn.Linear])
            )
    finally:
        for parameter, required in was:
            parameter.requires_grad_(required)
    names = {module: name for name, module in network.named_modules()}
    groups = (_group(graph, one, names) for one in found)
    fixed = _fixed_sides(built, names)
    return [
        g
        for g in groups
        if g is not None and not any((m.layer, m.side) in fixed for m in g.members)
    ]


def _fixed_sides(built: Architecture, names: dict[nn.Module, str]) -> set[tuple[str, LayerSide]]:
    """Sides of layers that stay whole: the logits, and both streams' features, which the head
    tells apart by halves.
    """
    fixed: set[tuple[str, LayerSide]] = set()
    linear = [module for module in built.head.modules() if isinstance(module, nn.Linear)]
    if isinstance(built.head, FusedHeads):
        fixed |= {(names[module], "inputs") for module in built.head.modules()}
        fixed |= {(names[module], "outputs") for module in linear}
    elif linear:
        fixed.add((names[linear[-1]], "outputs"))
    return fixed


def _group(graph: Any, found: Any, names: dict[nn.Module, str]) -> ChannelGroup | None:
    """A group of torch-pruning's as ours; None where part of it cannot be cut."""
    members: dict[tuple[str, LayerSide], Member] = {}
    count = len(found[0].idxs)
    for item in found:
        module = item.dep.target.module
        if isinstance(module, nn.Parameter):
            return None  # Of no layer: which of its dimensions it is, is a guess.
        if module not in names:
            continue  # An operation without weights.
        is_output = graph.is_out_channel_pruning_fn(item.dep.handler)
        if not cut_channels.shape_of(module):
            if any(True for _ in module.parameters(recurse=False)):
                return None
            continue
        one_sided = len(cut_channels.shape_of(module)) == 1 or cut_channels.is_depthwise(module)
        side: LayerSide = "outputs" if is_output or one_sided else "inputs"
        places = _places(item.idxs, item.root_idxs, count)
        sizes = cut_channels.shape_of(module)
        # The graph follows an einsum channel by channel, also where it sums them up.
        if places is None or places.max() >= sizes[0 if side == "outputs" else -1]:
            return None
        members[names[module], side] = Member(layer=names[module], side=side, places=places)
    if not any(side == "inputs" for _, side in members):
        return None  # Nothing that could be weighed takes them.
    return ChannelGroup(members=tuple(members.values()))


def _places(places: Sequence[int], channels: Sequence[int], count: int) -> NDArray[np.int64] | None:
    """Indices by channel, ``int64 (count, m)``; None unless each channel has as many."""
    of_channel = np.asarray(channels, np.int64)
    each = np.bincount(of_channel, minlength=count)
    if len(each) != count or not each[0] or (each != each[0]).any():
        return None
    order = np.argsort(of_channel, kind="stable")
    return np.asarray(places, np.int64)[order].reshape(count, int(each[0]))
