"""Settings of a study, as flags. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from vidray.errors import UserError
from vidray.flags import Flat
from vidray.learning.selection import Selection
from vidray.learning.train_config import FoldSettings, LearningSettings
from vidray.models import names


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """The models to compare and the runs they learn from."""

    models: tuple[str, ...] = ()
    """Names of models, such as extra_trees or r3d_18; a wrong name lists all of them."""
    folders: tuple[str, ...] = ()
    """Model folders to judge beside them, such as exports, pruned networks or those with exits.
    Each must have learnt from the same run and split train."""
    features: str | None = None
    """Finished run of jobs/extract.py, for classical models and the metadata baseline."""
    clips: str | None = None
    """Finished run of jobs/clips.py over the same videos, for deep models."""
    fractions: tuple[float, ...] = ()
    """Shares of split train for the learning curve; each part holds whole recordings and the
    smaller parts."""
    selection: Annotated[Selection, Flat] = field(default_factory=Selection)
    folds: Annotated[FoldSettings, Flat] = field(default_factory=FoldSettings)
    learning: Annotated[LearningSettings, Flat] = field(default_factory=LearningSettings)

    def __post_init__(self) -> None:
        for name in self.models:
            names.check(name)
        if not self.models and not self.folders:
            raise UserError("no models are named: give --models extra_trees r3d_18, for instance")
        for fraction in self.fractions:
            if not 0 < fraction <= 1:
                raise UserError(f"fraction {fraction} must be above 0 and 1 at the most")
        if self.classical_models and self.features is None:
            raise UserError(f"{self.classical_models[0]} learns from features: give --features")
        if self.deep_models and self.clips is None:
            raise UserError(f"{self.deep_models[0]} learns from clips: give --clips")
        if self.folders and self.features is None and self.clips is None:
            raise UserError("--folders needs the run they learnt from: give --features or --clips")
        if not self.deep_models:
            self.learning.refuse_flags_of_deep_models("a study without a deep model")

    @property
    def classical_models(self) -> list[str]:
        """The names in the order given, each once."""
        return [name for name in dict.fromkeys(self.models) if name in names.CLASSICAL]

    @property
    def deep_models(self) -> list[str]:
        """The names in the order given, each once."""
        return [name for name in dict.fromkeys(self.models) if name in names.DEEP]
