"""Videos labelled per second: the plain PyTorch way, vidray in a process pool, vidray on Ray.

    python bench/label.py                              # 8-second 320x240 XviD clips, made here
    python bench/label.py --videos DIR --runs 3        # any source of videos
    python bench/label.py --precision bfloat16         # where the processor has it

The plain way is a DataLoader with as many workers, decord, float32 and batches of 8. All ways take
the same frames of the same videos to the same fresh network and run in turn; printed are medians,
how many labels agree, and how near the floor is: decoding alone and the network alone, one after
the other, since they share the cores. Needs the ``decord`` extra.
"""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from bench.xvid_clips import make_clips
from vidray import models, sources, storage
from vidray.labelling.commits import read_labels
from vidray.labelling.labeller import label_videos
from vidray.labelling.settings import LabelOptions, LabelPrecision, LabelSettings, name_and_digest
from vidray.labelling.torch_predictor import TorchPredictor, use_one_thread
from vidray.models.folder import save_deep
from vidray.models.preprocess import KINETICS, Preprocessing
from vidray.tables import run_folder
from vidray.video import clips
from vidray.video.clips import ClipSettings
from vidray.video.decode import Video

_ROOT = Path(__file__).resolve().parents[1]
_CLASSES = ("a", "b", "c", "d")
_BATCH = 8
Way = Literal["plain", "pool", "ray", "decode", "network"]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Compare ways to label."""

    clips: int = 64
    """Number of clips to make."""
    videos: str = ""
    """Source of videos to use instead of making some."""
    runs: int = 3
    """Rounds; medians are printed."""
    model: str = "r3d_18"
    """Network; its weights do not matter."""
    frames: int = 16
    """Frames of a clip."""
    size_px: int = 112
    """Width and height of a clip."""
    precision: LabelPrecision = "float32"
    """Precision of vidray's ways; the plain way is float32."""
    compile: bool = False
    """Whether vidray's ways compile the network."""
    workers: int = 2
    """Processes of each way."""
    skip: tuple[Way, ...] = ()
    """Ways to leave out."""


def main(bench: Bench) -> None:
    """Run every way in turn and print medians."""
    with tempfile.TemporaryDirectory() as folder:
        source = bench.videos or str(make_clips(Path(folder) / "clips", bench.clips))
        videos = sources.list_videos(source).to_pylist()
        model = f"{folder}/model"
        save_model(bench, model)
        settings = LabelSettings(
            model=model,
            model_digest=name_and_digest(model)[1],
            options=LabelOptions(
                precision=bench.precision, compile=bench.compile, long_seconds=43_200.0
            ),
        )
        config = dataclasses.asdict(settings)
        ways: dict[Way, Callable[[], tuple[float, list[str]]]] = {
            "plain": lambda: _plain(model, videos, bench.workers),
            "pool": lambda: _pool(_start_label, (config,), _label, videos, bench.workers),
            "ray": lambda: _ray(bench, model, source, Path(folder) / "out"),
            "decode": lambda: _pool(_start_decode, (model,), _decode, videos, bench.workers),
            "network": lambda: _pool(_start_network, (config,), _network, videos, bench.workers),
        }
        found: dict[Way, list[tuple[float, list[str]]]] = {w: [] for w in ways}
        for _ in range(bench.runs):
            for name, way in ways.items():
                if name not in bench.skip:
                    found[name].append(way())
                    seconds = found[name][-1][0]
                    print(f"  {name}: {len(videos) / seconds:.2f} videos/s", flush=True)
    _report(found, len(videos))


def _report(found: dict[Way, list[tuple[float, list[str]]]], videos: int) -> None:
    seconds = {name: statistics.median(s for s, _ in runs) for name, runs in found.items() if runs}
    for name, median in seconds.items():
        print(f"{name:10s}{videos / median:8.2f} videos/s")
    for mine in ("pool", "ray"):
        if mine in seconds and "plain" in seconds:
            ratios = [p[0] / m[0] for p, m in zip(found["plain"], found[mine], strict=True)]
            pairs = zip(found["plain"][0][1], found[mine][0][1], strict=True)
            same = statistics.mean(a == b for a, b in pairs)
            ratio = statistics.median(ratios)
            print(f"{mine} is {ratio:.2f} times as fast as plain, {same:.1%} of labels agree")
    if {"decode", "network"} <= seconds.keys():
        floor = seconds["decode"] + seconds["network"]
        print(f"decoding and network one after the other: {videos / floor:.2f} videos/s")


