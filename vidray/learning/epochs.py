"""Epochs: their figures, the best one, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidray.errors import UserError
from vidray.learning.hyperparameters import Quantity, Training
from vidray.models.inference import Read
from vidray.models.names import Precision

# Called after each epoch with the rows (``EpochRow`` as dicts) so far; False ends the training.
OnRows = Callable[[list[dict[str, Any]]], bool | None]


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Clips to judge each epoch by, the same on all workers; each predicts its part of them."""

    read: Read
    """Rows, from 0, to stored clips."""
    labels: NDArray[np.int64]
    """(N,), N >= 1: the class of each row."""


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """Figures of one epoch: a row of the training curve. The same on all workers."""

    epoch: int
    """1 for the first."""
    train_loss: float
    """Mean over the clips as they were seen: augmented, smoothed, weighted, taught."""
    train_accuracy: float | None
    """Accuracy on those of the same clips that have a label, before each step; null where nothing
    is classified."""
    val_loss: float | None
    """Mean cross-entropy of the validation clips, neither smoothed nor weighted."""
    val_accuracy: float | None
    learning_rate: float
    """Learning rate of the last step."""
    seconds: float
    """Seconds of training, waiting included, of the slowest worker."""
    seconds_waiting_for_data: float
    """The part of ``seconds`` in which there was no batch yet, of the worker that waited most."""
    seconds_validating: float
    steps: int
    clips_per_second: float
    """Clips per second of all workers together, while training."""
    peak_memory_bytes: int
    """Peak memory of the worker that took most: GPU memory of the epoch, or on the CPU the
    process's."""
    precision: Precision = "float32"
    """Number format of the forward passes."""


def known(value: float) -> float | None:
    """A figure; None where it is NaN, which says that there is none."""
    return None if math.isnan(value) else value


def best_epoch(rows: Sequence[EpochRow], training: Training) -> int:
    """Index into ``rows`` of the one to keep: best by ``training.keep``, of equals the earliest.

    Without validation it is the last one.
    """
    if not rows or rows[-1].val_loss is None:
        return len(rows) - 1
    return _best(rows, training.keep)


def should_stop(rows: Sequence[EpochRow], training: Training) -> bool:
    """Whether ``patience`` epochs have passed without a better one."""
    if not training.patience or not rows:
        return False
    return len(rows) - 1 - _best(rows, training.stop_on) >= training.patience


def _best(rows: Sequence[EpochRow], quantity: Quantity) -> int:
    def worth(index: int) -> tuple[float, float]:
        loss, accuracy = rows[index].val_loss, rows[index].val_accuracy
        assert loss is not None
        assert accuracy is not None
        return (accuracy, -loss) if quantity == "accuracy" else (-loss, 0.0)

    return max(range(len(rows)), key=worth)  # the first of equals


def check_finite(row: EpochRow) -> None:
    """Raise UserError where a loss is no number: the training has diverged."""
    for name, loss in (("training", row.train_loss), ("validation", row.val_loss)):
        if loss is not None and not math.isfinite(loss):
            raise UserError(
                f"the {name} loss of epoch {row.epoch} is {loss}: pass a lower learning_rate, "
                "or clip_gradient_norm 1, or precision bfloat16 instead of float16"
            )
