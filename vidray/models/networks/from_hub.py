"""Networks of ``transformers`` by name: ``hf:...`` and VideoMAE of the published sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from vidray import storage
from vidray.errors import UserError
from vidray.models import names, transformers_config
from vidray.models.networks.architecture import Architecture
from vidray.models.transformers_config import Config
from vidray.models.weights import files, hub, wrappers
from vidray.tables.run_folder import WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

# Fine-tuned on Kinetics-400; CC-BY-NC-4.0. "main" is resolved to a commit when it is fetched.
PUBLISHED = {
    name: f"{names.HUB}MCG-NJU/{name.replace('_', '-')}-finetuned-kinetics"
    for name in names.VIDEOMAE
}

_HEAD = "classifier."


def is_of_transformers(name: str) -> bool:
    """Whether the package ``transformers`` makes a model."""
    return names.is_hub(name) or name in names.VIDEOMAE


def reads(name: str, weights: str) -> bool:
    """Whether weights of a model are read here: not a file, of VideoMAE, whose names may be others.

    Those are ``weights.reader``'s.
    """
    if not is_of_transformers(name):
        return False
    return (
        names.is_hub(name) or weights == "default" or names.is_hub(weights) or _is_folder(weights)
    )


def _is_folder(weights: str) -> bool:
    return storage.is_folder(storage.canonical(weights))


def fresh(
    name: str, num_classes: int, *, config: Mapping[str, Any] | None = None, **settings: Any
) -> Architecture:
    """A fresh network of ``transformers`` with its parts; for the arguments see ``filled``."""
    return _builder(name)(_config(name, config), num_classes, **settings)


def filled(
    name: str,
    num_classes: int,
    *,
    weights: str,
    config: Mapping[str, Any] | None = None,
    keep_head: bool | None = None,
    **settings: Any,
) -> Architecture:
    """A network of ``transformers`` with weights.

    Args:
        name: ``hf:...``, or one of ``names.VIDEOMAE``.
        num_classes: logits.
        weights: ``default`` (the model's own), ``hf:...``, a file, or a folder: of
            ``transformers``, a model folder, or one of a pre-training.
        config: of ``hf:...``, as ``transformers_config`` wrote it: then nothing is looked up.
        keep_head: None keeps the last layer where it has as many classes; True wants it, False
            makes a new one.
        settings: ``head``, ``dropout``, ``frames`` and ``size_px``, as of ``build``.

    Raises:
        UserError: no such model, or weights that can't be had or do not fit.
    """
    state, shown, source = weights_of(name, weights)
    if keep_head is False:
        state = {key: value for key, value in state.items() if not key.startswith(_HEAD)}
    theirs = state.get(f"{_HEAD}weight")
    if keep_head and (theirs is None or len(theirs) != num_classes):
        found = "there is none" if theirs is None else f"it has {len(theirs)} classes"
        raise UserError(f"{shown}: its last layer is wanted for {num_classes} classes, and {found}")
    made_of = _config(name, config)
    built = _builder(name)(made_of, num_classes, state=state, source=shown, **settings)
    return dataclasses.replace(built, source=source, origin="transformers")


def _builder(name: str) -> Callable[..., Architecture]:
    try:
        from vidray.models.networks.transformers_video import build_transformers
    except ImportError:
        raise UserError(f"{name} needs the extra: pip install 'vidray[transformers]'") from None
    return build_transformers


def resolved(name: str, weights: str) -> tuple[str, Config | None, str]:
    """A model and its weights as all workers find them: names by their commit, a checked config.

    Args:
        name: of a deep model, ``hf:...`` too.
        weights: as of ``build``.

    Returns:
        The name that model.json gets, its config (None of a model that vidray knows), weights.
    """
    found = hub.find(name) if names.is_hub(name) else None
    if weights == "default" and (found is not None or name in PUBLISHED):
        weights = (found or hub.find(PUBLISHED[name])).source
    elif names.is_hub(weights):
        weights = hub.find(weights).source
    if found is None:
        return name, None, weights
    return found.name, hub.network_config(found), weights


def _config(name: str, config: Mapping[str, Any] | None) -> Config:
    if name in transformers_config.VIDEOMAE:
        return transformers_config.VIDEOMAE[name]
    if config is not None:
        return transformers_config.from_json(config)
    return hub.network_config(hub.find(name))


def weights_of(name: str, weights: str) -> tuple[dict[str, Tensor], str, dict[str, Any] | None]:
    """The tensors that ``weights`` means for a model, what to call them, and where from they are."""
    source = weights
    if source == "default":
        source = name if names.is_hub(name) else PUBLISHED[name]
    if not names.is_hub(source):
        folder = storage.canonical(source)
        if not storage.exists(storage.join(folder, hub.CONFIG)):
            return _read(folder), storage.without_secrets(source), None
        source = f"{names.HUB}{folder}"
    found = hub.find(source)
    return hub.state_dict(found), str(found), found.origin


def _read(source: str) -> dict[str, Tensor]:
    """The tensors of a file, or of a model folder."""
    inside = storage.join(source, WEIGHTS)
    if storage.exists(inside):
        return files.read_safetensors(inside)
    return wrappers.unwrap(files.read(source), shown=storage.without_secrets(source))[0]
