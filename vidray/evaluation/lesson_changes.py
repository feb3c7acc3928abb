"""The lesson of a network that is pruned first, has early exits, or a teacher."""

from __future__ import annotations

import dataclasses

from vidray.evaluation.teaching import DeepLesson, Lesson
from vidray.learning import deep_job, distillation
from vidray.learning.distillation import DistillSettings
from vidray.learning.exit_settings import ExitSettings
from vidray.learning.pruning import start


def with_pruning(lesson: Lesson, share: float) -> DeepLesson:
    """The lesson of a network that is pruned first; raises UserError where it can't be."""
    assert isinstance(lesson, DeepLesson)
    return dataclasses.replace(lesson, job=start.with_pruning(lesson.job, share))


def with_exits(lesson: Lesson, settings: ExitSettings) -> DeepLesson:
    """The lesson of the same model with early exits; raises UserError where it can have none."""
    assert isinstance(lesson, DeepLesson)
    job = deep_job.with_exits(lesson.job, lesson.examples, settings)
    return dataclasses.replace(lesson, job=job)


def with_teacher(lesson: Lesson, settings: DistillSettings, *, out: str) -> DeepLesson:
    """The lesson of a deep model that a teacher teaches, and a line on stdout that says so.

    Args:
        settings: with a teacher.
        out: the model folder that is made.

    Raises:
        UserError: see ``distillation.plan``.
    """
    assert isinstance(lesson, DeepLesson)
    job, examples = lesson.job, lesson.examples
    found = distillation.plan(settings, examples, job.class_names, out=out)
    distillation.check_training(found, job.training)
    for note in distillation.notes(found, examples):
        print(f"note: {note}")
    return dataclasses.replace(lesson, job=dataclasses.replace(job, distillation=found))
