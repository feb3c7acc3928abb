"""A file of weights, local or in a bucket, to tensors. Nothing in it is executed.

What kind it is its first bytes say, not its name. A link that the user names is followed, as any
path of theirs is; a link inside an archive is refused.
"""

from __future__ import annotations

import mmap
import pickle  # noqa: TID251  (the name of the error that torch.load raises)
import zipfile
from typing import Any, BinaryIO

from torch import Tensor

from vidray import storage
from vidray.errors import UserError, VideoError
from vidray.models.weights import safetensors_file, torch_file
from vidray.storage.addresses import local_path

# Enough of any network, and of an optimizer's two numbers for each weight: VideoMAE-huge with both
# is 7.6 GB. From a bucket a file comes into memory, so that there it is also a limit of that.
_MOST_BYTES = 64 << 30
_HEAD_BYTES = 16
_TO_GIVE = "give a file of weights, a model folder, default or none"
_SAFE = "convert it with safetensors.torch.save_file"


def read(uri: str) -> Any:
    """What a file holds: of safetensors a dict of tensors, of ``torch.save`` what was saved.

    Raises:
        UserError: it is not there, not such a file, damaged, or could run code.
    """
    shown = storage.without_secrets(uri)
    size_bytes = _size_of(uri, shown)
    with _open(uri, size_bytes) as file:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        if head.startswith(torch_file.NEW_MAGIC) or head[:2] in (b"\x80\x02", b"\x80\x03"):
            return _of_torch(file, size_bytes, uri, shown)
        if head[8:9] not in (b"{", b"[") and not uri.endswith(".safetensors"):
            rule = "a file of safetensors or of torch.save begins otherwise"
            raise UserError(f"{shown} is no file of weights (begins with {head!r}; {rule})")
        return _of_safetensors(file, size_bytes, shown)


def read_safetensors(uri: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, to be read only: they are the file's own bytes.

    Raises:
        UserError: there is none, or it is of another kind: those can run code when opened.
    """
    shown = storage.without_secrets(uri)
    size_bytes = _size_of(uri, shown)
    with _open(uri, size_bytes) as file:
        return _of_safetensors(file, size_bytes, shown)


def _size_of(uri: str, shown: str) -> int:
    """The bytes of a file; raises UserError unless it can be one of weights."""
    try:
        size_bytes = storage.file_info(uri).size_bytes
    except VideoError as error:
        if error.kind == "missing":
            raise UserError(f"{shown} is not there: {_TO_GIVE}") from None
        raise UserError(f"{shown} cannot be read ({error.message}): {_TO_GIVE}") from None
    if size_bytes > _MOST_BYTES:
        most = f"{_MOST_BYTES >> 30} GiB"
        raise UserError(f"{shown} has {size_bytes} bytes, and weights have {most} at the most")
    return size_bytes


def _open(uri: str, size_bytes: int) -> BinaryIO:
    try:
        return storage.open_binary(uri, size_bytes=size_bytes)
    except VideoError as error:
        raise UserError(f"{storage.without_secrets(uri)} cannot be read: {error.message}") from None


def _of_safetensors(file: BinaryIO, size_bytes: int, shown: str) -> dict[str, Tensor]:
    try:
        return safetensors_file.tensors(_bytes_of(file, size_bytes))
    except safetensors_file.ERRORS as error:
        raise UserError(
            f"{shown} is no safetensors file ({_said(error)}): other kinds can run code when "
            f"opened and are not; {_SAFE}"
        ) from None


def _bytes_of(file: BinaryIO, size_bytes: int) -> memoryview:
    """All bytes: of a file on a disk mapped, so that a tensor is read when it is used."""
    try:
        number = file.fileno()
    except OSError:  # of a bucket
        return memoryview(file.read())
    if not size_bytes:
        return memoryview(b"")
    return memoryview(mmap.mmap(number, 0, access=mmap.ACCESS_READ))


def _of_torch(file: BinaryIO, size_bytes: int, uri: str, shown: str) -> Any:
    path = None if storage.is_bucket(uri) else local_path(uri)
    try:
        return torch_file.load(file, size_bytes, path)
    except torch_file.RefusedNameError as error:
        raise UserError(
            f"{shown} names {str(error)[:100]!r}, which makes no tensor and could run code, so "
            f"nothing of it was opened: ask for the state_dict alone, or {_SAFE} where you trust it"
        ) from None
    # A damaged pickle can raise nearly anything while it is read; none of it runs code.
    except (
        pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, OSError, EOFError, MemoryError,
        ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError,
        NotImplementedError, AssertionError,
    ) as error:  # fmt: skip
        raise UserError(f"{shown} is no whole file of torch.save ({_said(error)})") from None


def _said(error: BaseException) -> str:
    # PyTorch adds the stack of its C++.
    return " ".join(str(error).split())[:200] or type(error).__name__
