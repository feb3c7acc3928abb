"""Settings of an evaluation, as flags. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vidray.errors import UserError

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """Which videos a model is judged on, and how."""

    split: Literal["train", "val", "test", "all"] = "test"
    """Split to judge on, the same as in the model's training; all is for data that the model has
    never seen. Splits that the training derived are derived again, by recording."""
    without_classes: tuple[str, ...] = ()
    """Classes to leave out. Those that training left out are left out here, too."""
    labels: str | None = None
    """CSV file with the columns class and label: the label that each class counts as. Here the
    classes are those of the data; a class that is not listed keeps its name, or gets the label of
    the line *, and one with an empty label is left out."""
    timed_videos: int = 8
    """Videos that are timed from file to label; 0 turns the cost off."""
    device: Device = "auto"
    """Device on which a deep model predicts; auto takes a GPU where there is one."""

    def __post_init__(self) -> None:
        if self.timed_videos < 0:
            raise UserError(f"timed_videos is {self.timed_videos}: 0 (not timed) or more")


@dataclass(frozen=True, kw_only=True)
class JudgedTwo:
    """A second, dearer model that is judged together with the first one."""

    then: str | None = None
    """Model folder of a dearer model, asked of videos of which --model is not sure enough. Split
    val chooses how sure that is, and split test judges both."""
    then_data: str | None = None
    """Finished run of what the model of --then learns from; if not given, that of --data."""
    allow: float = 0.01
    """Accuracy that may be lost on new videos. Against --then alone, with a probability of 0.95;
    jobs/label.py chooses its own from the same answers."""

    def __post_init__(self) -> None:
        if not 0 < self.allow < 1:
            raise UserError(
                f"allow is {self.allow}: accuracy that may be lost is above 0 and below 1"
            )
