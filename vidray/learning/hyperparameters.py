"""What decides a training: the loop, and how far clips are changed; checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from vidray.errors import UserError
from vidray.models.names import Precision

Quantity = Literal["loss", "accuracy"]

OptimizerKind = Literal["adamw", "adam", "sgd"]
Schedule = Literal["cosine", "step", "constant"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a deep model is trained."""

    epochs: int = 30
    """Times every training clip is seen."""
    batch_size: int = 16
    """Clips a step learns from, on all workers together."""
    learning_rate: float = 1e-3
    """Of the steps after the warm-up; the schedule lowers it."""
    optimizer: OptimizerKind = "adamw"
    """adamw, adam (weight decay as a part of the gradient) or sgd (momentum 0.9)."""
    weight_decay: float = 0.05
    """Pulls the matrices and kernels of layers towards 0; biases, norms, class tokens and tables of
    positions are left alone."""
    schedule: Schedule = "cosine"
    """cosine (to 0), step (a tenth after 1/2 and again after 3/4 of the steps) or constant."""
    warmup_epochs: float = 1.0
    """Epochs over which the learning rate rises evenly; half of the training at the most."""
    label_smoothing: float = 0.1
    """Share of each target spread evenly over all classes."""
    accumulate: int = 1
    """Parts a worker's share of a batch is cut into: less memory, the same gradient. Not for a
    network that trains batch norm, whose statistics are of the whole batch."""
    precision: Precision = "float32"
    """Numbers that a deep model computes with. Half as long, bfloat16 and float16 (GPU only) take
    less memory and time; weights stay float32."""
    checkpointing: bool = False
    """Compute activations again in the backward pass and not keep them: less memory, more time."""
    patience: int = 0
    """Stop after this many epochs without a better validation; 0 never stops early."""
    stop_on: Quantity = "loss"
    """What must get better: the validation's loss or accuracy."""
    keep: Quantity = "accuracy"
    """By what the epoch whose weights are kept is chosen; of equal accuracy the lower loss."""
    class_weights: bool = False
    """Every class counts the same in the loss, however few clips it has."""
    clip_gradient_norm: float = 0.0
    """Longest gradient a step follows; 0 is no limit."""
    mixup_alpha: float = 0.0
    """Blend pairs of clips, the share from Beta(alpha, alpha); 0 is off."""
    cutmix_alpha: float = 0.0
    """Paste a box of another clip, its share of the area from Beta(alpha, alpha); 0 is off."""
    channels_last: bool = False
    """Keep channels last in memory: faster convolutions on some devices."""
    seed: int = 0
    """Decides what is drawn at random. That is order, augmentation and dropout."""

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("accumulate", 1), ("patience", 0)):
            _check(name, getattr(self, name), getattr(self, name) >= least, f"{least} or more")
        _check("seed", self.seed, 0 <= self.seed < 2**32, "0 or more, and below 2**32")
        rate = self.learning_rate
        _check("learning_rate", rate, 0 < rate < math.inf, "above 0")
        for name in (
            "weight_decay",
            "warmup_epochs",
            "clip_gradient_norm",
            "mixup_alpha",
            "cutmix_alpha",
        ):
            value = getattr(self, name)
            _check(name, value, 0 <= value < math.inf, "0 or more")
        smoothing = self.label_smoothing
        _check("label_smoothing", smoothing, 0 <= smoothing < 1, "0 or more and below 1")
        _check(
            "accumulate", self.accumulate, self.accumulate <= self.batch_size, "batch_size or less"
        )
        for name, kind in (
            ("optimizer", OptimizerKind),
            ("schedule", Schedule),
            ("precision", Precision),
            ("stop_on", Quantity),
            ("keep", Quantity),
        ):
            value = getattr(self, name)
            _check(name, value, value in get_args(kind), f"one of {', '.join(get_args(kind))}")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far a training clip may be changed. The defaults are light: for hundreds of videos."""

    temporal_jitter: float = 0.2
    """A stretch of the stored frames is shown, at a random place: 1 - this, to all, of them. With a
    stride the stretch is given, and any amount lets it begin anywhere."""
    scale: tuple[float, float] = (0.6, 1.0)
    """Least and greatest share of the middle square's area that is shown."""
    aspect: tuple[float, float] = (0.8, 1.25)
    """Least and greatest width by height of what is shown."""
    flip: float = 0.5
    """Probability of a mirror image; 0 where left and right are different classes."""
    rotation_degrees: float = 5.0
    """Greatest turn, either way."""
    brightness: float = 0.2
    """Every pixel times 1 - this to 1 + this."""
    contrast: float = 0.2
    """Distances from mid-gray times 1 - this to 1 + this."""
    saturation: float = 0.2
    """Distances from the gray that looks as bright times 1 - this to 1 + this."""
    hue_degrees: float = 5.0
    """Greatest turn of the colour circle, either way; 120 makes red green."""

    def __post_init__(self) -> None:
        for name in ("temporal_jitter", "brightness", "contrast", "saturation"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UserError(f"{name} is {value}: 0 (off) or more, and below 1")
        if not 0 <= self.flip <= 1:
            raise UserError(f"flip is {self.flip}: a probability is from 0 to 1")
        for name in ("rotation_degrees", "hue_degrees"):
            value = getattr(self, name)
            if not 0 <= value <= 180:
                raise UserError(f"{name} is {value}: from 0 (off) to 180 degrees")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise UserError(
                f"scale is {self.scale}: two shares of the area, the lesser first, "
                "above 0 and not above 1; (1, 1) is off"
            )
        if not 0 < self.aspect[0] <= self.aspect[1] < math.inf:
            raise UserError(
                f"aspect is {self.aspect}: two ratios above 0, the lesser first; (1, 1) is off"
            )

    @classmethod
    def none(cls) -> Augmentation:
        """Nothing is changed: what is left is ``Preprocessing.select``."""
        return cls(
            temporal_jitter=0.0,
            scale=(1.0, 1.0),
            aspect=(1.0, 1.0),
            flip=0.0,
            rotation_degrees=0.0,
            brightness=0.0,
            contrast=0.0,
            saturation=0.0,
            hue_degrees=0.0,
        )


def _check(name: str, value: object, fits: bool, rule: str) -> None:
    if not fits:
        raise UserError(f"{name} is {value}: it must be {rule}")
