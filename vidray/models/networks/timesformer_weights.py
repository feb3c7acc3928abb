"""Weights of an image transformer (ViT) as those of a TimeSformer, and of one size as another's."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from vidray.models.networks.timesformer import TimeSformer, admit_nothing


def resize_position_embeddings(positions: Tensor, *, side: int) -> Tensor:
    """Positions in space for another grid, by bicubic interpolation; the class token's is kept.

    Args:
        positions: ``float (1, 1 + S * S, D)``.
        side: rows, and columns, of the new grid.

    Returns:
        ``float (1, 1 + side * side, D)``.
    """
    old_side = round((positions.shape[1] - 1) ** 0.5)
    if old_side == side:
        return positions
    if old_side * old_side != positions.shape[1] - 1:
        raise ValueError(
            f"positions of shape {tuple(positions.shape)} are not a class token's and a square "
            "grid's; pass (1, 1 + S * S, D)"
        )
    grid = positions[:, 1:].reshape(1, old_side, old_side, -1).permute(0, 3, 1, 2)  # (1, D, S, S)
    resized = functional.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


def resize_time_positions(positions: Tensor, *, frames: int) -> Tensor:
    """Positions in time for another number of frames: ``(1, T, D)`` -> ``(1, frames, D)``."""
    if positions.shape[1] == frames:
        return positions
    resized = functional.interpolate(
        positions.transpose(1, 2), size=frames, mode="linear", align_corners=False
    )
    return resized.transpose(1, 2)


def fit_positions(state_dict: Mapping[str, Tensor], network: TimeSformer) -> dict[str, Tensor]:
    """A TimeSformer's weights with the positions resized to ``network``'s frames and size."""
    fitted = dict(state_dict)
    if "space_position" in fitted:
        side = round((network.space_position.shape[1] - 1) ** 0.5)
        fitted["space_position"] = resize_position_embeddings(fitted["space_position"], side=side)
    if "time_position" in fitted:
        frames = network.frames
        fitted["time_position"] = resize_time_positions(fitted["time_position"], frames=frames)
    return fitted


def from_vit(state_dict: Mapping[str, Tensor], network: TimeSformer) -> None:
    """Begin with an image transformer's weights, in torchvision's names (``vit_b_16``).

    They fill the patches, the positions in space, the attention of each frame (joint, sparse: of
    each group) and the perceptrons. The second attention admits nothing at first and positions in
    time are 0, so ``space``, and ``divided`` on a still picture, give what the image transformer
    does. The head stays as it is: other classes.

    Raises:
        ValueError: weights are missing or have another shape; the message names them.
    """
    theirs = fit_positions(_renamed(state_dict, len(network.blocks)), network)
    ours = network.state_dict()
    wanted = [name for name in ours if not _is_new(name)]
    wrong = [
        name for name in wanted if name not in theirs or theirs[name].shape != ours[name].shape
    ]
    if wrong:
        raise ValueError(
            f"not the weights of this transformer: {', '.join(wrong[:5])} and "
            f"{max(0, len(wrong) - 5)} more are missing or of another shape; make the network "
            "with the same patch_px, width and depth"
        )
    network.load_state_dict({**ours, **{name: theirs[name] for name in wanted}})
    with torch.no_grad():
        admit_nothing(network)


# torchvision's names of the parts of a block, and ours.
_BLOCK_NAMES = (
    ("ln_1.", "norm_attention."),
    ("self_attention.in_proj_", "attention.query_key_value."),
    ("self_attention.out_proj.", "attention.project."),
    ("ln_2.", "norm_perceptron."),
    ("mlp.0.", "perceptron.0."),
    ("mlp.3.", "perceptron.2."),
)


def _renamed(state_dict: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    names = {"class_token": "class_token", "encoder.pos_embedding": "space_position"}
    for kind in ("weight", "bias"):
        names[f"conv_proj.{kind}"] = f"patch.{kind}"
        names[f"encoder.ln.{kind}"] = f"norm.{kind}"
        for index in range(depth):
            layer = f"encoder.layers.encoder_layer_{index}."
            for theirs, ours in _BLOCK_NAMES:
                names[f"{layer}{theirs}{kind}"] = f"blocks.{index}.{ours}{kind}"
    return {ours: state_dict[theirs] for theirs, ours in names.items() if theirs in state_dict}


def _is_new(name: str) -> bool:
    """Whether a weight has no counterpart in an image transformer."""
    return name.startswith("head.") or ".second." in name or name == "time_position"
