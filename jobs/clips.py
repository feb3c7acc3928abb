"""Labelled videos -> clips: decoded once, trained on for many epochs.

    python jobs/clips.py --videos s3://bucket/clips --out s3://bucket/cut --size-px 128
    python jobs/clips.py --videos clips --out runs/clips --model r3d_18  # as it was trained

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
from vidray.errors import UserError
from vidray.flags import Flat
from vidray.models.clip_flags import ClipFlags
from vidray.models.recipes import Recipe
from vidray.models.trained_on import recipe_to_cut_by
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
    model: str | None = None
    """Deep model, such as r3d_18, whose clips are cut as its --weights were trained: frames, their
    rate, size, resizer. Flags that are given win."""
    weights: str = "default"
    """Initial weights: none, the published ones (default), a file, a model folder, or
    hf:OWNER/NAME[@REVISION] or hf:FOLDER of transformers."""
    settings: Annotated[ClipFlags, Flat] = field(default_factory=ClipFlags)
    resources: Annotated[Resources, Flat] = field(default_factory=Resources)

    def __post_init__(self) -> None:
        if self.model is None and self.weights != "default":
            raise UserError("--weights has no effect without --model: leave it out")


def main(config: ClipsConfig) -> None:
    """List the videos, cut what is not done yet, check, publish, summarise."""
    config = dataclasses.replace(config, resources=config.resources.filled())
    recipe = None
    if config.model is not None:
        recipe = recipe_to_cut_by(config.model, config.weights)
    settings = config.settings.settings(recipe)
    if recipe is not None:
        _print_recipe(config, recipe)
    # It takes half a second to import: not before the arguments are known to be right.
    from vidray.distributed import table_job

    table_job.make(
        "clips",
        config.videos,
        config.out,
        settings,
        config.resources,
        config=_public(config, settings, recipe),
        verb="clips",
        split_fractions=config.split_fractions,
        overwrite=config.overwrite,
    )


def _print_recipe(config: ClipsConfig, recipe: Recipe) -> None:
    """Say what the weights were trained on, and what is asked for otherwise."""
    asked = ", ".join(config.settings.contradictions(recipe))
    otherwise = f"; asked for otherwise: {asked}" if asked else ""
    lacks = f"; lacks {recipe.lacks}" if recipe.lacks else ""
    print(f"note: {config.model} was trained on {recipe}{lacks}{otherwise}")


def _public(config: ClipsConfig, settings: ClipSettings, recipe: Recipe | None) -> dict[str, Any]:
    """The config as run.json shows it, with all that a model must know to cut clips alike."""
    shown = cli.shown_flat(config, without=("overwrite", "predictors"))
    cut = dataclasses.asdict(settings)
    used = {name: value for name, value in cut.items() if name in shown}
    trained = {} if recipe is None else {"recipe": dataclasses.asdict(recipe)}
    return {**shown, **used, **trained, "clip": cut}


if __name__ == "__main__":
    cli.run(ClipsConfig, main)
