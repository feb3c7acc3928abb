"""The end of a report on the terminal: what is on the page, what is not, and where it is."""

from __future__ import annotations

import sys
import webbrowser

from vidray.report import formats
from vidray.report.page import Page


def show(report: Page, *, is_opened: bool) -> None:
    """Print the summary; and open the page, if asked for."""
    for problem in report.problems:
        print(f"not on the page: {problem.folder} {problem.why}", file=sys.stderr)
    for finding in report.sections[0].findings:
        print(f"{finding.level}: {finding.text}")
    num_runs = sum(1 for _ in report.runs.finished)
    print(
        f"{num_runs} runs, {len(report.sections)} chapters, {formats.size(report.size_bytes)}: "
        f"{report.uri}, data of its figures in {report.data}"
    )
    if is_opened and not webbrowser.open(f"file://{report.uri}"):
        print("no browser here opens it: open the file yourself", file=sys.stderr)
