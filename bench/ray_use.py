"""Cost of Ray for a job, and of each way to use Ray Data: start, work, CPU-seconds.

    python bench/ray_use.py                          # a Ray of its own, on this machine
    python bench/ray_use.py --nodes 2                # joins a cluster of two raylets of one CPU
    python bench/ray_use.py --rounds 3 --sets small --works extract --ways tasks remote

Every way makes the same parts of the same run folder, each time in a fresh process, and the ways
take turns; the parts must have the same bytes. Printed are medians: seconds of ``ray.init``, from
there to the first video in work, from there to the last part; and of all together, the median of
the ratios to plain Ray (``remote``) in the same round. CPU-seconds count Ray's processes, too.

    vidray   what vidray.distributed.pipeline does
    warmed   Ray Data's tasks: reservation off, no cap, workers and Ray Data's actors warmed up
    overlapped  the same, but workers start while Ray Data does, and nothing else is warmed up
    tasks    Ray Data's tasks, nothing set
    capped   the same with a cap, TaskPoolStrategy(size=workers)
    actors   Ray Data's actors: ActorPoolStrategy(size=workers), a sandbox each
    stream   as Ray Data's guide has it: rows of a part at a time through actors that decode, those
             that hold the network (pixels cross the object store) and a writer of parts
    remote   ray.remote and ray.wait
    pool     processes without Ray
"""

from __future__ import annotations

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
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray.data
import tyro

from bench.label import Bench as LabelBench
from bench.label import save_model
from bench.ray_ways.ways import WAYS, Set, Way, WorkName, make_job
from tests.ray_cluster import Cluster, running
from tests.video_writer import write_video
from vidray.distributed import capacity


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Compare ways."""

    rounds: int = 3
    """Runs of each way; medians are printed."""
    ways: tuple[Way, ...] = tuple(WAYS)
    """Ways to compare."""
    sets: tuple[Set, ...] = ("small", "large")
    """Many small videos (160x120, 1 s), few large ones (1280x720, 8 s)."""
    works: tuple[WorkName, ...] = ("extract", "predictor")
    """Features; labels by a network in each worker; labels by one predictor beside the workers."""
    small: int = 300
    """Number of small videos."""
    large: int = 8
    """Number of large videos."""
    nodes: int = 1
    """1: each job starts Ray. More: jobs join a cluster of so many raylets of one CPU."""
    one: tuple[Way, Set, WorkName, str] | None = None
    """Run this alone, in this process, on the videos and the model of a folder; its figures go to
    found.json there."""


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
            listed = {name: found[way][-1][name] for name in ("init", "first", "work", "cpu")}
            print(f"  {videos} {work} {way}: {listed}", file=sys.stderr, flush=True)
    where = f"{bench.nodes} nodes of 1 CPU" if cluster else f"{os.cpu_count()} CPUs"
    print(f"\n{getattr(bench, videos)} {videos} videos, {work}, {where}: seconds")
    names = ("init", "first", "work", "all", "cpu")
    print(f"{'':11s}{''.join(f'{name:>8s}' for name in names)}  all/remote  work/remote")
    for way in ways:
        medians = [statistics.median(one[name] for one in found[way]) for name in names]
        row = "".join(f"{value:8.2f}" for value in medians)
        print(f"{way:11s}{row}{_ratio(found, way, 'all')}{_ratio(found, way, 'work')}", flush=True)
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
    job = make_job(videos, work, folder)
    cpu_before = _cpu_seconds([os.getpid()])
    began = time.time()
    if way != "pool":
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        capacity.connect()
        ray.data.DataContext.get_current().enable_progress_bars = False
    connected = time.time()
    made = sum(sum(table["videos"].to_pylist()) for table in WAYS[way](job))
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
    """CPU-seconds of these processes, their running children, and those they waited for."""
    total = 0.0
    for pid in pids:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            try:
                total += sum(process.cpu_times()[:4])
            except psutil.Error:
                continue
    return total


if __name__ == "__main__":
    main(tyro.cli(Bench))
