"""Settings of labelling, as flags. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args

from vidray.errors import UserError
from vidray.video.decoder_names import Decoder, check_decoder
from vidray.video.frames import Limits

LabelPrecision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """How videos are cut into clips, and how the model computes."""

    clips_per_video: int | None = None
    """Clips per video, one from each of as many equal stretches of its time. For short videos,
    whose clips' probabilities are averaged; as in training if not given."""
    crops: int = 1
    """Square crops per frame, from edge to edge, whose probabilities are averaged. For models that
    learnt from clips made with jobs/clips.py --fit crop or resize_crop."""
    long_seconds: float = 60.0
    """Videos longer than this are labelled window by window and get segments."""
    window_seconds: float = 4.0
    """Length of a window. It is as long at least as the clips that the model learnt from, and one
    with --clip-seconds sees the middle of it."""
    step_seconds: float = 2.0
    """Time from the start of a window to the start of the next."""
    embedding: bool = False
    """Store the embedding (the input of a deep model's head), averaged over clips."""
    precision: LabelPrecision = "float32"
    """Number format in which a deep model computes. On processors that support it, bfloat16 is
    faster."""
    compile: bool = False
    """Compile a deep model first: convolutional networks then run 1.2 to 2.5 times as fast. Each
    process compiles for about a minute and needs a C++ compiler. Probabilities change in their last
    digits, in bfloat16 in the third one."""
    decoder: Decoder = "pyav"
    """Decoder; PyAV reads wherever the chosen one is not known to be exact. For short videos
    only."""
    limits: Limits = dataclasses.field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name in ("window_seconds", "step_seconds"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be above 0")
        if not self.step_seconds <= self.window_seconds <= self.long_seconds:
            raise UserError(
                f"step_seconds, window_seconds and long_seconds are {self.step_seconds:g}, "
                f"{self.window_seconds:g} and {self.long_seconds:g}: none may be above the next"
            )
        if self.clips_per_video is not None and self.clips_per_video < 1:
            raise UserError(f"clips_per_video is {self.clips_per_video}: it must be 1 or more")
        if not 1 <= self.crops <= 9:
            raise UserError(f"crops is {self.crops}: it must be 1 to 9")
        if self.precision not in get_args(LabelPrecision):
            kinds = ", ".join(get_args(LabelPrecision))
            raise UserError(f"precision is {self.precision!r}: one of {kinds}")
        check_decoder(self.decoder)


@dataclass(frozen=True, kw_only=True)
class TwoStages:
    """A second, dearer model, and how much may be lost by not asking it."""

    then: str | None = None
    """Model folder of a dearer model, asked of videos of which --model is not sure enough. Both
    models have the same classes; the column stage says which one labelled a video."""
    judged: str | None = None
    """Folder of jobs/evaluate.py --then, of the same two models. From their answers to split val
    follows how sure is sure enough."""
    allow: float = 0.01
    """Accuracy that may be lost on new videos. Against --then alone, with a probability of 0.95: to
    show 0.01 takes 299 videos of split val, or 363 recordings."""

    def __post_init__(self) -> None:
        if not 0 < self.allow < 1:
            raise UserError(
                f"allow is {self.allow}: accuracy that may be lost is above 0 and below 1"
            )
        if (self.then is None) != (self.judged is None):
            given, other = ("--then", "--judged") if self.judged is None else ("--judged", "--then")
            raise UserError(
                f"{given} is given without {other}: name the folder of jobs/evaluate.py --then, "
                "and both"
            )
