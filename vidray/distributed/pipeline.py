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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
import ray.exceptions

from vidray import endings
from vidray.distributed.capacity import (
    MOST_STARTING_SECONDS,
    Predictors,
    Resources,
    check_cluster,
    connect,
    workers_at_once,
    workers_that_fit,
)
from vidray.distributed.sandbox import Ask, Sandbox, find
from vidray.errors import JobError, UserError, VideoError
from vidray.progress import Meter
from vidray.storage import addresses
from vidray.tables import rows, runs
from vidray.tables.runs import Run

# Ray Data looks for finished tasks every 100 ms and leaves a worker idle for 160 ms after each, so
# tasks of some seconds; the last ones are shorter, or workers would wait for one another.
_VIDEOS_PER_BLOCK = 64
_LAST_BLOCKS_PER_WORKER = 4
_MOST_BLOCKS = 4000  # Each costs the driver about 10 ms.
_RAY_DATA_ACTORS = ("_dataset_stats_actor", "AutoscalingCoordinator", "AutoscalingRequester")
_MOST_WARMING_SECONDS = 30
# That one predictor has in hand; each is of one worker, so more would be idle threads.
_MOST_QUESTIONS = 128


class TableSettings(Protocol):
    """What a table is made with: a dataclass of values that JSON can hold."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    TARGET: ClassVar[str]
    """``module:function``, the work of a sandbox."""

    @property
    def digest(self) -> str:
        """Changes when a row may."""

    @property
    def schema(self) -> pa.Schema:
        """Of the rows."""


@dataclass(frozen=True)
class Work:
    """What a worker must know of the settings.

    Not these themselves: with their modules it would load what only its sandbox needs, PyTorch
    among it (2 s).
    """

    target: str
    config: dict[str, Any]
    schema: pa.Schema
    digest: str
    predictors: tuple[Any, ...] = ()
    """``Predict`` actors, which the sandbox asks what a network says; none: it has its own."""

    @classmethod
    def of(cls, settings: TableSettings) -> Work:
        """The work that ``settings`` ask for."""
        return cls(settings.TARGET, dataclasses.asdict(settings), settings.schema, settings.digest)


class RunGoneError(Exception):
    """The folder of the run is not there any more."""


def start_ray(settings: TableSettings, resources: Resources) -> Work:
    """Join or start a cluster, start predictors, warm workers up: returns the work they can do.

    Raises:
        UserError: the cluster cannot hold them.
    """
    connect()
    # Of its errors the job tells, in one line.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    check_cluster(resources)
    work = Work.of(settings)
    if resources.predictors:
        predictors = _start_predictors(work.config, resources, resources.predictors)
        work = dataclasses.replace(work, predictors=tuple(predictors))
    _warm_up(work, resources)
    return work


def _start_predictors(
    config: dict[str, Any], resources: Resources, wanted: Predictors
) -> list[Any]:
    """Actors that have loaded their network."""
    start = ray.remote(Predict).options(
        num_cpus=wanted.cpus_each,
        num_gpus=wanted.gpus_each,
        memory=0 if wanted.gpus_each else resources.memory_bytes,
        max_concurrency=_MOST_QUESTIONS,
        max_restarts=-1,
        max_task_retries=-1,
    )
    predictors: list[Any] = [start.remote(wanted.target, config) for _ in range(wanted.number)]
    ready: list[Any] = [predictor.__ray_ready__.remote() for predictor in predictors]
    done, _ = ray.wait(ready, num_returns=len(ready), timeout=MOST_STARTING_SECONDS)
    if len(done) < len(ready):
        raise UserError(
            f"{len(ready) - len(done)} of {len(ready)} predictors have not started within "
            f"{MOST_STARTING_SECONDS} seconds: other jobs hold the GPUs or CPUs, so start the job "
            "again when these are done, or lower --predictors; a transformer may take longer to "
            "compile, so leave --compile out"
        )
    try:
        ray.get(ready)
    except ray.exceptions.RayActorError as error:
        raise _cannot_start(error) from error
    return predictors


def _cannot_start(error: ray.exceptions.RayActorError) -> UserError:
    reason = [line for line in str(error).splitlines() if line.strip()][-1]
    # Without the name of its class, which is nothing to a person.
    return UserError(f"a predictor cannot start: {reason.strip().split('Error: ', 1)[-1]}")


class Predict:
    """An actor: holds a network and says what it sees in the clips of many workers."""

    def __init__(self, target: str, config: dict[str, Any]) -> None:
        self._answer: Ask = find(target)(config)

    def answer(self, question: pa.RecordBatch) -> pa.RecordBatch:
        """See ``labeller.question``."""
        return self._answer(question)


def _ask(predictors: Sequence[Any]) -> Ask | None:
    """Asks one after the other; each process begins with another one."""
    if not predictors:
        return None
    turns = itertools.count(os.getpid())

    def ask(question: pa.RecordBatch) -> pa.RecordBatch:
        predictor = predictors[next(turns) % len(predictors)]
        # Not ray.get: while a task waits in it, Ray gives its CPU to one more task.
        try:
            answer: pa.RecordBatch = predictor.answer.remote(question).future().result()
        except ray.exceptions.RayActorError as error:
            # It is started again whenever it dies, unless it refuses: the model has changed.
            raise _cannot_start(error) from error
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):  # A fault of the model's: a person's to mend.
                raise UserError(str(error.cause)) from None
            raise
        return answer

    return ask


def _warm_up(work: Work, resources: Resources) -> None:
    """Start workers, sandboxes and Ray Data, so that what cannot start fails here, at once."""
    start = ray.remote(start_worker).options(
        num_cpus=1, memory=resources.memory_bytes, scheduling_strategy="SPREAD"
    )
    try:
        ray.get([start.remote(work, resources) for _ in range(workers_at_once(resources))])
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
    for _ in _run([pa.table({"nothing": [0]})], _same, resources):
        pass
    # Ray Data's own actors start for seconds too, and would do so beside the first videos.
    named = ray.util.list_named_actors(all_namespaces=True)
    actors = [ray.get_actor(**name) for name in named if name["namespace"] in _RAY_DATA_ACTORS]
    ready: list[Any] = [actor.__ray_ready__.remote() for actor in actors]
    if ready:
        ray.wait(ready, num_returns=len(ready), timeout=_MOST_WARMING_SECONDS)


def _run(
    blocks: list[pa.Table], work: Callable[[pa.Table], pa.Table], resources: Resources
) -> Iterator[pa.Table]:
    """One task per block on as many workers as allowed; results as they come."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # Ray ends a job in which no block ends for 30 minutes; here each video has its own timeout.
    context.execution_no_progress_timeout_s = -1
    # Ray Data divides CPUs among the datasets of a cluster in whole numbers: with 2 CPUs and 3 jobs
    # each gets 0 and waits for ever. Ray's own scheduler shares them out as they become free.
    context.op_resource_reservation_enabled = False
    # A cap makes Ray Data hold tasks back, and a worker waits 0.2 s for each; without one they
    # queue where the workers are.
    # But one that takes the CPU of a predictor that died keeps it from coming back.
    workers, on_cpus = (
        workers_at_once(resources),
        resources.predictors and resources.predictors.cpus_each,
    )
    cap = None if workers == workers_that_fit(resources) and not on_cpus else workers
    results = ray.data.from_arrow(blocks).map_batches(
        work,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
        memory=resources.memory_bytes,
        compute=ray.data.TaskPoolStrategy(size=cap),
    )
    return iter(results.iter_batches(batch_size=None, batch_format="pyarrow"))


