"""What Ray costs a job, and what each way to use Ray Data costs: start, work, CPU-seconds.

    python bench/ray_use.py                          # a Ray of its own, on this machine
    python bench/ray_use.py --nodes 2                # joins a cluster of two raylets of one CPU
    python bench/ray_use.py --rounds 3 --sets small --works extract --ways tasks remote

Every way makes the same parts of the same run folder, each time in a fresh process, and the ways
take turns; the parts must have the same bytes. Printed are medians: seconds of ``ray.init``, from
there to the first video in work, from there to the last part; and of all together, the median of
the ratios to plain Ray (``remote``) in the same round. CPU-seconds count Ray's processes, too.

    today    Ray Data's tasks: reservation off, no cap, workers and Ray Data's actors warmed up
    proposed the same, but workers start while Ray Data does, and nothing else is warmed up
    tasks    Ray Data's tasks, nothing set
    capped   the same with a cap, TaskPoolStrategy(size=workers)
    actors   Ray Data's actors: ActorPoolStrategy(size=workers), a sandbox each
    stream   as Ray Data's guide has it: rows of a part at a time through actors that decode, those
             that hold the network (pixels cross the object store) and a writer of parts
    remote   ray.remote and ray.wait
    pool     processes without Ray
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.label import Bench as LabelBench
from bench.label import save_model
from tests.ray_cluster import Cluster, running
from tests.video_writer import write_video
from vidray import clips, labeller, pipeline, runs, sources, storage
from vidray.clips import ClipSettings
from vidray.decode import Video
from vidray.extraction import Settings
from vidray.labelling import LabelSettings, name_and_digest
from vidray.model_files import read_info
from vidray.pipeline import Predictors, Resources, Work
from vidray.sandbox import Sandbox

Way = Literal["today", "proposed", "tasks", "capped", "actors", "stream", "remote", "pool"]
Set = Literal["small", "large"]
WorkName = Literal["extract", "label", "predictor"]
WAYS: tuple[Way, ...] = (
    "today", "proposed", "tasks", "capped", "actors", "stream", "remote", "pool",
)  # fmt: skip
_MEMORY_BYTES = 2 << 30
_RAY_DATA_ACTORS = ("_dataset_stats_actor", "AutoscalingCoordinator", "AutoscalingRequester")
Receipts = Iterator[pa.Table]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Compare ways."""

    rounds: int = 3
    """How often each way runs; medians are printed."""
    ways: tuple[Way, ...] = WAYS
    """What to compare."""
    sets: tuple[Set, ...] = ("small", "large")
    """Many small videos (160x120, 1 s), few large ones (1280x720, 8 s)."""
    works: tuple[WorkName, ...] = ("extract", "predictor")
    """Features; labels by a network in each worker; labels by one predictor beside the workers."""
    small: int = 300
    """How many small videos."""
    large: int = 8
    """How many large videos."""
    nodes: int = 1
    """1: each job starts Ray. More: jobs join a cluster of so many raylets of one CPU."""
    one: tuple[Way, Set, WorkName, str] | None = None
    """Run this alone, in this process, on the videos and the model of a folder; its figures go to
    found.json there."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a way has to make: ``blocks`` of VIDEOS with ``part``, into parts of ``run``."""

    folder: str
    blocks: list[pa.Table]
    run: runs.Run
    work: Work
    resources: Resources
    settings: Any


def main(bench: Bench) -> None:
    """Run every way in turn and print medians."""
    if bench.one is not None:
        found = _measure(*bench.one)
        Path(bench.one[3], "found.json").write_text(json.dumps(found))
        return
    with tempfile.TemporaryDirectory(prefix="ray_use", dir="/tmp") as folder, ExitStack() as stack:
        _make(bench, Path(folder))
        cluster: Cluster | None = None
        if bench.nodes > 1:
            cluster = stack.enter_context(running(cpus=1))
            for _ in range(1, bench.nodes):
                cluster.add_node(cpus=1)
        for videos in bench.sets:
            for work in bench.works:
                _compare(bench, cluster, videos, work, folder)


