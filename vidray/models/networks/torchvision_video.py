"""torchvision's video networks with a head of ours.

R3D, MC3 and R(2+1)D (Tran et al. 2018), S3D (Xie et al. 2018), MViT (Fan et al. 2021), MViTv2 (Li
et al. 2022) and Video Swin (Liu et al. 2022). Weights, where given, are loaded with the original
head, which is then replaced.
"""

from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import video
from torchvision.models.video.mvit import PositionalEncoding

from vidray.models.networks.architecture import Architecture
from vidray.models.networks.heads import HeadKind, make_head

TorchvisionVideo = Literal[
    "r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t"
]
NAMES: tuple[str, ...] = get_args(TorchvisionVideo)
ResNetVideo = Literal["r3d_18", "mc3_18", "r2plus1d_18"]

RESNETS: dict[ResNetVideo, Callable[..., video.VideoResNet]] = {
    "r3d_18": video.r3d_18,
    "mc3_18": video.mc3_18,
    "r2plus1d_18": video.r2plus1d_18,
}
S3D_FEATURES = 1024
S3D_WINDOW = (2, 7, 7)  # of the average over features of 224x224
# PyTorch's own. torchvision's is 0.001, for its long training: after 500 steps of ours a network
# would still be judged by statistics of which 60 % are those it began with.
MOMENTUM = 0.1
MVIT_STRIDE = (2, 4, 4)  # frames, rows and columns from one patch to the next


def resnet_video(
    name: ResNetVideo,
    num_classes: int,
    *,
    head: HeadKind = "linear",
    dropout: float = 0.5,
) -> Architecture:
    """R3D, MC3 or R(2+1)D of 18 layers; the blocks are the stem and four layers."""
    network = RESNETS[name]()
    network.fc = make_head(head, network.fc.in_features, num_classes, dropout)
    blocks = [network.stem, network.layer1, network.layer2, network.layer3, network.layer4]
    return Architecture(network=network, blocks=blocks, head=network.fc)


class S3D(nn.Module):
    """S3D with a head over pooled features.

    torchvision's classifies each place by a convolution and averages the logits; a linear head over
    the average is the same sum, and any head can stand there. Smaller clips than torchvision's run
    too.

    Args:
        features: torchvision's ``S3D.features``.
        head: pooled features ``float (N, 1024)`` to logits.
    """

    def __init__(self, features: nn.Sequential, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, clips: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)``, T 8 or more, H and W 32 or more -> ``(N, num_classes)``."""
        features = self.features(clips)  # (N, 1024, T / 8, H / 32, W / 32)
        logits: Tensor = self.head(pool_s3d(features))  # (N, 1024) -> (N, num_classes)
        return logits


def pool_s3d(features: Tensor) -> Tensor:
    """``float (N, C, T, H, W)`` -> ``float (N, C)``, the mean of S3D's windows."""
    # Overlapping windows, as torchvision: frames in the middle count twice.
    window = [min(pair) for pair in zip(S3D_WINDOW, features.shape[2:], strict=True)]
    return functional.avg_pool3d(features, window, stride=1).mean(dim=(2, 3, 4))


def s3d(
    num_classes: int,
    *,
    head: HeadKind = "linear",
    dropout: float = 0.5,
) -> Architecture:
    """S3D; the blocks are torchvision's layers, poolings among them left out."""
    features = _fresh_s3d().features
    for module in features.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = MOMENTUM
        elif isinstance(module, nn.Conv3d):
            # torchvision's 0.01 for all makes variances of 0.01 to 0.3, which Adam's steps of 0.001
            # change by a tenth each and running statistics, which begin at 1, take long to reach.
            # Eight clips by heart: 35 to 37 steps, and not 42 to 56 (bench/finetune.py, H100).
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    network = S3D(features, make_head(head, S3D_FEATURES, num_classes, dropout))
    blocks = [layer for layer in features if not isinstance(layer, nn.MaxPool3d)]
    return Architecture(network=network, blocks=blocks, head=network.head)


