"""Attention rollout (Abnar and Zuidema 2020): how much of each token is in a transformer's answer.

A block adds to each token a mean of the others, weighted by attention. Going back from the tokens
that the head sees, each block hands a token's weight on: a share to the tokens that it attends to,
the mean of the heads deciding, and the rest to itself. The authors take half and half. Here the
share is measured, as Kobayashi et al. (2021) do: the length of what attention adds, against the
length of what it is added to. So a block that adds nothing, as TimeSformer's second attentions do
at the start, moves no weight. Perceptrons, which look at one token, move none either.

The network runs as it always does, and fused attention gives no weights: queries and keys are
watched on their way in, and weights computed of them here, only those that are asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Of attention weights computed at once; all of V-JEPA 2's largest would be 17 GB a block.
_MOST_WEIGHTS = 1 << 24


@dataclass(frozen=True, kw_only=True)
class AttentionStep:
    """One attention as it was computed, without what it read.

    Attributes:
        query, key: ``float (B, heads, L, D)``.
        scale: of their products.
        share: ``float (B, L)``: of each token after it, the part that it added.
    """

    query: Tensor
    key: Tensor
    scale: float
    share: Tensor

    def back(self, weights: Tensor) -> Tensor:
        """The weights of tokens before it, from those after it: ``float (B, L)`` -> the same."""
        return weights * (1 - self.share) + attended(
            self.query, self.key, self.scale, weights * self.share
        )


def attended(query: Tensor, key: Tensor, scale: float, weights: Tensor) -> Tensor:
    """What the tokens that attend hand on to those that they attend to, mean over the heads.

    Args:
        query: ``float (B, heads, L, D)``.
        key: ``float (B, heads, M, D)``.
        weights: ``float (B, L)``.

    Returns:
        ``float (B, M)``, of the same sum.
    """
    batch, heads, _, _ = query.shape
    step = max(1, _MOST_WEIGHTS // (batch * heads * key.shape[2]))
    found = weights.new_zeros(batch, key.shape[2])
    for some, of_some in zip(query.split(step, dim=2), weights.split(step, dim=1), strict=True):
        attention = (some.float() @ key.float().transpose(2, 3) * scale).softmax(dim=-1)
        found += torch.einsum("bl,bhlm->bm", of_some, attention) / heads
    return found


class _Watch(TorchFunctionMode):
    """Notes queries, keys and scale of each attention that is computed while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor, float]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            query, key = args[:2]
            scale = given.get("scale")
            self.calls.append((query, key, query.shape[-1] ** -0.5 if scale is None else scale))
        return func(*args, **given)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The attentions of one forward pass, in their order; filled while it runs.

    Attributes:
        steps: those of ``residuals``.
        calls: queries, keys and scales of all others.
    """

    steps: list[AttentionStep]
    calls: list[tuple[Tensor, Tensor, float]]


@contextlib.contextmanager
def watching(residuals: Sequence[tuple[nn.Module, nn.Module]]) -> Iterator[Watched]:
    """A context in which the attentions of a network are noted.

    Args:
        residuals: for each attention the module whose first input is what it is added to, and the
            module whose output, or the first of its outputs, is added. May be the same.
    """
    watch = _Watch()
    found = Watched(steps=[], calls=watch.calls)
    before: list[Tensor] = []

    def enter(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        before.append(inputs[0])

    def leave(_module: nn.Module, _inputs: Any, output: Any) -> None:
        added = output[0] if isinstance(output, tuple) else output
        query, key, scale = watch.calls.pop()
        found.steps.append(_step(query, key, scale, before.pop(), added))

    handles = []
    try:
        for outer, inner in residuals:
            handles.append(outer.register_forward_pre_hook(enter))
            handles.append(inner.register_forward_hook(leave))
        with watch:
            yield found
    finally:
        for handle in handles:
            handle.remove()


def _step(query: Tensor, key: Tensor, scale: float, x: Tensor, added: Tensor) -> AttentionStep:
    """``x`` and ``added`` are ``float (..., L, D)``, of as many tokens as there are queries."""
    own, new = x.float().norm(dim=-1), added.float().norm(dim=-1)
    share = new / (own + new).clamp_min(torch.finfo(torch.float32).tiny)
    # A hook of a module inside sees the tokens in groups: (N, G, L).
    return AttentionStep(query=query, key=key, scale=scale, share=share.flatten(0, -2))


def back_through(steps: Sequence[AttentionStep], weights: Tensor) -> Tensor:
    """The weights of the first tokens, from those of the last: ``float (B, L)`` -> the same."""
    for step in reversed(steps):
        weights = step.back(weights)
    return weights
