"""Videos labelled per second: the plain PyTorch way, vidray on Ray, and vidray with exports.

    python bench/label.py                              # 240 8-second 320x240 XviD clips, made here
    python bench/label.py --videos DIR --runs 3        # any source of labelled videos
    python bench/label.py --model s3d --work WORK      # WORK keeps models and exports for next time
    python bench/label.py --precision bfloat16         # where the processor has it

The plain way is a DataLoader with as many workers, decord, float32 and batches of 8, PyTorch with
its own number of threads. All ways take the same frames of the same videos to the same network and
run in turn; printed are medians, how many labels agree with the plain way's, which has other pixels
where decord decodes otherwise, and with those of PyTorch through Ray; and how near each is to its
floor: decoding alone and the network alone, one after the other, since they share the cores.

The network is fresh but for its head, which is fitted to the videos of split train (to all of those
made here), so that labels have the certainty of learnt ones. Exports are OpenVINO's, by
``jobs/export.py``. Needs the ``decord`` extra, and ``export`` and ``openvino``.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from bench.label_model import CLASSES, export_model, make_model, save_fresh
from bench.label_ways import decode_all, label_all, run_network
from bench.xvid_clips import make_clips
from vidray import models, sources
from vidray.labelling.commits import read_labels
from vidray.labelling.options import LabelOptions, LabelPrecision
from vidray.models.preprocess import KINETICS
from vidray.tables import run_folder
from vidray.video import clips
from vidray.video.clips import ClipSettings

_ROOT = Path(__file__).resolve().parents[1]
_BATCH = 8
Way = Literal["plain", "pool", "ray", "export", "decode", "network"]
Found = dict[str, list[tuple[float, list[str]]]]
"""Seconds and labels of each run of a way."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Compare ways to label."""

    clips: int = 240
    """Number of clips to make."""
    videos: str = ""
    """Source of labelled videos to use instead of making some."""
    runs: int = 3
    """Rounds; medians are printed."""
    model: str = "r3d_18"
    """Network."""
    frames: int = 16
    """Frames of a clip."""
    size_px: int = 112
    """Width and height of a clip."""
    precision: LabelPrecision = "float32"
    """Precision of the way through Ray with PyTorch; the plain way is float32."""
    compile: bool = False
    """Whether that compiles the network."""
    exports: tuple[Literal["float32", "int8"], ...] = ("float32", "int8")
    """Number formats of exports to label with."""
    workers: int = 2
    """Processes of each way."""
    work: str = ""
    """Folder that keeps clips, model and exports; made before, they are taken as they are."""
    skip: tuple[Way, ...] = ("pool",)
    """Ways to leave out."""


