"""Names of PyTorchVideo (``pytorchvideo.models.hub``) and of PySlowFast, its predecessor."""

from vidray.models.weights.origins.row import Origin, Rules

_RESNET_CLIPS = ("i3d_r50", "c2d_r50")  # which halve the frames after layer1
X3DS = ("x3d_s", "x3d_m")

_PTV_BOTTLENECK: Rules = (
    (r"\.res_blocks\.", "."),
    (r"\.branch2\.conv_b\.conv_t\.", ".conv2.time."),
    (r"\.branch2\.conv_b\.conv_xy\.", ".conv2.space."),
    (r"\.branch2\.conv_b\.norm\.", ".conv2.bn."),
    (r"\.branch2\.norm_b\.0\.", ".bn2."),
    (r"\.branch2\.norm_b\.1\.block\.0\.", ".excite.conv1."),
    (r"\.branch2\.norm_b\.1\.block\.2\.", ".excite.conv2."),
    *((rf"\.branch2\.conv_{letter}\.", f".conv{k}.") for k, letter in enumerate("abc", start=1)),
    *((rf"\.branch2\.norm_{letter}\.", f".bn{k}.") for k, letter in enumerate("abc", start=1)),
    (r"\.branch1_conv\.", ".downsample.0."),
    (r"\.branch1_norm\.", ".downsample.1."),
)
_PTV_STEM: Rules = ((r"^blocks\.0\.conv\.", "stem.conv1."), (r"^blocks\.0\.norm\.", "stem.bn1."))
_PTV_LAYERS: Rules = ((r"^blocks\.([1-4])\.res_blocks", r"layer\1.res_blocks"),)
# Our SlowFast numbers what a bottleneck holds: three convolutions and norms with a ReLU between.
CHANGE: Rules = (
    *((rf"\.conv{k}\.", f".change.{3 * k - 3}.") for k in (1, 2, 3)),
    *((rf"\.bn{k}\.", f".change.{3 * k - 2}.") for k in (1, 2, 3)),
    (r"\.downsample\.", ".shortcut."),
)
_PTV_MVIT: Rules = (
    (r"^patch_embed\.patch_model\.", "conv_proj."),
    (r"^cls_positional_encoding\.cls_token$", "pos_encoding.class_token"),
    (r"^cls_positional_encoding\.pos_embed_class$", "pos_encoding.class_pos"),
    (r"^cls_positional_encoding\.pos_embed_(spatial|temporal)$", r"pos_encoding.\1_pos"),
    (r"^norm_embed\.", "norm."),
    (r"^head\.proj\.", "head."),
)
# Of both MViTs; the first has q, k and v apart.
MVIT_BLOCK: Rules = (
    (r"\.attn\.q\.(\w+)$", r".attn.qkv.\1[0/3]"),
    (r"\.attn\.k\.(\w+)$", r".attn.qkv.\1[1/3]"),
    (r"\.attn\.v\.(\w+)$", r".attn.qkv.\1[2/3]"),
    (r"\.attn\.proj\.", ".attn.project.0."),
    (r"\.attn\.pool_([qkv])\.", r".attn.pool_\1.pool."),
    (r"\.attn\.norm_([qkv])\.", r".attn.pool_\1.norm_act.0."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^(blocks\.\d+)\.proj\.", r"\1.project."),
)
_PYTORCHVIDEO = (
    Origin(
        name="pytorchvideo",
        shown="PyTorchVideo",
        models=("slow_r50", "r2plus1d_r50"),
        rules=(*_PTV_STEM, *_PTV_LAYERS, (r"^blocks\.5\.proj\.", "head."), *_PTV_BOTTLENECK),
        head=r"^blocks\.5\.proj\.",
    ),
    Origin(
        name="pytorchvideo",
        shown="PyTorchVideo",
        models=_RESNET_CLIPS,
        rules=(
            *_PTV_STEM,
            (r"^blocks\.1\.res_blocks", "layer1.res_blocks"),
            *((rf"^blocks\.{k + 1}\.res_blocks", f"layer{k}.res_blocks") for k in (2, 3, 4)),
            (r"^blocks\.6\.proj\.", "head."),
            *_PTV_BOTTLENECK,
        ),
        head=r"^blocks\.6\.proj\.",
    ),
    Origin(
        name="pytorchvideo",
        shown="PyTorchVideo",
        models=X3DS,
        rules=(
            (r"^blocks\.0\.conv\.conv_t\.", "stem.space."),
            (r"^blocks\.0\.conv\.conv_xy\.", "stem.time."),
            (r"^blocks\.0\.norm\.", "stem.bn."),
            *_PTV_LAYERS,
            (r"^blocks\.5\.pool\.pre_conv\.", "before_pooling.conv."),
            (r"^blocks\.5\.pool\.pre_norm\.", "before_pooling.bn."),
            (r"^blocks\.5\.pool\.post_conv\.", "after_pooling.linear."),
            (r"^blocks\.5\.proj\.", "head."),
            *_PTV_BOTTLENECK,
        ),
        head=r"^blocks\.5\.proj\.",
    ),
    Origin(
        name="pytorchvideo",
        shown="PyTorchVideo",
        models=("slowfast_r50",),
        rules=(
            (r"\.multipathway_blocks\.0\.", ".slow."),
            (r"\.multipathway_blocks\.1\.", ".fast."),
            (r"^(blocks\.0\.(?:slow|fast))\.conv\.", r"\1.0."),
            (r"^(blocks\.0\.(?:slow|fast))\.norm\.", r"\1.1."),
            (r"\.multipathway_fusion\.conv_fast_to_slow\.", ".lateral.0."),
            (r"\.multipathway_fusion\.norm\.", ".lateral.1."),
            (r"^blocks\.6\.proj\.", "head."),
            *_PTV_BOTTLENECK,
            *CHANGE,
        ),
        head=r"^blocks\.6\.proj\.",
        variant="linspace",
    ),
    Origin(
        name="pytorchvideo",
        shown="PyTorchVideo",
        models=("mvit_v1_b",),
        rules=(*_PTV_MVIT, *MVIT_BLOCK),
        head=r"^head\.proj\.",
    ),
)

# PySlowFast: stages s1 to s5, a pathway or two

_PSF_BOTTLENECK: Rules = (
    (r"\.branch1\.", ".downsample.0."),
    (r"\.branch1_bn\.", ".downsample.1."),
    *((rf"\.branch2\.{letter}\.", f".conv{k}.") for k, letter in enumerate("abc", start=1)),
    *((rf"\.branch2\.{letter}_bn\.", f".bn{k}.") for k, letter in enumerate("abc", start=1)),
    (r"\.branch2\.se\.fc([12])\.", r".excite.conv\1."),
)
_PSF_LAYERS: Rules = tuple((rf"^s{k + 1}\.pathway0_res", f"layer{k}.") for k in (1, 2, 3, 4))
_PSF_HEAD: Rules = ((r"^head\.projection\.", "head."),)
_PSF_MVIT: Rules = (
    (r"^patch_embed\.proj\.", "conv_proj."),
    (r"^cls_token$", "pos_encoding.class_token"),
    (r"^pos_embed_class$", "pos_encoding.class_pos"),
    (r"^pos_embed_(spatial|temporal)$", r"pos_encoding.\1_pos"),
)
_PYSLOWFAST = (
    Origin(
        name="pyslowfast",
        shown="PySlowFast",
        models=("slow_r50", *_RESNET_CLIPS),
        rules=(
            (r"^s1\.pathway0_stem\.conv\.", "stem.conv1."),
            (r"^s1\.pathway0_stem\.bn\.", "stem.bn1."),
            *_PSF_LAYERS,
            *_PSF_BOTTLENECK,
            *_PSF_HEAD,
        ),
        head=r"^head\.",
    ),
    Origin(
        name="pyslowfast",
        shown="PySlowFast",
        models=("slowfast_r50",),
        rules=(
            (r"^s(\d)(\.|_fuse)", r"stage\1\2"),
            *((rf"^stage{k + 1}(?=[._])", f"blocks.{k}") for k in range(5)),
            (r"_fuse\.conv_f2s\.", ".lateral.0."),
            (r"_fuse\.bn\.", ".lateral.1."),
            (r"\.pathway0_(?:stem|res)\.?", ".slow."),
            (r"\.pathway1_(?:stem|res)\.?", ".fast."),
            (r"^(blocks\.0\.(?:slow|fast))\.conv\.", r"\1.0."),
            (r"^(blocks\.0\.(?:slow|fast))\.bn\.", r"\1.1."),
            *_PSF_BOTTLENECK,
            *CHANGE,
            *_PSF_HEAD,
        ),
        head=r"^head\.",
        variant="linspace",
    ),
    Origin(
        name="pyslowfast",
        shown="PySlowFast",
        models=X3DS,
        rules=(
            (r"^s1\.pathway0_stem\.conv_xy\.", "stem.space."),
            (r"^s1\.pathway0_stem\.conv\.", "stem.time."),
            (r"^s1\.pathway0_stem\.bn\.", "stem.bn."),
            *_PSF_LAYERS,
            *_PSF_BOTTLENECK,
            (r"^head\.conv_5\.", "before_pooling.conv."),
            (r"^head\.conv_5_bn\.", "before_pooling.bn."),
            (r"^head\.lin_5\.", "after_pooling.linear."),
            *_PSF_HEAD,
        ),
        head=r"^head\.projection\.",
        variant="normalised_shortcut",
    ),
    Origin(
        name="pyslowfast",
        shown="PySlowFast",
        models=("mvit_v1_b", "mvit_v2_s"),
        rules=(*_PSF_MVIT, *MVIT_BLOCK, *_PSF_HEAD),
        head=r"^head\.",
        must_have=r"^patch_embed\.",
    ),
)

ROWS = (*_PYTORCHVIDEO, *_PYSLOWFAST)
