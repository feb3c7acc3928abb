"""Labelled features or clips -> a model folder, ready for jobs/evaluate.py and jobs/label.py.

    python jobs/train.py --data runs/features --model extra_trees --out models/trees
    python jobs/train.py --data runs/clips --model r3d_18 --out models/r3d --epochs 30 --workers 2
    python jobs/train.py --data runs/clips --model videomae_small --pretrain --out models/begun

Classical models learn from a run folder of jobs/extract.py in seconds to minutes; deep ones from
one of jobs/clips.py, on as many workers (CPUs or GPUs) as given, epoch after epoch. Run the same
command again after a kill and it goes on from the last epoch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import tyro

from vidray import cli, flags
from vidray.errors import UserError
from vidray.flags import Flat
from vidray.learning.distillation import DistillSettings
from vidray.learning.exit_settings import ExitSettings
from vidray.learning.pretraining import PretrainSettings
from vidray.learning.pruning.settings import PruneSettings
from vidray.learning.selection import Selection
from vidray.learning.train_config import FoldSettings, LearningSettings
from vidray.models import names

if TYPE_CHECKING:
    from vidray.learning.examples import Examples


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train one model, classical or deep."""

    data: str
    """Finished run of jobs/extract.py for classical models, of jobs/clips.py for deep ones. The
    model learns from split train and is judged on val; splits that the data lack are derived (see
    --split-fractions)."""
    model: str
    """Name of a model, such as extra_trees or r3d_18; a wrong name lists all of them. Or one of
    transformers: hf:OWNER/NAME[@REVISION], or hf:/folder."""
    out: str
    """Folder to write, local or in a bucket. It becomes a model folder."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Continue an unfinished training with the same settings; this is also the default."""
    overwrite: bool = False
    """Start afresh: remove what an earlier run left in the folder first."""
    tensorboard: bool = False
    """Also write a deep model's curves for TensorBoard; needs the extra tensorboard."""
    pretraining: Annotated[PretrainSettings, Flat] = field(default_factory=PretrainSettings)
    pruning: Annotated[PruneSettings, Flat] = field(default_factory=PruneSettings)
    exits: Annotated[ExitSettings, Flat] = field(default_factory=ExitSettings)
    distilling: Annotated[DistillSettings, Flat] = field(default_factory=DistillSettings)
    selection: Annotated[Selection, Flat] = field(default_factory=Selection)
    folds: Annotated[FoldSettings, Flat] = field(default_factory=FoldSettings)
    learning: Annotated[LearningSettings, Flat] = field(default_factory=LearningSettings)

    def __post_init__(self) -> None:
        names.check(self.model, hub=True)
        if self.resume and self.overwrite:
            raise UserError("--resume goes on and --overwrite starts afresh: give one of them")
        if self.pretraining.pretrain:
            self.pretraining.check(self.model, self.learning)
            flags.refuse_unused(self.selection, "--pretrain")
            flags.refuse_unused(self.pruning, "--pretrain")
            flags.refuse_unused(self.exits, "--pretrain")
            flags.refuse_unused(self.distilling, "--pretrain")
        self.pruning.check(self.model, self.learning.deep.weights)
        if self.pruning.prune is not None and self.exits.exits:
            raise UserError(
                "--prune and --exits are two trainings: prune first, then give the pruned folder "
                "as --weights with --exits"
            )
        if self.model in names.CLASSICAL:
            self.learning.refuse_flags_of_deep_models(self.model)
            flags.refuse_unused(self.exits, self.model)
            flags.refuse_unused(self.distilling, self.model)
            if self.tensorboard:
                raise UserError(f"--tensorboard has no effect on {self.model}: leave it out")
        else:
            flags.refuse_unused(self.learning.classical, self.model)
            flags.refuse_unused(self.folds, self.model)
            self.exits.check(self.model)
            if self.exits.exits and self.pruning.prune is not None:
                raise UserError(
                    "--prune takes channels of a trained model, and exits begin anew: prune first, "
                    "then train with --exits and --weights of the pruned model"
                )


