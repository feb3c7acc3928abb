"""Weights of an image transformer (ViT) as those of a TimeSformer."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vidray.models.networks.positions import fit_positions
from vidray.models.networks.timesformer import TimeSformer, admit_nothing


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
