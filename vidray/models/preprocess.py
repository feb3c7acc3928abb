"""Preprocessing of stored pixels for a network; the same in training, judging and labelling.

Stored clips are ``uint8 (N, T, H, W, 3)``, RGB. ``Preprocessing.select`` takes the frames and the
size the network wants, still ``uint8``; ``Preprocessing.to_input`` makes the normalised float, on
the device where the pixels are, so that a byte per colour crosses to the GPU and not four. A model
folder carries the ``Preprocessing``: nothing about the input is left for its user to remember.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidray.errors import UserError
from vidray.video import sampling
from vidray.video.steady_opencv import steady_opencv

if TYPE_CHECKING:
    from torch import Tensor

# Wang et al. 2015 cut flow at 20 pixels before they store it as bytes; few people move faster.
MAX_FLOW_PX = 20.0
# DIS fits patches of 8 pixels on a pyramid; below this it has no picture to fit.
LEAST_SIDE_PX = 16

Colour = tuple[float, float, float]

# (mean, std) of red, green, blue, for pixels between 0 and 1.
# torchvision's image weights (torchvision.transforms._presets.ImageClassification).
IMAGENET: tuple[Colour, Colour] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# torchvision's r3d_18, mc3_18, r2plus1d_18 and s3d, of Kinetics-400
# (torchvision.transforms._presets.VideoClassification).
KINETICS: tuple[Colour, Colour] = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The preprocessing of a stored clip for a network.

    ``to_json`` and ``from_json`` are the way to JSON and back.
    """

    num_frames: int
    """Frames that the network takes."""
    size_px: int
    """Width and height that the network takes."""
    mean: Colour
    """Mean of red, green, blue (pixels from 0 to 1), which is subtracted."""
    std: Colour
    """Standard deviation of the same, by which is divided afterwards."""
    stride: int | None = None
    """Step between taken frames, in stored frames, around the middle; None spreads them evenly over
    all stored frames."""
    flow: bool = False
    """Two more channels behind the colours: ``clip_flow`` of the same pixels."""
    cut: bool = False
    """Larger stored frames are cut to their middle square of size_px; otherwise they are resized to
    it. Where the difference is a multiple of 4, that is the middle of the frame that they were cut
    from, too, whichever way its halves are rounded."""

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise UserError(f"num_frames is {self.num_frames}: a clip has 1 frame or more")
        if self.stride is not None and self.stride < 1:
            raise UserError(f"stride is {self.stride}: 1 (adjacent stored frames) or more")
        # LEAST_SIDE_PX
        least, reason = (16, " for optical flow") if self.flow else (1, "")
        if self.size_px < least:
            raise UserError(f"size_px is {self.size_px}: it must be {least} or more{reason}")
        _check_colour("mean", self.mean)
        _check_colour("std", self.std)
        if min(self.std) == 0:
            raise UserError(
                f"std is {self.std}: a colour that never varies cannot be scaled; use 1"
            )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preprocessing:
        """The preprocessing from the JSON of ``to_json``; JSON has no tuples."""
        colours = {name: tuple(values[name]) for name in ("mean", "std")}
        return cls(**{**values, **colours})

    def to_json(self) -> dict[str, Any]:
        """The JSON of it, without what an older one had not, where that is the default."""
        values = dataclasses.asdict(self)
        return values if self.cut else {k: value for k, value in values.items() if k != "cut"}

    @property
    def num_channels(self) -> int:
        """Channels of the network's input."""
        return 5 if self.flow else 3

    @property
    def span(self) -> int:
        """The least number of stored frames, from the first to the last taken one."""
        return 1 if self.stride is None else (self.num_frames - 1) * self.stride + 1

    def select(self, clips: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The frames and the size wanted, of the middle square where frames are not square.

        Args:
            clips: ``uint8 (N, T, H, W, 3)``, T >= 1.

        Returns:
            ``uint8 (N, num_frames, size_px, size_px, 3)``; ``clips`` itself where nothing is to do.
        """
        if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[-1] != 3:
            raise ValueError(f"clips are {clips.dtype} {clips.shape}: give uint8 (N, T, H, W, 3)")
        if clips.shape[1] < self.span:
            raise UserError(
                f"{self.num_frames} frames {self.stride} apart are wanted of clips of "
                f"{clips.shape[1]}: store more frames, or lower frames or stride"
            )
        if clips.shape[1:4] == (self.num_frames, self.size_px, self.size_px):
            return clips
        wanted = np.empty((len(clips), *self.clip_shape), np.uint8)
        for clip, out in zip(clips, wanted, strict=True):
            out[:] = fit_frames(clip[self._frames(len(clip))], self.size_px, cut=self.cut)
        return wanted

    def _frames(self, num_stored: int) -> NDArray[np.int64]:
        if self.stride is None:
            return sampling.uniform(num_frames=num_stored, count=self.num_frames)
        return (num_stored - self.span) // 2 + self.stride * np.arange(self.num_frames)

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """The shape (T, H, W, 3) of clips from ``select``."""
        return self.num_frames, self.size_px, self.size_px, 3

    def to_input(self, clips: Tensor, flow: Tensor | None = None) -> Tensor:
        """The network's input, on the device of ``clips``.

        Args:
            clips: ``uint8 (N, T, H, W, 3)``.
            flow: ``float32 (N, T, H, W, 2)``, where it has been computed already (by a loader's
                threads, which cost no step its time); else it is computed here, on the CPU. Left
                out unless ``self.flow``.

        Returns:
            ``float32 (N, C, T, H, W)``: (pixel / 255 - mean) / std, and flow as it is; C is 3 or 5.
        """
        # Not at import: who reads of a model that it has such a one needs no PyTorch.
        import torch

        if clips.dtype != torch.uint8 or clips.ndim != 5 or clips.shape[-1] != 3:
            raise ValueError(
                f"clips are {clips.dtype} {tuple(clips.shape)}: give torch.uint8 (N, T, H, W, 3)"
            )
        # (N, T, H, W, 3) -> (N, 3, T, H, W), in one pass over the pixels
        colours = clips.permute(0, 4, 1, 2, 3).to(
            torch.float32, memory_format=torch.contiguous_format
        )
        mean, std = (
            torch.tensor(values, device=clips.device).view(1, 3, 1, 1, 1)
            for values in (self.mean, self.std)
        )
        colours = colours.div_(255.0).sub_(mean).div_(std)
        if not self.flow:
            return colours
        if flow is None:
            flow = torch.from_numpy(clips_flow(clips.cpu().numpy()))
        return torch.cat([colours, flow.to(clips.device).permute(0, 4, 1, 2, 3)], dim=1)


def clips_flow(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Flow of every clip, by a few threads: ``uint8 (N, T, H, W, 3)`` -> ``float32 (..., 2)``."""
    with ThreadPoolExecutor(initializer=steady_opencv) as pool:
        fields = list(pool.map(clip_flow, clips))
    return np.stack(fields) if fields else np.empty((*clips.shape[:-1], 2), np.float32)


def fit_frames(frames: NDArray[np.uint8], side_px: int, *, cut: bool = False) -> NDArray[np.uint8]:
    """The middle square of each frame, resized: ``uint8 (T, H, W, 3)`` -> ``(T, side, side, 3)``.

    Frames that are right already come back as a view, and so do those that are cut.

    Args:
        cut: takes the middle square of ``side_px``, of frames that are not smaller.
    """
    height, width = frames.shape[1:3]
    side = side_px if cut and side_px <= min(height, width) else min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frames[:, top : top + side, left : left + side]
    if side == side_px:
        return square
    # Area averages every pixel when shrinking; when enlarging it would only repeat them.
    how = cv2.INTER_AREA if side_px < side else cv2.INTER_LINEAR
    fitted = np.empty((len(frames), side_px, side_px, 3), np.uint8)
    for frame, out in zip(square, fitted, strict=True):
        cv2.resize(frame, (side_px, side_px), dst=out, interpolation=how)
    return fitted


def dataset_statistics(clips: Iterable[NDArray[np.uint8]]) -> tuple[Colour, Colour]:
    """Mean and standard deviation of each colour over all pixels, for pixels between 0 and 1.

    Sums are integers of any length, so the order and the cut of the arrays change nothing.

    Args:
        clips: ``uint8 (..., 3)`` each, RGB, of any length; seen once, one at a time.

    Raises:
        UserError: there is no pixel.
    """
    counts = np.zeros((3, 256), np.int64)  # how often each colour has each value
    for pixels in clips:
        if pixels.dtype != np.uint8 or pixels.shape[-1] != 3:
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}: give uint8 (..., 3)")
        for channel in range(3):
            counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
    total = int(counts[0].sum())
    if total == 0:
        raise UserError("there is no pixel to take statistics of: give at least one clip")
    moments = [_moments(of_channel.tolist(), total) for of_channel in counts]
    (red, red_std), (green, green_std), (blue, blue_std) = moments
    return (red, green, blue), (red_std, green_std, blue_std)


