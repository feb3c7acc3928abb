"""Does a label job end as if nothing had happened? Kill whatever it runs on, again and again.

    python bench/chaos.py                    # 1,000 small videos, ten kills

On a cluster of two nodes on this machine a job labels made videos. At random moments its driver, a
worker, a decoding process or a node is killed (a killed node is replaced); a killed driver is
started again, until a run ends by itself. All the while a reader looks; it must see nothing
or whole commits. At the end the table must equal the one of an undisturbed run.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.label import Bench as LabelBench
from bench.label import save_model
from tests.ray_cluster import Cluster, Job, Process, free_port, ray_workers, sandboxes, send_signal
from tests.video_writer import write_video
from vidray.commits import read_labels
from vidray.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Kill and compare."""

    videos: int = 1000
    """How many to make."""
    kills: int = 10
    """How many times something dies."""
    seed: int = 0
    """Decides what dies, and when."""
    most_seconds: float = 12.0
    """Until the next kill, at most."""


def main(bench: Bench) -> None:
    """Label undisturbed, label disturbed, compare."""
    with tempfile.TemporaryDirectory(prefix="chaos", dir="/tmp") as folder:
        videos, model = f"{folder}/videos", f"{folder}/model"
        _make(Path(videos), bench.videos)
        save_model(LabelBench(model="resnet18_avg", frames=2, size_px=32), model)
        cluster = Cluster(free_port(), folder)
        cluster.start_head(cpus=1)
        second = cluster.add_node(cpus=1)
        job = Job("label.py", cluster)
        flags = ("--model", model, "--videos", videos, "--memory-gib", 2)
        try:
            began = time.monotonic()
            with job.start(*flags, "--out", f"{folder}/calm") as process:
                process.communicate()
            calm_seconds = time.monotonic() - began
            began = time.monotonic()
            killed = _disturbed(bench, job, second, (*flags, "--out", f"{folder}/out"), folder)
            seconds = time.monotonic() - began
        finally:
            cluster.stop()
        calm, disturbed = _table(f"{folder}/calm"), _table(f"{folder}/out")
        assert calm is not None
        assert disturbed is not None
        told = ", ".join(f"{number} {what}" for what, number in killed.items())
        print(f"killed: {told}; {seconds:.0f} s, undisturbed {calm_seconds:.0f} s")
        print(f"rows: {len(disturbed)} of {len(calm)}; equal: {disturbed.equals(calm)}")
        sys.exit(not disturbed.equals(calm))


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
    folder: str,
) -> Counter[str]:
    """Run, kill, run again, until a run ends by itself; what was killed."""
    rng = random.Random(bench.seed)  # noqa: S311  (nobody attacks a benchmark)
    killed: Counter[str] = Counter()
    process = job.start(*flags)
    while True:
        ends = time.monotonic() + rng.uniform(1, bench.most_seconds)
        while time.monotonic() < ends and process.poll() is None:
            table = _table(f"{folder}/out")
            assert table is None or len(table) == bench.videos + 1, "a reader saw half a run"
            time.sleep(0.2)
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
