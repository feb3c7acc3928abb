"""Labelled videos -> clips: decoded once, trained on for many epochs.

    python jobs/clips.py --videos s3://bucket/clips --out s3://bucket/cut --size-px 128

Needs nothing but the videos. Takes about a tenth of a second of one CPU for an 8-second 320x240
video. Leaves a run folder: clips/*.parquet and *.npy, run.json, _SUCCESS. Run the same command
again after a kill and it goes on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from vidray import cli, storage
from vidray.distributed import pipeline
from vidray.distributed.capacity import Resources
from vidray.learning import split_report
from vidray.sources import list_videos
from vidray.tables import run_folder, summary, versions
from vidray.tables.runs import Run
from vidray.video.clips import ClipSettings
from vidray.video.decode import Limits


@dataclass(frozen=True, kw_only=True)
class ClipsConfig:
    """Cut labelled videos into clips to train on."""

    videos: str
    """Folder of class folders, folder with splits/, CSV or Parquet manifest, a glob; local or in a
    bucket. Videos without a label are skipped."""
    out: str
    """Run folder to write, local or in a bucket."""
    frames_per_clip: int = 16
    """Frames of one clip; a video of fewer gives some of them more than once."""
    size_px: int = 112
    """Width and height of a clip; some more than the model's leaves room for random crops."""
    clips_per_video: int = 1
    """The video is divided into so many stretches of equal time, and each gives one clip."""
    clip_seconds: float | None = None
    """What a clip spans, in the middle of its stretch; the whole stretch if not given."""
    fit: Literal["squash", "crop"] = "squash"
    """squash keeps the whole picture and changes its shape; crop keeps the middle square."""
    decoder: Literal["pyav", "opencv", "decord"] = "pyav"
    """Decoder; where the chosen one is not known to be exact, PyAV reads and the row says so."""
    split_fractions: tuple[float, float, float] | None = None
    """Derive train, val and test of these shares, by class and never splitting a group."""
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
    overwrite: bool = False
    """Start afresh: remove what an earlier run left in the folder first."""

    def settings(self) -> ClipSettings:
        """What decides the pixels of a clip."""
        return ClipSettings(
            frames_per_clip=self.frames_per_clip,
            size_px=self.size_px,
            clips_per_video=self.clips_per_video,
            clip_seconds=self.clip_seconds,
            fit=self.fit,
            decoder=self.decoder,
            limits=Limits(max_corrupt_share=self.max_corrupt_share),
        )

    def resources(self) -> Resources:
        """What the job may use."""
        return Resources(
            workers=self.workers,
            memory_bytes=int(self.memory_gib * 2**30),
            timeout_seconds=self.timeout_seconds,
            num_blocks=self.num_blocks,
        )


def main(config: ClipsConfig) -> None:
    """List, cut what is not done yet, check, publish, summarise."""
    settings = config.settings()
    out = storage.canonical(config.out)
    run_folder.check(out, "clips", videos=config.videos)
    digest = f"{settings.digest} {config.split_fractions or 'splits as given'}"
    source = storage.without_secrets(storage.canonical(config.videos))
    libraries = (*versions.DECODING, *versions.chosen(decoder=config.decoder))
    run = Run(out=out, table="clips", videos=source, digest=digest, libraries=libraries)
    report = pipeline.make_run(
        run,
        partial(list_videos, config.videos, splits=config.split_fractions),
        settings,
        config.resources(),
        _public(config, settings),
        verb="clips",
        overwrite=config.overwrite,
    )
    if config.split_fractions:
        split_report.print_split_counts(run.read_videos())
    summary.print_run(run, report)


def _public(config: ClipsConfig, settings: ClipSettings) -> dict[str, Any]:
    """The config as run.json shows it, with all that a model must know to cut clips alike."""
    shown = cli.shown(config, without=("overwrite",))
    return {**shown, "clip": dataclasses.asdict(settings)}


if __name__ == "__main__":
    cli.run(ClipsConfig, main)
