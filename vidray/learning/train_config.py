"""Settings of training, as flags. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import tyro

from vidray import flags
from vidray.errors import UserError
from vidray.flags import Flat
from vidray.learning import defaults
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.models import names


@dataclass(frozen=True, kw_only=True)
class FoldSettings:
    """Cross-validation."""

    folds: int = 5
    """Folds of the cross-validation; a recording is in one fold only. 0 turns it off."""
    repeats: int = 3
    """Times the cross-validation is repeated, each time with other folds."""

    def __post_init__(self) -> None:
        if self.folds < 0 or self.folds == 1:
            raise UserError(f"folds is {self.folds}: it must be 2 or more, or 0 for none")
        if not 1 <= self.repeats <= names.MOST_REPEATS:
            raise UserError(f"repeats is {self.repeats}: it must be 1 to {names.MOST_REPEATS}")


@dataclass(frozen=True, kw_only=True)
class ClassicalSettings:
    """Classical models only."""

    families: tuple[str, ...] = ()
    """Feature families, such as color and flow. If none is named, all that were extracted."""
    calibrated: bool = True
    """Calibrate probabilities on left-out recordings; each class needs two recordings. Without it,
    use only the label of svm, not its probabilities."""


@dataclass(frozen=True, kw_only=True)
class DeepSettings:
    """Deep models only."""

    weights: str = "none"
    """Initial weights: none, the published ones (default), a file, a model folder, or
    hf:OWNER/NAME[@REVISION] or hf:FOLDER of transformers."""
    head: Literal["linear", "layernorm_dropout_linear"] = "linear"
    """Last layers of a deep model, which map features to classes."""
    dropout: float = 0.5
    """Dropout rate before the last layer of the head layernorm_dropout_linear."""
    trained: str = "all"
    """Layers that are trained: all, head, or last_N_blocks (with the head)."""
    frames: int | None = None
    """Frames of a clip that the network takes; all stored frames if not given."""
    stride: int | None = None
    """Step between taken frames, in stored frames; evenly over the clip if not given."""
    crop_px: int | None = None
    """Width and height of the network's input; the stored size if not given."""
    normalise: Literal["kinetics", "imagenet", "dataset"] | None = None
    """Source of the colour mean and standard deviation; those that the weights were trained with if
    not given, and of Kinetics for a fresh network. dataset measures them on split train."""

    def __post_init__(self) -> None:
        for name in ("frames", "stride", "crop_px"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}: it must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout is {self.dropout}: it must be 0 or more, and below 1")


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Workers that train a deep model: they change the time, not the result."""

    workers: int = 1
    """Processes that share the work; the result does not depend on their number. Each worker takes
    a part of every batch."""
    min_workers: int | None = None
    """Fewest workers to continue with after a node is lost; if not given, wait for all."""
    gpu: bool | None = None
    """One GPU for each worker; if not given, where the cluster has enough."""
    max_failures: int = 3
    """Restarts of the workers after one has died."""
    most_cpus: Annotated[int | None, tyro.conf.Suppress] = None
    """CPUs of one worker, at most; its share of the cluster if not given."""
    in_process: Annotated[bool, tyro.conf.Suppress] = False
    """Train in the calling process as the one worker; there is no checkpoint to resume from."""

    def __post_init__(self) -> None:
        if self.in_process and self.workers > 1:
            raise UserError(f"workers is {self.workers}: the calling process is one")
        for name, least in (("workers", 1), ("max_failures", 0)):
            value = getattr(self, name)
            if value < least:
                raise UserError(f"{name} is {value}: it must be {least} or more")
        if self.min_workers is not None and not 1 <= self.min_workers <= self.workers:
            rule = f"from 1 to workers, which is {self.workers}"
            raise UserError(f"min_workers is {self.min_workers}: it must be {rule}")


@dataclass(frozen=True, kw_only=True)
class LearningSettings:
    """Settings of training, of both kinds of models."""

    classical: Annotated[ClassicalSettings, Flat] = field(default_factory=ClassicalSettings)
    deep: Annotated[DeepSettings, Flat] = field(default_factory=DeepSettings)
    training: Annotated[Training, Flat] = field(default_factory=Training)
    augmentation: Annotated[Augmentation, Flat] = field(default_factory=Augmentation)
    workers: Annotated[Workers, Flat] = field(default_factory=Workers)

    @property
    def seed(self) -> int:
        """The seed of all models."""
        return self.training.seed

    def deciding_deep(self) -> dict[str, Any]:
        """Every setting, flat, that decides a deep model beside the clips."""
        groups = (self.deep, self.training, self.augmentation)
        flat = {name: value for group in groups for name, value in asdict(group).items()}
        if self.deep.weights == "none" and self.deep.normalise is None:
            flat["normalise"] = "kinetics"  # As it was called when it had to be one of them.
        given = defaults.given_as_before(flat)
        return defaults.without_open(flat) | ({"given": given} if given else {})

    def refuse_flags_of_deep_models(self, because: str) -> None:
        """Raise UserError where one is given; the seed is for classical models too.

        Args:
            because: what the flag has no effect on.
        """
        for group in (self.deep, self.training, self.augmentation, self.workers):
            flags.refuse_unused(group, because, but=("seed",))
