"""The files of an exported network on this machine, where a runtime can map them into memory."""

from __future__ import annotations

from pathlib import Path

from vidray import storage
from vidray.errors import UserError
from vidray.models.exported import copies
from vidray.models.exported.description import Export
from vidray.storage.addresses import local_path
from vidray.tables.run_folder import GRAPHS


def local_folder(model_dir: str, export: Export) -> Path:
    """A folder of this machine that holds the graph's files.

    Raises:
        UserError: one is missing.
    """
    uri = storage.canonical(model_dir)
    for name in GRAPHS[export.to]:
        if not storage.exists(storage.join(uri, name)):
            raise UserError(
                f"{storage.without_secrets(uri)} is not a whole model folder (no {name}): copy or "
                "export it again"
            )
    if not storage.is_bucket(uri):
        return Path(local_path(uri))
    return copies.copied(uri, GRAPHS[export.to])
