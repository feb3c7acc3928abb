"""What ``--weights`` names, found and put into the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidray import storage
from vidray.errors import UserError
from vidray.models import names
from vidray.models.exported.description import is_graph
from vidray.models.model_files import folder_of_weights, read_info
from vidray.models.networks.architecture import Architecture
from vidray.models.weights import files, fitting, hub, published, wrappers
from vidray.models.weights.fitting import FoundWeights, Make
from vidray.models.weights.origins import of_model
from vidray.tables.run_folder import MODEL, WEIGHTS

CONFIG = "config.json"  # of a folder of transformers
DEFAULT = "default"
_EXITS = "exits."  # begins the names of an ``ExitNetwork``'s own tensors
# What starts fresh.
NONE = (None, "none")


def filled(name: str, weights: str, make: Make, *, keep_head: bool | None = None) -> Architecture:
    """The architecture ``name`` with weights.

    Args:
        name: one of ``names.DEEP``.
        weights: ``default``, a file, a model folder, a folder of transformers, or ``hf:...``.
        make: makes a fresh network of a name and a variant.
        keep_head: None keeps the head of a file or folder where it has the shapes of ours, and
            makes one for published weights: as many classes are not the same classes. True wants
            it, False never keeps it.

    Raises:
        UserError: they can't be had, or do not fit.
    """
    if weights == DEFAULT:
        return fitting.fill(name, published.find(name), make, keep_head=bool(keep_head))
    return fitting.fill(name, find(weights, name), make, keep_head=keep_head)


def origin_and_variant(name: str, weights: str, make: Make) -> tuple[str | None, str | None]:
    """Whose weights they are, and how the network is run with them; for the arguments see
    ``filled``.

    Raises:
        UserError: they can't be had, or do not fit.
    """
    if weights == DEFAULT:
        known = published.of_model(name)
        rows = [row for row in of_model(name) if known is not None and row.name == known.origin]
        return (rows[0].name, rows[0].variant) if rows else (None, None)
    found = find(weights, name)
    origin, variant = fitting.recognise(name, found, make)
    return origin.name, variant


def channels_of(weights: str, name: str) -> Mapping[str, Any] | None:
    """What pruning has left of the layers, see ``cut_channels``, of weights of a model folder; None
    of all others.

    Raises:
        UserError: as ``info_of``.
    """
    if (folder := folder_of_weights(weights)) is None:
        return None
    found: Mapping[str, Any] | None = info_of(folder, name)["network"].get("channels")
    return found


def find(weights: str, name: str) -> FoundWeights:
    """The tensors of a file or folder, local or in a bucket.

    Raises:
        UserError: it is none, or a model folder of another architecture than ``name``.
    """
    if names.is_hub(weights):
        return of_hub(hub.find(weights))
    shown = storage.without_secrets(weights)
    if (folder := folder_of_weights(weights)) is not None:
        return _of_model_folder(folder, name)
    if not storage.is_folder(weights):
        tensors, said = wrappers.unwrap(files.read(weights), shown=shown)
        return FoundWeights(tensors=tensors, shown=shown, said=said)
    if storage.exists(storage.join(weights, CONFIG)):
        return of_hub(hub.find(f"{names.HUB}{storage.canonical(weights)}"))
    raise UserError(
        f"{shown} is a folder without {MODEL} or {CONFIG}: give a model folder, a folder that "
        "save_pretrained of transformers wrote, or a file of weights"
    )


def info_of(folder: str, name: str) -> dict[str, Any]:
    """model.json of a model folder that weights of the architecture ``name`` are wanted of.

    Raises:
        UserError: it is no such folder, or holds a classical model or another architecture.
    """
    info = read_info(folder)
    shown = storage.without_secrets(folder)
    if info["family"] != "deep":
        raise UserError(f"{shown} holds the classical model {info['name']}, which has no weights")
    if is_graph(info):
        raise UserError(
            f"{shown} holds an exported network, which cannot be trained: give the folder that it "
            "was exported from"
        )
    theirs = info["network"]["name"]
    if theirs != name:
        raise UserError(f"{shown} holds {theirs}, and this is {name}: give --model {theirs}")
    return info


def _of_model_folder(folder: str, name: str) -> FoundWeights:
    info = info_of(folder, name)
    where = storage.join(folder, WEIGHTS)
    tensors = files.read_safetensors(where)
    if info["network"].get("exits") is not None:  # Heads of its own classes, as its last one is.
        tensors = {name: own for name, own in tensors.items() if not name.startswith(_EXITS)}
    return FoundWeights(
        tensors=tensors,
        shown=storage.without_secrets(folder),
        origin="vidray",
        variant=info["network"].get("variant"),
    )


def of_hub(model: hub.HubModel) -> FoundWeights:
    """The tensors of a model of transformers.

    Raises:
        UserError: it has none of safetensors, or they are damaged.
    """
    return FoundWeights(tensors=hub.state_dict(model), shown=str(model), source=model.origin)
