"""TimeSformer: a vision transformer over the patches of several frames (Bertasius et al. 2021).

Every patch of every frame is a token, and one class token stands for the clip. All of the paper's
attentions here are attention within groups of patches, and groups are made by cutting the grid of
frames, rows and columns into parts and reshaping: no loop, no mask, no score that is thrown away.

- ``space``: each frame for itself, the frames' class tokens averaged at the end.
- ``joint``: one group, all patches of all frames.
- ``divided``: the same place in all frames; then each frame.
- ``sparse``: all frames of a quarter of the picture ("local"); then every second frame, row and
  column of the whole clip ("global"). The paper centres its quarter on each patch and names no
  stride's origin; windows and one group for each phase (2 x 2 x 2) are the same sizes, and in two
  steps every patch is reached from every other.

Those with two steps have a second attention in each block. It has no class token, and what it finds
passes through a linear layer that begins as zeros. The authors do so in all blocks but the first;
here in all, so that a network with an image transformer's weights begins as that transformer.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidray.models.networks.heads import HeadKind, make_head

AttentionKind = Literal["divided", "space", "joint", "sparse"]
ATTENTION_KINDS: tuple[AttentionKind, ...] = ("divided", "space", "joint", "sparse")
NORM_EPSILON = 1e-6  # of ViT; PyTorch's own is 1e-5

# How many parts along frames, rows and columns.
Parts = tuple[int, int, int]


class TimeSformer(nn.Module):
    """A ViT-B/16 over the frames of a clip.

    Args:
        num_classes: number of classes.
        attention: which patches see which, see the module.
        head: kind of head, see ``heads.make_head``.
        dropout: of the head.
        frames: frames of a clip; even for ``sparse``, or 1.
        size_px: height and width of a clip, a multiple of ``patch_px``.
        patch_px: height and width of a patch; for ``sparse`` an even number fits a side.
        width: length of a token, a multiple of ``heads``.
        depth: transformer blocks.
        heads: attention heads.
        variant: None, or of ``space`` ``average_tokens``: class tokens are averaged over the frames
            before the last norm, as the authors do, and not after it.

    Attributes:
        blocks: the transformer blocks; each maps (class token, patches) to the same.
        head: normalised class token ``float (N, width)`` to logits.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        attention: AttentionKind = "divided",
        head: HeadKind = "linear",
        dropout: float = 0.0,
        frames: int = 8,
        size_px: int = 224,
        patch_px: int = 16,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        variant: str | None = None,
    ) -> None:
        super().__init__()
        _check_sizes(attention, frames, size_px, patch_px, width, heads)
        self.attention = attention
        self.averages_tokens = variant == "average_tokens"
        self.frames = frames
        self.size_px = size_px
        self.embedding_length = width
        side = size_px // patch_px
        self.patch = nn.Conv2d(3, width, patch_px, stride=patch_px)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.space_position = nn.Parameter(torch.empty(1, 1 + side * side, width))
        # Frames that never see each other need no place in time.
        self.time_position = (
            None if attention == "space" else nn.Parameter(torch.zeros(1, frames, width))
        )
        self.blocks = nn.ModuleList([Block(width, heads, attention) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.head = make_head(head, width, num_classes, dropout)
        _initialise(self)

    def embed(self, clip: Tensor) -> Tensor:
        """The head's input: ``float (N, 3, T, H, W)`` -> ``float (N, width)``.

        Raises:
            ValueError: another number of frames or another size than the network was made for.
        """
        expected = (3, self.frames, self.size_px, self.size_px)
        if tuple(clip.shape[1:]) != expected:
            raise ValueError(
                f"a clip has shape (C, T, H, W) = {tuple(clip.shape[1:])} and this TimeSformer "
                f"takes {expected}; resize the clip, or make the network with its frames and "
                "size_px (weights are fitted to them by fit_positions)"
            )
        token, patches = self._tokens(clip)
        if self.attention == "space":
            # Each frame is a clip of its own: (N, T, R, C, D) -> (N * T, 1, R, C, D).
            token = token.repeat_interleave(self.frames, dim=0)
            patches = patches.flatten(0, 1).unsqueeze(1)
        for block in self.blocks:
            token, patches = block(token, patches)
        # Not len(): torch.export would write the number of clips into the graph.
        tokens = token.view(
            clip.shape[0], -1, self.embedding_length
        )  # (N, 1, D); (N, T, D) for space
        if self.averages_tokens:
            tokens = tokens.mean(dim=1, keepdim=True)
        # Averaging after the norm makes the logits of a linear head the average of the frames'.
        features: Tensor = self.norm(tokens).mean(dim=1)
        return features

    def forward(self, clip: Tensor) -> Tensor:
        """``float (N, 3, frames, size_px, size_px)`` -> logits ``(N, num_classes)``."""
        logits: Tensor = self.head(self.embed(clip))
        return logits

    def _tokens(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, T, H, W) -> class token (N, 1, D) and patches (N, T, R, C, D), with positions."""
        pictures = clip.transpose(1, 2).flatten(0, 1)  # (N * T, 3, H, W)
        patches: Tensor = self.patch(pictures).permute(0, 2, 3, 1)  # (N * T, R, C, D)
        patches = patches + self.space_position[:, 1:].view(1, *patches.shape[1:])
        # (N, T, R, C, D)
        patches = patches.reshape(clip.shape[0], self.frames, *patches.shape[1:])
        if self.time_position is not None:
            patches = patches + self.time_position[:, :, None, None]
        token = self.class_token + self.space_position[:, :1]
        return token.expand(clip.shape[0], -1, -1), patches


class PatchGroups(NamedTuple):
    """How a block cuts the grid of patches."""

    first: Parts
    """Groups of the attention with the class token."""
    second: Parts | None = None
    """Groups of the one without, which comes before it; None where there is none."""
    is_strided: bool = False
    """Whether ``first`` numbers phases, and not boxes; see ``to_groups``."""


class Block(nn.Module):
    """Attention within groups of patches, then a perceptron on each token, each added to its input.

    Args:
        width: length of a token.
        heads: attention heads.
        attention: which groups.
    """

    def __init__(self, width: int, heads: int, attention: AttentionKind) -> None:
        super().__init__()
        self.kind = attention
        self.norm_attention = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.attention = SelfAttention(width, heads)
        self.second = SecondAttention(width, heads) if attention in ("divided", "sparse") else None
        self.norm_perceptron = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, token: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Class token ``(N, 1, D)`` and patches ``(N, T, R, C, D)``, one block further."""
        groups = self.groups(patches.shape)
        if groups.second is not None:
            patches = self._attend_second(patches, groups.second)
        token, patches = self._attend(token, patches, groups.first, strided=groups.is_strided)
        token = token + self.perceptron(self.norm_perceptron(token))
        patches = patches + self.perceptron(self.norm_perceptron(patches))
        return token, patches

    def groups(self, shape: torch.Size) -> PatchGroups:
        """Which of patches ``(N, T, R, C, D)`` see which."""
        frames, rows, columns = shape[1:4]
        if self.kind == "divided":
            return PatchGroups((frames, 1, 1), second=(1, rows, columns))
        if self.kind == "sparse":
            windows = (1, _halves(rows), _halves(columns))
            phases = (_halves(frames), _halves(rows), _halves(columns))
            return PatchGroups(phases, second=windows, is_strided=True)
        return PatchGroups((1, 1, 1))

    def _attend(
        self, token: Tensor, patches: Tensor, parts: Parts, *, strided: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Every group attends with a copy of the class token; what the copies find is averaged."""
        groups = to_groups(patches, parts, strided=strided)  # (N, G, L, D)
        copies = token[:, None].expand(-1, groups.shape[1], -1, -1)  # (N, G, 1, D)
        tokens = torch.cat([copies, groups], dim=2)  # (N, G, 1 + L, D)
        found = self.attention(self.norm_attention(tokens))
        token = token + found[:, :, 0].mean(dim=1, keepdim=True)
        back = from_groups(found[:, :, 1:], parts, patches.shape, strided=strided)
        return token, patches + back

    def _attend_second(self, patches: Tensor, parts: Parts) -> Tensor:
        """The attention without the class token, which comes first in a block.

        After the other one it would teach the class token nothing in the last block, and weights
        without a gradient stop distributed training.
        """
        assert self.second is not None
        found = self.second(to_groups(patches, parts))
        return patches + from_groups(found, parts, patches.shape)


class SelfAttention(nn.Module):
    """Multi-head attention within each group: ``(N, G, L, D)`` -> the same shape.

    Args:
        width: D, a multiple of ``heads``.
        heads: attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Every token becomes a mean of its group, weighted by how well they match."""
        flat = tokens.flatten(0, 1)  # (N * G, L, D)
        packed = self.query_key_value(flat).unflatten(-1, (3, self.heads, -1))
        query, key, value = packed.permute(2, 0, 3, 1, 4)  # each (N * G, heads, L, D / heads)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        found: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return found.view(tokens.shape)


class SecondAttention(nn.Module):
    """The second attention of a block: norm, attention, and a linear layer that begins as zeros.

    Args:
        width: length of a token.
        heads: attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.attention = SelfAttention(width, heads)
        self.admit = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(N, G, L, D)`` -> what to add to it."""
        change: Tensor = self.admit(self.attention(self.norm(tokens)))
        return change


def to_groups(patches: Tensor, parts: Parts, *, strided: bool = False) -> Tensor:
    """Cut the grid into parts: ``(N, T, R, C, D)`` -> ``(N, groups, patches in each, D)``.

    A group is a box of adjacent patches, or with ``strided`` every ``parts[0]``-th frame,
    ``parts[1]``-th row and ``parts[2]``-th column from one of the possible first ones.
    """
    return (
        patches.reshape(_cut(patches.shape, parts, strided))
        .permute(_order(strided))
        .flatten(1, 3)
        .flatten(2, 4)
    )


def from_groups(
    groups: Tensor, parts: Parts, shape: torch.Size, *, strided: bool = False
) -> Tensor:
    """The inverse of ``to_groups``: -> ``shape``, (N, T, R, C, D)."""
    cut, order = _cut(shape, parts, strided), _order(strided)
    back = sorted(range(len(order)), key=order.__getitem__)
    return groups.reshape([cut[axis] for axis in order]).permute(back).reshape(shape)


def _cut(shape: torch.Size, parts: Parts, strided: bool) -> list[int]:
    """The shape with each axis of the grid as two: part and place in it, or the other way round."""
    cut = [shape[0]]
    for length, count in zip(shape[1:4], parts, strict=True):
        cut += [length // count, count] if strided else [count, length // count]
    return [*cut, shape[4]]


def _order(strided: bool) -> tuple[int, ...]:
    """The axes of ``_cut`` with those that number the parts first."""
    return (0, 2, 4, 6, 1, 3, 5, 7) if strided else (0, 1, 3, 5, 2, 4, 6, 7)


def _halves(length: int) -> int:
    """Two parts, or one of an axis that cannot be cut."""
    return 2 if length > 1 else 1


def _check_sizes(
    attention: str, frames: int, size_px: int, patch_px: int, width: int, heads: int
) -> None:
    if attention not in ATTENTION_KINDS:
        raise ValueError(f"unknown attention {attention!r}; one of {', '.join(ATTENTION_KINDS)}")
    if frames < 1:
        raise ValueError(f"frames={frames} is below 1; pass 1 or more")
    if size_px < patch_px or size_px % patch_px:
        raise ValueError(f"size_px={size_px} is not a multiple of patch_px={patch_px}; pass one")
    if width % heads:
        raise ValueError(f"width={width} is not a multiple of heads={heads}; pass one")
    for name, length in (("frames", frames), ("patches along a side", size_px // patch_px)):
        if attention == "sparse" and length > 1 and length % 2:
            raise ValueError(f"sparse attention halves the clip: {length} {name} is odd; pass even")


def _initialise(network: TimeSformer) -> None:
    """ViT's: a truncated normal of 0.02 for positions and linear layers, zeros for biases."""
    nn.init.trunc_normal_(network.space_position, std=0.02)
    nn.init.trunc_normal_(network.class_token, std=0.02)
    for module in network.blocks.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    admit_nothing(network)


def admit_nothing(network: TimeSformer) -> None:
    """Second attentions and positions in time add 0; they learn from there."""
    if network.time_position is not None:
        nn.init.zeros_(network.time_position)
    for module in network.modules():
        if isinstance(module, SecondAttention):
            nn.init.zeros_(module.admit.weight)
            nn.init.zeros_(module.admit.bias)
