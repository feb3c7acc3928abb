"""Share of its time that a GPU is busy while a network's embeddings are extracted.

    python bench/embed_gpu.py                            # r3d_18; a minute and a half with a GPU
    python bench/embed_gpu.py --networks resnet18_avg --precisions bfloat16
    python bench/embed_gpu.py --tiny                     # a try-out, on a CPU too

alone     clips a second of the predictor, asked by many threads for clips that lie ready
decoders  the sandboxes of jobs/extract.py --embed, one for each CPU, and a predictor they ask
jobs      jobs/extract.py --embed itself on Ray, where that is installed: its working time

Busy is the mean of what nvidia-smi says every 200 ms (the share of its last moments in which a
kernel ran), over the time between the first video and the last; beside it is the speed as a share
of ``alone``: less of either is time that the GPU waits for decoders. Without a GPU busy is a dash.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch
import tyro

from bench.label import Bench as LabelBench
from bench.label import save_model
from tests.video_writer import write_video
from vidray.distributed.sandbox import Ask, Sandbox
from vidray.features.embedding import Embedding
from vidray.features.extraction import Settings
from vidray.labelling import embedding, wire
from vidray.labelling.embedding import EmbedSettings
from vidray.labelling.options import LabelPrecision
from vidray.models.model_files import name_and_digest
from vidray.sources import list_videos

_ROOT = Path(__file__).resolve().parents[1]
_SIZES = {"r3d_18": 512, "resnet18_avg": 512}
_EVERY_MS = 200


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure how busy a GPU is."""

    networks: tuple[str, ...] = ("r3d_18",)
    """Networks of 16 frames of 112 px, four clips a video: r3d_18 or resnet18_avg."""
    precisions: tuple[LabelPrecision, ...] = ("float32", "bfloat16")
    """Number formats of the network."""
    videos: int = 1000
    """Videos of 320x240, 8 seconds: sixteen of them, copied."""
    decoders: int = len(os.sched_getaffinity(0))
    """Decoding processes."""
    with_jobs: bool = True
    """Run the job itself, too, if Ray is installed."""
    tiny: bool = False
    """Use a few small videos and clips, to see that it runs."""


def main(bench: Bench) -> None:
    """Measure each network in each precision."""
    if bench.tiny:
        bench = dataclasses.replace(bench, videos=24, precisions=bench.precisions[:1])
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"{gpu}, {bench.decoders} decoders, {bench.videos} videos, PyTorch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.monotonic()
        _make_videos(bench, folder / "videos")
        print(f"videos made in {time.monotonic() - began:.0f} s", flush=True)
        for network in bench.networks:
            where = folder / network
            frames, size_px = (4, 32) if bench.tiny else (16, 112)
            save_model(LabelBench(model=network, frames=frames, size_px=size_px), str(where))
            for precision in bench.precisions:
                _measure(bench, folder, where, precision)


def _make_videos(bench: Bench, folder: Path) -> None:
    folder.mkdir()
    size: dict[str, Any] = {"width_px": 320, "height_px": 240, "num_frames": 200}
    if bench.tiny:
        size = {"num_frames": 30}
    made = [
        write_video(folder / f"{k:05}.mp4", first_number=200 * k, **size)
        for k in range(min(16, bench.videos))
    ]
    for k in range(len(made), bench.videos):
        shutil.copyfile(made[k % len(made)], folder / f"{k:05}.mp4")


def _measure(bench: Bench, folder: Path, where: Path, precision: LabelPrecision) -> None:
    name, digest = name_and_digest(str(where))
    used = Embedding(model=name, digest=digest, size=_SIZES[name], precision=precision)
    extraction = Settings(families=("embedding",), embedding=used)
    config = dataclasses.asdict(EmbedSettings(extraction=extraction, network=str(where)))
    answer = embedding.answer_questions(config)
    most = _alone(bench, where, answer)
    print(f"\n{name}, {precision}: {most:.0f} clips/s alone", flush=True)
    speed, busy = _decoders(bench, folder / "videos", config, answer)
    _say("decoders", speed, busy, used.clips * speed / most)
    del answer
    if bench.with_jobs and _has_ray():
        speed, busy = _job(folder, where, precision)
        _say("jobs", speed, busy, used.clips * speed / most)


