"""A clock of equal ticks that says which frame is shown when. It opens no file. ``sampling`` counts
frames; seconds are counted in ticks of this clock:

constant rate    a tick is a frame: counting ticks is counting frames, exactly
variable rate    a tick is a microsecond, and shows the frame that is then on the screen

Seconds count from the first frame shown, whatever time the container gives it: 1.4 s in a TS.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidray.errors import VideoError
from vidray.video.sampling import TOLERANCE_SECONDS, Indices
from vidray.video.timestamps import UNKNOWN_RATE

if TYPE_CHECKING:
    from vidray.video.decode import Video

# Of a variable rate. Integers that hold for twelve hours, and finer than any container's clock.
_TICKS_PER_SECOND = 1_000_000


@dataclass(frozen=True)
class Stretch:
    """The part of a video that a row describes: frames shown at ``begin <= seconds < end``."""

    begin_seconds: float = -math.inf
    end_seconds: float = math.inf

    @classmethod
    def of_row(cls, video: Mapping[str, Any]) -> Stretch:
        """The stretch of a VIDEOS row: the whole file where none is given."""
        begin, end = video.get("begin_seconds"), video.get("end_seconds")
        return cls(-math.inf if begin is None else begin, math.inf if end is None else end)

    def frames(self, seconds: NDArray[np.float64]) -> slice:
        """The frames, of those shown at ``seconds``, that lie in it.

        Raises:
            VideoError: none does.
        """
        # A manifest's 0.1 and a frame's 3 / 30 differ in the last bit and are the same moment.
        begin, end = self.begin_seconds - TOLERANCE_SECONDS, self.end_seconds - TOLERANCE_SECONDS
        (inside,) = np.nonzero((seconds >= begin) & (seconds < end))
        if not len(inside):
            until = "on" if math.isinf(self.end_seconds) else f"to {self.end_seconds:.3f} s"
            raise VideoError(
                "too_short",
                f"no frame from {max(0.0, self.begin_seconds):.3f} s {until}: "
                f"the video's last one is at {seconds[-1]:.3f} s",
            )
        return slice(int(inside[0]), int(inside[-1]) + 1)

    def duration_seconds(self, file_seconds: float) -> float:
        """Its length within a file of ``file_seconds``."""
        return min(file_seconds, self.end_seconds) - max(0.0, self.begin_seconds)


WHOLE = Stretch()


@dataclass(frozen=True)
class Clock:
    """The times of the frames of a stretch.

    Attributes:
        first_frame: index in the video of the first of them.
        ticks_per_second: frames per second where the rate is constant.
        ticks: ``int64 (N + 1,)``, at which each frame comes, from 0, and the last one goes.
        edges: ``float64 (N + 1,)``, the same in seconds from the video's first frame.
    """

    first_frame: int
    ticks_per_second: float
    ticks: NDArray[np.int64]
    edges: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        pts_seconds: NDArray[np.float64],
        *,
        frames_per_second: float | None = None,
        duration_seconds: float | None = None,
        stretch: Stretch = WHOLE,
    ) -> Clock:
        """The clock of a video whose frames are shown at these times.

        A rate is constant if every frame comes within half a frame of when it would at the mean
        rate: then counting frames is right to half a frame, and does not depend on how a container
        rounds its times.

        Args:
            pts_seconds: ``float64 (N,)``, N 1 or more, strictly rising, as ``Video`` gives them.
            frames_per_second: what the video says of itself, used where the times agree to 0.5 %.
            duration_seconds: until the last frame goes; it stays as long as the one before it, if
                that is not known. In a stretch no frame stays longer than the stretch.

        Raises:
            VideoError: the stretch holds no frame.
        """
        stated = frames_per_second or UNKNOWN_RATE
        seconds = pts_seconds - pts_seconds[:1]
        inside = stretch.frames(seconds)
        times = seconds[inside]
        end = duration_seconds
        if end is None or end <= seconds[-1]:
            end = 2 * seconds[-1] - seconds[-2] if len(seconds) > 1 else 1 / stated
        gone = np.append(seconds, end)[inside.stop]
        edges = np.append(times, min(gone, stretch.end_seconds))
        rate = _constant_rate(times, stated)
        if rate is not None:
            return cls(inside.start, rate, np.arange(len(edges), dtype=np.int64), edges)
        ticks = np.rint((edges - edges[0]) * _TICKS_PER_SECOND).astype(np.int64)
        return cls(inside.start, _TICKS_PER_SECOND, ticks, edges)

    @classmethod
    def of_video(cls, video: Video, stretch: Stretch = WHOLE) -> Clock:
        """The clock of an open video.

        Raises:
            VideoError: as ``Video.pts_seconds``, or the stretch holds no frame.
        """
        return cls.of(
            video.pts_seconds,
            frames_per_second=video.frames_per_second,
            duration_seconds=video.duration_seconds,
            stretch=stretch,
        )

    @property
    def num_frames(self) -> int:
        """Number of frames, 1 or more."""
        return len(self.ticks) - 1

    @property
    def num_ticks(self) -> int:
        """Number of ticks, 1 or more."""
        return int(self.ticks[-1])

    def frames(self, ticks: Indices) -> Indices:
        """The frame on the screen at each tick: indices in the video, of the shape of ``ticks``."""
        shown = np.searchsorted(self.ticks[:-1], ticks, side="right").astype(np.int64) - 1
        return self.first_frame + shown

    def seconds(self, ticks: Indices) -> NDArray[np.float64]:
        """The time of each tick, from the video's first frame; tick ``num_ticks`` is the end."""
        seconds: NDArray[np.float64] = np.interp(ticks, self.ticks, self.edges)
        return seconds


def _constant_rate(times: NDArray[np.float64], stated: float) -> float | None:
    """The rate that every frame keeps within half a frame; None where there is none."""
    if len(times) == 1:
        return stated
    rate = float((len(times) - 1) / (times[-1] - times[0]))
    off = np.abs((times - times[0]) * rate - np.arange(len(times)))  # in frames
    if off.max() >= 0.5:
        return None
    return stated if abs(stated - rate) <= 0.005 * rate else rate
