"""Enhancement: OpenCV's denoiser on the right channels, the unsharp mask, and the compiled way."""

import importlib.util
from collections.abc import Iterable

import cv2
import numpy as np
import pytest
import scipy.ndimage
from numpy.typing import NDArray

from tests import features_reference as reference
from vidray.video import enhance, quality


def noisy_frame() -> NDArray[np.uint8]:
    rng = np.random.default_rng(11)
    frame = reference.made_frames()["gradient"].astype(np.float64)
    frame[60:120, 80:160] = (200, 40, 90)
    return np.clip(frame + rng.normal(0, 4, frame.shape), 0, 255).astype(np.uint8)


@pytest.mark.slow
def test_enhanced_is_denoised_in_the_right_order_of_channels_then_sharpened() -> None:
    frame = noisy_frame()
    bgr = np.ascontiguousarray(frame[..., ::-1])
    denoised = cv2.fastNlMeansDenoisingColored(bgr, None, 5, 5, 7, 21)[..., ::-1]
    assert np.array_equal(enhance.denoise(frame), denoised)
    assert np.array_equal(enhance.enhance(frame), enhance.sharpen(denoised.copy()))


def test_sharpened_is_the_frame_and_half_of_what_a_blur_takes_away() -> None:
    frame = noisy_frame()
    blurred = scipy.ndimage.gaussian_filter(
        frame.astype(np.float64), (1, 1, 0), mode="mirror", truncate=3
    )
    expected = np.clip(1.5 * frame - 0.5 * blurred, 0, 255)
    # The blur is rounded to whole levels before it is taken away.
    assert np.abs(enhance.sharpen(frame) - expected).max() <= 1


def test_denoising_takes_noise_away() -> None:
    frame = noisy_frame()
    flat = (slice(70, 110), slice(90, 150))
    assert enhance.denoise(frame)[flat].std(axis=(0, 1)).max() < 2
    assert frame[flat].std(axis=(0, 1)).min() > 3


def test_calls_for_enhancement_by_its_quality_numbers() -> None:
    rng = np.random.default_rng(12)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (240, 320)).astype(np.float32), (0, 0), 1.5)
    texture = (texture - texture.mean()) * (40 / texture.std()) + 128
    clean = np.repeat(np.clip(texture, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    blurred = cv2.GaussianBlur(clean, (0, 0), 8)
    noisy = np.clip(clean + rng.normal(0, 30, clean.shape), 0, 255).astype(np.uint8)
    asked = [
        quality.calls_for_enhancement(quality.measure_frame(frame))
        for frame in (clean, blurred, noisy)
    ]
    assert asked == [False, True, True]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
def test_compiled_denoising_is_opencvs_to_the_bit() -> None:
    frames = [*reference.made_frames().values(), noisy_frame()]
    check_denoising([*frames, noisy_frame()[:97, :131].copy(), noisy_frame()[:9, :11].copy()])


@pytest.mark.shared
@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
def test_compiled_denoising_is_opencvs_to_the_bit_on_real_frames() -> None:
    check_denoising(reference.real_frames()[:2])


def check_denoising(frames: Iterable[NDArray[np.uint8]]) -> None:
    for frame in frames:
        assert np.array_equal(enhance._denoise_compiled(frame), enhance._denoise_opencv(frame))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
def test_denoising_goes_over_to_the_compiled_way_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = noisy_frame()[:33, :40].copy()
    expected = enhance._denoise_opencv(frame)
    monkeypatch.setattr(enhance, "_FRAMES_BEFORE_COMPILING", 0)
    assert np.array_equal(enhance.denoise(frame), expected)
    assert enhance._non_local_means.cache_info().currsize == 1
