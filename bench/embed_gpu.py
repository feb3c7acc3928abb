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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from bench.gpu_busy import watching
from bench.gpu_parts import Rows, attempt
from bench.gpu_results import Figures
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
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"{gpu}, {bench.decoders} decoders, {bench.videos} videos, PyTorch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name:
        for _ in measure(bench, Path(name), set()):
            pass  # They print themselves.


def measure(bench: Bench, folder: Path, known: set[str]) -> Rows:
    """A row for each network, precision and way.

    Args:
        folder: videos and models are made there.
        known: rows that are not measured again.
    """
    if bench.tiny:
        bench = dataclasses.replace(bench, videos=24, precisions=bench.precisions[:1])
    if not (folder / "videos").exists():
        began = time.monotonic()
        _make_videos(bench, folder / "videos")
        print(f"videos made in {time.monotonic() - began:.0f} s", flush=True)
    for network in bench.networks:
        where = folder / network
        frames, size_px = (4, 32) if bench.tiny else (16, 112)
        if not where.exists():
            save_model(LabelBench(model=network, frames=frames, size_px=size_px), str(where))
        for precision in bench.precisions:
            yield from _measure(bench, folder, where, precision, known)


def _make_videos(bench: Bench, folder: Path) -> None:
    folder.mkdir(parents=True)
    size: dict[str, Any] = {"width_px": 320, "height_px": 240, "num_frames": 200}
    if bench.tiny:
        size = {"num_frames": 30}
    made = [
        write_video(folder / f"{k:05}.mp4", first_number=200 * k, **size)
        for k in range(min(16, bench.videos))
    ]
    for k in range(len(made), bench.videos):
        shutil.copyfile(made[k % len(made)], folder / f"{k:05}.mp4")


def _measure(
    bench: Bench, folder: Path, where: Path, precision: LabelPrecision, known: set[str]
) -> Rows:
    head = f"{where.name}, {precision}"
    has_job = bench.with_jobs and _has_ray()
    if {f"{head}, {way}" for way in ("alone", "decoders", *(["jobs"] if has_job else []))} <= known:
        return
    name, digest = name_and_digest(str(where))
    used = Embedding(model=name, digest=digest, size=_SIZES[name], precision=precision)
    extraction = Settings(families=("embedding",), embedding=used)
    config = dataclasses.asdict(EmbedSettings(extraction=extraction, network=str(where)))
    answer = embedding.answer_questions(config)
    most = _alone(bench, where, answer)
    print(f"\n{head}: {most:.0f} clips/s alone", flush=True)
    yield f"{head}, alone", {"clips_per_second": most}
    share = used.clips / most
    decoded = partial(_decoders, bench, folder / "videos", config, answer)
    yield f"{head}, decoders", attempt(lambda: _row("decoders", *decoded(), share))
    if has_job:
        job = partial(_job, folder, where, precision)
        yield f"{head}, jobs", attempt(lambda: _row("jobs", *job(), share))


def _row(way: str, speed: float, busy: float | None, share: float) -> Figures:
    shown = "-" if busy is None else f"{busy:.0%}"
    print(
        f"  {way:9s} {speed:7.1f} videos/s, GPU busy {shown}, {speed * share:.0%} of alone",
        flush=True,
    )
    return {"videos_per_second": speed, "busy": busy, "share_of_alone": speed * share}


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
        with ThreadPoolExecutor(bench.decoders) as pool, watching() as watch:
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
    with watching() as watch:
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
