"""What a job tells a person at its end, on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import table as rich_table
from rich.console import Console
from rich.text import Text

from vidray import storage
from vidray.endings import one_line
from vidray.errors import ERROR_KINDS
from vidray.progress import duration
from vidray.tables.runs import Run
from vidray.tables.schema import STATUSES

if TYPE_CHECKING:  # It imports scikit-learn, which extracting does without.
    pass

WIDTH = 110


class Table(rich_table.Table):
    """A table of data, which is shown as it is: no label or file name is markup to it."""

    def add_row(self, *cells: str | Text | None, **how: Any) -> None:  # type: ignore[override]
        """Texts become one line each; a ``Text`` keeps its style."""
        shown = (Text(one_line(cell)) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*shown, **how)


def print_run(run: Run, report: dict[str, Any]) -> None:
    """Videos by status and error kind, speed, and where the table is."""
    print_counts(report)
    print(f"table: {storage.join(run.out, run.table)}")


def print_counts(report: dict[str, Any]) -> None:
    """Videos by status and error kind, and speed."""
    counts, seconds = report["counts"], report["seconds"]
    by_status = ", ".join(f"{counts[status]} {status}" for status in STATUSES)
    print(f"{counts['videos']} videos: {by_status}")
    if counts["error_kinds"]:
        table = Table("error kind", "videos", "what it means", box=None)
        for kind, number in sorted(counts["error_kinds"].items(), key=lambda item: -item[1]):
            table.add_row(kind, str(number), ERROR_KINDS[kind])
        Console(width=WIDTH).print(table)
    if corrupt := counts.get("with_corrupt_frames"):
        some = f"{corrupt} videos have" if corrupt > 1 else "1 video has"
        print(f"{some} corrupt frames: see corrupt_share, or refuse them by --max-corrupt-share")
    rate = report["videos_per_second"]
    speed = f"{rate:.1f} videos/s, " if rate else ""
    work, start = duration(seconds["working"]), duration(seconds["startup"])
    print(f"{speed}{work} of work, {start} to start Ray")
