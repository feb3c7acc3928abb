"""Labelled videos -> clips: decoded once, trained on for many epochs.

    python jobs/clips.py --videos s3://bucket/clips --out s3://bucket/cut --size-px 128

Needs nothing but the videos. Takes about a tenth of a second of one CPU for an 8-second 320x240
video. Leaves a run folder: clips/*.parquet and *.npy, run.json, _SUCCESS. Run the same command
again after a kill and it goes on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from vidray import cli, storage
from vidray.distributed.resources import Resources
from vidray.flags import Flat
from vidray.sources import list_videos
from vidray.tables import run_folder, summary, versions
from vidray.tables.runs import Run
from vidray.video.clips import ClipSettings


@dataclass(frozen=True, kw_only=True)
class ClipsConfig:
    """Cut labelled videos into clips to train on."""

    videos: str
    """Videos: a folder, CSV or Parquet manifest, one video, a glob; local or in a bucket. Class
    folders, splits/ or a column give labels; videos without one are skipped."""
    out: str
    """Folder to write, local or in a bucket."""
    split_fractions: tuple[float, float, float] | None = None
    """Derive train, val and test of these shares, never splitting a recording."""
    overwrite: bool = False
    """Start afresh: remove what an earlier run left in the folder first."""
    settings: Annotated[ClipSettings, Flat] = field(default_factory=ClipSettings)
    resources: Annotated[Resources, Flat] = field(default_factory=Resources)


def main(config: ClipsConfig) -> None:
    """List, cut what is not done yet, check, publish, summarise."""
    run = _run(config)
    # Ray takes seconds to import: not before the arguments are known to be right.
    from vidray.distributed import pipeline
    from vidray.learning import split_report

    report = pipeline.make_run(
        run,
        partial(list_videos, config.videos, splits=config.split_fractions),
        config.settings,
        config.resources,
        _public(config),
        verb="clips",
        overwrite=config.overwrite,
    )
    if config.split_fractions:
        split_report.print_split_counts(run.read_videos())
    summary.print_run(run, report)


def _run(config: ClipsConfig) -> Run:
    """The run folder, which is free or holds a run of this job."""
    settings, out = config.settings, storage.canonical(config.out)
    run_folder.check(out, "clips", videos=config.videos)
    return Run(
        out=out,
        table="clips",
        videos=storage.without_secrets(storage.canonical(config.videos)),
        digest=f"{settings.digest} {config.split_fractions or 'splits as given'}",
        libraries=(*versions.DECODING, *versions.chosen(decoder=settings.decoder)),
    )


def _public(config: ClipsConfig) -> dict[str, Any]:
    """The config as run.json shows it, with all that a model must know to cut clips alike."""
    shown = cli.shown_flat(config, without=("overwrite", "predictors"))
    return {**shown, "clip": dataclasses.asdict(config.settings)}


if __name__ == "__main__":
    cli.run(ClipsConfig, main)
