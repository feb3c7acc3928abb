"""Weights that training starts from, and the clips and colours that they are fed with."""

from __future__ import annotations

from typing import Any

from vidray import storage
from vidray.learning.examples import Examples
from vidray.learning.train_config import DeepSettings
from vidray.models.preprocess import IMAGENET, KINETICS, Colour, dataset_statistics
from vidray.models.recipes import Recipe
from vidray.models.trained_on import recipe_of
from vidray.video.clips import ClipSettings

_NAMED = {"kinetics": KINETICS, "imagenet": IMAGENET}


def colours(model: str, deep: DeepSettings, examples: Examples) -> tuple[Colour, Colour]:
    """Mean and standard deviation: those asked for, or of the weights, or of Kinetics."""
    if deep.normalise is None:
        recipe = recipe_of(model, deep.weights)
        return KINETICS if recipe is None else recipe.colours
    if deep.normalise in _NAMED:
        return _NAMED[deep.normalise]
    clips = examples.clips
    assert clips is not None
    rows = examples.of_split("train").table["row"].to_numpy()
    return dataset_statistics(clips.read(rows[k : k + 8]) for k in range(0, len(rows), 8))


def notes(model: str, deep: DeepSettings, examples: Examples) -> list[str]:
    """What the weights are fed with otherwise than they were trained, a sentence each.

    Args:
        model: a deep model.
        examples: clips.
    """
    recipe = recipe_of(model, deep.weights)
    if recipe is None:
        return []
    found = []
    fed = None if deep.normalise is None else _NAMED.get(deep.normalise)
    if deep.normalise is not None and fed != recipe.colours:
        found.append(
            f"the weights of {model} were trained with mean {_shown(recipe.mean)} and deviation "
            f"{_shown(recipe.std)}: leave --normalise {deep.normalise} out to feed them so"
        )
    if changed := _differences(recipe, deep, examples):
        source = storage.without_secrets(examples.source or "VIDEOS")
        shown = storage.without_secrets(deep.weights)
        weights = "" if shown == "default" else f" --weights {shown}"
        found.append(
            f"the weights of {model} were trained on {recipe}, and these clips have "
            f"{', '.join(changed)}; to cut them so: python jobs/clips.py --videos {source} --out "
            f"RUN --model {model}{weights}"
        )
    return found


def _differences(recipe: Recipe, deep: DeepSettings, examples: Examples) -> list[str]:
    """What of the clips is not as the weights were trained, such as ``size_px 112``."""
    clips = examples.clips
    assert clips is not None
    cut = ClipSettings.from_json(examples.settings)
    fed: dict[str, Any] = {
        "frames_per_clip": deep.frames or clips.num_frames,
        "size_px": deep.crop_px or clips.size_px,
        "clip_seconds": cut.clip_seconds,
        "fit": cut.fit,
        "resize_px": cut.resize_px,
        "resizer": cut.resizer,
    }
    wanted = recipe.clip()
    if "frames_per_clip" in wanted and deep.stride is not None and cut.clip_seconds is not None:
        # Every deep.stride-th of the frames stored: a clip may hold more, for crops in time.
        rate = cut.frames_per_clip / cut.clip_seconds / deep.stride
        fed["clip_seconds"] = fed["frames_per_clip"] / rate
    if not cut.fit == recipe.fit == "resize_crop":  # The rest follows from it.
        wanted = {name: value for name, value in wanted.items() if "resize" not in name}
    return [
        f"{name} {_shown(fed[name])}"
        for name, value in wanted.items()
        if fed[name] != value and not _is_near(fed[name], value)
    ]


def _is_near(a: Any, b: Any) -> bool:
    return isinstance(a, float) and isinstance(b, float) and abs(a - b) <= 0.02 * b


def _shown(value: Any) -> str:
    several = value if isinstance(value, tuple) else (value,)
    return " ".join(f"{one:.4g}" if isinstance(one, float) else str(one) for one in several)
