"""torchvision's names: its video networks, and its image networks as a beginning of ours."""

from vidray.models.names import FLOW_MODELS, POOLINGS
from vidray.models.weights.origins.row import Origin, Rules


def frames(backbone: str) -> tuple[str, ...]:
    """Our models that apply an image network to every frame."""
    return tuple(f"{backbone}_{pooling}" for pooling in POOLINGS)


# Our names that an image network does not fill: attention over frames, the second attention of a
# transformer and its places in time.
POOLING = r"^pooling\."
NO_TIME = r"\.second\.|^time_position$"
TIMESFORMERS = (
    "timesformer_divided", "timesformer_space", "timesformer_joint", "timesformer_sparse",
)  # fmt: skip

_RESNET_STEM: Rules = ((r"^(conv1|bn1)\.", r"stem.\1."),)
_FRAMES_OF_RESNET: Rules = (
    *_RESNET_STEM,
    (r"^(stem|layer\d)\.", r"backbone.\1."),
    (r"^fc\.", "head."),
)
_STREAMS_OF_RESNET: Rules = (
    (r"^conv1\.", "blocks.0.{rgb,flow}.0."),
    (r"^bn1\.", "blocks.0.{rgb,flow}.1."),
    (r"^layer(\d)\.", r"blocks.\1.{rgb,flow}."),
)
_MVIT_HEAD: Rules = ((r"^head\.1\.", "head."),)
_VIT_BLOCK: Rules = (
    (r"\.ln_1\.", ".norm_attention."),
    (r"\.ln_2\.", ".norm_perceptron."),
    (r"\.self_attention\.in_proj_", ".attention.query_key_value."),
    (r"\.self_attention\.out_proj\.", ".attention.project."),
    (r"\.mlp\.(?:linear_1|0)\.", ".perceptron.0."),
    (r"\.mlp\.(?:linear_2|3)\.", ".perceptron.2."),
)
ROWS = (
    Origin(
        name="torchvision",
        shown="torchvision",
        models=("r3d_18", "mc3_18", "r2plus1d_18", "r2plus1d_34"),
        head=r"^fc\.",
    ),
    Origin(name="torchvision", shown="torchvision", models=("swin3d_t",), head=r"^head\."),
    Origin(
        name="torchvision",
        shown="torchvision",
        models=("s3d",),
        rules=((r"^classifier\.1\.", "head."),),
        head=r"^classifier\.",
    ),
    Origin(
        name="torchvision",
        shown="torchvision",
        models=("mvit_v1_b", "mvit_v2_s"),
        rules=_MVIT_HEAD,
        head=r"^head\.1\.",
        must_have=r"^conv_proj\.",
    ),
    Origin(
        name="torchvision",
        shown="torchvision",
        models=(*frames("resnet18"), *frames("resnet50")),
        rules=_FRAMES_OF_RESNET,
        head=r"^fc\.",
        new=POOLING,
    ),
    Origin(
        name="torchvision",
        shown="torchvision",
        models=frames("efficientnet_b0"),
        rules=((r"^features\.", "backbone."), (r"^classifier\.1\.", "head.")),
        head=r"^classifier\.",
        new=POOLING,
    ),
    Origin(
        name="torchvision",
        shown="torchvision",
        models=("i3d_r50", "c2d_r50", "slow_r50"),
        rules=(*_RESNET_STEM, (r"^fc\.", "head.")),
        head=r"^fc\.",
        note="an image network, its kernels repeated over frames",
        is_image=True,
    ),
    Origin(
        name="torchvision",
        shown="torchvision",
        models=FLOW_MODELS,
        rules=_STREAMS_OF_RESNET,
        head=r"^fc\.",
        note="an image network, both streams begin with it",
        new=r"flow_share_logit",
        is_image=True,
    ),
    Origin(
        name="torchvision",
        shown="torchvision",
        models=TIMESFORMERS,
        rules=(
            (r"^class_token$", "class_token"),
            (r"^encoder\.pos_embedding$", "space_position"),
            (r"^conv_proj\.", "patch."),
            (r"^encoder\.ln\.", "norm."),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
            *_VIT_BLOCK,
            (r"^heads\.head\.", "head."),
        ),
        head=r"^heads\.",
        note="an image network, time is new",
        new=NO_TIME,
        is_image=True,
    ),
)