def start_worker(work: Work, resources: Resources) -> None:
    """Runs in a Ray worker: what takes seconds once. This module's imports are half of it."""
    _sandbox(work, resources).start()


def _same(block: pa.Table) -> pa.Table:
    return block


def make_run(
    run: Run,
    listing: Callable[[], pa.Table],
    settings: TableSettings,
    resources: Resources,
    config: dict[str, Any],
    *,
    verb: str,
    overwrite: bool = False,
) -> dict[str, Any]:
    """A run folder from start to end, or to the end of one that was killed; its report.

    A finished run asked for again has nothing to do.

    Args:
        listing: gives VIDEOS; asked at most once.
        config: what run.json shows of the job's settings.
        verb: what the progress line calls it, such as ``extract``.

    Raises:
        UserError: the folder holds something else, or the source has changed since it was finished.
    """
    listing = cache(listing)
    if overwrite:
        listing()  # Nothing goes for a wrong source.
        run.overwrite()
    run.check_settings(config)
    if not run.is_finished():
        return _make_table(run, listing, settings, resources, config, verb)
    run.refuse_changes(listing())
    report = run.read_report()
    print(f"nothing to do: {run.out} is finished, with all {report['counts']['videos']} videos")
    return report


def _make_table(
    run: Run,
    listing: Callable[[], pa.Table],
    settings: TableSettings,
    resources: Resources,
    config: dict[str, Any],
    verb: str,
) -> dict[str, Any]:
    """Make what is not made yet of ``run``'s table, check it, publish it; returns the report."""
    began = time.monotonic()
    videos = run.videos_to_do(config, listing)
    listing_seconds = time.monotonic() - began
    report = make_all_parts(run, videos, settings, resources, verb, listing)
    report["seconds"]["listing"] = round(listing_seconds, 3)
    run.publish(config, report)
    return report


