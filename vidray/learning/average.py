"""The average of the weights over the steps (EMA), which is judged and kept instead of the last."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Average:
    """A copy of a network whose weights follow those of the network slowly.

    After step n (0 for the first) the decay is the lesser of ``decay`` and (1 + n) / (10 + n): a
    short training averages over its last tenth, not over weights it began with. That is a function
    of the step, so a checkpoint needs the averaged weights alone.

    Running statistics of batch norm are averaged alike: they describe the weights of their own
    steps, so the same mean over the same steps is the nearest to what the averaged weights give
    without another pass over the data. Counts are copied.

    Args:
        network: on its device and in its memory format, not wrapped in DDP.
        decay: of long trainings, above 0 and below 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after ``step``; all processes have the same, so they stay equal."""
        decay = min(self._decay, (1 + step) / (10 + step))
        theirs = network.state_dict()
        for name, own in self.network.state_dict().items():
            if own.is_floating_point():
                own.lerp_(theirs[name], 1 - decay)
            else:
                own.copy_(theirs[name])
