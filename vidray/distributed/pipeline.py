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
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidray.distributed import dealing, predictors
from vidray.distributed.capacity import (
    check_cluster,
    connect,
    held,
    place_predictors,
    say,
    workers_at_once,
    workers_that_fit,
)
from vidray.distributed.resources import PredictorChoice, Resources
from vidray.distributed.timing import Timeline
from vidray.distributed.worker import TableSettings, Work, make_parts
from vidray.errors import JobError, UserError
from vidray.progress import Meter
from vidray.storage import addresses
from vidray.tables.runs import Run


class RunGoneError(Exception):
    """The folder of the run is not there any more."""


def start_ray(settings: TableSettings, resources: Resources) -> Work:
    """Join or start a cluster, start predictors: returns the work that workers are given.

    Raises:
        UserError: the cluster cannot hold them.
    """
    connect()
    check_cluster(resources)
    work = Work.of(settings)
    if wanted := resources.predictors:
        say(f"{wanted.number} predictors load the network ...")
        started = predictors.start(work.config, resources, wanted)
        work = dataclasses.replace(work, predictors=tuple(started))
    say(f"{workers_at_once(resources)} workers start (2 to 4 s) ...")
    return work


def _run(
    blocks: list[pa.Table], work: Callable[[pa.Table], pa.Table], resources: Resources
) -> Iterator[pa.Table]:
    """One task per block on as many workers as allowed; results as they come.

    Nothing is warmed up before. ``bench/ray_use.py``, features of 150 videos of a second, two CPUs,
    Ray 2.60, medians of two or three rounds in which the ways took turns: seconds after
    ``ray.init`` (5.3 s) to the first video in work, from there to the last part; CPU-seconds.

        plain ray.remote and ray.wait             1.9 + 3.5   12.1
        as here                                   3.4 + 3.5   14.8
        tasks, nothing set                        3.9 + 5.5   15.6
        the same with a cap                       3.6 + 4.7   16.0
        workers started while Ray Data is         3.5 + 5.0   14.8
        workers and Ray Data's actors warmed up   4.0 + 4.4   15.7
        a pool of actors, ActorPoolStrategy       9.1 + 4.5   17.7
        the same for rows, and a writer of parts  6.4 + 7.5   12.1
    """
    ray = import_ray_data()
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # Ray ends a job in which no block ends for 30 minutes; here each video has its own timeout.
    context.execution_no_progress_timeout_s = -1
    # Ray Data divides CPUs among the datasets of a cluster in whole numbers: with 2 CPUs and 3 jobs
    # each gets 0 and waits for ever. Ray's own scheduler shares them out as they become free.
    context.op_resource_reservation_enabled = False
    results = ray.data.from_arrow(blocks).map_batches(
        work,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
        memory=resources.memory_bytes,
        compute=ray.data.TaskPoolStrategy(size=_cap(resources)),
    )
    return iter(results.iter_batches(batch_size=None, batch_format="pyarrow"))


def import_ray_data() -> Any:
    """Ray with ``ray.data``, silent: the job itself says what went wrong, in one line.

    It takes half a second, which a job with nothing to do need not wait for.
    """
    import ray.data

    # Now: importing it sets its loggers up.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return ray


def _cap(resources: Resources) -> int | None:
    """Tasks that Ray Data hands out at once; None where Ray's own scheduler limits them.

    With a cap Ray Data holds tasks back, and a worker waits 0.2 s for each. But a task that takes
    the CPU of a predictor that died keeps it from coming back.
    """
    workers = workers_at_once(resources)
    on_cpus = resources.predictors is not None and resources.predictors.cpus_each > 0
    return None if workers == workers_that_fit(resources) and not on_cpus else workers


def make_run(
    run: Run,
    listing: Callable[[], pa.Table],
    settings: TableSettings,
    resources: Resources,
    config: dict[str, Any],
    *,
    predicting: tuple[PredictorChoice, str] | None = None,
    verb: str,
    overwrite: bool = False,
) -> dict[str, Any]:
    """A run folder from start to end, or to the end of one that was killed; its report.

    A finished run asked for again has nothing to do.

    Args:
        listing: gives VIDEOS; asked at most once.
        config: what run.json shows of the job's settings.
        predicting: the predictors to start beside the workers and their work, see
            ``capacity.place_predictors``.
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
        return _make_table(run, listing, settings, resources, config, predicting, verb)
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
    predicting: tuple[PredictorChoice, str] | None,
    verb: str,
) -> dict[str, Any]:
    """Make what is not made yet of ``run``'s table, check it, publish it; returns the report."""
    began = time.monotonic()
    videos = run.videos_to_do(config, listing)
    listing_seconds = time.monotonic() - began
    if predicting is not None:
        found = place_predictors(*predicting)
        resources = dataclasses.replace(resources, predictors=found)
    placing_seconds = time.monotonic() - began - listing_seconds
    report = make_all_parts(run, videos, settings, resources, verb, listing)
    report["seconds"]["startup"] = round(report["seconds"]["startup"] + placing_seconds, 3)
    report["seconds"]["listing"] = round(listing_seconds, 3)
    report["listed"] = len(videos)
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
    began = time.time()
    work = start_ray(settings, resources) if len(todo) else Work.of(settings)
    connected = time.time()
    first_began, worked_seconds = math.inf, 0.0
    stages: Counter[str] = Counter()
    timeline, asked_seconds = Timeline(), None
    try:
        with Meter(verb, total=len(videos), done=len(videos) - len(todo)) as meter:
            for receipt in _work_off(todo, run, work, resources) if len(todo) else ():
                stages.update(receipt["seconds"])
                timeline.add(receipt)
                # By the clock of its node, which may be wrong: never before workers could start.
                first_began = min(first_began, max(connected, receipt["began_at"]))
                worked_seconds = max(0.001, time.time() - first_began)
                meter.add(done=receipt["videos"], failed=receipt["failed"], seconds=worked_seconds)
        asked_seconds = predictors.busy_seconds(work.predictors)
    finally:
        predictors.stop(work.predictors)
    if not run.is_there():
        raise RunGoneError(run.out)

    worked = time.time()
    counts = run.check(videos)
    timing = timeline.timing(
        **(held(resources) if len(todo) else {}),
        video_bytes=pc.sum(todo["size_bytes"]).as_py() or 0,
        predictor_seconds=asked_seconds,
    )
    return {
        "counts": counts,
        "seconds": {
            "startup": round(worked - began - worked_seconds if len(todo) else 0.0, 3),
            "working": round(worked_seconds, 3),
            "checking": round(time.time() - worked, 3),
            "in_workers": {name: round(seconds, 3) for name, seconds in sorted(stages.items())},
        },
        "videos_done_before": len(videos) - len(todo),
        "videos_per_second": round(len(todo) / worked_seconds, 3) if len(todo) else None,
        "cost_per_thousand_videos": _cost(len(todo), worked_seconds, resources),
        "timing": None if timing is None else dataclasses.asdict(timing),
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
        cuts = dealing.cuts(len(parts), per_part, workers_at_once(resources))
    return [
        videos.slice(starts[begin], starts[end] - starts[begin])
        for begin, end in itertools.pairwise(cuts)
    ]
