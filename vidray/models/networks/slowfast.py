"""SlowFast R50 8x8: one ResNet looks at few frames, a thin one at all (Feichtenhofer et al. 2019).

The slow pathway takes every fourth frame and has most of the channels: it sees objects. The fast
one takes all frames with an eighth of the channels: it sees motion. After the stem and after res2,
res3 and res4 what the fast one found is joined to the slow one by a convolution that strides over
time. Both are averaged over time and space, joined, and given to one head.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vidray.models.networks.heads import HeadKind, make_head

ALPHA = 4  # fast frames for each slow one: 32 and 8
BETA_INVERSE = 8  # slow channels for each fast one
DEPTHS = (3, 4, 6, 3)  # bottlenecks in res2 to res5 of a ResNet-50
EXPANSION = 4  # channels out of a bottleneck for each inside it
# The paper's table: the slow pathway looks over time in res4 and res5 only (before that motion
# between frames 4 apart is too large for a kernel to match), the fast one everywhere.
SLOW_TEMPORAL_KERNELS = (1, 1, 3, 3)
FAST_TEMPORAL_KERNELS = (3, 3, 3, 3)
SLOW_STEM_KERNEL, FAST_STEM_KERNEL = 1, 5
# The paper writes 5; the authors' 8x8 configuration has 7 (and 86,272 weights more), and with it
# the network has the 34.57 M parameters they publish.
LATERAL_KERNEL = 7
LATERAL_EXPANSION = 2  # channels that join the slow pathway for each fast one
# Fast channels and alpha -> a way from the fast pathway to the slow one.
Lateral = Callable[[int, int], nn.Module]


class SlowFast(nn.Module):
    """SlowFast over one clip; the slow pathway's frames are taken from it here.

    Args:
        num_classes: number of classes.
        head: kind of head, see ``heads.make_head``.
        dropout: share of the joined features left out in training.
        width: channels of the slow stem, 64 in a ResNet; tests use less. A multiple of 8.
        depths: bottlenecks in res2 to res5.
        alpha: fast frames for each slow one.
        variant: None takes every ``alpha``-th frame for the slow pathway, from the first;
            ``linspace`` spreads as many from the first frame to the last, as PyTorchVideo and
            PySlowFast do: 0, 4, 8, 13, 17, 22, 26 and 31 of 32; ``plain_lateral`` takes them as
            None does, and has no norm and no ReLU after lateral convolutions, as mmaction2.

    Attributes:
        blocks: stem, res2, res3, res4, res5; each maps (slow, fast) to (slow, fast).
        head: joined features ``float (N, 36 * width)`` to logits.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        head: HeadKind = "linear",
        dropout: float = 0.5,
        width: int = 64,
        depths: tuple[int, int, int, int] = DEPTHS,
        alpha: int = ALPHA,
        variant: str | None = None,
    ) -> None:
        super().__init__()
        if width % BETA_INVERSE:
            raise ValueError(f"width={width} is not a multiple of {BETA_INVERSE}; pass one")
        self.alpha = alpha
        self.spreads_slow_frames = variant == "linspace"
        lateral = _plain_lateral if variant == "plain_lateral" else _lateral
        self.blocks = nn.ModuleList([_stem(width, alpha, lateral)])
        for index in range(len(depths)):
            self.blocks.append(_residual_stage(index, width, depths[index], alpha, lateral))
        features = width * 2 ** (len(depths) - 1) * EXPANSION
        self.embedding_length = features + features // BETA_INVERSE
        self.head = make_head(head, self.embedding_length, num_classes, dropout)
        self.blocks.apply(_initialise)

    def embed(self, clip: Tensor) -> Tensor:
        """The head's input: ``float (N, 3, T, H, W)`` -> ``float (N, embedding_length)``.

        Raises:
            ValueError: T is not a multiple of ``alpha``.
        """
        frames = clip.shape[2]
        if frames == 0 or frames % self.alpha:
            raise ValueError(
                f"a clip of {frames} frames cannot be shared between the two pathways; "
                f"pass a multiple of {self.alpha}"
            )
        slow, fast = self._slow_frames(clip), clip
        for block in self.blocks:
            slow, fast = block(slow, fast)
        # (N, C, T, H, W) -> (N, C), and joined
        return torch.cat([slow.mean(dim=(2, 3, 4)), fast.mean(dim=(2, 3, 4))], dim=1)

    def _slow_frames(self, clip: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)`` -> ``float (N, 3, T / alpha, H, W)``."""
        if self.spreads_slow_frames:
            frames = clip.shape[2]
            spread = torch.linspace(0, frames - 1, frames // self.alpha).long()
            return clip[:, :, spread.to(clip.device)]
        # Frames 0, 4, 8, ... where the fast frame under each lateral convolution's centre is too.
        return clip[:, :, :: self.alpha]

    def forward(self, clip: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)``, T a multiple of ``alpha`` -> logits ``(N, num_classes)``."""
        logits: Tensor = self.head(self.embed(clip))
        return logits


