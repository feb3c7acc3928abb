"""Tables of studies and searches: models that shared videos, folds and settings."""

from __future__ import annotations

from vidray.report.blocks import Part
from vidray.report.runs import Runs


def blocks(_runs: Runs) -> list[Part]:
    """Their parts."""
    return []