def make_all_parts(
    run: Run,
    videos: pa.Table,
    settings: TableSettings,
    resources: Resources,
    verb: str,
    listing: Callable[[], object],
) -> dict[str, Any]:
    """Make the parts of ``run`` that are not there yet, check that all are; returns the report.

    Args:
        videos: the frozen plan of the run: VIDEOS, or what its settings make rows of.
        listing: lists the source again, for signed addresses that this process does not know.

    Raises:
        RunGoneError: the run was finished and removed by a process beside this one.
    """
    videos = videos.append_column("part", run.part_numbers(videos))
    done = set(run.done_parts())
    todo = videos.filter([part not in done for part in videos["part"].to_pylist()])
    todo = _with_addresses(todo, listing)
    began = time.monotonic()
    work = start_ray(settings, resources) if len(todo) else Work.of(settings)
    startup_seconds = time.monotonic() - began
    stages: Counter[str] = Counter()
    working = time.monotonic()
    with Meter(verb, total=len(videos), done=len(videos) - len(todo)) as meter:
        for receipt in _work_off(todo, run, work, resources) if len(todo) else ():
            stages.update(receipt["seconds"])
            meter.add(done=receipt["videos"], failed=receipt["failed"])
    worked_seconds = time.monotonic() - working
    if not run.is_there():
        raise RunGoneError(run.out)

    return {
        "counts": run.check(videos),
        "seconds": {
            "startup": round(startup_seconds, 3),
            "working": round(worked_seconds, 3),
            "in_workers": {name: round(seconds, 3) for name, seconds in sorted(stages.items())},
        },
        "videos_done_before": len(videos) - len(todo),
        "videos_per_second": round(len(todo) / worked_seconds, 3) if len(todo) else None,
        "cost_per_thousand_videos": _cost(len(todo), worked_seconds, resources),
    }


def _with_addresses(videos: pa.Table, listing: Callable[[], object]) -> pa.Table:
    """The same with ``address``, what is fetched for a URI of which only a part may be stored.

    Workers get it with the video. No file of ours holds it, so a run that goes on lists again.
    """
    on_web = pc.starts_with(videos["uri"], pattern="http")
    if not pc.any(on_web).as_py():
        return videos
    uris = videos["uri"].to_pylist()
    if not all(map(addresses.signed, videos["uri"].filter(on_web).to_pylist())):
        listing()
    found = pa.array(map(addresses.signed, uris), pa.string())
    return videos.append_column("address", found)


def _cost(videos: int, seconds: float, resources: Resources) -> dict[str, float] | None:
    """CPU- and GPU-seconds that the job held, start-up apart."""
    if not videos:
        return None
    cpus, gpus = float(workers_at_once(resources)), 0.0
    if resources.predictors:
        cpus += resources.predictors.number * resources.predictors.cpus_each
        gpus = resources.predictors.number * resources.predictors.gpus_each
    thousands = videos / 1000
    return {
        "cpu_seconds": round(cpus * seconds / thousands, 1),
        "gpu_seconds": round(gpus * seconds / thousands, 1),
    }


