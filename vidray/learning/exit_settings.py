"""Settings of early exits, as flags. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from vidray import flags
from vidray.errors import UserError
from vidray.models import names


@dataclass(frozen=True, kw_only=True)
class ExitSettings:
    """Early exits of a deep model."""

    exits: int = 0
    """Early exits: heads at even shares of a network's work, where a clip leaves that is sure
    enough. 0 has none. For networks of convolutional stages."""
    exit_weight: float = 0.5
    """Weight of the loss of each early exit, where that of the network's own head is 1."""
    allow: float = 0.01
    """Accuracy that may be lost on new videos. It is no more with a probability of 95 %: split val
    decides, and nothing leaves early where it has too few videos to show that. 0.01 needs 299 or
    more beside those that calibrate."""

    def __post_init__(self) -> None:
        if self.exits < 0:
            raise UserError(f"exits is {self.exits}: it must be 0 or more")
        if not 0 < self.exit_weight <= 100:
            raise UserError(f"exit_weight is {self.exit_weight}: it must be above 0, at most 100")
        if not 0 < self.allow < 1:
            raise UserError(f"allow is {self.allow}: it must be above 0 and below 1")

    def check(self, model: str) -> None:
        """Raise UserError where a model can have none, or a setting has no effect."""
        if self.exits:
            names.check_exits(model)
        else:
            flags.refuse_unused(self, "a model without --exits")
