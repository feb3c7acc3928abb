"""Eight clips are learnt by heart with the defaults, and weights of other motions make it quick."""

from dataclasses import replace

import numpy as np
import pytest

from bench.finetune import (
    AXES,
    BEFORE,
    DIAGONALS,
    EPOCHS,
    STEPS,
    Lesson,
    PartLoader,
    mirrored,
    steps,
    transfer,
)
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.models.preprocess import Preprocessing
from vidray.video.synthetic import drifting_clips

MODELS = ("r3d_18", "s3d", "x3d_s", "timesformer_space", "videomae_small")


def lesson(model: str, degrees: tuple[int, ...], **settings: int) -> Lesson:
    """Two clips of each direction; the network sees all eight in a step."""
    clips, labels = drifting_clips(degrees, clips_each=2, frames=8, size_px=32, seed=2)
    return Lesson(model=model, clips=clips, labels=labels, training=Training(**settings))


def test_clips_by_direction_differ_in_motion_alone() -> None:
    clips, labels = drifting_clips((0, 90), clips_each=2, frames=3, size_px=24)
    assert clips.shape == (4, 3, 24, 24, 3)
    assert labels.tolist() == [0, 1, 0, 1]
    again, _ = drifting_clips((0, 90), clips_each=2, frames=3, size_px=24)
    assert (again == clips).all()
    # Colours of a scene are those of its other directions, whatever moves there.
    colours = clips.mean(axis=(1, 2, 3))
    assert abs(colours[0] - colours[1]).max() < 12


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("model", MODELS)
def test_eight_clips_are_known_by_heart(model: str) -> None:
    found = steps(lesson(model, DIAGONALS, epochs=60).learn())
    assert found is not None
    assert found <= 40


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_s3d_does_not_learn_them_as_it_was_trained_before() -> None:
    """The statistics by which it is judged still hold those it began with."""
    one = lesson("s3d", DIAGONALS)
    before = replace(one, training=replace(BEFORE, epochs=12), is_fresh=False, stops=False)
    rows = before.learn()
    assert rows[-1].train_accuracy == 1.0
    assert steps(rows) is None


@pytest.mark.parametrize("degrees", [AXES, DIAGONALS])
def test_a_mirrored_clip_has_the_direction_that_it_shows(degrees: tuple[int, ...]) -> None:
    """Told by a single bright pixel that moves one pixel a frame."""
    ways = np.array([[round(np.cos(a) * 1.4), round(np.sin(a) * 1.4)] for a in np.deg2rad(degrees)])
    clips = np.zeros((4, 2, 9, 9, 3), np.uint8)
    for clip, (right, down) in zip(clips, ways, strict=True):
        clip[0, 4, 4] = clip[1, 4 + down, 4 + right] = 255
    found, labels = mirrored(clips, np.arange(4), degrees)
    assert len(found) == len(labels) == 16
    for clip, label in zip(found, labels, strict=True):
        (_, begin_y, begin_x), (_, end_y, end_x) = np.argwhere(clip[..., 0])
        assert (end_x - begin_x, end_y - begin_y) == tuple(ways[label])


def test_parts_of_a_pass_are_the_pass_in_its_order() -> None:
    def loader(parts: int) -> PartLoader:
        return PartLoader(
            read=lambda rows: rows, labels=np.arange(24) % 4, num_classes=4, parts=parts,
            preprocessing=Preprocessing(num_frames=2, size_px=8, mean=(0,) * 3, std=(1,) * 3),
            augmentation=Augmentation.none(), batch_size=4, seed=3,
        )  # fmt: skip

    whole, thirds = loader(1), loader(3)
    assert (whole.steps_per_epoch, thirds.steps_per_epoch) == (6, 2)
    for epoch in (0, 1):
        expected = np.concatenate(whole.batches(epoch)).tolist()
        parts = [batch for part in range(3) for batch in thirds.batches(3 * epoch + part)]
        assert np.concatenate(parts).tolist() == expected
        assert sorted(expected) == list(range(24))


@pytest.mark.gpu  # On one core of a CPU it takes six minutes.
@pytest.mark.slow
@pytest.mark.parametrize("model", ["r3d_18"])
def test_weights_of_other_directions_make_it_quick(model: str) -> None:
    """Held-out diagonals are known in half the steps from weights that know held-out axes.

    The axes are learnt from noise, so the clips are no harder than noise can learn.
    """
    from_noise, for_axes, from_weights = transfer(model, seed=0, device="cuda")
    assert for_axes is not None
    assert from_weights is not None
    assert 2 * from_weights <= (from_noise or STEPS * EPOCHS)
