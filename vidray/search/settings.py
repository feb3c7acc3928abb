"""Settings of a search, as flags, checked before anything heavy is imported."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from vidray import flags
from vidray.errors import UserError
from vidray.flags import Flat
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.selection import Selection
from vidray.learning.train_config import DeepSettings, FoldSettings, LearningSettings
from vidray.models.names import ModelKind

Metric = Literal["log_loss", "accuracy"]


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """The models to search, the metric, and the limits."""

    kinds: tuple[ModelKind, ...] = ()
    """Kinds of models to search: classical, deep or both."""
    trials: int = 30
    """Trials of each kind; the models' default settings come first."""
    minutes: float | None = None
    """Begin no trial after this many minutes; Ray's start does not count. The kinds share the time,
    and each model is tried once before any is tried twice."""
    models: tuple[str, ...] = ()
    """Names of models, such as extra_trees or r3d_18; a wrong name lists all of them. They are
    tried in this order; a backbone such as resnet18 stands for all its poolings. If none is named:
    all classical ones, and resnet18, s3d and r3d_18."""
    metric: Metric = "log_loss"
    """Metric to optimise: log_loss separates models better on few videos, accuracy counts right
    labels."""
    searcher: Literal["tpe", "random"] = "tpe"
    """How settings are proposed: tpe learns from earlier trials (Bergstra 2011), random does
    not."""
    preset: Literal["default", "notebook"] = "default"
    """Default choices, or those of the notebooks. The notebooks' grids of svm, random_forest and
    knn are tried point by point."""
    early_stopping: bool = True
    """Stop a deep trial that is not in the best third so far (ASHA)."""
    at_once: int | None = None
    """Trials that run at the same time; as many as the cluster holds if not given."""
    selection: Annotated[Selection, Flat] = field(default_factory=Selection)
    folds: Annotated[FoldSettings, Flat] = field(default_factory=lambda: FoldSettings(repeats=1))
    learning: Annotated[LearningSettings, Flat] = field(default_factory=LearningSettings)

    def __post_init__(self) -> None:
        self._take_old_flag()
        if self.trials < 1:
            raise UserError(f"trials is {self.trials}: it must be 1 or more")
        if self.folds.folds < 2:
            raise UserError(f"folds is {self.folds.folds}: it must be 2 or more")
        if self.at_once is not None and self.at_once < 1:
            raise UserError(f"at_once is {self.at_once}: it must be 1 or more")
        if self.minutes is not None and not self.minutes > 0:
            raise UserError(f"minutes is {self.minutes}: it must be above 0")
        if not self.kinds:
            raise UserError("there is nothing to search: give --kinds classical, deep or both")
        if not self.learning.classical.calibrated and self.metric == "log_loss":
            raise UserError("log_loss needs calibrated probabilities: give --metric accuracy")
        self._refuse_idle_flags()

    def _take_old_flag(self) -> None:
        """``--families classical deep`` was the flag before ``--kinds``."""
        named = self.learning.classical.families
        if not named or self.kinds or not set(named) <= set(get_args(ModelKind)):
            return
        classical = dataclasses.replace(self.learning.classical, families=())
        object.__setattr__(self, "kinds", named)
        object.__setattr__(
            self, "learning", dataclasses.replace(self.learning, classical=classical)
        )
        now = " ".join(named)
        print(
            f"warning: --families {now} is now --kinds {now}; --families names feature families",
            file=sys.stderr,
        )

    def _refuse_idle_flags(self) -> None:
        """Refuse a flag that has no effect: it is a mistake."""
        if self.learning.training.keep != Training().keep:
            raise UserError(
                "--keep has no effect on a search, which goes by --metric: leave it out"
            )
        if "deep" not in self.kinds:
            self.learning.refuse_flags_of_deep_models("a search without --kinds deep")
        if "deep" not in self.kinds and not self.early_stopping:
            raise UserError("--no-early-stopping has no effect without --kinds deep: leave it out")
        if "classical" in self.kinds:
            return
        because = "a search without --kinds classical"
        flags.refuse_unused(self.learning.classical, because)
        for name in ("folds", "repeats"):
            if getattr(self.folds, name) != getattr(FoldSettings(repeats=1), name):
                raise UserError(f"--{name} has no effect on {because}: leave it out")
        if self.preset != "default":
            raise UserError(f"--preset has no effect on {because}: leave it out")

    @property
    def seed(self) -> int:
        """The seed of proposals, folds and models."""
        return self.learning.seed

    @property
    def decided(self) -> dict[str, Any]:
        """Settings of deep models that the user has given; they are not searched."""
        given: dict[str, Any] = {}
        deep, training = self.learning.deep, self.learning.training
        for own, plain in ((deep, DeepSettings()), (training, Training())):
            given |= {
                f.name: getattr(own, f.name)
                for f in dataclasses.fields(own)
                if getattr(own, f.name) != getattr(plain, f.name)
            }
        return given | (
            {"augmentation": True} if self.learning.augmentation != Augmentation() else {}
        )


def is_loss(metric: Metric) -> bool:
    """Whether a lower value is better."""
    return metric == "log_loss"
