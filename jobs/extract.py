"""Videos -> features: one Parquet row per video, or the reason why not.

    python jobs/extract.py --videos s3://bucket/clips --out s3://bucket/features

Needs nothing but the videos. Takes about half a second of one CPU for an 8-second 320x240 clip.
Leaves a run folder: features/*.parquet, run.json, _SUCCESS. Run the same command again after a kill
and it goes on.

    python jobs/extract.py --videos clips --out features --embed models/r3d --families flow

also shows four clips of each video to a trained network, on GPUs where there are any, and keeps
what its head sees: mean, maximum and deviation.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from vidray import cli, features, flags, storage
from vidray.distributed.resources import PredictorChoice, Resources
from vidray.errors import UserError
from vidray.features.extraction import Settings
from vidray.flags import Flat
from vidray.labelling.embed_options import EmbedOptions

if TYPE_CHECKING:
    from vidray.labelling.embedding import EmbedSettings


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
    embedding: Annotated[EmbedOptions, Flat] = field(default_factory=EmbedOptions)
    resources: Annotated[Resources, Flat] = field(default_factory=Resources)
    predicting: Annotated[PredictorChoice, Flat] = field(default_factory=PredictorChoice)

    def __post_init__(self) -> None:
        if self.show < 0:
            raise UserError(f"show is {self.show}: it must be 0 or more")
        if self.embedding.embed is None:
            for options in (self.embedding, self.predicting):
                flags.refuse_unused(options, "an extraction without --embed")

    def extraction(self) -> Settings | EmbedSettings:
        """The settings that decide a row's numbers, with the named families or the preset's."""
        if self.embedding.embed is not None:
            # It takes half a second to import, and looks at the network.
            from vidray.labelling import embedding

            return embedding.settings_of(self.embedding, self.settings, self.preset, self.resources)
        families = self.settings.families or features.PRESETS[self.preset]
        return dataclasses.replace(self.settings, families=families)


def main(config: ExtractConfig) -> None:
    """List the videos, extract what is not done yet, show the table."""
    # It takes half a second to import: not before the arguments are known to be right.
    from vidray.distributed import table_job

    holds_network = config.embedding.embed is not None
    resources = config.resources.filled(holds_network=holds_network)
    config = dataclasses.replace(config, resources=resources)
    extraction = config.extraction()
    table_job.make(
        "features",
        config.videos,
        config.out,
        extraction,
        config.resources,
        predicting=(
            None if isinstance(extraction, Settings) else extraction.predicting(config.predicting)
        ),
        config=_public(config, extraction),
        verb="extract",
        split_fractions=config.split_fractions,
        show=config.show,
        overwrite=config.overwrite,
    )


def _public(config: ExtractConfig, extraction: Settings | EmbedSettings) -> dict[str, Any]:
    """The config as run.json shows it, with all a model must know to extract alike; no secrets."""
    without = ("overwrite", "show", "predictors", "gpus_per_predictor")
    shown = cli.shown_flat(config, without=without)
    if isinstance(extraction, Settings):
        return {**shown, "extraction": extraction.to_json()}
    # A training, started in another folder perhaps, copies the network.
    network = storage.without_secrets(extraction.network)
    return {**shown, "embed": network, "extraction": extraction.extraction.to_json()}


if __name__ == "__main__":
    cli.run(ExtractConfig, main)