def main(config: TrainConfig) -> None:
    """Train, judge on the validation split, write the model folder."""
    began = time.monotonic()
    # These take seconds to import: not before the arguments are known to be right.
    from vidray import storage
    from vidray.evaluation import console, lesson_changes, teaching
    from vidray.learning import as_trained, tensorboard
    from vidray.learning.epoch_lines import EpochLines
    from vidray.models.model_files import check_apart, folder_of_weights

    out = storage.canonical(config.out)
    if config.pretraining.pretrain:
        _pretrain(config, out, began)
        return
    examples = _examples(config, out)
    lesson = teaching.lesson_of(
        config.model,
        examples,
        config.pruning.tuning(config.learning),
        folds=config.folds,
        on_rows=EpochLines(config.learning.training.epochs),
    )
    if config.pruning.prune is not None:
        lesson = lesson_changes.with_pruning(lesson, config.pruning.prune)
    if config.exits.exits:
        lesson = lesson_changes.with_exits(lesson, config.exits)
    if config.distilling.teacher is not None:
        lesson = lesson_changes.with_teacher(lesson, config.distilling, out=out)
    check_apart(out, folder_of_weights(config.learning.deep.weights), flag="--weights")
    lesson.check()
    if config.model not in names.CLASSICAL:
        for note in as_trained.notes(config.model, config.learning.deep, examples):
            print(f"note: {note}")
    if config.tensorboard:
        tensorboard.check(out)
    run = teaching.model_run(lesson, data=config.data, out=out)
    if run.claim(overwrite=config.overwrite) == "finished":
        print(f"nothing to do: {config.out} holds the finished model of this training")
        return
    taught = lesson.teach(run)
    if config.tensorboard:
        tensorboard.write(out, taught.rows)
    run.finish(**taught.report)
    console.print_taught(config.model, config.out, taught, seconds=time.monotonic() - began)


def _pretrain(config: TrainConfig, out: str, began: float) -> None:
    """Pre-train on all clips, labelled or not, and write a folder that models begin with."""
    from vidray.evaluation import console, teaching
    from vidray.evaluation.pretraining import PretrainingLesson
    from vidray.learning import pretraining, tensorboard
    from vidray.learning.epoch_lines import EpochLines
    from vidray.tables import run_folder

    run_folder.check(out, "pretraining")
    examples = pretraining.read_unlabelled(config.data)
    learning = config.learning
    lesson = PretrainingLesson(
        job=pretraining.pretraining_job(config.model, examples, learning, config.pretraining),
        examples=examples,
        workers=learning.workers,
        on_rows=EpochLines(learning.training.epochs),
    )
    if config.tensorboard:
        tensorboard.check(out)
    run = teaching.model_run(lesson, data=config.data, out=out)
    if run.claim(overwrite=config.overwrite) == "finished":
        print(f"nothing to do: {config.out} holds the finished pre-training of these settings")
        return
    taught = lesson.teach(run)
    if config.tensorboard:
        tensorboard.write(out, taught.rows)
    run.finish(**taught.report)
    console.print_pretrained(config.model, config.out, taught, seconds=time.monotonic() - began)


def _examples(config: TrainConfig, out: str) -> Examples:
    """The labelled videos with splits; an unfinished training keeps the splits it had."""
    from vidray.learning import split_report
    from vidray.learning.examples import read_clips, read_features, select
    from vidray.tables import run_folder

    before = run_folder.check(out, "model")
    if config.model in names.CLASSICAL:
        found = read_features(config.data, config.learning.classical.families)
    else:
        found = read_clips(config.data)
    recorded = before.get("config") if before and not config.overwrite else None
    examples = select(found, config.selection, recorded=recorded)
    _ = examples.class_names  # What is wrong with them is said without a table.
    split_report.print_splits(examples, given=found.gives_splits)
    return examples


if __name__ == "__main__":
    cli.run(TrainConfig, main)
