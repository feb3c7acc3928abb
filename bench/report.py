"""Seconds, memory and size of a report over 100,000 labels of 30 nights, and how soon it opens.

    python bench/report.py                     # makes the history, which takes seconds
    python bench/report.py --labels 1000000    # ten times as many
    python bench/report.py --embedding 512     # with embeddings, which are 0.2 GB
    python bench/report.py --drift 0.5         # the last night's durations are half as long again

The history is a folder of labels as the nightly job leaves it: committed files, their reports, five
classes, recordings of several videos, failures of which some pass at the next attempt. Nothing is
decoded. The page is opened in a headless Chromium, which is to be installed, as is ``playwright``.
"""

from __future__ import annotations

import datetime
import functools
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from shutil import which
from subprocess import PIPE, run
from typing import Any

import numpy as np
import pyarrow as pa
import tyro
from numpy.typing import NDArray

from vidray import storage
from vidray.labelling import commit_files
from vidray.storage import json_file, names
from vidray.tables import schema

_ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("climb", "fall", "jump", "run", "walk")
_SHARES = (0.35, 0.05, 0.15, 0.25, 0.2)
_MODEL = "r3d_18-0123456789ab"
_FIRST_NIGHT = datetime.datetime(2026, 10, 1, 3, tzinfo=datetime.UTC)
_FAILED = {"unreadable": 0.005, "no_video": 0.003, "timeout": 0.002}
_OPENED = 3


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Make a history, its report, and open it."""

    labels: int = 100_000
    """Rows of the table of labels."""
    nights: int = 30
    """Commits."""
    recording: float = 5.0
    """Videos of a recording, on average."""
    embedding: int = 0
    """Numbers of the embedding beside each label; none if 0."""
    drift: float = 0.0
    """How much longer the last night's videos are, as a share."""
    seed: int = 0
    """Of the made-up labels."""


def main(bench: Bench) -> None:
    """Make, run, open, print."""
    with tempfile.TemporaryDirectory() as folder:
        write_history(f"{folder}/labels", bench)
        page = Path(folder) / "report.html"
        command = [
            sys.executable, str(_ROOT / "jobs" / "report.py"), "--runs", f"{folder}/labels",
            "--out", str(page), "--no-frames",
        ]  # fmt: skip
        began = time.monotonic()
        done = run(command, stdout=PIPE, text=True, check=False)
        seconds = time.monotonic() - began
        print(done.stdout)
        if done.returncode:
            sys.exit(done.returncode)
        peak = getrusage(RUSAGE_CHILDREN).ru_maxrss / 2**20
        opened = statistics.median(seconds_to_open(page) for _ in range(_OPENED))
        print(
            f"{bench.labels:,} labels of {bench.nights} nights: {seconds:.1f} s, {peak:.2f} GiB; "
            f"page of {page.stat().st_size / 1e6:.2f} MB, open in {opened:.2f} s"
        )


def write_history(out: str, bench: Bench) -> None:
    """A folder of labels, as the nightly job leaves it."""
    rng = np.random.default_rng(bench.seed)
    waiting = np.zeros(0, np.int64)
    first = 0
    for number, count in enumerate(_split(bench.labels, bench.nights), start=1):
        again = waiting[:count]
        new = np.arange(first, first + count - len(again))
        first += len(new)
        longer = 1 + bench.drift * (number == bench.nights)
        rows, waiting = _night(rng, new, again, number, bench, longer)
        name = commit_files.file_name(number, number)
        where = storage.join(out, "labels", f"set={_MODEL}", name)
        data = commit_files.to_bytes(rows, [names.new_token()], set_name=_MODEL)
        storage.write_bytes(where, data)
        report = _report(rows, number)
        json_file.write_json(storage.join(out, "nights", f"commit-{number:06d}.json"), report)
    head = {"kind": "label", "state": "finished", "set": _MODEL, "config": {"max_attempts": 3}}
    json_file.write_json(storage.join(out, "run.json"), {**head, **report})


def _split(total: int, parts: int) -> list[int]:
    return [len(part) for part in np.array_split(np.arange(total), parts)]


