"""What of a model is judged, as a command line takes it. Nothing heavy is imported for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vidray.errors import UserError

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """Which videos a model is judged on, and how."""

    split: Literal["train", "val", "test", "all"] = "test"
    """Which videos: of a split as in the model's training, derived again by recording where they
    were derived then; or all of them, of data that the model has never seen."""
    without_classes: tuple[str, ...] = ()
    """Classes to leave out. They come beside those that training left out: ones it has not seen."""
    timed_videos: int = 8
    """Videos whose way from file to label is timed; 0 leaves the cost out."""
    device: Device = "auto"
    """Where a deep model predicts; a GPU where there is one."""

    def __post_init__(self) -> None:
        if self.timed_videos < 0:
            raise UserError(f"timed_videos is {self.timed_videos}: 0 (not timed) or more")
