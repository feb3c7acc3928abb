"""The optimizer: which weights decay, and the learning rate of each step and each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from vidray.errors import UserError
from vidray.learning.defaults import numbers
from vidray.models.networks.architecture import Architecture

if TYPE_CHECKING:
    from vidray.learning.hyperparameters import Training


_SGD_MOMENTUM = 0.9
# Layers of which matrices and kernels decay.
_LAYERS = (nn.Linear, _ConvNd, nn.RNNBase, nn.MultiheadAttention)
# He et al. 2016, on CIFAR: a tenth after half of the steps, a hundredth after three quarters.
_STEPS_DOWN = (0.5, 0.75)
# A short training must not end in its warm-up.
_MOST_WARMUP = 0.5


def learning_rate_at(step: int, *, steps_per_epoch: int, training: Training) -> float:
    """The learning rate of one step, 0 for the first of the training: the head's."""
    own = numbers(training)
    rate = own.learning_rate
    total = training.epochs * steps_per_epoch
    wanted = max(round(training.warmup_epochs * steps_per_epoch), own.warmup_steps)
    warmup = min(wanted, int(_MOST_WARMUP * total))
    if step < warmup:
        return rate * (step + 1) / warmup
    if training.schedule == "cosine":
        done = (step - warmup) / (total - warmup)
        return rate * 0.5 * (1 + math.cos(math.pi * done))
    if training.schedule == "step":
        return rate * math.prod(0.1 for share in _STEPS_DOWN if step >= share * total)
    return rate


class Group(NamedTuple):
    """Parameters that are trained alike."""

    share: float
    """Their learning rate as a share of the head's."""
    weight_decay: float
    parameters: list[nn.Parameter]


def rate_shares(built: Architecture, training: Training) -> dict[str, float]:
    """The learning rate of each parameter, by name, as a share of the head's.

    With ``layer_decay`` d the last of n blocks has d, the first d ** n, and what comes before it
    (positions, class token) d ** (n + 1): BEiT's rule (Bao et al. 2021). What comes after the
    blocks (a last norm, the pooling over time) has the head's rate, as ``set_trained`` has it.
    """
    own = numbers(training)
    count = len(built.blocks)
    block_of = {
        id(parameter): index
        for index, block in enumerate(built.blocks)
        for parameter in block.parameters()
    }
    head = {id(parameter) for parameter in built.head.parameters()}
    shares: dict[str, float] = {}
    index = -1  # Parameters come in the order of the forward pass: -1 is before the first block.
    for name, parameter in built.network.named_parameters():
        is_own = id(parameter) in block_of
        index = block_of.get(id(parameter), index)
        if id(parameter) in head or (index == count - 1 and not is_own):
            shares[name] = 1.0
        else:
            shares[name] = own.backbone_rate * own.layer_decay ** (count - index)
    return shares


def parameter_groups(
    network: nn.Module, training: Training, shares: Mapping[str, float] | None = None
) -> list[Group]:
    """The parameters that ``requires_grad``, in groups: the highest rate first, decayed ones first.

    Args:
        shares: of ``rate_shares``; 1 for all if there are none.

    Raises:
        UserError: nothing is to be trained.
    """
    matrices = {id(parameter) for parameter in decayed(network)}
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            share = 1.0 if shares is None else shares[name]
            found.setdefault((share, id(parameter) in matrices), []).append(parameter)
    if not found:
        raise UserError("no parameter of the network is trained: train its head at least")
    return [
        Group(share, training.weight_decay if decays else 0.0, found[share, decays])
        for share, decays in sorted(found, reverse=True)
    ]


def make_optimizer(
    network: nn.Module, training: Training, shares: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """The optimizer over the ``parameter_groups``, in their order; ``decayed`` says what decays."""
    rate = numbers(training).learning_rate
    groups: list[dict[str, Any]] = [
        {"params": group.parameters, "weight_decay": group.weight_decay, "lr": rate * group.share}
        for group in parameter_groups(network, training, shares)
    ]
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=_SGD_MOMENTUM)
    kind = torch.optim.AdamW if training.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=rate)


def decayed(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that weight decay pulls towards 0: the matrices and kernels of layers.

    What belongs to no such layer is a scale, a token or a table of positions, whatever its shape.
    """
    return [
        parameter
        for module in network.modules()
        if isinstance(module, _LAYERS)
        for parameter in module.parameters(recurse=False)
        if parameter.ndim > 1
    ]
