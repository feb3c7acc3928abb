"""Clips to calibrate and compare on: drawn alike each time, of the right split, or made."""

import dataclasses

import numpy as np
import pytest

from tests import made_runs
from vidray.errors import UserError
from vidray.export import samples
from vidray.models.folder import DeepModel
from vidray.video.clips import ClipSettings


def test_clips_of_a_split_are_of_it_and_the_same_each_time(
    network: DeepModel, clips_dir: str
) -> None:
    examples = samples.of_run(network, clips_dir)
    for split, number in (("train", 5), ("val", 3)):
        some, again = (samples.of_split(examples, split, number) for _ in range(2))
        assert len(some) == number
        assert some.examples is not None
        assert again.examples is not None
        assert set(some.examples.table["split"].to_pylist()) == {split}
        assert some.examples.table.equals(again.examples.table)
        np.testing.assert_array_equal(some.clip(1), again.clip(1))
        assert some.clip(1).shape == (1, 2, 32, 32, 3)
    every = samples.of_split(examples, "val", 10_000)
    assert every.examples is not None
    assert len(every) == examples.table["split"].to_pylist().count("val")


def test_clips_cut_otherwise_are_refused(network: DeepModel, clips_dir: str) -> None:
    other = dataclasses.replace(network, clip=ClipSettings(frames_per_clip=4, size_px=32))
    with pytest.raises(UserError, match="frames_per_clip is 2, the model's 4"):
        samples.of_run(other, clips_dir)


def test_a_split_without_clips_is_one_line(network: DeepModel, tmp_path: object) -> None:
    rows = [{**row, "split": "train"} for row in made_runs.videos(8)]
    run = made_runs.clips_run(tmp_path / "r", frames=2, size_px=32, rows=rows)  # type: ignore[operator]
    with pytest.raises(UserError, match="no labelled clip in split val"):
        samples.of_split(samples.of_run(network, str(run)), "val", 5)


def test_made_clips_differ_and_are_the_same_each_time(network: DeepModel) -> None:
    some, again = samples.made(network, 200), samples.made(network, 200)
    assert some.made is not None
    assert 10 <= len(some) < 200
    np.testing.assert_array_equal(some.made, again.made)
    assert len({one.tobytes() for one in some.made}) == len(some)
    moving = [k for k in range(len(some)) if (some.made[k, 0] != some.made[k, -1]).any()]
    assert len(moving) > len(some) / 2
