"""Videos per second: the notebooks' way, vidray in a process pool, vidray on Ray, decoding alone.

    python bench/throughput.py                        # 8-second 320x240 XviD clips, made here
    python bench/throughput.py --enhance always
    python bench/throughput.py --clips 600 --skip notebooks  # what Ray costs, over a few minutes

All ways see the same clips in turn, ``--runs`` times; the ratios are medians over the runs. Needs
the ``dev`` extra (scikit-image) for the notebooks' way.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tyro
from numpy.typing import NDArray

from bench.xvid_clips import make_clips
from tests import features_reference as reference
from vidray import features, sources
from vidray.distributed import worker
from vidray.distributed.resources import Resources
from vidray.features import motion, notebook
from vidray.features.extraction import Settings, describe_videos
from vidray.tables import run_folder, runs
from vidray.video.enhance import sharpen

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Compare throughputs."""

    clips: int = 16
    """Number of clips to make."""
    runs: int = 3
    """Rounds; medians are printed."""
    enhance: Literal["off", "always"] = "off"
    """Denoise and sharpen every sampled frame, as the notebooks did."""
    preset: Literal["default", "notebook"] = "notebook"
    """Feature families; the notebooks' way is always their own."""
    workers: int = 2
    """Processes of vidray's ways; the notebooks ran one."""
    videos: str = ""
    """Folder of clips to use instead of making some."""
    skip: tuple[Literal["notebooks", "pool", "ray", "decode"], ...] = ()
    """Ways to leave out."""


def main(bench: Bench) -> None:
    """Run every way in turn and print medians."""
    with tempfile.TemporaryDirectory() as folder:
        source = bench.videos or str(make_clips(Path(folder) / "clips", bench.clips))
        paths = sources.list_videos(source)["uri"].to_pylist()
        settings = Settings(families=features.PRESETS[bench.preset], enhance=bench.enhance)
        ways: dict[str, Callable[[], float]] = {
            "notebooks": lambda: _one_process(_notebooks_way, paths, bench.enhance, 0),
            "notebooks, OpenCV on one thread": lambda: _one_process(
                _notebooks_way, paths, bench.enhance, 1
            ),
            "pool": lambda: _pool(settings, paths, bench.workers),
            "pool, Ray's task": lambda: _task_pool(bench, settings, source, Path(folder) / "out"),
            "ray": lambda: _ray(bench, source, Path(folder) / "out"),
            "decode": lambda: _decode_pool(paths, bench.workers),
        }
        ways = {name: way for name, way in ways.items() if name.split(",")[0] not in bench.skip}
        if "notebooks" in ways and bench.preset == "notebook":
            print(f"worst error against the notebooks' way: {_worst_error(paths[0], settings):.1e}")
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(bench.runs):
            for name, way in ways.items():
                seconds[name].append(way())
                print(f"  {name}: {len(paths) / seconds[name][-1]:.2f} videos/s", flush=True)
    _report(seconds, len(paths))


def _report(seconds: dict[str, list[float]], videos: int) -> None:
    for name, values in seconds.items():
        median = statistics.median(values)
        print(
            f"{name:34s} {videos / median:7.2f} videos/s   {1000 * median / videos:8.1f} ms a video"
        )
    for mine, other in (
        ("pool", "notebooks"),
        ("ray", "notebooks"),
        ("ray", "pool"),
        ("ray", "pool, Ray's task"),
        ("decode", "ray"),
    ):
        if mine in seconds and other in seconds:
            ratios = [b / a for a, b in zip(seconds[mine], seconds[other], strict=True)]
            print(f"{mine} is {statistics.median(ratios):.2f} times as fast as {other}")


def _one_process(way: Callable[..., Any], *args: Any) -> float:
    with ProcessPoolExecutor(1) as pool:
        return float(pool.submit(way, *args).result()[0])


def _notebooks_way(paths: list[str], enhance: str, threads: int) -> tuple[float, list[Any]]:
    """Decode every frame with OpenCV, one a second is kept; then one library call after another."""
    if threads:
        cv2.setNumThreads(threads)
    began = time.perf_counter()
    vectors = [_notebook_vector(path, enhance) for path in paths]
    return time.perf_counter() - began, vectors[:1]


