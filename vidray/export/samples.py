"""The clips that an export is calibrated on and compared on: of a run, or made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray import storage
from vidray.errors import UserError
from vidray.learning.examples import Examples, apply, read_clips
from vidray.learning.selection import Selection
from vidray.models.folder import DeepModel
from vidray.video.clips import ClipSettings

_MADE = 24
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Stored clips, one at a time.

    Attributes:
        examples: rows of CLIPS; None where the clips are made.
        made: clips ``uint8 (N, T, H, W, 3)``; none where they are a run's.
    """

    examples: Examples | None = None
    made: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        if self.examples is not None:
            return len(self.examples.table)
        return 0 if self.made is None else len(self.made)

    def clip(self, k: int) -> NDArray[np.uint8]:
        """``uint8 (1, T, H, W, 3)``: clip k."""
        if self.made is not None:
            return self.made[k : k + 1]
        assert self.examples is not None
        assert self.examples.clips is not None
        return self.examples.clips.read(self.examples.table["row"].slice(k, 1).to_numpy())


def of_run(model: DeepModel, data: str) -> Examples:
    """The labelled clips of a run, split as in the model's training.

    Raises:
        UserError: they were cut otherwise than the model's.
    """
    given = read_clips(data)
    found = ClipSettings.from_json(given.settings)
    differing = [
        f"{field.name} is {getattr(found, field.name)}, the model's {wanted}"
        for field in dataclasses.fields(ClipSettings)
        if getattr(found, field.name) != (wanted := getattr(model.clip, field.name))
    ]
    if differing:
        shown = storage.without_secrets(data)
        raise UserError(f"{shown} was made with other settings: {'; '.join(differing)}")
    return apply(given, Selection.from_info(model.info))


def of_split(examples: Examples, split: str, most: int) -> Samples:
    """Up to ``most`` clips of a split, drawn alike each time, in the order of the run.

    Raises:
        UserError: the split has none.
    """
    rows = examples.of_split(split)
    if not len(rows.table):
        raise UserError(f"--data has no labelled clip in split {split}: give another run")
    chosen = np.random.default_rng(_SEED).permutation(len(rows.table))[:most]
    table = rows.table.take(pa.array(np.sort(chosen)))
    return Samples(examples=dataclasses.replace(rows, table=table))


def made(model: DeepModel, most: int) -> Samples:
    """Clips that nobody filmed: noise, and coloured squares that move over grounds of noise."""
    clip = model.clip
    shape = (clip.frames_per_clip, clip.size_px, clip.size_px, 3)
    rng = np.random.default_rng(_SEED)
    clips = np.stack([_made_clip(rng, shape, k) for k in range(min(most, _MADE))])
    return Samples(made=clips)


def _made_clip(
    rng: np.random.Generator, shape: tuple[int, int, int, int], k: int
) -> NDArray[np.uint8]:
    frames, size_px = shape[:2]
    ground = rng.integers(0, 256, 3)
    noise = rng.normal(0, rng.uniform(1, 80), shape if k % 3 == 0 else (1, *shape[1:]))
    clip = np.broadcast_to(np.clip(ground + noise, 0, 255), shape).astype(np.uint8)
    if k % 3:
        side = int(rng.integers(max(size_px // 8, 1), max(size_px // 2, 2)))
        begin, end = rng.integers(0, size_px - side + 1, (2, 2))
        for t, frame in enumerate(clip):
            top, left = begin + (end - begin) * t // max(frames - 1, 1)
            frame[top : top + side, left : left + side] = rng.integers(0, 256, 3)
    return clip
