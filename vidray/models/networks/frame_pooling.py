"""An image network on every frame, and its features pooled over time.

``avg`` and ``max`` know what is seen, not in which order. ``attention`` weighs frames by what they
show, so it does not know either. ``lstm`` reads them in both directions first (Donahue et al.
2015), and then weighs.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import efficientnet_b0, resnet18, resnet50
from torchvision.models.resnet import Bottleneck, ResNet

from vidray.models.networks.architecture import Architecture
from vidray.models.networks.efficientnet_lite import efficientnet_lite0
from vidray.models.networks.heads import HeadKind, make_head

Backbone = Literal["resnet18", "resnet50", "efficientnet_b0", "efficientnet_lite0"]
SHIFT_DIVISOR = 8  # of the channels, one part each way
Pooling = Literal["avg", "max", "attention", "lstm"]


class AveragePooling(nn.Module):
    """The mean over frames."""

    def forward(self, features: Tensor) -> Tensor:
        """``float (N, T, D)`` -> ``float (N, D)``."""
        return features.mean(dim=1)


class MaxPooling(nn.Module):
    """The largest value over frames, each feature for itself."""

    def forward(self, features: Tensor) -> Tensor:
        """``float (N, T, D)`` -> ``float (N, D)``."""
        return features.amax(dim=1)


class AttentionPooling(nn.Module):
    """A weighted mean over frames, where each frame's features say how much it counts.

    Args:
        length: D, the features of a frame.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(length, length // 2), nn.Tanh(), nn.Linear(length // 2, 1)
        )

    def weights(self, features: Tensor) -> Tensor:
        """Weights of the frames: ``float (N, T, D)`` -> ``float (N, T)``, each row summing to 1."""
        scores: Tensor = self.score(features)  # (N, T, 1)
        return scores.squeeze(-1).softmax(dim=1)

    def forward(self, features: Tensor) -> Tensor:
        """``float (N, T, D)`` -> ``float (N, D)``."""
        return torch.einsum("nt,ntd->nd", self.weights(features), features)


