"""Answers that a study keeps of each model it judged, video by video."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from vidray.errors import UserError
from vidray.evaluation.answers import SUM_TOLERANCE
from vidray.evaluation.intervals import Floats
from vidray.evaluation.study_plan import BASELINES, METADATA
from vidray.models import names
from vidray.report.judged.comparable import ComparedModels, compared, known_recordings
from vidray.report.runs import JudgedModel, Runs, StudyResult
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


def kind(model: str) -> str:
    """``baseline``, ``classical`` or ``deep``, by the model's name; others are networks by name."""
    if model in BASELINES:
        return "baseline"
    return "classical" if model in names.CLASSICAL else "deep"


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


def study_group(study: StudyResult, runs: Runs, number: int) -> ComparedModels | None:
    """The study's models on its test videos, as ``groups`` has those of evaluations; None where the
    answers are not kept, or no data on the page give the true labels.
    """
    rows = study.rows.to_pylist()
    models = [row["model"] for row in rows if row["purpose"] == "test"]
    units = [
        unit for name in models if name not in BASELINES and (unit := unit_answers(study, name))
    ]
    labels = _labels(runs)
    if not units or any(video not in labels for unit in units for video in unit.answers):
        return None
    if any(labels[video] not in unit.class_names for unit in units for video in unit.answers):
        return None  # The study had other classes than these data.
    members = [_judged(study, unit, labels) for unit in units]
    group = compared(members, known_recordings(runs))
    return dataclasses.replace(group, number=number, study=study.name)


def _labels(runs: Runs) -> dict[str, str]:
    """The true label of each video, as the data on the page give it."""
    tables = [*(run.rows for run in runs.features), *(run.rows for run in runs.clips)]
    found: dict[str, str] = {}
    for table in tables:
        pairs = zip(table["video_id"].to_pylist(), table["label"].to_pylist(), strict=True)
        found |= {video: label for video, label in pairs if label is not None}
    return found


def _judged(study: StudyResult, unit: UnitOfStudy, labels: Mapping[str, str]) -> JudgedModel:
    """The unit as an evaluation of its own."""
    scores = np.stack(list(unit.answers.values()))
    return JudgedModel(
        out=study.out,
        name=f"{study.name}: {unit.model}",
        report={"config": {"model": unit.model, "split": "test"}},
        class_names=unit.class_names,
        video_ids=tuple(unit.answers),
        uris=tuple(unit.answers),
        truth=tuple(labels[video] for video in unit.answers),
        predicted=tuple(unit.class_names[k] for k in scores.argmax(axis=1)),
        groups=(None,) * len(unit.answers),
        probabilities=scores,
        cost={},
        baselines={},
    )
