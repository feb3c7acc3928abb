"""Published weights: from the cache of PyTorch's hub, downloaded into it if missing."""

from __future__ import annotations

import math
import os
import pickle  # noqa: TID251  (the name of the error that torch.load raises)
import struct
import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from vidray import storage
from vidray.errors import UserError
from vidray.storage import checked_json

# safetensors' names of what weights are made of.
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def state_dict(weights: WeightsEnum) -> dict[str, Tensor]:
    """The tensors of ``weights``; a new file's checksum is compared.

    Raises:
        UserError: the file is not in the cache and can't be fetched, or holds more than tensors.
    """
    name = os.path.basename(weights.url)
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    try:
        # weights_only: published files are pickles, and of one nothing but tensors is let in.
        tensors: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            weights.url, map_location="cpu", check_hash=True, progress=False, weights_only=True
        )
    except OSError as error:  # Of which every failure to connect is one.
        raise UserError(
            f"the published weights {name} are not in {folder} and can't be fetched "
            f"({type(error).__name__}): put the file there, or start fresh with --weights none"
        ) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(
            f"{os.path.join(folder, name)} holds no weights ({type(error).__name__}): remove it, "
            "or start fresh with --weights none"
        ) from None
    return tensors


def filled(network: NetworkT, weights: WeightsEnum | None) -> NetworkT:
    """``network``, a fresh one of torchvision's, with its published weights if there are any."""
    if weights is not None:
        network.load_state_dict(state_dict(weights))
    return network


def read_safetensors(uri: str) -> dict[str, Tensor]:
    """The tensors of a file, local or in a bucket, to be read only: they are the file's own bytes.

    Raises:
        UserError: there is none, or it is of another kind: those can run code when opened.
    """
    shown = storage.without_secrets(uri)
    try:
        data = storage.read_bytes(uri)
    except FileNotFoundError:
        raise UserError(f"{shown} is not there: give a safetensors file, default or none") from None
    try:
        return _tensors(data)
    except (ValueError, TypeError, KeyError, RuntimeError, struct.error) as error:
        said = " ".join(str(error).split())[:200]  # PyTorch adds the stack of its C++.
        raise UserError(
            f"{shown} is no safetensors file ({said}): other kinds can run code when opened and "
            "are not; convert it with safetensors.torch.save_file"
        ) from None


def _tensors(data: bytes) -> dict[str, Tensor]:
    """The tensors of a file: a length, a header of JSON, and bytes that the header divides.

    safetensors' own reader copies all of it, and its process dies or hangs where memory runs out.
    """
    (length,) = struct.unpack_from("<Q", data)
    if length > len(data) - 8:
        raise ValueError("there is no header, or it is cut short")
    header = checked_json.loads(data[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    stored = memoryview(data)[8 + length :]
    return {
        name: _tensor(name, entry, stored)
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _tensor(name: str, entry: dict[str, Any], stored: memoryview) -> Tensor:
    dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
    begin, end = entry["data_offsets"]
    if any(type(number) is not int or number < 0 for number in (*shape, begin, end)):
        raise ValueError(f"{checked_json.shown(name)} has an invalid shape or place")
    if end > len(stored) or math.prod(shape) * dtype.itemsize != end - begin:
        raise ValueError(f"{checked_json.shown(name)} does not have the bytes of its shape")
    if begin == end:
        return torch.empty(shape, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Nobody writes to it.
        return torch.frombuffer(stored[begin:end], dtype=dtype).reshape(shape)


def load_state(network: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Put ``state`` into ``network``; all of it has to fit.

    Raises:
        UserError: names the tensors that are missing, too many or of another shape.
    """
    ours = network.state_dict()
    wrong = [f"{name} is missing" for name in ours.keys() - state.keys()]
    wrong += [f"{name} is not in this model" for name in state.keys() - ours.keys()]
    wrong += [
        f"{name} is {tuple(state[name].shape)} and must be {tuple(ours[name].shape)}"
        for name in ours.keys() & state.keys()
        if state[name].shape != ours[name].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise UserError(f"{source} does not fit the model: {'; '.join(sorted(wrong)[:5])}{more}")
    network.load_state_dict(dict(state))
