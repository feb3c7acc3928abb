"""X3D: a narrow, deep video network of depthwise convolutions (Feichtenhofer 2020).

``x3d_s`` and ``x3d_m`` are one network of 3.79 M parameters (400 classes), whose names say what
their weights are trained on: 13 frames of 160 px (1.96 GFLOP, a multiplication and its addition
counted as one) and 16 frames of 224 px (4.73 GFLOP). Any clip runs. A thread of an AMD EPYC takes
about 0.2 s and 0.6 s for one in float32, 0.08 s and 0.18 s in bfloat16; 0.9 s and 0.37 s for
``r3d_18``, 1.3 s and 0.5 s for ``slow_r50``.
"""

from collections import OrderedDict

from torch import Tensor, nn

from vidray.models.networks.architecture import Architecture
from vidray.models.networks.heads import HeadKind, make_head

STEM_CHANNELS = 24
STEM_FRAMES = 5  # that the stem's second convolution sees
# The paper's expansions: depths (1, 2, 5, 3) times 2.2, rounded up, and widths times 2.
WIDTHS = (24, 48, 96, 192)
DEPTHS = (3, 5, 11, 7)
BOTTLENECK = 2.25  # channels inside a block for each outside
EMBEDDING_LENGTH = 2048


class X3D(nn.Module):
    """X3D-S or X3D-M.

    Args:
        num_classes: number of classes.
        head: kind of head, see ``heads.make_head``.
        dropout: of the head.
        variant: None, or ``normalised_shortcut``: layer1's first shortcut keeps its channels and
            has a batch norm all the same. PySlowFast's has one, PyTorchVideo's has none.

    Attributes:
        blocks: stem and four layers.
        head: ``float (N, 2048)`` to logits.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        head: HeadKind = "linear",
        dropout: float = 0.5,
        variant: str | None = None,
    ) -> None:
        super().__init__()
        self.stem = _stem()
        norms = variant == "normalised_shortcut"
        inputs = (STEM_CHANNELS, *WIDTHS[:-1])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _layer(channels, width, depth, norms_shortcut=norms)
            for channels, width, depth in zip(inputs, WIDTHS, DEPTHS, strict=True)
        )
        self.before_pooling, self.after_pooling = _tail()
        self.head = make_head(head, EMBEDDING_LENGTH, num_classes, dropout)
        for part in (*self.blocks, self.before_pooling, self.after_pooling):
            part.apply(_initialise)

    @property
    def blocks(self) -> list[nn.Module]:
        """The stages, from input to output; the layers around the pooling are in none."""
        return [self.stem, self.layer1, self.layer2, self.layer3, self.layer4]

    def embed(self, clips: Tensor) -> Tensor:
        """The head's input: ``float (N, 3, T, H, W)`` -> ``float (N, 2048)``."""
        features = clips
        for block in self.blocks:
            features = block(features)  # at last (N, 192, T, H / 32, W / 32)
        # Over everything: the authors' 13x5x5 (16x7x7) is this at 160 px (224 px). At their test's
        # larger pictures they average the probabilities of overlapping windows instead.
        pooled = self.before_pooling(features).mean(dim=(2, 3, 4))  # (N, 432)
        embedding: Tensor = self.after_pooling(pooled)
        return embedding

    def forward(self, clips: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)`` -> logits ``float (N, num_classes)``."""
        logits: Tensor = self.head(self.embed(clips))
        return logits


class X3DBlock(nn.Module):
    """1x1x1 -> depthwise 3x3x3 -> 1x1x1 beside a shortcut; the frames stay as many.

    Args:
        channels: in.
        width: out; 2.25 times as many inside.
        stride: of the depthwise convolution, over rows and columns.
        excites: whether channels are weighed by what the clip as a whole shows.
        norms_shortcut: whether a shortcut that only strides has a batch norm, too.
    """

    def __init__(
        self, channels: int, width: int, *, stride: int, excites: bool, norms_shortcut: bool
    ) -> None:
        super().__init__()
        inner = int(width * BOTTLENECK)
        strides = (1, stride, stride)
        self.conv1 = nn.Conv3d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(inner)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv3d(inner, inner, 3, stride=strides, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm3d(inner)
        self.excite: nn.Module = SqueezeExcitation(inner) if excites else nn.Identity()
        self.swish = nn.SiLU(inplace=True)
        self.conv3 = nn.Conv3d(inner, width, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(nn.Conv3d(channels, width, 1, strides, bias=False))
            if channels != width or norms_shortcut:
                self.downsample.append(nn.BatchNorm3d(width))

    def forward(self, features: Tensor) -> Tensor:
        """``float (N, C, T, H, W)`` -> ``float (N, width, T, H / stride, W / stride)``."""
        inner = self.relu(self.bn1(self.conv1(features)))
        inner = self.swish(self.excite(self.bn2(self.conv2(inner))))
        summed: Tensor = self.relu(self.bn3(self.conv3(inner)) + self.downsample(features))
        return summed


class SqueezeExcitation(nn.Module):
    """Each channel times a number from 0 to 1 that the mean of all channels decides (Hu 2018).

    Args:
        channels: in and out; a sixteenth of them inside, a multiple of 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        sixteenth = channels / 16
        inner = max(8, int(sixteenth + 4) // 8 * 8)
        if inner < 0.9 * sixteenth:  # The authors round down by a tenth at the most.
            inner += 8
        self.conv1 = nn.Conv3d(channels, inner, 1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv3d(inner, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """``float (N, C, T, H, W)`` -> the same shape."""
        mean = features.mean(dim=(2, 3, 4), keepdim=True)
        weighed: Tensor = features * self.conv2(self.relu(self.conv1(mean))).sigmoid()
        return weighed


def x3d(
    num_classes: int,
    *,
    head: HeadKind = "linear",
    dropout: float = 0.5,
    variant: str | None = None,
) -> Architecture:
    """An ``X3D`` with its parts; for the arguments see there."""
    network = X3D(num_classes, head=head, dropout=dropout, variant=variant)
    return Architecture(network=network, blocks=network.blocks, head=network.head)


def _stem() -> nn.Sequential:
    """``float (N, 3, T, H, W)`` -> ``float (N, 24, T, H / 2, W / 2)``."""
    frames = STEM_FRAMES
    layers = OrderedDict[str, nn.Module](
        space=nn.Conv3d(
            3, STEM_CHANNELS, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False
        ),
        time=nn.Conv3d(
            STEM_CHANNELS,
            STEM_CHANNELS,
            (frames, 1, 1),
            padding=(frames // 2, 0, 0),
            groups=STEM_CHANNELS,
            bias=False,
        ),
        bn=nn.BatchNorm3d(STEM_CHANNELS),
        relu=nn.ReLU(inplace=True),
    )
    return nn.Sequential(layers)


def _layer(channels: int, width: int, depth: int, *, norms_shortcut: bool) -> nn.Sequential:
    """Blocks, of which the first strides and every second one, from the first, excites."""
    blocks = []
    for k in range(depth):
        block = X3DBlock(
            channels,
            width,
            stride=2 if k == 0 else 1,
            excites=k % 2 == 0,
            norms_shortcut=norms_shortcut,
        )
        # Zero, so that a fresh block passes its input on (Goyal et al. 2017), as its authors train.
        nn.init.zeros_(block.bn3.weight)
        blocks.append(block)
        channels = width
    return nn.Sequential(*blocks)


def _tail() -> tuple[nn.Sequential, nn.Sequential]:
    """Before the average over the clip, ``(N, 192, ...)`` -> ``(N, 432, ...)``; after, -> 2048."""
    inner = int(WIDTHS[-1] * BOTTLENECK)
    before = OrderedDict[str, nn.Module](
        conv=nn.Conv3d(WIDTHS[-1], inner, 1, bias=False),
        bn=nn.BatchNorm3d(inner),
        relu=nn.ReLU(inplace=True),
    )
    after = OrderedDict[str, nn.Module](
        linear=nn.Linear(inner, EMBEDDING_LENGTH, bias=False), relu=nn.ReLU(inplace=True)
    )
    return nn.Sequential(before), nn.Sequential(after)


def _initialise(module: nn.Module) -> None:
    # He et al. 2015. Of a depthwise kernel each output channel has one input, so the variance is
    # that of one group: by PyTorch's count of all channels it would begin at a hundredth.
    if isinstance(module, nn.Conv3d):
        fan_out = module.out_channels * module.weight[0, 0].numel() / module.groups
        nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
