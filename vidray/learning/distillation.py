"""Distillation: a model learns from a teacher's answers beside the labels (Hinton et al. 2015).

Here are its settings, and what they come to for one training; ``teacher`` has the network and the
loss. Nothing heavy is imported before it is asked for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidray import storage
from vidray.errors import UserError

if TYPE_CHECKING:
    from vidray.learning.examples import Examples
    from vidray.learning.hyperparameters import Training

_MOST_TEMPERATURE = 100.0


@dataclass(frozen=True, kw_only=True)
class DistillSettings:
    """Distillation."""

    teacher: str | None = None
    """Model folder of a deep model of the same classes, whose answers are learnt beside the
    labels."""
    distill_temperature: float = 4.0
    """Number that logits are divided by where answers are compared with the teacher's: the higher,
    the more the unlikely classes count."""
    distill_share: float = 0.9
    """Share of the loss that compares with the teacher; the rest compares with the labels."""
    unlabelled_data: str | None = None
    """Finished run of jobs/clips.py --unlabelled keep, cut as --data is or --data itself: clips
    that the teacher alone says the class of. No label in it is looked at."""

    def __post_init__(self) -> None:
        if not 0 < self.distill_temperature <= _MOST_TEMPERATURE:
            rule = f"it must be above 0, and {_MOST_TEMPERATURE:g} or less"
            raise UserError(f"distill_temperature is {self.distill_temperature}: {rule}")
        if not 0 < self.distill_share <= 1:
            rule = "it must be above 0 (without a teacher leave --teacher out), and 1 or less"
            raise UserError(f"distill_share is {self.distill_share}: {rule}")
        if self.teacher is not None:
            return
        for field in dataclasses.fields(self):
            if getattr(self, field.name) != field.default:
                flag = field.name.replace("_", "-")
                raise UserError(f"--{flag} has no effect without --teacher: leave it out")


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """What a training owes to its teacher, as its workers need it.

    Args:
        teacher: the model folder.
        name, digest: of the model in it (``model_files.name_and_digest``).
        temperature, share: see ``DistillSettings``.
        unlabelled: run folder of clips without labels, or None.
        rows: its clips that are learnt from.
        rows_digest: changes with these clips.
        left_out: the number of its clips that are not learnt from.
    """

    teacher: str
    name: str
    digest: str
    temperature: float
    share: float
    unlabelled: str | None = None
    rows: tuple[int, ...] = ()
    rows_digest: str | None = None
    left_out: int = 0

    def deciding(self) -> dict[str, Any]:
        """What the weights depend on, for a digest: the clips by theirs, not one by one."""
        values = dataclasses.asdict(self)
        del values["rows"], values["left_out"]
        return values

    def to_info(self) -> dict[str, Any]:
        """What model.json says of it."""
        return {
            "teacher": self.name,
            "teacher_digest": self.digest,
            "temperature": self.temperature,
            "share": self.share,
            "unlabelled_clips": len(self.rows),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any] | None) -> Distillation | None:
        """The distillation of the values of ``dataclasses.asdict``; None of None."""
        return None if values is None else cls(**{**values, "rows": tuple(values["rows"])})


def plan(
    settings: DistillSettings, examples: Examples, class_names: tuple[str, ...], *, out: str
) -> Distillation:
    """The distillation that ``settings`` ask for; the teacher is loaded once to see that it can be.

    Args:
        settings: with a teacher.
        examples: the labelled clips, with splits.
        class_names: of the model that is taught.
        out: its folder.

    Raises:
        UserError: no such teacher, one of other classes or of more frames or pixels than the clips
            hold, or clips without labels that are cut otherwise or of which none is left.
    """
    from vidray.models.model_files import name_and_digest

    assert settings.teacher is not None
    folder = storage.canonical(settings.teacher)
    if folder == storage.canonical(out):
        raise UserError("--teacher and --out are one folder: give the new model one of its own")
    check_teacher(folder, examples, class_names)
    name, digest = name_and_digest(folder)
    found = Distillation(
        teacher=folder,
        name=name,
        digest=digest,
        temperature=settings.distill_temperature,
        share=settings.distill_share,
    )
    if settings.unlabelled_data is None:
        return found
    from vidray.learning import unlabelled

    more = unlabelled.clips_beside(settings.unlabelled_data, examples)
    return dataclasses.replace(
        found,
        unlabelled=more.uri,
        rows=tuple(more.rows.tolist()),
        rows_digest=more.digest,
        left_out=more.left_out,
    )


def check_teacher(folder: str, examples: Examples, class_names: tuple[str, ...]) -> None:
    """Raise UserError where the teacher cannot answer for these clips and classes."""
    from vidray.models.folder import ClassicalModel, load
    from vidray.models.model_files import read_info

    shown = storage.without_secrets(folder)
    info = read_info(folder)
    if info["family"] != "deep":
        raise UserError(
            f"--teacher {shown} holds {info['name']}, a classical model, which is not asked about "
            "pixels: give the folder of a deep model"
        )
    own, others = set(class_names), set(info["class_names"])
    if own != others:
        some = ", ".join(map(repr, sorted(own ^ others)[:3]))
        raise UserError(
            f"--teacher {shown} knows {len(others)} classes and these data have {len(own)}, and "
            f"{some} {'are' if len(own ^ others) > 1 else 'is'} of one only: give a teacher of "
            "the same classes"
        )
    teacher = load(folder)
    assert not isinstance(teacher, ClassicalModel)
    clips, wanted = examples.clips, teacher.preprocessing
    assert clips is not None
    if max(wanted.num_frames, wanted.span) > clips.num_frames or wanted.size_px > clips.size_px:
        raise UserError(
            f"--teacher {shown} takes {wanted.num_frames} frames of {wanted.size_px} px over "
            f"{max(wanted.num_frames, wanted.span)}, and the clips hold {clips.num_frames} of "
            f"{clips.size_px} px: cut with a larger --frames-per-clip or --size-px"
        )


def check_training(distillation: Distillation, training: Training) -> None:
    """Raise UserError where a setting has no meaning for clips without labels."""
    if distillation.rows and training.balanced_sampling:
        raise UserError(
            "--balanced-sampling draws by class, which clips of --unlabelled-data have none of: "
            "give --class-weights instead, or leave one of them out"
        )


def notes(distillation: Distillation, examples: Examples) -> list[str]:
    """What there is to say of the teacher and its clips, a sentence each."""
    from vidray.models.model_files import read_info

    labelled = len(examples.of_split("train").table)
    found = [f"taught by {distillation.name} {distillation.digest} on {labelled} labelled clips"]
    if distillation.unlabelled is not None:
        found[0] += f" and {len(distillation.rows)} without labels"
    if distillation.left_out:
        found.append(
            f"{distillation.left_out} clips of --unlabelled-data are left out: they are labelled "
            "in --data, or show what judges the model"
        )
    there = read_info(distillation.teacher)["clip"]
    seconds, own = there.get("clip_seconds"), examples.settings.get("clip_seconds")
    if seconds != own and not _is_near(seconds, own):
        found.append(
            f"the teacher learnt from clips of {_seconds(seconds)} and these are of "
            f"{_seconds(own)}: motion looks faster or slower to it than it knows"
        )
    return found


def _is_near(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and math.isclose(a, b, rel_tol=0.02)


def _seconds(value: float | None) -> str:
    return "a whole video" if value is None else f"{value:g} s"
