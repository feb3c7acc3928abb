"""Resources that a job may use: arithmetic and rules only. No Ray here, so that it is quick."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import tyro

from vidray.errors import UserError

_MOST_TIMEOUT_SECONDS = 1e6  # poll() takes milliseconds of 31 bits.
# PyTorch and a network of 5 million weights leave 50 MB of 2 GiB: their threads reserve 1 GiB.
MEMORY_GIB, MEMORY_GIB_WITH_NETWORK = 2.0, 3.0
# After a video of 320x240, a worker with r3d_18 holds 2.06 GiB of data in PyTorch, 1.38 in OpenVINO
# and 1.46 in ONNX Runtime: as much is left for larger videos.
_MEMORY_GIB_WITH_EXPORT = 2.5
_LEAST_MEMORY_GIB = 0.5  # Python, PyAV and OpenCV alone take 0.2.


@dataclass(frozen=True, kw_only=True)
class Predictors:
    """Actors that hold a network apart from the workers, which only decode then.

    Args:
        target: ``module:function``; ``function(config)`` gives what answers a sandbox's questions.
        number: of actors.
        gpus_each: share of a GPU; 0 puts each on a CPU.
    """

    target: str
    number: int
    gpus_each: float

    def __post_init__(self) -> None:
        if self.number < 1 or self.gpus_each < 0:
            raise UserError(
                f"{self.number} predictors of {self.gpus_each:g} GPUs: at least 1, of 0 or more"
            )

    @property
    def cpus_each(self) -> int:
        """CPUs of each predictor: 0 beside a GPU, since all CPUs decode."""
        return 0 if self.gpus_each else 1


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Resources of the job and limits of each worker."""

    workers: int | None = None
    """Processes that share the work; the result does not depend on their number. If not given, one
    for each CPU of the cluster."""
    memory_gib: float | None = None
    """Memory of one worker in GiB; a video that needs more fails as out_of_memory. If not given, 2,
    or 3 where a worker may hold a network, and 2.5 an exported one."""
    timeout_seconds: float = 600.0
    """Most seconds that a video may take; a slower one fails as timeout."""
    num_blocks: int | None = None
    """Number of Ray tasks; the result does not depend on it."""
    predictors: Annotated[Predictors | None, tyro.conf.Suppress] = None
    """Processes beside the workers that hold the network; None: each worker holds it itself."""

    def __post_init__(self) -> None:
        least = {"workers": 1, "memory_gib": _LEAST_MEMORY_GIB, "timeout_seconds": 0.001}
        for name, value in {**least, "num_blocks": 1}.items():
            given = getattr(self, name)
            if given is not None and not given >= value:  # Not a number is neither.
                raise UserError(f"{name} is {given}: it must be {value} or more")
        if not self.timeout_seconds <= _MOST_TIMEOUT_SECONDS:
            raise UserError(
                f"timeout_seconds is {self.timeout_seconds:g}: it must be "
                f"{_MOST_TIMEOUT_SECONDS:g} at the most, 11 days"
            )

    def filled(self, *, holds_network: bool = False, with_pytorch: bool = True) -> Resources:
        """The same with a number for what is not given.

        Args:
            with_pytorch: whether PyTorch runs the network, or for another reason is there.
        """
        if self.memory_gib is not None:
            return self
        network = MEMORY_GIB_WITH_NETWORK if with_pytorch else _MEMORY_GIB_WITH_EXPORT
        default = network if holds_network else MEMORY_GIB
        return dataclasses.replace(self, memory_gib=default)

    @property
    def memory_bytes(self) -> int:
        """``memory_gib`` in bytes."""
        return int((self.memory_gib or MEMORY_GIB) * 2**30)


@dataclass(frozen=True, kw_only=True)
class PredictorChoice:
    """Which processes hold a deep model: every worker, or predictors beside the workers."""

    predictors: int | None = None
    """Processes that hold a deep model while workers decode; with 0 every worker holds it. If not
    given, one on each GPU, and 0 without GPUs."""
    gpus_per_predictor: float | None = None
    """GPUs of each predictor; if not given, 1, or 0 where the cluster has no GPU."""

    def __post_init__(self) -> None:
        for name in ("predictors", "gpus_per_predictor"):
            if (getattr(self, name) or 0) < 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        each = self.gpus_per_predictor or 0
        if each > 1 and each % 1:
            raise UserError(f"gpus_per_predictor is {each}: a part of one, or whole ones")
