"""How large a file of weights may be, looked at before memory is taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from vidray import storage
from vidray.errors import UserError, VideoError
from vidray.models import transformers_config
from vidray.models.probabilities import NEXT_STEP


def check_not_larger(where: str, network: nn.Module) -> None:
    """Raise UserError where a file is larger than the weights of ``network`` in any format."""
    try:
        size_bytes = storage.file_info(where).size_bytes
    except VideoError as error:
        shown = storage.without_secrets(where)
        raise UserError(f"{shown} cannot be read: {error.message}") from None
    widest = torch.finfo(torch.float64).bits // 8
    most = widest * sum(tensor.numel() for tensor in network.state_dict().values()) + (1 << 20)
    if size_bytes > most:
        problem = f"{storage.without_secrets(where)} has {size_bytes} bytes"
        raise UserError(f"{problem}, and weights of this model {most} at the most: {NEXT_STEP}")


def check_not_smaller(where: str, config: Mapping[str, Any] | None) -> None:
    """Raise UserError where a config makes more weights than a file holds bytes.

    It is looked at before memory is taken: of other networks the name says how large they are.
    """
    if config is None:
        return
    try:
        from vidray.models.networks.transformers_video import check_parameters
    except ImportError:
        raise UserError(
            f"{where} is of a network of transformers: pip install 'vidray[transformers]'"
        ) from None
    count = check_parameters(transformers_config.from_json(config))
    if storage.exists(where) and storage.file_info(where).size_bytes < count:
        raise UserError(
            f"{storage.without_secrets(where)} is too small for the {count} parameters of its "
            f"model.json: {NEXT_STEP}"
        )
