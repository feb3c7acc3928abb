"""The cluster: joining or starting it, its capacity, and how many workers fit."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import ray

from vidray import interrupts
from vidray.distributed import ray_address, ray_sessions
from vidray.distributed.resources import PredictorChoice, Predictors, Resources
from vidray.errors import JobError, UserError

_MOST_SECONDS_TO_START = 180
# A predictor loads PyTorch and a network, and may wait for a GPU that another job just leaves.
MOST_STARTING_SECONDS = 600


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
    is_local = address == ray_address.LOCAL
    say("starting Ray on this machine (3 to 10 s) ..." if is_local else f"joining Ray at {address}")
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
    if is_local:
        _tidy_sessions()


def say(waiting_for: str) -> None:
    """Print what the user is waiting for."""
    print(waiting_for, file=sys.stderr, flush=True)


def _tidy_sessions() -> None:
    """Note the owner of Ray's folder, and remove folders of dead jobs."""
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
    with_cpus = [node for node in nodes() if node.get("CPU", 0) >= 1]
    if not with_cpus:
        raise UserError(
            f"none of the {len(ray.nodes())} nodes of the cluster has a CPU for tasks: "
            "add workers, or wait until they have joined"
        )
    largest = max(node.get("memory", 0) for node in with_cpus)
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
    if _processes(resources) <= wanted.number * wanted.cpus_each:
        raise UserError(
            f"{wanted.number} predictors leave no CPU to decode on: the cluster has room for "
            f"{_processes(resources)} processes; lower --predictors"
        )


def nodes() -> list[dict[str, float]]:
    """The resources of each live node: ``CPU``, ``GPU``, ``memory`` in bytes."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def places(each: Mapping[str, float]) -> int:
    """Number of processes with resources ``each`` that the cluster holds; none spans two nodes."""
    wanted = {kind: number for kind, number in each.items() if number}
    return sum(
        min(int(node.get(kind, 0) // number) for kind, number in wanted.items()) for node in nodes()
    )


def num_gpus() -> float:
    """GPUs of the whole cluster."""
    return float(ray.cluster_resources().get("GPU", 0.0))


def predictors_that_fit(gpus_each: float) -> int:
    """Predictors that fit on the cluster's GPUs; none spans two GPUs unless it takes whole ones."""
    if gpus_each <= 1:
        return places({"GPU": 1}) * int(1 / gpus_each + 1e-9)
    return places({"GPU": gpus_each})


def place_predictors(choice: PredictorChoice, target: str) -> Predictors | None:
    """The predictors to start on the cluster, which is joined or started to know its GPUs.

    Args:
        target: ``module:function`` of their work.

    Raises:
        UserError: they need GPUs, and the cluster has none.
    """
    connect()
    each, number = choice.gpus_per_predictor, choice.predictors
    if each is None:
        each = 1.0 if num_gpus() else 0.0
    if number is None:
        number = predictors_that_fit(each) if each else 0
        if choice.gpus_per_predictor and not number:
            raise UserError(
                f"gpus_per_predictor is {each:g} and the cluster has {num_gpus():g} GPUs: wait for "
                "its nodes, or leave it out to label on CPUs"
            )
    return Predictors(target=target, number=number, gpus_each=each) if number else None


def workers_at_once(resources: Resources) -> int:
    """Tasks that run at once: as many as fit on the cluster, at most the number asked for."""
    fit = workers_that_fit(resources)
    return min(resources.workers or fit, fit)


def workers_that_fit(resources: Resources) -> int:
    """Workers that fit beside the predictors."""
    taken = (
        resources.predictors.number * resources.predictors.cpus_each if resources.predictors else 0
    )
    return max(1, _processes(resources) - taken)


def held(resources: Resources) -> dict[str, Any]:
    """What a job has of the cluster, as ``timing.Timing`` names it."""
    wanted = resources.predictors
    return {
        "nodes": len(nodes()),
        "cpus": float(ray.cluster_resources().get("CPU", 0.0)),
        "gpus": num_gpus(),
        "workers": workers_at_once(resources),
        "worker_bytes": resources.memory_bytes,
        "predictors": wanted.number if wanted else 0,
        "gpus_each": wanted.gpus_each if wanted else 0.0,
    }


def _processes(resources: Resources) -> int:
    """Number of processes, each with a CPU and a worker's memory, that the cluster holds."""
    return places({"CPU": 1, "memory": resources.memory_bytes})
