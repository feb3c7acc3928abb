"""Networks of ``transformers`` by name: ``hf:...`` and VideoMAE of the published sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vidray import storage
from vidray.errors import UserError
from vidray.models import names, transformers_config
from vidray.models.networks import published
from vidray.models.networks.architecture import Architecture
from vidray.models.transformers_config import Config
from vidray.models.weights import hub

if TYPE_CHECKING:
    from torch import Tensor

# Fine-tuned on Kinetics-400; CC-BY-NC-4.0. "main" is resolved to a commit when it is fetched.
PUBLISHED = {
    name: f"{names.HUB}MCG-NJU/{name.replace('_', '-')}-finetuned-kinetics"
    for name in names.VIDEOMAE
}


def is_of_transformers(name: str) -> bool:
    """Whether the package ``transformers`` makes a model."""
    return names.is_hub(name) or name in names.VIDEOMAE


def build_named(
    name: str,
    num_classes: int,
    *,
    weights: str | None,
    config: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Architecture:
    """A network of ``transformers`` with its parts.

    Args:
        name: ``hf:...``, or one of ``names.VIDEOMAE``.
        num_classes: logits.
        weights: ``none``, ``default`` (the model's own), ``hf:...``, a file, or a folder: of
            ``transformers``, a model folder, or one of a pre-training.
        config: of ``hf:...``, as ``transformers_config`` wrote it: then nothing is looked up.
        settings: ``head``, ``dropout``, ``frames`` and ``size_px``, as of ``build``.

    Raises:
        UserError: no such model, or weights that can't be had or do not fit.
    """
    try:
        from vidray.models.networks.transformers_video import build_transformers
    except ImportError:
        raise UserError(f"{name} needs the extra: pip install 'vidray[transformers]'") from None
    made_of = _config(name, config)
    state, shown, origin = weights_of(name, weights)
    built = build_transformers(made_of, num_classes, state=state, source=shown, **settings)
    return dataclasses.replace(built, source=origin)


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


def weights_of(
    name: str, weights: str | None
) -> tuple[dict[str, Tensor] | None, str, dict[str, Any] | None]:
    """The tensors that ``weights`` means for a model, what to call them, and where from they are.

    The tensors are None where it starts fresh.
    """
    if weights in (None, "none"):
        return None, "", None
    source = str(weights)
    if source == "default":
        source = name if names.is_hub(name) else PUBLISHED[name]
    if not names.is_hub(source):
        folder = storage.canonical(source)
        if not storage.exists(storage.join(folder, hub.CONFIG)):
            return _read(source), storage.without_secrets(source), None
        source = f"{names.HUB}{folder}"
    found = hub.find(source)
    return hub.state_dict(found), str(found), found.origin


def _read(source: str) -> dict[str, Tensor]:
    """The tensors of a file, or of a model folder."""
    inside = storage.join(storage.canonical(source), "weights.safetensors")
    return published.read_safetensors(inside if storage.exists(inside) else source)
