"""The training curve as TensorBoard files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from vidray import storage
from vidray.errors import UserError
from vidray.learning.epochs import EpochRow


def check(out: str) -> None:
    """Raise UserError unless curves can be written into the folder ``out``."""
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        message = "--tensorboard needs the extra: pip install 'vidray[tensorboard]'"
        raise UserError(message) from None
    if storage.is_bucket(out):
        raise UserError(
            f"{out} is in a bucket, and TensorBoard's files are written locally: choose a local "
            "--out, or leave --tensorboard out"
        )


def write(out: str, rows: Sequence[EpochRow]) -> None:
    """Write all figures of each epoch into ``tensorboard/``."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(storage.join(out, "tensorboard")) as writer:
        for row in rows:
            for name, value in dataclasses.asdict(row).items():
                if name != "epoch" and isinstance(value, int | float):
                    writer.add_scalar(name, value, row.epoch)
