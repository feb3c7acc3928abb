"""How a label job is asked to label. Nothing that takes long is imported for it."""

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
    """How videos are cut for the model, and how it is asked."""

    clips_per_video: int | None = None
    """Clips of a video, one from each of so many stretches of equal time. Short videos only, whose
    probabilities are averaged; as in training if not given."""
    crops: int = 1
    """Squares of each frame, from edge to edge, whose probabilities are averaged; of models that
    learnt from clips of jobs/clips.py --fit crop."""
    long_seconds: float = 60.0
    """A longer video is labelled window by window, and gets segments."""
    window_seconds: float = 4.0
    """What a window spans."""
    step_seconds: float = 2.0
    """From the beginning of a window to that of the next."""
    embedding: bool = False
    """Keep what a deep model's head sees, averaged over clips."""
    precision: LabelPrecision = "float32"
    """Numbers that a deep model computes with. Half as long, bfloat16 is faster where the processor
    has it."""
    compile: bool = False
    """Compile a deep model first, which takes each process a minute or so and a C++ compiler:
    networks of convolutions are 1.2 to 2.5 times as fast then. Probabilities move in their last
    digits, and in the third one in bfloat16."""
    decoder: Decoder = "pyav"
    """Decoder; where the chosen one is not known to be exact, PyAV reads. Short videos only."""
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
