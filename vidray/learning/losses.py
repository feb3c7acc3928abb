"""The loss of a batch: cross-entropy over soft targets, with class weights."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor


def balanced_weights(labels: NDArray[np.int64], num_classes: int) -> Tensor:
    """``float32 (K,)``: what a clip of each class counts so that classes count alike.

    N / (K * count), as scikit-learn's "balanced", K the classes there are clips of; 0 for others.
    """
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
