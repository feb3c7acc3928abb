"""The notebooks' families: color, texture, shape, temporal and motion, in one pass over the frames.

The pass makes gray values once, and ``temporal`` reuses the numbers of the first three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidray.errors import UserError
from vidray.features import aggregate, motion
from vidray.features.family import Family
from vidray.features.material import HEIGHT_PX, WIDTH_PX


def describe(frames: NDArray[Any], families: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Features of some of ``FAMILIES``, in one pass: name -> ``float32 (length,)``.

    Args:
        frames: ``uint8 (T, 240, 320, 3)`` RGB, in order of time.

    Raises:
        ValueError: another shape or type, or no frame.
    """
    _check_frames(frames)
    frame_pass = aggregate.FramePass([name for name in families if name != "motion"])
    first_grays: list[NDArray[Any]] = []
    for frame in frames:
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        frame_pass.add(frame, gray)
        if len(first_grays) < motion.DIFFERENCE_FRAMES:
            first_grays.append(gray)
    found = frame_pass.result()
    if "motion" in families:
        found["motion"] = motion.from_gray(first_grays)
    return found


def _check_frames(frames: NDArray[Any]) -> None:
    if (
        frames.dtype != np.uint8
        or frames.ndim != 4
        or frames.shape[1:] != (HEIGHT_PX, WIDTH_PX, 3)
        or not len(frames)
    ):
        raise ValueError(
            f"got frames {frames.dtype} {frames.shape}, the notebooks' families need uint8 "
            f"(T, {HEIGHT_PX}, {WIDTH_PX}, 3) with T >= 1: decode or resize to "
            f"{WIDTH_PX}x{HEIGHT_PX} (cv2.INTER_AREA)"
        )


def _describe_one(frames: NDArray[Any], *, name: str) -> NDArray[np.float32]:
    return describe(frames, (name,))[name]


_PARTS = {
    **{name: aggregate.video_parts(name) for name in aggregate.FRAME_LENGTHS},
    "temporal": aggregate.TEMPORAL_PARTS,
    "motion": motion.PARTS,
}
FAMILIES = {
    name: Family(looks_at="frames", describe=partial(_describe_one, name=name), parts=parts)
    for name, parts in _PARTS.items()
}
LENGTH = sum(family.length for family in FAMILIES.values())  # 163,828


def vector(features: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The vector the notebooks report: ``float32 (163828,)``.

    Mean of all 40,938 numbers of a frame (color, texture, shape), then their standard deviation,
    minimum and maximum; temporal; motion.

    Args:
        features: at least the families of ``FAMILIES``.

    Raises:
        UserError: a family is missing.
    """
    missing = [name for name in FAMILIES if name not in features]
    if missing:
        raise UserError(
            f"no {', '.join(missing)} among the features: the notebooks' vector needs all of "
            f"{', '.join(FAMILIES)}; extract with --preset notebook"
        )
    per_frame = [
        features[name].reshape(len(aggregate.STATISTICS), -1) for name in aggregate.FRAME_LENGTHS
    ]
    by_statistic = np.concatenate(per_frame, axis=1)  # (4, 40938)
    return np.concatenate([by_statistic.ravel(), features["temporal"], features["motion"]])
