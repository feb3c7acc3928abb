"""Networks by name."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from vidray import storage
from vidray.errors import UserError, VideoError, unknown_name
from vidray.models import names
from vidray.models.networks import batchnorm, cut_channels, from_hub
from vidray.models.networks.architecture import Architecture
from vidray.models.networks.c3d import c3d
from vidray.models.networks.chains import TRACED
from vidray.models.networks.cut_channels import Channels
from vidray.models.networks.exits import with_exits
from vidray.models.networks.frame_pooling import BACKBONES, frame_pooling
from vidray.models.networks.heads import HEAD_KINDS, HeadKind, MergedHead
from vidray.models.networks.r2plus1d import r2plus1d_34
from vidray.models.networks.resnet_clips import PLANS, resnet_clips
from vidray.models.networks.slowfast import SlowFast
from vidray.models.networks.timesformer import TimeSformer
from vidray.models.networks.torchvision_video import NAMES, torchvision_video
from vidray.models.networks.two_stream import CLIP_CHANNELS, TwoStream
from vidray.models.networks.x3d import x3d
from vidray.models.transformers_config import VIDEOMAE
from vidray.models.weights import reader

# A clip that every network takes, where none is named.
_FRAMES, _SIZE_PX = 16, 112


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
    variant: str | None = None,
    channels: Channels | None = None,
    merge: Sequence[int | None] | None = None,
    keep_head: bool | None = None,
    exits: Sequence[int] | None = None,
) -> Architecture:
    """A network with its parts.

    Args:
        name: one of ``names.DEEP``, or ``hf:OWNER/NAME[@REVISION]`` or ``hf:/folder``.
        num_classes: logits.
        weights: None or ``none`` starts fresh; ``default`` starts from the architecture's published
            weights, the head apart; anything else is a file, local or in a bucket, a model folder,
            a folder of transformers, or ``hf:...``, of a whole network or of one with another head,
            in our names or those of an origin of ``weights.origins``. ``loaded`` of what is
            returned says what was taken, ``origin`` whose names they have.
        head: ``linear`` or ``layernorm_dropout_linear``.
        dropout: before the head's linear layer; ``linear`` has none.
        frames, size_px: of the clips; only transformers are built for one size.
        config: what ``hf:...`` is made of, as model.json has it; None looks it up.
        variant: None, or one of the model's in ``names.VARIANTS``: how somebody's weights want to
            be run. ``weights`` bring their own.
        merge: for each output of a head before it, the class it counts for: ``heads.MergedHead``.
        keep_head: None keeps the last layer of a file where it fits and never that of ``default``,
            unless the model is ``hf:...``; True wants it, whichever it is; False makes a new one.
        exits: units after which clips may leave early, see ``exits.ExitNetwork``; always new.

    Raises:
        UserError: an unknown name or variant, or weights that can't be had or do not fit.
    """
    check_name(name)
    names.check_variant(name, variant)
    if head not in HEAD_KINDS:
        raise unknown_name("head", head, HEAD_KINDS)
    if num_classes < 2:
        raise UserError(f"num_classes is {num_classes}: a classifier needs 2 or more classes")
    size = {key: value for key, value in (("frames", frames), ("size_px", size_px)) if value}
    settings = {"head": head, "dropout": dropout}
    outputs = num_classes if merge is None else len(merge)

    left = channels
    if left is None and weights not in reader.NONE and not names.is_hub(name):
        left = reader.channels_of(str(weights), name)

    def make(other: str, variant: str | None) -> Architecture:
        made = _fresh(other, outputs, settings, size, variant)
        return _cut(made, left, other, size) if left and other == name else made

    if names.is_hub(name):
        options: dict[str, Any] = {"config": config, "keep_head": keep_head, **settings, **size}
        built = from_hub.build_hub(name, outputs, weights=weights, **options)
    elif weights in reader.NONE:
        built = replace(make(name, variant), variant=variant)
    else:
        built = reader.filled(name, str(weights), make, keep_head=keep_head)
    if merge is not None:
        built = merged(built, merge)
    if exits is None:
        return built
    if built.channels:  # Places for exits are found by a look at what each layer gives.
        cut_channels.check_runs(built.network, TRACED, shown=name)
    return with_exits(built, name, exits, num_classes)


def origin_and_variant(name: str, weights: str) -> tuple[str | None, str | None]:
    """Whose weights they are, and how the network is run with them, before it is built.

    Args:
        name: as of ``build``.
        weights: as of ``build``.

    Raises:
        UserError: they can't be had, or do not fit.
    """
    if weights in reader.NONE:
        return None, None
    if names.is_hub(name):
        return "transformers", None
    if weights == reader.DEFAULT or names.is_hub(weights) or storage.is_folder(weights):
        return _recognised(name, weights)
    try:
        fingerprint = storage.file_info(storage.canonical(weights)).fingerprint
    except VideoError:  # Reading it says what is wrong.
        return _recognised(name, weights)
    return _of_file(name, weights, fingerprint)


# A training asks for a file's colours, its variant and what contradicts it: hundreds of megabytes
# of a bucket each time.
@functools.lru_cache(maxsize=4)
def _of_file(name: str, weights: str, _fingerprint: str) -> tuple[str | None, str | None]:
    return _recognised(name, weights)


def _recognised(name: str, weights: str) -> tuple[str | None, str | None]:
    left = reader.channels_of(weights, name)

    def make(other: str, variant: str | None) -> Architecture:
        made = _fresh(other, 2, {"head": "linear", "dropout": 0.5}, {}, variant)
        return _cut(made, left, other, {}) if left and other == name else made

    return reader.origin_and_variant(name, weights, make)


def _cut(
    built: Architecture, channels: Channels, name: str, size: Mapping[str, int]
) -> Architecture:
    """The network with so many channels; raises UserError where that is no network."""
    cut_channels.cut(built.network, channels, shown=name)
    if size:
        inputs = CLIP_CHANNELS if name in names.FLOW_MODELS else 3
        frames, size_px = size.get("frames", _FRAMES), size.get("size_px", _SIZE_PX)
        cut_channels.check_runs(built.network, (inputs, frames, size_px, size_px), shown=name)
    return replace(built, channels=channels)


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
    name: str,
    num_classes: int,
    settings: dict[str, Any],
    size: dict[str, int],
    variant: str | None,
) -> Architecture:
    if variant is not None:
        settings = {**settings, "variant": variant}
    backbone, _, pooling = name.rpartition("_")
    try:
        if name in NAMES:
            return torchvision_video(name, num_classes, **settings, **size)  # type: ignore[arg-type]
        if name in PLANS:
            return resnet_clips(name, num_classes, **settings)
        if backbone in BACKBONES:
            chosen: dict[str, Any] = {"backbone": backbone, "pooling": pooling}
            return frame_pooling(num_classes, **chosen, **settings)
        word, _, kind = name.partition("_")
        return _OWN[word](kind, num_classes, settings, size)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None


def _c3d(_: str, num_classes: int, settings: dict[str, Any], __: dict[str, int]) -> Architecture:
    return c3d(num_classes, **settings)


def _r2plus1d(
    _: str, num_classes: int, settings: dict[str, Any], __: dict[str, int]
) -> Architecture:
    return r2plus1d_34(num_classes, **settings)


def _x3d(_: str, num_classes: int, settings: dict[str, Any], __: dict[str, int]) -> Architecture:
    return x3d(num_classes, **settings)


def _slowfast(
    _: str, num_classes: int, settings: dict[str, Any], __: dict[str, int]
) -> Architecture:
    network = SlowFast(num_classes, **settings)
    return Architecture(network=network, blocks=list(network.blocks), head=network.head)


def _timesformer(
    kind: str, num_classes: int, settings: dict[str, Any], size: dict[str, int]
) -> Architecture:
    network = TimeSformer(num_classes, attention=kind, **settings, **size)  # type: ignore[arg-type]
    return Architecture(network=network, blocks=list(network.blocks), head=network.head)


def _videomae(
    kind: str, num_classes: int, settings: dict[str, Any], size: dict[str, int]
) -> Architecture:
    name = f"videomae_{kind}"
    options: dict[str, Any] = {**settings, **size}
    return from_hub.make(name, VIDEOMAE[name], num_classes, **options)


def _two_stream(
    kind: str, num_classes: int, settings: dict[str, Any], _: dict[str, int]
) -> Architecture:
    fusion = kind.removeprefix("stream_")
    network = TwoStream(num_classes, fusion=fusion, **settings)  # type: ignore[arg-type]
    return Architecture(network=network, blocks=list(network.blocks), head=network.head)


# First word of a model's name -> its builder.
_OWN: dict[str, Callable[[str, int, dict[str, Any], dict[str, int]], Architecture]] = {
    "c3d": _c3d,
    "r2plus1d": _r2plus1d,
    "slowfast": _slowfast,
    "timesformer": _timesformer,
    "two": _two_stream,
    "videomae": _videomae,
    "x3d": _x3d,
}


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
