"""Clips for a second model, of frames that are read in the first one's pass over a video."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidray.video import clips, decoders
from vidray.video.clips import ClipSettings
from vidray.video.clock import Clock, Stretch
from vidray.video.decode import Frames, Request, Video
from vidray.video.demux import Source


class Aside:
    """The frames of a video's clips, asked for with others' and cut only if they are wanted.

    Args:
        settings: of the clips.
        long_seconds: of a longer video nothing is read; None: of any.
    """

    def __init__(self, settings: ClipSettings, *, long_seconds: float | None = None) -> None:
        self.settings, self._long_seconds = settings, long_seconds
        self._frames: Frames | None = None

    def requests(self, video: Video, stretch: Stretch, draw: int) -> list[Request]:
        """What is to be read beside the rest: the frames of the clips, or nothing.

        Args:
            draw: what random frames are drawn by, see ``clips.read_clips``.
        """
        seconds, most = video.probe().duration_seconds, self._long_seconds
        if most is not None and seconds is not None and stretch.duration_seconds(seconds) > most:
            return []
        return [clips.request(video, Clock.of_video(video, stretch), self.settings, draw=draw)]

    def read_beside(
        self, video: Video, source: Source, settings: ClipSettings, *, stretch: Stretch, draw: int
    ) -> tuple[NDArray[np.uint8], str]:
        """The clips of another model, as ``clips.read_clips`` gives them, and the decoder that read
        them; these here are read in the same pass, or are the very same.

        Args:
            settings: of the other model's clips.

        Raises:
            VideoError: as ``clips.read_clips``.
        """
        is_same = settings == self.settings

        def plan(opened: Video) -> list[Request]:
            clock = Clock.of_video(opened, stretch)
            own = clips.request(opened, clock, settings, draw=draw)
            return [own] if is_same else [own, *self.requests(opened, stretch, draw)]

        read, decoder = decoders.read_planned(video, source, plan, decoder=settings.decoder)
        self.take(read if is_same else read[1:])
        return clips.clips_of(read[0], settings), decoder

    def take(self, read: list[Frames]) -> None:
        """Keep what was read for ``requests``."""
        self._frames = read[0] if read else None

    def clips(self) -> NDArray[np.uint8] | None:
        """The clips, ``uint8 (clips_per_video, T, H, W, 3)``; None where nothing was read."""
        return None if self._frames is None else clips.clips_of(self._frames, self.settings)
