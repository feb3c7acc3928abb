"""Networks as chains of units, which run one after the other: residual and Inception blocks, stems.

What runs as a chain can be stopped between two units, as early exits do (``exits``). A network's
own forward pass is its parts and its end in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import video

from vidray.errors import UserError
from vidray.models import names
from vidray.models.inference import evaluating
from vidray.models.networks.c3d import C3D
from vidray.models.networks.frame_pooling import FramePooling, ShiftedConvolution
from vidray.models.networks.resnet_clips import ResNetClips
from vidray.models.networks.torchvision_video import S3D, pool_s3d
from vidray.models.networks.x3d import X3D

# The shapes of this clip say how many channels a unit gives; nothing is computed.
TRACED = (3, 16, 64, 64)


@dataclass(frozen=True)
class Chain:
    """How the networks of a class run one submodule after the other.

    Attributes:
        parts: names of submodules in order; an exact ``nn.Sequential`` of blocks is many units.
        end: the network, the last features and the number of clips -> logits ``(N, K)``.
        by_frame: whether the rows of features are frames, T for each clip.
    """

    parts: tuple[str, ...]
    end: Callable[[Any, Tensor, int], Tensor]
    by_frame: bool = False


def _end_of_video_resnet(network: Any, features: Tensor, _: int) -> Tensor:
    logits: Tensor = network.fc(network.avgpool(features).flatten(1))
    return logits


def _end_of_s3d(network: Any, features: Tensor, _: int) -> Tensor:
    logits: Tensor = network.head(pool_s3d(features))
    return logits


def _end_of_x3d(network: Any, features: Tensor, _: int) -> Tensor:
    pooled = network.before_pooling(features).mean(dim=(2, 3, 4))
    logits: Tensor = network.head(network.after_pooling(pooled))
    return logits


def _end_of_resnet_clips(network: Any, features: Tensor, _: int) -> Tensor:
    logits: Tensor = network.head(features.mean(dim=(2, 3, 4)))
    return logits


def _end_of_c3d(network: Any, features: Tensor, _: int) -> Tensor:
    pooled = network.resize(features).flatten(1)
    logits: Tensor = network.head(network.fc(pooled))
    return logits


def _end_of_frame_pooling(network: Any, features: Tensor, count: int) -> Tensor:
    by_frame = features.mean(dim=(2, 3)).unflatten(0, (count, -1))  # (N, T, D)
    logits: Tensor = network.head(network.pooling(by_frame))
    return logits


_LAYERS = ("layer1", "layer2", "layer3", "layer4")
_CHAINS: dict[type[nn.Module], Chain] = {
    video.VideoResNet: Chain(("stem", *_LAYERS), _end_of_video_resnet),
    S3D: Chain(("features",), _end_of_s3d),
    X3D: Chain(("stem", *_LAYERS), _end_of_x3d),
    ResNetClips: Chain(("stem", "layer1", "halve_frames", *_LAYERS[1:]), _end_of_resnet_clips),
    C3D: Chain(("features",), _end_of_c3d),
    FramePooling: Chain(("backbone",), _end_of_frame_pooling, by_frame=True),
}


def chain_of(network: nn.Module, name: str) -> Chain:
    """How a network runs.

    Args:
        network: without exits.
        name: of the model, for errors.

    Raises:
        UserError: it is no chain.
    """
    if type(network) not in _CHAINS:
        names.check_exits(name)
        raise UserError(f"{name} is no chain of stages: it can have no exits")
    return _CHAINS[type(network)]


def begin(network: nn.Module, chain: Chain, clips: Tensor) -> Tensor:
    """What the first unit is given: clips, or their frames ``float (N * T, 3, H, W)``."""
    if not chain.by_frame:
        return clips
    for module in network.modules():
        if isinstance(module, ShiftedConvolution):
            module.frames = clips.shape[2]
    return clips.transpose(1, 2).flatten(0, 1)


def unit_names(network: nn.Module, chain: Chain) -> list[str]:
    """The units of a network from input to output, by the names of its submodules."""
    found: list[str] = []
    for part in chain.parts:
        module = network.get_submodule(part)
        if part in ("features", "backbone"):
            inner = [f"{part}.{name}" for name, _ in module.named_children()]
        else:
            inner = [part]
        for name in inner:
            found += _blocks(network, name)
    return found


def _blocks(network: nn.Module, name: str) -> list[str]:
    """The blocks of a stage that is a row of blocks, else the stage."""
    module = network.get_submodule(name)
    children = list(module.named_children())
    if type(module) is nn.Sequential and all(list(child.children()) for _, child in children):
        return [f"{name}.{child}" for child, _ in children]
    return [name]


@dataclass(frozen=True)
class ChainUnit:
    """A unit as a clip runs through it.

    Attributes:
        number: among all units.
        channels: of what it gives.
        share: of the network's FLOPs, done when it has run.
    """

    number: int
    channels: int
    share: float


def units(network: nn.Module, name: str, clip_shape: Sequence[int] = TRACED) -> list[ChainUnit]:
    """The units that have weights, and so may have an exit after them; the last may not.

    Args:
        network: without exits.
        name: of the model, for errors.
        clip_shape: (C, T, H, W); shapes alone go through, and nothing is computed.

    Raises:
        UserError: the network is no chain.
    """
    traced = _Traced(network, chain_of(network, name))
    tensors = [*traced.named_parameters(), *traced.named_buffers()]
    state = {name: tensor.detach().to("meta") for name, tensor in tensors}
    clip = torch.empty((1, *clip_shape), device="meta")
    with evaluating(traced), torch.no_grad():
        seen = functional_call(traced, state, (clip,))
    has_weights = [any(True for _ in unit.parameters()) for unit in traced.units]
    every = seen[-1][1]
    return [
        ChainUnit(number, channels, flops / every)
        for number, (channels, flops) in enumerate(seen[:-2])
        if has_weights[number]
    ]


class _Traced(nn.Module):
    """A chain's forward pass: channels and FLOPs so far after each unit, and after the end."""

    def __init__(self, network: nn.Module, chain: Chain) -> None:
        super().__init__()
        self.network, self.chain = network, chain
        self.units = [network.get_submodule(name) for name in unit_names(network, chain)]

    def forward(self, clips: Tensor) -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []
        with FlopCounterMode(display=False) as counter:
            features = begin(self.network, self.chain, clips)
            for unit in self.units:
                features = unit(features)
                seen.append((features.shape[1], counter.get_total_flops()))
            self.chain.end(self.network, features, len(clips))
            seen.append((0, counter.get_total_flops()))
        return seen
