"""Labelled videos -> clips: decoded once, trained on for many epochs.

    python jobs/clips.py --videos s3://bucket/clips --out s3://bucket/cut --size-px 128

Needs nothing but the videos. Takes about a tenth of a second of one CPU for an 8-second 320x240
video. Leaves a run folder: clips/*.parquet and *.npy, run.json, _SUCCESS. Run the same command
again after a kill and it goes on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any

from vidray import cli
from vidray.distributed.resources import Resources
from vidray.flags import Flat
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
    """List the videos, cut what is not done yet, check, publish, summarise."""
    # It takes half a second to import: not before the arguments are known to be right.
    from vidray.distributed import table_job

    table_job.make(
        "clips",
        config.videos,
        config.out,
        config.settings,
        config.resources,
        config=_public(config),
        verb="clips",
        split_fractions=config.split_fractions,
        overwrite=config.overwrite,
    )


def _public(config: ClipsConfig) -> dict[str, Any]:
    """The config as run.json shows it, with all that a model must know to cut clips alike."""
    shown = cli.shown_flat(config, without=("overwrite", "predictors"))
    return {**shown, "clip": dataclasses.asdict(config.settings)}


if __name__ == "__main__":
    cli.run(ClipsConfig, main)
