"""The text towers of CLIP and SigLIP."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers
from torch import Tensor

from vidray.errors import UserError
from vidray.models.networks.transformers_video import check_finite, filled
from vidray.models.transformers_config import Clip, ClipText, Siglip, SiglipText


def text_tower(
    config: ClipText | SiglipText,
    vision: Clip | Siglip,
    state: Mapping[str, Tensor],
    *,
    source: str,
) -> Callable[[Tensor], Tensor]:
    """The tower, in evaluation mode: tokens ``int64 (N, L)`` to embeddings ``float (N, D)``.

    Args:
        config: what it is made of.
        vision: of the tower whose space it shares.
        state: weights of both, in the names of ``transformers``.
        source: where they are from, for errors.

    Raises:
        UserError: weights are missing, of another shape, or no numbers.
    """
    given = dataclasses.asdict(config)
    model: Any
    if isinstance(config, ClipText):
        assert isinstance(vision, Clip)
        theirs = transformers.CLIPTextConfig(**given, projection_dim=vision.projection_dim)
        model, lacking = filled(transformers.CLIPTextModelWithProjection, theirs, state, source)
    else:
        del given["initializer_range"]
        theirs = transformers.SiglipTextConfig(**given)
        model, lacking = filled(transformers.SiglipTextModel, theirs, state, source)
    lacking += [name for name in ("logit_scale",) if name not in state]
    scale = state.get("logit_scale", torch.zeros(()))
    if lacking or scale.numel() != 1:
        raise UserError(
            f"{source} has no whole text tower ({(lacking or ['logit_scale'])[0]} is missing or of "
            "another shape): give a CLIP or SigLIP with both of its towers"
        )
    check_finite(model, source)
    model.eval()
    if isinstance(config, ClipText):
        return lambda tokens: model(input_ids=tokens).text_embeds
    return lambda tokens: model(input_ids=tokens).pooler_output
