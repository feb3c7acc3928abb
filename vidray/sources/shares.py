"""Shares of recordings for train, val and test: numbers only, for a command line to check."""

import math
from collections.abc import Sequence

from vidray.errors import UserError

Fractions = tuple[float, float, float]

DEFAULT_FRACTIONS = (0.7, 0.15, 0.15)  # of recordings, for train, val and test


def checked(fractions: Sequence[float]) -> Fractions:
    """The same as three numbers; UserError unless they are shares of 1."""
    good = len(fractions) == 3 and all(math.isfinite(share) and share >= 0 for share in fractions)
    if not good or abs(sum(fractions) - 1) > 1e-6:
        raise UserError(
            f"split fractions {tuple(fractions)}: three numbers for train, val and test that sum "
            "to 1, for example 0.7 0.15 0.15"
        )
    train, val, test = fractions
    return train, val, test
