"""A night with nothing new over a table of a million labels, then one with ten new videos.

    python bench/nightly.py                  # a million files, which take a minute to make
    python bench/nightly.py --videos 100000

Files are empty and their labels made up, so nothing but listing, comparing and committing is
measured: seconds and peak memory of ``jobs/label.py`` from start to end. The ten are real videos.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import tyro

from bench.label import Bench as LabelBench
from bench.label import save_model
from tests.video_writer import write_video
from vidray import sources, storage
from vidray.labelling.commits import read_labels
from vidray.labelling.settings import LabelSettings, name_and_digest
from vidray.storage import names, parquet
from vidray.tables import schema

_ROOT = Path(__file__).resolve().parents[1]
_FILES_PER_FOLDER = 10_000
_NEW = 10


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Label a table with nothing new, then with ten new videos."""

    videos: int = 1_000_000
    """Files listed, and rows of the table."""


def main(bench: Bench) -> None:
    """Make, run twice, look."""
    with tempfile.TemporaryDirectory() as folder:
        videos, model, out = Path(folder) / "videos", f"{folder}/model", f"{folder}/out"
        _make_files(videos, bench.videos)
        save_model(LabelBench(model="resnet18_avg", frames=2, size_px=32), model)
        name, digest = name_and_digest(model)
        settings = LabelSettings(model=model, model_digest=digest)
        _write_labels(out, f"{name}-{settings.digest}", sources.list_videos(str(videos)))
        command = [
            sys.executable, str(_ROOT / "jobs" / "label.py"), "--model", model,
            "--videos", str(videos), "--out", out,
        ]  # fmt: skip
        _run("nothing new", command)
        for number in range(_NEW):
            write_video(videos / f"new{number}.mp4", num_frames=30, first_number=number)
        _run(f"{_NEW} new", command)
        rows = read_labels(out, columns=["uri", "commit", "status"])
        newest = rows.filter(pc.equal(rows["commit"], 2)).to_pylist()
        names = {Path(row["uri"]).name for row in newest if row["status"] == "ok"}
        right = names == {f"new{number}.mp4" for number in range(_NEW)}
        print(f"labelled: {len(newest)} videos, the new ones: {right}; rows: {len(rows)}")
        sys.exit(not right)


def _make_files(folder: Path, number: int) -> None:
    for k in range(number):
        if k % _FILES_PER_FOLDER == 0:
            inside = folder / f"day{k // _FILES_PER_FOLDER:04d}"
            inside.mkdir(parents=True)
        (inside / f"clip{k:07d}.mp4").touch()


def _write_labels(out: str, name: str, videos: pa.Table) -> None:
    """One commit with a made-up label of every video."""
    number = len(videos)
    probability = np.random.default_rng(0).random(number)
    pairs = pa.array(np.stack([probability, 1 - probability], axis=1).ravel())
    columns: dict[str, Any] = {
        "status": pa.array(["ok"] * number),
        "label": pa.array(np.where(probability > 0.5, "a", "b")),
        "probability": pa.array(probability),
        "probabilities": pa.ListArray.from_arrays(
            np.arange(0, 2 * number + 1, 2, dtype=np.int32), pairs
        ),
        "duration_seconds": pa.array(10 * probability),
        "attempts": pa.array(np.ones(number, np.int32)),
        "config_digest": pa.array(["0" * 12] * number),
        "model_digest": pa.array(["0" * 12] * number),
        "labelled_at": pa.array([datetime.datetime.now(datetime.UTC)] * number),
        "commit": pa.array(np.ones(number, np.int32)),
    }
    same = [field for field in schema.VIDEOS.names if field != "label"]
    columns |= {field: videos[field] for field in same if field in schema.LABELS.names}
    missing = {f.name: pa.nulls(number, f.type) for f in schema.LABELS if f.name not in columns}
    arrays = [{**missing, **columns}[f.name].cast(f.type) for f in schema.LABELS]
    table = pa.table(
        arrays,
        schema=schema.LABELS.with_metadata({"vidray.runs": json.dumps([names.new_token()])}),
    )
    data = parquet.parquet_bytes(table)
    where = storage.join(out, "labels", f"set={name}")
    storage.write_bytes(storage.join(where, "commit-000001.parquet"), data)


def _run(what: str, command: list[str]) -> None:
    began, peak_bytes = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak_bytes = max(peak_bytes, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.05)
        assert process.stdout is not None
        said = process.stdout.read().strip()
    seconds = time.monotonic() - began
    assert process.returncode == 0, said
    print(said)
    print(f"{what}: {seconds:.1f} s, {peak_bytes / 2**30:.2f} GiB", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Bench))
