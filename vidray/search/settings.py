"""What a search is asked for, checked before anything heavy is imported."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from vidray.errors import UserError
from vidray.learning.augment import Augmentation
from vidray.learning.examples import Selection
from vidray.learning.hyperparameters import Training
from vidray.learning.recordings import Demand
from vidray.learning.train_config import DeepSettings, Flat

Kind = Literal["classical", "deep"]
Metric = Literal["log_loss", "accuracy"]

KINDS: tuple[Kind, ...] = get_args(Kind)
_MOST_REPEATS = 1000  # Of a cross-validation: each trains all folds.
_CLASSICAL_ONLY = ("preset", "families", "folds", "repeats", "calibrated")


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What is searched, by which figure and for how long."""

    kinds: tuple[Kind, ...] = ()
    """Kinds of models to search: classical, deep or both."""
    trials: int = 30
    """Trials of each kind, the models' defaults among them."""
    minutes: float | None = None
    """Begin no trial after so many minutes. The kinds share them, and of both kinds each model is
    tried once before any is tried twice."""
    models: tuple[str, ...] = ()
    """Models to choose from, tried in this order, a backbone such as resnet18 for all its poolings;
    all classical ones and resnet18, s3d and r3d_18 if none of a kind is named."""
    metric: Metric = "log_loss"
    """What is made best: log_loss says more of few videos, accuracy counts right answers."""
    searcher: Literal["tpe", "random"] = "tpe"
    """tpe learns from the trials before (Bergstra 2011), random does not."""
    preset: Literal["none", "notebook"] = "none"
    """notebook: the notebooks' grids of svm, random_forest and knn, every point once."""
    families: tuple[str, ...] = ()
    """Feature families to learn from; all that were extracted if none is named."""
    folds: int = 5
    """Folds of the cross-validation on split train; no recording is in two."""
    repeats: int = 1
    """Times it is done, each with other folds."""
    calibrated: bool = True
    """Judge calibrated probabilities; without, only the accuracy of svm has a meaning."""
    early_stopping: bool = True
    """Stop deep trials early that are not among the best third of those before (ASHA)."""
    at_once: int | None = None
    """Trials at once; as many as the cluster holds if not given."""
    selection: Annotated[Selection, Flat] = field(default_factory=Selection)
    deep: Annotated[DeepSettings, Flat] = field(default_factory=DeepSettings)
    training: Annotated[Training, Flat] = field(default_factory=Training)
    augmentation: Annotated[Augmentation, Flat] = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        self._take_old_flag()
        for name, least in (("trials", 1), ("folds", 2), ("repeats", 1)):
            value = getattr(self, name)
            if value < least:
                raise UserError(f"{name} is {value}: it must be {least} or more")
        if self.repeats > _MOST_REPEATS:
            raise UserError(f"repeats is {self.repeats}: it must be {_MOST_REPEATS} at the most")
        if self.at_once is not None and self.at_once < 1:
            raise UserError(f"at_once is {self.at_once}: it must be 1 or more")
        if self.minutes is not None and not self.minutes > 0:
            raise UserError(f"minutes is {self.minutes}: it must be above 0")
        if not self.kinds:
            raise UserError("there is nothing to search: give --kinds classical, deep or both")
        if not self.calibrated and self.metric == "log_loss":
            raise UserError("log_loss needs calibrated probabilities: give --metric accuracy")
        if self.deep.tensorboard:
            raise UserError("--tensorboard is for jobs/train.py: leave it out")
        self._refuse_idle_flags()

    def _take_old_flag(self) -> None:
        """``--families classical deep`` was the flag before ``--kinds``."""
        if self.families and not self.kinds and set(self.families) <= set(KINDS):
            object.__setattr__(self, "kinds", tuple(self.families))
            object.__setattr__(self, "families", ())
            print(
                f"warning: --families {' '.join(self.kinds)} is now --kinds "
                f"{' '.join(self.kinds)}; --families names feature families",
                file=sys.stderr,
            )

    def _refuse_idle_flags(self) -> None:
        """A flag that changes nothing is a mistake, and is said to be one."""
        if self.training.keep != Training().keep:
            raise UserError("--keep follows from --metric here: leave it out")
        plain = (DeepSettings(), Training(seed=self.seed), Augmentation(), True)
        given = (self.deep, self.training, self.augmentation, self.early_stopping)
        if "deep" not in self.kinds and given != plain:
            raise UserError("there are flags for deep models and --kinds has no deep")
        if "classical" not in self.kinds:
            for name in _CLASSICAL_ONLY:
                if getattr(self, name) != SearchSettings.__dataclass_fields__[name].default:
                    flag = "--" + name.replace("_", "-")
                    raise UserError(f"{flag} is for classical models, and --kinds has none")

    @property
    def seed(self) -> int:
        """The seed of everything: proposals, folds, models."""
        return self.training.seed

    @property
    def demand(self) -> Demand:
        """What a classical trial asks of the recordings of each class."""
        return Demand(
            folds=self.folds,
            repeats=self.repeats,
            calibrated=self.calibrated,
            seed=self.seed,
            least_folds=2,
            uncalibrated="--no-calibrated --metric accuracy",
            left_out=self.selection.without_classes,
        )

    @property
    def decided(self) -> dict[str, Any]:
        """Settings of deep models that the user has given: not searched."""
        given: dict[str, Any] = {}
        for own, plain in ((self.deep, DeepSettings()), (self.training, Training())):
            given |= {
                f.name: getattr(own, f.name)
                for f in dataclasses.fields(own)
                if getattr(own, f.name) != getattr(plain, f.name)
            }
        return given | ({"augmentation": True} if self.augmentation != Augmentation() else {})


def is_loss(metric: Metric) -> bool:
    """Whether less is better."""
    return metric == "log_loss"
