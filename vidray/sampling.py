"""The samplers' front door: pure functions of ``vidray.video.sampling``."""

from vidray.video.sampling import (
    at_fps,
    dense,
    random_clip,
    random_frames,
    sliding_windows,
    uniform,
)

__all__ = ["at_fps", "dense", "random_clip", "random_frames", "sliding_windows", "uniform"]
