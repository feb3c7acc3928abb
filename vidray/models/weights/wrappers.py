"""What a training wraps around weights: a checkpoint's keys, and prefixes of the names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vidray.errors import UserError

# Keys under which checkpoints keep their weights, the better first: a moving average of the weights
# (timm's state_dict_ema and model_ema) is what its training is judged by. mmengine's
# ``ema_state_dict`` is not here: it swaps the two, and ``state_dict`` is the average.
_AVERAGES = ("state_dict_ema", "model_ema", "ema_model", "ema")
_KEYS = (*_AVERAGES, "state_dict", "model_state", "model_state_dict", "model", "module", "network",
         "net", "weights", "params")  # fmt: skip
# Prefixes that are dropped where all names have them: of DataParallel, torch.compile, Lightning.
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.", "backbone.", "encoder.")
_MOST_LAYERS = 8  # checkpoints within checkpoints
_WEIGHTS = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
}  # fmt: skip


def unwrap(found: Any, *, shown: str) -> tuple[dict[str, Tensor], str]:
    """The tensors by name, without what is wrapped around them.

    Args:
        found: what a file holds.
        shown: the file, for errors.

    Returns:
        The tensors, and what to say of how they were found: empty or "of its moving average".

    Raises:
        UserError: there are none, or they are of a kind that no network has.
    """
    said = ""
    for _ in range(_MOST_LAYERS):
        key = _key_of(found)
        if key is None:
            break
        said = f"its moving average {key}" if key in _AVERAGES else said
        found = found[key]
    tensors = {
        name: tensor
        for name, tensor in (found.items() if isinstance(found, Mapping) else ())
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }
    if not tensors:
        keys = ", ".join(repr(key)[:40] for key in found) if isinstance(found, Mapping) else ""
        has = f"its keys are {keys[:200]}" if keys else f"it is {type(found).__name__}"
        raise UserError(f"{shown} holds no tensors by name ({has}): give one of a state_dict")
    _check(tensors, shown)
    return _without_prefixes(tensors), said


def _key_of(found: Any) -> str | None:
    """The key that leads to the weights; None where these are the weights."""
    if not isinstance(found, Mapping):
        return None
    for key in _KEYS:
        # A network may have a part of such a name, but a part is no mapping.
        if isinstance(found.get(key), Mapping) and found[key]:
            return key
    return None


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    stripped = True
    while stripped:
        stripped = False
        for prefix in _PREFIXES:
            if all(name.startswith(prefix) for name in tensors):
                tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
                stripped = True
    return tensors


def _check(tensors: Mapping[str, Tensor], shown: str) -> None:
    """Raise UserError unless each is a plain array with the bytes of its shape."""
    for name, tensor in tensors.items():
        plain = tensor.layout is torch.strided and tensor.dtype in _WEIGHTS
        if not plain or tensor.device.type != "cpu":
            kind = f"{tensor.dtype}, {tensor.layout}, {tensor.device}"
            raise UserError(f"{shown}: {name[:100]!r} is no plain array ({kind})")
        if tensor.numel() * tensor.element_size() > max(tensor.untyped_storage().nbytes(), 1 << 20):
            # A stride of 0 makes a terabyte of four bytes.
            raise UserError(f"{shown}: {name[:100]!r} claims more than the bytes it has")
