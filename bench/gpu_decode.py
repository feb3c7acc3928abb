"""Decoding alone, for processes that need nothing else: no PyTorch here."""

from __future__ import annotations

from vidray import storage
from vidray.video import clips
from vidray.video.clips import ClipSettings
from vidray.video.decode import Video


def decode_one(clip: ClipSettings, uri: str) -> None:
    """Decode and scale the frames of the clips of a video."""
    with storage.opened(uri) as source, Video(source) as opened:
        clips.read_clips(opened, source, clip)
