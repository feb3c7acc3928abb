"""Tables of positions of transformers, interpolated to clips of another size."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

# The end of a table's name -> how many of its rows are no place, but a class token's.
_SPACE_TABLES = {"space_position": 1, "pos_encoding.spatial_pos": 0}
_TIME_TABLES = ("time_position", "pos_encoding.temporal_pos")


def fit_positions(state_dict: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Weights with the positions resized to those of ``network``, a TimeSformer or an MViT.

    Args:
        state_dict: by our names; tables of positions in space are of a square.
        network: made for other frames, or another size. Of a network without such tables, and of
            weights that fit, nothing changes.

    Raises:
        ValueError: a table of positions in space is of no square.
    """
    fitted, wanted = dict(state_dict), network.state_dict()
    for name in fitted.keys() & wanted.keys():
        if name in _SPACE_TABLES:
            tokens = _SPACE_TABLES[name]
            side = round((wanted[name].shape[-2] - tokens) ** 0.5)
            fitted[name] = resize_space_positions(fitted[name], side=side, tokens=tokens)
        elif name in _TIME_TABLES:
            fitted[name] = resize_time_positions(fitted[name], frames=wanted[name].shape[-2])
    return fitted


def resize_space_positions(positions: Tensor, *, side: int, tokens: int = 1) -> Tensor:
    """Positions in space for another grid, by bicubic interpolation; class tokens' are kept.

    Args:
        positions: ``float (1, tokens + S * S, D)``, or without the first axis.
        side: rows, and columns, of the new grid.
        tokens: class tokens before the grid.

    Returns:
        ``float (1, tokens + side * side, D)``, or without the first axis.
    """
    places = positions.shape[-2] - tokens
    old_side = round(max(0, places) ** 0.5)
    if old_side == side:
        return positions
    if old_side == 0 or old_side * old_side != places:
        what = "a class token's and a square grid's" if tokens else "a square grid's"
        expected = f"{tokens} + S * S" if tokens else "S * S"
        raise ValueError(
            f"positions of shape {tuple(positions.shape)} are not {what}; pass ({expected}, D)"
        )
    first, grid = positions[..., :tokens, :], positions[..., tokens:, :]
    grid = grid.reshape(1, old_side, old_side, -1).permute(0, 3, 1, 2)  # (1, D, S, S)
    resized = functional.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    resized = resized.flatten(2).transpose(1, 2)  # (1, side * side, D)
    return torch.cat([first, resized.view(*first.shape[:-2], *resized.shape[1:])], dim=-2)


def resize_time_positions(positions: Tensor, *, frames: int) -> Tensor:
    """Positions in time for another number of frames: ``(1, T, D)`` -> ``(1, frames, D)``.

    Or ``(T, D)`` -> ``(frames, D)``.
    """
    if positions.shape[-2] == frames:
        return positions
    rows = positions.reshape(1, *positions.shape[-2:]).transpose(1, 2)
    resized = functional.interpolate(rows, size=frames, mode="linear", align_corners=False)
    return resized.transpose(1, 2).reshape(*positions.shape[:-2], frames, -1)
