"""The files of a model folder by name, and what its model.json says. No PyTorch: a driver that only
lists and compares must not load it.

A model folder is input like a video: model.json may have been written by anybody. ``read_info``
looks at all of it before a word of it is used.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vidray import storage
from vidray.errors import UserError, VideoError
from vidray.models import names as model_names
from vidray.models import transformers_config
from vidray.models.exported import copies
from vidray.models.exported.description import Export, is_graph
from vidray.models.preprocess import Preprocessing
from vidray.storage import checked_json, names
from vidray.tables import digests, run_folder
from vidray.tables.run_folder import EMBEDDING, GRAPHS, MODEL, PIPELINE, WEIGHTS
from vidray.video.clips import ClipSettings
from vidray.video.frames import Limits

HeadKind = Literal["linear", "layernorm_dropout_linear"]

# Names and settings of 100,000 classes are 2 MB.
_MOST_BYTES = 16 << 20
_MOST_CLASSES = 100_000
# The deepest network has some 300 layers, the widest layer 8192 channels.
_MOST_LAYERS, _MOST_CHANNELS = 10_000, 1 << 20
_PIECE_BYTES = 4 << 20
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


def read_info(model_dir: str) -> dict[str, Any]:
    """model.json of a model folder, local or in a bucket.

    Every value that vidray uses is there, of its type and in its range, and nothing in it names a
    file or an address.

    Raises:
        UserError: there is none, or it is not what a training writes.
    """
    where = storage.join(storage.canonical(model_dir), MODEL)
    if not storage.exists(where):
        raise UserError(
            f"{storage.without_secrets(model_dir)} is not a model folder "
            f"({_what_else(model_dir)}): make one with jobs/train.py"
        )
    try:
        size_bytes = storage.file_info(where).size_bytes
        if size_bytes > _MOST_BYTES:
            most = f"{_MOST_BYTES >> 20} MiB"
            raise UserError(f"it has {size_bytes / 2**20:.0f} MiB, and {most} hold any model's")
        info = checked_json.loads(storage.read_bytes(where))
        _check(info)
    except (VideoError, ValueError) as error:  # A UserError is a ValueError, too.
        raise UserError(
            f"{storage.without_secrets(where)} is not what a training writes: {error}; get the "
            "model again from its author, or train it again"
        ) from None
    checked: dict[str, Any] = info
    return checked


def name_and_digest(model_dir: str) -> tuple[str, str]:
    """A model's name, and twelve hex digits that change when its answers may.

    Raises:
        UserError: not a model folder.
    """
    info = read_info(model_dir)
    files = [MODEL, WEIGHTS, PIPELINE]
    if exported := info.get("exported"):
        files += [name for name in GRAPHS[exported["to"]] if name != WEIGHTS]
    if embeds(info):
        files += [f"{EMBEDDING}/{name}" for name in _carried_files(model_dir)]
    digest = hashlib.sha256()
    copy = _copy(model_dir, info)
    for file in files:
        where = storage.join(storage.canonical(model_dir), file)
        if copy is not None and file in network_files(info)[1:]:
            where = str(copy / file)
        try:
            size_bytes = storage.file_info(where).size_bytes
            digest.update(f"{file} {size_bytes}\n".encode())
            # In pieces: the file's maker decides its size.
            with storage.open_binary(where, size_bytes=size_bytes) as opened:
                while piece := opened.read(_PIECE_BYTES):
                    digest.update(piece)
        except VideoError as error:
            if error.kind == "missing":
                continue  # A model has weights or a pipeline.
            problem = f"{storage.without_secrets(where)} cannot be read: {error.message}"
            raise UserError(f"{problem}; fix it, or name another model folder") from error
    if info["family"] == "deep" and info["clip"].get("clip_seconds") is not None:
        # Until then windows of long videos showed a model all of their seconds at once.
        digest.update(b"a window is cut as a clip is")
    return str(info["name"]), digest.hexdigest()[:12]


def digest_of_both(cheap: str, dear: str) -> str:
    """Twelve hex digits that stand for two models, of these digests, one before the other."""
    return digests.of([cheap, dear])


def _copy(model_dir: str, info: Mapping[str, Any]) -> Path | None:
    """Where on this machine the graph of a network in a bucket lies that this process runs: it need
    not be read a second time for its digest.
    """
    if not is_graph(info) or not storage.is_bucket(storage.canonical(model_dir)):
        return None
    return copies.found(storage.canonical(model_dir), network_files(info)[1:])


def _carried_files(model_dir: str) -> list[str]:
    """The files of the network in a classical model's folder."""
    inside = storage.join(storage.canonical(model_dir), EMBEDDING)
    if not storage.exists(storage.join(inside, MODEL)):
        return [MODEL, WEIGHTS]
    return network_files(read_info(inside))


