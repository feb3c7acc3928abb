"""The optimizer: which weights decay, and the learning rate of each step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from vidray.errors import UserError

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
    """The learning rate of one step, 0 for the first of the training."""
    total = training.epochs * steps_per_epoch
    warmup = min(round(training.warmup_epochs * steps_per_epoch), int(_MOST_WARMUP * total))
    if step < warmup:
        return training.learning_rate * (step + 1) / warmup
    if training.schedule == "cosine":
        done = (step - warmup) / (total - warmup)
        return training.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    if training.schedule == "step":
        return training.learning_rate * math.prod(
            0.1 for share in _STEPS_DOWN if step >= share * total
        )
    return training.learning_rate


def make_optimizer(network: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The optimizer over what ``requires_grad``; ``decayed`` says what decays.

    Raises:
        UserError: nothing is to be trained.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:
        raise UserError("no parameter of the network is trained: train its head at least")
    matrices = {id(parameter) for parameter in decayed(network)}
    decay = {
        "params": [parameter for parameter in trained if id(parameter) in matrices],
        "weight_decay": training.weight_decay,
    }
    rest = {
        "params": [parameter for parameter in trained if id(parameter) not in matrices],
        "weight_decay": 0.0,
    }
    groups: list[dict[str, Any]] = [group for group in (decay, rest) if group["params"]]
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=training.learning_rate, momentum=_SGD_MOMENTUM)
    kind = torch.optim.AdamW if training.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=training.learning_rate)


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
