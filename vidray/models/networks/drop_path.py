"""Drop path (stochastic depth, Huang et al. 2016): in training, a clip skips some of the blocks.

Networks that were published with it have modules of their own for it, torchvision's
``StochasticDepth``, on each residual branch. In other transformers a whole block is skipped: its
output is its input, and where it is not skipped, what it adds is scaled so that the mean stays.
In evaluation nothing is dropped.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from vidray.models.networks.architecture import Architecture


def published_rate(built: Architecture) -> float | None:
    """The greatest probability that the network has as it was built; None where it can have none.

    It can where it has modules for it, and where it is a transformer, whose blocks add to their
    input.
    """
    own = _own(built)
    if own:
        return max(float(module.p) for module in own)
    return 0.0 if built.is_transformer else None


def set_drop_path(built: Architecture, rate: float) -> None:
    """Let clips skip blocks from now on: the last with probability ``rate``, the first with 0.

    Call it once, on a new network; state dict and evaluation stay what they are. A block computed
    again for its gradients (``checkpoint_blocks``) is dropped as before.

    Raises:
        ValueError: the network can have none, and ``rate`` is above 0.
    """
    own = _own(built)
    if not own and not built.is_transformer:
        if rate:
            raise ValueError("this network has no residual blocks that a clip could skip")
        return
    if own and rate == published_rate(built):
        return  # Some rise from the first branch to the last, and others stop a step below.
    places = own or built.blocks
    for index, place in enumerate(places):
        probability = rate * index / max(1, len(places) - 1)
        if isinstance(place, StochasticDepth):
            place.p = probability
        elif probability:
            place.register_forward_hook(partial(_skip, probability))


def _own(built: Architecture) -> list[StochasticDepth]:
    return [module for module in built.network.modules() if isinstance(module, StochasticDepth)]


def _skip(probability: float, block: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> Any:
    """A hook: ``outputs`` with what the block added to ``inputs`` dropped for some of the rows.

    A block takes and gives tensors ``(rows, ...)``; those of one row are kept or dropped together.
    """
    if not block.training:
        return outputs
    several = isinstance(outputs, tuple)
    found = outputs if several else (outputs,)
    rows = found[0].shape[0]
    kept = torch.rand(rows, device=found[0].device) >= probability
    scale = kept / (1 - probability)  # (rows,)
    if found[0].shape != inputs[0].shape:
        shapes = f"{tuple(found[0].shape)} of {tuple(inputs[0].shape)}"
        raise ValueError(f"a block makes {shapes}: no clip can skip it")
    dropped = tuple(
        _scaled(before, after, scale) for before, after in zip(inputs, found, strict=False)
    )
    return (*dropped, *found[len(dropped) :]) if several else dropped[0]


def _scaled(before: Any, after: Any, scale: Tensor) -> Any:
    """What a block makes, scaled by row; attention weights and the like are no sum, and stay.

    So does what is no tensor: V-JEPA 2's blocks take and give None beside the tokens.
    """
    tensors = isinstance(before, Tensor) and isinstance(after, Tensor)
    if not tensors or before.shape != after.shape:
        return after
    factor = scale.view(-1, *(1,) * (after.ndim - 1)).to(after.dtype)
    return before + (after - before) * factor