def main(bench: Bench) -> None:
    """Run every way in turn and print medians."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(bench.work or folder)
        source = bench.videos
        if not source:
            made = work / f"clips_{bench.clips}"
            source = str(made if made.exists() else make_clips(made, bench.clips))
        model = make_model(
            work, source, name=bench.model, frames=bench.frames, size_px=bench.size_px
        )
        exports: dict[str, Path] = {}
        if "export" not in bench.skip:
            exports = {kind: export_model(work, model, kind) for kind in bench.exports}
        rows = sources.list_videos(source).to_pylist()
        ways = _ways(bench, rows, source, str(model), exports, Path(folder) / "out")
        found: Found = {name: [] for name in ways}
        for _ in range(bench.runs):
            for name, way in ways.items():
                found[name].append(way())
                seconds = found[name][-1][0]
                print(f"  {name}: {len(rows) / seconds:.2f} videos/s", flush=True)
        _report(found, len(rows))


def save_model(bench: Bench, folder: str) -> None:
    """A model folder of fresh weights, for benchmarks that need no labels."""
    save_fresh(Path(folder), bench.model, CLASSES, frames=bench.frames, size_px=bench.size_px)


def _ways(
    bench: Bench,
    rows: list[dict[str, Any]],
    source: str,
    model: str,
    exports: dict[str, Path],
    out: Path,
) -> dict[str, Callable[[], tuple[float, list[str]]]]:
    """The ways in the order they run: a way, and what it is held against, beside each other."""
    mine = LabelOptions(precision=bench.precision, compile=bench.compile, long_seconds=43_200.0)
    workers = bench.workers
    ways: dict[str, Callable[[], tuple[float, list[str]]]] = {
        "plain": partial(_plain, model, rows, workers),
        "pool": partial(label_all, model, mine, rows, workers),
        "ray": partial(_ray, bench, model, source, out, _torch_flags(bench)),
        "decode": partial(decode_all, model, rows, workers),
        "network": partial(run_network, model, mine, rows, workers),
    }
    ways = {name: way for name, way in ways.items() if name not in bench.skip}
    for kind, folder in exports.items():
        ways[f"ray {kind}"] = partial(_ray, bench, str(folder), source, out, [])
        if "network" not in bench.skip:
            plain = LabelOptions(long_seconds=43_200.0)
            ways[f"network {kind}"] = partial(run_network, str(folder), plain, rows, workers)
    return ways


def _report(found: Found, videos: int) -> None:
    seconds = {name: statistics.median(s for s, _ in runs) for name, runs in found.items()}
    for name, median in seconds.items():
        print(f"{name:18s}{videos / median:8.2f} videos/s")
    for mine in (name for name in seconds if name == "pool" or name.startswith("ray")):
        if "plain" in seconds:
            ratios = [p[0] / m[0] for p, m in zip(found["plain"], found[mine], strict=True)]
            ratio = statistics.median(ratios)
            print(f"{mine} is {ratio:.2f} times as fast as plain")
        for other in ("plain", "ray"):
            if other in found and other != mine:
                pairs = zip(found[other][0][1], found[mine][0][1], strict=True)
                print(f"  {statistics.mean(a == b for a, b in pairs):.1%} of labels as {other}")
        network = mine.replace("ray", "network") if "ray" in mine else "network"
        if {"decode", network} <= seconds.keys():
            floors = [d[0] + n[0] for d, n in zip(found["decode"], found[network], strict=True)]
            near = statistics.median(f / m[0] for f, m in zip(floors, found[mine], strict=True))
            print(
                f"{mine} reaches {near:.0%} of decoding and then the network alone, "
                f"{videos / statistics.median(floors):.2f} videos/s"
            )


# The plain way


class _Videos(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Decord reads and scales the frames that vidray takes."""

    def __init__(self, videos: list[dict[str, Any]], clip: ClipSettings) -> None:
        self._videos, self._clip = videos, clip

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        import decord

        size = self._clip.size_px
        reader = decord.VideoReader(self._videos[row]["uri"], width=size, height=size)
        rate = float(reader.get_avg_fps())
        (frames,) = clips.clip_frames(len(reader), rate, self._clip)
        return torch.from_numpy(reader.get_batch(frames.tolist()).asnumpy()), row


def _plain(folder: str, videos: list[dict[str, Any]], workers: int) -> tuple[float, list[str]]:
    model = models.load(folder)
    assert isinstance(model, models.DeepModel)
    mean, std = (torch.tensor(c).view(1, 3, 1, 1, 1) for c in KINETICS)
    loader = torch.utils.data.DataLoader(
        _Videos(videos, model.clip), batch_size=_BATCH, num_workers=workers
    )
    labels = [""] * len(videos)
    began = time.perf_counter()
    with torch.no_grad():
        for pixels, rows in loader:
            inputs = (pixels.permute(0, 4, 1, 2, 3).float() / 255 - mean) / std
            for row, best in zip(rows, model.network(inputs).argmax(dim=1), strict=True):
                labels[row] = model.class_names[best]
    return time.perf_counter() - began, labels


# Through Ray


def _torch_flags(bench: Bench) -> list[str]:
    return ["--precision", bench.precision, *(["--compile"] if bench.compile else [])]


def _ray(
    bench: Bench, model: str, source: str, out: Path, flags: list[str]
) -> tuple[float, list[str]]:
    """The seconds of working, start-up apart."""
    shutil.rmtree(out, ignore_errors=True)
    given = {
        "model": model, "videos": source, "out": out, "workers": bench.workers,
        "long-seconds": 43_200,
    }  # fmt: skip
    words = [str(word) for name, value in given.items() for word in (f"--{name}", value)]
    command = [sys.executable, str(_ROOT / "jobs" / "label.py"), *words, *flags]
    subprocess.run(command, check=True, capture_output=True)
    report = run_folder.read_json(str(out))
    labels = read_labels(str(out), columns=["label"])["label"].to_pylist()
    return report["counts"]["videos"] / report["videos_per_second"], labels


if __name__ == "__main__":
    main(tyro.cli(Bench))
