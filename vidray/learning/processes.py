"""Training processes side by side: rank, reductions, and rows shared out among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import nn

from vidray.learning.loader import evaluation_batches
from vidray.models.inference import (
    Read,
    predict_logits,
)
from vidray.models.names import Precision
from vidray.models.networks import batchnorm
from vidray.models.preprocess import Preprocessing


def predict_shared(
    network: nn.Module,
    read: Read,
    num_rows: int,
    *,
    batch_size: int,
    preprocessing: Preprocessing,
    device: torch.device,
    precision: Precision = "float32",
) -> NDArray[np.float32]:
    """``predict_logits`` of rows 0 to ``num_rows`` - 1, each by one process: every one has all.

    Args:
        network: on ``device``, the same in all processes, not wrapped in DDP.
        read: rows -> stored clips, any size.
        num_rows: N, also fewer than there are processes.
        batch_size: rows of one forward pass.
        preprocessing, device, precision: as in ``predict_logits``.

    Returns:
        ``float32 (N, K)``.
    """
    rank, world = rank_here(), batchnorm.world_size()
    rows = np.arange(rank, num_rows, world)
    batches = evaluation_batches(read, rows, preprocessing, batch_size=batch_size)
    own = predict_logits(
        network,
        (clips.numpy() for _, clips in batches),
        preprocessing=preprocessing,
        device=device,
        precision=precision,
    )
    if world == 1:
        return own
    # A process without rows does not know K yet.
    num_classes = int(reduced([float(own.shape[1])], device, torch.distributed.ReduceOp.MAX)[0])
    logits = torch.zeros(num_rows, num_classes, device=device)
    if len(rows):
        logits[rank::world] = torch.from_numpy(own).to(device)
    # Each row is one process's and zero everywhere else: the sum puts them together.
    torch.distributed.all_reduce(logits)
    joined: NDArray[np.float32] = logits.cpu().numpy()
    return joined


def rank_here() -> int:
    """Rank of this process; 0 where there is only one."""
    return torch.distributed.get_rank() if batchnorm.world_size() > 1 else 0


def reduced(values: list[float], device: torch.device, how: Any) -> list[float]:
    """The values of all processes, reduced by ``how``, the same in each."""
    shared = torch.tensor(values, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(shared, op=how)
    values_of_all: list[float] = shared.tolist()
    return values_of_all


def default_precision(device: torch.device) -> Precision:
    """The precision of a training that names none, the same in every process.

    bfloat16 is 1.3 to 3.7 times as fast as float32 on a GPU that has it (docs/gpu.md). On CPUs it
    stays float32: kinds with and without bfloat16 stand side by side in a cluster, and a training
    would differ from another by the node it came to.
    """
    has_it = False
    if device.type == "cuda":
        with torch.cuda.device(device):
            has_it = torch.cuda.is_bf16_supported(including_emulation=False)
    if batchnorm.world_size() > 1:
        has_it = reduced([float(has_it)], device, torch.distributed.ReduceOp.MIN)[0] == 1
    return "bfloat16" if has_it else "float32"
