"""Logits of stored clips, computed the same way in training, judging and labelling."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor, nn

from vidray.models.arrays import Pixels, RowNumbers
from vidray.models.names import Precision
from vidray.models.preprocess import Preprocessing

Read = Callable[[RowNumbers], Pixels]
"""Rows ``int64 (n,)`` -> stored clips ``uint8 (n, T, H, W, 3)``; called from several threads."""

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def predict_logits(
    network: nn.Module,
    batches: Iterable[NDArray[np.uint8]],
    *,
    preprocessing: Preprocessing,
    device: torch.device,
    precision: Precision = "float32",
) -> NDArray[np.float32]:
    """The network's logits in evaluation mode; its modes are left as they were.

    Args:
        network: on ``device``.
        batches: stored clips, ``uint8 (n, T, H, W, 3)`` each.
        preprocessing: the network's own.
        device: where to compute.
        precision: of the forward pass.

    Returns:
        ``float32 (N, K)``, in the order of ``batches``; (0, 0) where there are none.
    """
    logits = []
    # PyTorch keeps rounded weights for all threads: one that works on another stream of the GPU
    # would read them before they are written (NaN, or another label).
    with evaluating(network), torch.no_grad(), autocast(device, precision, keeps_weights=False):
        for clips in batches:
            # torch wants an array it may write to; a view of a file is not one.
            pixels = np.require(preprocessing.select(clips), requirements=["C", "W"])
            inputs = preprocessing.to_input(_moved(torch.from_numpy(pixels), device))
            logits.append(network(inputs).float())
    if not logits:
        return np.empty((0, 0), np.float32)
    joined: NDArray[np.float32] = torch.cat(logits).cpu().numpy()
    return joined


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """A context in which a network is in evaluation mode; its modes are then as they were."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _moved(pixels: Tensor, device: torch.device) -> Tensor:
    """Pixels on the device; to a GPU from pinned memory, while it computes something else."""
    if device.type != "cuda":
        return pixels.to(device)
    return pixels.pin_memory().to(device, non_blocking=True)


def autocast(
    device: torch.device, precision: Precision, *, keeps_weights: bool = True
) -> torch.autocast:
    """The context in which a forward pass has ``precision``; float32 changes nothing."""
    dtype = _DTYPES.get(precision)
    return torch.autocast(
        device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=keeps_weights
    )


def to_channels_last(network: nn.Module) -> None:
    """Set 2D and 3D convolutions channels-last; ``Module.to`` can only do one of the two."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])
