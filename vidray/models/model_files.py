"""The files of a model folder by name, and what its model.json says. No PyTorch: a driver that only
lists and compares must not load it.

A model folder is input like a video: model.json may have been written by anybody. ``read_info``
looks at all of it before a word of it is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidray import storage
from vidray.errors import UserError, VideoError
from vidray.models import model_json
from vidray.models import names as model_names
from vidray.models.exported import copies
from vidray.models.exported.description import is_graph
from vidray.storage import checked_json
from vidray.tables import digests, run_folder
from vidray.tables.run_folder import EMBEDDING, GRAPHS, MODEL, PIPELINE, WEIGHTS

# Names and settings of 100,000 classes are 2 MB.
_MOST_BYTES = 16 << 20
_PIECE_BYTES = 4 << 20


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
        model_json.check(info)
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


def check_apart(out: str, source: str | None, *, flag: str) -> None:
    """Raise UserError where a model folder is both read and written: --overwrite would remove it
    before it is read.

    Args:
        out: folder to write.
        source: the model folder that ``flag`` names, if it names one.
    """
    if source is not None and storage.canonical(out) == storage.canonical(source):
        raise UserError(f"{flag} and --out are one folder: give the new model one of its own")


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