def _make(bench: Bench, folder: Path) -> None:
    for name, number, frames, width, height in (
        ("small", bench.small, 25, 160, 120),
        ("large", bench.large, 200, 1280, 720),
    ):
        if name not in bench.sets:
            continue
        (folder / name).mkdir(parents=True)
        for k in range(number):
            path = folder / name / f"clip{k:04d}.avi"
            if k < 16:
                write_video(
                    path, num_frames=frames, codec="mpeg4", width_px=width, height_px=height,
                    first_number=k,
                )  # fmt: skip
            else:
                shutil.copyfile(path.with_name(f"clip{k % 16:04d}.avi"), path)
    # Small, so that what Ray costs is not hidden by the network.
    save_model(LabelBench(model="resnet18_avg", frames=8, size_px=64), str(folder / "model"))


def _compare(
    bench: Bench, cluster: Cluster | None, videos: Set, work: WorkName, folder: str
) -> None:
    ways = [way for way in bench.ways if way != "pool" or (work != "predictor" and not cluster)]
    found: dict[Way, list[dict[str, Any]]] = {way: [] for way in ways}
    for number in range(bench.rounds):
        # Each begins once where the others have not: a neighbour's load is nobody's in particular.
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            found[way].append(_in_fresh_process(way, videos, work, folder, cluster))
            told = {name: found[way][-1][name] for name in ("init", "first", "work", "cpu")}
            print(f"  {videos} {work} {way}: {told}", file=sys.stderr, flush=True)
    where = f"{bench.nodes} nodes of 1 CPU" if cluster else f"{os.cpu_count()} CPUs"
    print(f"\n{getattr(bench, videos)} {videos} videos, {work}, {where}: seconds")
    names = ("init", "first", "work", "all", "cpu")
    print(f"{'':9s}{''.join(f'{name:>8s}' for name in names)}  all/remote  work/remote")
    for way in ways:
        medians = [statistics.median(one[name] for one in found[way]) for name in names]
        row = "".join(f"{value:8.2f}" for value in medians)
        print(f"{way:9s}{row}{_ratio(found, way, 'all')}{_ratio(found, way, 'work')}", flush=True)
    digests = {one["digest"] for way, ones in found.items() for one in ones if way != "stream"}
    print(f"the parts have {len(digests)} version of bytes" if len(digests) == 1 else digests)


def _ratio(found: Mapping[Way, list[dict[str, Any]]], way: Way, name: str) -> str:
    if "remote" not in found:
        return ""
    ratios = [a[name] / b[name] for a, b in zip(found[way], found["remote"], strict=True)]
    return f"{statistics.median(ratios):12.2f}"


