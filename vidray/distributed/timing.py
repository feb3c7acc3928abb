"""What a job measures of itself while it works: of this, ``jobs/plan.py`` makes plans. No Ray here.

    receipts of parts ──> Timeline ──> Timing ──> run.json, "timing"

Begins and ends are by the clock of one worker's node and only compared with that worker's own.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidray.errors import UserError

# Videos whose seconds differ by less than this factor are counted together: a night of a hundred
# million videos then takes some 200 numbers, and the sum of all seconds stays exact.
_STEP = 2 ** (1 / 8)
_LEAST_SECONDS = 1e-6
# Begins of workers that run.json names, evenly chosen where there are more.
_MOST_STARTS = 64
# What is read back is input: from a microsecond to the longest timeout there are 350 steps.
_MOST_SECONDS, _MOST_VIDEOS = 1e9, 10**12
_MOST_GROUPS, _MOST_PROCESSES = 1000, 100_000


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where the seconds of workers went, start-up apart.

    Attributes:
        nodes: of the cluster.
        cpus: of all nodes.
        gpus: of all nodes.
        workers: that the job was allowed at once.
        worker_bytes: memory that each was given.
        predictors: beside the workers; 0 where workers held the network.
        gpus_each: of a predictor.
        video_bytes: sizes of the videos as listed, together.
        video_seconds: (mean seconds, number) of videos that took about as long, the fastest first;
            from the request to the row, questions to predictors included.
        cpu_wait_seconds: of all these, workers were ready and had no CPU: other work held it.
        parts: written.
        part_seconds: of the workers between videos, together: writing parts and beginning the next.
        blocks: Ray tasks.
        block_gaps: times that a worker waited for its next block.
        block_gap_seconds: of these waits, together.
        worker_starts_seconds: when each worker began its first video, after the first one did.
        predictor_seconds: that predictors had a question in hand, together; None: not known.
    """

    nodes: int
    cpus: float
    gpus: float
    workers: int
    worker_bytes: int
    predictors: int
    gpus_each: float
    video_bytes: int
    video_seconds: tuple[tuple[float, ...], ...]
    cpu_wait_seconds: float
    parts: int
    part_seconds: float
    blocks: int
    block_gaps: int
    block_gap_seconds: float
    worker_starts_seconds: tuple[float, ...]
    predictor_seconds: float | None

    def __post_init__(self) -> None:
        numbers = (
            self.cpus, self.gpus, self.gpus_each, self.predictors, self.video_bytes,
            self.part_seconds, self.cpu_wait_seconds, self.block_gaps, self.block_gap_seconds,
            self.predictor_seconds or 0.0,
            *self.worker_starts_seconds, *(n for pair in self.video_seconds for n in pair),
        )  # fmt: skip
        if any(number < 0 for number in numbers):
            raise UserError("a time or a number is below 0")
        if min(self.nodes, self.workers, self.parts, self.blocks, self.worker_bytes) < 1:
            raise UserError("nodes, workers, worker_bytes, parts and blocks must be 1 or more")
        if max(self.nodes, self.workers, self.predictors) > _MOST_PROCESSES:
            raise UserError(f"nodes, workers and predictors must be {_MOST_PROCESSES} at the most")
        pairs = self.video_seconds
        if not 1 <= len(pairs) <= _MOST_GROUPS or any(len(pair) != 2 for pair in pairs):
            raise UserError(f"video_seconds must be 1 to {_MOST_GROUPS} pairs")
        if any(number < 1 or number % 1 for _, number in pairs):
            raise UserError("video_seconds must be pairs of seconds and a whole number of videos")
        if any(seconds > _MOST_SECONDS or number > _MOST_VIDEOS for seconds, number in pairs):
            raise UserError("video_seconds has more seconds or videos than there can be")
        if not 1 <= len(self.worker_starts_seconds) <= _MOST_STARTS:
            raise UserError(f"worker_starts_seconds must be 1 to {_MOST_STARTS} numbers")

    @property
    def videos(self) -> int:
        """The number of videos that were timed."""
        return int(sum(number for _, number in self.video_seconds))

    @property
    def seconds_per_video(self) -> float:
        """The mean of a worker's seconds with one video."""
        return sum(seconds * number for seconds, number in self.video_seconds) / self.videos


class Timeline:
    """Adds receipts up, of any number of parts, in memory that does not grow with the videos."""

    def __init__(self) -> None:
        self._number: Counter[int] = Counter()  # step -> videos
        self._seconds: Counter[int] = Counter()  # step -> their seconds
        self._first: dict[str, float] = {}  # worker -> when it began
        self._last: dict[str, tuple[float, int]] = {}  # worker -> when it ended which block
        self._blocks: set[int] = set()
        self._sums: defaultdict[str, float] = defaultdict(float)

    def add(self, receipt: Mapping[str, Any]) -> None:
        """A receipt of ``worker.make_parts``; one of a part that was there already says nothing."""
        if not receipt["video_seconds"]:
            return
        for seconds in receipt["video_seconds"]:
            step = math.floor(math.log(max(seconds, _LEAST_SECONDS), _STEP))
            self._number[step] += 1
            self._seconds[step] += seconds
        worker, block = receipt["worker"], receipt["block"]
        began, ended = receipt["began_at"], receipt["ended_at"]
        self._sums["parts"] += 1
        # Threads of one child may wait at once.
        self._sums["wait"] += min(receipt["cpu_wait"], sum(receipt["video_seconds"]))
        self._sums["part"] += max(0.0, ended - began - sum(receipt["video_seconds"]))
        if worker in self._last:
            before, of_block = self._last[worker]
            gap = max(0.0, began - before)
            self._sums["part" if of_block == block else "gap"] += gap
            self._sums["gaps"] += of_block != block
        self._first.setdefault(worker, began)
        self._last[worker] = (ended, block)
        self._blocks.add(block)

    def timing(self, **held: Any) -> Timing | None:
        """All of it; ``held`` is the rest of a ``Timing``. None where nothing was timed."""
        if not self._number:
            return None
        begins = sorted(self._first.values())
        starts = [begin - begins[0] for begin in begins]
        chosen = range(0, len(starts), math.ceil(len(starts) / _MOST_STARTS))
        return Timing(
            video_seconds=tuple(
                (self._seconds[step] / number, number)
                for step, number in sorted(self._number.items())
            ),
            cpu_wait_seconds=self._sums["wait"],
            parts=round(self._sums["parts"]),
            part_seconds=self._sums["part"],
            blocks=len(self._blocks),
            block_gaps=round(self._sums["gaps"]),
            block_gap_seconds=self._sums["gap"],
            worker_starts_seconds=tuple(starts[k] for k in chosen),
            **held,
        )
