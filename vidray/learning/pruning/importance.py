"""What each channel of a network is worth to its loss on training clips.

A channel is gone when every layer that takes it weighs it with zero. By the first term of Taylor's
series the loss then changes by the sum of weight times gradient over these weights (after Molchanov
et al. 2019, who sum over what makes a channel). Squared and summed over batches, it is the
channel's importance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vidray.learning.pruning.groups import ChannelGroup, Member


def taylor(
    network: nn.Module,
    groups: Sequence[ChannelGroup],
    batches: Iterable[tuple[Tensor, Tensor]],
) -> list[NDArray[np.float64]]:
    """Importance of each channel of each group, ``float64 (size,)`` each; none is negative.

    Args:
        network: in evaluation mode: single batches move no statistics.
        batches: inputs ``float (N, C, T, H, W)`` and classes ``int64 (N,)``.
    """
    layers = dict(network.named_modules())
    found = [np.zeros(group.size) for group in groups]
    for inputs, labels in batches:
        network.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(network(inputs), labels)
        loss.backward()
        found = [
            total + _of_group(group, layers) ** 2
            for group, total in zip(groups, found, strict=True)
        ]
    network.zero_grad(set_to_none=True)
    return found


def _of_group(group: ChannelGroup, layers: dict[str, nn.Module]) -> NDArray[np.float64]:
    """The first-order change of the loss by each channel, ``float64 (size,)``."""
    takers = [member for member in group.members if member.side == "inputs"]
    return sum((_of_member(one, layers[one.layer]) for one in takers), np.zeros(group.size))


def _of_member(member: Member, layer: nn.Module) -> NDArray[np.float64]:
    """Sums of weight times gradient over what a layer weighs each channel with."""
    weight = layer.get_parameter("weight")
    assert weight.grad is not None
    change = (weight.detach() * weight.grad).transpose(0, 1)  # inputs first
    of_place = change.flatten(1).sum(1, dtype=torch.float64)
    found: NDArray[np.float64] = of_place.cpu().numpy()[member.places].sum(1)
    return found
