"""Statistics of a video's color, texture and shape numbers over its frames.

One pass over the frames serves all four families that look at single frames; a frame's 40,938
numbers are kept for one frame only, so memory does not grow with the length of the video.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidray.features import color, shape, texture

STATISTICS = ("mean", "std", "min", "max")
FRAME_LENGTHS = {"color": color.LENGTH, "texture": texture.LENGTH, "shape": shape.LENGTH}
TEMPORAL_LENGTH = 4
TEMPORAL_PARTS = (("variation", TEMPORAL_LENGTH),)
_FRAME_PARTS = {"color": color.PARTS, "texture": texture.PARTS, "shape": shape.PARTS}


def video_parts(family: str) -> tuple[tuple[str, int], ...]:
    """(name, length) of the parts of color, texture or shape over a video, in order."""
    return tuple(
        (f"{part}_{statistic}", length)
        for statistic in STATISTICS
        for part, length in _FRAME_PARTS[family]
    )


class RunningStatistics:
    """Mean, population standard deviation, minimum and maximum of vectors seen one at a time.

    Welford's updates (1962) in float64: no cancellation, whatever the mean. NaN stays NaN.
    """

    def __init__(self, length: int) -> None:
        self._count = 0
        self._mean = np.zeros(length)
        self._squares = np.zeros(length)  # sum of squared distances from the mean
        self._smallest = np.full(length, np.inf)
        self._largest = np.full(length, -np.inf)

    def add(self, vector: NDArray[np.float64]) -> None:
        """Take in one more vector, ``float64 (length,)``."""
        self._count += 1
        distance = vector - self._mean
        self._mean += distance / self._count
        distance *= vector - self._mean
        self._squares += distance
        np.minimum(self._smallest, vector, out=self._smallest)
        np.maximum(self._largest, vector, out=self._largest)

    def result(self) -> NDArray[np.float64]:
        """``float64 (4 * length,)``: means, standard deviations, minima, maxima."""
        if not self._count:
            raise ValueError("no vector was added: statistics need at least one")
        deviation = np.sqrt(self._squares / self._count)
        return np.concatenate([self._mean, deviation, self._smallest, self._largest])


class FramePass:
    """Computes the families that look at single frames, in one pass over a video's frames.

    Args:
        families: of ``color, texture, shape, temporal``. Only what they need is computed;
            ``temporal`` needs all three others.
    """

    def __init__(self, families: Collection[str]) -> None:
        self._families = tuple(families)
        self._temporal = "temporal" in families
        self._running = {
            name: RunningStatistics(length)
            for name, length in FRAME_LENGTHS.items()
            if name in families
        }
        self._needed = FRAME_LENGTHS if self._temporal else self._running
        self._before: NDArray[np.float64] | None = None  # the last frame's vector
        self._variations: list[float] = []

    def add(self, rgb: NDArray[np.uint8], gray: NDArray[Any]) -> None:
        """Take in one more frame: ``uint8 (H, W, 3)`` RGB, and the same frame in gray."""
        vectors: dict[str, NDArray[np.float64]] = {}
        if "color" in self._needed:
            vectors["color"] = color.numbers(rgb)
        if "texture" in self._needed:
            vectors["texture"] = texture.numbers(gray)
        if "shape" in self._needed:
            vectors["shape"] = shape.numbers(gray)
        for name, running in self._running.items():
            running.add(vectors[name])
        if self._temporal:
            whole = np.concatenate([vectors[name] for name in FRAME_LENGTHS])
            if self._before is not None:
                self._variations.append(float(np.abs(whole - self._before).mean()))
            self._before = whole

    def result(self) -> dict[str, NDArray[np.float32]]:
        """Family -> ``float32 (length,)``, for the families asked for."""
        results = {
            name: running.result().astype(np.float32) for name, running in self._running.items()
        }
        if self._temporal:
            results["temporal"] = temporal(self._variations)
        return {name: results[name] for name in self._families}


def temporal(variations: list[float]) -> NDArray[np.float32]:
    """The change from frame vector to frame vector: ``float32 (4,)``, mean, std, min, max.

    Args:
        variations: mean absolute difference of each two consecutive frames' 40,938 numbers. None,
            as for a video of one frame, gives NaN; so does a number that is not there, such as the
            skewness of a frame of one colour.
    """
    if not variations:
        return np.full(TEMPORAL_LENGTH, np.nan, np.float32)
    series = np.array(variations)
    return np.array([series.mean(), series.std(), series.min(), series.max()], np.float32)
