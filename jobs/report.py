"""Finished run folders -> one self-contained HTML page, for people, offline, to print or to mail.

    python jobs/report.py --runs runs/demo --out report.html

Needs nothing but the folders: of any job, of any age, or of folders that hold them. It only reads
them. Takes seconds, and a minute where it decodes frames of many videos. Leaves the page, and the
data of every figure beside it as CSV files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from vidray import cli
from vidray.errors import UserError
from vidray.flags import Flat
from vidray.report.settings import ReportSettings


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Show what finished runs hold, on one page."""

    runs: tuple[str, ...]
    """Run folders of any job, or folders that hold some; local or in a bucket."""
    out: str
    """HTML file to write, local or in a bucket."""
    open: bool = False
    """Open the page in the browser of this machine."""
    settings: Annotated[ReportSettings, Flat] = field(default_factory=ReportSettings)

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("--runs names no folder: give those of the jobs' --out")


def main(config: ReportConfig) -> None:
    """Read the runs, write the page, and say where it is."""
    # These take seconds to import: not before the arguments are known to be right.
    from vidray.report import console, page

    console.show(page.write(config.runs, config.out, config.settings), is_opened=config.open)


if __name__ == "__main__":
    cli.run(ReportConfig, main)
