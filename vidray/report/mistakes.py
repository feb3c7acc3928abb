"""The errors of a model, worst first, and its most and least sure answers, with frames."""

from __future__ import annotations

from vidray.report.blocks import Section
from vidray.report.runs import Runs
from vidray.report.tools import Tools


def section(_runs: Runs, _tools: Tools) -> Section | None:
    """The chapter; None where no run has anything for it."""
    return None