def _in_fresh_process(
    way: Way, videos: Set, work: WorkName, folder: str, cluster: Cluster | None
) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    if cluster:
        environment |= cluster.environment
    before = _cpu_seconds([node.pid for node in cluster.nodes]) if cluster else 0.0
    command = [sys.executable, __file__, "--one", way, videos, work, folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{way}: {done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(Path(folder, "found.json").read_text())
    if cluster:
        found["cpu"] += _cpu_seconds([node.pid for node in cluster.nodes]) - before
    return found


def _measure(way: Way, videos: Set, work: WorkName, folder: str) -> dict[str, Any]:
    """One way from nothing to the last part."""
    job = _job(videos, work, folder)
    cpu_before = _cpu_seconds([os.getpid()])
    began = time.time()
    if way != "pool":
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        pipeline.connect()
        ray.data.DataContext.get_current().enable_progress_bars = False
    connected = time.time()
    made = sum(sum(table["videos"].to_pylist()) for table in _WAYS[way](job))
    ended = time.time()
    cpu = _cpu_seconds([os.getpid()]) - cpu_before
    first = min(float(path.read_text()) for path in Path(job.folder, "begun").iterdir())
    if made != sum(map(len, job.blocks)):
        raise RuntimeError(f"{way} made {made} videos")
    digest = hashlib.sha256()
    for path in sorted(Path(job.run.out, "_staging").iterdir()):
        digest.update(path.read_bytes())
    return {
        "init": connected - began,
        "first": first - connected,
        "work": ended - first,
        "all": ended - began,
        "cpu": cpu,
        "digest": digest.hexdigest(),
    }


def _cpu_seconds(pids: list[int]) -> float:
    """Used by these processes and all below them that still run, and those they waited for."""
    total = 0.0
    for pid in pids:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            try:
                total += sum(process.cpu_times()[:4])
            except psutil.Error:
                continue
    return total


def _job(videos: Set, work: WorkName, folder: str) -> Job:
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
    predictors = None
    if work == "predictor":
        predictors = Predictors(target=LabelSettings.PREDICTOR, number=1, gpus_each=0)
    resources = Resources(memory_bytes=_MEMORY_BYTES, predictors=predictors)
    workers = (os.cpu_count() or 1) - (predictors is not None)
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
    cuts = pipeline._cuts(len(parts), max(1, pipeline._VIDEOS_PER_BLOCK // per_part), workers)
    first = [plan["part"].index(part).as_py() for part in parts] + [len(plan)]
    return [
        plan.slice(first[a], first[b] - first[a]) for a, b in zip(cuts, cuts[1:], strict=False)
    ]


def _make_parts(block: pa.Table, job: Job) -> pa.Table:
    """In a worker: what every way but ``stream`` does."""
    pipeline.start_worker(job.work, job.resources)
    _note_begin(job.folder)
    return pipeline.make_parts(block, run=job.run, work=job.work, resources=job.resources)


def _note_begin(folder: str) -> None:
    """When this process had its first video in work."""
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
    predictors = pipeline._start_predictors(config, resources, job.resources.predictors)
    return dataclasses.replace(
        job, work=dataclasses.replace(job.work, predictors=tuple(predictors))
    )


def _bare(job: Job) -> Job:
    """What a task needs; not the blocks of all."""
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


def _start_workers(job: Job) -> list[Any]:
    start = ray.remote(pipeline.start_worker).options(
        num_cpus=1, memory=job.resources.memory_bytes, scheduling_strategy="SPREAD"
    )
    return [start.remote(job.work, job.resources) for _ in range(job.resources.workers or 1)]


def _today(job: Job) -> Receipts:
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


def _proposed(job: Job) -> Receipts:
    job = _with_predictors(job)
    _reservation_off()
    started = _start_workers(job)
    yield from _dataset(
        job, job.blocks, partial(_make_parts, job=_bare(job)), _tasks_of(job)
    )
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
        pipeline.start_worker(job.work, job.resources)

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
            target, job.work.config, memory_bytes=_MEMORY_BYTES, timeout_seconds=600
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
        from vidray.predictor import Predictor, use_one_thread

        use_one_thread()
        model = models.load(config["model"])
        assert isinstance(model, models.DeepModel)
        self._clip = model.clip
        self._predict = Predictor(model, LabelSettings.from_json(config))

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Adds ``probabilities``, drops ``pixels``."""
        batch = rows.select(["pixels"]).combine_chunks().to_batches()[0]
        answer = self._predict(labeller.read_question(batch, self._clip))
        found = labeller.write_answer(answer)["probabilities"]
        return rows.drop_columns(["pixels"]).append_column("probabilities", found)


def cut_videos(config: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], pa.RecordBatch]:
    """The work of a sandbox: a video -> a row for each of its clips."""
    clip = ClipSettings.from_json(read_info(config["model"])["clip"])

    def cut(video: Mapping[str, Any]) -> pa.RecordBatch:
        with storage.opened(video["uri"], video["size_bytes"]) as source, Video(source) as opened:
            pixels, _, decoder = clips.read_clips(opened, source, clip)
        rows = labeller.question(pixels)
        rows = rows.append_column("video_id", pa.array([video["video_id"]] * len(rows)))
        return rows.append_column("decoder", pa.array([decoder] * len(rows)))

    return cut


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
    target = "bench.ray_use:cut_videos" if job.resources.predictors else job.work.target
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
    # Without a CPU of its own: all are held by the actors.
    written = rows.map_batches(partial(write_rows, job=_bare(job)), num_cpus=0, **given)
    return iter(written.iter_batches(batch_size=None, batch_format="pyarrow"))


_WAYS: dict[Way, Callable[[Job], Receipts]] = {
    "today": _today,
    "proposed": _proposed,
    "tasks": _tasks,
    "capped": _capped,
    "actors": _actors,
    "stream": _stream,
    "remote": _remote,
    "pool": _pool,
}


if __name__ == "__main__":
    main(tyro.cli(Bench))
