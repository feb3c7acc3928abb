"""Weights are fed as they were trained, or it is said that they are not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.made_runs import clips_run
from vidray.learning import as_trained
from vidray.learning.augment import augment
from vidray.learning.deep_job import DeepJob, make_job, model_info
from vidray.learning.examples import Examples, read_clips
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.train_config import DeepSettings, LearningSettings
from vidray.models import recipes
from vidray.models.preprocess import IMAGENET, KINETICS, Preprocessing, dataset_statistics
from vidray.models.trained_on import recipe_of
from vidray.video.clips import ClipSettings

_R3D = recipes.recipe_of("r3d_18", "torchvision")
assert _R3D is not None


def _job(model: str, examples: Examples, **deep: Any) -> DeepJob:
    return make_job(
        model,
        examples,
        examples.class_names,
        deep=DeepSettings(**deep),
        training=Training(),
        augmentation=Augmentation.none(),
    )


@pytest.fixture(scope="module")
def squashed(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return read_clips(str(clips_run(tmp_path_factory.mktemp("a") / "clips", 8)))


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """As torchvision's r3d_18 was trained."""
    assert _R3D is not None
    values = _R3D.clip()
    frames, size_px = values.pop("frames_per_clip"), values.pop("size_px")
    folder = tmp_path_factory.mktemp("b") / "clips"
    run = clips_run(folder, 8, frames=frames, size_px=size_px, source="/videos", **values)
    return read_clips(str(run))


def test_colours_are_those_of_the_weights(squashed: Examples) -> None:
    def colours(model: str, **deep: Any) -> Any:
        return as_trained.colours(model, DeepSettings(**deep), squashed)

    assert colours("mvit_v2_s") == KINETICS  # Fresh, as ever.
    assert colours("mvit_v2_s", weights="default") == recipes.GRAY
    assert colours("resnet18_avg", weights="default") == IMAGENET
    assert colours("resnet18_avg", weights="default", normalise="kinetics") == KINETICS
    assert colours("mvit_v2_s", normalise="imagenet") == IMAGENET
    clips = squashed.clips
    assert clips is not None
    rows = squashed.of_split("train").table["row"].to_numpy()
    measured = dataset_statistics([clips.read(rows)])
    assert colours("mvit_v2_s", weights="default", normalise="dataset") == measured


def test_nothing_is_said_of_clips_that_are_right(cut: Examples, squashed: Examples) -> None:
    assert as_trained.notes("r3d_18", DeepSettings(weights="default"), cut) == []
    assert as_trained.notes("r3d_18", DeepSettings(), squashed) == []
    assert as_trained.notes("c3d", DeepSettings(normalise="imagenet"), squashed) == []


def test_what_is_fed_otherwise_is_said_with_the_command(cut: Examples, squashed: Examples) -> None:
    deep = DeepSettings(weights="default", normalise="imagenet")
    colours, clips = as_trained.notes("r3d_18", deep, squashed)
    assert colours == (
        "the weights of r3d_18 were trained with mean 0.4322 0.3947 0.3765 and deviation "
        "0.228 0.2215 0.217: leave --normalise imagenet out to feed them so"
    )
    assert clips == (
        "the weights of r3d_18 were trained on 16 frames at 15 a second, 128 171 px cut to 112 "
        "(torchvision), and these clips have frames_per_clip 4, clip_seconds None, size_px 32, "
        "fit squash; to cut them so: python jobs/clips.py --videos x --out RUN --model r3d_18"
    )
    (said,) = as_trained.notes("mvit_v2_s", DeepSettings(weights="default"), cut)
    assert "clip_seconds 1.067, size_px 112, resize_px 128 171; to cut" in said
    (said,) = as_trained.notes("r3d_18", DeepSettings(weights="default", crop_px=96), cut)
    assert "these clips have size_px 96; to cut" in said


