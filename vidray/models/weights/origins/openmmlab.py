"""mmaction2's names: a ``ConvModule`` holds ``conv`` and ``bn``, a backbone and ``cls_head``."""

from vidray.models.weights.origins.facebook import CHANGE, MVIT_BLOCK, X3DS
from vidray.models.weights.origins.row import Origin, Rules

_NAME, _SHOWN = "mmaction2", "mmaction2"
_CLASSES = r"^cls_head\.fc_cls\."
_HEAD: Rules = ((_CLASSES, "head."),)
_BACKBONE: Rules = ((r"^backbone\.", ""),)
_CONVOLUTIONS: Rules = (
    (r"\.conv([123])\.conv\.", r".conv\1."),
    (r"\.conv([123])\.bn\.", r".bn\1."),
    (r"\.downsample\.conv\.", ".downsample.0."),
    (r"\.downsample\.bn\.", ".downsample.1."),
)
_RESNET: Rules = (
    *_BACKBONE,
    (r"^conv1\.conv\.", "stem.conv1."),
    (r"^conv1\.bn\.", "stem.bn1."),
    *_CONVOLUTIONS,
    *_HEAD,
)
_SLOWFAST: Rules = (
    *_BACKBONE,
    (r"^(slow|fast)_path\.conv1\.conv\.", r"blocks.0.\1.0."),
    (r"^(slow|fast)_path\.conv1\.bn\.", r"blocks.0.\1.1."),
    (r"^slow_path\.conv1_lateral\.", "blocks.0.lateral."),
    (r"^slow_path\.layer(\d)_lateral\.", r"blocks.\1.lateral."),
    (r"^(slow|fast)_path\.layer(\d)\.", r"blocks.\2.\1."),
    *_CONVOLUTIONS,
    *CHANGE,
    # The fast pathway's features come first there, behind the slow one's here.
    (r"^cls_head\.fc_cls\.weight$", "head.weight~256"),
    *_HEAD,
)
_LATERAL_NORM = r"_lateral\.bn\."
_FACTORISED: Rules = (
    *_BACKBONE,
    (r"^conv1\.conv\.conv_s\.", "stem.0."),
    (r"^conv1\.conv\.bn_s\.", "stem.1."),
    (r"^conv1\.conv\.conv_t\.", "stem.3."),
    (r"^conv1\.bn\.", "stem.4."),
    (r"\.(conv[12]|downsample)\.conv\.conv_s\.", r".\1.0.0."),
    (r"\.(conv[12]|downsample)\.conv\.bn_s\.", r".\1.0.1."),
    (r"\.(conv[12]|downsample)\.conv\.conv_t\.", r".\1.0.3."),
    (r"\.(conv[12]|downsample)\.conv\.", r".\1.0."),
    (r"\.(conv[12]|downsample)\.bn\.", r".\1.1."),
    (_CLASSES, "fc."),
)
# The convolutions of C3D as our features hold them: stages of one or two, with a ReLU between.
C3D: Rules = (
    (r"^conv1a?\.", "features.0.0."),
    (r"^conv2a?\.", "features.1.0."),
    (r"^conv([345])a\.", r"features.<\1>.0."),
    (r"^conv([345])b\.", r"features.<\1>.2."),
    *((rf"^features\.<{k + 1}>", f"features.{k}") for k in (2, 3, 4)),
    (r"^fc6\.", "fc.0."),
    (r"^fc7\.", "fc.3."),
    (r"^fc8\.", "head."),
)
_TIMESFORMER: Rules = (
    *_BACKBONE,
    (r"^cls_token$", "class_token"),
    (r"^pos_embed$", "space_position"),
    (r"^time_embed$", "time_position"),
    (r"^patch_embed\.projection\.", "patch."),
    (r"^transformer_layers\.layers\.", "blocks."),
    (r"\.ffns\.0\.layers\.0\.0\.", ".perceptron.0."),
    (r"\.ffns\.0\.layers\.1\.", ".perceptron.2."),
    (r"\.ffns\.0\.norm\.|\.norms\.1\.", ".norm_perceptron."),
    *_HEAD,
)
_ATTENTION: Rules = (
    (r"\.attn\.in_proj_", ".query_key_value."),
    (r"\.attn\.out_proj\.", ".project."),
)
VIDEOMAE: Rules = (
    *_BACKBONE,
    (r"\.mlp\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.mlp\.layers\.1\.", ".mlp.fc2."),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (_CLASSES, "head."),
)
_SWIN: Rules = (
    *_BACKBONE,
    *((rf"^layers\.{k}\.blocks\.", f"features.{2 * k}.") for k in range(4)),
    *((rf"^layers\.{k}\.downsample\.", f"features.{2 * k + 1}.") for k in range(3)),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"^norm3\.", "norm."),
    *_HEAD,
)
_X3D: Rules = (
    *_BACKBONE,
    (r"^conv1_s\.conv\.", "stem.space."),
    (r"^conv1_t\.conv\.", "stem.time."),
    (r"^conv1_t\.bn\.", "stem.bn."),
    *_CONVOLUTIONS,
    (r"\.se_module\.fc([12])\.", r".excite.conv\1."),
    (r"^conv5\.", "before_pooling."),
    (r"^cls_head\.fc1\.", "after_pooling.linear."),
    (r"^cls_head\.fc2\.", "head."),
)


