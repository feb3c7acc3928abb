"""What a training minimises: the cross-entropy of classes, or the error of a reconstruction."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F  # noqa: N812  (its name everywhere)
from numpy.typing import NDArray
from torch import Tensor


class Objective(Protocol):
    """The loss of a batch and the figures of an epoch, of what a network gives for clips."""

    def weights(self, targets: Tensor) -> Tensor:
        """``float32 (N,)``: how much each row of ``targets``, ``float32 (N, K)``, counts."""

    def loss_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss summed over rows, each times its weight: float32, one number."""

    def right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The number of right answers; NaN where outputs are no answers."""

    def judged(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss and accuracy of validation clips, float64; NaN where there is no accuracy."""


class Classification:
    """Cross-entropy of logits ``(N, K)`` over soft targets.

    Args:
        label_smoothing: share of each target spread evenly over the classes.
        class_weights: ``float32 (K,)``, or None.
    """

    def __init__(self, *, label_smoothing: float, class_weights: Tensor | None) -> None:
        self._label_smoothing, self._class_weights = label_smoothing, class_weights

    def weights(self, targets: Tensor) -> Tensor:
        """See ``Objective``."""
        return row_weights(targets, self._class_weights)

    def loss_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See ``Objective``."""
        return loss_sum(
            outputs,
            targets,
            label_smoothing=self._label_smoothing,
            class_weights=self._class_weights,
        )

    def right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """See ``Objective``."""
        return (outputs.argmax(dim=1) == labels).sum()

    def judged(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Objective``; neither smoothed nor weighted."""
        loss = F.cross_entropy(outputs.double(), labels)
        return loss, (outputs.argmax(dim=1) == labels).double().mean()


class Reconstruction:
    """The mean of errors that the network itself measures, ``(N, 1)``, one for each clip."""

    def weights(self, targets: Tensor) -> Tensor:
        """See ``Objective``."""
        return torch.ones(len(targets), device=targets.device)

    def loss_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See ``Objective``."""
        return self.weights(targets) @ outputs.float()[:, 0]

    def right(self, outputs: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002
        """See ``Objective``."""
        return torch.tensor(torch.nan, device=outputs.device)

    def judged(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """See ``Objective``."""
        return outputs.double().mean(), torch.tensor(torch.nan, dtype=torch.float64)


def balanced_weights(labels: NDArray[np.int64], num_classes: int) -> Tensor:
    """``float32 (K,)``: what a clip of each class counts so that classes count alike.

    N / (K * count), as scikit-learn's "balanced", K the classes there are clips of; 0 for others.
    A label of -1 is none.
    """
    labels = labels[labels >= 0]
    counts = np.bincount(labels, minlength=num_classes)
    weights = np.zeros(num_classes, np.float32)
    present = counts > 0
    weights[present] = len(labels) / (present.sum() * counts[present])
    return torch.from_numpy(weights)


def loss_sum(
    logits: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy summed over rows; divide it by the sum of ``row_weights`` for the mean.

    For targets of one class that mean is ``torch.nn.functional.cross_entropy``'s.

    Args:
        logits: ``float (N, K)``.
        targets: ``float32 (N, K)``, probabilities.
        label_smoothing: share of each target spread evenly over the classes.
        class_weights: ``float32 (K,)``.

    Returns:
        float32, one number.
    """
    smoothed = targets * (1 - label_smoothing) + label_smoothing / targets.shape[1]
    if class_weights is not None:
        smoothed = smoothed * class_weights
    return -(smoothed * logits.float().log_softmax(dim=1)).sum()


def row_weights(targets: Tensor, class_weights: Tensor | None) -> Tensor:
    """``float32 (N,)``: how much each row counts, 1 without class weights."""
    return targets.sum(dim=1) if class_weights is None else targets @ class_weights
