"""Settings of a training and of its augmentation, checked when made."""

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
    """Hyperparameters of the training of a deep model."""

    epochs: int = 30
    """Passes over all training clips."""
    batch_size: int = 16
    """Clips of one training step, over all workers together."""
    learning_rate: float | None = None
    """Learning rate after the warm-up; the schedule lowers it from there. If not given: 0.001, and
    for transformers 0.0001 from fresh weights and 0.0003 from given ones."""
    backbone_rate: float | None = None
    """Learning rate of all layers below the head, as a share of the head's. If not given: 0.1 for
    convolutional networks that start from weights and are not pruned, else 1."""
    layer_decay: float | None = None
    """Learning rate of a block as a share of that of the next block, down from the head. If not
    given: 0.75 for transformers that start from weights, else 1."""
    optimizer: OptimizerKind = "adamw"
    """Optimizer: adamw, adam (weight decay in the gradient) or sgd (momentum 0.9)."""
    weight_decay: float = 0.05
    """Weight decay of layer matrices and kernels; not of biases, norms, class tokens or position
    tables."""
    schedule: Schedule = "cosine"
    """Learning-rate schedule: cosine (to 0), step (a tenth after 1/2 and 3/4 of the steps) or
    constant."""
    warmup_epochs: float = 1.0
    """Epochs in which the learning rate rises evenly; at most half of the training."""
    warmup_steps: int | None = None
    """Fewest steps in which it rises, where epochs are short; at most half of the training. If not
    given: 20 for fresh networks with the default --warmup-epochs, else 0."""
    label_smoothing: float = 0.1
    """Share of each target that is spread evenly over all classes."""
    accumulate: int = 1
    """Micro-batches of a worker's share of a batch: less memory, the same gradient. Not for a
    network that trains batch norm, whose statistics need the whole batch."""
    precision: Precision | None = None
    """Number format in which a deep model computes. Half as long, bfloat16 and float16 (GPU only)
    take less memory and time; weights stay float32. If not given, a training takes bfloat16 on GPUs
    that have it, and float32 elsewhere."""
    checkpointing: bool = False
    """Recompute activations in the backward pass instead of keeping them: less memory, more
    time."""
    patience: int = 0
    """Stop after this many epochs without a better validation result; 0 never stops early."""
    stop_on: Quantity = "loss"
    """Validation figure that early stopping watches: loss or accuracy."""
    keep: Quantity = "accuracy"
    """Validation figure that chooses the epoch to keep; lower loss breaks ties of accuracy."""
    class_weights: bool = False
    """Weight the loss so that every class counts the same, however few its clips."""
    balanced_sampling: bool = False
    """Show clips of every class equally often in an epoch, those of rare classes several times, in
    other views."""
    clip_gradient_norm: float | None = None
    """Largest norm of the gradient; longer ones are clipped, 0 is no limit. If not given: 1 for
    networks that start from weights and for transformers, else 0."""
    drop_path: float | None = None
    """Probability that a clip skips the last block; it rises evenly from 0 at the first. If not
    given: as the network was published, and 0.1 for other transformers that start from weights."""
    ema: float | None = None
    """Decay of an average of the weights over the steps, which is judged and kept; 0 is off. If not
    given: 0.999 for networks that start from weights, else 0."""
    mixup_alpha: float = 0.0
    """Mixup: blend pairs of clips by a share from Beta(alpha, alpha); 0 is off."""
    cutmix_alpha: float = 0.0
    """CutMix: paste a box of another clip, its area from Beta(alpha, alpha); 0 is off."""
    channels_last: bool = False
    """Store tensors channels-last: faster convolutions on some devices."""
    seed: int = 0
    """Seed of all random draws. In a training: order, augmentation and dropout."""

    def __post_init__(self) -> None:
        rule = "1 or more; jobs/adopt.py makes a model of weights without training"
        _check("epochs", self.epochs, self.epochs >= 1, rule)
        for name, least in (("batch_size", 1), ("accumulate", 1), ("patience", 0)):
            _check(name, getattr(self, name), getattr(self, name) >= least, f"{least} or more")
        _check("seed", self.seed, 0 <= self.seed < 2**32, "0 or more, and below 2**32")
        self._check_numbers()
        _check(
            "accumulate", self.accumulate, self.accumulate <= self.batch_size, "batch_size or less"
        )
        if self.balanced_sampling and self.class_weights:
            raise UserError(
                "balanced_sampling and class_weights both make every class count the same: "
                "give one of them"
            )
        for name, kind in (
            ("optimizer", OptimizerKind),
            ("schedule", Schedule),
            ("precision", Precision),
            ("stop_on", Quantity),
            ("keep", Quantity),
        ):
            value = getattr(self, name)
            fits = value in get_args(kind) or (value is None and name == "precision")
            _check(name, value, fits, f"one of {', '.join(get_args(kind))}")

    def _check_numbers(self) -> None:
        """Check the settings that are fractions; None follows from others (``defaults``)."""
        if (rate := self.learning_rate) is not None:
            _check("learning_rate", rate, 0 < rate < math.inf, "above 0")
        if (steps := self.warmup_steps) is not None:
            _check("warmup_steps", steps, steps >= 0, "0 or more")
        for name in ("backbone_rate", "layer_decay"):
            if (share := getattr(self, name)) is not None:
                _check(name, share, 0 < share <= 1, "above 0, and 1 or less")
        for name in ("label_smoothing", "drop_path", "ema"):
            if (part := getattr(self, name)) is not None:
                _check(name, part, 0 <= part < 1, "0 or more and below 1")
        for name in (
            "weight_decay",
            "warmup_epochs",
            "clip_gradient_norm",
            "mixup_alpha",
            "cutmix_alpha",
        ):
            if (value := getattr(self, name)) is not None:
                _check(name, value, 0 <= value < math.inf, "0 or more")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of training clips. The defaults are light: for hundreds of videos."""

    temporal_jitter: float = 0.2
    """Show a random part of the stored frames, from 1 - this of them up to all. With a stride the
    part's length is fixed, and any value above 0 lets it begin anywhere."""
    scale: tuple[float, float] = (0.6, 1.0)
    """Least and greatest share of the middle square's area that a random crop shows."""
    aspect: tuple[float, float] = (0.8, 1.25)
    """Least and greatest aspect ratio (width / height) of a random crop."""
    flip: float = 0.5
    """Probability of a mirror image; 0 where left and right are different classes."""
    rotation_degrees: float = 5.0
    """Greatest random rotation, in either direction."""
    brightness: float = 0.2
    """Random brightness: pixels times 1 - this to 1 + this."""
    contrast: float = 0.2
    """Random contrast: distances from mid-gray times 1 - this to 1 + this."""
    saturation: float = 0.2
    """Random saturation: distances from equally bright gray times 1 - this to 1 + this."""
    hue_degrees: float = 5.0
    """Greatest random shift of hue, in either direction; 120 turns red into green."""

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
        """Settings that change nothing: clips are as ``Preprocessing.select`` gives them."""
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
