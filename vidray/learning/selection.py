"""Which videos a model learns from, as flags and as JSON of a model folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from vidray.errors import UserError
from vidray.sources import shares

_NEXT_STEP = "put back what was there, or train the model again"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which labelled videos a model learns from, and which judge it."""

    split_fractions: shares.Fractions | None = None
    """Derive train, val and test of these shares, never splitting a recording. A hash of the
    recording decides, so a repeated run gives the same splits. If not given, the data's own splits,
    or 0.7 0.15 0.15 where they have none."""
    without_classes: tuple[str, ...] = ()
    """Classes to leave out. No model learns from them or is judged on them."""
    split_bounds: Annotated[Mapping[str, tuple[float, float]], tyro.conf.Suppress] = field(
        default_factory=dict
    )
    """Bounds of derived splits for each class that had to be balanced: see ``splits.balance``."""

    def __post_init__(self) -> None:
        if self.split_fractions is not None:
            shares.checked(self.split_fractions)

    def to_json(self) -> dict[str, Any]:
        """The JSON of model.json and run.json; bounds are left out where there are none."""
        bounds = {label: list(both) for label, both in self.split_bounds.items()}
        return {
            "split_fractions": self.split_fractions and list(self.split_fractions),
            "without_classes": list(self.without_classes),
            **({"split_bounds": bounds} if bounds else {}),
        }

    @classmethod
    def from_info(cls, info: Mapping[str, Any], *, of: str = "model.json") -> Selection:
        """The selection that a JSON file holds; an empty one where it holds none.

        Args:
            info: the JSON that holds it under ``selection``.
            of: the file's name.

        Raises:
            UserError: it is no selection.
        """
        kept: Any = info
        try:
            kept = info.get("selection") or {}
            fractions, classes = (
                kept.get("split_fractions"),
                kept.get("without_classes", []),
            )
            if not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
                raise TypeError("no list of names")
            return cls(
                split_fractions=None if fractions is None else shares.checked(fractions),
                without_classes=tuple(classes),
                split_bounds=_bounds(kept.get("split_bounds", {})),
            )
        except (AttributeError, OverflowError, TypeError, ValueError, UserError) as error:
            raise UserError(
                f"selection in {of} is {repr(kept)[:200]}: it holds three split_fractions that sum "
                "to 1, or null, a list without_classes, and split_bounds of labels, two numbers "
                f"from 0 to 1 each; {_NEXT_STEP}"
            ) from error


def _bounds(kept: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    found = {}
    for label, (train, val) in kept.items():
        if not (math.isfinite(train) and 0 <= train <= val <= 1):
            raise ValueError("no two numbers from 0 to 1, the lesser first")
        found[label] = (float(train), float(val))
    return found
