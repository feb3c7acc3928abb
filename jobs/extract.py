"""Videos -> features: one Parquet row per video, or the reason why not.

    python jobs/extract.py --videos s3://bucket/clips --out s3://bucket/features

Needs nothing but the videos. Takes about half a second of one CPU for an 8-second 320x240 clip.
Leaves a run folder: features/*.parquet, run.json, _SUCCESS. Run the same command again after a kill
and it goes on.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from vidray import cli, features, pipeline, storage
from vidray.decode import Limits
from vidray.errors import UserError
from vidray.extraction import Settings
from vidray.pipeline import Resources
from vidray.progress import Meter, duration
from vidray.runs import Run, read_json, read_parts
from vidray.schema import ERROR_KINDS, STATUSES
from vidray.sources import list_videos


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """Turn videos into a table of features."""

    videos: str
    """Folder of class folders, folder with splits/, CSV or Parquet manifest, one video, a glob;
    local or in a bucket."""
    out: str
    """Run folder to write, local or in a bucket."""
    preset: Literal["default", "notebook"] = "default"
    """A set of feature families: compact, or the notebooks' 163,828 numbers."""
    families: tuple[str, ...] = ()
    """Feature families instead of a preset's."""
    enhance: Literal["off", "auto", "always"] = "off"
    """Denoise and sharpen sampled frames: never, where quality calls for it, always."""
    decoder: Literal["pyav", "opencv", "decord"] = "pyav"
    """Decoder; where the chosen one is not known to be exact, PyAV reads and the row says so."""
    split_fractions: tuple[float, float, float] | None = None
    """Derive train, val and test of these shares, by class and never splitting a group."""
    max_sampled_frames: int = 300
    """Frames looked at per video, one a second; a longer video is sampled more sparsely."""
    max_pixels: int = 36_000_000
    """A video of larger frames fails as too_large."""
    max_seconds: float = 43_200.0
    """A longer video fails as too_large."""
    timeout_seconds: float = 600.0
    """A video that takes longer fails as timeout."""
    memory_gib: float = 2.0
    """Memory of one worker; a video that needs more fails as too_large."""
    workers: int | None = None
    """Videos at once; every CPU of the cluster if not given."""
    num_blocks: int | None = None
    """Ray tasks in all; the result does not depend on it."""
    show: int = 0
    """Rows of the table to print at the end."""
    overwrite: bool = False
    """Remove an earlier run from the folder first."""

    def settings(self) -> Settings:
        """What decides the numbers of a row."""
        return Settings(
            families=self.families or features.PRESETS[self.preset],
            enhance=self.enhance,
            decoder=self.decoder,
            max_sampled_frames=self.max_sampled_frames,
            limits=Limits(max_pixels=self.max_pixels, max_seconds=self.max_seconds),
        )

    def resources(self) -> Resources:
        """What the job may use."""
        return Resources(
            workers=self.workers,
            memory_bytes=int(self.memory_gib * 2**30),
            timeout_seconds=self.timeout_seconds,
            num_blocks=self.num_blocks,
        )


