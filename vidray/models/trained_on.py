"""What the weights that a command names were trained on."""

from __future__ import annotations

import os

from vidray.errors import UserError, unknown_name
from vidray.models import names, recipes
from vidray.models.recipes import Recipe

_HUB = "hf:"


def recipe_of(model: str, weights: str) -> Recipe | None:
    """The recipe of ``--weights`` of ``--model``; None where there is none or it is not known.

    Args:
        model: a deep model, or ``hf:`` and a folder of transformers.
        weights: ``none``, ``default`` or a file.

    Raises:
        UserError: the folder does not say how it was trained.
    """
    if weights == "none":
        return None
    if model.startswith(_HUB):
        from vidray.models import processors

        folder = model.removeprefix(_HUB)
        return processors.of_folder(folder) if os.path.isdir(folder) else None
    return recipes.recipe_of(model, origin_of(model, weights))


def origin_of(model: str, weights: str) -> str | None:
    """The package that weights of a model come from; None where it is not known."""
    if weights == "default":
        return recipes.default_origin(model)
    return None


def recipe_to_cut_by(model: str, weights: str) -> Recipe:
    """``recipe_of`` for ``jobs/clips.py``.

    Raises:
        UserError: there is no such deep model, or nothing says how to cut for these weights.
    """
    if not model.startswith(_HUB) and model not in names.DEEP:
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
