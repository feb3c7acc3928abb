"""The notebooks' families against the library calls that define them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import features_reference as reference
from vidray import features
from vidray.errors import UserError
from vidray.features import Family, aggregate, color, flow, notebook, shape, texture

MADE = reference.made_frames()
NOTEBOOK = features.PRESETS["notebook"]
FRAME_PARTS = (
    ("color", 0, 108),
    ("glcm", 108, 156),
    ("lbp", 156, 188),
    ("gabor", 188, 200),
    ("edge profile", 200, 216),
    ("contours", 216, 222),
    ("hog", 222, 40_938),
)


def frame_vector(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.concatenate(
        [color.describe_frame(rgb), texture.describe_frame(rgb), shape.describe_frame(rgb)]
    )


def check_frame(rgb: NDArray[np.uint8]) -> None:
    found, expected = frame_vector(rgb), reference.frame_vector(rgb)
    for name, begin, end in FRAME_PARTS:
        error = reference.worst_error(found[begin:end], expected[begin:end])
        assert error <= 1e-4, f"{name} is off by {error}"


@pytest.mark.parametrize("name", MADE)
def test_frame_numbers_are_the_librarys_on_made_frames(name: str) -> None:
    check_frame(MADE[name])


@pytest.mark.shared
def test_frame_numbers_are_the_librarys_on_real_frames() -> None:
    for rgb in reference.real_frames()[::2]:
        check_frame(rgb)


def some_frames(count: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(3)
    base = MADE["gradient"].astype(np.int16)
    noise = rng.integers(-20, 21, (count, *base.shape))
    return np.clip(base + noise, 0, 255).astype(np.uint8)


@pytest.mark.slow
def test_video_vector_is_the_notebooks() -> None:
    frames = some_frames(3)
    found = features.describe({"frames": (frames,)}, NOTEBOOK)
    vector = notebook.vector(found)
    assert vector.shape == (163_828,)
    assert vector.dtype == np.float32
    frame_vectors = np.stack([reference.frame_vector(frame) for frame in frames])
    changes = np.abs(np.diff(frame_vectors, axis=0)).mean(axis=1)
    expected = np.concatenate(
        [
            frame_vectors.mean(axis=0),
            frame_vectors.std(axis=0),
            frame_vectors.min(axis=0),
            frame_vectors.max(axis=0),
            [changes.mean(), changes.std(), changes.min(), changes.max()],
        ]
    )
    assert reference.worst_error(vector[: len(expected)], expected) <= 1e-4
    assert np.array_equal(vector[len(expected) :], found["motion"])


def test_families_alone_and_together_are_equal() -> None:
    frames = some_frames(2)
    together = features.describe({"frames": (frames,)}, NOTEBOOK)
    assert list(together) == list(NOTEBOOK)
    for name in NOTEBOOK:
        family = features.FAMILIES[name]
        alone = family(frames)
        assert np.array_equal(alone, together[name])
        assert alone.shape == (family.length,)
        assert sum(length for _, length in family.parts) == family.length


def test_some_families_are_as_among_all() -> None:
    frames = some_frames(2)
    together = features.describe({"frames": (frames,)}, ("temporal", "motion", "color"))
    assert list(together) == ["temporal", "motion", "color"]
    for name, vector in together.items():
        assert np.array_equal(vector, features.FAMILIES[name](frames))


def test_one_frame_has_no_change() -> None:
    found = features.describe({"frames": (some_frames(1),)}, NOTEBOOK)
    assert np.isnan(found["temporal"]).all()
    assert np.isnan(found["motion"]).all()
    assert np.isfinite(found["color"]).all()
    deviations = found["texture"].reshape(4, -1)[1]
    assert not deviations.any()


def test_skewness_of_one_value_is_missing_as_in_scipy() -> None:
    numbers = color.describe_frame(MADE["flat"])
    assert list(np.flatnonzero(np.isnan(numbers))) == [98, 101, 104]
    frames = np.stack([MADE["flat"], MADE["noise"]])
    found = features.describe({"frames": (frames,)}, ("color", "temporal"))
    assert np.isnan(found["color"].reshape(4, 108)[:, [98, 101, 104]]).all()
    assert np.isnan(found["temporal"]).all()


def test_material_that_is_not_there_leaves_its_families_out() -> None:
    assert features.describe({}, NOTEBOOK) == {}


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 480, 640, 3), np.uint8),
        np.zeros((2, 240, 320, 3), np.float32),
        np.zeros((240, 320, 3), np.uint8),
        np.zeros((0, 240, 320, 3), np.uint8),
    ],
)
@pytest.mark.parametrize("name", NOTEBOOK)
def test_other_frames_are_refused(name: str, frames: NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match=r"\(T, 240, 320, 3\).*resize"):
        features.FAMILIES[name](frames)


def test_shape_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"640x480.*320x240"):
        shape.describe_frame(np.zeros((480, 640, 3), np.uint8))


def test_unknown_family_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean texture"):
        features.describe({"frames": (some_frames(1),)}, ("textur",))


def test_incomplete_notebook_vector_is_refused() -> None:
    with pytest.raises(UserError, match="no temporal, motion"):
        notebook.vector({name: np.zeros(4, np.float32) for name in NOTEBOOK[:3]})


def test_column_names_name_every_number() -> None:
    names = features.column_names("color")
    assert len(names) == len(set(names)) == 432
    assert names[0] == "rgb_histograms_mean[0]"
    assert names[108] == "rgb_histograms_std[0]"


def test_family_checks_its_parts_and_its_result() -> None:
    def describe(material: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.zeros(len(material), np.float32)

    with pytest.raises(ValueError, match="must differ"):
        Family(looks_at="frames", describe=describe, parts=(("a", 1), ("a", 1)))
    family = Family(looks_at="frames", describe=describe, parts=(("a", 1), ("b", 2)))
    assert family.length == 3
    assert family(np.zeros(3, np.uint8)).shape == (3,)
    with pytest.raises(ValueError, match=r"float32 \(3,\)"):
        family(np.zeros(4, np.uint8))


def test_running_statistics_keep_small_spreads_beside_large_means() -> None:
    rng = np.random.default_rng(1)
    vectors = 1e6 + 1e-3 * rng.standard_normal((50, 7))
    running = aggregate.RunningStatistics(7)
    for vector in vectors:
        running.add(vector)
    expected = np.concatenate([f(vectors, axis=0) for f in (np.mean, np.std, np.min, np.max)])
    np.testing.assert_allclose(running.result(), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="at least one"):
        aggregate.RunningStatistics(7).result()


@pytest.mark.parametrize("preset", features.PRESETS)
def test_presets_name_families(preset: str) -> None:
    names = features.PRESETS[preset]
    assert len(set(names)) == len(names)
    for name in names:
        assert features.get_family(name) is features.FAMILIES[name]


def test_families_of_other_material_are_described_by_themselves() -> None:
    rng = np.random.default_rng(10)
    bursts = rng.integers(0, 256, (2, 4, 120, 160, 3), dtype=np.uint8)
    noise = rng.standard_normal(32_000).astype(np.float32)
    times = np.arange(8).reshape(2, 4) / 25
    found = features.describe(
        {"frames": (some_frames(1),), flow.BURSTS: (bursts, times), "sound": (noise,)},
        ("audio", "color", "flow"),
    )
    assert list(found) == ["audio", "color", "flow"]
    assert np.array_equal(found["flow"], features.FAMILIES["flow"](bursts, times), equal_nan=True)
    assert np.array_equal(found["audio"], features.FAMILIES["audio"](noise), equal_nan=True)
