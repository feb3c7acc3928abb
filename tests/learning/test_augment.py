"""Augmentation: one draw for all frames, each change measured, nothing drawn from elsewhere."""

import colorsys
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vidray.errors import UserError
from vidray.learning.augment import augment, mix
from vidray.learning.hyperparameters import Augmentation
from vidray.models.preprocess import IMAGENET, Preprocessing

STRONG = Augmentation(
    temporal_jitter=0.7,
    scale=(0.2, 1.0),
    aspect=(0.5, 2.0),
    rotation_degrees=40.0,
    brightness=0.5,
    contrast=0.5,
    saturation=0.5,
    hue_degrees=60.0,
)


def only(**values: Any) -> Augmentation:
    """One change, and nothing else."""
    return dataclasses.replace(Augmentation.none(), **values)


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(side: int) -> NDArray[np.uint8]:
    """uint8 (side, side, 3): red grows to the right, green downwards, blue is 100."""
    ramp = np.linspace(20, 235, side)
    frame = np.empty((side, side, 3))
    frame[..., 0], frame[..., 1], frame[..., 2] = ramp, ramp[:, None], 100
    return np.rint(frame).astype(np.uint8)


def view(
    clip: NDArray[np.uint8],
    augmentation: Augmentation,
    *,
    seed: int = 0,
    frames: int | None = None,
    px: int | None = None,
    stride: int | None = None,
) -> NDArray[np.uint8]:
    return augment(
        clip,
        out_frames=frames or len(clip),
        out_px=px or clip.shape[1],
        augmentation=augmentation,
        rng=np.random.default_rng(seed),
        stride=stride,
    )


@pytest.mark.parametrize(
    ("shape", "frames", "px"),
    [((8, 20, 20), 8, 20), ((9, 40, 40), 4, 16), ((3, 16, 16), 7, 24), ((8, 21, 32), 5, 17)],
)
def test_nothing_on_is_select(shape: tuple[int, int, int], frames: int, px: int) -> None:
    clip = noise(*shape, 3)
    mean, std = IMAGENET
    preprocessing = Preprocessing(num_frames=frames, size_px=px, mean=mean, std=std)
    got = view(clip, Augmentation.none(), frames=frames, px=px)
    np.testing.assert_array_equal(got, preprocessing.select(clip[None])[0])


@given(
    seed=st.integers(0, 2**32),
    frames=st.integers(1, 9),
    px=st.integers(1, 33),
    stored=st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40)),
)
def test_a_still_clip_stays_still(
    seed: int, frames: int, px: int, stored: tuple[int, int, int]
) -> None:
    count, height, width = stored
    clip = np.repeat(noise(1, height, width, 3, seed=seed % 7), count, axis=0)
    got = view(clip, STRONG, seed=seed, frames=frames, px=px)
    assert got.shape == (frames, px, px, 3)
    assert got.dtype == np.uint8
    assert (got == got[0]).all()


@pytest.mark.parametrize("seed", range(5))
def test_every_frame_is_changed_alike(seed: int) -> None:
    # Frames alone, with the same draw, give what they give among others.
    clip = noise(6, 24, 24, 3)
    still = dataclasses.replace(STRONG, temporal_jitter=0.0)
    together = view(clip, still, seed=seed, px=20)
    for index in range(6):
        alone = view(clip[index : index + 1], still, seed=seed, px=20)
        np.testing.assert_array_equal(together[index], alone[0])