def main(config: ExtractConfig) -> None:
    """List, extract what is not done yet, check, publish, summarise."""
    settings, resources = config.settings(), config.resources()
    out = storage.canonical(config.out)
    digest = f"{settings.digest} {config.split_fractions or 'splits as given'}"
    source = storage.without_secrets(storage.canonical(config.videos))
    run = Run(out=out, table="features", videos=source, digest=digest)
    listing = cache(partial(list_videos, config.videos, splits=config.split_fractions))
    if config.overwrite:
        listing()  # Nothing goes for a wrong source.
        run.overwrite()
    run.check_settings(_public(config))
    if run.is_finished():
        _say_finished(run, listing(), config.show)
        return

    began = time.monotonic()
    videos = run.videos_to_do(_public(config), listing)
    videos = videos.append_column("part", run.part_numbers(videos))
    done = set(run.done_parts())
    todo = videos.filter([part not in done for part in videos["part"].to_pylist()])
    listed = time.monotonic()

    startup_seconds = pipeline.start_ray(settings, resources) if len(todo) else 0.0
    stages: Counter[str] = Counter()
    working = time.monotonic()
    with Meter("extract", total=len(videos), done=len(videos) - len(todo)) as meter:
        for receipt in pipeline.extract(todo, run, settings, resources) if len(todo) else ():
            stages.update(receipt["seconds"])
            meter.add(done=receipt["videos"], failed=receipt["failed"])
    worked_seconds = time.monotonic() - working

    counts = run.check(videos)
    report = {
        "counts": counts,
        "seconds": {
            "listing": round(listed - began, 3),
            "startup": round(startup_seconds, 3),
            "working": round(worked_seconds, 3),
            "in_workers": {name: round(seconds, 3) for name, seconds in sorted(stages.items())},
        },
        "videos_done_before": len(videos) - len(todo),
        "videos_per_second": round(len(todo) / worked_seconds, 3) if len(todo) else None,
    }
    run.publish(_public(config), report)
    _show_rows(run, config.show)
    _summarise(run, report)


def _public(config: ExtractConfig) -> dict[str, Any]:
    """The config as run.json shows it: what was asked for, without secrets in addresses."""
    values = dataclasses.asdict(config)
    del values["overwrite"], values["show"]
    return {
        name: storage.without_secrets(v) if isinstance(v, str) else v for name, v in values.items()
    }


def _say_finished(run: Run, now: pa.Table, show: int) -> None:
    """A finished run asked for again: nothing to do, unless the source is not what it was."""
    before = run.read_videos()
    old, new = (
        set(zip(*(t[c].to_pylist() for c in t.column_names), strict=True)) for t in (before, now)
    )
    if old != new:
        raise UserError(
            f"{run.out} holds a finished run of {len(before)} videos, and {run.videos} "
            "has changed since: "
            f"{len(new - old)} rows new or changed, {len(old - new)} gone or changed. "
            "Choose another --out, or give --overwrite to extract all again"
        )
    print(f"nothing to do: {run.out} holds the finished table of these {len(before)} videos")
    _show_rows(run, show)
    _summarise(run, read_json(run.out))


def _show_rows(run: Run, most: int) -> None:
    """The first rows of the table, a line each."""
    columns = ["uri", "label", "status", "error_kind", "codec", "width_px", "height_px"]
    numbers = ["num_frames", "frames_per_second", "sharpness", "noise"]
    table = Table(
        "video", "label", "codec", "size", "frames", "fps", "sharpness", "noise", box=None
    )
    for part in read_parts(run.out, columns=[*columns, *numbers]) if most else ():
        for row in part.slice(0, most - table.row_count).to_pylist():
            name = storage.name_of(row["uri"])
            if row["status"] == "ok":
                size = f"{row['width_px']}x{row['height_px']}"
                told = [f"{row[number]:.4g}" for number in numbers]
                table.add_row(name, row["label"], row["codec"], size, *told)
            else:
                table.add_row(name, row["label"], f"[red]{row['error_kind']}[/red]")
    if most:
        Console(width=110).print(table)


def _summarise(run: Run, report: dict[str, Any]) -> None:
    """What a person wants to know at the end, on stdout."""
    counts, seconds = report["counts"], report["seconds"]
    by_status = ", ".join(f"{counts[status]} {status}" for status in STATUSES)
    print(f"{counts['videos']} videos: {by_status}")
    if counts["error_kinds"]:
        table = Table("error kind", "videos", "what it means", box=None)
        for kind, number in sorted(counts["error_kinds"].items(), key=lambda item: -item[1]):
            table.add_row(kind, str(number), ERROR_KINDS[kind])
        Console(width=110).print(table)
    rate = report["videos_per_second"]
    speed = f"{rate:.1f} videos/s, " if rate else ""
    work, start = duration(seconds["working"]), duration(seconds["startup"])
    print(f"{speed}{work} of work, {start} to start Ray")
    print(f"table: {storage.join(run.out, 'features')}")


if __name__ == "__main__":
    cli.run(ExtractConfig, main)
