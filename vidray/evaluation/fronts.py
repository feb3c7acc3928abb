"""Pareto fronts: the models that no other beats in both accuracy and cost."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pareto(costs: Sequence[float | None], accuracies: Sequence[float]) -> list[bool]:
    """Whether each model is on the front: every one that costs as little or less is less accurate.

    Of two that are equal in both, both are. A model whose cost is unknown (None, NaN) is not.
    """
    points = list(zip(costs, accuracies, strict=True))
    known = [(cost, more) for cost, more in points if cost is not None and not math.isnan(cost)]

    def is_beaten(cost: float, accuracy: float) -> bool:
        return any(
            other <= cost and more >= accuracy and (other, more) != (cost, accuracy)
            for other, more in known
        )

    return [
        cost is not None and not math.isnan(cost) and not is_beaten(cost, accuracy)
        for cost, accuracy in points
    ]
