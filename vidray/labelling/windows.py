"""The windows of a long video: which frames they show, and what their labels say together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidray.labelling.options import LabelOptions
from vidray.video import clips, sampling
from vidray.video.clips import ClipSettings
from vidray.video.clock import Clock


def window_frames(
    times: Clock, options: LabelOptions, clip: ClipSettings
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The frames of each window, ``int64 (W, frames_per_clip)``, chosen as those that the model
    learnt from, and its begin and end in seconds, ``float64 (W, 2)``.

    They are of the middle ``clip_seconds`` of a window, which is as long at least.
    """
    window_seconds = max(options.window_seconds, clip.clip_seconds or 0.0)
    span, step = (
        max(1, round(seconds * times.ticks_per_second))
        for seconds in (window_seconds, options.step_seconds)
    )
    begins = window_begins(times.num_ticks, span, step)
    ends = np.minimum(begins + span, times.num_ticks)
    (within,) = clips.clip_frames(
        min(span, times.num_ticks),
        times.ticks_per_second,
        dataclasses.replace(clip, clips_per_video=1),
        draw=0,  # The windows of a video see the same moments of their seconds.
    )
    bounds = times.seconds(np.stack([begins, ends], axis=1))
    return times.frames(begins[:, None] + within), bounds


def window_begins(num_frames: int, span: int, step: int) -> NDArray[np.int64]:
    """The first frame of each window, ``int64 (W,)``; the last one ends with the video."""
    if num_frames <= span:
        return np.zeros(1, np.int64)
    return sampling.sliding_windows(num_frames=num_frames - span + 1, window=1, step=step)[:, 0]


def join_windows(
    bounds: NDArray[np.float64], probabilities: NDArray[np.float64], class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Neighbouring windows of one label as one segment; the segments follow each other gapless.

    Where the label changes, the boundary lies midway between the middles of the two windows.

    Args:
        bounds: (W, 2), begin and end of each window in seconds, in order.
        probabilities: (W, K).
    """
    labels = probabilities.argmax(axis=1)
    changes = np.flatnonzero(np.diff(labels)) + 1
    firsts, lasts = [0, *changes.tolist()], [*changes.tolist(), len(labels)]
    middles = bounds.mean(axis=1)
    between = [float(middles[k - 1 : k + 1].mean()) for k in changes]
    begins, ends = [float(bounds[0, 0]), *between], [*between, float(bounds[-1, 1])]
    return [
        {
            "begin_seconds": begin,
            "end_seconds": end,
            "label": class_names[labels[first]],
            "probability": float(probabilities[first:last, labels[first]].mean()),
        }
        for begin, end, first, last in zip(begins, ends, firsts, lasts, strict=True)
    ]
