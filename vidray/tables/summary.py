"""The summary of a job, printed at its end."""

from __future__ import annotations

from typing import Any

from rich import table as rich_table
from rich.console import Console
from rich.text import Text

from vidray import storage
from vidray.endings import one_line
from vidray.errors import ERROR_KINDS
from vidray.progress import duration
from vidray.tables.runs import Run, read_parts
from vidray.tables.schema import STATUSES

WIDTH = 110


class Table(rich_table.Table):
    """A table of data, which is shown as it is: no label or file name is markup to it."""

    def add_row(self, *cells: str | Text | None, **how: Any) -> None:  # type: ignore[override]
        """Texts become one line each; a ``Text`` keeps its style."""
        shown = (Text(one_line(cell)) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*shown, **how)


def print_rows(run: Run, most: int) -> None:
    """Print the first rows of a table of features, a line each."""
    columns = ["uri", "label", "status", "error_kind", "codec", "width_px", "height_px"]
    numbers = ["num_frames", "frames_per_second", "sharpness", "noise"]
    table = Table(
        "video", "label", "codec", "size", "frames", "fps", "sharpness", "noise", box=None
    )
    for part in read_parts(run.out, columns=[*columns, *numbers]) if most else ():
        for row in part.slice(0, most - table.row_count).to_pylist():
            name = storage.name_of(row["uri"])
            if row["status"] == "ok":
                size = f"{row['width_px']}x{row['height_px']}"
                cells = [f"{row[number]:.4g}" for number in numbers]
                table.add_row(name, row["label"], row["codec"], size, *cells)
            else:
                table.add_row(name, row["label"], Text(row["error_kind"], style="red"))
    if most:
        Console(width=WIDTH).print(table)


def print_run(run: Run, report: dict[str, Any]) -> None:
    """Print videos by status and error kind, speed, and the table's place."""
    print_counts(report)
    print(f"table: {storage.join(run.out, run.table)}")


def print_counts(report: dict[str, Any]) -> None:
    """Print videos by status and error kind, and speed."""
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
