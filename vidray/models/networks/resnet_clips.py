"""ResNet-50s over clips: an image network whose kernels see several frames in some places.

``PLANS`` says which, by the name that PyTorchVideo gives each network. Submodules have
torchvision's names, so that the weights of an image ResNet-50 fit by name.

- ``i3d_r50``: the inflated network of Carreira and Zisserman 2017 by the table of Wang et al. 2018
  (PySlowFast's ``I3D_8x8_R50``): 5 frames in the stem, 3 in the first convolution of all
  bottlenecks of layer1 and of every second one later; frames are halved once, after layer1.
- ``slow_r50``: the slow pathway of SlowFast alone (Feichtenhofer et al. 2019): only layer3 and
  layer4 see time. 8 frames of 224 px are 41.7 GFLOP, a multiplication and its addition counted as
  one as authors do.
- ``c2d_r50``: no kernel sees time; frames meet where they are halved and in the average.
- ``r2plus1d_r50``: R(2+1)D (Tran et al. 2018) with bottlenecks: the middle convolution of each is
  one over time, then one over space, and layer3 and layer4 halve the frames.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Literal, get_args

from torch import Tensor, nn

from vidray.models.networks.architecture import Architecture
from vidray.models.networks.heads import HeadKind, make_head

ResNetClipsName = Literal["i3d_r50", "slow_r50", "c2d_r50", "r2plus1d_r50"]

EXPANSION = 4  # channels out of a bottleneck for each inside it
DEPTHS = (3, 4, 6, 3)  # bottlenecks of a ResNet-50
WIDTHS = (64, 128, 256, 512)  # channels inside the bottlenecks of each layer


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a ResNet-50 sees time, and where it has fewer frames or pixels."""

    stem_frames: int = 1
    """Frames that the stem's kernel sees."""
    frames: tuple[tuple[int, ...], ...] = tuple((1,) * depth for depth in DEPTHS)
    """Frames that the first convolution of each bottleneck sees, by layer."""
    is_factorised: bool = False
    """Whether the second convolution sees 3 frames too, by a kernel over time before its own."""
    stem_strides: tuple[int, int] = (1, 1)
    """Over frames, of the stem's convolution and of its pooling."""
    stem_padding: int = 1
    """Of the stem's pooling, over rows and columns."""
    stem_pools: bool = True
    """Whether the stem ends with a pooling that halves rows and columns; else layer1 halves."""
    halves_after_layer1: bool = False
    """Whether a pooling halves the frames after layer1."""
    frame_strides: tuple[int, ...] = (1, 1, 1, 1)
    """Of the layers, over frames; only factorised ones have any but 1."""


PLANS: dict[ResNetClipsName, Layout] = {
    "i3d_r50": Layout(
        stem_frames=5,
        frames=((3, 3, 3), (3, 1, 3, 1), (3, 1, 3, 1, 3, 1), (1, 3, 1)),
        halves_after_layer1=True,
    ),
    "slow_r50": Layout(frames=((1, 1, 1), (1, 1, 1, 1), (3, 3, 3, 3, 3, 3), (3, 3, 3))),
    "c2d_r50": Layout(halves_after_layer1=True),
    "r2plus1d_r50": Layout(is_factorised=True, stem_pools=False, frame_strides=(1, 1, 2, 2)),
}
# By network and variant; the same tensors.
VARIANTS: dict[tuple[ResNetClipsName, str], Layout] = {
    # mmaction2's C2D, as its authors' Caffe2.
    ("c2d_r50", "unpadded_stem"): replace(PLANS["c2d_r50"], stem_padding=0),
    # mmaction2's I3D, for 32 frames of which 4 come to layer2.
    ("i3d_r50", "strided_stem"): replace(PLANS["i3d_r50"], stem_strides=(2, 2)),
}


