"""How models are trained, as command lines take it. Nothing that takes long is imported for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import tyro

from vidray import flags
from vidray.errors import UserError
from vidray.flags import Flat
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.models import names


@dataclass(frozen=True, kw_only=True)
class FoldSettings:
    """Cross-validation."""

    folds: int = 5
    """Folds of the cross-validation; no recording is in two. 0 leaves it out."""
    repeats: int = 3
    """Times it is done, each with other folds."""

    def __post_init__(self) -> None:
        if self.folds < 0 or self.folds == 1:
            raise UserError(f"folds is {self.folds}: it must be 2 or more, or 0 for none")
        if not 1 <= self.repeats <= names.MOST_REPEATS:
            raise UserError(f"repeats is {self.repeats}: it must be 1 to {names.MOST_REPEATS}")


@dataclass(frozen=True, kw_only=True)
class ClassicalSettings:
    """Classical models only."""

    families: tuple[str, ...] = ()
    """Feature families, such as color and flow. All that were extracted if none is named."""
    calibrated: bool = True
    """Turn scores into probabilities, by recordings left out: each class needs two. Without, only
    the label of svm has a meaning."""


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

    def __post_init__(self) -> None:
        for name in ("frames", "stride", "crop_px"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}: it must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout is {self.dropout}: it must be 0 or more, and below 1")


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who trains a deep model: how long it takes, and nothing that comes of it."""

    workers: int = 1
    """Processes that share the work; the result does not depend on their number. Each has a part of
    every batch."""
    min_workers: int | None = None
    """Go on with as few when a node is lost; waits for all of them if not given."""
    gpu: bool | None = None
    """A GPU for each worker; where there are enough if not given."""
    max_failures: int = 3
    """How often workers are started again after one died."""
    most_cpus: Annotated[int | None, tyro.conf.Suppress] = None
    """Of one worker; its share of the cluster if not given."""
    in_process: Annotated[bool, tyro.conf.Suppress] = False
    """The one worker is the process that trains: nothing is started, and there is no checkpoint to
    go on from."""

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
    """How models of both kinds are trained."""

    classical: Annotated[ClassicalSettings, Flat] = field(default_factory=ClassicalSettings)
    deep: Annotated[DeepSettings, Flat] = field(default_factory=DeepSettings)
    training: Annotated[Training, Flat] = field(default_factory=Training)
    augmentation: Annotated[Augmentation, Flat] = field(default_factory=Augmentation)
    workers: Annotated[Workers, Flat] = field(default_factory=Workers)

    @property
    def seed(self) -> int:
        """Of everything."""
        return self.training.seed

    def deciding_deep(self) -> dict[str, Any]:
        """Flat: all that what a deep model learns depends on, beside the clips."""
        groups = (self.deep, self.training, self.augmentation)
        return {name: value for group in groups for name, value in asdict(group).items()}

    def refuse_flags_of_deep_models(self, because: str) -> None:
        """Raise UserError where one is given; the seed is of classical models too.

        Args:
            because: what it has no effect on.
        """
        for group in (self.deep, self.training, self.augmentation, self.workers):
            flags.refuse_unused(group, because, but=("seed",))
