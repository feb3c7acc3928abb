"""Heads that turn a clip's features into logits: one linear layer, plain or regularised, and one
whose classes are unions of another head's.
"""

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from vidray.models.model_json import HeadKind

__all__ = ["HEAD_KINDS", "HeadKind", "MergedHead", "make_head"]

HEAD_KINDS: tuple[HeadKind, ...] = get_args(HeadKind)


def make_head(kind: HeadKind, in_features: int, num_classes: int, dropout: float) -> nn.Module:
    """A head from features ``float (N, in_features)`` to logits ``float (N, num_classes)``.

    Args:
        kind: ``linear``, or ``layernorm_dropout_linear``.
        in_features: length of the embedding.
        num_classes: number of classes.
        dropout: share of the features left out in training; ``linear`` has none.

    Raises:
        ValueError: there is no such kind.
    """
    if kind == "linear":
        return nn.Linear(in_features, num_classes)
    if kind == "layernorm_dropout_linear":
        return nn.Sequential(
            nn.LayerNorm(in_features), nn.Dropout(dropout), nn.Linear(in_features, num_classes)
        )
    raise ValueError(f"head {kind!r} is unknown; pass one of {', '.join(HEAD_KINDS)}")


class MergedHead(nn.Module):
    """A head whose classes are unions of another head's: the probability of each is the sum of its
    members', as a softmax over all that are not left out gives them.

    Args:
        head: features ``float (N, D)`` -> logits of its own classes ``float (N, M)``.
        merge: for each of the M classes the number of the union it belongs to, or None to leave it
            out. Every union from 0 on has a member.
    """

    members: Tensor

    def __init__(self, head: nn.Module, merge: Sequence[int | None]) -> None:
        super().__init__()
        self.head = head
        unions = 1 + max(number for number in merge if number is not None)
        members = torch.full((unions, len(merge)), -torch.inf)
        for own, union in enumerate(merge):
            if union is not None:
                members[union, own] = 0.0
        self.register_buffer("members", members, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """``float (N, D)`` -> logits of the unions ``float (N, K)``."""
        logits: Tensor = self.head(features)  # (N, M)
        # log of a sum of exponentials: what softmax makes of it is the sum of the probabilities.
        return (logits.float()[:, None] + self.members).logsumexp(dim=-1)
