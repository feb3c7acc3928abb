"""A label job that is killed again and again, compared with one that is not.

    python bench/chaos.py                    # 1,000 small videos, ten kills
    python bench/chaos.py --bucket           # in an S3 of this machine that fails 5 % of requests

On a cluster of two nodes on this machine a job labels made videos. At random moments its driver, a
worker, a decoding process or a node is killed (a killed node is replaced); a killed driver is
started again, until a run ends by itself. All the while a reader looks; it must see nothing
or whole commits. At the end the table must equal the one of an undisturbed run.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import s3fs
import tyro

from bench.label import Bench as LabelBench
from bench.label import save_model
from tests.ray_cluster import Job, Process, ray_workers, running, sandboxes, send_signal
from tests.s3 import ENVIRONMENT, FaultyServer, serving
from tests.video_writer import write_video
from vidray.errors import UserError
from vidray.labelling.commits import read_labels


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Kill a label job and compare its table."""

    videos: int = 1000
    """Number of videos to make."""
    kills: int = 10
    """Number of kills."""
    seed: int = 0
    """Seed that decides what is killed, and when."""
    most_seconds: float = 4.0
    """Most seconds until the next kill."""
    bucket: bool = False
    """Keep videos, model and labels in a bucket."""
    share: float = 0.05
    """Share of the bucket's requests that fail: with a 503, with half of a body, or done without an
    answer."""


def main(bench: Bench) -> None:
    """Label undisturbed, label disturbed, compare."""
    with tempfile.TemporaryDirectory(prefix="chaos", dir="/tmp") as folder, _storage(bench) as s3:
        _make(Path(f"{folder}/videos"), bench.videos)
        save_model(LabelBench(model="resnet18_avg", frames=2, size_px=32), f"{folder}/model")
        where = folder
        if s3 is not None:
            where = "s3://chaos"
            s3fs.S3FileSystem().mkdir(where)
            s3fs.S3FileSystem().put(folder, where, recursive=True)
            where = f"{where}/{Path(folder).name}"
        flags = ("--model", f"{where}/model", "--videos", f"{where}/videos", "--memory-gib", 2)
        with running(cpus=1) as cluster:
            second = cluster.add_node(cpus=1)
            job = Job("label.py", cluster)
            began = time.monotonic()
            job.run(*flags, "--out", f"{where}/calm", seconds=3600)
            calm_seconds = time.monotonic() - began
            if s3 is not None:
                s3.share = bench.share
            began = time.monotonic()
            killed = _disturbed(bench, job, second, (*flags, "--out", f"{where}/out"), where)
            seconds = time.monotonic() - began
        if s3 is not None:
            s3.share = 0.0
            print(f"{s3.failed} of {len(s3.requests)} requests failed")
        calm, disturbed = _table(f"{where}/calm"), _table(f"{where}/out")
        assert calm is not None
        assert disturbed is not None
        listed = ", ".join(f"{number} {what}" for what, number in killed.items())
        print(f"killed: {listed}; {seconds:.0f} s, undisturbed {calm_seconds:.0f} s")
        print(f"rows: {len(disturbed)} of {len(calm)}; equal: {disturbed.equals(calm)}")
        sys.exit(not disturbed.equals(calm))


@contextlib.contextmanager
def _storage(bench: Bench) -> Iterator[FaultyServer | None]:
    """The bucket's server, and the way to it in the environment; None for a folder."""
    if not bench.bucket:
        yield None
        return
    with serving() as server:
        os.environ.update(ENVIRONMENT, AWS_ENDPOINT_URL=server.address)
        yield server


def _make(folder: Path, videos: int) -> None:
    folder.mkdir()
    for number in range(videos):
        path = folder / f"clip{number:05d}.mp4"
        if number < 50:
            write_video(path, num_frames=20 + number, first_number=number)
        else:
            shutil.copyfile(folder / f"clip{number % 50:05d}.mp4", path)
    (folder / "broken.mp4").write_text("no video")


def _table(out: str) -> pa.Table | None:
    try:
        return read_labels(out).drop_columns(["labelled_at", "commit"])
    except UserError:
        return None


def _disturbed(
    bench: Bench,
    job: Job,
    second: subprocess.Popen[bytes],
    flags: tuple[object, ...],
    where: str,
) -> Counter[str]:
    """Run, kill and run again until a run ends by itself; returns what was killed."""
    rng = random.Random(bench.seed)  # noqa: S311  (nobody attacks a benchmark)
    killed: Counter[str] = Counter()
    process = job.start(*flags)
    while True:
        ends = time.monotonic() + rng.uniform(1, bench.most_seconds)
        while time.monotonic() < ends and process.poll() is None:
            table = _table(f"{where}/out")
            assert table is None or len(table) == bench.videos + 1, "a reader saw half a run"
            time.sleep(0.2 if where.startswith("/") else 2)
        if process.poll() is not None and process.returncode == 0:
            return killed
        if process.poll() is not None:
            killed["jobs that failed"] += 1
            print(process.communicate()[0])
            process = job.start(*flags)
        elif killed.total() < bench.kills:
            what = rng.choice(["driver", "worker", "decoder", "node"])
            second, process = _kill(what, rng, job, second, process, flags)
            killed[what] += 1
            print(f"  killed: {what}", flush=True)


def _kill(
    what: str,
    rng: random.Random,
    job: Job,
    second: subprocess.Popen[bytes],
    process: Process,
    flags: tuple[object, ...],
) -> tuple[subprocess.Popen[bytes], Process]:
    if what == "driver":
        process.kill()
        process.communicate()
        return second, job.start(*flags)
    if what == "node":
        job.cluster.kill(second)
        return job.cluster.add_node(cpus=1), process
    found = ray_workers(job.cluster) if what == "worker" else sandboxes()
    if found:
        send_signal(rng.choice(found), signal.SIGKILL)
    return second, process


if __name__ == "__main__":
    main(tyro.cli(Bench))
