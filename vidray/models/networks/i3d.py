"""I3D: an image network inflated to clips (Carreira and Zisserman 2017), here a ResNet-50.

Which kernels see time is the table of Wang et al. 2018 and PySlowFast's ``I3D_8x8_R50``: 5 frames
in the stem, 3 in the first convolution of all bottlenecks of layer1 and of every second one later,
and frames are halved once, after layer1. Submodules have torchvision's names, so that the weights
of an image ResNet-50 fit by name.
"""

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models import ResNet50_Weights

from vidray.models.networks.architecture import Architecture
from vidray.models.networks.heads import HeadKind, make_head
from vidray.models.networks.published import state_dict

EXPANSION = 4  # channels out of a bottleneck for each inside it
STEM_KERNEL = 5
# Frames that the bottlenecks of each layer see.
TEMPORAL_KERNELS = ((3, 3, 3), (3, 1, 3, 1), (3, 1, 3, 1, 3, 1), (1, 3, 1))


class InflatedBottleneck(nn.Module):
    """Three convolutions beside a shortcut; the first sees ``kernel`` frames, the second space.

    Args:
        channels: in.
        width: inside; four times as many come out.
        kernel: frames that the first convolution sees, odd.
        stride: over rows and columns, of the second convolution as in torchvision.
    """

    def __init__(self, channels: int, width: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        out = width * EXPANSION
        self.conv1 = nn.Conv3d(
            channels, width, (kernel, 1, 1), padding=(kernel // 2, 0, 0), bias=False
        )
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(
            width, width, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False
        )
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                nn.Conv3d(channels, out, 1, stride=(1, stride, stride), bias=False),
                nn.BatchNorm3d(out),
            )

    def forward(self, features: Tensor) -> Tensor:
        """``float (N, C, T, H, W)`` -> ``float (N, 4 * width, T, H / stride, W / stride)``."""
        inner = self.relu(self.bn1(self.conv1(features)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        summed: Tensor = self.relu(self.bn3(self.conv3(inner)) + self.downsample(features))
        return summed


class I3D(nn.Module):
    """An inflated ResNet-50.

    Args:
        num_classes: number of classes.
        head: kind of head, see ``heads.make_head``.
        dropout: of the head.

    Attributes:
        blocks: stem and four layers.
        head: mean features ``float (N, 2048)`` to logits.
    """

    def __init__(
        self, num_classes: int, *, head: HeadKind = "linear", dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.stem = _stem()
        self.layer1 = _layer(64, 64, kernels=TEMPORAL_KERNELS[0], stride=1)
        # Rounded up, so that a clip of one frame is one too.
        self.halve_frames = nn.MaxPool3d((2, 1, 1), ceil_mode=True)
        self.layer2 = _layer(256, 128, kernels=TEMPORAL_KERNELS[1], stride=2)
        self.layer3 = _layer(512, 256, kernels=TEMPORAL_KERNELS[2], stride=2)
        self.layer4 = _layer(1024, 512, kernels=TEMPORAL_KERNELS[3], stride=2)
        self.head = make_head(head, 2048, num_classes, dropout)
        for block in self.blocks:
            block.apply(_initialise)

    @property
    def blocks(self) -> list[nn.Module]:
        """The stages, from input to output."""
        return [self.stem, self.layer1, self.layer2, self.layer3, self.layer4]

    def features(self, clips: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)`` -> ``float (N, 2048, T / 2, H / 32, W / 32)``."""
        early = self.halve_frames(self.layer1(self.stem(clips)))
        late: Tensor = self.layer4(self.layer3(self.layer2(early)))
        return late

    def forward(self, clips: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)`` -> logits ``float (N, num_classes)``."""
        logits: Tensor = self.head(self.features(clips).mean(dim=(2, 3, 4)))
        return logits


def i3d_r50(
    num_classes: int,
    *,
    head: HeadKind = "linear",
    dropout: float = 0.5,
    weights: ResNet50_Weights | None = None,
) -> Architecture:
    """An ``I3D`` with its parts; ``weights`` are those of torchvision's image ResNet-50."""
    network = I3D(num_classes, head=head, dropout=dropout)
    if weights is not None:
        inflate(state_dict(weights), network)
    return Architecture(network=network, blocks=network.blocks, head=network.head)


def inflate(state_dict_2d: Mapping[str, Tensor], network: I3D) -> None:
    """Load the weights of torchvision's image ResNet-50; the head stays as it is.

    Kernels are repeated over the frames they see and divided by their number: a still picture then
    gives what it gives the image network, away from the first and last frames.

    Args:
        state_dict_2d: of ``torchvision.models.resnet50``.
        network: changed in place.

    Raises:
        ValueError: tensors are missing or have another shape.
    """
    inflated: dict[str, Tensor] = {}
    wrong: list[str] = []
    for name, ours in network.state_dict().items():
        if name.startswith("head."):
            continue
        name_2d = name.removeprefix("stem.")
        weight = state_dict_2d.get(name_2d)
        if weight is not None and weight.ndim == 4:
            frames = ours.shape[2]
            # (C', C, H, W) -> (C', C, T, H, W)
            weight = weight.unsqueeze(2).expand(-1, -1, frames, -1, -1) / frames
        if weight is None or weight.shape != ours.shape:
            wrong.append(f"{name_2d} {'is missing' if weight is None else tuple(weight.shape)}")
        else:
            inflated[name] = weight
    if wrong:
        raise ValueError(
            f"{len(wrong)} tensors do not fit: {'; '.join(wrong[:5])}; "
            "pass the state dict of torchvision's resnet50"
        )
    network.load_state_dict(inflated, strict=False)


def _stem() -> nn.Sequential:
    """``float (N, 3, T, H, W)`` -> ``float (N, 64, T, H / 4, W / 4)``."""
    layers = OrderedDict[str, nn.Module](
        conv1=nn.Conv3d(
            3,
            64,
            (STEM_KERNEL, 7, 7),
            stride=(1, 2, 2),
            padding=(STEM_KERNEL // 2, 3, 3),
            bias=False,
        ),
        bn1=nn.BatchNorm3d(64),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
    )
    return nn.Sequential(layers)


def _layer(channels: int, width: int, *, kernels: tuple[int, ...], stride: int) -> nn.Sequential:
    """Bottlenecks, one for each of ``kernels``; the first one strides."""
    first = InflatedBottleneck(channels, width, kernel=kernels[0], stride=stride)
    rest = (
        InflatedBottleneck(width * EXPANSION, width, kernel=kernel, stride=1)
        for kernel in kernels[1:]
    )
    return nn.Sequential(first, *rest)


def _initialise(module: nn.Module) -> None:
    # As torchvision's image ResNets; batch norm begins as 1 and 0 by itself.
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
