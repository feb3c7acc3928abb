"""What a channel is worth, against the loss with a little less of it."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vidray.learning.pruning.groups import ChannelGroup, Member
from vidray.learning.pruning.importance import taylor


class Shortcut(nn.Module):
    """Two takers of the first convolution's channels, and a flattening of two places each."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(3, 4, 1)
        self.second = nn.Conv3d(4, 4, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        features = self.first(clips)
        features = features + self.second(features).relu()
        logits: torch.Tensor = self.head(features.flatten(1))
        return logits


EACH = np.arange(4).reshape(4, 1)
GROUP = ChannelGroup(
    members=(
        Member(layer="first", side="outputs", places=EACH),
        Member(layer="second", side="outputs", places=EACH),
        Member(layer="second", side="inputs", places=EACH),
        Member(layer="head", side="inputs", places=np.arange(8).reshape(4, 2)),
    )
)


def test_importance_is_the_squared_change_of_the_loss_by_what_takes_a_channel() -> None:
    torch.manual_seed(0)
    network = Shortcut().double()
    clips, labels = torch.randn(6, 3, 1, 1, 2, dtype=torch.float64), torch.arange(6) % 3
    parts = [(clips[:4], labels[:4]), (clips[4:], labels[4:])]
    (found,) = taylor(network, [GROUP], parts)
    for channel in range(4):
        expected = 0.0
        for inputs, classes in parts:
            less = copy.deepcopy(network)
            step = 1e-6
            with torch.no_grad():
                less.second.weight[:, channel] *= 1 - step
                less.head.weight[:, 2 * channel : 2 * channel + 2] *= 1 - step
                change = functional.cross_entropy(less(inputs), classes)
                change -= functional.cross_entropy(network(inputs), classes)
            expected += float(change / step) ** 2
        np.testing.assert_allclose(found[channel], expected, rtol=1e-4)
    assert all(parameter.grad is None for parameter in network.parameters())
