"""Videos -> features: one Parquet row per video, or the reason why not.

    python jobs/extract.py --videos s3://bucket/clips --out s3://bucket/features

Needs nothing but the videos. Takes about half a second of one CPU for an 8-second 320x240 clip.
Leaves a run folder: features/*.parquet, run.json, _SUCCESS. Run the same command again after a kill
and it goes on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from vidray import cli, features, storage
from vidray.distributed import pipeline
from vidray.distributed.capacity import Resources
from vidray.errors import UserError
from vidray.features.extraction import Settings
from vidray.learning import split_report
from vidray.sources import list_videos
from vidray.tables import run_folder, summary, versions
from vidray.tables.runs import Run, read_parts
from vidray.tables.summary import Table
from vidray.video.decode import Limits


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
    max_corrupt_share: float = 1.0
    """A video of which the decoder marks a larger share of frames corrupt fails as damaged."""
    timeout_seconds: float = 600.0
    """A video that takes longer fails as timeout."""
    memory_gib: float = 2.0
    """Memory of one worker; a video that needs more fails as out_of_memory."""
    workers: int | None = None
    """Videos at once; every CPU of the cluster if not given."""
    num_blocks: int | None = None
    """Ray tasks in all; the result does not depend on it."""
    show: int = 0
    """Rows of the table to print at the end."""
    overwrite: bool = False
    """Start afresh: remove what an earlier run left in the folder first."""

    def __post_init__(self) -> None:
        if self.show < 0:
            raise UserError(f"show is {self.show}: it must be 0 or more")

    def settings(self) -> Settings:
        """What decides the numbers of a row."""
        return Settings(
            families=self.families or features.PRESETS[self.preset],
            enhance=self.enhance,
            decoder=self.decoder,
            max_sampled_frames=self.max_sampled_frames,
            limits=Limits(
                max_pixels=self.max_pixels,
                max_seconds=self.max_seconds,
                max_corrupt_share=self.max_corrupt_share,
            ),
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
    """List, extract what is not done yet, show it."""
    settings, resources = config.settings(), config.resources()
    out = storage.canonical(config.out)
    run_folder.check(out, "features", videos=config.videos)
    digest = f"{settings.digest} {config.split_fractions or 'splits as given'}"
    source = storage.without_secrets(storage.canonical(config.videos))
    own = versions.chosen(decoder=config.decoder, enhance=config.enhance)
    libraries = (*versions.FEATURES, *own)
    run = Run(out=out, table="features", videos=source, digest=digest, libraries=libraries)
    listing = partial(list_videos, config.videos, splits=config.split_fractions)
    report = pipeline.make_run(
        run,
        listing,
        settings,
        resources,
        _public(config, settings),
        verb="extract",
        overwrite=config.overwrite,
    )
    _show_rows(run, config.show)
    if config.split_fractions:
        split_report.print_split_counts(run.read_videos())
    summary.print_run(run, report)


def _public(config: ExtractConfig, settings: Settings) -> dict[str, Any]:
    """The config as run.json shows it, with all a model must know to extract alike; no secrets."""
    shown = cli.shown(config, without=("overwrite", "show"))
    return {**shown, "extraction": dataclasses.asdict(settings)}


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
                table.add_row(name, row["label"], Text(row["error_kind"], style="red"))
    if most:
        Console(width=summary.WIDTH).print(table)


if __name__ == "__main__":
    cli.run(ExtractConfig, main)
