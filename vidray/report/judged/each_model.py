"""Model by model: confusion matrix, ROC, precision-recall, reliability, classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from vidray.report.blocks import Column, DataTable, Finding, Fold, Part, Section
from vidray.report.formats import listing
from vidray.report.judged import model_charts
from vidray.report.judged.class_figures import class_frame
from vidray.report.judged.comparable import ComparedModels, groups
from vidray.report.runs import JudgedModel, Runs
from vidray.report.tools import Tools

NAME = "each-model"
# Fewer test videos than this, and one wrong answer moves a class's recall by 10 points or more.
FEW_VIDEOS = 10
# Classes beyond have no cell of their own in a drawing of this width.
_MOST_IN_MATRIX = 30
# Four charts of a model take up to half a megabyte; the page has 20.
_MOST_DRAWN = 12
_CLASSES = {
    "class": Column(title="Class"),
    "videos": Column(title="Videos", form="count"),
    "recordings": Column(title="Recordings", form="count"),
    "recall": Column(
        title="Recall",
        form="share",
        interval=("recall_low", "recall_high"),
        hint="share of the class's videos that are found",
    ),
    "precision": Column(
        title="Precision",
        form="share",
        interval=("precision_low", "precision_high"),
        hint="share of those given the class that are of it",
    ),
    "f1": Column(title="F1", form="share"),
    "auc": Column(title="AUC", form="share"),
    "average_precision": Column(title="Average precision", form="share"),
    "mistaken_for": Column(title="Most often taken for"),
}
_CONFUSED = {
    "true_class": Column(title="Class"),
    "predicted": Column(title="Taken for"),
    "videos": Column(title="Videos", form="count"),
    "share": Column(title="Of the class", form="percent"),
}


def section(runs: Runs, tools: Tools) -> Section | None:
    """The chapter; None where no run has anything for it."""
    found = groups(runs)
    if not found:
        return None
    place = {one.name: number for number, one in enumerate(runs.judged, start=1)}
    members = [(group, member) for group in found for member in group.members]
    folds = [
        Fold(
            title=_title(group, member),
            blocks=list(
                _of_model(
                    member,
                    place[member.name],
                    is_drawn=number < _MOST_DRAWN,
                    seed=tools.settings.seed,
                )
            ),
            is_open=number == 0,
        )
        for number, (group, member) in enumerate(members)
    ]
    return Section(
        name=NAME,
        title="Model by model",
        lead="What each model confuses, how well its probabilities sort the videos, whether they "
        "can be believed, and how it does in each class.",
        blocks=folds,
        # Where the videos themselves are given, the chapter on the data says it of all splits.
        findings=[] if runs.features or runs.clips else list(_few_videos(found)),
    )


def _title(group: ComparedModels, member: JudgedModel) -> str:
    return (
        f"{group.label(member)}: accuracy {member.metrics['accuracy']:.3f} on "
        f"{len(member.video_ids):,} videos"
    )


def _of_model(judged: JudgedModel, number: int, *, is_drawn: bool, seed: int) -> Iterator[Part]:
    if is_drawn:
        if len(judged.class_names) <= _MOST_IN_MATRIX:
            yield model_charts.confusion(judged, number)
        yield from model_charts.curves_of(judged, number)
        yield model_charts.reliability(judged, number)
    if len(judged.class_names) > _MOST_IN_MATRIX:
        yield _confused(judged, number)
    yield DataTable(
        name=f"classes-{number}",
        title=f"Classes of {judged.title}, the worst first",
        frame=class_frame(judged, seed=seed),
        columns=_CLASSES,
        note="With 95 % intervals by bootstrap over recordings; a class of one recording has none.",
    )


def _confused(judged: JudgedModel, number: int) -> DataTable:
    """The pairs of classes that are confused most, for those that no matrix can show."""
    counts = np.array(judged.metrics["confusion_matrix"])
    totals = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    rows = [
        {
            "true_class": judged.class_names[true],
            "predicted": judged.class_names[predicted],
            "videos": int(counts[true, predicted]),
            "share": counts[true, predicted] / totals[true],
        }
        for true, predicted in zip(*np.nonzero(counts), strict=True)
    ]
    frame = pd.DataFrame(rows, columns=list(_CONFUSED))
    return DataTable(
        name=f"confused-{number}",
        title=f"Classes that {judged.title} confuses most",
        frame=frame.sort_values(["videos", "share"], ascending=False, kind="stable"),
        columns=_CONFUSED,
        note=f"{len(judged.class_names)} classes are too many for a matrix.",
        most_rows=30,
    )


def _few_videos(found: Sequence[ComparedModels]) -> Iterator[Finding]:
    """Classes that the test videos say too little of, of the largest group that has them."""
    for group in found:
        counts = {name: group.truth.count(name) for name in group.class_names}
        few = {name: number for name, number in counts.items() if number < FEW_VIDEOS}
        if few:
            named = [f"{name} {number}" for name, number in sorted(few.items(), key=_by_number)]
            yield Finding(
                level="warning",
                text=f"{len(few)} of {len(counts)} classes have fewer than {FEW_VIDEOS} test "
                f"videos, too few to judge them one by one: {listing(named, most=5)}.",
                section=NAME,
            )
            return


def _by_number(item: tuple[str, int]) -> int:
    return item[1]
