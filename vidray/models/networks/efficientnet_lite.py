"""EfficientNet-Lite0: EfficientNet-B0 for devices without fast sigmoids (Tan and Liu 2020).

It has no squeeze-and-excitation and ReLU6 for Swish. Submodules have the names of torchvision's
``EfficientNet``: ``features.3.1.block.1.0`` is the depthwise convolution of the second block of the
third stage, counted from 1.
"""

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.ops import StochasticDepth

STEM_CHANNELS = 32  # of all Lites, as the head's
HEAD_CHANNELS = 1280
# Of each stage: expansion, kernel, stride, channels out, blocks.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
NORM_EPSILON = 1e-3  # TensorFlow's; PyTorch's own is 1e-5
DROPPED = 0.2  # of the last block in training, of the first none; between in proportion


def efficientnet_lite0() -> tuple[nn.Sequential, int]:
    """Fresh features: frames ``(N, 3, H, W)`` -> ``(N, 1280, H / 32, W / 32)``; and 1280."""
    stages: list[nn.Module] = [_convolution(3, STEM_CHANNELS, 3, stride=2)]
    channels, done, total = STEM_CHANNELS, 0, sum(stage[-1] for stage in STAGES)
    for expansion, kernel, stride, width, depth in STAGES:
        blocks = []
        for k in range(depth):
            block = InvertedBottleneck(
                channels,
                width,
                kernel=kernel,
                stride=stride if k == 0 else 1,
                expansion=expansion,
                dropped=DROPPED * done / total,
            )
            blocks.append(block)
            channels, done = width, done + 1
        stages.append(nn.Sequential(*blocks))
    stages.append(_convolution(channels, HEAD_CHANNELS, 1))
    features = nn.Sequential(*stages)
    features.apply(_initialise)
    return features, HEAD_CHANNELS


class InvertedBottleneck(nn.Module):
    """1x1 to more channels, depthwise, 1x1 to fewer, added to the input where that has the shape.

    Args:
        channels: in.
        width: out.
        kernel: of the depthwise convolution, odd.
        stride: of the depthwise convolution.
        expansion: channels inside for each of the input; 1 leaves the first 1x1 out.
        dropped: share of the pictures for which only the input counts, in training.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        kernel: int,
        stride: int,
        expansion: int,
        dropped: float,
    ) -> None:
        super().__init__()
        inner = channels * expansion
        layers = [] if expansion == 1 else [_convolution(channels, inner, 1)]
        layers += [
            _convolution(inner, inner, kernel, stride=stride, groups=inner),
            _convolution(inner, width, 1, is_linear=True),
        ]
        self.block = nn.Sequential(*layers)
        self.is_residual = stride == 1 and channels == width
        self.drop = StochasticDepth(dropped, "row")

    def forward(self, features: Tensor) -> Tensor:
        """``float (N, channels, H, W)`` -> ``float (N, width, H / stride, W / stride)``."""
        changed: Tensor = self.block(features)
        return features + self.drop(changed) if self.is_residual else changed


class SamePadding(nn.Module):
    """Zeros around a picture, so that a convolution gives H / stride and W / stride, rounded up.

    TensorFlow's rule. Of an odd number the larger part is below and on the right: at an even size
    a kernel of 3 with stride 2 pads nothing above, where PyTorch's padding of 1 does.

    Args:
        kernel: rows and columns that the convolution sees.
        stride: of the convolution.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        """``float (N, C, H, W)`` -> the same with a few more rows and columns."""
        rows, columns = (self._missing(size) for size in features.shape[-2:])
        return nn.functional.pad(
            features, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        )

    def _missing(self, size: int) -> int:
        last_begin = (-(-size // self.stride) - 1) * self.stride
        return max(0, last_begin + self.kernel - size)


def _convolution(
    channels: int,
    width: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    is_linear: bool = False,
) -> nn.Sequential:
    """A convolution (0), its batch norm (1) and, unless linear, a ReLU6."""
    padding = kernel // 2 if stride == 1 else 0
    layers = OrderedDict[str, nn.Module]()
    if stride > 1:
        layers["pad"] = SamePadding(kernel, stride)
    layers["0"] = nn.Conv2d(
        channels, width, kernel, stride=stride, padding=padding, groups=groups, bias=False
    )
    layers["1"] = nn.BatchNorm2d(width, eps=NORM_EPSILON)
    if not is_linear:
        layers["2"] = nn.ReLU6(inplace=True)
    return nn.Sequential(layers)


def _initialise(module: nn.Module) -> None:
    # He et al. 2015, by each group's own channels.
    if isinstance(module, nn.Conv2d):
        fan_out = module.out_channels * module.weight[0, 0].numel() / module.groups
        nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
