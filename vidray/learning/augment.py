"""Random views of one training clip: one draw for all its frames, so that motion stays motion.

A draw that changed from frame to frame would shake the camera and flicker the light, and teach a
network of motion just that. Every draw comes from the generator given, always as many of them in
the same order, so a clip's view depends on its seed and not on what else is switched off.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vidray.learning.hyperparameters import Augmentation
from vidray.models.arrays import Pixels
from vidray.models.preprocess import fit_frames
from vidray.video import sampling

# Rec. 601: how bright a pixel looks.
_LUMA = np.array([0.299, 0.587, 0.114])
_MID_GRAY = 127.5


def augment(
    clip: Pixels,
    *,
    out_frames: int,
    out_px: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
    stride: int | None = None,
    cut: bool = False,
    cut_px: int | None = None,
) -> Pixels:
    """One random view of a clip.

    Args:
        clip: ``uint8 (T, H, W, 3)``, RGB, as stored; larger than what is wanted leaves room for
            crops in time and space.
        out_frames: frames wanted.
        out_px: width and height wanted.
        augmentation: how far it may be changed.
        rng: gives every random number.
        stride, cut: as in ``Preprocessing``. The share of the area that a random crop of a clip
            to be cut shows is that of the square to be cut, and it may lie anywhere.
        cut_px: side of the square to be cut, if it is not ``out_px``: with the same ``rng`` the
            same view for a network that takes another size.

    Returns:
        ``uint8 (out_frames, out_px, out_px, 3)``.
    """
    if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[-1] != 3 or not len(clip):
        raise ValueError(f"a clip is {clip.dtype} {clip.shape}: give uint8 (T, H, W, 3), T >= 1")
    frames = _stretch(len(clip), out_frames, stride, augmentation, rng)
    shown_px = min(cut_px or out_px, *clip.shape[1:3]) if cut else min(clip.shape[1:3])
    pixels = _reframe(clip, frames, out_px, augmentation, rng, shown_px)
    return _recolour(pixels, augmentation, rng)


def mix(
    clip: Pixels,
    partner: Pixels,
    target: NDArray[np.float32],
    partner_target: NDArray[np.float32],
    *,
    rng: np.random.Generator,
    mixup_alpha: float,
    cutmix_alpha: float,
) -> tuple[Pixels, NDArray[np.float32]]:
    """A clip blended with another (mixup, Zhang et al. 2018) or patched with a box of it, the same
    in all frames (CutMix, Yun et al. 2019), and the target of what is to be seen.

    Where both are on, either is taken with probability 1/2.

    Args:
        clip, partner: ``uint8 (T, H, W, 3)``.
        target, partner_target: ``float32 (K,)``, probabilities of the classes.
        rng: gives every random number.
        mixup_alpha: the clip's share is drawn from Beta(alpha, alpha); 0 turns mixup off.
        cutmix_alpha: the same, of the area outside of the box.

    Returns:
        ``uint8 (T, H, W, 3)`` and ``float32 (K,)``.
    """
    if clip.shape != partner.shape:
        raise ValueError(f"clips of {clip.shape} and {partner.shape} can't mix: give one shape")
    if mixup_alpha == 0 and cutmix_alpha == 0:
        return clip, target
    cut = cutmix_alpha > 0 and (mixup_alpha == 0 or rng.random() < 0.5)
    alpha = cutmix_alpha if cut else mixup_alpha
    share = float(rng.beta(alpha, alpha))
    if cut:
        mixed, share = _cut(clip, partner, share, rng)
    else:
        mixed = _blend(clip, partner, share)
    mixed_target = np.float32(share) * target + np.float32(1 - share) * partner_target
    return mixed, mixed_target


def _blend(clip: Pixels, partner: Pixels, share: float) -> Pixels:
    # (T, H, W, 3) -> (T, H * W * 3): OpenCV adds pictures, and rounds.
    flat, other = clip.reshape(len(clip), -1), partner.reshape(len(clip), -1)
    mixed: NDArray[Any] = cv2.addWeighted(flat, share, other, 1 - share, 0)
    return mixed.reshape(clip.shape)


def _cut(
    clip: Pixels, partner: Pixels, share: float, rng: np.random.Generator
) -> tuple[Pixels, float]:
    """The clip with a box of its partner, and the share of its area that stays."""
    height, width = clip.shape[1:3]
    side = math.sqrt(1 - share)
    middle_y, middle_x = rng.random(2) * (height, width)
    top, bottom = _edges(middle_y, side * height, height)
    left, right = _edges(middle_x, side * width, width)
    mixed = clip.copy()
    mixed[:, top:bottom, left:right] = partner[:, top:bottom, left:right]
    # Rounded, and cut off at the frame's edge: the box covers less than was drawn.
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _edges(middle: float, length: float, limit: int) -> tuple[int, int]:
    return max(round(middle - length / 2), 0), min(round(middle + length / 2), limit)


def _stretch(
    num_frames: int,
    count: int,
    stride: int | None,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """The stored frames to show: ``int64 (count,)``, not decreasing."""
    share, place = 1 - augmentation.temporal_jitter * rng.random(), rng.random()
    if stride is not None:
        rest = num_frames - (count - 1) * stride - 1
        first = int(place * (rest + 1)) if augmentation.temporal_jitter else rest // 2
        return first + stride * np.arange(count)
    if share == 1:
        return sampling.uniform(num_frames=num_frames, count=count)
    # As ``uniform``, the middle frame of each of ``count`` equal parts, but of the stretch.
    begin = place * (1 - share) * num_frames
    times = begin + (np.arange(count) + 0.5) * (share * num_frames / count)
    return np.minimum(times.astype(np.int64), num_frames - 1)


def _reframe(
    clip: Pixels,
    frames: NDArray[np.int64],
    out_px: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
    most: int,
) -> Pixels:
    """Crop, stretch, turn, mirror and resize in one look-up, so that pixels blur once only.

    Args:
        most: side of the square of a stored frame of which a crop shows a share.
    """
    area = rng.uniform(*augmentation.scale)
    aspect = math.exp(rng.uniform(*np.log(augmentation.aspect)))
    place_x, place_y = rng.uniform(-0.5, 0.5, size=2)
    turn = math.radians(augmentation.rotation_degrees * rng.uniform(-1.0, 1.0))
    mirror = rng.random() < augmentation.flip

    height, width = clip.shape[1:3]
    side = min(height, width)
    crop_width = min(most * math.sqrt(area * aspect), most)
    crop_height = min(most * math.sqrt(area / aspect), most)
    if crop_width == crop_height == most and turn == 0 and not mirror:
        return fit_frames(fit_frames(clip[frames], most, cut=True), out_px)
    # Where crops are off, the middle is shown: of a clip to be cut there is room around it.
    room = most if min(augmentation.scale) == 1 else side
    middle = (
        (width - most) // 2 + most / 2 + place_x * (room - crop_width),
        (height - most) // 2 + most / 2 + place_y * (room - crop_height),
    )
    shown = (-crop_width if mirror else crop_width, crop_height)
    to_stored = _to_stored(middle, shown, turn, out_px)
    # The look-up weighs four neighbours: it would skip pixels where several make one.
    shrink = int(min(crop_width, crop_height) / out_px)
    return _warp(clip, frames, to_stored, out_px, max(shrink, 1))


def _to_stored(
    middle: tuple[float, float], shown: tuple[float, float], turn: float, out_px: int
) -> NDArray[np.float64]:
    """``(2, 3)``: where (x, y, 1) of the output lies in the stored frame, edges at 0 and size.

    Args:
        middle: of what is shown, (x, y).
        shown: its (width, height); a negative width mirrors.
        turn: radians.
        out_px: side of the output.
    """
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    matrix = rotation * (np.array(shown) / out_px)
    offset = np.array(middle) - matrix.sum(axis=1) * (out_px / 2)
    return np.column_stack([matrix, offset])


def _warp(
    clip: Pixels,
    frames: NDArray[np.int64],
    to_stored: NDArray[np.float64],
    out_px: int,
    shrink: int,
) -> Pixels:
    """Look up every output pixel, in frames averaged to 1 / ``shrink`` of their size first."""
    height, width = clip.shape[1:3]
    size = (round(width / shrink), round(height / shrink))
    matrix = to_stored * (np.array(size) / (width, height))[:, None]
    # OpenCV counts from the middle of the first pixel, the matrix from its edge.
    matrix[:, 2] += matrix[:, :2].sum(axis=1) * 0.5 - 0.5
    warped = np.empty((len(frames), out_px, out_px, 3), np.uint8)
    for index, out in zip(frames.tolist(), warped, strict=True):
        frame: NDArray[Any] = clip[index]
        if shrink > 1:
            frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        cv2.warpAffine(
            frame,
            matrix,
            (out_px, out_px),
            dst=out,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    return warped


def _recolour(pixels: Pixels, augmentation: Augmentation, rng: np.random.Generator) -> Pixels:
    """All colour changes are affine: composed into one matrix, they round and clip once."""
    swing = rng.uniform(-1.0, 1.0, size=4)
    brightness = 1 + augmentation.brightness * swing[0]
    contrast = 1 + augmentation.contrast * swing[1]
    saturation = 1 + augmentation.saturation * swing[2]
    hue = math.radians(augmentation.hue_degrees * swing[3])
    if brightness == contrast == saturation == 1 and hue == 0:
        return pixels
    # (3, 3): a turn about the gray axis, then towards or away from the gray as bright.
    to_gray = np.tile(_LUMA, (3, 1))
    colour = (saturation * np.eye(3) + (1 - saturation) * to_gray) @ _turn_hue(hue)
    gain = brightness * contrast
    offset = np.full(3, brightness * _MID_GRAY * (1 - contrast))
    matrix = np.column_stack([gain * colour, offset])
    # (T, H, W, 3) -> (T * H, W, 3): one call for the clip
    changed: NDArray[Any] = cv2.transform(pixels.reshape(-1, *pixels.shape[2:]), matrix)
    return changed.reshape(pixels.shape)


def _turn_hue(radians: float) -> NDArray[np.float64]:
    """``(3, 3)``: red, green, blue turned about gray (Rodrigues' formula)."""
    axis = np.full(3, 1 / math.sqrt(3))
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turned: NDArray[np.float64] = (
        math.cos(radians) * np.eye(3)
        + math.sin(radians) * cross
        + (1 - math.cos(radians)) * np.outer(axis, axis)
    )
    return turned
