"""What a job tells a person at its end, on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich import table as rich_table
from rich.console import Console
from rich.text import Text

from vidray import splits, storage
from vidray.endings import one_line
from vidray.progress import duration
from vidray.runs import Run
from vidray.schema import ERROR_KINDS, SPLITS, STATUSES

if TYPE_CHECKING:  # It imports scikit-learn, which extracting does without.
    from vidray.learning import Examples

WIDTH = 110
_MOST_CLASSES = 20  # shown of a table with a row each


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


def print_splits(examples: Examples, *, given: bool) -> None:
    """Which splits are learnt from, and what they are short of, where the data alone do not tell.

    Args:
        examples: as selected.
        given: whether the data give splits of their own.
    """
    table, selection = examples.table, examples.selection
    if selection.without_classes:
        print(f"classes left out: {', '.join(selection.without_classes)} (--without-classes)")
    if selection.split_fractions is None:
        if without := len(table.filter(table["split"].is_null())["video_id"].unique()):
            print(
                f"{without} labelled videos have no split, and are neither learnt from nor judged: "
                "--split-fractions would derive one for all"
            )
        return
    shares = " ".join(f"{share:g}" for share in selection.split_fractions)
    why = "instead of those given" if given else "the data give none"
    print(f"splits derived by recording, the same each time ({why}): --split-fractions {shares}")
    print_split_counts(table)
    for sentence in splits.shortcomings(table, selection.split_fractions):
        print(f"note: {sentence}")


def print_split_counts(table: pa.Table) -> None:
    """Videos and recordings of each class in each split; of many classes the smallest."""
    counts = splits.count(table)
    labels = sorted(label for label in counts if label)
    if not labels:
        return
    fewest = {
        label: min(counts[label].get(split, (0, 0))[1] for split in SPLITS) for label in labels
    }
    shown = sorted(sorted(labels, key=fewest.__getitem__)[:_MOST_CLASSES])
    rows = Table("videos (recordings)", *SPLITS, box=None)
    for label in shown:
        numbers = (counts[label].get(split, (0, 0)) for split in SPLITS)
        rows.add_row(label, *(f"{a} ({b})" if a else "-" for a, b in numbers))
    Console(width=WIDTH).print(rows)
    if len(shown) < len(labels):
        print(f"{len(labels) - len(shown)} classes with more recordings are not shown")
