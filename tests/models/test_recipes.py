"""What was trained is what is fed: our input is that of the package that the weights come from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import origins
from tests.video_writer import write_video
from vidray.errors import UserError
from vidray.models import names, processors, recipes, trained_on
from vidray.models.clip_flags import ClipFlags
from vidray.models.preprocess import IMAGENET, KINETICS, Preprocessing
from vidray.models.weights import published
from vidray.models.weights.origins import ORIGINS
from vidray.video.clips import ClipSettings, clip_frames
from vidray.video.decode import Video

_ALL = [*origins.of_torchvision(), *origins.of_facebook(), *origins.of_opencv()]
_SHAPES: list[dict[str, Any]] = [
    {"width_px": 322, "height_px": 246},
    {"width_px": 130, "height_px": 290},
    {"width_px": 98, "height_px": 66, "rotation_degrees": 90},
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{k}.mp4", num_frames=2, **how) for k, how in enumerate(_SHAPES)]


@pytest.mark.parametrize("origin", _ALL, ids=lambda origin: origin.name)
def test_our_input_is_theirs(origin: origins.Origin, videos: list[Path]) -> None:
    for path in videos:
        with Video(str(path)) as opened:
            assert origins.difference(opened, path, origin, frames=1) <= origin.most


@pytest.mark.slow
def test_our_input_is_that_of_transformers(videos: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    found = list(origins.of_transformers(tmp_path))
    assert len(found) == 12
    for path in videos:
        _compare(path, found)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("path", origins.REAL, ids=lambda path: path.stem)
def test_our_input_of_a_real_video_is_theirs(path: Path, tmp_path: Path) -> None:
    _compare(path, [*_ALL, *origins.of_transformers(tmp_path)])


def _compare(path: Path, several: Sequence[origins.Origin]) -> None:
    with Video(str(path)) as opened:
        for origin in several:
            assert origins.difference(opened, path, origin, frames=1) <= origin.most, origin.name


def test_clips_are_of_the_frames_that_were_trained_on() -> None:
    """Of 10 seconds at 30 a second, every stride-th frame."""
    strides = {
        ("r3d_18", "torchvision"): 2,
        ("mvit_v2_s", "torchvision"): 4,
        ("slowfast_r50", "pytorchvideo"): 2,
        ("x3d_s", "pytorchvideo"): 6,
        ("videomae_base", "mmaction2"): 4,
    }
    for (name, origin), stride in strides.items():
        recipe = recipes.recipe_of(name, origin)
        assert recipe is not None
        chosen = clip_frames(300, 30.0, ClipSettings(**recipe.clip()))[0]
        assert set(np.diff(chosen).tolist()) == {stride}
        assert len(chosen) == recipe.frames


def test_default_weights_have_a_recipe_where_they_exist() -> None:
    for name in set(names.DEEP) - set(names.VIDEOMAE):  # Of which the hub is asked.
        known = published.of_model(name)
        origin = None if known is None else known.origin
        assert recipes.default_origin(name) == origin
        assert (trained_on.recipe_of(name, "default") is None) is (origin is None)
    for origin in ORIGINS:
        unknown = {m for m in origin.models if recipes.recipe_of(m, origin.name) is None}
        # Nobody knows of which of timm's networks of images a file is; ours say it themselves.
        assert not unknown or origin.name in ("timm", "vidray")
    assert trained_on.recipe_of("r3d_18", "none") is None
    assert recipes.recipe_of("r3d_18", "somebody") is None
    sports = recipes.recipe_of("c3d", "caffe")
    assert sports is not None
    assert "mean image" in (sports.lacks or "")


def test_flags_win_over_the_recipe_and_what_they_contradict_is_named() -> None:
    recipe = recipes.recipe_of("r3d_18", "torchvision")
    assert recipe is not None
    assert str(recipe) == "16 frames at 15 a second, 128 171 px cut to 112 (torchvision)"
    cut = ClipFlags().settings(recipe)
    assert (cut.frames_per_clip, cut.size_px, cut.resize_px) == (16, 112, (128, 171))
    assert cut.clip_seconds == pytest.approx(16 / 15)
    asked = ClipFlags(size_px=128, frames_per_clip=16, resize_px=(130,), clips_per_video=3)
    assert asked.contradictions(recipe) == ["--size-px 128", "--resize-px 130"]
    found = asked.settings(recipe)
    assert (found.size_px, found.resize_px, found.clips_per_video) == (128, (130,), 3)
    squashed = ClipFlags(fit="squash").settings(recipe)
    assert (squashed.fit, squashed.resize_px, squashed.resizer) == ("squash", (), "swscale")
    assert ClipFlags().settings() == ClipSettings()
    fields = {field.name for field in dataclasses.fields(ClipSettings)}
    assert {field.name for field in dataclasses.fields(ClipFlags)} == fields
    with pytest.raises(UserError, match="no effect without --fit resize_crop"):
        ClipFlags(fit="crop", resize_px=(130,)).settings(recipe)


def test_nothing_is_cut_by_weights_that_say_nothing() -> None:
    for model, weights, told in (
        ("c3d", "default", "c3d has no published weights"),
        ("r3d_18", "none", "was trained on nothing"),
        ("r3d", "default", "r3d_18"),
        ("svm", "default", "svm"),
    ):
        with pytest.raises(UserError, match=told):
            trained_on.recipe_to_cut_by(model, weights)


def test_a_larger_clip_is_cut_to_what_the_recipe_cuts(videos: list[Path]) -> None:
    """With room for random crops: 128 stored, 112 fed, the same 112 as cut at once."""
    recipe = recipes.recipe_of("r3d_18", "torchvision")
    assert recipe is not None
    stored = dataclasses.replace(recipe, crop_px=128, mean=(0.0,) * 3, std=(1.0,) * 3)
    for path in videos:
        with Video(str(path)) as opened:
            expected, _ = origins.ours(opened, path, recipe, frames=2)
            roomy, _ = origins.ours(opened, path, stored, frames=2)
        clip = (roomy * 255).round().to(torch.uint8).permute(1, 2, 3, 0).numpy()
        fed = Preprocessing(num_frames=2, size_px=112, mean=KINETICS[0], std=KINETICS[1], cut=True)
        selected = fed.select(clip[None])
        assert torch.equal(fed.to_input(torch.from_numpy(selected))[0], expected)
        resized = dataclasses.replace(fed, cut=False).select(clip[None])
        assert not np.array_equal(resized, selected)
    assert Preprocessing.from_json(json.loads(json.dumps(fed.to_json()))) == fed
    assert "cut" not in dataclasses.replace(fed, cut=False).to_json()


_VIDEOMAE = {"model_type": "videomae"}


def test_processors_as_they_were_written_over_the_years() -> None:
    plain = processors.of_json(_VIDEOMAE, {})
    assert (plain.frames, plain.frames_per_second, plain.crop_px) == (16, 7.5, 224)
    old = {"size": 192, "crop_size": 160, "image_mean": IMAGENET[0], "resample": None}
    found = processors.of_json({**_VIDEOMAE, "num_frames": 32}, old)
    assert (found.frames, found.resize_px, found.crop_px) == (32, (192,), 160)
    assert found.mean == pytest.approx(IMAGENET[0])
    raw = processors.of_json(_VIDEOMAE, {"do_rescale": False, "image_mean": 127.5, "image_std": 51})
    assert (raw.mean, raw.std) == ((0.5,) * 3, (0.2,) * 3)
    bare = processors.of_json(_VIDEOMAE, {"do_normalize": False})
    assert (bare.mean, bare.std) == ((0.0,) * 3, (1.0,) * 3)
    vivit = processors.of_json({"model_type": "vivit"}, {"do_normalize": False})
    assert (vivit.mean, vivit.std) == ((0.5,) * 3, (0.5,) * 3)
    clip = processors.of_json(
        {"model_type": "clip_vision_model"}, {"do_center_crop": False, "size": 98}
    )
    assert (clip.frames, clip.resize_px, clip.crop_px) == (None, (98,), 98)


@pytest.mark.parametrize(
    ("config", "processor", "told"),
    [
        ({}, {}, "model_type is null"),
        ({"model_type": ["x"]}, {}, "model_type is a list"),
        ({**_VIDEOMAE, "num_frames": 10**9}, {}, "num_frames is 1000000000"),
        ({**_VIDEOMAE, "num_frames": True}, {}, "num_frames is true"),
        (_VIDEOMAE, {"size": {"longest_edge": 5}}, "size has longest_edge"),
        (_VIDEOMAE, {"size": {"shortest_edge": -1}}, "size.shortest_edge is -1"),
        (_VIDEOMAE, {"size": "big"}, 'size is "big"'),
        (_VIDEOMAE, {"crop_size": {"height": 224}}, "crop_size.width is null"),
        (_VIDEOMAE, {"crop_size": {"height": 224, "width": 200}}, "feeds squares"),
        (_VIDEOMAE, {"crop_size": 300}, "crop_size is 300 and size is"),
        (_VIDEOMAE, {"do_resize": False}, "do_resize is false"),
        (_VIDEOMAE, {"resample": 1}, "resample is 1"),
        (_VIDEOMAE, {"resample": [2]}, "resample is a list"),
        ({"model_type": "resnet"}, {"size": {"shortest_edge": 9}, "crop_pct": 0}, "crop_pct is 0"),
        (_VIDEOMAE, {"image_mean": [0.5]}, "must be three numbers"),
        (_VIDEOMAE, {"image_mean": ["a", 1, 2]}, "must be a number"),
        (_VIDEOMAE, {"image_std": [0, 0, 0]}, "must be from 0 to 1"),
        (_VIDEOMAE, {"rescale_factor": 0}, "rescale_factor is 0"),
        (_VIDEOMAE, {"rescale_factor": 1e300}, "must be a number"),
    ],
)
def test_impossible_processors_are_refused(
    config: dict[str, Any], processor: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        processors.of_json(config, processor)


def test_a_folder_without_a_processor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config.json"):
        processors.of_folder(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(_VIDEOMAE))
    with pytest.raises(UserError, match="what it was trained on is unknown"):
        trained_on.recipe_of(f"hf:{tmp_path}", "default")
    (tmp_path / "preprocessor_config.json").write_text("[" * 10_000)
    with pytest.raises(UserError, match="is not what transformers writes"):
        processors.of_folder(str(tmp_path))
    (tmp_path / "preprocessor_config.json").write_text('{"size": 200, "crop_size": 180}')
    assert processors.of_folder(str(tmp_path)).crop_px == 180
    nested = {"video_processor": {"size": 210, "crop_size": 190}, "image_processor": {}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    assert processors.of_folder(str(tmp_path)).crop_px == 190
