"""Workers and predictors that a node holds, how long a video takes there, and what limits it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from vidray.planning.night import NightWork, asked_seconds
from vidray.planning.prices import NodeKind
from vidray.planning.rates import Rates

# Ray keeps 30 % of a node's memory for its object store and gives the rest to tasks
# (ray_constants.DEFAULT_OBJECT_STORE_MEMORY_PROPORTION).
_FOR_TASKS = 0.7
AS_THE_RUN = "as in the run"


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Nodes of one kind, and a night's work on them.

    Attributes:
        kind: of node.
        workers: of each node.
        predictors: of each node.
        work: for a number of videos, how long each takes there.
        limit: what a worker spends most of its time with, or what keeps it waiting.
    """

    kind: NodeKind
    workers: int
    predictors: int
    work: NightWork
    limit: str


def kind_of_run(rates: Rates) -> NodeKind:
    """A node like those of the run, which it holds as many workers as; without a price."""
    timing = rates.timing
    workers = math.ceil(timing.workers / timing.nodes)
    on_cpus = 0 if timing.gpus_each else math.ceil(timing.predictors / timing.nodes)
    return NodeKind(
        name=AS_THE_RUN,
        price=None,
        cpus=workers + on_cpus,
        gpus=math.ceil(timing.gpus / timing.nodes) if timing.gpus_each else 0,
        memory_gib=(workers + on_cpus) * timing.worker_bytes / _FOR_TASKS / 2**30,
    )


def why_not(kind: NodeKind, rates: Rates) -> str | None:
    """Why a plan cannot be made for a kind of node; None where it can."""
    timing = rates.timing
    if timing.gpus_each and kind.gpus < timing.gpus_each:
        return f"the run's predictors took {timing.gpus_each:g} GPUs each: it has {kind.gpus}"
    if kind.gpus and not timing.gpus_each:
        return "it has GPUs and the run used none: label some videos on one first"
    workers, predictors, _ = _places(kind, rates)
    if workers < 1 or (timing.predictors and predictors < 1):
        needed = timing.worker_bytes / _FOR_TASKS / 2**30
        return f"no worker fits beside a predictor: each needs a CPU and {needed:.1f} GiB of memory"
    return None


def place(
    kind: NodeKind,
    rates: Rates,
    videos: int,
    draws: np.random.Generator,
    *,
    workers: int | None = None,
    without_waiting: bool = False,
) -> Placed:
    """A night's videos on nodes of a kind that ``why_not`` has nothing against.

    Args:
        workers: of each node, if not as many as fit.
        without_waiting: leave out the time in which other work held the run's CPUs.
    """
    fit, predictors, by_memory = _places(kind, rates)
    workers, by_memory = workers or fit, by_memory and not workers
    timing = rates.timing
    kept = (1 - rates.waiting_share if without_waiting else 1.0) / kind.speed
    own = rates.seconds * kept * (1 - rates.asking_share)
    limits = _stages(rates)
    asked = 0.0
    if timing.predictors:
        asked, busy = _asked(rates, own, kept, workers, predictors, draws)
        limits = {"predictors": busy, "decoding": 1 - busy} if busy else limits
    seconds = own + asked
    limit = max(limits, key=lambda name: limits[name])
    mean = float(seconds @ rates.shares)
    if kind.network_gbit is not None and mean:
        least = workers * rates.bytes_per_video * 8 / (kind.network_gbit * 1e9)
        if least > mean:
            seconds, limit = seconds * (least / mean), "network of a node"
    if by_memory and limit not in ("network of a node", "predictors"):
        limit += f"; memory, for {workers} of {kind.cpus} CPUs"
    return Placed(
        kind=kind,
        workers=workers,
        predictors=predictors,
        limit=limit,
        work=NightWork(
            videos=videos,
            seconds=seconds,
            shares=rates.shares,
            measured=timing.videos,
            part_seconds=kept * timing.part_seconds / timing.parts,
            gap_seconds=timing.block_gap_seconds / max(1, timing.block_gaps),
        ),
    )


def with_videos(placed: Placed, videos: int) -> Placed:
    """The same nodes with another number of videos."""
    return dataclasses.replace(placed, work=dataclasses.replace(placed.work, videos=videos))


def _places(kind: NodeKind, rates: Rates) -> tuple[int, int, bool]:
    """Workers and predictors of a node, and whether its memory leaves CPUs without a worker."""
    timing = rates.timing
    fit = int(kind.memory_gib * _FOR_TASKS * 2**30 / timing.worker_bytes + 1e-9)
    processes = min(kind.cpus, fit)
    by_memory = fit < kind.cpus
    if not timing.predictors:
        return processes, 0, by_memory
    if timing.gpus_each:
        each = timing.gpus_each
        # One that takes a part of a GPU spans no two.
        on_gpus = kind.gpus * int(1 / each + 1e-9) if each <= 1 else int(kind.gpus // each)
        return processes, on_gpus, by_memory
    share = timing.predictors / (timing.predictors + timing.workers)
    predictors = max(1, round(processes * share))
    return processes - predictors, predictors, by_memory


def _stages(rates: Rates) -> dict[str, float]:
    """Seconds of the stages as limits are called; what no stage was measured for is the rest."""
    words = {
        "decode": "decoding",
        "predict": "network in workers",
        "predict_then": "second network in workers",
        "embed": "embeddings in workers",
    }
    found = {words.get(name, name): seconds for name, seconds in rates.stages.items()}
    rest = rates.timing.seconds_per_video * rates.timing.videos - sum(found.values())
    return {**found, "storage and the rest": max(0.0, rest)}


def _asked(
    rates: Rates,
    own: np.ndarray,
    kept: float,
    workers: int,
    predictors: int,
    draws: np.random.Generator,
) -> tuple[float, float]:
    """Mean seconds of a question, and the share of time that a predictor is busy (0: not known)."""
    timing = rates.timing
    if timing.predictor_seconds is None:  # It died before it could tell: as it was in the run.
        return float(rates.seconds @ rates.shares) * kept * rates.asking_share, 0.0
    service = kept * timing.predictor_seconds / timing.videos
    # What a question takes beside the predictor's work when nobody else asks is not measured apart:
    # the wait of the run's own numbers of workers and predictors is simulated, and the rest added.
    in_run = kept * rates.asking_share * float(rates.seconds @ rates.shares)
    ratio = (own, rates.shares)
    waited = asked_seconds(ratio, service, timing.workers, timing.predictors, draws)
    asked = asked_seconds(ratio, service, workers, predictors, draws) + max(0.0, in_run - waited)
    busy = workers * service / (predictors * (float(own @ rates.shares) + asked))
    return asked, min(1.0, busy)
