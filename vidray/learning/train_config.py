"""What every job that trains deep models asks for, and the ``DeepJob`` it comes to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import tyro

from vidray import storage
from vidray.errors import UserError, unknown_name
from vidray.learning.augment import Augmentation
from vidray.learning.deep_job import DeepJob, Workers
from vidray.learning.examples import Examples, assigned_splits
from vidray.learning.hyperparameters import Training
from vidray.models import DEEP, classical
from vidray.models.networks.build import FLOW_MODELS
from vidray.models.preprocess import (
    IMAGENET,
    KINETICS,
    Preprocessing,
    dataset_statistics,
)

# A flag is named after the field alone: --batch-size, not --training.batch-size.
Flat: Any = tyro.conf.arg(name="")


@dataclass(frozen=True, kw_only=True)
class DeepSettings:
    """Deep models only."""

    weights: str = "none"
    """Start from none, from the published ones (default), or from a safetensors file."""
    head: Literal["linear", "layernorm_dropout_linear"] = "linear"
    """What maps features to classes."""
    dropout: float = 0.5
    """Before the last layer of layernorm_dropout_linear."""
    trained: str = "all"
    """all, head, or last_N_blocks and the head."""
    frames: int | None = None
    """Frames the network is given; as many as are stored if not given."""
    stride: int | None = None
    """Stored frames from one of them to the next; spread over all stored ones if not given."""
    crop_px: int | None = None
    """Width and height it is given; as stored if not given."""
    normalise: Literal["kinetics", "imagenet", "dataset"] = "kinetics"
    """Whose mean and standard deviation of colours; dataset measures split train."""
    workers: int = 1
    """Processes that share each batch; the result does not depend on their number."""
    min_workers: int | None = None
    """Go on with as few when a node is lost; waits for all of them if not given."""
    gpu: bool | None = None
    """A GPU for each worker; where there are enough if not given."""
    max_failures: int = 3
    """How often workers are started again after one died."""
    tensorboard: bool = False
    """Write curves for TensorBoard too; needs the extra of that name."""

    def __post_init__(self) -> None:
        least_of = {"frames": 1, "stride": 1, "crop_px": 1, "workers": 1, "max_failures": 0}
        for name, least in least_of.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{name} is {value}: it must be {least} or more")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout is {self.dropout}: it must be 0 or more, and below 1")

    @property
    def who(self) -> Workers:
        """The processes that train."""
        return Workers(
            workers=self.workers,
            min_workers=self.min_workers,
            use_gpu=self.gpu,
            max_failures=self.max_failures,
        )


# Of DeepSettings: they change how long a training takes, and nothing that comes of it.
_OF_NO_EFFECT = ("workers", "min_workers", "gpu", "max_failures", "tensorboard")


def deciding_settings(
    deep: DeepSettings, training: Training, augmentation: Augmentation
) -> dict[str, Any]:
    """Flat: all that what a deep model learns depends on, beside the clips."""
    groups = (deep, training, augmentation)
    every = {name: value for group in groups for name, value in asdict(group).items()}
    return {name: value for name, value in every.items() if name not in _OF_NO_EFFECT}


def check_model(name: str) -> None:
    """Raise UserError unless there is such a model, classical or deep."""
    names = (*classical.NAMES, *DEEP)
    if name not in names:
        raise unknown_name("model", name, names)


def deep_job(
    model: str,
    examples: Examples,
    class_names: tuple[str, ...],
    *,
    deep: DeepSettings,
    training: Training,
    augmentation: Augmentation,
) -> DeepJob:
    """What the workers are told.

    Args:
        model: one of ``models.DEEP``.
        examples: clips; colours are measured on its split train.
        class_names: in the order of the network's outputs.

    Raises:
        UserError: what is asked for can't be trained from these clips.
    """
    clips = examples.clips
    assert clips is not None
    frames = deep.frames or clips.num_frames
    size_px = deep.crop_px or clips.size_px
    if frames > clips.num_frames or size_px > clips.size_px:
        stored = f"{clips.num_frames} frames of {clips.size_px} px"
        raise UserError(
            f"{frames} frames of {size_px} px are wanted and "
            f"{storage.without_secrets(clips.uri)} holds {stored}: cut with a larger "
            "--frames-per-clip or --size-px"
        )
    span = (frames - 1) * (deep.stride or 1) + 1
    if span > clips.num_frames:
        raise UserError(
            f"{frames} frames {deep.stride} apart span {span} and "
            f"{storage.without_secrets(clips.uri)} holds {clips.num_frames}: lower --frames or "
            "--stride, or cut with a larger --frames-per-clip"
        )
    colours = {"kinetics": KINETICS, "imagenet": IMAGENET}
    if deep.normalise == "dataset":
        rows = examples.of_split("train").table["row"].to_numpy()
        mean, std = dataset_statistics(clips.read(rows[k : k + 8]) for k in range(0, len(rows), 8))
    else:
        mean, std = colours[deep.normalise]
    return DeepJob(
        data=clips.uri,
        class_names=class_names,
        network={
            "name": model,
            "num_classes": len(class_names),
            "head": deep.head,
            "dropout": deep.dropout,
            "frames": frames,
            "size_px": size_px,
        },
        weights=deep.weights,
        trained=deep.trained,
        training=training,
        augmentation=augmentation,
        preprocessing=Preprocessing(
            num_frames=frames,
            stride=deep.stride,
            size_px=size_px,
            mean=mean,
            std=std,
            flow=model in FLOW_MODELS,
        ),
        splits=assigned_splits(examples),
    )