class ClipBottleneck(nn.Module):
    """Three convolutions beside a shortcut; the first sees ``frames``, the second space.

    Args:
        channels: in.
        width: inside; four times as many come out.
        frames: that the first convolution sees, odd.
        stride: of the second convolution over frames and over rows and columns, as in torchvision;
            over frames only where it is factorised.
        is_factorised: make the second one a ``FactorisedConvolution``.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        frames: int,
        stride: tuple[int, int],
        is_factorised: bool = False,
    ) -> None:
        super().__init__()
        out = width * EXPANSION
        along, across = stride
        self.conv1 = nn.Conv3d(
            channels, width, (frames, 1, 1), padding=(frames // 2, 0, 0), bias=False
        )
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2: nn.Module = (
            FactorisedConvolution(width, stride=stride)
            if is_factorised
            else _over_space(width, across)
        )
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != (1, 1) or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv3d(channels, out, 1, stride=(along, across, across), bias=False),
                nn.BatchNorm3d(out),
            )

    def forward(self, features: Tensor) -> Tensor:
        """``float (N, C, T, H, W)`` -> ``float (N, 4 * width, T', H', W')``, by the strides."""
        inner = self.relu(self.bn1(self.conv1(features)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        summed: Tensor = self.relu(self.bn3(self.conv3(inner)) + self.downsample(features))
        return summed


class FactorisedConvolution(nn.Module):
    """A 3x3x3 convolution as one over 3 frames and one over 3x3 pixels, with a norm between.

    Args:
        width: channels in, between and out: PyTorchVideo's have no more between, unlike the paper.
        stride: over frames, and over rows and columns.
    """

    def __init__(self, width: int, *, stride: tuple[int, int]) -> None:
        super().__init__()
        along, across = stride
        self.time = nn.Conv3d(
            width, width, (3, 1, 1), stride=(along, 1, 1), padding=(1, 0, 0), bias=False
        )
        self.bn = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        self.space = _over_space(width, across)

    def forward(self, features: Tensor) -> Tensor:
        """``float (N, width, T, H, W)`` -> ``float (N, width, T', H', W')``, by the strides."""
        convolved: Tensor = self.space(self.relu(self.bn(self.time(features))))
        return convolved


class ResNetClips(nn.Module):
    """A ResNet-50 over clips.

    Args:
        num_classes: number of classes.
        name: which of ``PLANS``.
        head: kind of head, see ``heads.make_head``.
        dropout: of the head.
        variant: None, or another plan for the same weights, see ``VARIANTS``.

    Attributes:
        blocks: stem and four layers.
        head: mean features ``float (N, 2048)`` to logits.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        name: ResNetClipsName = "i3d_r50",
        head: HeadKind = "linear",
        dropout: float = 0.5,
        variant: str | None = None,
    ) -> None:
        super().__init__()
        self.plan = plan = PLANS[name] if variant is None else VARIANTS[name, variant]
        self.stem = _stem(plan)
        self.layer1 = _layer(plan, 0)
        # Rounded up, so that a clip of one frame is one too.
        self.halve_frames: nn.Module = nn.Identity()
        if plan.halves_after_layer1:
            self.halve_frames = nn.MaxPool3d((2, 1, 1), ceil_mode=True)
        self.layer2 = _layer(plan, 1)
        self.layer3 = _layer(plan, 2)
        self.layer4 = _layer(plan, 3)
        self.head = make_head(head, WIDTHS[-1] * EXPANSION, num_classes, dropout)
        for block in self.blocks:
            block.apply(_initialise)

    @property
    def blocks(self) -> list[nn.Module]:
        """The stages, from input to output."""
        return [self.stem, self.layer1, self.layer2, self.layer3, self.layer4]

    def features(self, clips: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)`` -> ``float (N, 2048, T', H / 32, W / 32)``.

        T' is T, T / 2 where a plan halves after layer1, T / 4 of ``r2plus1d_r50``; rounded up.
        """
        early = self.halve_frames(self.layer1(self.stem(clips)))
        late: Tensor = self.layer4(self.layer3(self.layer2(early)))
        return late

    def forward(self, clips: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)`` -> logits ``float (N, num_classes)``."""
        # Over everything: PyTorchVideo's kernel of 7x7 is this at 224 px, and nothing below.
        logits: Tensor = self.head(self.features(clips).mean(dim=(2, 3, 4)))
        return logits


def resnet_clips(
    name: ResNetClipsName,
    num_classes: int,
    *,
    head: HeadKind = "linear",
    dropout: float = 0.5,
    variant: str | None = None,
) -> Architecture:
    """A ``ResNetClips`` with its parts; for the arguments see there.

    Raises:
        ValueError: there is no such network.
    """
    if name not in PLANS:
        raise ValueError(f"{name!r} is unknown; pass one of {', '.join(get_args(ResNetClipsName))}")
    network = ResNetClips(num_classes, name=name, head=head, dropout=dropout, variant=variant)
    return Architecture(network=network, blocks=network.blocks, head=network.head)


def _over_space(width: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(
        width, width, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False
    )


def _stem(plan: Layout) -> nn.Sequential:
    """``float (N, 3, T, H, W)`` -> ``float (N, 64, T, H / 4, W / 4)``, H / 2 without a pooling."""
    layers = OrderedDict[str, nn.Module](
        conv1=nn.Conv3d(
            3,
            WIDTHS[0],
            (plan.stem_frames, 7, 7),
            stride=(plan.stem_strides[0], 2, 2),
            padding=(plan.stem_frames // 2, 3, 3),
            bias=False,
        ),
        bn1=nn.BatchNorm3d(WIDTHS[0]),
        relu=nn.ReLU(inplace=True),
    )
    if plan.stem_pools:
        layers["maxpool"] = nn.MaxPool3d(
            (1, 3, 3),
            stride=(plan.stem_strides[1], 2, 2),
            padding=(0, plan.stem_padding, plan.stem_padding),
        )
    return nn.Sequential(layers)


def _layer(plan: Layout, index: int) -> nn.Sequential:
    """The bottlenecks of layer1 (index 0) to layer4 (index 3); the first one strides."""
    width = WIDTHS[index]
    channels = WIDTHS[0] if index == 0 else WIDTHS[index - 1] * EXPANSION
    across = 1 if index == 0 and plan.stem_pools else 2
    bottlenecks = []
    for k, frames in enumerate(plan.frames[index]):
        bottleneck = ClipBottleneck(
            channels,
            width,
            frames=frames,
            stride=(plan.frame_strides[index], across) if k == 0 else (1, 1),
            is_factorised=plan.is_factorised,
        )
        bottlenecks.append(bottleneck)
        channels = width * EXPANSION
    return nn.Sequential(*bottlenecks)


def _initialise(module: nn.Module) -> None:
    # As torchvision's image ResNets; batch norm begins as 1 and 0 by itself.
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
