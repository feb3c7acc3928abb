"""Probabilities of logits, checked; and the errors of a model as those of the user. No PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vidray.errors import ModelError

# A thousand rounding errors of float64, and no more.
_MOST_OFF = 1e-6
NEXT_STEP = "get a new copy of it, or train it again"


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities ``float64 (N, K)`` of logits ``(N, K)``."""
    exp: NDArray[np.float64] = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True))


def checked(
    probabilities: NDArray[np.float64], name: str, class_names: tuple[str, ...]
) -> NDArray[np.float64]:
    """``probabilities``, checked: (N, K), finite, none negative, each row summing to 1.

    Raises:
        ModelError: they are none.
    """
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


@contextlib.contextmanager
def as_model_errors(name: str, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Raise ModelError for any error but lack of memory, which is the machine's fault.

    Args:
        name: of the model.
        passing: other errors that are lack of memory.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, (MemoryError, *passing)):
            raise
        said = " ".join(str(error).split())
        if "allocate memory" in said:  # PyTorch's on a CPU is a RuntimeError.
            raise MemoryError(said) from error
        raise ModelError(
            f"the model {name} cannot take what its model.json says it is given "
            f"({type(error).__name__}: {said[:200]}): {NEXT_STEP}"
        ) from error