def _work_off(
    videos: pa.Table, run: Run, work: Work, resources: Resources
) -> Iterator[dict[str, Any]]:
    """Make ``videos`` (VIDEOS plus ``part``) into staged parts of ``run``; yields receipts.

    A receipt: ``part``, ``videos``, ``failed``, ``seconds`` (in the sandbox, by stage). Parts come
    in the order they are finished. Needs ``start_ray`` before.

    Raises:
        UserError: work that was begun cannot go on; the model has changed.
        JobError: a worker cannot go on; the disk is full.
    """
    blocks = _blocks(videos, resources)
    task = partial(make_parts, run=run, work=work, resources=resources)
    for receipts in _run(blocks, task, resources):
        for row in receipts.to_pylist():
            if row["refusal"]:
                raise UserError(row["refusal"])
            if row["failure"]:
                raise JobError(row["failure"])
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
        cuts = _cuts(len(parts), max(1, _VIDEOS_PER_BLOCK // per_part), workers_at_once(resources))
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


def make_parts(block: pa.Table, run: Run, work: Work, resources: Resources) -> pa.Table:
    """Runs in a Ray worker: parts of the table are written, their receipts come back.

    A part that is there (the task is a retry) is not done again.
    """
    receipts: list[dict[str, Any]] = []
    try:
        for part in block["part"].unique().to_pylist():
            receipt = _make_and_write(part, block, run, work, resources)
            if receipt is None:
                break  # Others have finished it, and what is made now would be of no use.
            receipts.append(receipt)
    except (UserError, JobError, OSError) as error:
        # By value: what is raised comes through Ray Data as a text only.
        line, code = endings.told(error)
        receipts.append({"refusal": line} if code == 2 else {"failure": line})
    return pa.Table.from_pylist(receipts, schema=_RECEIPT)


def _make_and_write(
    part: int, block: pa.Table, run: Run, work: Work, resources: Resources
) -> dict[str, Any] | None:
    """The receipt of a part that is there now; None: the run is not there any more."""
    table, seconds = run.read_part(part), dict[str, float]()
    if table is None:
        if not run.is_there():
            return None
        videos = block.filter(pc.equal(block["part"], part)).drop_columns(["part"])
        ask = _ask(work.predictors)
        table, seconds = _make_part(videos, work, _sandbox(work, resources), ask)
        run.write_part(part, table)
    counts = runs.count(table)
    failed = counts["videos"] - counts["ok"]
    receipt = {"part": part, "videos": counts["videos"], "failed": failed}
    return {**receipt, "seconds": json.dumps(seconds)}


_RECEIPT = pa.schema(
    [
        ("part", pa.int32()),
        ("videos", pa.int32()),
        ("failed", pa.int32()),
        ("seconds", pa.string()),
        # What a person must mend, or what has failed; the other columns are null then.
        ("refusal", pa.string()),
        ("failure", pa.string()),
    ]
)


def _make_part(
    videos: pa.Table, work: Work, sandbox: Sandbox, ask: Ask | None
) -> tuple[pa.Table, dict[str, float]]:
    batches: list[pa.RecordBatch] = []
    seconds: Counter[str] = Counter()
    for video in videos.to_pylist():
        try:
            batch = sandbox.run(video, ask)
        except VideoError as error:
            batch = rows.failed(video, work.schema, work.digest, error)
        seconds.update(json.loads((batch.schema.metadata or {}).get(b"seconds", b"{}")))
        batches.append(batch.replace_schema_metadata(None))
    return pa.Table.from_batches(batches, schema=work.schema), dict(seconds)


_sandboxes: dict[str, Sandbox] = {}


def _sandbox(work: Work, resources: Resources) -> Sandbox:
    """One per Ray worker process, kept from task to task: its imports take about a second."""
    asks = bool(work.predictors)
    limits = [resources.memory_bytes, resources.timeout_seconds]
    key = json.dumps([work.target, work.config, asks, *limits])
    if key not in _sandboxes:
        for other in _sandboxes.values():
            other.close()
        _sandboxes.clear()
        _sandboxes[key] = Sandbox(
            work.target,
            work.config,
            memory_bytes=resources.memory_bytes,
            timeout_seconds=resources.timeout_seconds,
            asks=asks,
        )
    return _sandboxes[key]
