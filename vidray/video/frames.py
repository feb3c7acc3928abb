"""The decoder's limits and requests, and its answers: frames, damage, properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidray.errors import Cap, UserError, VideoError
from vidray.video.resizing import Resizer

Resize = Resizer | Literal["opencv_area", "as_stored"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a video: above ``max_corrupt_share`` it is ``damaged``, else ``too_large``."""

    max_pixels: int = 36_000_000
    """Most pixels of a frame; larger frames fail as too_large. 8K UHD (7680x4320) has 33.2 million
    pixels."""
    max_frames: int = 3_000_000
    """Most frames of a video; more fail as too_large. Ten hours at 60 a second have 2.2 million."""
    max_seconds: float = 12 * 3600.0
    """Longest video in seconds; a longer one fails as too_large."""
    max_bytes: int = 64 << 30
    """Largest file size in bytes; a larger file fails as too_large."""
    max_corrupt_share: float = 1.0
    """Largest share of frames that the decoder may mark corrupt; more fails as damaged."""

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_frames", "max_seconds", "max_bytes"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be above 0")
        if not 0 <= self.max_corrupt_share <= 1:
            raise UserError(f"max_corrupt_share is {self.max_corrupt_share}: it must be 0 to 1")

    def over(self, name: str, what: str) -> VideoError:
        """The error of a video that is over the limit called ``name``: ``what`` says how far."""
        kind = "damaged" if name == "max_corrupt_share" else "too_large"
        value = getattr(self, name)
        return VideoError(kind, f"{what}, the cap is {value:.10g}", cap=Cap(name, value))


@dataclass(frozen=True)
class Request:
    """Frames to read in one pass over the video.

    Args:
        frame_indices: ``int64 (T,)``, each 0 or more; any order, repeats allowed.
        width_px, height_px: the size wanted (both or neither); neither gives the display size.
        resize: ``swscale`` scales while converting from YUV; ``opencv_area`` converts at full size
            and then calls ``cv2.resize(..., INTER_AREA)``, as the notebooks did; ``as_stored``
            neither scales nor turns; the others convert at full size, turn, and follow the rule of
            the package that they are named after: see ``resizing``.
        middle_px: of a frame of the size wanted, only the middle square of so many pixels.
    """

    frame_indices: Sequence[int] | NDArray[np.int64]
    width_px: int | None = None
    height_px: int | None = None
    resize: Resize = "swscale"
    middle_px: int | None = None

    def __post_init__(self) -> None:
        if (self.width_px is None) != (self.height_px is None):
            raise ValueError(
                f"width_px={self.width_px}, height_px={self.height_px}: both or neither"
            )
        if self.middle_px is not None and (self.size is None or min(self.size) < self.middle_px):
            raise ValueError(f"middle_px={self.middle_px} of {self.size}: no side may be smaller")
        if len(self.frame_indices) and min(self.frame_indices) < 0:
            raise IndexError(f"frame {min(self.frame_indices)} asked for: indices start at 0")

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) wanted."""
        if self.width_px is None or self.height_px is None:
            return None
        return self.width_px, self.height_px


@dataclass(frozen=True)
class Frames:
    """Frames of one video.

    Args:
        pixels: ``uint8 (T, H, W, 3)``, RGB.
        pts_seconds: ``float64 (T,)``, when each frame is shown: see ``timestamps``.
        frame_indices: ``int64 (T,)``, the k of each frame.
    """

    pixels: NDArray[np.uint8]
    pts_seconds: NDArray[np.float64]
    frame_indices: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(self.frame_indices)
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[3] != 3:
            raise ValueError(
                f"pixels are {self.pixels.dtype} {self.pixels.shape}: uint8 (T, H, W, 3)"
            )
        if self.pixels.shape[0] != count or self.pts_seconds.shape != (count,):
            raise ValueError(
                f"{self.pixels.shape[0]} frames, {self.pts_seconds.shape} times, {count} indices"
            )

    def __len__(self) -> int:
        return len(self.frame_indices)

    def __repr__(self) -> str:
        return (
            f"Frames(pixels=uint8 {self.pixels.shape}, frame_indices={self.frame_indices.tolist()})"
        )


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Damage that a decoder met; None where it has decoded nothing.

    Looked at is every frame of a video that is decoded sequentially, and of one that is read here
    and there no corrupt one: where the decoder marks one, the video is decoded sequentially. A
    frame that refers to a corrupt one may look wrong, too, and is not marked.
    """

    damaged_packets: int | None = None
    """Packets that the decoder refused."""
    corrupt_frames: int | None = None
    """Frames that the decoder marked corrupt: it made up what it could not read."""
    corrupt_share: float | None = None
    """Share of corrupt frames among those looked at."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Properties of a video, without its pixels.

    ``width_px`` and ``height_px`` are as stored; ``display_width_px`` and ``display_height_px`` are
    what ``read_frames`` returns: rotated upright and with square pixels. ``num_frames`` counts
    frames that decode (None where they were not counted), never a header's claim.
    """

    width_px: int
    height_px: int
    rotation_degrees: int
    sample_aspect_ratio: float
    duration_seconds: float | None
    frames_per_second: float | None
    num_frames: int | None
    codec: str
    container: str
    has_sound: bool

    @property
    def display_width_px(self) -> int:
        """Width of an upright frame with square pixels."""
        return _display_size(self)[0]

    @property
    def display_height_px(self) -> int:
        """Height of an upright frame with square pixels."""
        return _display_size(self)[1]


def _display_size(probe: Probe) -> tuple[int, int]:
    width = max(1, round(probe.width_px * probe.sample_aspect_ratio))
    size = (width, probe.height_px)
    return size[::-1] if probe.rotation_degrees % 180 else size
