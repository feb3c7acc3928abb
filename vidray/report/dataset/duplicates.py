"""Copies of videos among many: re-encoded, resized, slightly cropped, trimmed.

Two steps. A perceptual hash of each small frame (64 bits of its discrete cosine transform, Zauner
2010) finds pairs of videos that show like pictures: exactly, all against all, in blocks. Most of
those are other moments before the same camera. So each pair is laid over one another in time, and
what moves in both is compared: the frames less their mean correlate at 0.7 or more in copies, and
at up to 0.63 in clips of one camera that are none (233 fight clips, and copies of 30 of them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from vidray.report.frames.glances import SIDE_PX, Glance

Hashes = NDArray[np.uint64]
# Mean distance in bits between the frames of two videos; unlike pictures differ in 31. Of copies
# cropped by 6 % at each side nine in ten came below 15, of all others all below 12.
ALIKE_BITS = 18.0
SAME_MOTION = 0.7
# Frames of so little contrast (levels) have nothing but noise for a hash.
_FLAT_LEVELS = 4.0
# Where nothing moves by this many levels (of copies the stillest had 0.24), motion tells nothing:
# then the pictures must be the same to this many bits.
_STILL_LEVELS, _SAME_BITS = 0.2, 3.0
# Another moment in the same place: the pictures are alike to so many bits, what moves is not.
SAME_PLACE_BITS = 8.0
_KEY_FRAMES = 5
_BLOCK_BYTES = 64 << 20
_BLUR_PX = 1.5


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two videos that show like pictures.

    Attributes:
        first, second: their ids.
        bits: mean distance of the hashes, where one lies over the other in time.
        motion: correlation of what moves, -1 to 1; None where nothing does.
        later_seconds: how much later in the first the second begins.
        is_copy: one is a copy of the other, or of a part of it.
    """

    first: str
    second: str
    bits: float
    motion: float | None
    later_seconds: float
    is_copy: bool

    @property
    def is_same_place(self) -> bool:
        """Whether they show the same place in other moments."""
        return not self.is_copy and self.bits <= SAME_PLACE_BITS


def hashes(gray: NDArray[np.uint8]) -> Hashes:
    """``uint64 (T,)``: of each frame ``uint8 (T, 32, 32)`` which of its 63 lowest frequencies are
    above their median; the mean brightness is left out.
    """
    low = dctn(gray.astype(np.float32), axes=(1, 2), norm="ortho")[:, :8, :8]
    waves = low.reshape(len(gray), 64)[:, 1:]
    bits = waves > np.median(waves, axis=1, keepdims=True)
    padded = np.pad(bits, ((0, 0), (0, 1)))
    return np.packbits(padded, axis=1).view(np.uint64).ravel()


