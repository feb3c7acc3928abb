"""A safetensors file: a length, a header of JSON, and bytes that the header divides.

safetensors' own reader copies all of it, and its process dies or hangs where memory runs out.
"""

from __future__ import annotations

import math
import struct
import warnings
from typing import Any

import torch
from torch import Tensor

from vidray.storage import checked_json

# What the format allows; a header of 10,000 tensors is 1 MB.
MOST_HEADER_BYTES = 100_000_000
# safetensors' names of what weights are made of.
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
# What the parser raises for a file that is not what it says.
ERRORS = (ValueError, TypeError, KeyError, RuntimeError, struct.error)


def tensors(data: memoryview) -> dict[str, Tensor]:
    """The tensors of a file's bytes, to be read only: they are those very bytes.

    Raises:
        ERRORS: it is no such file, or a shape in it is not that of its bytes.
    """
    (length,) = struct.unpack_from("<Q", data)
    if length > MOST_HEADER_BYTES:
        raise ValueError(f"its header would have {length} bytes, and 100 MB is the format's most")
    if length > len(data) - 8:
        raise ValueError("there is no header, or it is cut short")
    header = checked_json.loads(bytes(data[8 : 8 + length]))
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    stored = data[8 + length :]
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
