"""C3D: eight 3x3x3 convolutions and three linear layers over 16 frames (Tran et al. 2015)."""

import torch
from torch import Tensor, nn

from vidray.models.networks.architecture import Architecture
from vidray.models.networks.heads import HeadKind, make_head

# Output channels of the convolutions of each stage; a pooling follows each stage.
STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
POOLED = (1, 4, 4)  # frames, rows and columns after the last pooling, for 16x112x112
FC_LENGTH = 4096
FC_DROPOUT = 0.5


class C3D(nn.Module):
    """C3D; made for 16 frames of 112x112, and runs on other sizes too.

    Args:
        num_classes: number of classes.
        head: kind of head, see ``heads.make_head``: the last of the three linear layers.
        dropout: of the head; the layers before it have the paper's.
        variant: None, or ``padded``: the last pooling's windows are moved up and left by one.

    Attributes:
        blocks: five stages of convolutions, and the two linear layers before the head.
        head: ``float (N, 4096)`` to logits.
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
        self.features = nn.Sequential()
        channels = 3
        for index, widths in enumerate(STAGES):
            # The first pooling leaves time alone, "not to merge the temporal signal too early".
            along = 1 if index == 0 else 2
            padding = 1 if variant == "padded" and index == len(STAGES) - 1 else 0
            self.features.append(_stage(channels, widths, along, padding))
            channels = widths[-1]
        # Nothing happens here to 16x112x112; to another size it is what lets fc6 see it.
        self.resize = nn.AdaptiveAvgPool3d(POOLED)
        pooled_length = channels * POOLED[0] * POOLED[1] * POOLED[2]
        self.fc = nn.Sequential(
            *_fully_connected(pooled_length, FC_LENGTH), *_fully_connected(FC_LENGTH, FC_LENGTH)
        )
        self.head = make_head(head, FC_LENGTH, num_classes, dropout)
        self.features.apply(_initialise)
        self.fc.apply(_initialise)

    @property
    def blocks(self) -> list[nn.Module]:
        """The stages, from input to output."""
        return [*self.features, self.fc]

    def forward(self, clips: Tensor) -> Tensor:
        """``float (N, 3, T, H, W)`` -> logits ``float (N, num_classes)``."""
        pooled = self.features(clips)
        if pooled.shape[2:] != POOLED:  # ONNX has no such layer, so not where it does nothing.
            pooled = self.resize(pooled)  # (N, 512, 1, 4, 4)
        logits: Tensor = self.head(self.fc(torch.flatten(pooled, 1)))
        return logits


def c3d(
    num_classes: int,
    *,
    head: HeadKind = "linear",
    dropout: float = 0.5,
    variant: str | None = None,
) -> Architecture:
    """A ``C3D`` with its parts; for the arguments see there. torchvision has no weights for it."""
    network = C3D(num_classes, head=head, dropout=dropout, variant=variant)
    return Architecture(network=network, blocks=network.blocks, head=network.head)


def _stage(
    channels: int, widths: tuple[int, ...], temporal_stride: int, padding: int
) -> nn.Sequential:
    """Convolutions that keep the size, and a max pooling that halves rows and columns."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv3d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
        channels = width
    # Sizes are rounded up as in the authors' Caffe: 7x7 becomes 4x4 by a last window of one row
    # and column. Ports that pad by 1 instead come to 4x4 too, with all windows moved by one: no
    # further window fits at odd sizes.
    layers.append(
        nn.MaxPool3d((temporal_stride, 2, 2), padding=(0, padding, padding), ceil_mode=True)
    )
    return nn.Sequential(*layers)


def _fully_connected(length: int, width: int) -> list[nn.Module]:
    return [nn.Linear(length, width), nn.ReLU(inplace=True), nn.Dropout(FC_DROPOUT)]


def _initialise(module: nn.Module) -> None:
    # He et al. 2015. PyTorch's own start has a sixth of that variance: without batch norm ten such
    # layers pass on nothing but their biases.
    if isinstance(module, nn.Conv3d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
