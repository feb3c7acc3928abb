"""Messages of a label job, on stdout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from vidray import storage
from vidray.labelling.commits import LabelSet
from vidray.labelling.todo import Todo
from vidray.progress import duration
from vidray.tables import summary
from vidray.tables.summary import Table

# The columns of LABELS that the messages need.
COLUMNS = (
    "uri", "true_label", "label", "probability", "stage", "duration_seconds", "commit",
)  # fmt: skip
_MOST_LABELS = 20
_MOST_EXAMPLES = 12
# For fewer videos, or less time, starting and stopping is most of the cost: 20 clips of half a
# second came to 1,362 CPU-seconds a thousand, and 2,000 of them to a tenth.
_ENOUGH_VIDEOS, _ENOUGH_SECONDS = 200, 60.0


def print_todo(todo: Todo, seconds: float) -> None:
    """Print how many videos are new, changed and so on, and how long the comparison took."""
    kinds = ", ".join(f"{number} {kind}" for kind, number in todo.counts.items() if number)
    print(f"{kinds or 'no videos'} ({duration(seconds)} to list and compare)")
    if not len(todo.plan):
        print("nothing to label")


def print_commit(labels: LabelSet, number: int, rows: pa.Table, report: Mapping[str, Any]) -> None:
    """Print examples of labels (beside true ones, where known), counts, cost and the table's place.

    Args:
        rows: ``COLUMNS`` of the commit.
        report: the content of run.json.
    """
    _print_examples(rows)
    table = Table("label", "videos", box=None)
    for label, videos in list(report["labels"].items())[:_MOST_LABELS]:
        table.add_row(label, str(videos))
    Console(width=summary.WIDTH).print(table)
    summary.print_counts(dict(report))
    if stages := report.get("videos_by_stage"):
        first, second = stages.get("1", 0), stages.get("2", 0)
        print(f"the first model labelled {first} videos, the second one {second}")
    _print_cost(report)
    out = storage.without_secrets(labels.out)
    print(f"commit {number}: {out}, files in its folder labels/set={labels.name}")


def _print_examples(rows: pa.Table) -> None:
    """Print true label, label and probability of videos spread over the commit."""
    known = rows.filter(pc.and_(rows["true_label"].is_valid(), rows["label"].is_valid()))
    if not len(known):
        return
    chosen = np.unique(np.linspace(0, len(known) - 1, _MOST_EXAMPLES).round().astype(int))
    table = Table("video", "true label", "label", "probability", box=None)
    for row in known.take(chosen).to_pylist():
        name = storage.name_of(row["uri"])
        table.add_row(name, row["true_label"], row["label"], f"{row['probability']:.2f}")
    Console(width=summary.WIDTH).print(table)
    right = pc.sum(pc.equal(known["true_label"], known["label"])).as_py()
    # Which videos the model learnt from is not known here, and of those it is nearly always right.
    print(f"{right} of {len(known)} labels are the true ones (videos it learnt from count too)")


def _print_cost(report: Mapping[str, Any]) -> None:
    cost = report["cost_per_thousand_videos"]
    done = report["counts"]["videos"] - report.get("videos_done_before", 0)
    if not cost or (done < _ENOUGH_VIDEOS and report["seconds"]["working"] < _ENOUGH_SECONDS):
        return
    gpu = f" and {cost['gpu_seconds']:.0f} GPU-seconds" if cost["gpu_seconds"] else ""
    print(
        f"{report['hours_of_video_per_hour']:.1f} hours of video an hour; a thousand videos "
        f"cost {cost['cpu_seconds']:.0f} CPU-seconds{gpu}"
    )
