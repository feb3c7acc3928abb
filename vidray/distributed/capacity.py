"""The cluster: joined or started, how much of it there is, and how many workers fit into it."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
import ray.data
import ray.exceptions

from vidray import interrupts
from vidray.distributed import ray_address, ray_sessions
from vidray.errors import JobError, UserError

_MOST_SECONDS_TO_START = 180
_MOST_TIMEOUT_SECONDS = 1e6  # poll() takes milliseconds of 31 bits.
# A predictor loads PyTorch and a network, and may wait for a GPU that another job just leaves.
MOST_STARTING_SECONDS = 600


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
        """Beside a GPU none: all of them decode."""
        return 0 if self.gpus_each else 1


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What each of the job's workers may use.

    Args:
        workers: tasks at once; None takes every CPU of the cluster.
        memory_bytes: of one worker; a video that needs more fails as out_of_memory.
        timeout_seconds: for one video.
        num_blocks: tasks in all; None lets vidray choose. The result does not depend on it.
        predictors: beside the workers; None: each worker has the network itself.
    """

    workers: int | None = None
    memory_bytes: int = 2 << 30
    timeout_seconds: float = 600.0
    num_blocks: int | None = None
    predictors: Predictors | None = None

    def __post_init__(self) -> None:
        least = {"workers": 1, "memory_bytes": 512 << 20, "timeout_seconds": 0.001, "num_blocks": 1}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and not given >= value:  # Not a number is neither.
                raise UserError(f"{name} is {given}: it must be {value} or more")
        if not self.timeout_seconds <= _MOST_TIMEOUT_SECONDS:
            raise UserError(
                f"timeout_seconds is {self.timeout_seconds:g}: it must be "
                f"{_MOST_TIMEOUT_SECONDS:g} at the most, 11 days"
            )


def connect() -> None:
    """Join the cluster of RAY_ADDRESS or start one here, once.

    Raises:
        UserError: RAY_ADDRESS names no cluster that answers.
        JobError: Ray does not start.
    """
    if ray.is_initialized():
        return
    # Not Ray's own default, which joins whatever cluster last ran here, dead ones too.
    address = os.environ.get("RAY_ADDRESS", "").strip() or ray_address.LOCAL
    if address == ray_address.AUTO:
        address = _running_here()
    ray_address.check(address)
    # Nothing is reported to anybody, and no code is shipped: nodes have vidray installed.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", str(_MOST_SECONDS_TO_START))
    try:
        with _patience():
            ray.init(
                address=address,
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    except Exception as error:
        raise _not_connected(address, error) from error
    finally:
        interrupts.take()
    if address == ray_address.LOCAL:
        _tidy_sessions()


def _tidy_sessions() -> None:
    """Note whose Ray's folder is, and remove those of jobs that died."""
    here = ray.get_runtime_context()
    ray_sessions.note(os.path.join(here.get_temp_dir(), here.get_session_name()))
    ray_sessions.remove_dead(here.get_temp_dir())


def _running_here() -> str:
    """The address of the one cluster that runs on this machine."""
    services: Any = ray._private.services
    found = services.find_gcs_addresses()
    if len(found) != 1:
        raise UserError(
            f"RAY_ADDRESS is auto and {len(found)} clusters run on this machine: give the head "
            "node as HOST:PORT, or leave it out to start Ray here"
        )
    return str(next(iter(found)))


def _not_connected(address: str, error: Exception) -> Exception:
    said = " ".join(str(error).split())[:300]
    if address != ray_address.LOCAL:
        return UserError(f"RAY_ADDRESS is {address!r} and no cluster can be joined there ({said})")
    if isinstance(error, OSError) and error.errno:
        return error  # A full or read-only disk, which says so itself.
    return JobError(
        f"Ray does not start ({said}): other work may keep this machine busy, so run the same "
        "command again when it is done"
    )


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Let Ray wait longer for its own node than the 30 seconds that a busy machine may exceed."""
    services: Any = ray._private.services
    look = services.get_node

    def wait(*node: Any) -> Any:
        deadline = time.monotonic() + _MOST_SECONDS_TO_START
        while True:
            try:
                return look(*node)
            except RuntimeError:  # Not there yet.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    services.get_node = wait
    try:
        yield
    finally:
        services.get_node = look


def check_cluster(resources: Resources) -> None:
    """Raise UserError at once where Ray would wait for ever."""
    nodes = nodes_with_cpus()
    if not nodes:
        raise UserError(
            f"none of the {len(ray.nodes())} nodes of the cluster has a CPU for tasks: "
            "add workers, or wait until they have joined"
        )
    largest = max(memory_bytes for _, memory_bytes in nodes)
    if largest < resources.memory_bytes:
        raise UserError(
            f"a worker needs {resources.memory_bytes / 2**30:.1f} GiB and the largest node offers "
            f"{largest / 2**30:.1f} GiB: lower --memory-gib or use larger nodes"
        )
    wanted = resources.predictors
    if wanted is None:
        return
    if wanted.gpus_each and wanted.number > predictors_that_fit(wanted.gpus_each):
        raise UserError(
            f"{wanted.number} predictors of {wanted.gpus_each:g} GPUs each do not fit on the "
            f"{num_gpus():g} GPUs of the cluster: lower --predictors or --gpus-per-predictor"
        )
    if places(resources) <= wanted.number * wanted.cpus_each:
        raise UserError(
            f"{wanted.number} predictors leave no CPU to decode on: the cluster has room for "
            f"{places(resources)} processes; lower --predictors"
        )


def num_gpus() -> float:
    """Of the whole cluster."""
    return float(ray.cluster_resources().get("GPU", 0.0))


def predictors_that_fit(gpus_each: float) -> int:
    """On the GPUs of the cluster; none spreads over two GPUs unless it takes whole ones."""
    gpus = [int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]]
    if gpus_each <= 1:
        return sum(gpus) * int(1 / gpus_each + 1e-9)
    return sum(int(number // gpus_each) for number in gpus)


def nodes_with_cpus() -> list[tuple[int, int]]:
    """(CPUs, memory in bytes) of each node that can run a task at all."""
    sizes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(s["CPU"]), int(s.get("memory", 0))) for s in sizes if s.get("CPU", 0) >= 1]


def workers_at_once(resources: Resources) -> int:
    """How many tasks run at once: as many as fit on the cluster, at most as many as asked for."""
    fit = workers_that_fit(resources)
    return min(resources.workers or fit, fit)


def workers_that_fit(resources: Resources) -> int:
    """Workers that fit beside the predictors."""
    taken = (
        resources.predictors.number * resources.predictors.cpus_each if resources.predictors else 0
    )
    return max(1, places(resources) - taken)


def places(resources: Resources) -> int:
    """Processes of a CPU and a worker's memory that the cluster has room for."""
    return sum(min(cpus, memory // resources.memory_bytes) for cpus, memory in nodes_with_cpus())
