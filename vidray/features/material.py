"""The materials that a feature family may look at, and their frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vidray.video import sampling
from vidray.video.clock import Clock
from vidray.video.decode import Frames, Request

# Sampled frames have this size: the number of HOG cells, the scale of texture and the pixels of
# motion depend on it in the notebooks' families, and the quality columns do, too.
WIDTH_PX, HEIGHT_PX = 320, 240


@dataclass(frozen=True, kw_only=True)
class Bursts:
    """Adjacent frames around moments that are evenly spread over a video. With ``frames_each=1``,
    single frames.

    Args:
        count: moments; fewer in a short video, none in one of fewer frames than ``frames_each``.
        frames_each: adjacent frames at each moment.
        width_px, height_px: the size they are resized to.
    """

    count: int
    frames_each: int
    width_px: int
    height_px: int

    def frame_indices(self, clock: Clock) -> sampling.Indices:
        """Indices of the frames in a video: ``int64 (M, frames_each)``, M up to ``count``."""
        moments = sampling.uniform(num_frames=clock.num_ticks, count=self.count)
        return clock.first_frame + sampling.bursts(
            num_frames=clock.num_frames,
            middles=clock.frames(moments) - clock.first_frame,
            frames_each=self.frames_each,
        )

    def request(self, clock: Clock) -> Request:
        """The frames as a request to the decoder."""
        return Request(self.frame_indices(clock).reshape(-1), self.width_px, self.height_px)

    def gather(self, frames: Frames) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The frames of ``request`` as the material of a family."""
        shape = (-1, self.frames_each)
        size = (self.height_px, self.width_px, 3)
        return frames.pixels.reshape(*shape, *size), frames.pts_seconds.reshape(shape)


# What a family's ``describe`` is called with:
# "frames"   uint8 (T, 240, 320, 3) RGB, T frames a second apart, enhanced where that is wanted.
# Bursts     uint8 (M, L, H, W, 3) RGB, M moments of L adjacent frames, as they come, and
#            float64 (M, L), when each of them is shown, in seconds.
# "sound"    mono float32 (n,) at 16 kHz; a video without sound has no numbers of that family.
# "views"    float32 (V, D), what a network says of each of V clips: see ``embedding``.
LooksAt = Literal["frames", "sound", "views"] | Bursts
Material = tuple[NDArray[Any], ...]


def frames_a_second_apart(clock: Clock, *, most: int) -> sampling.Indices:
    """One frame a second, ``int64 (T,)`` with T from 1 to ``most``, strictly increasing.

    At a constant rate the notebooks' frames, whose stride of whole frames is not quite a second at
    29.97: their numbers are defined by it. At a variable rate the frame on the screen at each
    second, once where it stays for several.
    """
    ticks = sampling.every_second(
        num_frames=clock.num_ticks, frames_per_second=clock.ticks_per_second
    )
    if len(ticks) > most:
        ticks = ticks[sampling.uniform(num_frames=len(ticks), count=most)]
    return np.unique(clock.frames(ticks))
