"""Videos -> labels, night by night: those that are new, changed, or failed and may succeed now.

    python jobs/label.py --model s3://b/model --videos s3://b/clips --out s3://b/labels

Needs a model folder of either kind (jobs/train.py). A run commits all its labels at once; killed
at any moment and started again, it goes on where it stopped. Started twice at once, both share the
work. With nothing new it does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from vidray import cli
from vidray.distributed.resources import PredictorChoice, Resources
from vidray.errors import UserError
from vidray.flags import Flat
from vidray.labelling.options import LabelOptions, TwoStages


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Label videos with a trained model."""

    model: str
    """Model folder, local or in a bucket."""
    videos: str
    """Videos: a folder, CSV or Parquet manifest, one video, a glob; local or in a bucket."""
    out: str
    """Folder to write, local or in a bucket. Every run adds labels to it."""
    max_attempts: int = 3
    """Times a video is tried if it fails for a reason that may pass; then it waits until it
    changes."""
    dry_run: bool = False
    """List what would be labelled, and label nothing."""
    overwrite: bool = False
    """Start afresh: remove what an earlier run left in the folder first. Labels of other models go,
    too."""
    two: Annotated[TwoStages, Flat] = field(default_factory=TwoStages)
    settings: Annotated[LabelOptions, Flat] = field(default_factory=LabelOptions)
    resources: Annotated[Resources, Flat] = field(default_factory=Resources)
    predicting: Annotated[PredictorChoice, Flat] = field(default_factory=PredictorChoice)

    def __post_init__(self) -> None:
        if self.dry_run and self.overwrite:
            raise UserError("--dry-run changes nothing and --overwrite removes: give one of them")
        if self.max_attempts < 1:
            raise UserError(f"max_attempts is {self.max_attempts}: it must be 1 or more")


def main(config: LabelConfig) -> None:
    """Finish an unfinished run, list the videos, label what is left, commit."""
    # It takes half a second to import: not before the arguments are known to be right.
    from vidray.labelling import nights

    night = nights.begin(
        config.model,
        config.videos,
        config.out,
        config.settings,
        config.resources,
        config.predicting,
        two=config.two,
        max_attempts=config.max_attempts,
        config=cli.shown_flat(config, without=("dry_run", "overwrite")),
    )
    if config.dry_run:
        night.todo()
    else:
        night.work(overwrite=config.overwrite)


if __name__ == "__main__":
    cli.run(LabelConfig, main)
