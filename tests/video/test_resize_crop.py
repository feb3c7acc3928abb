"""--fit resize_crop: clips hold the pixels of another package's resize and middle crop."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torchvision.transforms import functional as v1

from tests.videos import sequential_frames, write_video
from vidray.errors import UserError, VideoError
from vidray.video.clips import (
    ClipSettings,
    cut_video,
    read_clips,
    stream_clips,
)
from vidray.video.decode import Limits, Video
from vidray.video.resizing import RESIZERS, Resizer

R3D = ClipSettings(
    frames_per_clip=3, size_px=48, fit="resize_crop", resize_px=(56, 73), resizer="torchvision"
)
SHORT = dataclasses.replace(R3D, resize_px=(52,), resizer="torchvision_antialias")


def _video(path: Path) -> dict[str, Any]:
    info = {"video_id": path.stem, "uri": str(path), "size_bytes": 1, "fingerprint": "f"}
    return {**info, "label": "up", "split": "train", "group": None}


def _pixels(batch: pa.RecordBatch, settings: ClipSettings) -> np.ndarray:
    (row,) = batch.to_pylist()
    assert row["status"] == "ok", row["error_message"]
    shape = (settings.frames_per_clip, settings.size_px, settings.size_px, 3)
    return np.frombuffer(row["pixels"], np.uint8).reshape(shape)


def _torchvision(frames: np.ndarray, size: list[int], crop: int) -> np.ndarray:
    """VideoClassification's way, without the colours."""
    video = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    cropped = v1.center_crop(v1.resize(video, size, antialias=False), [crop, crop])
    return cropped.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"rotation_degrees": 90},
        {"rotation_degrees": 180},
        {"width_px": 98, "height_px": 66},
        {"width_px": 64, "height_px": 178},
        {"sample_aspect_ratio": Fraction(4, 3)},
        {"width_px": 16, "height_px": 16},
    ],
)
@pytest.mark.parametrize("size", [(56, 73), (52,)])
def test_a_clip_is_the_frame_as_pyav_gives_it_then_resized_and_cropped(
    tmp_path: Path, how: dict[str, Any], size: tuple[int, ...]
) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=3, **how)
    settings = dataclasses.replace(R3D, resize_px=size)
    frames, _ = sequential_frames(path)
    frames = np.rot90(frames, how.get("rotation_degrees", 0) // 90, axes=(1, 2))
    shape = size
    if len(size) == 1 and "sample_aspect_ratio" in how:
        # As it is shown: 120 high, 160 * 4 / 3 = 213 wide.
        shape = (52, int(52 * 213 / 120))
    torch.set_num_threads(1)
    expected = _torchvision(frames, list(shape), 48)
    assert np.array_equal(_pixels(cut_video(_video(path), settings), settings), expected)


@pytest.mark.parametrize("resizer", RESIZERS)
def test_clips_windows_and_crops_are_cut_alike(tmp_path: Path, resizer: Resizer) -> None:
    path = write_video(tmp_path / "a.mkv", num_frames=12, width_px=162, height_px=98)
    settings = dataclasses.replace(SHORT, resizer=resizer)
    with Video(str(path)) as video:
        (clip,), _, _ = read_clips(video, str(path), settings)
    frames = [np.array([2, 6, 10])]  # As ``uniform`` takes 3 of 12.
    with Video(str(path)) as video:
        (streamed,) = stream_clips(video, frames, settings)
        (crops,) = stream_clips(video, frames, settings, crops=3)
    assert np.array_equal(streamed[0], clip)
    assert np.array_equal(crops[1], clip)
    assert crops.shape == (3, 3, 48, 48, 3)
    assert not np.array_equal(crops[0], crops[2])
    with Video(str(path)) as video:
        read, _, _ = read_clips(video, str(path), settings, crops=3)
    assert np.array_equal(read, crops)


def test_another_decoder_follows_the_rule_too(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=6)
    settings = dataclasses.replace(R3D, decoder="opencv")
    (row,) = cut_video(_video(path), settings).to_pylist()
    assert row["decoder"] == "opencv"
    found = _pixels(cut_video(_video(path), settings), settings).astype(int)
    own = _pixels(cut_video(_video(path), R3D), R3D)
    # Its conversion from YUV differs a little, the resize does not.
    assert np.abs(found - own).max() <= 4
    swscale = dataclasses.replace(settings, resizer="swscale")
    assert np.abs(_pixels(cut_video(_video(path), swscale), swscale) - found).mean() < 3


def test_a_frame_so_long_that_it_fills_the_memory_is_too_large(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", num_frames=2, width_px=1600, height_px=16)
    # 5,200 x 52 pixels
    with Video(str(path), limits=Limits(max_pixels=270_000)) as video:
        with pytest.raises(VideoError, match="1600x16, and 5200x52 resized") as raised:
            read_clips(video, str(path), SHORT)
        assert raised.value.kind == "too_large"
    with Video(str(path)) as video:
        clips, _, _ = read_clips(video, str(path), SHORT)
    assert clips.shape == (1, 3, 48, 48, 3)


def test_settings_cross_as_json_and_old_ones_stay_what_they_were() -> None:
    for settings in (R3D, SHORT, ClipSettings()):
        values = json.loads(json.dumps(dataclasses.asdict(settings)))
        assert ClipSettings.from_json(values) == settings
    old = dataclasses.asdict(ClipSettings(fit="crop"))
    del old["resize_px"], old["resizer"]
    assert ClipSettings.from_json(old) == ClipSettings(fit="crop")
    others = [R3D, SHORT, dataclasses.replace(SHORT, resizer="pillow"), ClipSettings()]
    assert len({settings.digest for settings in others}) == 4
    assert "pillow" in others[2].libraries
    assert "pillow" not in SHORT.libraries


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"resize_px": ()}, "resize_px is not given: --fit resize_crop takes the shorter side"),
        ({"resize_px": (60, 60, 60)}, "resize_px is 60 60 60"),
        ({"resize_px": (47,)}, "resize_px is 47: it must be from size_px, which is 48, to 4096"),
        ({"resize_px": (48, 5000)}, "resize_px is 48 5000: it must be from"),
        ({"fit": "crop"}, "have no effect without --fit resize_crop"),
        ({"fit": "squash", "resize_px": ()}, "have no effect without --fit resize_crop"),
        ({"resizer": "pilow"}, "pillow"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        dataclasses.replace(R3D, **changed)
