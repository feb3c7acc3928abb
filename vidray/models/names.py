"""Names of models for command lines. Imports nothing heavy, PyTorch least of all."""

from __future__ import annotations

from typing import Literal

from vidray.errors import UserError, unknown_name

ModelKind = Literal["classical", "deep"]

MAJORITY = "majority"  # A baseline, not a model to choose.
# In the order of ``classical``, which makes them.
CLASSICAL = (
    "svm",
    "random_forest",
    "knn",
    "logistic_regression",
    "gradient_boosting",
    "extra_trees",
)
# Image networks applied to every frame, and the pooling of their features over time.
BACKBONES = ("resnet18", "resnet50", "efficientnet_b0", "efficientnet_lite0")
POOLINGS = ("avg", "max", "attention", "lstm")
# Networks that take optical flow beside the colours.
FLOW_MODELS = ("two_stream_late", "two_stream_early", "two_stream_weighted")
# VideoMAE of the published sizes, made by the package transformers.
VIDEOMAE = ("videomae_small", "videomae_base", "videomae_large")
# Begins the name of a model of transformers: of a repository on its hub, or of a folder.
HUB = "hf:"
# Made by ``networks.build``; the order here is free.
DEEP = (
    *(f"{backbone}_{pooling}" for backbone in BACKBONES for pooling in POOLINGS),
    "c3d",
    "r3d_18",
    "mc3_18",
    "r2plus1d_18",
    "r2plus1d_34",
    "s3d",
    "mvit_v1_b",
    "mvit_v2_s",
    "swin3d_t",
    "x3d_s",
    "x3d_m",
    "i3d_r50",
    "slow_r50",
    "c2d_r50",
    "r2plus1d_r50",
    "slowfast_r50",
    "timesformer_divided",
    "timesformer_space",
    "timesformer_joint",
    "timesformer_sparse",
    *VIDEOMAE,
    *FLOW_MODELS,
)
# Those whose published weights are PyTorchVideo's.
PYTORCHVIDEO = ("slowfast_r50", "slow_r50", "c2d_r50", "r2plus1d_r50", "x3d_s", "x3d_m")
# Other ways to run the same network, in which somebody's weights were trained: by name, what each
# does other than without one.
VARIANTS: dict[str, dict[str, str]] = {
    "c3d": {"padded": "pads before the last pooling: PyTorch's ports and mmaction2"},
    "c2d_r50": {"unpadded_stem": "no padding in the stem's pooling: mmaction2"},
    "i3d_r50": {"strided_stem": "halves the frames twice in the stem: mmaction2"},
    "r2plus1d_34": {"pooled_stem": "a wider stem with a pooling, factorised shortcuts: mmaction2"},
    "resnet50_avg": {"shifted": "shifts an eighth of the channels by a frame, both ways: TSM"},
    "slowfast_r50": {
        "linspace": "slow frames evenly from first to last: PyTorchVideo, PySlowFast",
        "plain_lateral": "no norm and no ReLU after the lateral convolutions: mmaction2",
    },
    "timesformer_space": {"average_tokens": "averages frames before the last norm: its authors"},
    **{
        name: {"normalised_shortcut": "a batch norm in the first shortcut: PySlowFast"}
        for name in ("x3d_s", "x3d_m")
    },
}

# Networks that run one stage after the other, so that a clip may leave between two
# (``networks.exits``), and why the others have no such place.
WITH_EXITS = (
    *(f"{backbone}_{pooling}" for backbone in BACKBONES for pooling in POOLINGS),
    "c3d", "r3d_18", "mc3_18", "r2plus1d_18", "r2plus1d_34", "s3d", "x3d_s", "x3d_m",
    "i3d_r50", "slow_r50", "c2d_r50", "r2plus1d_r50",
)  # fmt: skip
_WITHOUT_EXITS = {
    "slowfast_r50": "two pathways run beside each other, and its stages give pairs of features",
    **dict.fromkeys(FLOW_MODELS, "two networks run beside each other"),
}

Precision = Literal["float32", "bfloat16", "float16"]
# What runs an exported network, and the number format of its weights and products.
Runtime = Literal["onnx", "openvino", "tensorrt", "torch"]
ExportPrecision = Literal["float32", "float16", "bfloat16", "int8"]
Ranges = Literal["calibrated", "dynamic"]
# (runtime, number format) -> why there is no such export. All others are offered.
NOT_OFFERED: dict[tuple[Runtime, ExportPrecision], str] = {
    ("onnx", "bfloat16"): "ONNX Runtime has no convolutions of it on a CPU; take float16 or int8",
    ("torch", "float32"): "that is what the folder is already; take a smaller format, or copy it",
    ("torch", "int8"): "PyTorch has no 3D convolutions of it; take --to openvino, onnx or tensorrt",
}
MOST_REPEATS = 1000  # Repeats of a cross-validation: each trains all folds.


def check(name: str, *, hub: bool = False) -> None:
    """Raise UserError unless there is such a model, classical or deep; ``hub``: or ``hf:...``."""
    names = (*CLASSICAL, *DEEP)
    if name not in names and not (hub and is_hub(name)):
        raise unknown_name("model", name, (*names, f"{HUB}OWNER/NAME") if hub else names)


def is_hub(name: str) -> bool:
    """Whether a name or source is of a model of transformers: ``hf:OWNER/NAME``, ``hf:/folder``."""
    return name.startswith(HUB) and len(name) > len(HUB)


def is_deep(name: str) -> bool:
    """Whether a model is a network."""
    return name in DEEP or is_hub(name)


def file_name(model: str) -> str:
    """A model's name as a part of a path: that of ``hf:OWNER/NAME@COMMIT`` is ``hf-NAME``."""
    if not is_hub(model):
        return model
    return "hf-" + model.removeprefix(HUB).partition("@")[0].rpartition("/")[2]


def check_exits(name: str) -> None:
    """Raise UserError unless a deep model can have early exits."""
    if name not in WITH_EXITS:
        why = _WITHOUT_EXITS.get(name, "exits look at channels of places, and it has tokens")
        raise UserError(
            f"{name} can have no early exits ({why}): leave --exits out, or give a convolutional "
            "network such as r3d_18"
        )


def check_variant(name: str, variant: str | None) -> None:
    """Raise UserError unless model ``name`` has such a variant; None is what each has."""
    if variant is None:
        return
    there = VARIANTS.get(name, {})
    if not there:
        raise UserError(f"variant is {variant!r}: {name} has none, leave it out")
    if variant not in there:
        raise unknown_name(f"variant of {name}", variant, there)
