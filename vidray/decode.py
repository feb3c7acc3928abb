"""The decoder's front door: ``probe`` and ``read_frames`` of ``vidray.video.decode``."""

from vidray.video.decode import Frames, Limits, Probe, probe, read_frames

__all__ = ["Frames", "Limits", "Probe", "probe", "read_frames"]
