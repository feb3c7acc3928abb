"""What a checkpoint says of its training: the settings, and the rows of the epochs so far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from vidray import storage
from vidray.errors import UserError
from vidray.learning import checkpoints, defaults
from vidray.learning.epochs import EpochRow
from vidray.models.names import Precision
from vidray.storage import checked_json

_ADDED = ("precision",)  # What rows of an older vidray lack.


def checked_rows(
    folder: Path, progress: Mapping[str, Any], now: Mapping[str, Any]
) -> list[EpochRow]:
    """The rows of a checkpoint's epochs.

    Args:
        folder: of the checkpoint.
        progress: what it says.
        now: the settings of the training that goes on from it.

    Raises:
        UserError: it is of a training with other settings, or damaged.
    """
    settings, rows = _settings_and_rows(folder, progress)
    before = defaults.completed(settings, now)
    changed = [
        f"{name}: {before.get(name)} -> {value}"
        for name, value in now.items()
        if before.get(name) != value
    ]
    if changed:
        raise UserError(
            f"the checkpoint {folder} is of other settings ({'; '.join(changed)}): resume with "
            "the same, or start afresh in another folder"
        )
    return rows


def precision_of(folder: Path) -> Precision:
    """The precision of a checkpoint's training: it goes on so, also on another kind of machine."""
    settings, _ = _settings_and_rows(folder, checkpoints.read_progress(folder))
    found = settings.get("precision")
    if found not in get_args(Precision):
        told = f"progress.settings.precision is {checked_json.shown(found)}"
        raise storage.damaged(str(folder / checkpoints.HEADER), told)
    return cast(Precision, found)


def _settings_and_rows(
    folder: Path, progress: Mapping[str, Any]
) -> tuple[Mapping[str, Any], list[EpochRow]]:
    """Settings and rows that a training saved; UserError where they were changed."""
    settings, epochs = progress.get("settings"), progress.get("epochs")
    try:
        if not isinstance(settings, Mapping) or not isinstance(epochs, list):
            raise UserError("progress has no settings, or no epochs")
        rows = [
            checked_json.build(EpochRow, row, f"progress.epochs[{k}]", may_lack=_ADDED)
            for k, row in enumerate(epochs)
        ]
    except UserError as error:
        raise storage.damaged(str(folder / checkpoints.HEADER), str(error)) from None
    return settings, rows
