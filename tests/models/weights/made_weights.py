"""Weights that follow from their names, so that two machines have the same without a file."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


def made(names: Mapping[str, Iterable[int]]) -> dict[str, Tensor]:
    """A tensor for each name and shape: its numbers follow from the name alone."""
    return {name: _tensor(name, tuple(shape)) for name, shape in names.items()}


def _tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.tensor(7)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.rand(shape, generator=generator) * 2 - 1  # the same on every machine
    if kind == "running_var":
        return 1 + 0.3 * noise
    if kind == "weight" and len(shape) == 1:  # of a norm
        return 1 + 0.2 * noise
    if len(shape) < 2 or kind in ("bias", "running_mean"):
        return 0.1 * noise
    # He et al. 2015: what comes out is as large as what goes in.
    return noise * math.sqrt(3 / math.prod(shape[1:]))


def fill(network: nn.Module) -> nn.Module:
    """``network`` with weights that follow from its names; in eval mode."""
    # Positions that are computed and numbers of places stay.
    learned = {name for name, _ in network.named_parameters()}
    state = {
        name: tuple(value.shape)
        for name, value in network.state_dict().items()
        if name in learned or name.rpartition(".")[2].startswith(("running_", "num_batches"))
    }
    network.load_state_dict(made(state), strict=False)
    return network.eval()


def clip(shape: tuple[int, int, int], *, seed: int = 0) -> Tensor:
    """``float (2, 3, T, H, W)``, the same on every machine; T, H and W are ``shape``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((2, 3, *shape), generator=generator) * 4 - 2


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    assert found.shape == expected.shape
    assert expected.abs().max() > 1e-3
    assert expected.std() > 1e-4  # of constant logits each origin would be right
    return float((found - expected).abs().max() / expected.abs().max())
