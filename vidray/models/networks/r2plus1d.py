"""R(2+1)D of 34 layers (Tran et al. 2018), as trained on IG-65M (Ghadiyaram et al. 2019).

torchvision's ``VideoResNet`` with two differences of the authors' Caffe2 network: each convolution
has as many channels between space and time as its own channels ask for, where torchvision's second
one of a block takes those of the first; and batch norm adds 1e-3 to the variance.
"""

from torch import nn
from torchvision.models import video
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem

from vidray.models.networks.architecture import Architecture
from vidray.models.networks.heads import HeadKind, make_head

DEPTHS = (3, 4, 6, 3)  # blocks of layer1 to layer4
NORM_EPSILON = 1e-3
# mmaction2's: its own between space and time have PyTorch's.
INNER_NORM_EPSILON = 1e-5


def r2plus1d_34(
    num_classes: int,
    *,
    head: HeadKind = "linear",
    dropout: float = 0.5,
    variant: str | None = None,
) -> Architecture:
    """R(2+1)D-34; the blocks are the stem and four layers.

    Args:
        num_classes: number of classes.
        head: kind of head over ``float (N, 512)``, see ``heads.make_head``.
        dropout: of the head.
        variant: None, or ``pooled_stem``, mmaction2's: 83 channels in the stem and a pooling that
            halves rows and columns after it; shortcuts that change size are factorised as well.
    """
    network = video.VideoResNet(BasicBlock, [Conv2Plus1D] * 4, list(DEPTHS), R2Plus1dStem)
    layers = [network.layer1, network.layer2, network.layer3, network.layer4]
    for layer in layers:
        first = layer[0]
        planes = first.conv2[1].num_features
        first.conv2[0] = Conv2Plus1D(planes, planes, between(planes, planes))
    if variant == "pooled_stem":
        network.stem = _pooled_stem()
        for layer in layers[1:]:
            layer[0].downsample[0] = _factorised_shortcut(layer[0].downsample[0])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = NORM_EPSILON
        elif isinstance(module, nn.Conv3d):  # As torchvision begins, those that are new as well.
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if variant == "pooled_stem":
        _set_inner_epsilon(network)
    network.fc = make_head(head, network.fc.in_features, num_classes, dropout)
    return Architecture(network=network, blocks=[network.stem, *layers], head=network.fc)


def between(channels: int, planes: int, *, frames: int = 3, side: int = 3) -> int:
    """Channels between a convolution over space and one over time.

    So many that both have the weights of one of frames x side x side together (Tran et al. 2018).
    """
    area = side * side
    return (frames * area * channels * planes) // (area * channels + frames * planes)


def _pooled_stem() -> nn.Sequential:
    """``float (N, 3, T, H, W)`` -> ``float (N, 64, T, H / 4, W / 4)``; names as torchvision's."""
    inner = between(3, 64, side=7)
    return nn.Sequential(
        nn.Conv3d(3, inner, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
        nn.BatchNorm3d(inner),
        nn.ReLU(inplace=True),
        nn.Conv3d(inner, 64, (3, 1, 1), padding=(1, 0, 0), bias=False),
        nn.BatchNorm3d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
    )


def _factorised_shortcut(plain: nn.Conv3d) -> nn.Sequential:
    """A convolution of one place as one that strides over space and one that strides over time."""
    # mmaction2 counts with 3 frames though its kernel has one.
    inner = between(plain.in_channels, plain.out_channels, side=1)
    along, across, _ = plain.stride
    return nn.Sequential(
        nn.Conv3d(plain.in_channels, inner, 1, stride=(1, across, across), bias=False),
        nn.BatchNorm3d(inner),
        nn.ReLU(inplace=True),
        nn.Conv3d(inner, plain.out_channels, 1, stride=(along, 1, 1), bias=False),
    )


def _set_inner_epsilon(network: video.VideoResNet) -> None:
    for name, module in network.named_modules():
        # A factorised convolution is the first of its sequence, and its norm the second of its own.
        if name == "stem.1" or (name.endswith(".0.1") and isinstance(module, nn.BatchNorm3d)):
            module.eps = INNER_NORM_EPSILON
