"""The Ray graph: VIDEOS in blocks -> one fused task per block -> parts of the table.

A task decodes and describes its videos in a sandbox (a child process) and writes finished parts to
the run folder itself, so frames and features never cross the object store and no video can take a
task down with it. What comes back through Ray is one small receipt per part.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from vidray.errors import UserError, VideoError
from vidray.extraction import Settings, failed_row
from vidray.runs import Run
from vidray.sandbox import Sandbox

# Ray Data looks for finished tasks every 100 ms and leaves a worker idle for 160 ms after each, so
# tasks of some seconds; the last ones are shorter, or workers would wait for one another.
_VIDEOS_PER_BLOCK = 64
_LAST_BLOCKS_PER_WORKER = 2
_MOST_BLOCKS = 4000  # Each costs the driver about 10 ms.
_RAY_DATA_ACTORS = ("_dataset_stats_actor", "AutoscalingCoordinator", "AutoscalingRequester")
_MOST_WARMING_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What each of the job's workers may use.

    Args:
        workers: tasks at once; None takes every CPU of the cluster.
        memory_bytes: of one worker; a video that needs more fails as too_large.
        timeout_seconds: for one video.
        num_blocks: tasks in all; None lets vidray choose. The result does not depend on it.
    """

    workers: int | None = None
    memory_bytes: int = 2 << 30
    timeout_seconds: float = 600.0
    num_blocks: int | None = None

    def __post_init__(self) -> None:
        least = {"workers": 1, "memory_bytes": 512 << 20, "timeout_seconds": 0.001, "num_blocks": 1}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and given < value:
                raise UserError(f"{name} is {given}: it must be {value} or more")


def start_ray(settings: Settings, resources: Resources) -> float:
    """Join the cluster of RAY_ADDRESS or start one here, and warm workers up; returns the seconds.

    Raises:
        UserError: no node can hold one worker.
    """
    began = time.monotonic()
    if not ray.is_initialized():
        # Nothing is reported to anybody, and no code is shipped: nodes have vidray installed.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            # Not Ray's own default, which joins whatever cluster last ran here, dead ones too.
            address=os.environ.get("RAY_ADDRESS") or "local",
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    nodes = _nodes_with_cpus()
    largest = max((memory_bytes for _, memory_bytes in nodes), default=0)
    if largest < resources.memory_bytes:
        raise UserError(
            f"a worker needs {resources.memory_bytes / 2**30:.1f} GiB and the largest node offers "
            f"{largest / 2**30:.1f} GiB: lower --memory-gib or use larger nodes"
        )
    _warm_up(settings, resources)
    return time.monotonic() - began


def _warm_up(settings: Settings, resources: Resources) -> None:
    """Start workers, sandboxes and Ray Data, so that what cannot start fails here, at once."""
    start = ray.remote(start_worker).options(
        num_cpus=1, memory=resources.memory_bytes, scheduling_strategy="SPREAD"
    )
    ray.get([start.remote(settings, resources) for _ in range(_workers(resources))])
    for _ in _run([pa.table({"nothing": [0]})], _same, resources):
        pass
    # Ray Data's own actors start for seconds too, and would do so beside the first videos.
    named = ray.util.list_named_actors(all_namespaces=True)
    actors = [ray.get_actor(**name) for name in named if name["namespace"] in _RAY_DATA_ACTORS]
    ready: list[Any] = [actor.__ray_ready__.remote() for actor in actors]
    if ready:
        ray.wait(ready, num_returns=len(ready), timeout=_MOST_WARMING_SECONDS)


def _nodes_with_cpus() -> list[tuple[int, int]]:
    """(CPUs, memory in bytes) of each node that can run a task at all."""
    sizes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(s["CPU"]), int(s.get("memory", 0))) for s in sizes if s.get("CPU", 0) >= 1]


