"""The choice of frames: the functions of ``sampling`` by their names on the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vidray.errors import UserError
from vidray.video import sampling
from vidray.video.sampling import Indices

_MOST_FPS = 1000.0


@dataclass(frozen=True, kw_only=True)
class FrameChoice:
    """How frames are chosen; other settings say how many."""

    sampling: Literal["uniform", "fps", "dense", "random", "random_clip"] | None = None
    """How frames are chosen; if not given, evenly for clips, one a second for features.
    uniform: spread evenly. fps: --fps a second. dense: adjacent frames, for features up to
        --max-sampled-frames. random: drawn one by one. random_clip: adjacent frames from a random
        start."""
    fps: float | None = None
    """Frames per second that --sampling fps takes."""
    seed: int = 0
    """Seed of all random draws. Each video has its own draw, the same in every run."""

    def __post_init__(self) -> None:
        if self.sampling == "fps" and self.fps is None:
            raise UserError("sampling is fps and fps is not given: say how many frames a second")
        if self.fps is not None and not (0 < self.fps <= _MOST_FPS and math.isfinite(self.fps)):
            raise UserError(f"fps is {self.fps}: it must be above 0, and {_MOST_FPS:g} at the most")
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}: it must be 0 or more")
        if self.fps is not None and self.sampling != "fps":
            raise UserError("--fps has no effect without --sampling fps: leave it out")
        if self.seed and self.sampling not in ("random", "random_clip"):
            raise UserError("--seed has no effect without --sampling random or random_clip")

    @classmethod
    def taken_from(cls, values: dict[str, Any]) -> FrameChoice:
        """Take the choice out of settings as JSON; older settings have none."""
        return cls(**values.pop("choice", {}))

    def without_default(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings as JSON, without the choice if it is the default, as older ones were."""
        if self == FrameChoice():
            return {name: value for name, value in values.items() if name != "choice"}
        return dict(values)

    def of_clip(self, *, num_ticks: int, ticks_per_second: float, count: int, draw: int) -> Indices:
        """Exactly ``count`` ticks, ``int64 (count,)``, some repeated where there are fewer.

        Args:
            num_ticks: ticks of the clip's stretch, 1 or more.
            draw: decides the draw, such as a video's size and a clip's number.
        """
        if self.sampling == "random_clip":
            seed = self._seed(draw)
            return sampling.random_clip(num_frames=num_ticks, count=count, seed=seed)
        if self.sampling == "fps":
            found = self._at_fps(num_ticks, ticks_per_second)
        elif self.sampling == "random":
            seed = self._seed(draw)
            found = sampling.random_frames(num_frames=num_ticks, count=count, seed=seed)
        elif self.sampling == "dense":
            found = np.arange(num_ticks)
        else:
            return sampling.uniform(num_frames=num_ticks, count=count)
        first = max(0, (len(found) - count) // 2)  # The middle of what is too long.
        found = found[first : first + count]
        return found[sampling.uniform(num_frames=len(found), count=count)]

    def of_video(self, *, num_ticks: int, ticks_per_second: float, most: int, draw: int) -> Indices:
        """Up to ``most`` ticks, not decreasing; ``sampling`` is given.

        Args:
            num_ticks: 1 or more.
            draw: decides the draw, such as a video's size.
        """
        count = min(most, num_ticks)
        if self.sampling == "uniform":
            return sampling.uniform(num_frames=num_ticks, count=count)
        if self.sampling == "random":
            seed = self._seed(draw)
            return sampling.random_frames(num_frames=num_ticks, count=count, seed=seed)
        if self.sampling == "random_clip":
            seed = self._seed(draw)
            return sampling.random_clip(num_frames=num_ticks, count=count, seed=seed)
        is_fps = self.sampling == "fps"
        found = self._at_fps(num_ticks, ticks_per_second) if is_fps else np.arange(num_ticks)
        return found[sampling.dense(num_frames=len(found), max_frames=most)]

    def _at_fps(self, num_ticks: int, ticks_per_second: float) -> Indices:
        assert self.fps is not None
        return sampling.at_fps(
            fps=self.fps, num_frames=num_ticks, frames_per_second=ticks_per_second
        )

    def _seed(self, draw: int) -> int:
        return int(np.random.SeedSequence([self.seed, draw]).generate_state(1, np.uint64)[0])