def test_the_generator_alone_decides() -> None:
    clip = noise(4, 24, 24, 3)
    first, again, other = (view(clip, STRONG, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_is_switched_off_moves_no_other_draw() -> None:
    # The same frames are picked, whether colours change or not.
    clip = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    with_flip = view(clip, only(temporal_jitter=0.8, flip=1.0), seed=3, frames=8)
    without = view(clip, only(temporal_jitter=0.8), seed=3, frames=8)
    np.testing.assert_array_equal(with_flip, without)


def test_the_clip_given_is_not_written_to() -> None:
    clip = noise(4, 24, 24, 3)
    clip.setflags(write=False)
    view(clip, STRONG)
    view(clip, Augmentation.none())


def test_a_stretch_of_time_in_order() -> None:
    # Frame k shows k.
    clip = np.arange(100, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    begins, lengths = [], []
    for seed in range(200):
        shown = view(clip, only(temporal_jitter=0.5), seed=seed, frames=10)[:, 0, 0, 0].astype(int)
        steps = np.diff(shown)
        assert (steps >= 4).all()  # half of the time at the least: 5 frames a step
        assert (steps <= 10).all()
        assert steps.max() - steps.min() <= 1
        begins.append(shown[0])
        lengths.append(steps.mean() * 10)
    assert min(lengths) < 55
    assert max(lengths) > 95
    assert min(begins) < 5
    assert max(begins) > 40


def test_frames_a_stride_apart_begin_anywhere() -> None:
    # Frame k shows k.
    clip = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    begins = []
    for seed in range(200):
        shown = view(clip, only(temporal_jitter=0.2), seed=seed, frames=4, stride=3)[:, 0, 0, 0]
        assert (np.diff(shown.astype(int)) == 3).all()
        begins.append(int(shown[0]))
    assert set(begins) == set(range(11))
    still = view(clip, Augmentation.none(), frames=4, stride=3)[:, 0, 0, 0]
    assert still.tolist() == [5, 8, 11, 14]


def test_flip_is_a_mirror() -> None:
    clip = noise(3, 16, 16, 3)
    np.testing.assert_array_equal(view(clip, only(flip=1.0)), clip[:, :, ::-1])
    flipped = [
        np.array_equal(view(clip, only(flip=0.3), seed=seed), clip[:, :, ::-1])
        for seed in range(300)
    ]
    assert 60 < sum(flipped) < 120  # 90 expected, 4 standard deviations


def test_crops_have_the_area_and_the_aspect_asked_for() -> None:
    # Red and green are coordinates: the range that is left tells the crop.
    clip = smooth(200)[None]
    per_px = 215 / 199
    areas, aspects = [], []
    for seed in range(200):
        got = view(clip, only(scale=(0.3, 0.6), aspect=(0.8, 1.25)), seed=seed, px=40)[0]
        # First and last pixel are half an output pixel inside of either edge.
        width = np.ptp(got[..., 0].astype(int)) / per_px * 40 / 39
        height = np.ptp(got[..., 1].astype(int)) / per_px * 40 / 39
        areas.append(width * height / 200**2)
        aspects.append(width / height)
        assert (np.diff(got[0, :, 0].astype(int)) >= 0).all()  # not mirrored
    assert 0.28 < min(areas) < 0.33
    assert 0.57 < max(areas) < 0.62
    assert 0.77 < min(aspects) < 0.85
    assert 1.18 < max(aspects) < 1.29


def test_crops_go_everywhere() -> None:
    clip = smooth(100)[None]
    middles = np.array(
        [
            view(clip, only(scale=(0.25, 0.25)), seed=seed, px=20)[0, ..., :2].mean(axis=(0, 1))
            for seed in range(200)
        ]
    )  # (200, 2), where 20 to 235 is the frame: middles lie between 73.75 and 181.25
    assert (middles.min(axis=0) < 78).all()
    assert (middles.max(axis=0) > 177).all()
    assert (middles > 72).all()
    assert (middles < 183).all()


def test_a_crop_that_shrinks_skips_no_pixel() -> None:
    # A chess board of single pixels is gray from afar; looking up four neighbours would find
    # black and white in it.
    board = (np.indices((128, 128)).sum(axis=0) % 2 * 255).astype(np.uint8)
    clip = np.repeat(board[None, ..., None], 3, axis=-1)
    got = view(clip, only(rotation_degrees=30.0), seed=1, px=16)[0].astype(int)
    assert np.abs(got - 127.5).max() < 12


@pytest.mark.parametrize("seed", range(8))
def test_rotation_turns_about_the_middle(seed: int) -> None:
    clip = smooth(101)[None]
    got = view(clip, only(rotation_degrees=30.0), seed=seed)[0].astype(float)
    assert np.abs(got[50, 50] - clip[0, 50, 50]).max() <= 1
    # The gradient of red, as seen now, tells the angle.
    right, down = got[50, 70, 0] - got[50, 30, 0], got[70, 50, 0] - got[30, 50, 0]
    assert math.hypot(right, down) == pytest.approx(40 * 215 / 100, abs=3)
    assert abs(math.degrees(math.atan2(down, right))) <= 31


def test_rotation_goes_both_ways() -> None:
    clip = smooth(51)[None]
    turned = [
        view(clip, only(rotation_degrees=30.0), seed=seed)[0].astype(int)[[35, 15], 25, 0]
        for seed in range(50)
    ]
    signs = [np.sign(below - above) for below, above in turned]
    assert 10 < signs.count(1) < 40


def colours_seen(colour: tuple[int, int, int], augmentation: Augmentation) -> NDArray[np.int64]:
    """int64 (200, 3): a clip of one colour, in 200 views."""
    clip = np.full((1, 2, 2, 3), colour, np.uint8)
    return np.stack(
        [view(clip, augmentation, seed=seed)[0, 0, 0].astype(np.int64) for seed in range(200)]
    )


def test_brightness_scales() -> None:
    seen = colours_seen((50, 100, 0), only(brightness=0.5))
    assert np.abs(seen[:, 1] - 2 * seen[:, 0]).max() <= 2
    assert (seen[:, 2] == 0).all()
    assert 50 <= seen[:, 1].min() < 55
    assert 145 < seen[:, 1].max() <= 150


def test_contrast_keeps_mid_gray() -> None:
    seen = colours_seen((127, 27, 227), only(contrast=0.5))
    assert np.abs(seen[:, 0] - 127).max() <= 1
    assert np.abs((127 - seen[:, 1]) - (seen[:, 2] - 127)).max() <= 3
    assert 50 <= 127 - seen[:, 1].max() < 56
    assert seen[:, 1].min() == 0  # clipped, not wrapped around


def test_saturation_keeps_luma() -> None:
    seen = colours_seen((160, 100, 60), only(saturation=0.5))
    luma = seen @ np.array([0.299, 0.587, 0.114])
    assert np.abs(luma - (0.299 * 160 + 0.587 * 100 + 0.114 * 60)).max() <= 1
    spread = np.ptp(seen, axis=1)
    assert 49 <= spread.min() < 55
    assert 145 < spread.max() <= 151
    assert (colours_seen((90, 90, 90), only(saturation=0.5)) == 90).all()


def test_hue_turns_the_colour_circle() -> None:
    seen = colours_seen((160, 100, 100), only(hue_degrees=60.0))
    hues = np.array([(360 * colorsys.rgb_to_hsv(*colour)[0] + 180) % 360 - 180 for colour in seen])
    assert -62 < hues.min() < -50
    assert 50 < hues.max() < 62
    assert np.abs(seen.sum(axis=1) - 360).max() <= 2
    assert (colours_seen((90, 90, 90), only(hue_degrees=60.0)) == 90).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temporal_jitter": 1.0}, "temporal_jitter is 1.0"),
        ({"brightness": -0.1}, "brightness is -0.1"),
        ({"contrast": math.nan}, "contrast is nan"),
        ({"flip": 1.1}, "probability"),
        ({"rotation_degrees": -5.0}, "rotation_degrees is -5.0"),
        ({"scale": (0.0, 1.0)}, "scale is"),
        ({"scale": (1.0, 0.5)}, "lesser first"),
        ({"aspect": (0.0, 1.0)}, "aspect is"),
        ({"aspect": (1.0, math.inf)}, "aspect is"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Augmentation(**values)


def test_other_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match=r"float64 \(2, 4, 4, 3\)"):
        view(np.zeros((2, 4, 4, 3)), STRONG)  # type: ignore[arg-type]


# mixing

ONE, TWO = np.array([1, 0, 0], np.float32), np.array([0, 0, 1], np.float32)


def mixed(
    clip: NDArray[np.uint8], partner: NDArray[np.uint8], seed: int, **alphas: float
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    settings = {"mixup_alpha": 0.0, "cutmix_alpha": 0.0, **alphas}
    return mix(clip, partner, ONE, TWO, rng=np.random.default_rng(seed), **settings)


def test_mix_off_changes_nothing() -> None:
    clip, partner = noise(2, 4, 4, 3), noise(2, 4, 4, 3, seed=1)
    got, target = mixed(clip, partner, 0)
    np.testing.assert_array_equal(got, clip)
    np.testing.assert_array_equal(target, ONE)


@pytest.mark.parametrize("seed", range(10))
def test_mixup_blends_as_the_target_says(seed: int) -> None:
    clip, partner = noise(3, 9, 11, 3), noise(3, 9, 11, 3, seed=1)
    got, target = mixed(clip, partner, seed, mixup_alpha=1.0)
    assert got.dtype == np.uint8
    assert target.dtype == np.float32
    assert target.sum() == pytest.approx(1)
    expected = target[0] * clip.astype(float) + target[2] * partner.astype(float)
    assert np.abs(got - expected).max() <= 0.51
    assert clip.tobytes() == noise(3, 9, 11, 3).tobytes()


@given(seed=st.integers(0, 2**32), height=st.integers(1, 30), width=st.integers(1, 30))
def test_cutmix_target_is_the_area_that_is_seen(seed: int, height: int, width: int) -> None:
    clip = np.zeros((3, height, width, 3), np.uint8)
    partner = np.full_like(clip, 255)
    got, target = mixed(clip, partner, seed, cutmix_alpha=1.0)
    share = (got == 255).mean()
    np.testing.assert_allclose(target, [1 - share, 0, share], atol=1e-6)
    assert (got == got[0]).all()  # the same box in every frame
    box = np.argwhere(got[0, ..., 0])
    if len(box):  # it is one box
        sides = np.ptp(box, axis=0) + 1
        assert sides.prod() == len(box)


def test_cutmix_keeps_places() -> None:
    clip, partner = noise(3, 20, 20, 3), noise(3, 20, 20, 3, seed=1)
    got, _ = mixed(clip, partner, 1, cutmix_alpha=1.0)
    assert ((got == clip) | (got == partner)).all()
    assert not (got == clip).all()


def test_shares_follow_beta() -> None:
    clip = np.zeros((1, 200, 200, 3), np.uint8)
    drawn = [mixed(clip, clip, seed, mixup_alpha=0.4)[1][0] for seed in range(2000)]
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.03)
    assert np.var(drawn) == pytest.approx(1 / (4 * 1.8), abs=0.01)


def test_both_on_takes_either() -> None:
    clip = np.zeros((1, 20, 20, 3), np.uint8)
    partner = np.full_like(clip, 255)
    cut = [
        set(np.unique(mixed(clip, partner, seed, mixup_alpha=1.0, cutmix_alpha=1.0)[0])) <= {0, 255}
        for seed in range(200)
    ]
    assert 60 < sum(cut) < 140


def test_clips_of_two_shapes_do_not_mix() -> None:
    with pytest.raises(ValueError, match="can't mix"):
        mixed(noise(2, 4, 4, 3), noise(3, 4, 4, 3), 0, mixup_alpha=1.0)
