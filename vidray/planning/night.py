"""One night, simulated: nodes whose workers take blocks, slow and lost nodes, begin and end.

    NightWork     what there is to do: videos, how long each takes, how they are dealt in blocks
    Cluster  who does it: nodes, their workers, how often a node is slow or lost
    simulate(work, cluster, draws) -> seconds, in a discrete simulation (simpy)

It does what the job does (``distributed.pipeline``): the driver hands out whole blocks of parts, in
order; of a lost node's blocks the finished parts are kept and the rest is handed out again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

from vidray.distributed import dealing
from vidray.tables.runs import videos_per_part

_Steps = Generator[simpy.Event, Any, None]


@dataclass(frozen=True, kw_only=True)
class NightWork:
    """A night's videos and what each costs.

    Attributes:
        videos: to do.
        seconds: that a worker takes for a video, ``float64 (K,)``, and
        shares: how often it takes these, ``float64 (K,)``.
        measured: videos that ``shares`` were counted from: fewer leave them less certain. 0: exact.
        part_seconds: of a worker beside its videos, for each part.
        gap_seconds: that a worker waits for each block.
    """

    videos: int
    seconds: NDArray[np.float64]
    shares: NDArray[np.float64]
    measured: int = 0
    part_seconds: float = 0.0
    gap_seconds: float = 0.0

    @property
    def videos_per_part(self) -> int:
        """Videos of a full part."""
        return videos_per_part(self.videos)

    def block_parts(self, workers: int) -> NDArray[np.int64]:
        """Parts of each block, dealt for so many workers."""
        parts = -(-self.videos // self.videos_per_part)
        return np.diff(dealing.cuts(parts, self.videos_per_part, workers))

    def block_seconds(self, parts: NDArray[np.int64], draws: np.random.Generator) -> list[float]:
        """Seconds of each block, drawn; first it is drawn how far off the measured shares are."""
        shares = self.shares
        if self.measured:
            shares = draws.multinomial(self.measured, shares) / self.measured
        videos = parts * self.videos_per_part
        videos[-1] -= videos.sum() - self.videos
        drawn = draws.multinomial(videos, shares) @ self.seconds
        return list(drawn + parts * self.part_seconds)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Nodes of one kind.

    Attributes:
        nodes: their number.
        workers_per_node: processes that take blocks.
        worker_starts: seconds after the first worker in which others begin; each draws one.
        start_seconds: until a node that replaces a lost one works.
        losses_per_hour: of each node.
        slow_share: chance of a node to be slow from its start.
        slow_times: how many times as long a slow one takes.
    """

    nodes: int
    workers_per_node: int
    worker_starts: tuple[float, ...] = (0.0,)
    start_seconds: float = 0.0
    losses_per_hour: float = 0.0
    slow_share: float = 0.0
    slow_times: float = 1.0

    @property
    def workers(self) -> int:
        """Workers of all nodes."""
        return self.nodes * self.workers_per_node


@dataclass
class Worked:
    """The result of one simulated night.

    Attributes:
        seconds: from the first video to the last part.
        busy_seconds: of all workers with videos and parts, those for nothing included.
        lost_nodes: number of losses.
        lost_seconds: of work that was done again.
        blocks: that were handed out, those handed out again included.
        is_done: False where it was given up: then ``seconds`` are until that.
    """

    seconds: float = 0.0
    busy_seconds: float = 0.0
    lost_nodes: int = 0
    lost_seconds: float = 0.0
    blocks: int = 0
    is_done: bool = True


def simulate(
    work: NightWork,
    cluster: Cluster,
    draws: np.random.Generator,
    *,
    give_up_seconds: float = float("inf"),
) -> Worked:
    """One night's working time, start-up and end apart.

    Args:
        give_up_seconds: nodes that are lost before they have done one part never end.
    """
    parts = work.block_parts(cluster.workers)
    blocks = zip(work.block_seconds(parts, draws), parts.tolist(), strict=True)
    return _Night(work, cluster, blocks, draws).run(give_up_seconds)


