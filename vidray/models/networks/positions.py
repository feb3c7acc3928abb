"""Tables of positions of transformers, interpolated to clips of another size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# The end of a table's name -> how many of its rows are no place, but a class token's.
_SPACE_TABLES = {"space_position": 1, "pos_encoding.spatial_pos": 0}
_TIME_TABLES = ("time_position", "pos_encoding.temporal_pos")


def fit_positions(name: str, positions: Tensor, *, rows: int) -> Tensor:
    """A table of positions resized to ``rows``; one of another name stays as it is.

    Args:
        name: ours, of a TimeSformer's or an MViT's table.
        positions: ``float (S, D)``, or with an axis of 1 before; of a square if they are of space.
        rows: class tokens and places of the network.

    Raises:
        ValueError: positions in space are of no square.
    """
    if name in _SPACE_TABLES:
        tokens = _SPACE_TABLES[name]
        side = round((rows - tokens) ** 0.5)
        return resize_space_positions(positions, side=side, tokens=tokens)
    return resize_time_positions(positions, frames=rows) if name in _TIME_TABLES else positions


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
