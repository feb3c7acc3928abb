"""Answers that a study keeps of each model it judged, video by video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from vidray.errors import UserError
from vidray.evaluation.answers import SUM_TOLERANCE
from vidray.evaluation.intervals import Floats
from vidray.evaluation.study_plan import METADATA
from vidray.report.runs import Runs, StudyResult
from vidray.storage import join, json_file


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitOfStudy:
    """One model of a study, judged on its test videos.

    Attributes:
        study: the name of its run.
        answers: video id -> probabilities, float64 (K,), in the order of ``class_names``.
    """

    study: str
    model: str
    class_names: tuple[str, ...]
    answers: Mapping[str, Floats]


def metadata_units(runs: Runs) -> Iterator[UnitOfStudy]:
    """The metadata baseline of each study that has it."""
    for study in runs.studies:
        if (found := unit_answers(study, METADATA)) is not None:
            yield found


def unit_answers(study: StudyResult, model: str) -> UnitOfStudy | None:
    """The answers of one model for the study's test videos; None where they are not kept whole."""
    try:
        class_names = tuple(map(str, json_file.read(join(study.out, "study.json"))["class_names"]))
        unit = json_file.read(join(study.out, f"units/{model}.test.json"))
        ids = [str(video) for video in unit["video_ids"]]
        scores = np.array(unit["probabilities"], np.float64)
    except (UserError, OSError, KeyError, TypeError, ValueError):
        return None  # An older study, or a damaged one: a baseline less.
    if scores.shape != (len(ids), len(class_names)) or not ids:
        return None
    if not ((scores >= 0).all() and (np.abs(scores.sum(axis=1) - 1) <= SUM_TOLERANCE).all()):
        return None
    return UnitOfStudy(
        study=study.name,
        model=model,
        class_names=class_names,
        answers=dict(zip(ids, scores, strict=True)),
    )
