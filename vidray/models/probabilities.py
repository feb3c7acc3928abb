"""Probabilities of what a model gives, checked. No PyTorch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidray.errors import ModelError

# A thousand rounding errors of float64, and no more.
_MOST_OFF = 1e-6
NEXT_STEP = "get a new copy of it, or train it again"


def checked(
    probabilities: NDArray[np.float64], name: str, class_names: tuple[str, ...]
) -> NDArray[np.float64]:
    """``probabilities``, checked: (N, K), finite, none negative, each row summing to 1."""
    if probabilities.ndim != 2 or probabilities.shape[1] != len(class_names):
        outputs = probabilities.shape[1] if probabilities.ndim == 2 else 0
        raise ModelError(
            f"the model {name} has {outputs} outputs and {len(class_names)} class names, where as "
            f"many must be: {NEXT_STEP}"
        )
    sums = probabilities.sum(axis=1)
    good = (probabilities >= 0).all(axis=1) & (np.abs(sums - 1) < _MOST_OFF)  # NaN is neither
    if not good.all():
        raise ModelError(
            f"the model {name} gives probabilities {probabilities[~good][0][:3]} that do not sum "
            "to 1, since its weights are damaged, or too large for another precision than float32: "
            f"{NEXT_STEP}"
        )
    return probabilities


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities ``float64 (N, K)`` of logits ``(N, K)``."""
    exp: NDArray[np.float64] = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True))
