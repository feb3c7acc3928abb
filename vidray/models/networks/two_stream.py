"""Two-stream network: one ResNet sees a frame, one sees motion (Simonyan and Zisserman 2014).

The motion stream sees ten successive fields of optical flow at once, stacked to 20 channels. Clips
hold pixels only, so whoever makes a batch (training, labelling) calls ``clip_flow`` on the uint8
pixels, as they are after cropping and resizing, and appends the two channels behind the normalised
colours: ``float (N, 5, T, H, W)``. A clip that is mirrored after that must have the sign of channel
3 changed too.

How the two streams become one answer, trained as one:

- ``late``: the mean of their probabilities.
- ``weighted``: a mean with a learned weight, which begins at the 1 : 1.5 of Wang et al. 2016.
- ``early``: their features, one behind the other, go to one head.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import ResNet, resnet18

from vidray.models.networks.heads import HeadKind, make_head
from vidray.video import sampling

FusionKind = Literal["late", "early", "weighted"]
FUSION_KINDS: tuple[FusionKind, ...] = ("late", "early", "weighted")

CLIP_CHANNELS = 5  # red, green, blue, flow to the right, flow down
FLOW_FIELDS = 10
FLOW_CHANNELS = 2 * FLOW_FIELDS
FLOW_WEIGHT = 1.5  # of the flow stream, for 1 of the colours (Wang et al. 2016)
RESNET18_FEATURES = 512


class TwoStream(nn.Module):
    """Two ResNet-18, of a frame and of flow.

    The colours come from one frame, the middle one, as in the paper; the flow fields are the ten
    around it.

    Args:
        num_classes: number of classes.
        fusion: how the streams become one answer, see the module.
        head: kind of head, see ``heads.make_head``; ``late`` and ``weighted`` have two.
        dropout: of the heads.

    Attributes:
        blocks: stem and four stages of both streams; each maps (colours, flow) to the same.
        head: both streams' features ``float (N, 1024)`` to logits.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        fusion: FusionKind = "late",
        head: HeadKind = "linear",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if fusion not in FUSION_KINDS:
            raise ValueError(f"unknown fusion {fusion!r}; one of {', '.join(FUSION_KINDS)}")
        rgb, flow = _stages(resnet18()), _stages(_flow_resnet())
        self.blocks = nn.ModuleList(map(StreamPair, rgb, flow))
        self.embedding_length = 2 * RESNET18_FEATURES
        if fusion == "early":
            self.head = make_head(head, self.embedding_length, num_classes, dropout)
        else:
            self.head = FusedHeads(
                make_head(head, RESNET18_FEATURES, num_classes, dropout),
                make_head(head, RESNET18_FEATURES, num_classes, dropout),
                flow_weight=FLOW_WEIGHT if fusion == "weighted" else None,
            )

    def embed(self, clip: Tensor) -> Tensor:
        """The head's input: ``float (N, 5, T, H, W)`` -> ``float (N, 1024)``, colours first.

        Raises:
            ValueError: no clip of five channels.
        """
        if clip.ndim != 5 or clip.shape[1] != CLIP_CHANNELS or clip.shape[2] == 0:
            raise ValueError(
                f"a clip has shape {tuple(clip.shape)}, should be (N, 5, T, H, W): append the "
                "channels of clip_flow to the colours"
            )
        rgb, flow = split_streams(clip)
        for block in self.blocks:
            rgb, flow = block(rgb, flow)
        # (N, 512, H / 32, W / 32) -> (N, 512), and joined
        return torch.cat([rgb.mean(dim=(2, 3)), flow.mean(dim=(2, 3))], dim=1)

    def forward(self, clip: Tensor) -> Tensor:
        """``float (N, 5, T, H, W)`` -> logits ``(N, num_classes)``.

        ``late`` and ``weighted`` give the logarithm of the mean probabilities: its softmax is that
        mean, so it serves wherever logits do.
        """
        logits: Tensor = self.head(self.embed(clip))
        return logits


