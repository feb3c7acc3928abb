"""When a clip leaves a network early: where it is at least as sure as a threshold, by calibration.

An exit's confidence is the largest of its softmax's probabilities, its logits divided by the exit's
temperature (Guo et al. 2017), so that 0.9 means the same at each of them. One threshold counts for
all exits. No PyTorch here: model.json is checked by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vidray.errors import UserError
from vidray.models.deferral import Threshold
from vidray.storage import checked_json

# Temperatures beyond make any logits of a float32 network certain, or none.
LEAST, MOST = 1e-2, 1e2


@dataclass(frozen=True, kw_only=True)
class ExitRule:
    """What model.json says under ``exits``.

    Attributes:
        temperatures: of each exit; the network's own head has none, and says what it says without
            exits.
        threshold: of the confidence at which a clip leaves, and what it loses on split val; its
            ``share`` is of the clips that leave before the network's own head.
    """

    temperatures: tuple[float, ...]
    threshold: Threshold

    def __post_init__(self) -> None:
        if not self.temperatures:
            raise UserError("temperatures is empty: there is one for each exit")
        for value in self.temperatures:
            if not LEAST <= value <= MOST:
                raise UserError(f"temperatures has {value}: each is {LEAST:g} to {MOST:g}")

    @property
    def num_stages(self) -> int:
        """Exits and the network's own head."""
        return len(self.temperatures) + 1

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` takes."""
        return {
            "temperatures": list(self.temperatures),
            "threshold": self.threshold.to_json(),
        }

    @classmethod
    def from_json(cls, values: Any, where: str = "exits") -> ExitRule:
        """The rule of ``to_json``, checked.

        Raises:
            UserError: it is none.
        """
        if isinstance(values, Mapping) and "threshold" in values:
            Threshold.from_json(values["threshold"], f"{where}.threshold")
        return checked_json.build(cls, values, where)


def check_count(rule: ExitRule, exits: Sequence[int] | None) -> None:
    """Raise UserError unless a network has the exits that a rule is of."""
    number = len(exits or ())
    if len(rule.temperatures) != number:
        raise UserError(
            f"exits.temperatures has {len(rule.temperatures)} and network.exits {number}: there is "
            "one for each exit"
        )
