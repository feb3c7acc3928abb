"""What the weights that a command names were trained on."""

from __future__ import annotations

from vidray import storage
from vidray.errors import UserError, unknown_name
from vidray.models import names, recipes
from vidray.models.model_files import folder_of_weights, read_info
from vidray.models.preprocess import Preprocessing
from vidray.models.recipes import Recipe
from vidray.video.clips import ClipSettings


def recipe_of(model: str, weights: str) -> Recipe | None:
    """The recipe of ``--weights`` of ``--model``; None where there is none or it is not known.

    Args:
        model: a deep model, or ``hf:`` and a repository or folder of transformers.
        weights: as of ``networks.build``.

    Raises:
        UserError: they can't be had or do not fit, or a folder does not say how it was trained.
    """
    if weights == "none":
        return None
    if (source := _of_transformers(model, weights)) is not None:
        from vidray.models import processors
        from vidray.models.weights import hub

        return processors.of_folder(hub.find(source).folder)
    if (folder := folder_of_weights(weights)) is not None:
        info = read_info(folder)
        if info["family"] == "deep":
            clip = ClipSettings.from_json(info["clip"])
            return recipes.of_model_folder(Preprocessing.from_json(info["preprocessing"]), clip)
    return recipes.recipe_of(model, origin_of(model, weights))


def _of_transformers(model: str, weights: str) -> str | None:
    """The ``hf:...`` that weights are, if they are a model of transformers."""
    if weights == "default":
        return model if names.is_hub(model) else None
    if names.is_hub(weights):
        return weights
    folder = storage.canonical(weights)
    there = storage.is_folder(folder) and storage.exists(storage.join(folder, "config.json"))
    return f"{names.HUB}{folder}" if there else None


def origin_of(model: str, weights: str) -> str | None:
    """The package that weights of a model come from; None where it is not known.

    Raises:
        UserError: they can't be had, or do not fit.
    """
    if weights == "default":
        return recipes.default_origin(model)
    if names.is_hub(model):
        return None
    # It takes seconds to import.
    from vidray.models.networks.build import origin_and_variant

    return origin_and_variant(model, weights)[0]


def recipe_to_cut_by(model: str, weights: str) -> Recipe:
    """``recipe_of`` for ``jobs/clips.py``.

    Raises:
        UserError: there is no such deep model, or nothing says how to cut for these weights.
    """
    if not names.is_hub(model) and model not in names.DEEP:
        raise unknown_name("deep model", model, names.DEEP)
    found = recipe_of(model, weights)
    if found is not None:
        return found
    if weights == "none":
        raise UserError(f"a fresh {model} was trained on nothing: leave --model out")
    if weights == "default":
        why = "has no published weights that vidray knows"
        raise UserError(f"{model} {why}: give --weights FILE, or leave --model out")
    raise UserError(
        f"{weights} does not say which package it comes from: leave --model out, and give "
        "--frames-per-clip, --clip-seconds, --size-px, --resize-px and --resizer"
    )
