"""Parts of ``bench/gpu.py`` that need videos: waiting for clips on disk, and the jobs."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.gpu_parts import (
    CLASSES,
    WAYS,
    Pinned,
    Ready,
    Rows,
    Way,
    attempt,
    device_here,
    fit,
    fresh_model,
    loader_of,
    logits_of,
    median_speed,
    tidy,
)
from bench.gpu_plan import Bench
from bench.gpu_results import Figures
from bench.training import Trial, _loader
from vidray import models
from vidray.learning import loop
from vidray.learning.hyperparameters import Training
from vidray.learning.loader import TrainingLoader
from vidray.models.inference import Read
from vidray.video.clips import ClipSettings

ROOT = Path(__file__).resolve().parents[1]


def _videos(folder: Path, *, copies: int) -> Path:
    """Synthetic videos: 24 of each copy, every copy of other recordings."""
    videos = folder / "videos"
    if videos.exists():
        return videos
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(_make_copy, [(str(folder / "made"), number) for number in range(copies)]))
    for number in range(copies):
        for file in sorted((folder / "made" / str(number)).rglob("*.*")):
            # v_spin_g03_c01.avi of copy 2 is of recording 15.
            scene = int(re.findall(r"_g(\d+)_", file.name)[0]) if "_g" in file.name else 0
            name = re.sub(r"_g\d+_", f"_g{scene + 6 * number:03d}_", file.name)
            target = videos / file.parent.name / name
            target.parent.mkdir(parents=True, exist_ok=True)
            file.rename(target)
    return videos


def _make_copy(given: tuple[str, int]) -> None:
    from vidray.video import synthetic

    folder, number = given
    synthetic.make_clips(Path(folder) / str(number), seed=number)


def _cut(videos: Path, out: Path, settings: ClipSettings) -> None:
    """Cut clips as jobs/clips.py does, in a pool of processes instead of on Ray."""
    import pyarrow as pa

    from vidray import sources
    from vidray.tables.runs import Run

    listed = sources.list_videos(str(videos), splits=(0.6, 0.2, 0.2))
    run = Run(out=str(out), table="clips", videos=str(videos), digest=settings.digest)
    config = {"clip": asdict(settings)}
    run.videos_to_do(config, lambda: listed)
    rows = listed.to_pylist()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        batches = list(pool.map(_cut_one, rows, [settings] * len(rows), chunksize=4))
    parts: dict[int, list[Any]] = {}
    for part, batch in zip(run.part_numbers(listed).to_pylist(), batches, strict=True):
        parts.setdefault(part, []).append(batch)
    for part, some in parts.items():
        run.write_part(part, pa.Table.from_batches(some))
    run.publish(config, {"counts": run.check(listed)})


def _cut_one(video: dict[str, Any], settings: ClipSettings) -> Any:
    from vidray.video.clips import cut_video

    return cut_video(video, settings)


def wait(bench: Bench, folder: Path, known: set[str]) -> Rows:
    """Training from shards on disk; what is learned is then judged in each precision."""
    from vidray.learning.deep_job import labelled_rows
    from vidray.tables.shards import Clips

    began = time.monotonic()
    videos = _videos(folder / "synthetic", copies=1 if bench.tiny else 16)
    made = time.monotonic()
    if not (folder / "clips").exists():
        _cut(videos, folder / "clips", ClipSettings(frames_per_clip=16, size_px=128))
    clips = Clips(str(folder / "clips"))
    print(f"  {clips!r}: made in {made - began:.0f} s, cut in {time.monotonic() - made:.0f} s")
    names = tuple(sorted(set(clips.table["label"].to_pylist())))
    train, _ = labelled_rows(clips, "train", names)
    measures: dict[str, Callable[[], Figures]] = {
        f"the loader alone, {threads} threads": partial(_loader_alone, bench, clips, train, threads)
        for threads in sorted({1, 4, torch.get_num_threads()})
    }
    for name, ways in {
        "r3d_18": (WAYS[0], WAYS[3]), "resnet18_avg": WAYS[2:3], "two_stream_late": WAYS[2:3],
    }.items():  # fmt: skip
        for way in ways:
            measures[f"{name}, {way.name}"] = partial(_waiting, bench, clips, train, name, way)
    measures["a trained r3d_18"] = partial(_learned, bench, clips, names)
    for key, measure in measures.items():
        if key not in known:
            yield key, attempt(measure)


def _trial_of_clips(bench: Bench, name: str, way: Way, epochs: int) -> Trial:
    training = Training(
        epochs=epochs, batch_size=4 if bench.tiny else 32, precision=way.precision,
        channels_last=way.channels_last, learning_rate=1e-3,
    )  # fmt: skip
    frames, size_px = (4, 32) if bench.tiny else (16, 112)
    return Trial(model=name, frames=frames, size_px=size_px, training=training)


def _repeated(clips: Any, rows: NDArray[np.int64]) -> Read:
    return lambda wanted: clips.read(rows[wanted % len(rows)])


def _loader_alone(bench: Bench, clips: Any, rows: NDArray[np.int64], threads: int) -> Figures:
    loader = _loader(_trial_of_clips(bench, "r3d_18", WAYS[0], 1), _repeated(clips, rows),
                     16 if bench.tiny else 512)  # fmt: skip
    loader.threads = threads
    speed = median_speed(bench, len(loader.labels), lambda: sum(1 for _ in loader.epoch(0)))
    print(f"  the loader alone, {threads} threads: {speed:.0f} clips/s", flush=True)
    return {"threads": threads, "clips_per_second": speed}


def _waiting(bench: Bench, clips: Any, rows: NDArray[np.int64], name: str, way: Way) -> Figures:
    """The real loader against batches that lie ready: what more it takes is lost to the loader,
    waiting or not: its threads also slow down the one that feeds the GPU.
    """
    trial = _trial_of_clips(bench, name, way, bench.runs + 1)
    device = torch.device(device_here())
    number = 8 if bench.tiny else 32 * 12
    found = {}
    for feed, kind in (("pinned", Pinned), ("ready", Ready), ("loader", TrainingLoader)):
        loader = loader_of(trial, _repeated(clips, rows), number, kind)
        epochs = fit(trial, loader, device)[1:]
        found[feed] = statistics.median(row.seconds for row in epochs)
        waited = statistics.median(row.seconds_waiting_for_data / row.seconds for row in epochs)
        tidy()
    row: Figures = {
        "network": name, "way": way.name, "batch": trial.training.batch_size,
        "clips_per_second": number / found["loader"],
        "clips_per_second_ready": number / found["ready"],
        "clips_per_second_pinned": number / found["pinned"],
        "share_lost": max(0.0, 1 - found["ready"] / found["loader"]), "share_reported": waited,
    }  # fmt: skip
    print(
        "  {network:20s} {way:26s} {clips_per_second:8.1f} clips/s, from memory "
        "{clips_per_second_ready:8.1f} ({clips_per_second_pinned:.1f} pinned): {share_lost:.1%} "
        "lost (history.json: {share_reported:.1%} waiting)".format(**row),
        flush=True,
    )
    return row


def _learned(bench: Bench, clips: Any, names: tuple[str, ...]) -> Figures:
    """A network that has learned something, trained and judged in each precision."""
    from vidray.learning.deep_job import labelled_rows

    train, labels = labelled_rows(clips, "train", names)
    test, truth = labelled_rows(clips, "test", names)
    trial = _trial_of_clips(bench, "r3d_18", WAYS[0], 1 if bench.tiny else 12)
    plain = _loader(trial, _repeated(clips, train), len(train))
    loader = replace(plain, labels=labels, num_classes=CLASSES)
    torch.manual_seed(0)
    network = models.build_model("r3d_18", num_classes=CLASSES)
    loop.fit(network, loader, training=trial.training, device=torch.device(device_here()),
             on_epoch=lambda _rows, _save: None)  # fmt: skip
    model = replace(fresh_model(bench, "r3d_18", "cpu"), network=network.eval(),
                    preprocessing=loader.preprocessing)  # fmt: skip
    pixels = clips.read(test)
    logits = {"float32": logits_of(model, pixels, "float32")}
    logits["bfloat16"] = logits_of(model, pixels, "bfloat16")
    if torch.cuda.is_available():
        logits["float16"] = logits_of(model, pixels, "float16")
    model.network.to("cpu")
    reference = logits_of(model, pixels, "float32")
    figures: Figures = {"clips": len(test)}
    for name, found in {**logits, "CPU": reference}.items():
        figures[name] = {
            "accuracy": float((found.argmax(1) == truth).mean()),
            "same_labels": float((found.argmax(1) == reference.argmax(1)).mean()),
            "largest_difference": float(np.abs(found - reference).max()),
            "largest_logit": float(np.abs(reference).max()),
        }
        print("  trained r3d_18 in {0}: accuracy {accuracy:.3f}, {same_labels:.1%} of {1} labels "
              "as the CPU's, logits differ by {largest_difference:.1e} of {largest_logit:.1f}"
              .format(name, len(test), **figures[name]), flush=True)  # fmt: skip
    return figures


def jobs(bench: Bench, folder: Path, known: set[str]) -> Rows:
    """Run the commands from videos to labels, each in its own process."""
    videos = _videos(folder / "synthetic", copies=1 if bench.tiny else 16)
    runs = folder / "jobs"
    # What a command needs of another one is not there in a new folder: all of them, or none.
    commands = _commands(bench, videos, runs)
    if commands.keys() <= known:
        return
    for name, command in commands.items():
        yield name, _command(name, command)
    yield "reports", attempt(partial(_reports, runs))
    yield "labels", attempt(partial(_same_labels, runs))


def _commands(bench: Bench, videos: Path, runs: Path) -> dict[str, tuple[object, ...]]:
    size = ("--frames-per-clip", "4", "--size-px", "32") if bench.tiny else ("--size-px", "128")
    shape: tuple[str, ...] = ("--epochs", "1", "--batch-size", "4")
    if not bench.tiny:
        shape = ("--epochs", "10", "--batch-size", "32", "--crop-px", "112",
                 "--precision", "bfloat16")  # fmt: skip
    split = ("--split-fractions", "0.6", "0.2", "0.2")
    model, labels = runs / "model", ("jobs/label.py", "--model", runs / "model", "--videos", videos)
    return {
        "extract": ("jobs/extract.py", "--videos", videos, "--out", runs / "features"),
        "clips": ("jobs/clips.py", "--videos", videos, "--out", runs / "clips", *size, *split),
        "train": ("jobs/train.py", "--data", runs / "clips", "--model", "r3d_18", "--weights",
                  "none", "--out", model, *shape),
        "evaluate": ("jobs/evaluate.py", "--model", model, "--data", runs / "clips",
                     "--out", runs / "judged"),
        "label": (*labels, "--out", runs / "labels"),
        "label, bfloat16": (*labels, "--out", runs / "labels16", "--precision", "bfloat16"),
        "label, CPU": (*labels, "--out", runs / "labels-cpu", "--predictors", "0"),
    }  # fmt: skip


def _command(name: str, command: tuple[object, ...]) -> Figures:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    lines = [line.rstrip() for line in done.stdout.splitlines() if line.strip()][-6:]
    row: Figures = {"seconds": time.monotonic() - began, "last": lines}
    print(f"  {name}: exit {done.returncode} after {row['seconds']:.1f} s")
    print("\n".join(f"    {line}" for line in lines), flush=True)
    return row | ({"error": f"exit status {done.returncode}"} if done.returncode else {})


def _reports(runs: Path) -> Figures:
    """Times and speeds that the jobs themselves report."""
    figures = {}
    for name in ("features", "clips", "labels", "labels16", "labels-cpu"):
        file = runs / name / "run.json"
        report = json.loads(file.read_text()) if file.exists() else {}
        wanted = ("counts", "videos_per_second", "cost_per_thousand_videos", "seconds")
        figures[name] = {key: report[key] for key in wanted if key in report}
        print(f"  {name}: {report.get('videos_per_second')} videos/s, "
              f"{report.get('cost_per_thousand_videos')}")  # fmt: skip
    return figures


def _same_labels(runs: Path) -> Figures:
    """Labels of the GPU's predictor against those of workers with the network in them."""
    from vidray.labelling.commits import read_labels

    found = {}
    for name in ("labels", "labels16", "labels-cpu"):
        if (runs / name / "run.json").exists():
            rows = read_labels(str(runs / name)).to_pylist()
            found[name] = {row["uri"]: row for row in rows if row["status"] == "ok"}
    if "labels-cpu" not in found:
        return {}
    reference = found.pop("labels-cpu")
    figures = {}
    for name, rows in found.items():
        pairs = [(row, reference[uri]) for uri, row in rows.items() if uri in reference]
        figures[name] = {
            "videos": len(pairs),
            "same": sum(a["label"] == b["label"] for a, b in pairs),
            "largest_difference": max(
                float(np.abs(np.subtract(a["probabilities"], b["probabilities"])).max())
                for a, b in pairs
            ),
        }
        print(f"  {name} against the CPU's: {figures[name]}")
    return figures
