"""VideoMAE's pre-training (Tong et al. 2022): most of a clip is hidden, and made up again.

The same places are hidden in every frame ("tubes"): else a patch could be copied from the frame
before. The encoder sees the rest alone, a small decoder makes the pixels of what is hidden, each
patch normalised by itself; the error is squared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from vidray.errors import UserError
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.transformers_video import check_finite, filled, positions_move
from vidray.models.transformers_config import VideoMAE

# Validation hides the same places in every epoch: its loss is that of the weights alone.
_SEED = 0


class MaskedVideoMAE(nn.Module):
    """A VideoMAE with its decoder, which hides what it then makes up.

    Args:
        config: sizes of the clips and of the network.
        mask_ratio: share of the places that are hidden, rounded to whole ones, one at least.
    """

    def __init__(self, config: VideoMAE, mask_ratio: float) -> None:
        super().__init__()
        side, rest = divmod(config.image_size, config.patch_size)
        self.tubes, rest_in_time = divmod(config.num_frames, config.tubelet_size)
        if rest or rest_in_time:
            raise UserError(
                f"clips of {config.num_frames} frames of {config.image_size} px are not whole "
                f"patches: frames must be a multiple of {config.tubelet_size}, and the side of "
                f"{config.patch_size} px"
            )
        self.places = side * side
        self.hidden = min(self.places - 1, max(1, round(mask_ratio * self.places)))
        if self.places < 2:
            raise UserError(
                f"clips of {config.image_size} px have one patch of {config.patch_size} px: "
                "nothing is left to see where it is hidden"
            )
        # As published: without a mean over patches, the encoder ends in a norm.
        theirs = transformers.VideoMAEConfig(
            **dataclasses.asdict(dataclasses.replace(config, use_mean_pooling=False))
        )
        self.model = transformers.VideoMAEForPreTraining(theirs)
        self._place_positions()

    def fill(self, state: Mapping[str, Tensor], source: str) -> None:
        """Start from the weights of another pre-training, in the names of ``transformers``.

        Raises:
            UserError: they are of another network, have no decoder, or are no numbers.
        """
        model, lacking = filled(type(self.model), self.model.config, state, source)
        if lacking:
            raise UserError(
                f"{source} is no pre-training of this model ({lacking[0]} is missing or of another "
                "shape): give the folder of one, or --weights none"
            )
        check_finite(model, source)
        self.model = model
        self._place_positions()

    def _place_positions(self) -> None:
        positions_move(self.model)
        positions_move(self.model.videomae.embeddings)

    def forward(self, clips: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)`` -> the mean error of the batch, for each clip: ``(N, 1)``."""
        rows = len(clips)
        hidden = self._hidden(rows, clips.device)
        loss = self.model(clips.transpose(1, 2), bool_masked_pos=hidden).loss
        # As many patches of each clip are hidden: the mean of batches is that of their clips.
        errors: Tensor = loss.expand(rows, 1)
        return errors

    def _hidden(self, rows: int, device: torch.device) -> Tensor:
        """The hidden patches, ``bool (rows, tubes * places)``, the same places in every tube."""
        if self.training:
            draws = torch.rand(rows, self.places, device=device)
        else:
            generator = torch.Generator().manual_seed(_SEED)
            draws = torch.rand(rows, self.places, generator=generator).to(device)
        hidden = torch.zeros_like(draws, dtype=torch.bool)
        hidden.scatter_(1, draws.argsort(dim=1)[:, : self.hidden], True)
        return hidden.repeat(1, self.tubes)


def build_pretraining(
    config: VideoMAE,
    *,
    mask_ratio: float,
    state: Mapping[str, Tensor] | None = None,
    source: str = "",
) -> Architecture:
    """The network that is pre-trained, with its parts; the decoder stands for the head.

    Args:
        config: of the clips and the network.
        mask_ratio: share of the places that are hidden.
        state: weights of another pre-training, in the names of ``transformers``; None starts fresh.
        source: where they are from.

    Raises:
        UserError: clips that are not whole patches, or weights that do not fit.
    """
    network = MaskedVideoMAE(config, mask_ratio)
    loaded = None
    if state is not None:
        network.fill(state, source)
        loaded = f"{source}: all tensors of its pre-training taken"
    blocks: list[Any] = list(network.model.videomae.encoder.layer)
    return Architecture(network=network, blocks=blocks, head=network.model.decoder, loaded=loaded)


def published_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a ``MaskedVideoMAE`` as ``transformers`` saves them, for any version of it."""
    renamed = {}
    for name, tensor in state.items():
        theirs = name.removeprefix("model.")
        for word in ("query", "value"):  # Its files keep the names of VideoMAE's authors.
            theirs = theirs.replace(f".{word}.bias", f".{word[0]}_bias")
        renamed[theirs] = tensor
    return renamed
