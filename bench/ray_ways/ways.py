"""The ways that ``bench/ray_use.py`` compares: each yields receipts of the parts it has written."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from vidray import sources
from vidray.distributed import dealing, pipeline, predictors, worker
from vidray.distributed.resources import Predictors, Resources
from vidray.distributed.sandbox import Sandbox
from vidray.distributed.worker import Work
from vidray.features.extraction import Settings
from vidray.labelling import wire
from vidray.labelling.settings import LabelSettings, name_and_digest
from vidray.tables import runs

Way = Literal[
    "vidray", "warmed", "overlapped", "tasks", "capped", "actors", "stream", "remote", "pool"
]
Set = Literal["small", "large"]
WorkName = Literal["extract", "label", "predictor"]
Receipts = Iterator[pa.Table]

_MEMORY_GIB = 2.0
_RAY_DATA_ACTORS = ("_dataset_stats_actor", "AutoscalingCoordinator", "AutoscalingRequester")


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work of a way: ``blocks`` of VIDEOS with ``part``, into parts of ``run``."""

    folder: str
    blocks: list[pa.Table]
    run: runs.Run
    work: Work
    resources: Resources
    settings: Any


def make_job(videos: Set, work: WorkName, folder: str) -> Job:
    """Lists the videos of a folder, starts a run folder beside them, deals out blocks."""
    out = f"{folder}/out"
    shutil.rmtree(out, ignore_errors=True)
    Path(out, "begun").mkdir(parents=True)
    listed = sources.list_videos(f"{folder}/{videos}")
    settings: Any = Settings(families=("color", "temporal"))
    if work != "extract":
        model = f"{folder}/model"
        settings = LabelSettings(model=model, model_digest=name_and_digest(model)[1])
        listed = listed.append_column("true_label", listed["label"]).drop_columns(["label"])
        listed = listed.append_column("attempts", pa.array([1] * len(listed), pa.int32()))
    run = runs.Run(
        out=f"{out}/run",
        table="features" if work == "extract" else "labels",
        videos=videos,
        digest=settings.digest,
    )
    plan = run.videos_to_do({}, lambda: listed)
    plan = plan.append_column("part", run.part_numbers(plan))
    wanted = None
    if work == "predictor":
        wanted = Predictors(target=LabelSettings.PREDICTOR, number=1, gpus_each=0)
    resources = Resources(memory_gib=_MEMORY_GIB, predictors=wanted)
    workers = (os.cpu_count() or 1) - (wanted is not None)
    return Job(
        folder=out,
        blocks=_blocks(plan, workers),
        run=run,
        work=Work.of(settings),
        resources=dataclasses.replace(resources, workers=workers),
        settings=settings,
    )