def _fresh_s3d() -> video.S3D:
    """Torchvision's S3D, begun as its ResNets are (He et al. 2015).

    torchvision leaves PyTorch's own start, a sixth of that variance in each convolution: running
    variances then begin far above the batches'. Eight clips that were learned in 10 steps were
    judged at chance until step 30 and right at step 60; begun like this, right at step 40.
    """
    network = video.s3d()
    for module in network.features.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


def mvit_v1_b(
    num_classes: int,
    *,
    head: HeadKind = "linear",
    dropout: float = 0.5,
    frames: int = 16,
    size_px: int = 224,
) -> Architecture:
    """MViT-B 16x4 for clips of ``frames`` frames of ``size_px`` squared.

    Each place and each time has a position of its own. Those of a file are
    interpolated.
    """
    network = video.mvit_v1_b()
    # The patches' convolution rounds up.
    rows = -(-size_px // MVIT_STRIDE[1])
    network.pos_encoding = PositionalEncoding(
        network.conv_proj.out_channels, (rows, rows), -(-frames // MVIT_STRIDE[0]), False
    )
    for table in network.pos_encoding.parameters():
        nn.init.trunc_normal_(table, std=0.02)  # As torchvision begins.
    last = network.head[-1]
    assert isinstance(last, nn.Linear)
    network.head = make_head(head, last.in_features, num_classes, dropout)
    blocks = [network.conv_proj, *network.blocks]
    return Architecture(network=network, blocks=blocks, head=network.head)


def mvit_v2_s(
    num_classes: int,
    *,
    head: HeadKind = "linear",
    dropout: float = 0.5,
    frames: int = 16,
    size_px: int = 224,
) -> Architecture:
    """MViTv2-S for clips of ``frames`` frames of ``size_px`` squared.

    Its positions are relative, and torchvision interpolates their tables to the sizes at hand, so
    weights fit any clip; the network only needs the number of patches.
    """
    network = video.mvit_v2_s()
    last = network.head[-1]
    assert isinstance(last, nn.Linear)
    network.head = make_head(head, last.in_features, num_classes, dropout)
    # The patches' convolution rounds up.
    rows = -(-size_px // MVIT_STRIDE[1])
    network.pos_encoding.temporal_size = -(-frames // MVIT_STRIDE[0])
    network.pos_encoding.spatial_size = (rows, rows)
    blocks = [network.conv_proj, *network.blocks]
    return Architecture(network=network, blocks=blocks, head=network.head)


def swin3d_t(
    num_classes: int,
    *,
    head: HeadKind = "linear",
    dropout: float = 0.5,
) -> Architecture:
    """Video Swin-T; the blocks are patches, and stages and mergings in turn."""
    network = video.swin3d_t()
    network.head = make_head(head, network.num_features, num_classes, dropout)
    blocks = [network.patch_embed, *network.features]
    return Architecture(network=network, blocks=blocks, head=network.head)


def torchvision_video(
    name: TorchvisionVideo,
    num_classes: int,
    *,
    head: HeadKind = "linear",
    dropout: float = 0.5,
    frames: int = 16,
    size_px: int = 224,
) -> Architecture:
    """One of torchvision's video networks.

    Args:
        name: which.
        num_classes: number of classes.
        head: kind of head, see ``heads.make_head``.
        dropout: of the head.
        frames: of a clip; the two MViTs have to know, the others take any.
        size_px: height and width of a clip; the same.

    Raises:
        ValueError: there is no such network.
    """
    match name:
        case "r3d_18" | "mc3_18" | "r2plus1d_18":
            return resnet_video(name, num_classes, head=head, dropout=dropout)
        case "s3d":
            return s3d(num_classes, head=head, dropout=dropout)
        case "mvit_v1_b" | "mvit_v2_s":
            mvit = mvit_v1_b if name == "mvit_v1_b" else mvit_v2_s
            return mvit(
                num_classes,
                head=head,
                dropout=dropout,
                frames=frames,
                size_px=size_px,
            )
        case "swin3d_t":
            return swin3d_t(num_classes, head=head, dropout=dropout)
    raise ValueError(f"{name!r} is unknown; pass one of {', '.join(get_args(TorchvisionVideo))}")
