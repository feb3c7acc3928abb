"""The cost of a model: parameters, operations, size, seconds and memory."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidray import memory, storage

if TYPE_CHECKING:
    from torch import nn


# Python takes memory from the system in arenas of this size.
LEAST_RAM_BYTES = 1 << 20


def measure_cost(
    predict: Callable[[], object],
    *,
    num_videos: int,
    frames_per_video: int,
    model_dir: str | None = None,
    network: nn.Module | None = None,
    clip_shape: Sequence[int] = (),
    runs: int = 5,
) -> dict[str, int | float | None]:
    """The cost of a model: ``parameters, flops_per_clip, size_bytes, seconds_per_video,
    frames_per_second, peak_ram_bytes, peak_gpu_bytes``; null for what does not apply.

    Measure each model in a process of its own: memory that an earlier model gave back to Python but
    not to the system is used again unseen.

    Args:
        predict: labels ``num_videos`` videos: from files for the end-to-end time, from pixels in
            memory for the model alone.
        num_videos: in one call of ``predict``.
        frames_per_video: frames that the model looks at in one video; 0 if it is given features.
        model_dir: the model folder, for ``size_bytes``.
        network: the torch module of a deep model.
        clip_shape: of one clip, (C, T, H, W); with ``network``.
        runs: timed calls, after one to warm up.
    """
    with peak_memory() as peak:
        seconds = median_seconds(predict, runs=runs) / num_videos
    return {
        "parameters": None if network is None else num_parameters(network),
        "flops_per_clip": None if network is None else flops_per_clip(network, clip_shape),
        "size_bytes": None if model_dir is None else size_bytes(model_dir),
        "seconds_per_video": seconds,
        "frames_per_second": frames_per_video / seconds if frames_per_video else None,
        "peak_ram_bytes": peak.ram_bytes,
        "peak_gpu_bytes": peak.gpu_bytes,
    }


def num_parameters(network: nn.Module) -> int:
    """Parameters of a network, frozen ones included; batch-norm statistics do not count."""
    return sum(parameter.numel() for parameter in network.parameters())


def flops_per_clip(network: nn.Module, clip_shape: Sequence[int]) -> int:
    """Additions and multiplications for one clip, counted apart: many papers halve this number.

    Counted by PyTorch (convolutions, matrix products, attention; the rest is below 1 %) on tensors
    without content: nothing is computed, and recurrent and attention layers run as the plain
    products that the counter knows, not as the fused kernels it does not.

    Args:
        network: takes ``float (1, C, T, H, W)``.
        clip_shape: (C, T, H, W).
    """
    from torch.utils.flop_counter import FlopCounterMode

    from vidray.models.networks.cut_channels import run_empty

    with FlopCounterMode(display=False) as counter:
        run_empty(network, clip_shape)
    return int(counter.get_total_flops())


def size_bytes(folder: str) -> int:
    """All files below a folder, or below a bucket's prefix, together."""
    return sum(file.size_bytes for file in storage.list_files(folder, hidden=True))


def median_seconds(call: Callable[[], object], *, runs: int = 5) -> float:
    """Median wall-clock time of ``runs`` calls, after one that warms up and does not count."""
    if runs < 1:
        raise ValueError(f"runs={runs} is below 1; pass runs=1 or more")
    seconds = []
    for _ in range(runs + 1):
        _wait_for_gpu()
        begin = time.perf_counter()
        call()
        _wait_for_gpu()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])


@dataclass
class PeakMemory:
    """The result of ``peak_memory``; null before the block ends and for what cannot be measured."""

    ram_bytes: int | None = None
    gpu_bytes: int | None = None


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """The most memory used while the block runs.

    ``ram_bytes`` is this process's resident memory above what it had at the beginning, files mapped
    into memory included; null where the kernel does not say, and below ``LEAST_RAM_BYTES``.
    ``gpu_bytes`` is all that PyTorch had
    allocated on the current GPU at once, weights included; null where torch uses none.
    """
    peak = PeakMemory()
    gc.collect()
    if (cuda := _cuda()) is not None:
        cuda.reset_peak_memory_stats()
    highest_before = 0 if memory.reset_peak() else memory.peak_bytes()
    begin = memory.resident_bytes()
    yield peak
    highest = memory.peak_bytes()
    # Without a reset the mark may be an earlier one's: then only a higher one says something.
    if begin is not None and highest is not None and highest > (highest_before or 0):
        used = highest - begin
        peak.ram_bytes = used if used >= LEAST_RAM_BYTES else None
    if (cuda := _cuda()) is not None:
        peak.gpu_bytes = int(cuda.max_memory_allocated())


def _cuda() -> Any:
    """``torch.cuda`` where it is in use; torch is not imported to find out that it is not."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def _wait_for_gpu() -> None:
    if (cuda := _cuda()) is not None:
        cuda.synchronize()