def _blocks(plan: pa.Table, workers: int) -> list[pa.Table]:
    """The blocks that a job makes of its plan."""
    parts = plan["part"].unique().to_pylist()
    per_part = -(-len(plan) // len(parts))
    cuts = dealing.cuts(len(parts), per_part, workers)
    first = [plan["part"].index(part).as_py() for part in parts] + [len(plan)]
    return [plan.slice(first[a], first[b] - first[a]) for a, b in itertools.pairwise(cuts)]


def _make_parts(block: pa.Table, job: Job) -> pa.Table:
    """Make parts in a worker, as every way but ``stream`` does."""
    worker.started_sandbox(job.work, job.resources)
    _note_begin(job.folder)
    return worker.make_parts(block, run=job.run, work=job.work, resources=job.resources)


def _note_begin(folder: str) -> None:
    """Note when this process began its first video."""
    try:
        with Path(folder, "begun", str(os.getpid())).open("x") as note:
            note.write(str(time.time()))
    except FileExistsError:
        pass


def _with_predictors(job: Job) -> Job:
    """The same with predictors that have started."""
    if not job.resources.predictors:
        return job
    config, resources = job.work.config, job.resources
    started = predictors.start(config, resources, job.resources.predictors)
    return dataclasses.replace(job, work=dataclasses.replace(job.work, predictors=tuple(started)))


def _bare(job: Job) -> Job:
    """The job without its blocks, which a task does not need."""
    return dataclasses.replace(job, blocks=[])


def _dataset(job: Job, blocks: list[pa.Table], work: Any, compute: Any) -> Receipts:
    results = ray.data.from_arrow(blocks).map_batches(
        work,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
        memory=job.resources.memory_bytes,
        compute=compute,
    )
    return iter(results.iter_batches(batch_size=None, batch_format="pyarrow"))


def _reservation_off() -> None:
    context = ray.data.DataContext.get_current()
    context.execution_no_progress_timeout_s = -1
    context.op_resource_reservation_enabled = False


def _start_worker(job: Job) -> None:
    worker.started_sandbox(job.work, job.resources)


def _start_workers(job: Job) -> list[Any]:
    start = ray.remote(_start_worker).options(
        num_cpus=1, memory=job.resources.memory_bytes, scheduling_strategy="SPREAD"
    )
    return [start.remote(_bare(job)) for _ in range(job.resources.workers or 1)]


def _vidray(job: Job) -> Receipts:
    job = _with_predictors(job)
    return pipeline._run(job.blocks, partial(_make_parts, job=_bare(job)), job.resources)


def _warmed(job: Job) -> Receipts:
    job = _with_predictors(job)
    _reservation_off()
    ray.get(_start_workers(job))
    list(_dataset(job, [pa.table({"nothing": [0]})], lambda block: block, _tasks_of(job)))
    named = ray.util.list_named_actors(all_namespaces=True)
    actors = [ray.get_actor(**name) for name in named if name["namespace"] in _RAY_DATA_ACTORS]
    ray.wait([actor.__ray_ready__.remote() for actor in actors], num_returns=len(actors))
    work = partial(_make_parts, job=_bare(job))
    return _dataset(job, job.blocks, work, _tasks_of(job))


def _tasks_of(job: Job) -> Any:
    cap = job.resources.workers if job.resources.predictors else None
    return ray.data.TaskPoolStrategy(size=cap)


def _overlapped(job: Job) -> Receipts:
    job = _with_predictors(job)
    _reservation_off()
    started = _start_workers(job)
    yield from _dataset(job, job.blocks, partial(_make_parts, job=_bare(job)), _tasks_of(job))
    ray.get(started)


def _tasks(job: Job) -> Receipts:
    job = _with_predictors(job)
    work = partial(_make_parts, job=_bare(job))
    return _dataset(job, job.blocks, work, ray.data.TaskPoolStrategy())


def _capped(job: Job) -> Receipts:
    job = _with_predictors(job)
    compute = ray.data.TaskPoolStrategy(size=job.resources.workers)
    return _dataset(job, job.blocks, partial(_make_parts, job=_bare(job)), compute)


class MakeParts:
    """One of Ray Data's actors, with a sandbox."""

    def __init__(self, job: Job) -> None:
        self._job = job
        worker.started_sandbox(job.work, job.resources)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Receipts of the parts of a block."""
        return _make_parts(block, self._job)


def _actors(job: Job) -> Receipts:
    job = _with_predictors(job)
    results = ray.data.from_arrow(job.blocks).map_batches(
        MakeParts,
        fn_constructor_args=(_bare(job),),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
        memory=job.resources.memory_bytes,
        compute=ray.data.ActorPoolStrategy(size=job.resources.workers),
    )
    return iter(results.iter_batches(batch_size=None, batch_format="pyarrow"))


def _remote(job: Job) -> Receipts:
    job = _with_predictors(job)
    task = ray.remote(_make_parts).options(num_cpus=1, memory=job.resources.memory_bytes)
    shared = ray.put(_bare(job))
    left: list[Any] = [task.remote(block, shared) for block in job.blocks]
    while left:
        done, left = ray.wait(left)
        yield from ray.get(done)


def _pool(job: Job) -> Receipts:
    workers = job.resources.workers or 1
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_make_parts, b, _bare(job)) for b in job.blocks]):
            yield done.result()


# As Ray Data's guide has it


class MakeRows:
    """Rows of a part, by a sandbox: FEATURES, or the clips of each video."""

    def __init__(self, job: Job, target: str) -> None:
        self._job = job
        self._sandbox = Sandbox(
            target, job.work.config, memory_bytes=job.resources.memory_bytes, timeout_seconds=600
        )
        self._sandbox.start()

    def __call__(self, videos: pa.Table) -> pa.Table:
        """VIDEOS and ``part`` -> rows and ``part``."""
        _note_begin(self._job.folder)
        made = []
        for video in videos.to_pylist():
            part = video.pop("part")
            batch = self._sandbox.run(video).replace_schema_metadata(None)
            made.append(batch.append_column("part", pa.array([part] * len(batch), pa.int32())))
        return pa.Table.from_batches(made)


class Answer:
    """Holds the network: a row a clip -> a row a clip without pixels."""

    def __init__(self, config: dict[str, Any]) -> None:
        from vidray import models
        from vidray.labelling.torch_predictor import TorchPredictor, use_one_thread

        use_one_thread()
        model = models.load(config["model"])
        assert isinstance(model, models.DeepModel)
        self._clip = model.clip
        self._predict = TorchPredictor(model, LabelSettings.from_json(config))

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Adds ``probabilities``, drops ``pixels``."""
        batch = rows.select(["pixels"]).combine_chunks().to_batches()[0]
        answer = self._predict(wire.read_question(batch, self._clip))
        found = wire.write_answer(answer)["probabilities"]
        return rows.drop_columns(["pixels"]).append_column("probabilities", found)


def write_rows(rows: pa.Table, job: Job) -> pa.Table:
    """Stages the parts of rows, and says of how many videos they are."""
    for part in rows["part"].unique().to_pylist():
        own = rows.filter(pc.equal(rows["part"], part)).drop_columns(["part"])
        if "probabilities" in own.column_names:
            sums = np.stack(own["probabilities"].to_numpy())
            best = pa.array(sums.argmax(axis=1))
            own = own.append_column("best", best)
        job.run.write_part(part, own)
    return pa.table({"videos": [len(rows["video_id"].unique())]})


def _stream(job: Job) -> Receipts:
    whole = pa.concat_tables(job.blocks)
    parts = [whole.filter(pc.equal(whole["part"], part)) for part in whole["part"].unique()]
    given: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow"}
    target = "bench.ray_ways.cutting:cut_videos" if job.resources.predictors else job.work.target
    rows = ray.data.from_arrow(parts).map_batches(
        MakeRows,
        fn_constructor_args=(_bare(job), target),
        num_cpus=1,
        memory=job.resources.memory_bytes,
        compute=ray.data.ActorPoolStrategy(size=job.resources.workers),
        **given,
    )
    if job.resources.predictors:
        rows = rows.map_batches(
            Answer,
            fn_constructor_args=(job.work.config,),
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=1),
            **given,
        )
    # Without a CPU of its own, since actors hold all. Without a cap each part's task would have a
    # process of its own then.
    written = rows.map_batches(
        partial(write_rows, job=_bare(job)),
        num_cpus=0,
        compute=ray.data.TaskPoolStrategy(size=1),
        **given,
    )
    return iter(written.iter_batches(batch_size=None, batch_format="pyarrow"))


WAYS: dict[Way, Callable[[Job], Receipts]] = {
    "vidray": _vidray,
    "warmed": _warmed,
    "overlapped": _overlapped,
    "tasks": _tasks,
    "capped": _capped,
    "actors": _actors,
    "stream": _stream,
    "remote": _remote,
    "pool": _pool,
}
