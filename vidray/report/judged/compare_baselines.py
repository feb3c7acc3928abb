"""What a model must beat: always answering one class, and the metadata alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidray.evaluation.metrics import compute_metrics
from vidray.evaluation.pairs import PairedDifference, differences
from vidray.report.judged.comparable import ComparedModels
from vidray.report.judged.compare_figures import quality
from vidray.report.judged.study_units import UnitOfStudy, metadata_units
from vidray.report.runs import JudgedModel, Runs

# Metadata of fewer of the group's videos than this share say nothing of the others.
_LEAST_COVERED = 0.9
_NEEDS_NO_PROBABILITY = ("accuracy", "macro_precision", "macro_recall", "macro_f1")


@dataclass(frozen=True, kw_only=True, eq=False)
class BaselineResult:
    """A baseline on the videos of a group, and each model against it.

    Attributes:
        kind: ``majority`` or ``metadata``.
        title: in words, such as ``always no_fight``.
        accuracy: on the videos that it answers.
        figures: columns of ``compare_figures.figures``.
        num_videos: that it answers.
        against: model (its run's name) minus baseline in accuracy, corrected over the models.
    """

    kind: str
    title: str
    accuracy: float
    figures: dict[str, float | None]
    num_videos: int
    against: dict[str, PairedDifference]

    def is_beaten_by(self, member: JudgedModel) -> bool:
        """Whether the model is better, and not by chance."""
        found = self.against[member.name]
        return found.value > 0 and found.is_real


def baselines_of(group: ComparedModels, runs: Runs, *, seed: int = 0) -> list[BaselineResult]:
    """Always answering one class; and the metadata alone, if a study on the page has judged them
    on these videos.
    """
    found = [_majority(group, seed)]
    for unit in metadata_units(runs):
        if (made := _metadata(group, unit, seed)) is not None:
            return [*found, made]
    return found


def _majority(group: ComparedModels, seed: int) -> BaselineResult:
    label = _majority_label(group)
    one_hot = np.zeros((len(group.truth), len(group.class_names)))
    one_hot[:, group.class_names.index(label)] = 1
    metrics = compute_metrics(
        group.truth, one_hot, group.class_names, groups=_units(group.group_of)
    )
    figures = {
        name: value
        for name, value in quality(metrics).items()
        if name.removesuffix("_low").removesuffix("_high") in _NEEDS_NO_PROBABILITY
    }
    rights = np.array([truth == label for truth in group.truth])
    every = np.arange(len(rights))
    return BaselineResult(
        kind="majority",
        title=f"always {label}",
        accuracy=float(rights.mean()),
        figures=figures,
        num_videos=len(rights),
        against=_against(group, rights, every, seed),
    )


def _majority_label(group: ComparedModels) -> str:
    """The class with the most training videos, as the evaluations say; of older ones, that with
    the most of these videos.
    """
    for member in group.members:
        majority = member.baselines.get("majority")
        label = majority.get("label") if isinstance(majority, dict) else None
        if label in group.class_names:
            return str(label)
    return Counter(group.truth).most_common(1)[0][0]


def _metadata(group: ComparedModels, unit: UnitOfStudy, seed: int) -> BaselineResult | None:
    """The metadata's answers for these videos; None where they are of others."""
    rows = np.array([k for k, v in enumerate(group.video_ids) if v in unit.answers], np.int64)
    if set(unit.class_names) != set(group.class_names):
        return None
    if len(rows) < _LEAST_COVERED * len(group.video_ids) or not len(rows):
        return None
    scores = np.array([unit.answers[group.video_ids[row]] for row in rows])
    truth = [group.truth[row] for row in rows]
    recordings = group.group_of[rows]
    metrics = compute_metrics(truth, scores, unit.class_names, groups=_units(recordings))
    predicted = [unit.class_names[k] for k in scores.argmax(axis=1)]
    rights = np.array([one == other for one, other in zip(truth, predicted, strict=True)])
    some = "" if len(rows) == len(group.video_ids) else f" (on {len(rows)} of the videos)"
    return BaselineResult(
        kind="metadata",
        title=f"metadata alone{some}",
        accuracy=metrics["accuracy"],
        figures=quality(metrics),
        num_videos=len(rows),
        against=_against(group, rights, rows, seed),
    )


def _units(group_of: NDArray[np.int64]) -> list[str]:
    return [str(number) for number in group_of]


def _against(
    group: ComparedModels, rights: NDArray[np.bool_], rows: NDArray[np.int64], seed: int
) -> dict[str, PairedDifference]:
    """Each model minus the baseline on these rows, corrected over the models."""
    values = np.stack([*(group.rights(member)[rows] for member in group.members), rights])
    last = len(group.members)
    _, recordings = np.unique(group.group_of[rows], return_inverse=True)
    found = differences(values, [(k, last) for k in range(last)], recordings, seed=seed)
    return {member.name: one for member, one in zip(group.members, found, strict=True)}


def not_better(baseline: BaselineResult, members: Sequence[JudgedModel]) -> list[JudgedModel]:
    """The models that the videos do not show to be better than the baseline."""
    return [member for member in members if not baseline.is_beaten_by(member)]
