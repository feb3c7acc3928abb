"""The models side by side on the same videos: figures, intervals, which differences are real."""

from __future__ import annotations

from vidray.report.blocks import Section
from vidray.report.comparable import ComparedModels, groups, kind_of
from vidray.report.runs import Runs
from vidray.report.tools import Tools

__all__ = ["ComparedModels", "groups", "kind_of", "section"]


def section(_runs: Runs, _tools: Tools) -> Section | None:
    """The chapter; None where no run has anything for it."""
    return None