class PathwayPair(nn.Module):
    """One stage of both pathways, and the way from the fast one to the slow one.

    Args:
        slow: ``(N, C, T, H, W)`` -> ``(N, C', T, H', W')``.
        fast: the same at T * alpha frames and an eighth of the channels.
        lateral: fast output -> what is joined to the slow one; None after the last stage.
    """

    def __init__(self, slow: nn.Module, fast: nn.Module, lateral: nn.Module | None) -> None:
        super().__init__()
        self.slow = slow
        self.fast = fast
        self.lateral = lateral

    def forward(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        """Both pathways one stage further."""
        slow, fast = self.slow(slow), self.fast(fast)
        if self.lateral is not None:
            slow = torch.cat([slow, self.lateral(fast)], dim=1)
        return slow, fast


class SlowFastBottleneck(nn.Module):
    """1x1 -> 3x3 -> 1x1 with a shortcut; the first convolution may look over time too.

    Args:
        in_channels: channels in; ``width * EXPANSION`` come out.
        width: channels inside.
        temporal_kernel: frames the first convolution looks at, odd.
        stride: of the middle convolution, over space.
    """

    def __init__(self, in_channels: int, width: int, *, temporal_kernel: int, stride: int) -> None:
        super().__init__()
        out_channels = width * EXPANSION
        last, last_norm = _convolution(width, out_channels, (1, 1, 1))
        # Zero, so that a fresh block passes its input on (Goyal et al. 2017, as the paper has it).
        nn.init.zeros_(last_norm.weight)
        self.change = nn.Sequential(
            *_convolution(in_channels, width, (temporal_kernel, 1, 1)),
            nn.ReLU(inplace=True),
            *_convolution(width, width, (1, 3, 3), stride=(1, stride, stride)),
            nn.ReLU(inplace=True),
            last,
            last_norm,
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                *_convolution(in_channels, out_channels, (1, 1, 1), stride=(1, stride, stride))
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, in_channels, T, H, W)`` -> ``(N, 4 * width, T, H / stride, W / stride)``."""
        out: Tensor = self.relu(self.change(features) + self.shortcut(features))
        return out


def _convolution(
    in_channels: int,
    out_channels: int,
    kernel: tuple[int, int, int],
    *,
    stride: tuple[int, int, int] = (1, 1, 1),
) -> tuple[nn.Conv3d, nn.BatchNorm3d]:
    """A convolution that keeps the size but for its stride, and its normalisation."""
    convolution = nn.Conv3d(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=(kernel[0] // 2, kernel[1] // 2, kernel[2] // 2),
        bias=False,
    )
    return convolution, nn.BatchNorm3d(out_channels)


def _stem(width: int, alpha: int, lateral: Lateral) -> PathwayPair:
    fast_width = width // BETA_INVERSE
    return PathwayPair(
        _stem_pathway(width, SLOW_STEM_KERNEL),
        _stem_pathway(fast_width, FAST_STEM_KERNEL),
        lateral(fast_width, alpha),
    )


def _stem_pathway(width: int, temporal_kernel: int) -> nn.Sequential:
    """(N, 3, T, H, W) -> (N, width, T, H / 4, W / 4)."""
    return nn.Sequential(
        *_convolution(3, width, (temporal_kernel, 7, 7), stride=(1, 2, 2)),
        nn.ReLU(inplace=True),
        nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
    )


def _lateral(fast_channels: int, alpha: int) -> nn.Module:
    """(N, C, T, H, W) -> (N, 2 C, T / alpha, H, W)."""
    kernel = (LATERAL_KERNEL, 1, 1)
    return nn.Sequential(
        *_convolution(
            fast_channels, fast_channels * LATERAL_EXPANSION, kernel, stride=(alpha, 1, 1)
        ),
        nn.ReLU(inplace=True),
    )


def _plain_lateral(fast_channels: int, alpha: int) -> nn.Module:
    """The same without a norm and a ReLU."""
    kernel = (LATERAL_KERNEL, 1, 1)
    width = fast_channels * LATERAL_EXPANSION
    return _convolution(fast_channels, width, kernel, stride=(alpha, 1, 1))[0]


def _residual_stage(
    index: int, width: int, depth: int, alpha: int, lateral: Lateral
) -> PathwayPair:
    """res2 (index 0) to res5 (index 3) of both pathways."""
    slow_width = width * 2**index
    slow_in = width if index == 0 else slow_width // 2 * EXPANSION
    fast_width, fast_in = slow_width // BETA_INVERSE, slow_in // BETA_INVERSE
    joined = fast_in * LATERAL_EXPANSION
    stride = 1 if index == 0 else 2
    slow = _bottlenecks(slow_in + joined, slow_width, depth, SLOW_TEMPORAL_KERNELS[index], stride)
    fast = _bottlenecks(fast_in, fast_width, depth, FAST_TEMPORAL_KERNELS[index], stride)
    is_last = index == len(DEPTHS) - 1
    return PathwayPair(slow, fast, None if is_last else lateral(fast_width * EXPANSION, alpha))


def _bottlenecks(
    in_channels: int, width: int, depth: int, temporal_kernel: int, stride: int
) -> nn.Sequential:
    first = SlowFastBottleneck(in_channels, width, temporal_kernel=temporal_kernel, stride=stride)
    more = (
        SlowFastBottleneck(width * EXPANSION, width, temporal_kernel=temporal_kernel, stride=1)
        for _ in range(depth - 1)
    )
    return nn.Sequential(first, *more)


def _initialise(module: nn.Module) -> None:
    # He et al. 2015: the variance of the gradients is kept, as in the authors' training.
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
