"""A model folder and a split of labelled videos -> how good it is, and what it costs.

    python jobs/evaluate.py --model models/r3d --data runs/clips --split test --out runs/r3d_test

Needs the features or clips the model learns from, of a finished run. Takes seconds for a classical
model and about the time of one training epoch without its backward passes for a deep one. Leaves
metrics.json, predictions.parquet (worst first), curves.json and their pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from vidray import cli, flags
from vidray.evaluation.judge_settings import JudgedTwo, JudgeSettings
from vidray.flags import Flat


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Judge a model on one split."""

    model: str
    """Model folder, local or in a bucket."""
    data: str
    """Finished run of jobs/extract.py for classical models, of jobs/clips.py for deep ones."""
    out: str
    """Folder to write, local or in a bucket."""
    overwrite: bool = False
    """Start afresh: remove what an earlier run left in the folder first."""
    two: Annotated[JudgedTwo, Flat] = field(default_factory=JudgedTwo)
    settings: Annotated[JudgeSettings, Flat] = field(default_factory=JudgeSettings)

    def __post_init__(self) -> None:
        if self.two.then is None:
            flags.refuse_unused(self.two, "one model, without --then")


def main(config: EvaluateConfig) -> None:
    """Judge a model, or two of which one is asked first, and show the result."""
    # These take seconds to import: not before the arguments are known to be right.
    if config.two.then is not None:
        _judge_two(config, config.two.then)
        return
    from vidray.evaluation import console, judging

    found = judging.evaluate(
        config.model, config.data, config.out, config.settings, overwrite=config.overwrite
    )
    console.print_evaluation(config.settings, config.out, found)


def _judge_two(config: EvaluateConfig, dear: str) -> None:
    from vidray.evaluation import two_stages

    metrics = two_stages.evaluate(
        two_stages.Asked(model_dir=config.model, data=config.data),
        two_stages.Asked(model_dir=dear, data=config.two.then_data or config.data),
        config.out,
        config.settings,
        allow=config.two.allow,
        overwrite=config.overwrite,
    )
    two_stages.print_figures(config.out, metrics)


if __name__ == "__main__":
    cli.run(EvaluateConfig, main)
