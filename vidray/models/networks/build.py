"""Networks by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torchvision.models as tv
from torch import Tensor, nn
from torchvision.models import video

from vidray import storage
from vidray.errors import UserError, unknown_name
from vidray.models import names
from vidray.models.networks import batchnorm, from_hub, published
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.c3d import c3d
from vidray.models.networks.frame_pooling import BACKBONES, frame_pooling
from vidray.models.networks.heads import HEAD_KINDS, HeadKind, MergedHead
from vidray.models.networks.i3d import i3d_r50
from vidray.models.networks.slowfast import SlowFast
from vidray.models.networks.timesformer import (
    TimeSformer,
)
from vidray.models.networks.timesformer_weights import (
    from_vit,
)
from vidray.models.networks.torchvision_video import torchvision_video
from vidray.models.networks.two_stream import TwoStream, from_resnet

_TORCHVISION = {
    "r3d_18": video.R3D_18_Weights,
    "mc3_18": video.MC3_18_Weights,
    "r2plus1d_18": video.R2Plus1D_18_Weights,
    "s3d": video.S3D_Weights,
    "mvit_v2_s": video.MViT_V2_S_Weights,
    "swin3d_t": video.Swin3D_T_Weights,
}
_IMAGE_WEIGHTS = {
    "resnet18": tv.ResNet18_Weights,
    "resnet50": tv.ResNet50_Weights,
    "efficientnet_b0": tv.EfficientNet_B0_Weights,
}


def build(
    name: str,
    *,
    num_classes: int,
    weights: str | None = None,
    head: HeadKind = "linear",
    dropout: float = 0.5,
    frames: int | None = None,
    size_px: int | None = None,
    config: Mapping[str, Any] | None = None,
    merge: Sequence[int | None] | None = None,
) -> Architecture:
    """A network with its parts.

    Args:
        name: one of ``names.DEEP``, or ``hf:OWNER/NAME[@REVISION]`` or ``hf:/folder``.
        num_classes: logits.
        weights: None or ``none`` starts fresh; ``default`` starts from the architecture's published
            weights, the head apart; anything else is a safetensors file, local or in a bucket, of a
            whole network or of one with another head, in our names or, of torchvision's video
            networks, in theirs. ``loaded`` of what is returned says what was taken.
        head: ``linear`` or ``layernorm_dropout_linear``.
        dropout: before the head's linear layer; ``linear`` has none.
        frames, size_px: of the clips; only transformers are built for one size.
        config: what ``hf:...`` is made of, as model.json has it; None looks it up.
        merge: for each output of a head before it, the class it counts for: ``heads.MergedHead``.

    Raises:
        UserError: an unknown name, or weights that can't be had or do not fit.
    """
    check_name(name)
    if head not in HEAD_KINDS:
        raise unknown_name("head", head, HEAD_KINDS)
    if num_classes < 2:
        raise UserError(f"num_classes is {num_classes}: a classifier needs 2 or more classes")
    size = {key: value for key, value in (("frames", frames), ("size_px", size_px)) if value}
    outputs = num_classes if merge is None else len(merge)
    if from_hub.is_of_transformers(name):
        options: dict[str, Any] = {"head": head, "dropout": dropout, **size}
        built = from_hub.build_named(name, outputs, weights=weights, config=config, **options)
        return built if merge is None else merged(built, merge)
    try:
        built = _fresh(name, outputs, {"head": head, "dropout": dropout}, size, weights)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
    if weights == "default":
        built = replace(built, loaded=f"{name}: published weights, all but the head, which is new")
    elif weights not in (None, "none"):
        built = replace(built, loaded=_load_file(built, name, str(weights)))
    return built if merge is None else merged(built, merge)


def merged(built: Architecture, merge: Sequence[int | None]) -> Architecture:
    """The same network with its head's classes merged: see ``heads.MergedHead``."""
    head = MergedHead(built.head, merge)
    name = next(name for name, module in built.network.named_modules() if module is built.head)
    built.network.set_submodule(name, head)
    return replace(built, head=head)


def build_model(name: str, **settings: Any) -> nn.Module:
    """The network alone: clips ``float (N, C, T, H, W)`` to logits ``(N, num_classes)``.

    Takes what ``build`` takes. C is 3, or 5 for ``names.FLOW_MODELS``.
    """
    return build(name, **settings).network


def check_name(name: str) -> None:
    """Raise UserError unless there is such a deep model."""
    if not names.is_deep(name):
        raise unknown_name("deep model", name, names.DEEP)


def _fresh(
    name: str, num_classes: int, head: dict[str, Any], size: dict[str, int], weights: str | None
) -> Architecture:
    """The network with fresh or published weights."""
    published_wanted = weights == "default"
    if name in _TORCHVISION:
        chosen = _TORCHVISION[name].DEFAULT if published_wanted else None
        return torchvision_video(name, num_classes, weights=chosen, **head, **size)  # type: ignore[arg-type]
    if name == "i3d_r50":
        image = tv.ResNet50_Weights.DEFAULT if published_wanted else None
        return i3d_r50(num_classes, weights=image, **head)
    backbone, _, pooling = name.rpartition("_")
    if backbone in BACKBONES:
        chosen = _IMAGE_WEIGHTS[backbone].DEFAULT if published_wanted else None
        return frame_pooling(
            num_classes,
            backbone=backbone,
            pooling=pooling,  # type: ignore[arg-type]
            weights=chosen,
            **head,
        )
    built, fill = _OWN[name.partition("_")[0]](name.partition("_")[2], num_classes, head, size)
    if published_wanted:
        if fill is None:
            raise UserError(
                "there are no published weights: start fresh with --weights none, or give a file"
            )
        fill()
    return built


