"""The first screen: what the runs are, and what needs a person."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from vidray.report.blocks import Column, DataTable, Part, Section
from vidray.report.runs import Runs


def section(runs: Runs, sections: Sequence[Section]) -> Section:
    """The first chapter, made of the findings of all others."""
    blocks: list[Part] = [_runs(runs)]
    return Section(
        name="overview",
        title="Overview",
        lead="What these runs are, and what needs a person.",
        blocks=blocks,
        findings=[finding for other in sections for finding in other.findings],
    )


def _runs(runs: Runs) -> DataTable:
    rows = [{"run": run.name, "folder": run.out} for run in runs.finished]
    return DataTable(
        name="runs",
        title="Runs on this page",
        frame=pd.DataFrame(rows, columns=["run", "folder"]),
        columns={"run": Column(title="Run"), "folder": Column(title="Folder")},
    )