def network_files(info: Mapping[str, Any]) -> list[str]:
    """The files of a network's model folder without which it is none, model.json first.

    Args:
        info: its model.json.
    """
    exported = info.get("exported")
    return [MODEL, *((WEIGHTS,) if exported is None else GRAPHS[exported["to"]])]


def folder_of_weights(weights: str) -> str | None:
    """The model folder that ``--weights`` names, itself or by the file of weights in it; None of
    anything else.
    """
    if weights in ("default", "none") or model_names.is_hub(weights):
        return None
    folder = storage.canonical(weights)
    if storage.name_of(folder) == WEIGHTS:
        folder = storage.parent_of(folder)
    return folder if storage.exists(storage.join(folder, MODEL)) else None


def embeds(info: Mapping[str, Any]) -> bool:
    """Whether a model.json is of a classical model that takes the embeddings of a network."""
    return info["family"] == "classical" and info["features"].get("embedding") is not None


def network_folder(model_dir: str) -> str:
    """The model folder of a model's network: of a deep model its own, of a classical one that takes
    embeddings the one within it.

    Raises:
        UserError: not a model folder, a classical model without a network, or one whose network is
            not there or not the one that it was trained with.
    """
    info = read_info(model_dir)
    if info["family"] == "deep":
        return storage.canonical(model_dir)
    shown = storage.without_secrets(model_dir)
    if not embeds(info):
        raise UserError(f"{shown} holds {info['name']}, a classical model: a network is needed")
    inside = storage.join(storage.canonical(model_dir), EMBEDDING)
    _carried_info(model_dir)
    digest = info["features"]["embedding"]["digest"]
    if (found := name_and_digest(inside)[1]) != digest:
        raise UserError(
            f"{shown}/{EMBEDDING} holds the network {found}, and the model was trained with "
            f"{digest}: get the model again from its author, or train it again"
        )
    return inside


def network_info(model_dir: str, info: dict[str, Any]) -> dict[str, Any] | None:
    """model.json of a model's network: its own, or of a classical one that takes embeddings that of
    the one within it; None of a model without a network.

    Args:
        info: the model's own model.json.

    Raises:
        UserError: the network is not there.
    """
    if info["family"] == "deep":
        return info
    return _carried_info(model_dir) if embeds(info) else None


def _carried_info(model_dir: str) -> dict[str, Any]:
    shown, inside = storage.without_secrets(model_dir), storage.join(model_dir, EMBEDDING)
    if not storage.exists(storage.join(storage.canonical(inside), MODEL)):
        raise UserError(
            f"{shown} is not a whole model folder (no {EMBEDDING}/{MODEL}): copy or train it again"
        )
    info = read_info(inside)
    if info["family"] != "deep":
        raise UserError(f"{shown}/{EMBEDDING} holds a classical model: a network must be there")
    return info


def _what_else(folder: str) -> str:
    """The content of a folder without model.json, as far as it is known."""
    try:
        report = run_folder.read_json(storage.canonical(folder))
    except (UserError, OSError):
        return f"no {MODEL}"
    if run_folder.kind_of(report) == "search":
        return "it holds a search, and its best model is in best"
    if run_folder.kind_of(report) == "pretraining":
        return "it holds a pre-training, which begins a model: give it as --weights"
    if run_folder.kind_of(report) == "model":
        return f"no {MODEL}: its training has not finished"
    return f"it holds {run_folder.described(report)}"


def _check(info: Any) -> None:
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
