"""Training early exits together with the network's own head.

The loss of a batch is the mean of the losses of all heads, each times its weight (Teerapittayanon
et al. 2016): the first layers learn what early exits need, too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidray.learning.losses import Objective
from vidray.models.networks.exits import ExitNetwork


def of_every_exit(network: nn.Module, objective: Objective) -> Objective:
    """The objective of a network: of one with exits, the mean over its heads."""
    return EveryExit(objective, network) if isinstance(network, ExitNetwork) else objective


class EveryExit:
    """The weighted mean of an objective over exits and the network's own head; an ``Objective``.

    Outputs are ``(N, E + 1, K)`` in training. An epoch is judged by the network's own head.

    Args:
        objective: of one head.
        network: with exits, whose ``loss_weight`` counts.
    """

    def __init__(self, objective: Objective, network: ExitNetwork) -> None:
        self._objective = objective
        shares = torch.tensor([network.loss_weight] * len(network.exits) + [1.0])
        self._shares = (shares / shares.sum()).tolist()

    def weights(self, targets: Tensor) -> Tensor:
        """See ``Objective``."""
        return self._objective.weights(targets)

    def loss_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See ``Objective``."""
        heads = zip(self._shares, outputs.unbind(dim=1), strict=True)
        losses = [share * self._objective.loss_sum(own, targets) for share, own in heads]
        return torch.stack(losses).sum()

    def right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """See ``Objective``."""
        return self._objective.right(outputs[:, -1], labels)

    def judged(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Objective``; in evaluation the outputs are ``(N, K)``, of the own head."""
        return self._objective.judged(outputs, labels)
