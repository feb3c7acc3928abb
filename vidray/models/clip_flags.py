"""Flags that decide how videos are cut into clips; a model's recipe fills those not given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from vidray.flags import Flat
from vidray.models.recipes import Recipe
from vidray.video.choice import FrameChoice
from vidray.video.clips import ClipSettings, Fit, Unlabelled
from vidray.video.decoders import Decoder
from vidray.video.frames import Limits
from vidray.video.resizing import Resizer

_FROM_RECIPE = ("frames_per_clip", "size_px", "clip_seconds", "fit", "resize_px", "resizer")


@dataclass(frozen=True, kw_only=True)
class ClipFlags:
    """``ClipSettings`` as flags."""

    frames_per_clip: int | None = None
    """Frames per clip; a shorter video repeats some of its frames. 16 if not given, or as many as
    --model was trained on."""
    size_px: int | None = None
    """Width and height of a clip; some more than the model takes leaves room for random crops.
    112 if not given, or what --model was trained on."""
    clips_per_video: int = 1
    """Clips per video, one from each of as many equal stretches of its time."""
    clip_seconds: float | None = None
    """Length of a clip, from the middle of its stretch; the whole stretch if not given. With
    --model, the length that it was trained on."""
    fit: Fit | None = None
    """How a frame becomes a square: squash changes its shape, crop keeps its middle.
    resize_crop resizes it to --resize-px and keeps the middle square of --size-px. squash if not
    given, or with --model as it was trained."""
    resize_px: tuple[int, ...] = ()
    """Shorter side that --fit resize_crop resizes a frame to, or its height and width."""
    resizer: Resizer | None = None
    """Library by whose rule --fit resize_crop resizes, to give a network the pixels it was trained
    on. swscale if not given."""
    decoder: Decoder = "pyav"
    """Decoder; PyAV reads wherever the chosen one is not known to be exact. The row names the one
    used."""
    unlabelled: Unlabelled = "skip"
    """Videos without a label: skip them, or keep their clips for pre-training."""
    choice: Annotated[FrameChoice, Flat] = field(default_factory=FrameChoice)
    limits: Annotated[Limits, Flat] = field(default_factory=Limits)

    def settings(self, recipe: Recipe | None = None) -> ClipSettings:
        """The settings: what is given, then what the recipe says, then the defaults.

        Raises:
            UserError: they contradict each other.
        """
        given = self._given()
        said = {} if recipe is None else recipe.clip()
        if given.get("fit", "resize_crop") != "resize_crop":
            said = {k: v for k, v in said.items() if k not in ("fit", "resize_px", "resizer")}
        others = ("clips_per_video", "decoder", "unlabelled", "choice", "limits")
        return ClipSettings(**{**said, **given}, **{name: getattr(self, name) for name in others})

    def contradictions(self, recipe: Recipe) -> list[str]:
        """Flags that are given, such as ``--size-px 128``, and are not as the recipe says."""
        said = recipe.clip()
        return [
            f"--{name.replace('_', '-')} {_shown(value)}"
            for name, value in self._given().items()
            if name in said and said[name] != value
        ]

    def _given(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in _FROM_RECIPE}
        return {name: value for name, value in values.items() if value not in (None, ())}


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else f"{value}"
