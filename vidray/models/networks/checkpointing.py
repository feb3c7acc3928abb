"""Gradient checkpointing: a block's activations are computed again instead of kept.

A training step then needs memory for the inputs of the blocks and the activations of one of them,
and about a third more time (Chen et al. 2016).
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpoint_blocks(network: nn.Module, blocks: Sequence[nn.Module]) -> None:
    """Make ``blocks`` compute their activations again in the backward pass, from now on.

    Loss, gradients, running statistics and state dict stay what they are without. It happens only
    in training and where gradients are wanted, and doing it twice is doing it once.

    Args:
        network: what the blocks are submodules of.
        blocks: modules that are called one after the other, none inside another.

    Raises:
        ValueError: a block is not in ``network``, or is inside another block and would be computed
            three times.
    """
    inside = {id(module) for module in network.modules()}
    for index, block in enumerate(blocks):
        if id(block) not in inside:
            raise ValueError(f"block {index} is not in the network; pass the network's own blocks")
        for other in blocks:
            if other is not block and any(module is block for module in other.modules()):
                raise ValueError(f"block {index} is inside another; pass blocks beside each other")
    for block in blocks:
        for unit in _units(block):
            # A partial of a function of the module: the network can still be copied and pickled.
            unit.forward = partial(_forward, unit)


def _units(block: nn.Module) -> list[nn.Module]:
    """The units that are recomputed at once: each block of a stage that is a row of blocks.

    The least memory is that of the largest unit, and a stage of R3D holds twice what a block does.
    """
    children = list(block.children())
    if type(block) is nn.Sequential and all(list(child.children()) for child in children):
        return [unit for child in children for unit in _units(child)]
    return [block]


def _forward(block: nn.Module, *inputs: Any, **options: Any) -> Any:
    """The block's own forward, checkpointed where that is useful."""
    forward = partial(type(block).forward, block, **options)
    if not (block.training and torch.is_grad_enabled()):
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=partial(_contexts, block))


def _contexts(
    block: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of the first and the second forward pass."""
    return nullcontext(), _statistics_at_rest(block)


@contextmanager
def _statistics_at_rest(block: nn.Module) -> Iterator[None]:
    """A context in which batch norms update copies of their statistics, which are then dropped.

    Without, each batch would move the running statistics twice. They cannot be switched off:
    autograd saves them, and checkpoint wants both passes to save the same.
    """
    kept = [
        (module, name, buffer)
        for module in block.modules()
        if isinstance(module, _BatchNorm) and module.training
        for name, buffer in module.named_buffers(recurse=False)
    ]
    for norm, name, buffer in kept:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        # Checkpoint leaves the second pass by an exception once it has what it needs.
        for norm, name, buffer in kept:
            setattr(norm, name, buffer)
