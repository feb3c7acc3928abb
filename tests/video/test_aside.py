"""Clips read in another model's pass are those of a pass of their own."""

from pathlib import Path

import numpy as np
import pytest

from tests.videos import write_video
from vidray.video import clips
from vidray.video.aside import Aside
from vidray.video.clips import ClipSettings
from vidray.video.clock import WHOLE, Stretch
from vidray.video.decode import Video

OWN = ClipSettings(frames_per_clip=3, size_px=8)
OTHER = ClipSettings(frames_per_clip=5, size_px=12, clips_per_video=2, fit="crop")


@pytest.mark.parametrize("other", [OWN, OTHER])
@pytest.mark.parametrize("stretch", [WHOLE, Stretch(0.2, 0.6)])
def test_both_models_clips_are_those_of_two_passes(
    tmp_path: Path, other: ClipSettings, stretch: Stretch
) -> None:
    path = str(write_video(tmp_path / "a.mp4", num_frames=20))
    with Video(path) as video:
        aside = Aside(other)
        pixels, decoder = aside.read_beside(video, path, OWN, stretch=stretch, draw=7)
    for found, settings in ((pixels, OWN), (aside.clips(), other)):
        with Video(path) as video:
            expected, _, used = clips.read_clips(video, path, settings, stretch=stretch, draw=7)
        assert found is not None
        assert np.array_equal(found, expected)
        assert decoder == used


def test_nothing_is_read_of_a_long_video(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.mp4", num_frames=20))
    with Video(path) as video:
        seconds = video.probe().duration_seconds
        assert seconds is not None
        for most, number in ((seconds + 0.01, 1), (seconds - 0.01, 0)):
            aside = Aside(OTHER, long_seconds=most)
            assert len(aside.requests(video, WHOLE, 0)) == number
            # Of a stretch its own length counts.
            assert len(aside.requests(video, Stretch(0.0, seconds / 2), 0)) == 1
    aside.take([])
    assert aside.clips() is None