def _workers(resources: Resources) -> int:
    """How many tasks fit on the cluster at once, at most as many as asked for."""
    fit = sum(min(cpus, memory // resources.memory_bytes) for cpus, memory in _nodes_with_cpus())
    return max(1, min(resources.workers or fit, fit))


def _run(
    blocks: list[pa.Table], work: Callable[[pa.Table], Iterator[pa.Table]], resources: Resources
) -> Iterator[pa.Table]:
    """One task per block on as many workers as allowed; results as they come."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # Ray ends a job in which no block ends for 30 minutes; here each video has its own timeout.
    context.execution_no_progress_timeout_s = -1
    context.target_max_block_size = 1  # Each receipt comes at once, not with its block's last.
    results = ray.data.from_arrow(blocks).map_batches(
        work,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
        memory=resources.memory_bytes,
        compute=ray.data.TaskPoolStrategy(size=resources.workers),
    )
    return iter(results.iter_batches(batch_size=None, batch_format="pyarrow"))


def start_worker(settings: Settings, resources: Resources) -> None:
    """Runs in a Ray worker: what takes seconds once. This module's imports are half of it."""
    _sandbox(settings, resources).start()


def _same(block: pa.Table) -> Iterator[pa.Table]:
    yield block


def extract(
    videos: pa.Table, run: Run, settings: Settings, resources: Resources
) -> Iterator[dict[str, Any]]:
    """Describe ``videos`` (VIDEOS plus ``part``) into staged parts of ``run``; yields receipts.

    A receipt: ``part``, ``videos``, ``failed``, ``seconds`` (in the sandbox, by stage). Parts come
    in the order they are finished. Needs ``start_ray`` before.
    """
    blocks = _blocks(videos, resources)
    work = partial(extract_block, run=run, settings=settings, resources=resources)
    for receipts in _run(blocks, work, resources):
        for row in receipts.to_pylist():
            yield {**row, "seconds": json.loads(row["seconds"])}


def _blocks(videos: pa.Table, resources: Resources) -> list[pa.Table]:
    """Whole parts, dealt out in rows: a manifest as one block would be one task."""
    parts = videos["part"].unique().to_pylist()
    starts = [videos["part"].index(part).as_py() for part in parts] + [len(videos)]
    if resources.num_blocks:
        number = min(resources.num_blocks, len(parts))
        cuts = [len(parts) * k // number for k in range(number + 1)]
    else:
        per_part = math.ceil(len(videos) / len(parts))
        cuts = _cuts(len(parts), max(1, _VIDEOS_PER_BLOCK // per_part), _workers(resources))
    return [
        videos.slice(starts[begin], starts[end] - starts[begin])
        for begin, end in itertools.pairwise(cuts)
    ]


def _cuts(parts: int, most: int, workers: int) -> list[int]:
    """Where blocks begin and end: of ``most`` parts, then ever fewer, as work runs out."""
    most = max(most, math.ceil(parts / _MOST_BLOCKS))
    cuts = [0]
    while cuts[-1] < parts:
        left = parts - cuts[-1]
        cuts.append(cuts[-1] + min(most, max(1, left // (_LAST_BLOCKS_PER_WORKER * workers))))
    return cuts


def extract_block(
    block: pa.Table, run: Run, settings: Settings, resources: Resources
) -> Iterator[pa.Table]:
    """Runs in a Ray worker: parts of the table are written, their receipts come back.

    A part that is there (the task is a retry) is not done again.
    """
    sandbox = _sandbox(settings, resources)
    for part in block["part"].unique().to_pylist():
        table, seconds = run.read_part(part), dict[str, float]()
        if table is None:
            rows = block.filter(pc.equal(block["part"], part)).drop_columns(["part"])
            table, seconds = _describe_part(rows, settings, sandbox)
            run.write_part(part, table)
        failed = sum(status != "ok" for status in table["status"].to_pylist())
        receipt = {"part": part, "videos": len(table), "failed": failed}
        yield pa.Table.from_pylist([{**receipt, "seconds": json.dumps(seconds)}], schema=_RECEIPT)


_RECEIPT = pa.schema(
    [("part", pa.int32()), ("videos", pa.int32()), ("failed", pa.int32()), ("seconds", pa.string())]
)


def _describe_part(
    rows: pa.Table, settings: Settings, sandbox: Sandbox
) -> tuple[pa.Table, dict[str, float]]:
    batches: list[pa.RecordBatch] = []
    seconds: Counter[str] = Counter()
    for video in rows.to_pylist():
        try:
            batch = sandbox.run(video)
        except VideoError as error:
            batch = failed_row(video, settings, error)
        seconds.update(json.loads((batch.schema.metadata or {}).get(b"seconds", b"{}")))
        batches.append(batch.replace_schema_metadata(None))
    return pa.Table.from_batches(batches, schema=settings.schema), dict(seconds)


_sandboxes: dict[str, Sandbox] = {}


def _sandbox(settings: Settings, resources: Resources) -> Sandbox:
    """One per Ray worker process, kept from task to task: its imports take about a second."""
    config: Mapping[str, Any] = dataclasses.asdict(settings)
    key = json.dumps([config, resources.memory_bytes, resources.timeout_seconds])
    if key not in _sandboxes:
        for other in _sandboxes.values():
            other.close()
        _sandboxes.clear()
        _sandboxes[key] = Sandbox(
            "vidray.extraction:describe_videos",
            dict(config),
            memory_bytes=resources.memory_bytes,
            timeout_seconds=resources.timeout_seconds,
        )
    return _sandboxes[key]