class LstmPooling(nn.Module):
    """A bidirectional LSTM over the frames, its outputs pooled by attention.

    Args:
        length: D, even. Each direction has D / 2 units, so that D features come out again.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(length, length // 2, batch_first=True, bidirectional=True)
        self.attention = AttentionPooling(length)

    def forward(self, features: Tensor) -> Tensor:
        """``float (N, T, D)`` -> ``float (N, D)``."""
        outputs, _ = self.lstm(features)  # (N, T, D)
        pooled: Tensor = self.attention(outputs)
        return pooled


POOLINGS: dict[Pooling, Callable[[int], nn.Module]] = {
    "avg": lambda _: AveragePooling(),
    "max": lambda _: MaxPooling(),
    "attention": AttentionPooling,
    "lstm": LstmPooling,
}


class ShiftedConvolution(nn.Conv2d):
    """A convolution that sees the frames beside its own in a quarter of the channels (Lin et al.
    2019): an eighth comes from the next frame, an eighth from the one before, zeros at the ends.

    Attributes:
        frames: of the clips whose frames are given, T.
    """

    frames: int = 1

    def forward(self, features: Tensor) -> Tensor:
        """``float (N * T, C, H, W)`` -> ``float (N * T, C', H', W')``."""
        clips = features.unflatten(0, (-1, self.frames))  # (N, T, C, H, W)
        width = clips.shape[2] // SHIFT_DIVISOR
        shifted = torch.zeros_like(clips)
        shifted[:, :-1, :width] = clips[:, 1:, :width]
        shifted[:, 1:, width : 2 * width] = clips[:, :-1, width : 2 * width]
        shifted[:, :, 2 * width :] = clips[:, :, 2 * width :]
        return super().forward(shifted.flatten(0, 1))


def shift_channels(backbone: nn.Module) -> list[ShiftedConvolution]:
    """Let the first convolution of each bottleneck of a ResNet shift; returns these."""
    shifting = []
    for block in backbone.modules():
        if isinstance(block, Bottleneck):
            plain = block.conv1
            made = ShiftedConvolution(plain.in_channels, plain.out_channels, 1, bias=False)
            made.weight = plain.weight
            block.conv1 = made
            shifting.append(made)
    return shifting


class FramePooling(nn.Module):
    """An image network on every frame, pooled over time, and a head.

    Args:
        num_classes: number of classes.
        backbone: the image network.
        pooling: over time, see the module.
        head: kind of head, see ``heads.make_head``.
        dropout: of the head.
        variant: None, or of a ResNet-50 ``shifted``, TSM: see ``ShiftedConvolution``.

    Attributes:
        blocks: stages of the image network.
        head: pooled features ``float (N, D)`` to logits.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: Backbone = "resnet18",
        pooling: Pooling = "avg",
        head: HeadKind = "linear",
        dropout: float = 0.5,
        variant: str | None = None,
    ) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError(
                f"backbone {backbone!r} is unknown; pass one of {', '.join(BACKBONES)}"
            )
        if pooling not in POOLINGS:
            raise ValueError(f"pooling {pooling!r} is unknown; pass one of {', '.join(POOLINGS)}")
        self.backbone, length = BACKBONES[backbone]()
        self._shifting = shift_channels(self.backbone) if variant == "shifted" else []
        self.pooling = POOLINGS[pooling](length)
        self.head = make_head(head, length, num_classes, dropout)

    @property
    def blocks(self) -> list[nn.Module]:
        """The image network's stages, from input to output."""
        return list(self.backbone)

    def forward(self, clips: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)`` -> logits ``float (N, num_classes)``."""
        count = clips.shape[0]
        # A view of a clip in channels_last_3d, and channels_last then; a copy of another.
        frames = clips.transpose(1, 2).flatten(0, 1)  # (N * T, 3, H, W)
        for convolution in self._shifting:
            convolution.frames = clips.shape[2]
        features = self.backbone(frames).mean(dim=(2, 3))  # (N * T, D)
        pooled = self.pooling(features.unflatten(0, (count, -1)))  # (N, T, D) -> (N, D)
        logits: Tensor = self.head(pooled)
        return logits


def frame_pooling(
    num_classes: int,
    *,
    backbone: Backbone = "resnet18",
    pooling: Pooling = "avg",
    head: HeadKind = "linear",
    dropout: float = 0.5,
    variant: str | None = None,
) -> Architecture:
    """A ``FramePooling`` with its parts; for the arguments see there."""
    network = FramePooling(
        num_classes,
        backbone=backbone,
        pooling=pooling,
        head=head,
        dropout=dropout,
        variant=variant,
    )
    return Architecture(network=network, blocks=network.blocks, head=network.head)


def _resnet(network: ResNet) -> tuple[nn.Sequential, int]:
    """A ResNet without its end: frames ``(N, 3, H, W)`` -> ``(N, D, H / 32, W / 32)``; and D."""
    stem = OrderedDict[str, nn.Module](
        conv1=network.conv1, bn1=network.bn1, relu=network.relu, maxpool=network.maxpool
    )
    stages = OrderedDict[str, nn.Module](
        stem=nn.Sequential(stem),
        layer1=network.layer1,
        layer2=network.layer2,
        layer3=network.layer3,
        layer4=network.layer4,
    )
    return nn.Sequential(stages), network.fc.in_features


def _resnet18() -> tuple[nn.Sequential, int]:
    return _resnet(resnet18())


def _resnet50() -> tuple[nn.Sequential, int]:
    return _resnet(resnet50())


def _efficientnet_b0() -> tuple[nn.Sequential, int]:
    """EfficientNet-B0 without its end: ``(N, 3, H, W)`` -> ``(N, 1280, H / 32, W / 32)``; 1280."""
    network = efficientnet_b0()
    last = network.classifier[-1]
    assert isinstance(network.features, nn.Sequential)
    assert isinstance(last, nn.Linear)
    return network.features, last.in_features


BACKBONES: dict[Backbone, Callable[[], tuple[nn.Sequential, int]]] = {
    "resnet18": _resnet18,
    "resnet50": _resnet50,
    "efficientnet_b0": _efficientnet_b0,
    "efficientnet_lite0": efficientnet_lite0,
}
