"""Batch normalisation that is exact over several workers, and a frozen one.

A batch norm looks at the rows its own process has. So two workers with half of the rows each would
train another network than one with all rows; ``synchronise`` makes them train the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# Exactly these: what is converted already, or frozen, is left as it is.
_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def synchronise(network: nn.Module) -> nn.Module:
    """Let every batch norm of ``network`` use the statistics of the global batch.

    Changes ``network`` in place (and returns it, or what stands for it where it is itself a batch
    norm); parameters, buffers and the names in its state dict stay. With one process nothing
    changes. Call it after the network is on its device and before it is wrapped in DDP.
    """
    if world_size() == 1:
        return network
    return _replace(network, _synchronised)


def freeze(network: nn.Module) -> nn.Module:
    """Fix every batch norm of ``network``: its statistics and its scale and shift.

    ``train()`` on it or on any network that holds it does not bring back batch statistics. Give the
    part that is not trained, after its weights are loaded. In place, like ``synchronise``.
    """
    return _replace(network, _frozen)


def is_trained(network: nn.Module) -> bool:
    """Whether any batch norm of ``network`` normalises by its batch in training: none is frozen."""
    return any(
        isinstance(module, _BatchNorm) and not isinstance(module, FrozenBatchNorm)
        for module in network.modules()
    )


def momenta(network: nn.Module) -> list[tuple[_BatchNorm, float]]:
    """The batch norms of ``network`` that move their statistics, and by which share of a batch's.

    Call it on what ``synchronise`` returns.
    """
    return [
        (module, module.momentum)
        for module in network.modules()
        if isinstance(module, _BatchNorm)
        and not isinstance(module, FrozenBatchNorm)
        and module.momentum is not None
    ]


def set_momentum(norms: list[tuple[_BatchNorm, float]], step: int) -> None:
    """Let the statistics of a fresh network be the mean of its batches until there are many.

    Statistics begin as mean 0 and variance 1. At a momentum of 0.1 a tenth of that is left after 22
    steps, and layers of s3d have variances of 0.01 to 0.3: after 20 steps the running ones were 1.3
    to 10 times too large, and of 8 clips learnt by heart (accuracy 1.0 by the batch's statistics)
    it knew 2. With 1 / (n + 1) for batch n, where that is more, nothing is left of the beginning.

    Args:
        norms: of ``momenta``.
        step: of the training, 0 for the first. No other state: it resumes exactly.
    """
    for norm, momentum in norms:
        norm.momentum = max(momentum, 1 / (step + 1))


class SynchronisedBatchNorm(_BatchNorm):
    """Batch norm over the rows of all processes, however many each has, none included.

    For the CPU, where ``torch.nn.SyncBatchNorm`` refuses to run; over one process, and in
    evaluation, it is torch's own. Input ``float (N, C, ...)``.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (torch's name)
        """The same shape and dtype, normalised by channel; statistics are float32 or wider.

        Raises:
            ValueError: training on one value per channel, whose variance nobody knows.
        """
        if not self.training or world_size() == 1:
            return super().forward(input)
        values = input if input.dtype == torch.float64 else input.float()
        mean, variance, count = _global_moments(values)
        if self.track_running_stats:
            self._remember(mean.detach(), variance.detach(), count)
        shape = (1, -1, *(1,) * (input.ndim - 2))  # (C,) -> beside (N, C, ...)
        normalised = (values - mean.view(shape)) * (variance.view(shape) + self.eps).rsqrt()
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics; the variance of a sample is n / (n - 1) of the batch's."""
        self.num_batches_tracked: Tensor
        self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:  # the plain average over all batches so far
            share = 1.0 / float(self.num_batches_tracked)
        assert self.running_mean is not None
        assert self.running_var is not None
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        unbiased = variance * (count / (count - 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        """Allow any number of dimensions: the replaced batch norm had its own check."""


class FrozenBatchNorm(_BatchNorm):
    """Batch norm by its running statistics only, in training too. Input ``float (N, C, ...)``."""

    def train(self, mode: bool = True) -> FrozenBatchNorm:  # noqa: ARG002  (torch's signature)
        """Stay in evaluation mode."""
        super().train(False)
        return self

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        """Allow any number of dimensions: the replaced batch norm had its own check."""


def world_size() -> int:
    """Processes that train together; 1 without torch.distributed."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


class _Sum(torch.autograd.Function):
    """The sum over all processes, through which gradients flow."""

    @staticmethod
    def forward(_context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> Tensor:
        # Every process used the sum, so this one's values matter to the losses of all.
        total = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total)
        return total


def _global_moments(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), variance (C,) and the count of values per channel (1,), of all processes."""
    axes = [axis for axis in range(values.ndim) if axis != 1]
    own = values.new_full((1,), values.numel() / values.shape[1])
    sums = _sum(torch.cat([values.sum(axes), own]))  # (C + 1,)
    count = sums[-1:].detach()
    if count.item() <= 1:
        raise ValueError(
            f"batch norm got one value per channel on all workers (input {tuple(values.shape)}); "
            "pass a larger batch or freeze the batch norms"
        )
    mean = sums[:-1] / count
    # In a second pass: E[x^2] - E[x]^2 loses the digits of a variance much below the mean.
    shape = (1, -1, *(1,) * (values.ndim - 2))
    variance = _sum((values - mean.view(shape)).square().sum(axes)) / count
    return mean, variance, count


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)
    return total


def _synchronised(norm: _BatchNorm) -> nn.Module:
    if next((buffer.is_cuda for buffer in norm.buffers()), False):
        convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
        return convert(norm)
    return _move_into(SynchronisedBatchNorm, norm)


def _frozen(norm: _BatchNorm) -> nn.Module:
    return _move_into(FrozenBatchNorm, norm).requires_grad_(False).eval()


def _move_into(kind: Callable[..., _BatchNorm], norm: _BatchNorm) -> _BatchNorm:
    """A ``kind`` with the parameters and buffers of ``norm``: the same tensors, not copies."""
    moved = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    moved.weight, moved.bias = norm.weight, norm.bias
    moved.running_mean, moved.running_var = norm.running_mean, norm.running_var
    moved.num_batches_tracked = norm.num_batches_tracked
    moved.train(norm.training)
    return moved


def _replace(module: nn.Module, convert: Callable[[_BatchNorm], nn.Module]) -> nn.Module:
    """``module`` with every plain batch norm in it converted, or what it is converted to itself."""
    if type(module) in _PLAIN:
        assert isinstance(module, _BatchNorm)
        return convert(module)
    for name, child in list(module.named_children()):
        replacement = _replace(child, convert)
        if replacement is not child:
            module.add_module(name, replacement)
    return module
