"""A line on stdout for each epoch of a training."""

from __future__ import annotations

import time
from typing import Any

from vidray.progress import duration


class EpochLines:
    """Prints the figures of each epoch and the time left."""

    def __init__(self, epochs: int) -> None:
        """Take the number of epochs in all."""
        self._epochs, self._began, self._first = epochs, time.monotonic(), 0

    def __call__(self, rows: list[dict[str, Any]]) -> None:
        """Print the last of the rows so far (``EpochRow`` as dicts)."""
        row = rows[-1]
        if not self._first:
            self._first = row["epoch"]
            self._began = time.monotonic() - row["seconds"] - row["seconds_validating"]
        done = row["epoch"] - self._first + 1
        left = (time.monotonic() - self._began) / done * (self._epochs - row["epoch"])
        val = "" if row["val_loss"] is None else f"val {row['val_loss']:.3f}"
        val += "" if row["val_accuracy"] is None else f" {row['val_accuracy']:.1%}"
        known = row["train_accuracy"] is not None  # Not where nothing is classified.
        train = f"loss {row['train_loss']:.3f}"
        train += f" accuracy {row['train_accuracy']:.1%}" if known else ""
        waited = row["seconds_waiting_for_data"] / row["seconds"]
        print(
            f"epoch {row['epoch']}/{self._epochs}: "
            f"{train}, {val}{', ' if val else ''}"
            f"{row['clips_per_second']:.1f} clips/s, {waited:.1%} waiting for data, "
            f"{row['peak_memory_bytes'] / 2**30:.2f} GiB, {duration(left)} left",
            flush=True,
        )