def test_jobs_of_before_are_what_they_were(squashed: Examples) -> None:
    job = _job("r3d_18", squashed)
    values = job.to_json()
    assert "cut" not in values["preprocessing"]
    sent = DeepJob.from_json(json.loads(json.dumps(values)))
    assert sent.preprocessing == job.preprocessing
    deciding = LearningSettings().deciding_deep()
    assert deciding["normalise"] == "kinetics"
    default = LearningSettings(deep=DeepSettings(weights="default"))
    assert default.deciding_deep()["normalise"] is None


def test_larger_clips_of_a_recipe_are_cut_and_others_resized(tmp_path: Path) -> None:
    for fit, more in (("resize_crop", {"resize_px": (40,)}), ("crop", {})):
        folder = clips_run(tmp_path / fit, 8, size_px=36, fit=fit, **more)
        examples = read_clips(str(folder))
        job = _job("r3d_18", examples, crop_px=32)
        assert job.preprocessing.cut is (fit == "resize_crop")
        info = json.loads(json.dumps(model_info(job, examples)))
        assert Preprocessing.from_json(info["preprocessing"]) == job.preprocessing
        assert not _job("r3d_18", examples).preprocessing.cut
        assert examples.clips is not None
        stored = examples.clips.read(np.arange(1))
        selected = job.preprocessing.select(stored)
        assert np.array_equal(selected, stored[:, :, 2:34, 2:34]) is (fit == "resize_crop")


def _crops(augmentation: Augmentation, *, number: int) -> list[np.ndarray]:
    """Views of a clip whose pixels say where they are: red is the row, green the column."""
    rows, columns = np.mgrid[:40, :40].astype(np.uint8) * 5
    clip = np.stack([rows, columns, np.zeros_like(rows)], axis=-1)[None].repeat(2, axis=0)
    return [
        augment(
            clip,
            out_frames=2,
            out_px=32,
            augmentation=augmentation,
            rng=np.random.default_rng(seed),
            cut=True,
        )
        for seed in range(number)
    ]


def test_training_sees_a_cut_clip_as_it_is_judged_and_crops_have_room() -> None:
    (plain,) = _crops(Augmentation.none(), number=1)
    assert plain[0, :, 0, 0].tolist() == [5 * k for k in range(4, 36)]
    assert plain[0, 0, :, 1].tolist() == [5 * k for k in range(4, 36)]
    mirrored = _crops(dataclasses.replace(Augmentation.none(), flip=1.0), number=3)
    for view in mirrored:
        assert np.array_equal(view[:, :, ::-1], plain)
    near_whole = dataclasses.replace(Augmentation.none(), scale=(0.98, 1.0))
    firsts = [int(view[0, 0, 0, 0]) for view in _crops(near_whole, number=40)]
    # A 32 of 40 pixels: from the first row to the eighth.
    assert min(firsts) < 10
    assert max(firsts) > 30
    lasts = [int(view[0, -1, 0, 0]) for view in _crops(near_whole, number=40)]
    assert max(lasts) <= 39 * 5


def test_a_model_folder_of_ours_says_how_it_was_fed(cut: Examples, tmp_path: Path) -> None:
    job = _job("r3d_18", cut, normalise="imagenet")
    info = json.loads(json.dumps(model_info(job, cut)))
    found = recipes.of_model_folder(job.preprocessing, ClipSettings.from_json(info["clip"]))
    assert _R3D is not None
    assert found == dataclasses.replace(_R3D, mean=IMAGENET[0], std=IMAGENET[1])
    (tmp_path / "model.json").write_text(json.dumps(info))
    (tmp_path / "weights.safetensors").write_bytes(b"")
    assert recipe_of("r3d_18", str(tmp_path)) == found
    assert recipe_of("r3d_18", str(tmp_path / "weights.safetensors")) == found
    squashed = recipes.of_model_folder(
        dataclasses.replace(job.preprocessing, stride=2, num_frames=4),
        dataclasses.replace(
            ClipSettings.from_json(info["clip"]), fit="squash", resize_px=(), resizer="swscale"
        ),
    )
    assert str(squashed) == "4 frames at 7.5 a second, 112 px by --fit squash"
    assert squashed.clip()["fit"] == "squash"
