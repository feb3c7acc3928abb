"""Pre-training on clips without labels: its settings, its examples and its job."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from vidray import flags
from vidray.errors import UserError
from vidray.models import names

if TYPE_CHECKING:
    from vidray.learning.deep_job import DeepJob
    from vidray.learning.examples import Examples
    from vidray.learning.train_config import LearningSettings

# Of training: what a reconstruction has a use for.
_USED = (
    "epochs", "batch_size", "learning_rate", "optimizer", "weight_decay", "schedule",
    "warmup_epochs", "warmup_steps", "accumulate", "precision", "checkpointing", "patience",
    "clip_gradient_norm", "channels_last", "ema", "seed",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """Pre-training."""

    pretrain: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Pre-train a videomae_... on clips, labelled or not: it makes up what is hidden of them. The
    folder begins a model: --weights DIR."""
    mask_ratio: float = 0.9
    """Share of a clip that --pretrain hides."""

    def __post_init__(self) -> None:
        if not 0 < self.mask_ratio < 1:
            raise UserError(f"mask_ratio is {self.mask_ratio}: it must be above 0 and below 1")
        if not self.pretrain and self.mask_ratio != 0.9:
            raise UserError("--mask-ratio has no effect without --pretrain: leave it out")

    def check(self, model: str, learning: LearningSettings) -> None:
        """Raise UserError where this model can't be pre-trained, or a flag has no effect on it."""
        if model not in names.VIDEOMAE and not names.is_hub(model):
            raise UserError(
                f"--pretrain is VideoMAE's way to learn, and --model is {model}: give one of "
                f"{', '.join(names.VIDEOMAE)}, or hf:... of a videomae"
            )
        used = ("weights", "frames", "stride", "crop_px", "normalise")
        flags.refuse_unused(learning.deep, "--pretrain", but=used)
        flags.refuse_unused(learning.training, "--pretrain", but=_USED)


def read_unlabelled(data: str) -> Examples:
    """The clips of a finished run of ``jobs/clips.py``, labelled or not, but those of split test.

    A clip without a split is in train.

    Raises:
        UserError: no such run, or no clip to learn from.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from vidray.learning.examples import read_clips

    found = read_clips(data, labelled=False)
    table = found.table
    splits = pc.fill_null(table["split"], "train")
    table = table.set_column(table.column_names.index("split"), "split", splits)
    table = table.filter(pc.is_in(table["split"], pa.array(["train", "val"])))
    if not pc.any(pc.equal(table["split"], "train")).as_py():
        raise UserError(
            f"{data} has no clip to pre-train on: cut videos without labels with jobs/clips.py "
            "--unlabelled keep"
        )
    return dataclasses.replace(found, table=table)


def pretraining_job(
    model: str, examples: Examples, learning: LearningSettings, settings: PretrainSettings
) -> DeepJob:
    """The job that the workers get.

    Args:
        model: one of ``names.VIDEOMAE``, or ``hf:...`` of such a model.
        examples: as ``read_unlabelled`` gives them.

    Raises:
        UserError: what is asked for can't be trained from these clips.
    """
    from vidray.learning import deep_job, defaults
    from vidray.models.networks import from_hub

    name, config, weights = from_hub.resolved(model, learning.deep.weights)
    frames, size_px = deep_job.clip_size(learning.deep, examples)
    # It is judged by its loss. What weights there are is of a pre-training: nothing is to be saved
    # from the rate of a new head.
    training = dataclasses.replace(learning.training, keep="loss", stop_on="loss")
    facts = defaults.Facts(name=name, is_transformer=True)
    assert examples.clips is not None
    return deep_job.DeepJob(
        data=examples.clips.uri,
        class_names=(),
        network={
            "name": name,
            "frames": frames,
            "size_px": size_px,
            **({} if config is None else {"config": config.as_json()}),
        },
        weights=weights,
        trained="all",
        training=defaults.resolved(training, facts),
        augmentation=learning.augmentation,
        preprocessing=deep_job.preprocessing_of(model, learning.deep, examples),
        mask_ratio=settings.mask_ratio,
    )
