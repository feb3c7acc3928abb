"""Preprocessing: by hand, against PyTorch's own antialiased resize and naive float64 sums."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from vidray.errors import UserError
from vidray.models import preprocess
from vidray.models.preprocess import (
    IMAGENET,
    KINETICS,
    Preprocessing,
    dataset_statistics,
)

MEAN, STD = IMAGENET


def made(num_frames: int = 4, size_px: int = 16, *, flow: bool = False) -> Preprocessing:
    return Preprocessing(num_frames=num_frames, size_px=size_px, mean=MEAN, std=STD, flow=flow)


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_select_takes_frames_evenly() -> None:
    clips = noise(2, 10, 16, 16, 3)
    # The middles of five equal stretches of ten frames.
    expected = clips[:, [1, 3, 5, 7, 9]]
    np.testing.assert_array_equal(made(5).select(clips), expected)


@pytest.mark.parametrize(
    ("stride", "frames"), [(1, [3, 4, 5, 6]), (2, [1, 3, 5, 7]), (3, [0, 3, 6, 9])]
)
def test_select_by_a_stride_is_around_the_middle(stride: int, frames: list[int]) -> None:
    clips = noise(2, 10, 16, 16, 3)
    got = dataclasses.replace(made(4), stride=stride).select(clips)
    np.testing.assert_array_equal(got, clips[:, frames])


def test_a_stride_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="4 frames 4 apart are wanted of clips of 10"):
        dataclasses.replace(made(4), stride=4).select(noise(1, 10, 16, 16, 3))
    with pytest.raises(UserError, match="stride is 0"):
        dataclasses.replace(made(4), stride=0)


def test_select_leaves_what_is_right_alone() -> None:
    clips = noise(2, 4, 16, 16, 3)
    assert made().select(clips) is clips


def test_select_averages_when_shrinking() -> None:
    clips = noise(2, 4, 32, 32, 3)
    expected = clips.reshape(2, 4, 16, 2, 16, 2, 3).astype(float).mean(axis=(3, 5))
    assert np.abs(made().select(clips) - expected).max() <= 0.5


def test_select_enlarges_as_pytorch_does() -> None:
    clips = noise(1, 4, 8, 8, 3)
    frames = torch.from_numpy(clips[0]).permute(0, 3, 1, 2).double()
    expected = functional.interpolate(frames, size=(16, 16), mode="bilinear", align_corners=False)
    got = torch.from_numpy(made().select(clips)[0]).permute(0, 3, 1, 2)
    assert (got - expected).abs().max() <= 1


@pytest.mark.parametrize(("height", "width"), [(16, 26), (27, 16)])
def test_select_takes_the_middle_square(height: int, width: int) -> None:
    clips = noise(1, 4, height, width, 3)
    top, left = (height - 16) // 2, (width - 16) // 2
    expected = clips[:, :, top : top + 16, left : left + 16]
    np.testing.assert_array_equal(made().select(clips), expected)


def test_select_refuses_other_arrays() -> None:
    with pytest.raises(ValueError, match=r"float64 \(1, 4, 16, 16, 3\)"):
        made().select(np.zeros((1, 4, 16, 16, 3)))  # type: ignore[arg-type]


def test_to_input_normalises() -> None:
    clips = noise(2, 4, 16, 16, 3)
    got = made().to_input(torch.from_numpy(clips))
    expected = (clips / 255 - np.array(MEAN)) / np.array(STD)  # (N, T, H, W, 3), float64
    assert got.dtype == torch.float32
    assert got.shape == (2, 3, 4, 16, 16)
    assert got.is_contiguous()
    np.testing.assert_allclose(got.numpy(), expected.transpose(0, 4, 1, 2, 3), atol=2e-6)


def test_to_input_leaves_the_pixels_as_they_were() -> None:
    clips = torch.from_numpy(noise(1, 4, 16, 16, 3))
    before = clips.clone()
    made().to_input(clips)
    assert torch.equal(clips, before)


def test_to_input_adds_flow_behind_the_colours() -> None:
    texture = noise(64, 64, 3, seed=1).astype(float)
    for axis in (0, 1):  # smooth, so that flow has something to hold on to
        texture = sum(np.roll(texture, k, axis) for k in range(-4, 5)) / 9
    clip = np.stack([np.roll(texture, 2 * t, axis=1) for t in range(4)]).astype(np.uint8)
    clips = torch.from_numpy(clip[None])
    preprocessing = made(4, 64, flow=True)
    got = preprocessing.to_input(clips)
    assert got.shape == (1, preprocessing.num_channels, 4, 64, 64)
    assert torch.equal(got[:, :3], made(4, 64).to_input(clips))
    right, down = got[0, 3, :, 16:48, 16:48], got[0, 4, :, 16:48, 16:48]
    # Two pixels to the right; 1 is 20 pixels.
    assert right.median().item() == pytest.approx(0.1, abs=0.02)
    assert down.median().item() == pytest.approx(0.0, abs=0.02)


def test_to_input_takes_flow_made_before() -> None:
    clips = noise(2, 4, 16, 16, 3)
    preprocessing = made(flow=True)
    flow = torch.from_numpy(preprocess.clips_flow(clips))
    tensor = torch.from_numpy(clips)
    assert torch.equal(preprocessing.to_input(tensor, flow), preprocessing.to_input(tensor))
    marked = preprocessing.to_input(tensor, torch.full_like(flow, 7))
    assert (marked[:, 3:] == 7).all()


def test_to_input_refuses_floats() -> None:
    with pytest.raises(ValueError, match=r"torch\.float32"):
        made().to_input(torch.zeros(1, 4, 16, 16, 3))


@pytest.mark.gpu
def test_to_input_is_the_same_on_a_gpu() -> None:
    clips = torch.from_numpy(noise(2, 4, 16, 16, 3))
    preprocessing = made(flow=True)
    got = preprocessing.to_input(clips.cuda())
    assert got.is_cuda
    torch.testing.assert_close(got.cpu(), preprocessing.to_input(clips), atol=1e-6, rtol=0)


def test_json_and_back() -> None:
    preprocessing = Preprocessing(
        num_frames=8, size_px=112, mean=KINETICS[0], std=KINETICS[1], flow=True
    )
    text = json.dumps(dataclasses.asdict(preprocessing))
    again = Preprocessing.from_json(json.loads(text))
    assert again == preprocessing
    assert hash(again) == hash(preprocessing)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_frames": 0}, "num_frames is 0"),
        ({"size_px": 0}, "size_px is 0"),
        ({"size_px": 15, "flow": True}, "16 or more for optical flow"),
        ({"mean": (123.0, 116.0, 103.0)}, "divide by 255"),
        ({"mean": (0.5, 0.5)}, "three numbers"),
        ({"mean": (math.nan, 0.5, 0.5)}, "mean is"),
        ({"std": (0.2, 0.0, 0.2)}, "never varies"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, object], message: str) -> None:
    base: dict[str, object] = {"num_frames": 4, "size_px": 16, "mean": MEAN, "std": STD}
    with pytest.raises(UserError, match=message):
        Preprocessing(**{**base, **values})  # type: ignore[arg-type]


def test_published_statistics_are_torchvisions() -> None:
    from torchvision.models import ResNet18_Weights
    from torchvision.models.video import R3D_18_Weights

    image, video = ResNet18_Weights.DEFAULT.transforms(), R3D_18_Weights.DEFAULT.transforms()
    assert (tuple(image.mean), tuple(image.std)) == IMAGENET
    assert (tuple(video.mean), tuple(video.std)) == KINETICS


def test_dataset_statistics_against_numpy() -> None:
    clips = [noise(2, 3, 5, 7, 3, seed=seed) for seed in range(4)]
    pixels = np.concatenate([clip.reshape(-1, 3) for clip in clips]).astype(np.float64) / 255
    mean, std = dataset_statistics(iter(clips))
    np.testing.assert_allclose(mean, pixels.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(std, pixels.std(axis=0), rtol=1e-12)


def test_dataset_statistics_are_exact_and_blind_to_order() -> None:
    clips = [noise(3, 8, 8, 3, seed=seed) for seed in range(5)]
    assert dataset_statistics(clips) == dataset_statistics([np.concatenate(clips[::-1])])
    # 3 of 4 red pixels at 255: mean 3/4, variance 3/16; green never varies.
    pixels = np.zeros((4, 3), np.uint8)
    pixels[:3, 0], pixels[:, 1] = 255, 51
    mean, std = dataset_statistics([pixels])
    assert mean == (0.75, 0.2, 0.0)
    assert std == (pytest.approx(math.sqrt(3) / 4, rel=1e-15), 0.0, 0.0)


def test_dataset_statistics_need_a_pixel() -> None:
    with pytest.raises(UserError, match="at least one clip"):
        dataset_statistics([])
