"""Networks of ``transformers`` by name: ``hf:...`` and VideoMAE of the published sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vidray.errors import UserError
from vidray.models import names, transformers_config
from vidray.models.networks.architecture import Architecture
from vidray.models.transformers_config import NetworkConfig
from vidray.models.weights import hub, published, reader

if TYPE_CHECKING:
    from torch import Tensor


def build_hub(
    name: str,
    num_classes: int,
    *,
    weights: str | None,
    config: Mapping[str, Any] | None = None,
    keep_head: bool | None = None,
    **settings: Any,
) -> Architecture:
    """A network of ``transformers`` with its parts.

    Args:
        name: ``hf:...``.
        num_classes: logits.
        weights: ``none``, ``default`` (the model's own), or anything that ``reader.find`` takes.
        config: as ``transformers_config`` wrote it: then nothing is looked up.
        keep_head: None keeps the last layer of weights where it has as many classes.
        settings: ``head``, ``dropout``, ``frames`` and ``size_px``, as of ``build``.

    Raises:
        UserError: no such model, or weights that can't be had or do not fit.
    """
    looked_up = None if config is not None else hub.find(name)
    made_of = hub.network_config(looked_up) if looked_up else transformers_config.from_json(config)
    if weights in reader.NONE:
        return make(name, made_of, num_classes, **settings)
    found = reader.find(name if weights == reader.DEFAULT else str(weights), name)
    built = make(
        name, made_of, num_classes,
        state=found.tensors, source=found.shown, keep_head=keep_head, **settings,
    )  # fmt: skip
    return replace(built, origin="transformers", source=found.source)


def make(
    name: str,
    config: NetworkConfig,
    num_classes: int,
    *,
    state: Mapping[str, Tensor] | None = None,
    **settings: Any,
) -> Architecture:
    """``build_transformers``, where the package is there.

    Args:
        name: of the model, for the error.
        config: what it is made of.
        num_classes: logits.
        state: initial weights.
        settings: the other arguments of ``build_transformers``.
    """
    try:
        from vidray.models.networks.transformers_video import build_transformers
    except ImportError:
        raise UserError(f"{name} needs the extra: pip install 'vidray[transformers]'") from None
    return build_transformers(config, num_classes, state=state, **settings)


def pretraining_network(
    *,
    name: str,
    frames: int,
    size_px: int,
    mask_ratio: float,
    weights: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> Architecture:
    """A VideoMAE that reconstructs what is hidden of a clip: clips to errors ``(N, 1)``.

    Args:
        name: one of ``names.VIDEOMAE``, or ``hf:...`` of such a model.
        frames, size_px: of the clips.
        mask_ratio: share of the patches that are hidden.
        weights: ``none``, or those of another pre-training.
        config: of ``hf:...``.

    Raises:
        UserError: another kind of model, clips that are not whole patches, or weights that do not
            fit.
    """
    known = transformers_config.VIDEOMAE.get(name)
    made_of = known if known is not None else transformers_config.from_json(config)
    if not isinstance(made_of, transformers_config.VideoMAE):
        raise UserError(f"--pretrain is VideoMAE's way to learn, and {name} is {made_of.KIND}")
    try:
        from vidray.models.networks.videomae_pretraining import build_pretraining
    except ImportError:
        raise UserError(f"{name} needs the extra: pip install 'vidray[transformers]'") from None
    found = None if weights in reader.NONE else reader.find(str(weights), name)
    return build_pretraining(
        made_of.resized(frames, size_px),
        mask_ratio=mask_ratio,
        state=None if found is None else found.tensors,
        source="" if found is None else found.shown,
    )


def resolved(name: str, weights: str) -> tuple[str, NetworkConfig | None, str]:
    """A model and its weights as all workers find them: names by their commit, a checked config.

    Args:
        name: of a deep model, ``hf:...`` too.
        weights: as of ``build``.

    Returns:
        The name that model.json gets, its config (None of a model that vidray knows), weights.
    """
    found = hub.find(name) if names.is_hub(name) else None
    if names.is_hub(weights):
        weights = hub.find(weights).source
    elif weights == reader.DEFAULT and found is not None:
        weights = found.source
    elif weights == reader.DEFAULT and name in names.VIDEOMAE:
        weights = hub.find(published.VIDEOMAE[name]).source
    return (name, None, weights) if found is None else (
        found.name, hub.network_config(found), weights,
    )  # fmt: skip
