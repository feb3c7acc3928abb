"""The pruned network that a training begins with: decided once, and stored before it starts.

    WORK/pruned/model.json, weights.safetensors     a model folder; the training's own ``--weights``

A training that was killed finds it there and goes on with it, whatever has become of the network
that was pruned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vidray import storage
from vidray.errors import UserError
from vidray.learning.deep_job import DeepJob, model_info, rows_of
from vidray.learning.examples import Examples
from vidray.learning.pruning import choice, groups, importance
from vidray.models.folder import save_deep
from vidray.models.inference import evaluating
from vidray.models.model_files import folder_of_weights, name_and_digest, read_info
from vidray.models.networks import cut_channels
from vidray.models.networks.build import build
from vidray.tables.run_folder import MODEL
from vidray.tables.shards import Clips

_FOLDER = "pruned"
# Clips of split train that importance is measured on, and those of one gradient.
_CLIPS, _BATCH = 64, 8


def with_pruning(job: DeepJob, share: float) -> DeepJob:
    """The job, to begin with a pruned network.

    Args:
        job: with the weights of a model folder of the same classes.
        share: of the operations that goes.

    Raises:
        UserError: this network can't be pruned, or its folder is of other classes.
    """
    groups.check_installed()
    name = job.network["name"]
    folder = folder_of_weights(job.weights)
    if folder is None:
        raise UserError(
            f"--prune takes from a trained network, and --weights {job.weights} is no model "
            f"folder: train {name} first, and give its folder"
        )
    theirs = read_info(folder)["class_names"]
    if list(job.class_names) != theirs:
        raise UserError(
            f"--prune takes from a network of the same classes, and "
            f"{storage.without_secrets(folder)} knows {len(theirs)} others or in another order: "
            f"train {name} on these clips first, and give its folder"
        )
    with torch.device("meta"):
        built = build(**job.network)
    if reason := groups.why_not(built, name, job.network.get("variant")):
        raise UserError(f"--prune: {reason}; give a convolutional network such as r3d_18")
    return dataclasses.replace(job, prune=share)


def begun(job: DeepJob, examples: Examples, work: str) -> tuple[DeepJob, dict[str, Any]]:
    """The job as it trains: its network is pruned now where that is wanted, unless ``work`` has it.

    Args:
        job: of ``with_pruning``, or one without.
        examples: that it learns from.
        work: the folder of the work, which stays until the training has finished.

    Returns:
        The job whose weights are those that are left, and what model.json says of it.

    Raises:
        UserError: so much can't go, or the network to prune is not there or does not fit.
    """
    if job.prune is None:
        return job, {}
    where = storage.join(work, _FOLDER)
    if not storage.exists(storage.join(where, MODEL)):
        _decide(job, examples, where)
    info = read_info(where)
    print(in_words(info["pruned"]))
    network = {**job.network, "channels": info["network"]["channels"]}
    ready = dataclasses.replace(job, network=network, weights=where, prune=None)
    return ready, {"pruned": info["pruned"]}


def in_words(report: Mapping[str, Any]) -> str:
    """What has been pruned, in one line."""
    (flops, less), (parameters, fewer) = report["flops_per_clip"], report["parameters"]
    gone = 1 - less / flops
    return (
        f"pruned: {flops / 1e9:.3g} -> {less / 1e9:.3g} GFLOP a clip ({gone:.0%} gone), "
        f"{parameters:,} -> {fewer:,} parameters"
    )


def _decide(job: DeepJob, examples: Examples, where: str) -> None:
    """Prune, and store what is left."""
    assert job.prune is not None
    # Exits are new in every training: they are made for what is left.
    whole = {key: value for key, value in job.network.items() if key != "exits"}
    built = build(**whole, weights=job.weights, keep_head=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = built.network.to(device)
    frames, size_px, *_ = job.preprocessing.clip_shape
    shape = (job.preprocessing.num_channels, frames, size_px, size_px)
    costs = choice.count_operations(network, shape)
    before = sum(parameter.numel() for parameter in network.parameters())
    with evaluating(network):
        found = groups.find_groups(built, shape)
        scores = importance.taylor(network, found, _batches(job, device))
    kept = choice.choose(found, scores, costs, job.prune)
    choice.remove(network, found, kept)
    remeasure_norms(network, (inputs for inputs, _ in _batches(job, device)))
    channels = cut_channels.channels_of(network, _architecture(whole))
    after = choice.count_operations(network, shape)
    report = {
        "of": name_and_digest(str(folder_of_weights(job.weights)))[1],
        "share": job.prune,
        "flops_per_clip": [costs.total, after.total],
        "parameters": [before, sum(parameter.numel() for parameter in network.parameters())],
    }
    pruned = dataclasses.replace(job, network={**whole, "channels": channels}, distillation=None)
    save_deep(where, {**model_info(pruned, examples), "pruned": report}, network.state_dict())


def remeasure_norms(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of batch norms by the means over these batches, in place.

    Those of before are of channels that are gone. s3d of which 0.3 of the operations went then knew
    0.49 of what it had been taught (0.77), and without it 0.25, which is chance.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    with evaluating(network), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # A mean of all batches alike.
            norm.train()
        for inputs in batches:
            network(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _architecture(network: Mapping[str, Any]) -> nn.Module:
    """The network without any pruning, tensors without content."""
    arguments = {key: value for key, value in network.items() if key != "channels"}
    with torch.device("meta"):
        return build(**arguments).network


def _batches(job: DeepJob, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Clips of split train, drawn by the seed, as the network takes them, with their classes."""
    clips = Clips(job.data)
    rows, labels = rows_of(job, clips, "train")
    order = np.random.default_rng(job.training.seed).permutation(len(rows))[:_CLIPS]
    for k in range(0, len(order), _BATCH):
        some = order[k : k + _BATCH]
        pixels = np.require(
            job.preprocessing.select(clips.read(rows[some])), requirements=["C", "W"]
        )
        inputs = job.preprocessing.to_input(torch.from_numpy(pixels).to(device))
        yield inputs, torch.from_numpy(labels[some]).to(device)