def is_flat(gray: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """``bool (T,)``: which frames are black, white or blank."""
    flat: NDArray[np.bool_] = gray.reshape(len(gray), -1).std(axis=1) < _FLAT_LEVELS
    return flat


def too_flat(glances: Mapping[str, Glance]) -> list[str]:
    """Videos of which fewer than two frames show anything (or one, of a single frame)."""
    return [
        video
        for video, glance in glances.items()
        if (~is_flat(glance.gray)).sum() < min(2, len(glance.gray))
    ]


def alike(glances: Mapping[str, Glance], classes: Sequence[Any]) -> list[tuple[int, int]]:
    """Pairs of positions, the first below the second, of videos that show like pictures, the most
    alike first.

    For each video up to five key frames, each against all frames of the other; the mean of the
    least distances is at most ``ALIKE_BITS``, from one of the two to the other. Exact, in blocks
    of bounded memory.

    Args:
        classes: a value a video; only pairs of unlike ones are looked for.
    """
    videos = [_searchable(glance) for glance in glances.values()]
    codes: NDArray[np.int64] = np.unique(
        np.array(classes, object).astype(str), return_inverse=True
    )[1]
    there = [n for n, (keys, _) in enumerate(videos) if len(keys)]
    if len(there) < 2:
        return []
    frames = np.concatenate([videos[n][1] for n in there])
    begins = np.cumsum([0, *(len(videos[n][1]) for n in there[:-1])])
    of = np.array(there)
    best: dict[tuple[int, int], float] = {}
    step = max(1, _BLOCK_BYTES // (8 * _KEY_FRAMES * len(frames)))
    for begin in range(0, len(there), step):
        block = there[begin : begin + step]
        keys = np.concatenate([videos[n][0] for n in block])
        bits = np.bitwise_count(keys[:, None] ^ frames[None, :])  # (keys, frames), uint8
        least = np.minimum.reduceat(bits, begins, axis=1)  # (keys, videos)
        starts = np.cumsum([0, *(len(videos[n][0]) for n in block[:-1])])
        total = np.add.reduceat(least.astype(np.float32), starts, axis=0)
        mean = total / np.array([len(videos[n][0]) for n in block], np.float32)[:, None]
        rows, columns = np.nonzero(mean <= ALIKE_BITS)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            a, b = block[row], int(of[column])
            if codes[a] != codes[b]:
                pair = (min(a, b), max(a, b))
                best[pair] = min(best.get(pair, np.inf), float(mean[row, column]))
    return sorted(best, key=lambda pair: (best[pair], pair))


def _searchable(glance: Glance) -> tuple[Hashes, Hashes]:
    """Hashes of up to five key frames, evenly spread, and of all frames; flat ones have none."""
    all_of = hashes(glance.gray[~is_flat(glance.gray)])
    if len(all_of) < min(2, len(glance.gray)):
        return all_of[:0], all_of[:0]
    count = min(_KEY_FRAMES, len(all_of))
    places = ((np.arange(count) + 0.5) * len(all_of) / count).astype(np.int64)
    return all_of[places], np.unique(all_of)


@dataclass(frozen=True, kw_only=True)
class MovingPicture:
    """A glance, ready to be laid over another.

    Attributes:
        hashes: ``uint64 (T,)``.
        moving: ``float32 (T, 1024)``, the blurred frames less their mean.
        energy: ``float32 (T,)``, sums of its squares.
        seconds: ``float64 (T,)``.
    """

    hashes: Hashes
    moving: NDArray[np.float32]
    energy: NDArray[np.float32]
    seconds: NDArray[np.float64]


def prepare(glance: Glance) -> MovingPicture:
    """The hashes and what moves."""
    # A copy that is cropped by a few percent is shifted by a pixel or two of these small frames.
    blurred = np.stack(
        [cv2.GaussianBlur(one, (0, 0), _BLUR_PX) for one in glance.gray.astype(np.float32)]
    )
    moving = (blurred - blurred.mean(axis=0)).reshape(len(blurred), -1).astype(np.float32)
    energy = (moving**2).sum(axis=1)
    return MovingPicture(
        hashes=hashes(glance.gray), moving=moving, energy=energy, seconds=glance.seconds
    )


def compare(first: str, second: str, a: MovingPicture, b: MovingPicture) -> Compared:
    """Lay one video over the other at every lag at which they share half of the shorter one; the
    lag counts at which what moves is most alike.
    """
    lags, inside, place = _overlaps(a.seconds, b.seconds)
    dot = a.moving @ b.moving.T  # (Ta, Tb)
    bits = np.bitwise_count(a.hashes[:, None] ^ b.hashes[None, :])
    rows = np.arange(len(a.seconds))[None, :]
    shared = (dot[rows, place] * inside).sum(axis=1)
    energy_a = (a.energy[None, :] * inside).sum(axis=1)
    energy_b = (b.energy[place] * inside).sum(axis=1)
    motion = shared / np.sqrt(np.maximum(energy_a * energy_b, 1e-9))
    distance = (bits[rows, place] * inside).sum(axis=1) / inside.sum(axis=1)
    levels = np.sqrt(min(a.energy.mean(), b.energy.mean()) / (SIDE_PX * SIDE_PX))
    is_still = bool(levels < _STILL_LEVELS)
    best = int(distance.argmin() if is_still else motion.argmax())
    likeness, apart = float(motion[best]), float(distance[best])
    return Compared(
        first=first,
        second=second,
        bits=apart,
        motion=None if is_still else likeness,
        later_seconds=float(lags[best]),
        is_copy=apart <= _SAME_BITS if is_still else (
            likeness >= SAME_MOTION and apart <= 1.4 * ALIKE_BITS
        ),
    )  # fmt: skip


def _overlaps(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Lags (L,); which frames of ``a`` then lie over ``b`` (L, Ta); and the nearest of ``b``."""
    step = max(_step(a), _step(b))
    lags = np.arange(-b[-1] / 2, a[-1] / 2 + step / 4, step / 2)
    lags = np.unique(np.append(lags, 0.0))
    at = a[None, :] - lags[:, None]  # (L, Ta), in the time of b
    after = np.searchsorted(b, at).clip(1, max(1, len(b) - 1))
    before = after - 1
    after = after.clip(0, len(b) - 1)
    nearest = np.where(np.abs(b[after] - at) < np.abs(at - b[before]), after, before)
    inside = (at >= -step / 2) & (at <= b[-1] + step / 2)
    enough = inside.sum(axis=1) >= max(1, min(len(a), _covered(b, a)) / 2)
    if not enough.any():
        enough = inside.sum(axis=1) == inside.sum(axis=1).max()
    return lags[enough], inside[enough], nearest[enough].astype(np.int64)


def _step(seconds: NDArray[np.float64]) -> float:
    """The time between frames, and a tenth of a second where there is one frame."""
    return float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.1


def _covered(b: NDArray[np.float64], a: NDArray[np.float64]) -> float:
    """How many frames of ``a`` are shown in as long as ``b`` takes."""
    return float((a <= b[-1] + _step(a) / 2).sum())
