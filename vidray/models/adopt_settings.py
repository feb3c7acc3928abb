"""Settings of jobs/adopt.py, as flags. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from vidray.errors import UserError


@dataclass(frozen=True, kw_only=True)
class AdoptSettings:
    """Which weights become a model, and what its classes are called."""

    weights: str = "default"
    """Initial weights: none, the published ones (default), a file, a model folder, or
    hf:OWNER/NAME[@REVISION] or hf:FOLDER of transformers. They must have their last layer, so
    none is refused."""
    classes: str | None = None
    """Text file with the name of each class, a line each, in the order of the weights' outputs; or
    kinetics400 or imagenet1k. If not given, the names that the weights bring."""
    words: str | None = None
    """Text file of classes in words for a model such as CLIP or SigLIP, a line each: NAME: PROMPT;
    PROMPT. The classes are then these, and their texts the last layer."""
    labels: str | None = None
    """CSV file with the columns class and label: the label that each class counts as. Here the
    classes are those of the weights; a class that is not listed keeps its name, or gets the label
    of the line *, and one with an empty label is left out."""
    clips_per_video: int = 3
    """Clips per video, one from each of as many equal stretches of its time. Their probabilities
    are averaged."""

    def __post_init__(self) -> None:
        if self.weights == "none":
            raise UserError(
                "weights is none: fresh weights know no class; train with jobs/train.py"
            )
        if self.words is not None and self.classes is not None:
            raise UserError("--words says what the classes are, and so does --classes: give one")
        if not 1 <= self.clips_per_video <= 4096:
            raise UserError(f"clips_per_video is {self.clips_per_video}: it must be 1 to 4096")
