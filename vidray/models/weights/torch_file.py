"""A file of ``torch.save``: .pt, .pth, .pyth, .tar, .bin; new ones are zips, old ones are pickles.

A pickle names functions and calls them. ``torch.load(weights_only=True)`` calls none but those that
make tensors, and here the names are looked at before, so that one that is refused is named, and so
are sizes, so that a small file cannot ask for much memory.
"""

from __future__ import annotations

import pickletools
import stat
import zipfile
from collections.abc import Iterator
from typing import IO, Any, BinaryIO

import torch

# Pickles of a checkpoint are names and shapes: 100 KB of VideoMAE's, 1 MB with an optimizer.
_MOST_PICKLE_BYTES = 64 << 20
_MOST_ENTRIES = 100_000
_STORED = zipfile.ZIP_STORED
# What old files begin with: a pickle of PyTorch's magic number.
OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
NEW_MAGIC = b"PK\x03\x04"


class Unused:
    """Stands for an object of a training that is no weight: it takes anything and does nothing."""

    def __new__(cls, *_args: Any, **_named: Any) -> Unused:
        """An empty object, whatever is given."""
        return super().__new__(cls)

    def __setstate__(self, _state: Any) -> None:
        """Keep nothing."""


# Names that trainings leave beside the weights: arguments, the best accuracy, mmengine's log. They
# are read as empty objects, and their own modules are not imported.
_UNUSED = (
    "argparse.Namespace",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
    "pathlib.PosixPath",
)
_STORAGES = (
    "Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool",
)  # fmt: skip
_ALLOWED = {
    "collections.OrderedDict",
    "collections.Counter",
    "_codecs.encode",
    "builtins.set",
    "__builtin__.set",
    "torch.Size",
    "torch.device",
    "torch.serialization._get_layout",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.storage.UntypedStorage",
    *(f"torch.{kind}Storage" for kind in _STORAGES),
    *_UNUSED,
}


class RefusedNameError(ValueError):
    """A name in the pickle that makes no tensor, and could run code."""


def load(file: BinaryIO, size_bytes: int, path: str | None) -> Any:
    """The object of a file, with all tensors on the CPU.

    Args:
        file: open at its begin.
        size_bytes: its size.
        path: where it lies, if on a disk: its tensors are then mapped, not read.

    Raises:
        RefusedNameError: it names something that makes no tensor.
        ValueError, RuntimeError, ...: it is damaged.
    """
    is_new = file.read(len(NEW_MAGIC)) == NEW_MAGIC
    file.seek(0)
    if is_new:
        _check_zip(file, size_bytes)
    else:
        _check_pickles(file)
    file.seek(0)
    with torch.serialization.safe_globals([(Unused, name) for name in _UNUSED]):
        if is_new and path is not None:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return torch.load(file, map_location="cpu", weights_only=True)


def _check_zip(file: BinaryIO, size_bytes: int) -> None:
    """Raise ValueError unless the zip is one that ``torch.save`` writes."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > _MOST_ENTRIES:
            raise ValueError(f"it has {len(entries)} entries")
        names = [entry.filename for entry in entries]
        if any(name.split("/")[1:2] == ["code"] for name in names):
            raise ValueError("it is a TorchScript program, which runs code: save its state_dict()")
        _check_entries(entries, size_bytes)
        pickles = [name for name in names if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise ValueError("it is a zip, but none of torch.save (no data.pkl)")
        if archive.getinfo(pickles[0]).file_size > _MOST_PICKLE_BYTES:
            raise ValueError(f"its data.pkl has more than {_MOST_PICKLE_BYTES >> 20} MiB")
        with archive.open(pickles[0]) as stream:
            _check_names(stream)


def _check_entries(entries: list[zipfile.ZipInfo], size_bytes: int) -> None:
    """PyTorch stores its entries as they are, below one folder, each once, none over another."""
    for entry in entries:
        parts = entry.filename.split("/")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if ".." in parts or "" in parts or "\\" in entry.filename or kind not in (0, stat.S_IFREG):
            raise ValueError(f"its entry {entry.filename[:80]!r} is a link or has an odd name")
        if entry.compress_type != _STORED or entry.file_size != entry.compress_size:
            raise ValueError(f"its entry {entry.filename[:80]!r} is compressed, torch.save's none")
    if len({entry.filename for entry in entries}) < len(entries):
        raise ValueError("it has an entry twice")
    if sum(entry.file_size for entry in entries) > size_bytes:
        raise ValueError("its entries claim more bytes than the file has")


def _check_pickles(file: BinaryIO) -> None:
    """The pickles that an old file begins with: magic, version, system, object, its storages."""
    for _ in range(5):
        _check_names(file)


def _check_names(stream: IO[bytes]) -> None:
    """Raise RefusedNameError if a pickle names anything that makes no tensor."""
    for name in _names(stream):
        if name not in _ALLOWED and not _is_plain_dtype(name):
            raise RefusedNameError(name)


def _names(stream: IO[bytes]) -> Iterator[str]:
    for code, argument, _ in pickletools.genops(stream):
        if code.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif code.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            raise ValueError("it is a pickle of a newer protocol than torch.save's")


def _is_plain_dtype(name: str) -> bool:
    kind = getattr(torch, name.removeprefix("torch."), None) if name.count(".") == 1 else None
    return isinstance(kind, torch.dtype)