def _say(way: str, speed: float, busy: float | None, of_alone: float) -> None:
    shown = "-" if busy is None else f"{busy:.0%}"
    print(
        f"  {way:9s} {speed:7.1f} videos/s, GPU busy {shown}, {of_alone:.0%} of alone", flush=True
    )


def _alone(bench: Bench, where: Path, answer: Ask) -> float:
    """Clips a second with decoders that cost nothing."""
    clip = json.loads((where / "model.json").read_text())["clip"]
    shape = (4, clip["frames_per_clip"], clip["size_px"], clip["size_px"], 3)
    question = wire.question(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    asked = [question] * (8 if bench.tiny else 400)
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(answer, asked[:64]))  # The first ones warm up.
        began = time.perf_counter()
        list(pool.map(answer, asked))
    return 4 * len(asked) / (time.perf_counter() - began)


@dataclass
class _Watch:
    """What nvidia-smi said, and when."""

    shares: list[tuple[float, float]] = field(default_factory=list)

    def between(self, begin: float, end: float) -> float | None:
        """The mean between two times of ``time.time``; None without a GPU."""
        found = [share for at, share in self.shares if begin <= at <= end]
        return sum(found) / len(found) if found else None


@contextmanager
def _watched() -> Iterator[_Watch]:
    """Sample the GPU's utilisation while the block runs."""
    watch = _Watch()
    if not torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
        yield watch
        return
    flags = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]
    with subprocess.Popen(
        ["nvidia-smi", *flags, f"--loop-ms={_EVERY_MS}"], stdout=subprocess.PIPE, text=True
    ) as smi:
        assert smi.stdout is not None
        lines = smi.stdout

        def read() -> None:
            for line in lines:
                watch.shares.append((time.time(), float(line) / 100))

        reader = Thread(target=read, daemon=True)
        reader.start()
        try:
            yield watch
        finally:
            smi.terminate()
            reader.join()


def _decoders(
    bench: Bench, videos: Path, config: dict[str, Any], answer: Ask
) -> tuple[float, float | None]:
    """Videos a second, and the GPU's share, of sandboxes that a thread each feeds."""
    rows = list_videos(str(videos)).to_pylist()
    shares = [rows[k :: bench.decoders] for k in range(bench.decoders)]
    sandboxes = [
        Sandbox(EmbedSettings.TARGET, config, memory_bytes=2 << 30, timeout_seconds=600, asks=True)
        for _ in shares
    ]

    def work(sandbox: Sandbox, own: list[dict[str, Any]]) -> None:
        for row in own:
            (made,) = sandbox.run(row, answer).to_pylist()
            assert made["status"] == "ok", made["error_message"]

    try:
        with ThreadPoolExecutor(bench.decoders) as pool, _watched() as watch:
            list(pool.map(Sandbox.start, sandboxes))
            began = time.time()
            list(pool.map(work, sandboxes, shares))
            ended = time.time()
    finally:
        for sandbox in sandboxes:
            sandbox.close()
    return len(rows) / (ended - began), watch.between(began, ended)


def _has_ray() -> bool:
    try:
        import ray  # noqa: F401
    except ImportError:
        print("  Ray is not installed: the job is left out")
        return False
    return True


def _job(folder: Path, where: Path, precision: str) -> tuple[float, float | None]:
    """The same of jobs/extract.py: over its working time, which ends about when it ends."""
    out = folder / f"{where.name}-{precision}"
    command = ["jobs/extract.py", "--videos", folder / "videos", "--out", out, "--embed", where,
               "--embed-precision", precision]  # fmt: skip
    with _watched() as watch:
        done = _run([sys.executable, *map(str, command)])
    # run.json is written when all parts are there.
    ended = (out / "run.json").stat().st_mtime
    assert done.returncode == 0, done.stdout
    report = json.loads((out / "run.json").read_text())
    busy = watch.between(ended - report["seconds"]["working"], ended)
    return float(report["videos_per_second"]), busy


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


if __name__ == "__main__":
    main(tyro.cli(Bench))