_Filled = tuple[Architecture, Callable[[], None] | None]


def _c3d(_: str, num_classes: int, head: dict[str, Any], __: dict[str, int]) -> _Filled:
    return c3d(num_classes, **head), None


def _slowfast(_: str, num_classes: int, head: dict[str, Any], __: dict[str, int]) -> _Filled:
    network = SlowFast(num_classes, **head)
    return Architecture(network=network, blocks=list(network.blocks), head=network.head), None


def _timesformer(
    kind: str, num_classes: int, head: dict[str, Any], size: dict[str, int]
) -> _Filled:
    network = TimeSformer(num_classes, attention=kind, **head, **size)  # type: ignore[arg-type]
    weights = tv.ViT_B_16_Weights.DEFAULT
    built = Architecture(network=network, blocks=list(network.blocks), head=network.head)
    return built, lambda: from_vit(published.state_dict(weights), network)


def _two_stream(kind: str, num_classes: int, head: dict[str, Any], _: dict[str, int]) -> _Filled:
    fusion = kind.removeprefix("stream_")
    network = TwoStream(num_classes, fusion=fusion, **head)  # type: ignore[arg-type]
    weights = tv.ResNet18_Weights.DEFAULT
    built = Architecture(network=network, blocks=list(network.blocks), head=network.head)
    return built, lambda: from_resnet(published.state_dict(weights), network)


# First word of a model's name -> its builder.
_OWN: dict[str, Callable[[str, int, dict[str, Any], dict[str, int]], _Filled]] = {
    "c3d": _c3d,
    "slowfast": _slowfast,
    "timesformer": _timesformer,
    "two": _two_stream,
}


def _load_file(built: Architecture, name: str, uri: str) -> str:
    """Weights of a file; where its head is another one, for other classes or kind, ours stays.

    Returns:
        The tensors that were loaded and those that were not, in one line.
    """
    state = _in_our_names(name, published.read_safetensors(uri))
    prefix = next(k for k, module in built.network.named_modules() if module is built.head) + "."
    ours, theirs = (
        {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        for tensors in (built.network.state_dict(), state)
    )
    kept = {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
    if not kept:
        state = {k: v for k, v in state.items() if k not in theirs} | ours
    published.load_state(built.network, state, source=storage.without_secrets(uri))
    taken = (
        f"{storage.without_secrets(uri)}: {len(state) - (0 if kept else len(ours))} tensors taken"
    )
    if kept:
        return f"{taken}, all there are, the head's {len(ours)} among them"
    return f"{taken}; not its head ({_shapes(theirs)}), so a new one is made ({_shapes(ours)})"


def _shapes(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{k} {tuple(v.shape)}" for k, v in sorted(tensors.items())) or "none"


# torchvision's heads that we call otherwise: the last layer of a sequence, a convolution of S3D's.
_TORCHVISION_HEADS = {"mvit_v2_s": "head.1.", "s3d": "classifier.1."}


def _in_our_names(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file of ours or of torchvision's, as our network calls them."""
    theirs = _TORCHVISION_HEADS.get(name)
    if theirs is None:
        return state
    renamed = {}
    for key, tensor in state.items():
        if key.startswith(theirs):
            # A kernel of one place (K, C, 1, 1, 1) is a matrix.
            is_kernel = tensor.ndim == 5 and tensor.shape[2:].numel() == 1
            renamed[f"head.{key.removeprefix(theirs)}"] = tensor.flatten(1) if is_kernel else tensor
        else:
            renamed[key] = tensor
    return renamed


def set_trained(built: Architecture, trained: str) -> None:
    """Freeze all layers but the trained ones: ``all``, ``head`` or ``last_N_blocks`` and the head.

    Layers after the blocks (a last norm, the pooling over time) are trained with the head. Frozen
    batch norm keeps its statistics.

    Raises:
        UserError: something else, or more blocks than there are.
    """
    if trained == "all":
        return
    match = re.fullmatch(r"last_(\d+)_blocks?", trained)
    count = int(match[1]) if match else 0
    if trained != "head" and not 1 <= count <= len(built.blocks):
        most = len(built.blocks)
        raise UserError(
            f"trained is {trained!r}: all, head or last_N_blocks, N from 1 to {most} in this model"
        )
    frozen = built.blocks[: len(built.blocks) - count]
    trained_blocks = built.blocks[len(frozen) :]
    keep = {id(parameter) for block in trained_blocks for parameter in block.parameters()}
    in_last = {id(parameter) for parameter in built.blocks[-1].parameters()}
    parameters = list(built.network.parameters())  # In the order of the forward pass.
    last = max(k for k, parameter in enumerate(parameters) if id(parameter) in in_last)
    for k, parameter in enumerate(parameters):
        parameter.requires_grad_(k > last or id(parameter) in keep)
    for block in frozen:
        batchnorm.freeze(block)
