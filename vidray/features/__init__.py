"""Feature families: name -> numbers that describe a video.

Each ``Family`` knows its length, what it looks at and its named parts. ``describe`` computes
several at once and shares the work between them.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidray.errors import UserError
from vidray.features import aggregate, motion
from vidray.features.family import Family
from vidray.features.flow import FAMILY as FLOW
from vidray.features.shape_pooled import FAMILY as SHAPE_POOLED
from vidray.features.sound import FAMILY as AUDIO

__all__ = [
    "FAMILIES",
    "NOTEBOOK_LENGTH",
    "PRESETS",
    "Family",
    "column_names",
    "describe",
    "get_family",
    "notebook_vector",
]

# The notebooks' families are defined on frames of this size (height, width): the number of HOG
# cells, the scale of texture and the pixels of motion depend on it.
NOTEBOOK_SIZE_PX = (240, 320)


def _over_frames(name: str) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    def describe_frames(frames: NDArray[Any]) -> NDArray[np.float32]:
        _check_frames(frames)
        return aggregate.describe(frames, (name,))[name]

    return describe_frames


def _motion(frames: NDArray[Any]) -> NDArray[np.float32]:
    _check_frames(frames)
    return motion.describe(frames)


def _per_frame_family(name: str) -> Family:
    return Family(
        length=len(aggregate.STATISTICS) * aggregate.FRAME_LENGTHS[name],
        describe=_over_frames(name),
        looks_at="frames",
        parts=aggregate.video_parts(name),
    )


FAMILIES: dict[str, Family] = {
    "color": _per_frame_family("color"),
    "texture": _per_frame_family("texture"),
    "shape": _per_frame_family("shape"),
    "temporal": Family(
        length=aggregate.TEMPORAL_LENGTH,
        describe=_over_frames("temporal"),
        looks_at="frames",
        parts=aggregate.TEMPORAL_PARTS,
    ),
    "motion": Family(length=motion.LENGTH, describe=_motion, looks_at="frames", parts=motion.PARTS),
    "flow": FLOW,
    "shape_pooled": SHAPE_POOLED,
    "audio": AUDIO,
}

# On 203 fight clips of 34 recordings flow alone classifies best, and every family added to it makes
# the best model no better at more bytes (bench/presets.py).
PRESETS: dict[str, tuple[str, ...]] = {
    "default": ("flow",),
    "notebook": ("color", "texture", "shape", "temporal", "motion"),
}
NOTEBOOK_LENGTH = sum(FAMILIES[name].length for name in PRESETS["notebook"])  # 163,828
_NOTEBOOK = frozenset(PRESETS["notebook"])


def get_family(name: str) -> Family:
    """The family of that name.

    Raises:
        UserError: no such family; the message lists those there are.
    """
    if name not in FAMILIES:
        nearest = difflib.get_close_matches(name, FAMILIES, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise UserError(f"unknown feature family {name!r}: one of {', '.join(FAMILIES)}{hint}")
    return FAMILIES[name]


def column_names(name: str) -> list[str]:
    """One name per number of a family, in order: ``part[index]``."""
    return [
        f"{part}[{index}]" for part, length in get_family(name).parts for index in range(length)
    ]


def describe(
    *,
    frames: NDArray[np.uint8] | None = None,
    bursts: NDArray[np.uint8] | None = None,
    burst_pts_seconds: NDArray[np.float64] | None = None,
    sound: NDArray[np.float32] | None = None,
    families: Sequence[str] = PRESETS["default"],
) -> dict[str, NDArray[np.float32]]:
    """The families asked for, in one go: name -> ``float32 (length,)``, in the order asked.

    The notebooks' families share one pass over the frames: gray values are made once, and
    ``temporal`` reuses the numbers of color, texture and shape.

    Args:
        frames: ``uint8 (T, H, W, 3)`` RGB, sampled at one frame a second, in order of time;
            320x240 pixels for the notebooks' families.
        bursts: ``uint8 (M, L, H, W, 3)`` RGB, M moments of L adjacent frames.
        burst_pts_seconds: ``float64 (M, L)``, when each of them is shown: speeds are per second.
        sound: mono ``float32 (n,)`` at 16 kHz.
        families: names in ``FAMILIES``. A family whose material is None is left out of the result:
            the video has nothing it could look at.

    Raises:
        UserError: unknown family.
        ValueError: material of another shape or type.
    """
    materials: dict[str, NDArray[Any] | None] = {
        "frames": frames,
        "bursts": bursts,
        "sound": sound,
    }
    wanted = [name for name in families if materials[get_family(name).looks_at] is not None]
    found: dict[str, NDArray[np.float32]] = {}
    shared = [name for name in wanted if name in _NOTEBOOK]
    if shared and frames is not None:
        found |= _describe_notebook(frames, shared)
    for name in wanted:
        material = materials[FAMILIES[name].looks_at]
        if name in found or material is None:
            continue
        if FAMILIES[name].looks_at == "bursts":
            found[name] = FAMILIES[name](material, burst_pts_seconds)
        else:
            found[name] = FAMILIES[name](material)
    return {name: found[name] for name in wanted}


def _describe_notebook(
    frames: NDArray[np.uint8], families: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
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
    """Frames of the notebooks' kind, at least one.

    Raises:
        ValueError: another shape or type.
    """
    height, width = NOTEBOOK_SIZE_PX
    if (
        frames.dtype != np.uint8
        or frames.ndim != 4
        or frames.shape[1:] != (height, width, 3)
        or not len(frames)
    ):
        raise ValueError(
            f"got frames {frames.dtype} {frames.shape}, the notebooks' families need uint8 "
            f"(T, {height}, {width}, 3) with T >= 1: decode or resize to {width}x{height} "
            "(cv2.INTER_AREA)"
        )


def notebook_vector(features: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The vector the notebooks report: ``float32 (163828,)``.

    Mean of all 40,938 numbers of a frame (color, texture, shape), then their standard deviation,
    minimum and maximum; temporal; motion.

    Args:
        features: at least the families of ``PRESETS["notebook"]``.

    Raises:
        UserError: a family is missing.
    """
    missing = [name for name in PRESETS["notebook"] if name not in features]
    if missing:
        raise UserError(
            f"no {', '.join(missing)} among the features: the notebooks' vector needs all of "
            f"{', '.join(PRESETS['notebook'])}; extract with --preset notebook"
        )
    per_frame = [
        features[name].reshape(len(aggregate.STATISTICS), -1) for name in aggregate.FRAME_LENGTHS
    ]
    by_statistic = np.concatenate(per_frame, axis=1)  # (4, 40938)
    return np.concatenate([by_statistic.ravel(), features["temporal"], features["motion"]])
