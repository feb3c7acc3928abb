"""Pictures of frames under maps, pixel by pixel where JPEG leaves them."""

import io
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidray.report.inside.overlays import blend, filmstrip, shown_frames


def pixels(data: bytes) -> NDArray[np.int64]:
    return np.asarray(Image.open(io.BytesIO(data)), np.int64)


def test_a_map_of_nothing_leaves_a_grey_frame() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    grey = np.asarray(Image.fromarray(frame).convert("L"), np.int64)
    found = blend(frame, np.zeros((8, 8), np.float32)).astype(np.int64)
    assert np.abs(found - grey[..., None]).max() <= 1


def test_the_higher_the_map_the_lighter_and_the_more_yellow() -> None:
    """In print without colours, too: viridis rises in lightness."""
    frame = np.full((1, 11, 3), 60, np.uint8)
    found = blend(frame, np.linspace(0, 1, 11, dtype=np.float32)[None])
    lightness = np.asarray(Image.fromarray(found).convert("L"), np.int64)[0]
    assert all(later > earlier for earlier, later in pairwise(lightness[3:]))
    red, green, blue = found[0, -1].astype(int)
    assert min(red, green) > blue + 80
    assert (found[0, 0] == 60).all()


def test_of_a_long_clip_the_strongest_frame_of_each_part_is_shown() -> None:
    weights = np.full(32, 0.02, np.float32)
    weights[[1, 30]] = 0.2
    shown = shown_frames(weights)
    assert len(shown) == 8
    assert {1, 30} < set(shown)
    assert [k // 4 for k in shown] == list(range(8))
    assert shown_frames(np.ones(3, np.float32)) == [0, 1, 2]


def test_each_frame_has_its_map_beside_it_and_its_bar_below() -> None:
    frames = np.full((2, 20, 20, 3), 200, np.uint8)
    maps = np.zeros((2, 4, 4), np.float32)
    maps[1, :, :2] = 1  # the left half of the second frame
    weights = np.array([0.25, 0.75], np.float32)
    first, second = filmstrip(frames, weights=weights, weights_are="of the weight", maps=maps)
    assert [first.caption, second.caption] == ["frame 1: 25 %", "frame 2: 75 %"]
    assert first.alt.startswith("frame 1 of 2, 25 % of the weight; beside it")
    drawn = pixels(second.jpeg)
    assert drawn.shape == (168, 294, 3)  # twice 84 x 147
    frame, overlay = drawn[4:140, 4:140], drawn[4:140, 154:290]
    assert np.abs(frame - 200).max() < 12
    left, right = overlay[:, :40], overlay[:, -40:]
    assert (left[..., 0] - left[..., 2] > 40).all()  # yellow
    assert np.abs(right - 200).max() < 12
    for picture, share in ((first, 1 / 3), (second, 1.0)):
        bar = pixels(picture.jpeg)[160]  # green where it is full, dark where not
        filled = (bar[:, 1] - bar[:, 2] > 60).mean()
        assert abs(filled - share) < 0.04


def test_without_weights_and_maps_there_are_the_frames() -> None:
    frames = np.full((3, 300, 300, 3), 9, np.uint8)
    made = filmstrip(frames, weights=np.zeros(3, np.float32), weights_are="", maps=None)
    assert [picture.caption for picture in made] == ["frame 1", "frame 2", "frame 3"]
    assert made[0].alt == "frame 1 of 3"
    assert pixels(made[0].jpeg).shape == (144, 144, 3)
