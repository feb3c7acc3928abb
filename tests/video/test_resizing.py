"""Resizing as other packages do it, compared with those packages, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as v1
from torchvision.transforms.v2 import functional as v2

from vidray.video import resizing
from vidray.video.resizing import RESIZERS, Picture, Resizer

# (height, width): even, odd, taller than wide, and the smallest there is.
_SIZES = [(240, 320), (97, 131), (177, 99), (33, 65), (7, 5), (1, 1)]
_RULES = tuple(name for name in RESIZERS if name != "swscale")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """PyTorch on two threads gives other last bits, and other bytes for a few in a million."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _frame(height: int, width: int) -> Picture:
    """Noise that is blurred and over-stretched: edges, plains, and both ends of the range."""
    rng = np.random.default_rng(height * 1000 + width)
    noise = rng.integers(0, 256, (height, width, 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 1.2).reshape(noise.shape)
    return np.clip((blurred - 127) * 3 + 127, 0, 255).astype(np.uint8)


def _tensor(pixels: Picture) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def _pixels(found: torch.Tensor) -> Picture:
    return found[0].permute(1, 2, 0).numpy()


def _float(pixels: Picture, size: list[int]) -> Picture:
    found = interpolate(_tensor(pixels).float(), size=size, mode="bilinear", align_corners=False)
    return _pixels(found.round().to(torch.uint8))


def _antialias(mode: InterpolationMode) -> Callable[[Picture, list[int]], Picture]:
    return lambda p, size: _pixels(v2.resize(_tensor(p), size, interpolation=mode, antialias=True))


def _pillow(how: Image.Resampling) -> Callable[[Picture, list[int]], Picture]:
    return lambda p, size: np.asarray(Image.fromarray(p).resize(size[::-1], how))


_LINEAR, _CUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
_ORACLES: dict[Resizer, Callable[[Picture, list[int]], Picture]] = {
    "torchvision": lambda p, size: _pixels(v1.resize(_tensor(p), size, antialias=False)),
    "torchvision_antialias": _antialias(InterpolationMode.BILINEAR),
    "torchvision_antialias_bicubic": _antialias(InterpolationMode.BICUBIC),
    "torchvision_pillow": _pillow(_LINEAR),
    "torchvision_pillow_bicubic": _pillow(_CUBIC),
    "pytorchvideo": _float,
    "pyslowfast": _float,
    "pillow": _pillow(_LINEAR),
    "pillow_bicubic": _pillow(_CUBIC),
    "opencv": lambda p, size: np.asarray(cv2.resize(p, size[::-1])),
    "videomae": lambda p, size: np.asarray(cv2.resize(p, size[::-1])),
}


@pytest.mark.parametrize("stored", _SIZES)
@pytest.mark.parametrize("resizer", _RULES)
def test_pixels_are_those_of_the_package(resizer: Resizer, stored: tuple[int, int]) -> None:
    pixels = _frame(*stored)
    for wanted in ((56, 71), (64, 64), stored):
        found = resizing.resized(pixels, resizer, size=wanted)
        expected = _ORACLES[resizer](pixels, list(wanted))
        assert np.array_equal(found, expected), (wanted, (found != expected).sum())


@pytest.mark.parametrize("resizer", _RULES)
def test_the_middle_is_of_the_whole(resizer: Resizer) -> None:
    pixels = _frame(97, 131)
    whole = resizing.resized(pixels, resizer, size=(61, 82))
    box = resizing.middle_box(resizer, (61, 82), 48)
    middle = resizing.resized(pixels, resizer, size=(61, 82), middle_px=48)
    assert np.array_equal(middle, whole[box.top : box.top + 48, box.left : box.left + 48])
    assert middle.shape == (48, 48, 3)


@settings(max_examples=30)
@given(height=st.integers(1, 3000), width=st.integers(1, 3000), short=st.integers(1, 500))
def test_sizes_and_middles_are_those_of_the_packages(height: int, width: int, short: int) -> None:
    def size(resizer: Resizer) -> tuple[int, int]:
        return resizing.size_of(resizer, (short,), height=height, width=width)

    image = torch.empty((3, height, width), device="meta")
    with_torchvision = v1._compute_resized_output_size((height, width), [short])
    assert list(size("torchvision")) == with_torchvision
    assert list(size("pillow")) == with_torchvision
    assert list(size("torchvision_antialias_bicubic")) == list(
        v2.resize(image, [short], antialias=False).shape[1:]
    )
    # PyTorchVideo's short_side_scale and PySlowFast's random_short_side_scale_jitter.
    if width < height:
        theirs = (math.floor((float(height) / width) * short), short)
    else:
        theirs = (short, math.floor((float(width) / height) * short))
    assert size("pytorchvideo") == size("pyslowfast") == theirs
    # mmcv.rescale_size((w, h), (inf, short)).
    factor = short / min(height, width)
    assert size("opencv") == (int(height * factor + 0.5), int(width * factor + 0.5))
    for resizer in RESIZERS:
        assert min(size(resizer)) == short
        assert resizing.size_of(resizer, (9, 7), height=height, width=width) == (9, 7)


def test_middles_by_hand() -> None:
    rests = range(8)
    offsets = {name: [resizing.middle_offset(name, rest) for rest in rests] for name in RESIZERS}
    floor, even, ceil = [0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 1, 2, 2, 2, 3, 4], [0, 1, 1, 2, 2, 3, 3, 4]
    centred = [
        int(v1.center_crop(torch.arange(4 + rest).expand(1, 4, -1), [4, 4])[0, 0, 0])
        for rest in rests
    ]
    assert even == centred
    rounding = {"torchvision", "torchvision_pillow", "torchvision_pillow_bicubic", "pytorchvideo"}
    for name in rounding | {"videomae"}:
        assert offsets[name] == even
    assert offsets["pyslowfast"] == ceil
    others = set(RESIZERS) - {"pyslowfast"} - {n for n in RESIZERS if offsets[n] == even}
    assert all(offsets[name] == floor for name in others)
    assert len(others) == 6
