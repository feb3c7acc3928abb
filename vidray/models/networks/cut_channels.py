"""Networks with fewer channels than their architecture has: real smaller layers, not masks.

A pruned network is its architecture, of which layers have lost channels. model.json says how many
are left, ``network.channels``: by a layer's name ``[out, in]`` of a convolution or a linear layer,
``[channels]`` of a norm. The network is built whole, cut to these shapes and then filled, so that
no file can ask for more memory than the whole network takes. No library of pruning is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from vidray.errors import UserError
from vidray.models.inference import evaluating
from vidray.storage import checked_json

Channels = Mapping[str, Sequence[int]]
ChannelNumbers = Sequence[int] | Tensor
_NEXT_STEP = "get the model again from its author, or train it again"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What stays of a layer: indices of its outputs, and of its inputs, in order; None for all.

    A norm, and a depthwise convolution, has as many inputs as outputs: ``outputs`` says both.
    """

    outputs: ChannelNumbers | None = None
    inputs: ChannelNumbers | None = None


def cut(network: nn.Module, channels: Channels, *, shown: str = "the network") -> None:
    """Cut layers of ``network`` in place to so many channels, the first ones of each.

    Args:
        network: as its architecture makes it.
        channels: as model.json has them.
        shown: the architecture, for errors.

    Raises:
        UserError: there is no such layer, or it has not so many channels.
    """
    layers = dict(network.named_modules())
    for name, sizes in channels.items():
        layer = layers.get(name)
        whole = () if layer is None else shape_of(layer)
        if layer is None or not whole:
            raise UserError(
                f"network.channels names {checked_json.shown(name)}, and {shown} has no "
                f"convolution, linear layer or norm of that name: {_NEXT_STEP}"
            )
        _check_sizes(name, tuple(sizes), layer, whole, shown)
        keep(layer, Kept(outputs=range(sizes[0]), inputs=range(sizes[-1])))


def _check_sizes(
    name: str, sizes: tuple[int, ...], layer: nn.Module, whole: tuple[int, ...], shown: str
) -> None:
    fits = len(sizes) == len(whole) and all(
        1 <= size <= most for size, most in zip(sizes, whole, strict=True)
    )
    if not fits:
        rule = f"{' and '.join(map(str, whole))} at the most, and 1 or more"
        raise UserError(
            f"network.channels of {name} is {list(sizes)}, and {shown} has {rule}: {_NEXT_STEP}"
        )
    if is_depthwise(layer) and sizes[0] != sizes[1]:
        raise UserError(
            f"network.channels of {name} is {list(sizes)}: a depthwise convolution has as many "
            f"outputs as inputs; {_NEXT_STEP}"
        )


def shape_of(layer: nn.Module) -> tuple[int, ...]:
    """``(out, in)`` of a convolution or linear layer, ``(channels,)`` of a norm that has weights;
    ``()`` of anything that cannot be cut.
    """
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    if isinstance(layer, _ConvNd) and not isinstance(layer, _ConvTransposeNd):
        if layer.groups == 1 or is_depthwise(layer):
            return layer.out_channels, layer.in_channels
    elif isinstance(layer, _BatchNorm):
        return (layer.num_features,)
    elif isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) == 1:
        return tuple(layer.normalized_shape)
    return ()


def is_depthwise(layer: nn.Module) -> bool:
    """Whether each output of a convolution sees one input alone, its own."""
    return (
        isinstance(layer, _ConvNd)
        and layer.groups > 1
        and layer.groups == layer.in_channels == layer.out_channels
    )


def keep(layer: nn.Module, kept: Kept) -> None:
    """Keep some channels of a layer, in place; the others' numbers are gone."""
    if isinstance(layer, nn.Linear):
        _select(layer, "weight", (kept.outputs, kept.inputs))
        _select(layer, "bias", (kept.outputs,))
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, _ConvNd):
        depthwise = is_depthwise(layer)
        # The weight of a depthwise one is (out, 1, ...): its inputs are its outputs.
        _select(layer, "weight", (kept.outputs, None if depthwise else kept.inputs))
        _select(layer, "bias", (kept.outputs,))
        layer.out_channels, layer.in_channels = layer.weight.shape[:2]
        if depthwise:
            layer.groups = layer.in_channels = layer.out_channels
    elif isinstance(layer, _BatchNorm | nn.LayerNorm) and kept.outputs is not None:
        for tensor in ("weight", "bias", "running_mean", "running_var"):
            _select(layer, tensor, (kept.outputs,))
        if isinstance(layer, nn.LayerNorm):
            layer.normalized_shape = (len(kept.outputs),)
        else:
            layer.num_features = len(kept.outputs)


def _select(layer: nn.Module, name: str, indices: tuple[ChannelNumbers | None, ...]) -> None:
    """Keep ``indices`` of each dimension of one tensor of a layer, if it has it."""
    whole = getattr(layer, name, None)
    if whole is None:
        return
    taken = whole.detach()
    for dimension, wanted in enumerate(indices):
        if wanted is not None:
            places = torch.as_tensor(list(wanted), dtype=torch.long, device=taken.device)
            taken = taken.index_select(dimension, places)
    if isinstance(whole, nn.Parameter):
        taken = nn.Parameter(taken, requires_grad=whole.requires_grad)
    setattr(layer, name, taken)


def channels_of(network: nn.Module, whole: nn.Module) -> dict[str, list[int]]:
    """The layers of ``network`` that have fewer channels than those of ``whole``, with what they
    have: what makes ``cut(whole, ...)`` the same.
    """
    shapes = {name: shape_of(layer) for name, layer in whole.named_modules()}
    return {
        name: list(shape_of(layer))
        for name, layer in network.named_modules()
        if shape_of(layer) != shapes[name]
    }


def check_runs(network: nn.Module, clip_shape: Sequence[int], *, shown: str) -> None:
    """Raise UserError unless the layers of a cut network fit each other; nothing is computed.

    Args:
        network: its tensors may be without content.
        clip_shape: of a clip, (C, T, H, W).
        shown: the architecture, for the error.
    """
    try:
        run_empty(network, clip_shape)
    except (RuntimeError, ValueError, IndexError) as error:
        said = " ".join(str(error).split())[:120]
        raise UserError(
            f"network.channels of {shown} do not fit each other ({said}): {_NEXT_STEP}"
        ) from None


def run_empty(network: nn.Module, clip_shape: Sequence[int]) -> Tensor:
    """The logits of one clip without content, ``(1, num_classes)``; the network stays as it is."""
    named: list[tuple[str, Any]] = [*network.named_parameters(), *network.named_buffers()]
    state = {name: tensor.detach().to("meta") for name, tensor in named}
    with evaluating(network), torch.no_grad():
        clip = torch.empty((1, *clip_shape), device="meta")
        logits: Tensor = functional_call(network, state, (clip,))
    return logits