def save_model(bench: Bench, folder: str) -> None:
    """A model folder of fresh weights."""
    torch.manual_seed(0)
    network: dict[str, Any] = {
        "name": bench.model, "num_classes": len(_CLASSES), "frames": bench.frames,
        "size_px": bench.size_px,
    }  # fmt: skip
    mean, std = KINETICS
    info = {
        "family": "deep",
        "name": bench.model,
        "class_names": _CLASSES,
        "network": network,
        "preprocessing": Preprocessing(
            num_frames=bench.frames, size_px=bench.size_px, mean=mean, std=std
        ),
        "clip": ClipSettings(frames_per_clip=bench.frames, size_px=bench.size_px),
    }
    built = models.build(**network).network
    _spread(built, bench)
    save_deep(folder, info, built.state_dict())


@torch.no_grad()
def _spread(network: torch.nn.Module, bench: Bench) -> None:
    """Statistics of batch norms as training would leave them, so that labels are not all one."""
    noise = torch.randn(4, 3, bench.frames, bench.size_px, bench.size_px)
    for _ in range(3):
        network.train()(noise)


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
                labels[row] = _CLASSES[best]
    return time.perf_counter() - began, labels


# vidray's ways, and the floor

_in_worker: dict[str, Any] = {}


def _start_label(config: dict[str, Any]) -> None:
    _in_worker["label"] = label_videos(config)


def _label(video: dict[str, Any]) -> str:
    row = {**video, "label": None, "true_label": None, "attempts": 1}
    label: str = _in_worker["label"](row)["label"][0].as_py()
    return label


def _start_decode(folder: str) -> None:
    model = models.load(folder)
    assert isinstance(model, models.DeepModel)
    _in_worker["clip"] = model.clip


def _decode(video: dict[str, Any]) -> str:
    with storage.opened(video["uri"]) as source, Video(source) as opened:
        clips.read_clips(opened, source, _in_worker["clip"])
    return ""


def _start_network(config: dict[str, Any]) -> None:
    use_one_thread()
    model = models.load(config["model"])
    assert isinstance(model, models.DeepModel)
    clip = model.clip
    shape = (1, clip.frames_per_clip, clip.size_px, clip.size_px, 3)
    pixels: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    predict = TorchPredictor(model, LabelSettings.from_json(config))
    _in_worker["network"] = lambda: predict(pixels)


def _network(_: dict[str, Any]) -> str:
    _in_worker["network"]()
    return ""


def _pool(
    start: Callable[..., None],
    given: tuple[Any, ...],
    work: Callable[[dict[str, Any]], str],
    videos: list[dict[str, Any]],
    workers: int,
) -> tuple[float, list[str]]:
    """The work of a sandbox in a bare pool of processes."""
    # Not forked: PyTorch's threads, started by the plain way, are not there in the child, which
    # waits for them for ever.
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=start, initargs=given) as pool:
        list(pool.map(work, videos[: 2 * workers]))  # Start-up apart.
        began = time.perf_counter()
        labels = list(pool.map(work, videos))
        return time.perf_counter() - began, labels


def _ray(bench: Bench, model: str, source: str, out: Path) -> tuple[float, list[str]]:
    shutil.rmtree(out, ignore_errors=True)
    given = {
        "model": model, "videos": source, "out": out, "workers": bench.workers,
        "precision": bench.precision, "long-seconds": 43_200,
    }  # fmt: skip
    flags = [str(word) for name, value in given.items() for word in (f"--{name}", value)]
    flags += ["--compile"] if bench.compile else []
    command = [sys.executable, str(_ROOT / "jobs" / "label.py"), *flags]
    subprocess.run(command, check=True, capture_output=True)
    report = run_folder.read_json(str(out))
    labels = read_labels(str(out), columns=["label"])["label"].to_pylist()
    return report["counts"]["videos"] / report["videos_per_second"], labels


if __name__ == "__main__":
    main(tyro.cli(Bench))