def _notebook_vector(path: str, enhance: str) -> NDArray[np.float64]:
    capture = cv2.VideoCapture(path)
    stride = max(1, round(capture.get(cv2.CAP_PROP_FPS)))
    frames, count = [], 0
    while True:
        is_read, bgr = capture.read()
        if not is_read:
            break
        if count % stride == 0:
            if bgr.shape[:2] != (240, 320):
                bgr = cv2.resize(bgr, (320, 240), interpolation=cv2.INTER_AREA)
            if enhance == "always":
                denoised = cv2.fastNlMeansDenoisingColored(bgr, None, 5, 5, 7, 21)
                bgr = sharpen(np.asarray(denoised, np.uint8))
            frames.append(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
        count += 1
    matrix = np.stack([reference.frame_vector(frame) for frame in frames])  # (T, 40938)
    grays = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    variation = np.abs(np.diff(matrix, axis=0)).mean(axis=1)
    statistics_of = [matrix.mean(0), matrix.std(0), matrix.min(0), matrix.max(0)]
    temporal = [variation.mean(), variation.std(), variation.min(), variation.max()]
    # Theirs was a vector of zeros for Horn-Schunck: both ways get vidray's, which is in no library.
    return np.concatenate([*statistics_of, temporal, motion.from_gray(grays)])


def _worst_error(path: str, settings: Settings) -> float:
    row = describe_videos(asdict(settings))({**_video(path)}).to_pylist()[0]
    found = {name: np.array(row[name], np.float32) for name in settings.families}
    expected = _notebook_vector(path, settings.enhance)
    return reference.worst_error(notebook.vector(found), expected)


def _video(path: str) -> dict[str, Any]:
    return {"video_id": path, "uri": path, "size_bytes": 0, "fingerprint": ""}


_in_worker: dict[str, Callable[[dict[str, Any]], Any]] = {}


def _start_worker(settings: dict[str, Any]) -> None:
    _in_worker["describe"] = describe_videos(settings)


def _describe_path(path: str) -> int:
    return int(_in_worker["describe"](_video(path)).num_rows)


def _decode_path(path: str) -> int:
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return sum(1 for _ in container.decode(video=0))


def _pool(settings: Settings, paths: list[str], workers: int) -> float:
    with ProcessPoolExecutor(
        workers, initializer=_start_worker, initargs=(asdict(settings),)
    ) as pool:
        return _timed(pool, _describe_path, paths, workers)


def _task_pool(bench: Bench, settings: Settings, source: str, out: Path) -> float:
    """The very function that Ray maps over blocks, which also writes the table, in a bare pool."""
    shutil.rmtree(out, ignore_errors=True)
    run = runs.Run(out=str(out), table="features", videos=source, digest=settings.digest)
    videos = run.videos_to_do({}, lambda: sources.list_videos(source))
    videos = videos.append_column("part", run.part_numbers(videos))
    resources = Resources(workers=bench.workers)
    parts = [videos.filter(pc.equal(videos["part"], k)) for k in videos["part"].unique()]
    work = worker.Work.of(settings)
    task = partial(_task, run=run, work=work, resources=resources)
    with ProcessPoolExecutor(bench.workers) as pool:
        list(pool.map(partial(_start_task, work, resources), range(2 * bench.workers)))
        began = time.perf_counter()
        list(pool.map(task, parts))
        return time.perf_counter() - began


def _start_task(work: worker.Work, resources: Resources, _: int) -> None:
    worker.started_sandbox(work, resources)
    time.sleep(1)  # The other processes of the pool get one each.


def _task(part: pa.Table, **settings: Any) -> int:
    return len(worker.make_parts(part, **settings))


def _decode_pool(paths: list[str], workers: int) -> float:
    with ProcessPoolExecutor(workers) as pool:
        return _timed(pool, _decode_path, paths, workers)


def _timed(
    pool: ProcessPoolExecutor, work: Callable[[str], int], paths: list[str], workers: int
) -> float:
    list(pool.map(work, paths[:workers]))  # Start-up apart: workers are there and have imported.
    began = time.perf_counter()
    list(pool.map(work, paths))
    return time.perf_counter() - began


def _ray(bench: Bench, source: str, out: Path) -> float:
    shutil.rmtree(out, ignore_errors=True)
    flags = ["--preset", bench.preset, "--enhance", bench.enhance, "--workers", str(bench.workers)]
    command = [
        sys.executable,
        str(_ROOT / "jobs" / "extract.py"),
        "--videos",
        source,
        "--out",
        str(out),
    ]
    subprocess.run([*command, *flags], check=True, capture_output=True)
    report = run_folder.read_json(str(out))
    return float(report["counts"]["videos"] / report["videos_per_second"])


if __name__ == "__main__":
    main(tyro.cli(Bench))