@dataclass
class _Night:
    """The state of a simulated night."""

    work: NightWork
    cluster: Cluster
    blocks: Iterable[tuple[float, int]]
    draws: np.random.Generator
    env: simpy.Environment = field(default_factory=simpy.Environment)
    found: Worked = field(default_factory=Worked)

    def run(self, give_up_seconds: float) -> Worked:
        self._queue = deque(self.blocks)  # (seconds, parts)
        self._left = len(self._queue)
        self._done, self._more = self.env.event(), self.env.event()
        self._driver_free = 0.0
        starts = self.draws.choice(self.cluster.worker_starts, self.cluster.workers)
        starts -= starts.min()  # The clock begins with the first video.
        for node in np.split(starts, self.cluster.nodes):
            self.env.process(self._node(node.tolist()))
        end: simpy.Event = self._done
        if give_up_seconds < float("inf"):
            end |= self.env.timeout(give_up_seconds)
        self.env.run(end)
        self.found.seconds, self.found.is_done = self.env.now, self._done.triggered
        return self.found

    def _node(self, starts: list[float]) -> _Steps:
        """A node until the night ends: its workers, lost with it and begun again."""
        cluster = self.cluster
        while True:
            slow = cluster.slow_share > 0 and self.draws.random() < cluster.slow_share
            factor = cluster.slow_times if slow else 1.0
            workers = [self.env.process(self._worker(start, factor)) for start in starts]
            if not cluster.losses_per_hour:
                return
            lives = self.env.timeout(self.draws.exponential(3600 / cluster.losses_per_hour))
            yield lives | self._done
            if self._done.triggered:
                return
            self.found.lost_nodes += 1
            for worker in workers:
                if worker.is_alive:
                    worker.interrupt()
            begun = self.draws.choice(cluster.worker_starts, len(starts))
            starts = [cluster.start_seconds + float(start) for start in begun]

    def _worker(self, start: float, factor: float) -> _Steps:
        try:
            yield self.env.timeout(start)
            while True:
                while not self._queue:
                    yield self._more  # A lost block may come back.
                yield from self._block(*self._queue.popleft(), factor)
        except simpy.Interrupt:
            return

    def _block(self, seconds: float, parts: int, factor: float) -> _Steps:
        """Wait for the driver, then work; what is lost goes back to the others."""
        self.found.blocks += 1
        at = max(self.env.now, self._driver_free)
        self._driver_free = at + dealing.SECONDS_PER_BLOCK
        began = self._driver_free + self.work.gap_seconds
        whole = seconds * factor
        try:
            yield self.env.timeout(began + whole - self.env.now)
        except simpy.Interrupt:
            spent = max(0.0, self.env.now - began)
            kept = min(parts - 1, int(parts * spent / whole)) if whole else 0
            self.found.busy_seconds += spent
            self.found.lost_seconds += spent - whole * kept / parts
            self._queue.append((seconds * (1 - kept / parts), parts - kept))
            self._wake()
            raise
        self.found.busy_seconds += whole
        self._left -= 1
        if not self._left:
            self._done.succeed()

    def _wake(self) -> None:
        self._more.succeed()
        self._more = self.env.event()


def asked_seconds(
    thinking: tuple[NDArray[np.float64], NDArray[np.float64]],
    service_seconds: float,
    workers: int,
    predictors: int,
    draws: np.random.Generator,
    *,
    videos: int = 4000,
) -> float:
    """Mean seconds of a question from a worker's asking to the answer: waiting and service.

    Workers decode a video, ask the predictors in turn, and wait; each predictor answers one
    question after another.

    Args:
        thinking: seconds of decoding and their shares, both ``float64 (K,)``.
        service_seconds: in which a predictor answers for one video.
        videos: that are simulated; the first quarter, until queues have formed, does not count.
    """
    env = simpy.Environment()
    lines = [simpy.Resource(env) for _ in range(predictors)]
    decoded = iter(draws.choice(thinking[0], videos, p=thinking[1]).tolist())
    waits: list[float] = []

    def worker(turn: int) -> _Steps:
        for seconds in decoded:
            yield env.timeout(seconds)
            asked = env.now
            with lines[turn % predictors].request() as place:
                yield place
                yield env.timeout(service_seconds)
            waits.append(env.now - asked)
            turn += 1

    for number in range(workers):
        env.process(worker(number))
    env.run()
    return float(np.mean(waits[len(waits) // 4 :]))
