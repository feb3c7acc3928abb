"""Videos -> features: one Parquet row per video, or the reason why not.

    python jobs/extract.py --videos s3://bucket/clips --out s3://bucket/features

Needs nothing but the videos. Takes about half a second of one CPU for an 8-second 320x240 clip.
Leaves a run folder: features/*.parquet, run.json, _SUCCESS. Run the same command again after a kill
and it goes on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from vidray import cli, features
from vidray.distributed.resources import Resources
from vidray.errors import UserError
from vidray.features.extraction import Settings
from vidray.flags import Flat


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """Turn videos into a table of features."""

    videos: str
    """Videos: a folder, CSV or Parquet manifest, one video, a glob; local or in a bucket. Class
    folders, splits/ or a column give labels."""
    out: str
    """Folder to write, local or in a bucket."""
    preset: Literal["default", "notebook"] = "default"
    """Default choices, or those of the notebooks. The feature families: flow, or the notebooks'
    five with 163,828 numbers."""
    split_fractions: tuple[float, float, float] | None = None
    """Derive train, val and test of these shares, never splitting a recording."""
    show: int = 0
    """Rows of the table to print at the end."""
    overwrite: bool = False
    """Start afresh: remove what an earlier run left in the folder first."""
    settings: Annotated[Settings, Flat] = field(default_factory=lambda: Settings(families=()))
    resources: Annotated[Resources, Flat] = field(default_factory=Resources)

    def __post_init__(self) -> None:
        if self.show < 0:
            raise UserError(f"show is {self.show}: it must be 0 or more")

    @property
    def extraction(self) -> Settings:
        """The settings that decide a row's numbers, with the named families or the preset's."""
        families = self.settings.families or features.PRESETS[self.preset]
        return dataclasses.replace(self.settings, families=families)


def main(config: ExtractConfig) -> None:
    """List the videos, extract what is not done yet, show the table."""
    # It takes half a second to import: not before the arguments are known to be right.
    from vidray.distributed import table_job

    table_job.make(
        "features",
        config.videos,
        config.out,
        config.extraction,
        config.resources,
        config=_public(config),
        verb="extract",
        split_fractions=config.split_fractions,
        show=config.show,
        overwrite=config.overwrite,
    )


def _public(config: ExtractConfig) -> dict[str, Any]:
    """The config as run.json shows it, with all a model must know to extract alike; no secrets."""
    shown = cli.shown_flat(config, without=("overwrite", "show", "predictors"))
    return {**shown, "extraction": dataclasses.asdict(config.extraction)}


if __name__ == "__main__":
    cli.run(ExtractConfig, main)