def _moments(counts: list[int], total: int) -> tuple[float, float]:
    first = sum(value * count for value, count in enumerate(counts))
    second = sum(value * value * count for value, count in enumerate(counts))
    # E[v^2] - E[v]^2 over a common denominator: integers lose nothing when they nearly cancel.
    variance = (total * second - first * first) / (total * total)
    return first / total / 255, math.sqrt(variance) / 255


def _check_colour(name: str, values: Colour) -> None:
    if len(values) != 3 or not all(0 <= value <= 1 for value in values):
        raise UserError(
            f"{name} is {values}: three numbers from 0 to 1, for red, green, blue; "
            "divide by 255 where they were taken of bytes"
        )


def clip_flow(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Motion of each pixel until the next frame, by DIS (Kroeger et al. 2016).

    OpenCV runs it on as many threads as ``cv2.setNumThreads`` allows: a process that shares the
    machine with others sets 1.

    Args:
        pixels: ``uint8 (T, H, W, 3)`` RGB.

    Returns:
        ``float32 (T, H, W, 2)``, (right, down), -1 to 1 for 20 pixels or more to either side. The
        last frame has the field of the one before it; a single frame does not move.

    Raises:
        ValueError: another shape, or a side under 16 pixels.
    """
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or not len(pixels):
        raise ValueError(f"pixels have shape {pixels.shape}, should be (T, H, W, 3)")
    if min(pixels.shape[1:3]) < LEAST_SIDE_PX:
        raise ValueError(
            f"frames of {pixels.shape[2]}x{pixels.shape[1]} are too small for optical flow; "
            f"resize them to {LEAST_SIDE_PX} pixels a side or more"
        )
    fields = np.zeros((*pixels.shape[:3], 2), np.float32)
    grays: list[NDArray[Any]] = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in pixels]
    method: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    for index in range(len(grays) - 1):
        fields[index] = method.calc(grays[index], grays[index + 1], None)
    fields[-1] = fields[max(len(grays) - 2, 0)]
    scaled: NDArray[np.float32] = np.clip(fields / np.float32(MAX_FLOW_PX), -1.0, 1.0)
    return scaled
