"""A report of splits: their sizes, and what they lack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from rich.console import Console

from vidray.sources import splits
from vidray.tables.schema import SPLITS
from vidray.tables.summary import WIDTH, Table

if TYPE_CHECKING:  # It imports scikit-learn, which extracting does without.
    from vidray.learning.examples import Examples

_MOST_CLASSES = 20  # shown of a table with a row each


def print_splits(examples: Examples, *, given: bool) -> None:
    """Print the splits and what they lack, where the data alone do not show it.

    Args:
        examples: as selected.
        given: whether the data give splits of their own.
    """
    table, selection = examples.table, examples.selection
    if selection.without_classes:
        print(f"classes left out: {', '.join(selection.without_classes)} (--without-classes)")
    fractions = selection.split_fractions
    if fractions is None:
        if without := len(table.filter(table["split"].is_null())["video_id"].unique()):
            print(
                f"{without} labelled videos have no split, and are neither learnt from nor judged: "
                "--split-fractions would derive one for all"
            )
    else:
        shares = " ".join(f"{share:g}" for share in fractions)
        why = "instead of those given" if given else "the data give none"
        print(
            f"splits derived by recording, the same each time ({why}): --split-fractions {shares}"
        )
        print_split_counts(table)
    for sentence in splits.shortcomings(table, fractions):
        print(f"note: {sentence}")


def print_split_counts(table: pa.Table) -> None:
    """Print videos and recordings of each class in each split; of many classes the smallest."""
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
