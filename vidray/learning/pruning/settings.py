"""The flag of pruning, checked when made. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidray.errors import UserError
from vidray.models import names

if TYPE_CHECKING:
    from vidray.learning.train_config import LearningSettings

# All layers have lost inputs and have to learn again: s3d of half the operations, tuned for two
# epochs, knew 0.88 at this rate, and 0.45 at the 0.1 of other weights (docs/benchmarks.md).
_BACKBONE_RATE = 1.0


@dataclass(frozen=True, kw_only=True)
class PruneSettings:
    """Pruning."""

    prune: float | None = None
    """Share of a network's operations that goes before it is trained: 0.5 halves them. Its least
    important channels are removed. Give the trained model folder as --weights DIR."""

    def __post_init__(self) -> None:
        if self.prune is not None and not 0 < self.prune < 1:
            raise UserError(f"prune is {self.prune}: a share is above 0 and below 1")

    def check(self, model: str, weights: str) -> None:
        """Raise UserError where a model of this name and start can't be pruned."""
        if self.prune is None:
            return
        if model in names.CLASSICAL or names.is_hub(model):
            raise UserError(
                f"--prune removes channels of a convolutional network, and --model is {model}: "
                "leave it out"
            )
        if weights == "none":
            raise UserError(
                "--prune takes from a trained network, and --weights is none: give the folder of "
                f"a trained {model}"
            )

    def tuning(self, learning: LearningSettings) -> LearningSettings:
        """The settings of training, with the defaults of pruned networks where one is pruned."""
        if self.prune is None or learning.training.backbone_rate is not None:
            return learning
        training = dataclasses.replace(learning.training, backbone_rate=_BACKBONE_RATE)
        return dataclasses.replace(learning, training=training)
