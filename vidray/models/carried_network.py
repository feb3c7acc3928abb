"""The network that a classical model carries: the one whose embeddings it has learnt from.

    MODEL_DIR of --embed ──> features (their ``Embedding`` has its digest) ──> training
        └──────────── copied, if it is still of that digest ────────────────> embedding/

A model folder is all that a label job needs, so the network goes with the model. No PyTorch here.
"""

from __future__ import annotations

from vidray import storage
from vidray.errors import UserError
from vidray.features.embedding import Embedding
from vidray.models.model_files import name_and_digest, network_files, read_info
from vidray.tables.run_folder import EMBEDDING


def check_network(source: str | None, network: Embedding) -> str:
    """The model folder of the network that features were made by, after a look at it.

    Args:
        source: where it was then.

    Raises:
        UserError: it is gone, or has changed.
    """
    next_step = "put it back, or extract again with --embed of another one"
    if source is None:
        raise UserError(
            f"run.json does not say where the network {network.model} lies: extract again"
        )
    shown = storage.without_secrets(source)
    try:
        found = name_and_digest(source)[1]
    except UserError as error:
        raise UserError(
            f"the embeddings are of the network {network.model} in {shown}, a model carries its "
            f"network, and it cannot be had ({error}): {next_step}"
        ) from None
    if found != network.digest:
        raise UserError(
            f"{shown} has changed since it made the embeddings ({network.digest} -> {found}): "
            f"{next_step}"
        )
    return source


def copy_network(source: str | None, network: Embedding, model_dir: str) -> None:
    """Copy the network into the folder of a classical model, and look at the copy.

    Raises:
        UserError: it is gone, or has changed.
    """
    folder = storage.join(model_dir, EMBEDDING)
    where = check_network(source, network)
    for file in reversed(network_files(read_info(where))):
        data = storage.read_bytes(storage.join(storage.canonical(where), file))
        storage.write_bytes(storage.join(folder, file), data)
    check_network(folder, network)  # It may be replaced at any moment.
