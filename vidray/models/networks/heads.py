"""Heads that turn a clip's features into logits: one linear layer, plain or regularised."""

from typing import get_args

from torch import nn

from vidray.models.model_files import HeadKind

__all__ = ["HEAD_KINDS", "HeadKind", "make_head"]

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
