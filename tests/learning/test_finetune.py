"""Eight clips are learnt by heart with the defaults, and weights of other motions make it quick."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.finetune import AXES, BEFORE, DIAGONALS, Lesson, pretrained, steps
from vidray.learning.hyperparameters import Training
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


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("model", ["r3d_18", "s3d"])
def test_weights_of_other_directions_make_it_quick(model: str, tmp_path: Path) -> None:
    """From a checkpoint of the axes, the diagonals take a third of the steps, or less."""
    clips, labels = drifting_clips(AXES, clips_each=4, frames=8, size_px=32, seed=7)
    axes = Lesson(model=model, clips=clips, labels=labels, training=Training(epochs=40))
    weights = pretrained(axes, tmp_path)
    clips, labels = drifting_clips(DIAGONALS, clips_each=4, frames=8, size_px=32, seed=2)
    other = Lesson(model=model, clips=clips, labels=labels, training=Training(epochs=30))
    from_noise, from_weights = steps(other.learn()), steps(replace(other, weights=weights).learn())
    assert from_weights is not None
    assert from_noise is None or 3 * from_weights <= from_noise