class StreamPair(nn.Module):
    """One stage of both streams.

    Args:
        rgb: ``(N, C, H, W)`` -> ``(N, C', H', W')``.
        flow: the same.
    """

    def __init__(self, rgb: nn.Module, flow: nn.Module) -> None:
        super().__init__()
        self.rgb = rgb
        self.flow = flow

    def forward(self, rgb: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Both streams one stage further."""
        return self.rgb(rgb), self.flow(flow)


class FusedHeads(nn.Module):
    """A head for each stream, and the logarithm of the mean of their probabilities.

    Args:
        rgb: the first half of the features to logits.
        flow: the second half.
        flow_weight: where the learned weight of the flow stream begins, for 1 of the other; None
            for a plain mean, which stays as it is.
    """

    def __init__(self, rgb: nn.Module, flow: nn.Module, *, flow_weight: float | None) -> None:
        super().__init__()
        self.rgb = rgb
        self.flow = flow
        # The sigmoid of this is the flow stream's share: it stays between 0 and 1 while learning,
        # and sigmoid(log 1.5) = 1.5 / (1 + 1.5).
        self.flow_share_logit = (
            None if flow_weight is None else nn.Parameter(torch.tensor(flow_weight).log())
        )

    def forward(self, features: Tensor) -> Tensor:
        """``float (N, 2 D)`` -> ``float32 (N, num_classes)``."""
        of_rgb, of_flow = features.chunk(2, dim=1)
        # In float32 under autocast too: logarithms of small probabilities.
        rgb = functional.log_softmax(self.rgb(of_rgb).float(), dim=1)
        flow = functional.log_softmax(self.flow(of_flow).float(), dim=1)
        learned = self.flow_share_logit
        # sigmoid(0) = 1/2
        share: Tensor = torch.zeros((), device=rgb.device) if learned is None else learned
        return torch.logaddexp(
            rgb + functional.logsigmoid(-share), flow + functional.logsigmoid(share)
        )


def split_streams(clip: Tensor) -> tuple[Tensor, Tensor]:
    """The middle frame and the flow around it: ``(N, 5, T, H, W)`` -> ``(N, 3, H, W)`` and
    ``(N, 20, H, W)``, where channels 2k and 2k + 1 are field k to the right and down.
    """
    frames = clip.shape[2]
    fields = torch.from_numpy(flow_indices(frames)).to(clip.device)
    flow = clip[:, 3:].index_select(2, fields)  # (N, 2, 10, H, W)
    return clip[:, :3, (frames - 1) // 2], flow.transpose(1, 2).flatten(1, 2)


def flow_indices(frames: int) -> NDArray[np.int64]:
    """The flow fields of a clip of ``frames`` that the network takes: ``int64 (10,)``.

    Ten adjacent ones between the 11 frames in the middle, so that the middle frame is the sixth of
    them. A shorter clip has fewer fields, and some are seen more than once.
    """
    if frames > FLOW_FIELDS:
        return (frames - 1 - FLOW_FIELDS) // 2 + np.arange(FLOW_FIELDS, dtype=np.int64)
    # The last frame's field is a repetition of the one before it.
    return sampling.uniform(num_frames=max(frames - 1, 1), count=FLOW_FIELDS)


def inflate_first_convolution(weight: Tensor, *, channels: int) -> Tensor:
    """A convolution of colours as one of flow (Wang et al. 2015): the mean over colours, repeated.

    Args:
        weight: ``float (out, 3, kernel, kernel)``.
        channels: channels of flow.

    Returns:
        ``float (out, channels, kernel, kernel)``.
    """
    return weight.mean(dim=1, keepdim=True).repeat(1, channels, 1, 1)


def _stages(resnet: ResNet) -> list[nn.Module]:
    """Stem (N, C, H, W) -> (N, 64, H / 4, W / 4), and the four stages to (N, 512, H / 32, ...)."""
    stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
    return [stem, resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4]


def _flow_resnet() -> ResNet:
    resnet = resnet18()
    first = nn.Conv2d(FLOW_CHANNELS, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
    resnet.conv1 = first
    return resnet