def _row(models: tuple[str, ...], rules: Rules, **more: str | bool | None) -> Origin:
    settings = {"name": _NAME, "shown": _SHOWN, "head": _CLASSES} | more
    return Origin(models=models, rules=rules, **settings)  # type: ignore[arg-type]


_SHIFTED: Rules = ((r"\.conv1\.conv\.net\.", ".conv1.conv."), *_RESNET)
_FRAMES: Rules = ((r"^(stem|layer\d)\.", r"backbone.\1."),)

ROWS = (
    _row(("resnet50_avg",), (*_RESNET, *_FRAMES)),
    _row(
        ("resnet50_avg",),
        (*_SHIFTED, *_FRAMES),
        must_have=r"\.conv1\.conv\.net\.",
        variant="shifted",
    ),
    _row(("slow_r50",), _RESNET),
    # 2D kernels, and a kernel of one frame is the same.
    _row(("c2d_r50",), _RESNET, is_image=True, variant="unpadded_stem"),
    _row(("i3d_r50",), _RESNET, variant="strided_stem"),
    _row(
        ("slowfast_r50",),
        (*_SLOWFAST, (r"\.lateral\.conv\.", ".lateral.")),
        variant="plain_lateral",
    ),
    _row(
        ("slowfast_r50",),
        (*_SLOWFAST, (r"\.lateral\.conv\.", ".lateral.0."), (r"\.lateral\.bn\.", ".lateral.1.")),
        must_have=_LATERAL_NORM,
    ),
    _row(("r2plus1d_34",), _FACTORISED, variant="pooled_stem"),
    _row(
        ("c3d",),
        (*_BACKBONE, (r"\.conv\.", "."), *C3D, *_HEAD),
        variant="padded",
        must_have=r"\.conv\.",
    ),
    _row(
        ("timesformer_divided",),
        (
            *_TIMESFORMER,
            (r"\.attentions\.0\.norm\.", ".second.norm."),
            (r"\.attentions\.0\.temporal_fc\.", ".second.admit."),
            (r"\.attentions\.0\.", ".second.attention."),
            (r"\.attentions\.1\.norm\.", ".norm_attention."),
            (r"\.attentions\.1\.", ".attention."),
            *_ATTENTION,
        ),
    ),
    *(
        _row(
            (model,),
            (
                *_TIMESFORMER,
                (r"\.norms\.0\.", ".norm_attention."),
                (r"\.attentions\.0\.", ".attention."),
                *_ATTENTION,
            ),
            variant=variant,
        )
        for model, variant in (
            ("timesformer_joint", None),
            ("timesformer_space", "average_tokens"),
        )
    ),
    _row(X3DS, _X3D, head=r"^cls_head\.fc2\.", variant="normalised_shortcut"),
    _row(
        ("mvit_v2_s",),
        (
            *_BACKBONE,
            (r"^patch_embed\.projection\.", "conv_proj."),
            (r"^cls_token$", "pos_encoding.class_token"),
            (r"^norm3\.", "norm."),
            *MVIT_BLOCK,
            *_HEAD,
        ),
    ),
    _row(("swin3d_t",), _SWIN),
)
