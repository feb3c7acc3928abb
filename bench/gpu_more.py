"""Parts of ``bench/gpu.py``: labelling by exported models, with early exits, and by the jobs."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import embed_gpu
from bench.gpu_busy import watching
from bench.gpu_label import Given, Timed, given, in_turn, predict, predict_with
from bench.gpu_parts import Rows
from bench.gpu_plan import Bench
from bench.gpu_results import LeftOutError
from vidray.labelling.commits import read_labels
from vidray.labelling.options import LabelOptions

_ROOT = Path(__file__).resolve().parents[1]


def tensorrt(bench: Bench, work: Path, known: set[str]) -> Rows:
    """Models exported for TensorRT, beside the same network in PyTorch."""
    what = given(bench, work)
    ways: dict[str, Callable[[Given], Timed]] = {
        "predictor, float32": partial(predict_with, LabelOptions()),
        "predictor, bfloat16": partial(predict_with, LabelOptions(precision="bfloat16")),
    }
    for precision in ("float32", "float16"):
        ways[f"TensorRT, {precision}"] = partial(_exported, precision)
    yield from in_turn(what, ways, [5], known)


def _exported(precision: str, what: Given) -> Timed:
    """The folder that jobs/export.py makes: its engine is built here, before the clock starts."""
    out = what.folder / f"tensorrt-{precision}"
    if not (out / "_SUCCESS").exists():
        command = ["jobs/export.py", "--model", what.model, "--to", "tensorrt",
                   "--precision", precision, "--out", str(out),
                   # Weights are fresh, so that answers may be near ties: how many labels agree is
                   # counted over the videos.
                   "--compared-clips", "16", "--least-agreement", "0"]  # fmt: skip
        run_command(command)
    return predict(what, str(out), LabelOptions())


def run_command(command: list[str]) -> str:
    """A command of the project; what it said.

    Raises:
        RuntimeError: it failed; its last lines.
    """
    done = subprocess.run(
        [sys.executable, *command], cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        last = " | ".join(done.stdout.strip().splitlines()[-4:])
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {last}")
    return done.stdout


def job_label(bench: Bench, work: Path, known: set[str]) -> Rows:
    """jobs/label.py itself, from end to end."""
    what = given(bench, work)
    ways: dict[str, Callable[[Given], Timed]] = {
        f"jobs/label.py, {precision}": partial(_job, precision)
        for precision in ("float32", "bfloat16")
    }
    yield from in_turn(what, ways, [1], known)


def _job(precision: str, what: Given) -> Timed:
    out = what.folder / f"labels-{precision}-{os.getpid()}"
    began = time.time()
    command = ["jobs/label.py", "--model", what.model, "--videos", str(what.folder / "videos"),
               "--out", str(out), "--precision", precision]  # fmt: skip
    with watching() as watch:
        run_command(command)
    report = json.loads((out / "run.json").read_text())
    # Its working time ends about when run.json is written.
    ended = (out / "run.json").stat().st_mtime
    seconds = len(what.videos) / float(report["videos_per_second"])
    rows = {row["uri"]: row["label"] for row in read_labels(str(out)).to_pylist()}
    labels = [str(rows[video["uri"]]) for video in what.videos]
    busy = watch.between(ended - seconds, ended)
    return Timed(seconds, labels, busy, watch.peak_bytes(began, ended), ended - seconds - began)


def exits(bench: Bench, work: Path, known: set[str]) -> Rows:
    """A network with two exits, where no clip, half of them and all leave at the first one."""
    if importlib.util.find_spec("vidray.models.exit_rule") is None:
        raise LeftOutError("this vidray has no early exits")
    from bench import gpu_exits

    what = given(bench, work)
    ways: dict[str, Callable[[Given], Timed]] = {
        f"early exits, {name} leave": partial(_leaving, name, gpu_exits.model_that_leaves)
        for name in ("none", "half", "all")
    }
    yield from in_turn(what, ways, [6], known)


def _leaving(name: str, make: Callable[[Given, str], str], what: Given) -> Timed:
    return predict(what, make(what, name), LabelOptions())


def embed(bench: Bench, work: Path, known: set[str]) -> Rows:
    """bench/embed_gpu.py, with Ray where that is installed."""
    settings = embed_gpu.Bench(
        videos=bench.clips, decoders=bench.decoders, tiny=bench.tiny, with_jobs=not bench.tiny
    )
    yield from embed_gpu.measure(settings, work / "embed", known)
