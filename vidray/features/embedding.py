"""The family ``embedding``: what a frozen network says of a video's views.

    video ─> views, the clips that the network takes ─> network ─> float32 (V, D), a row a view
          ─> mean, maximum and standard deviation over the views: float32 (3 D,)

The network is none of this folder's: whoever describes a video hands in ``Views``, which asks it,
in this process or in another one (``labelling.embedding``). How many numbers there are depends on
the network, so this family is not in ``FAMILIES``: an ``Embedding`` stands for it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vidray.errors import UserError
from vidray.features.family import Family
from vidray.storage import names
from vidray.video.clips import ClipSettings
from vidray.video.clock import Clock

NAME = "embedding"
STATISTICS = ("mean", "max", "std")
EmbeddingPrecision = Literal["float32", "bfloat16"]

# An 8-second video in 4 stretches of 2 s: the span of the clips that Kinetics networks are
# trained on. With one view the deviation is 0, and the deviation was what helped most.
LEAST_VIEWS = 4
# A pass of the network each, and their frames are in memory together.
MOST_VIEWS, MOST_CROPS = 64, 9
_MOST_NUMBERS = 1 << 16  # Of an embedding: 20 times as many as the widest network here has.
# As jobs/label.py does: of a longer video a view is a window, since frames spread over a longer
# stretch of it show no motion.
_LONG_SECONDS, _WINDOW_SECONDS = 60.0, 4.0


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """The network that made an ``embedding`` column, and the views that it was shown.

    The place of its model folder is not part of it: the folder may move.
    """

    model: str
    """Name of the network, such as r3d_18."""
    digest: str
    """The digest of its model folder, as ``name_and_digest`` gives it."""
    size: int
    """D: numbers that its head takes."""
    clips: int = LEAST_VIEWS
    """Clips per video, one from each of as many equal stretches of its time."""
    crops: int = 1
    """Square crops per frame. A video has ``clips * crops`` views."""
    precision: EmbeddingPrecision = "float32"
    """Number format in which the network computes."""

    def __post_init__(self) -> None:
        names.check_name(self.model, what="the network")
        if not re.fullmatch("[0-9a-f]{12}", self.digest):
            raise UserError(f"digest is {self.digest!r}: it must be 12 hex digits")
        most = {"size": _MOST_NUMBERS, "clips": MOST_VIEWS, "crops": MOST_CROPS}
        for name, largest in most.items():
            if not 1 <= getattr(self, name) <= largest:
                raise UserError(f"{name} is {getattr(self, name)}: it must be 1 to {largest}")
        if self.precision not in get_args(EmbeddingPrecision):
            kinds = ", ".join(get_args(EmbeddingPrecision))
            raise UserError(f"precision is {self.precision!r}: one of {kinds}")

    @property
    def family(self) -> Family:
        """The family whose numbers are this network's."""
        return Family(
            looks_at="views",
            describe=over_views,
            parts=tuple((statistic, self.size) for statistic in STATISTICS),
        )

    def cut(self, clip: ClipSettings, clock: Clock) -> ClipSettings:
        """The settings of a video's views.

        Args:
            clip: the network's own clips.
            clock: of the stretch that is looked at.
        """
        seconds = float(clock.edges[-1] - clock.edges[0])
        length = clip.clip_seconds
        if length is None and seconds > _LONG_SECONDS:
            length = _WINDOW_SECONDS
        return dataclasses.replace(clip, clips_per_video=self.clips, clip_seconds=length)


@dataclass(frozen=True, kw_only=True)
class Views:
    """A network, in this process or in another one, that is shown the views of videos.

    Attributes:
        clip: how a video is cut into the clips it takes.
        embed: ``uint8 (V, T, H, W, 3)`` RGB -> ``float32 (V, D)``, what the head sees.
    """

    clip: ClipSettings
    embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def over_views(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean, maximum and population standard deviation: ``float32 (V, D)`` -> ``float32 (3 D,)``."""
    numbers = embeddings.astype(np.float64)
    statistics = [numbers.mean(axis=0), numbers.max(axis=0), numbers.std(axis=0)]
    return np.concatenate(statistics).astype(np.float32)
