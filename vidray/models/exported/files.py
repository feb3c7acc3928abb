"""The files of an exported network on this machine, where a runtime can map them into memory."""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

from vidray import storage
from vidray.errors import UserError, VideoError
from vidray.models.exported import copies
from vidray.models.exported.description import Export
from vidray.storage.addresses import local_path
from vidray.tables.run_folder import GRAPHS

# A graph is a file of protobuf, which holds 2 GiB; so do weights, beside a graph of XML.
_MOST_BYTES = {".onnx": 2 << 30, ".xml": 64 << 20, ".bin": 8 << 30}
_AGAIN = "copy or export it again"


def local_folder(model_dir: str, export: Export) -> Path:
    """A folder of this machine that holds the graph's files, whole.

    Raises:
        UserError: one is missing, too large, lies elsewhere, or is not the one that was exported.
    """
    uri = storage.canonical(model_dir)
    names = GRAPHS[export.to]
    for name in names:
        _check_size(uri, name)
    if storage.is_bucket(uri):
        folder = copies.copied(uri, names)
    else:
        folder = Path(local_path(uri))
        for name in names:
            _check_inside(folder, name)
    _check_content(uri, folder, export)
    return folder


def _check_size(uri: str, name: str) -> None:
    shown = storage.without_secrets(uri)
    try:
        size_bytes = storage.file_info(storage.join(uri, name)).size_bytes
    except VideoError as error:
        if error.kind == "missing":
            raise UserError(f"{shown} is not a whole model folder (no {name}): {_AGAIN}") from None
        raise UserError(f"{shown}/{name} cannot be read: {error.message}") from None
    most = _MOST_BYTES[Path(name).suffix]
    if not 0 < size_bytes <= most:
        raise UserError(f"{shown}/{name} has {size_bytes} bytes, and 1 to {most} are allowed")


def _check_inside(folder: Path, name: str) -> None:
    """Raise UserError for a link that leads out of the folder: anybody may have made it."""
    if os.path.realpath(folder / name) != os.path.join(os.path.realpath(folder), name):
        raise UserError(f"{folder / name} is a link to another file: put the file itself there")


def _check_content(uri: str, folder: Path, export: Export) -> None:
    if export.sha256 is None:
        return
    digest = hashlib.sha256()
    for name in GRAPHS[export.to]:
        with mapped(folder / name) as data:
            digest.update(data)
    if digest.hexdigest() != export.sha256:
        raise UserError(
            f"{storage.without_secrets(uri)} holds other files than were exported "
            f"({', '.join(GRAPHS[export.to])}): {_AGAIN}"
        )


def mapped(path: Path) -> memoryview:
    """The bytes of a file, read when they are looked at."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