def _night(
    rng: np.random.Generator,
    new: NDArray[np.int64],
    again: NDArray[np.int64],
    number: int,
    bench: Bench,
    longer: float,
) -> tuple[pa.Table, NDArray[np.int64]]:
    """LABELS of a night, and the videos of them that another attempt may help."""
    ids = np.concatenate([again, new])
    count = len(ids)
    # Recordings are of one night each; so are their class, and how long their videos are.
    sizes = rng.geometric(1 / bench.recording, count)
    recording = np.repeat(np.arange(count), sizes)[:count]
    of_recording = rng.choice(len(CLASSES), count, p=_SHARES)[recording]
    truth = np.where(rng.random(count) < 0.8, of_recording, rng.integers(len(CLASSES), size=count))
    scores = rng.normal(size=(count, len(CLASSES)))
    scores[np.arange(count), truth] += 2.0
    probabilities = np.exp(1.5 * scores)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    seconds = np.exp(rng.normal(2.2, 0.5, count)[recording] + rng.normal(0, 0.2, count)) * longer
    kinds = rng.choice([*_FAILED, ""], count, p=[*_FAILED.values(), 1 - sum(_FAILED.values())])
    failed = kinds != ""
    is_again = np.arange(count) < len(again)
    columns: dict[str, Any] = {
        "video_id": [f"v{k:07d}" for k in ids],
        "uri": [f"s3://videos/day{number:02d}/clip{k:07d}.mp4" for k in ids],
        "fingerprint": [f"f{k}" for k in ids],
        "group": [f"n{number}g{k}" for k in recording],
        "status": np.where(failed, "failed", "ok"),
        "error_kind": pa.array(kinds, pa.string(), mask=~failed),
        "error_message": pa.array(np.full(count, "cannot be read"), pa.string(), mask=~failed),
        "label": pa.array(np.array(CLASSES)[probabilities.argmax(axis=1)], mask=failed),
        # A person has looked at one in ten.
        "true_label": pa.array(np.array(CLASSES)[truth], mask=rng.random(count) > 0.1),
        "probability": pa.array(probabilities.max(axis=1), mask=failed),
        "probabilities": _lists(probabilities.ravel(), failed),
        "class_names": _lists(_classes(count), failed),
        "duration_seconds": pa.array(seconds, mask=failed),
        "corrupt_share": pa.array(rng.random(count) * (rng.random(count) < 0.02), mask=failed),
        "attempts": np.where(is_again, 2, 1).astype(np.int32),
        "config_digest": ["0" * 12] * count,
        "model_digest": ["0" * 12] * count,
        "labelled_at": [_FIRST_NIGHT + datetime.timedelta(days=number - 1)] * count,
        "commit": np.full(count, number, np.int32),
    }
    if bench.embedding:
        vectors = rng.normal(size=(count, bench.embedding)).astype(np.float32)
        offsets = np.arange(count + 1, dtype=np.int32) * bench.embedding
        columns["embedding"] = pa.ListArray.from_arrays(offsets, vectors.ravel())
    arrays = [
        pa.array(columns[f.name]).cast(f.type) if f.name in columns else pa.nulls(count, f.type)
        for f in schema.LABELS
    ]
    table = pa.table(arrays, schema=schema.LABELS)
    return table.sort_by("uri"), ids[(kinds == "timeout") & ~is_again]


def _lists(values: Any, missing: NDArray[np.bool_]) -> pa.Array:
    """Lists of one length each; null where missing."""
    offsets = np.arange(len(missing) + 1, dtype=np.int32) * len(CLASSES)
    starts = pa.array(offsets, mask=np.append(missing, False))
    return pa.ListArray.from_arrays(starts, values)


def _classes(count: int) -> pa.Array:
    each = pa.array(np.tile(np.arange(len(CLASSES), dtype=np.int32), count))
    return pa.DictionaryArray.from_arrays(each, pa.array(CLASSES))


def _report(rows: pa.Table, number: int) -> dict[str, Any]:
    """run.json of a night, as far as a report reads it."""
    kinds, counts = np.unique(rows["error_kind"].drop_null().to_numpy(), return_counts=True)
    failed = int(counts.sum())
    speed = 3.0 + 0.1 * (number % 5)
    return {
        "commit": number,
        "counts": {
            "videos": len(rows),
            "ok": len(rows) - failed,
            "failed": failed,
            "skipped": 0,
            "error_kinds": dict(zip(kinds.tolist(), counts.tolist(), strict=True)),
        },
        "seconds": {"startup": 20.0, "working": round(len(rows) / speed, 1)},
        "videos_per_second": speed,
        "cost_per_thousand_videos": {"cpu_seconds": 590.0, "gpu_seconds": 0.0},
        "hours_of_video": round(float(np.nansum(rows["duration_seconds"].to_numpy())) / 3600, 3),
    }


@functools.cache
def _chromium() -> str:
    found = which("chromium") or which("chromium-browser") or which("google-chrome")
    assert found is not None, "no Chromium is installed: apt-get install chromium"
    return found


def seconds_to_open(page: Path) -> float:
    """From the browser's start of loading a page until it is drawn, its script included."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        began = time.monotonic()
        tab.goto(page.as_uri(), wait_until="load")
        # Two frames: the first one that shows the page has been painted by then.
        tab.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        seconds = time.monotonic() - began
        browser.close()
    return seconds


if __name__ == "__main__":
    main(tyro.cli(Bench))
