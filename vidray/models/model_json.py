"""What a model.json says, key by key, and the rules it is held to. No PyTorch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vidray.errors import UserError
from vidray.models import names as model_names
from vidray.models import transformers_config
from vidray.models.exported.description import Export
from vidray.models.preprocess import Preprocessing
from vidray.storage import checked_json, names
from vidray.video.clips import ClipSettings
from vidray.video.frames import Limits

HeadKind = Literal["linear", "layernorm_dropout_linear"]

_MOST_CLASSES = 100_000
# The deepest network has some 300 layers, the widest layer 8192 channels.
_MOST_LAYERS, _MOST_CHANNELS = 10_000, 1 << 20
_MOST_EXITS = 64  # No network has as many units.


@dataclass(frozen=True, kw_only=True)
class Network:
    """Arguments of ``models.build`` for a network; its weights are in a file of their own."""

    name: str
    num_classes: int
    head: HeadKind = "linear"
    dropout: float = 0.5
    frames: int | None = None
    size_px: int | None = None
    variant: str | None = None
    merge: tuple[int | None, ...] | None = None
    """See ``heads.MergedHead``: the outputs of the head that is merged into these classes."""
    config: Mapping[str, Any] | None = None
    """What a network of transformers is made of (``transformers_config``); of others None."""
    channels: Mapping[str, Any] | None = None
    """What pruning has left of its layers, by name: ``[out, in]``, of a norm ``[channels]``."""
    exits: tuple[int, ...] | None = None
    """Units after which a clip may leave early, see ``networks.exits``; None has no such exits."""

    def __post_init__(self) -> None:
        if (self.config is not None) != model_names.is_hub(self.name):
            rule = f"a model that begins with {model_names.HUB} has one, and no other"
            raise UserError(f"config of the model {checked_json.shown(self.name)} is wrong: {rule}")
        if self.config is not None:
            transformers_config.from_json(self.config, where="config")
        if self.channels is not None:
            _check_channels(self.channels, self.name)
        if self.merge is not None:
            _check_merge(self.merge, self.num_classes)
        for name in ("frames", "size_px"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 4096:
                raise UserError(f"{name} is {value}: it must be 1 to 4096")
        if not 0 <= self.dropout <= 1:
            raise UserError(f"dropout is {self.dropout}: it must be 0 to 1")
        model_names.check_variant(self.name, self.variant)
        if self.exits is not None:
            _check_exits(self.exits, self.name)


@dataclass(frozen=True, kw_only=True)
class DistilledFrom:
    """What a taught model's model.json says of its teacher."""

    teacher: str
    teacher_digest: str
    temperature: float
    share: float
    unlabelled_clips: int

    def __post_init__(self) -> None:
        names.check_name(self.teacher, what="the teacher")
        if not re.fullmatch("[0-9a-f]{12}", self.teacher_digest):
            shown = checked_json.shown(self.teacher_digest)
            raise UserError(f"teacher_digest is {shown}: it must be twelve hex digits")
        for name in ("temperature", "share"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be above 0")
        if self.unlabelled_clips < 0:
            raise UserError(f"unlabelled_clips is {self.unlabelled_clips}: it must be 0 or more")


def _check_channels(channels: Mapping[str, Any], name: str) -> None:
    """What can be told without the network; ``cut_channels`` holds them against its layers."""
    if model_names.is_hub(name):
        raise UserError(f"channels are of a pruned network, and {name} cannot be pruned")
    if not 1 <= len(channels) <= _MOST_LAYERS:
        raise UserError(f"channels name {len(channels)} layers: it must be 1 to {_MOST_LAYERS}")
    for layer, sizes in channels.items():
        if (
            not isinstance(sizes, list)
            or len(sizes) not in (1, 2)
            or any(type(size) is not int or not 1 <= size <= _MOST_CHANNELS for size in sizes)
        ):
            shown = checked_json.shown(layer)
            rule = f"a list of one or two whole numbers from 1 to {_MOST_CHANNELS}"
            raise UserError(f"channels of {shown} are {_shown_sizes(sizes)}: it must be {rule}")


def _shown_sizes(sizes: Any) -> str:
    if isinstance(sizes, list) and len(sizes) <= 2:
        return f"[{', '.join(map(checked_json.shown, sizes))}]"
    return checked_json.shown(sizes)


def _check_merge(merge: tuple[int | None, ...], num_classes: int) -> None:
    if len(merge) > _MOST_CLASSES:
        raise UserError(f"merge has {len(merge)} entries: {_MOST_CLASSES} at the most")
    if {number for number in merge if number is not None} != set(range(num_classes)):
        raise UserError(
            f"merge names other classes than 0 to {num_classes - 1}: each has one member or more"
        )


def _check_exits(exits: tuple[int, ...], name: str) -> None:
    model_names.check_exits(name)
    if not 1 <= len(exits) <= _MOST_EXITS:
        raise UserError(f"exits has {len(exits)} entries: 1 to {_MOST_EXITS}")
    if any(number < 0 for number in exits) or sorted(set(exits)) != list(exits):
        raise UserError(f"exits is {list(exits)}: numbers of units, from 0, each above the last")


# Folders of an older vidray lack the caps that came later, ``build`` has defaults, and neither
# frames nor a network for embeddings could be chosen, nor was anything resized and then cropped, or
# cut of what is stored.
_MAY_LACK = (Limits, Network, "choice", "embedding", "resize_px", "resizer", "cut",
             "unlabelled")  # fmt: skip


def check(info: Any) -> None:
    """Raise UserError unless ``info`` describes a model of either kind."""
    if not isinstance(info, Mapping):
        raise UserError(f"it is {checked_json.shown(info)}: it must be an object")
    family = info.get("family")
    if family not in ("deep", "classical"):
        raise UserError(f"family is {checked_json.shown(family)}: it must be deep or classical")
    names.check_name(info.get("name"), what="the model")
    _check_classes(info.get("class_names"))
    if family == "deep":
        _check_deep(info)
    else:
        _check_classical(info)


def _check_classes(classes: Any) -> None:
    if not isinstance(classes, list) or not 2 <= len(classes) <= _MOST_CLASSES:
        rule = f"a list of 2 to {_MOST_CLASSES} names"
        raise UserError(f"class_names is {checked_json.shown(classes)}: it must be {rule}")
    for k, name in enumerate(classes):
        if not isinstance(name, str) or not name or not checked_json.is_text(name):
            shown = checked_json.shown(name)
            raise UserError(f"class_names[{k}] is {shown}: it must be text, and not empty")
    name, times = Counter(classes).most_common(1)[0]
    if times > 1:
        raise UserError(
            f"class_names has {checked_json.shown(name)} twice: each name is there once"
        )


def _check_deep(info: Mapping[str, Any]) -> None:
    network = checked_json.build(Network, info.get("network"), "network", may_lack=_MAY_LACK)
    if (exported := info.get("exported")) is not None:
        checked_json.build(Export, exported, "exported")
    if network.num_classes != len(info["class_names"]):
        raise UserError(
            f"network.num_classes is {network.num_classes} and class_names has "
            f"{len(info['class_names'])}: a network has one output for each class"
        )
    if "exits" in info:
        from vidray.models import exit_rule  # It imports SciPy, for the few models that have exits.

        exit_rule.check_count(exit_rule.ExitRule.from_json(info["exits"]), network.exits)
    pixels = info.get("preprocessing")
    given = checked_json.build(Preprocessing, pixels, "preprocessing", may_lack=_MAY_LACK)
    clip = checked_json.build(ClipSettings, info.get("clip"), "clip", may_lack=_MAY_LACK)
    if "distillation" in info:  # Of a model without a teacher it says nothing.
        checked_json.build(DistilledFrom, info["distillation"], "distillation")
    if max(given.num_frames, given.size_px) > 4096:
        raise UserError("preprocessing.num_frames and size_px must be 4096 at the most")
    if given.span > clip.frames_per_clip:
        raise UserError(
            f"preprocessing takes frames from {given.span} and clip.frames_per_clip is "
            f"{clip.frames_per_clip}: a clip holds what the network is given"
        )


def _check_classical(info: Mapping[str, Any]) -> None:
    # Half a second of imports, for feature families: not for who reads of a network.
    from vidray.features.extraction import Settings

    features = checked_json.build(Settings, info.get("features"), "features", may_lack=_MAY_LACK)
    families, there = info.get("families"), features.families
    if not isinstance(families, list) or not families or any(f not in there for f in families):
        rule = f"a list of some of features.families, {' '.join(there)}"
        raise UserError(f"families is {checked_json.shown(families)}: it must be {rule}")
    if len(set(families)) < len(families):
        raise UserError("families has one twice: each is there once")
