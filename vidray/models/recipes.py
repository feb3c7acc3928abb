"""What a set of published weights was trained on: frames, their rate, size, resizer and colours.

A network is fed as it was trained: by another resize rule or other colours it still answers, and
worse. ``recipe_of`` is the table, by the package that the weights come from and the architecture;
``processors`` reads the same in a folder of transformers. No PyTorch here.

Rates are nominal: Kinetics is shot at about 30 frames a second, so 16 frames x stride 4 are at 7.5.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from vidray.models import names
from vidray.models.preprocess import IMAGENET, KINETICS, Colour, Preprocessing
from vidray.video.clips import ClipSettings, Fit
from vidray.video.resizing import Resizer

# pytorchvideo's hub, PySlowFast's DATA.MEAN and .STD, torchvision's MViT.
GRAY: tuple[Colour, Colour] = ((0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
# transformers' IMAGENET_STANDARD_MEAN and _STD: -1 to 1.
HALF: tuple[Colour, Colour] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Pixels that a network was trained on."""

    frames: int | None
    """Frames of a clip; None for weights of images, which say nothing of it."""
    frames_per_second: float | None
    """Rate of these frames, not of the video; None spreads them over the whole of it."""
    resize_px: tuple[int, ...]
    """Shorter side after resizing, or height and width."""
    crop_px: int
    """Width and height of the middle square that is kept."""
    resizer: Resizer
    mean: Colour
    std: Colour
    fit: Fit = "resize_crop"
    """Another one only of a model folder of ours."""
    lacks: str | None = None
    """What of the original cannot be had, if anything."""

    @property
    def colours(self) -> tuple[Colour, Colour]:
        """Mean and standard deviation."""
        return self.mean, self.std

    @property
    def clip_seconds(self) -> float | None:
        """Length of a clip; None for the whole video."""
        if self.frames is None or self.frames_per_second is None:
            return None
        return self.frames / self.frames_per_second

    def clip(self) -> dict[str, Any]:
        """The fields of ``ClipSettings`` that give these pixels."""
        timed = {"frames_per_clip": self.frames, "clip_seconds": self.clip_seconds}
        return {
            **{name: value for name, value in timed.items() if value is not None},
            "size_px": self.crop_px,
            "fit": self.fit,
            "resize_px": self.resize_px,
            "resizer": self.resizer,
        }

    def __str__(self) -> str:
        """One line, such as ``16 frames at 15 a second, 128 171 px cut to 112 (torchvision)``."""
        frames = "" if self.frames is None else f"{self.frames} frames"
        if self.frames_per_second is not None:
            frames += f" at {self.frames_per_second:g} a second"
        frames = frames and f"{frames}, "
        if self.fit != "resize_crop":
            return f"{frames}{self.crop_px} px by --fit {self.fit}"
        size = " ".join(map(str, self.resize_px))
        return f"{frames}{size} px cut to {self.crop_px} ({self.resizer})"


def recipe_of(name: str, origin: str | None) -> Recipe | None:
    """The recipe of weights of this origin for this model; None where it is not known.

    Args:
        name: one of ``names.DEEP``.
        origin: ``Architecture.origin``: the package that the weights come from.
    """
    return None if origin is None else _TABLE.get((origin, _architecture(name, origin)))


def of_model_folder(preprocessing: Preprocessing, clip: ClipSettings) -> Recipe:
    """The recipe of a network that vidray trained, of what its model.json says."""
    frames, seconds = preprocessing.num_frames, clip.clip_seconds
    rate = None
    if seconds is not None:
        stride = preprocessing.stride
        taken = frames if stride is None else clip.frames_per_clip / stride
        rate = taken / seconds
    return Recipe(
        frames=frames,
        frames_per_second=rate,
        resize_px=clip.resize_px,
        crop_px=preprocessing.size_px,
        resizer=clip.resizer,
        mean=preprocessing.mean,
        std=preprocessing.std,
        fit=clip.fit,
    )


def default_origin(name: str) -> str | None:
    """The origin of the published weights that ``--weights default`` takes."""
    if name in names.PYTORCHVIDEO:
        return "pytorchvideo"
    architecture = _architecture(name, "torchvision")
    if architecture == "r2plus1d_34":
        return None  # Its weights are somebody's files.
    for origin in ("torchvision", "efficientnet_lite0", "transformers"):
        if (origin, architecture) in _TABLE:
            return origin
    return None


def _architecture(name: str, origin: str) -> str:
    """The network whose weights are taken, as the table calls it."""
    backbone, _, pooling = name.rpartition("_")
    if pooling in names.POOLINGS:
        return backbone
    if origin == "torchvision":
        # Networks that torchvision has not: its weights of images fill them.
        if name.startswith("timesformer_"):
            return "vit_b_16"
        if name in names.FLOW_MODELS:
            return "resnet18"
        if name in ("i3d_r50", "slow_r50", "c2d_r50"):
            return "resnet50"
    return name.partition("_")[0] if name.startswith(("timesformer_", "videomae_")) else name


def _recipe(
    frames: int | None,
    rate: float | None,
    resize_px: int | tuple[int, int],
    crop_px: int,
    resizer: Resizer,
    colours: tuple[Colour, Colour],
) -> Recipe:
    return Recipe(
        frames=frames,
        frames_per_second=rate,
        resize_px=(resize_px,) if isinstance(resize_px, int) else resize_px,
        crop_px=crop_px,
        resizer=resizer,
        mean=colours[0],
        std=colours[1],
    )


def _torchvision() -> dict[str, Recipe]:
    """The presets and the ``meta`` of torchvision.models' weights, the default ones."""
    resnet = _recipe(16, 15, (128, 171), 112, "torchvision", KINETICS)
    mvit = _recipe(16, 7.5, 256, 224, "torchvision", GRAY)
    return {
        "r3d_18": resnet,
        "mc3_18": resnet,
        "r2plus1d_18": resnet,
        # ig65m's, of torchvision's names: 32 frames x stride 2 of the longer of the two.
        "r2plus1d_34": _recipe(32, 15, (128, 171), 112, "torchvision", KINETICS),
        "s3d": _recipe(128, 15, (256, 256), 224, "torchvision", KINETICS),
        "mvit_v1_b": mvit,
        "mvit_v2_s": mvit,
        "swin3d_t": _recipe(32, 15, 256, 224, "torchvision", IMAGENET),
        "resnet18": _recipe(None, None, 256, 224, "torchvision_pillow", IMAGENET),
        # IMAGENET1K_V2
        "resnet50": _recipe(None, None, 232, 224, "torchvision_pillow", IMAGENET),
        "efficientnet_b0": _recipe(None, None, 256, 224, "torchvision_pillow_bicubic", IMAGENET),
        "vit_b_16": _recipe(None, None, 256, 224, "torchvision_pillow", IMAGENET),
    }


def _facebook(resizer: Resizer) -> dict[str, Recipe]:
    """PyTorchVideo's model zoo and the files of PySlowFast: the same training, other last pixels.

    Test sizes, as in pytorchvideo's hub and PySlowFast's TEST_CROP_SIZE.
    """
    eight = _recipe(8, 30 / 8, 256, 256, resizer, GRAY)  # 8 frames x stride 8
    return {
        "slowfast_r50": _recipe(32, 15, 256, 256, resizer, GRAY),
        "slow_r50": eight,
        "i3d_r50": eight,
        "c2d_r50": eight,
        "r2plus1d_r50": _recipe(16, 7.5, 256, 256, resizer, GRAY),
        # Cut to the sizes of their training: of larger ones they average the softmax over windows.
        "x3d_s": _recipe(13, 5, 182, 160, resizer, GRAY),
        "x3d_m": _recipe(16, 6, 256, 224, resizer, GRAY),
    }


def _pytorchvideo() -> dict[str, Recipe]:
    mvit = _recipe(16, 7.5, 256, 224, "pytorchvideo", GRAY)
    return {**_facebook("pytorchvideo"), "mvit_v1_b": mvit}


def _pyslowfast() -> dict[str, Recipe]:
    """Its shorter side is the crop's: TEST_CROP_SIZE is both."""
    mvit = _recipe(16, 7.5, 224, 224, "pyslowfast", GRAY)
    return {
        **_facebook("pyslowfast"),
        "mvit_v1_b": mvit,
        "mvit_v2_s": mvit,
    }


def _mmaction2() -> dict[str, Recipe]:
    """The ``val_pipeline`` and ``data_preprocessor`` of its configs of Kinetics-400."""
    segments = _recipe(8, None, 256, 224, "opencv", IMAGENET)  # TSN, TSM: 8 over the whole video
    eight = _recipe(8, 30 / 8, 256, 224, "opencv", IMAGENET)
    thirty_two = _recipe(32, 15, 256, 224, "opencv", IMAGENET)
    # mean 104, 117, 128 and deviation 1, of bytes
    of_bytes = ((104 / 255, 117 / 255, 128 / 255), (1 / 255, 1 / 255, 1 / 255))
    x3d = ((0.45, 0.45, 0.45), (57.38 / 255, 57.38 / 255, 57.38 / 255))
    return {
        "resnet18": segments,
        "resnet50": segments,
        "i3d_r50": thirty_two,
        "slowfast_r50": thirty_two,
        "slow_r50": eight,
        "c2d_r50": eight,
        "r2plus1d_34": thirty_two,
        "swin3d_t": thirty_two,
        "c3d": _recipe(16, 30, 128, 112, "opencv", of_bytes),
        "timesformer": _recipe(8, 30 / 32, 256, 224, "opencv", HALF),
        "videomae": _recipe(16, 7.5, 224, 224, "opencv", IMAGENET),
        "mvit_v2_s": _recipe(16, 7.5, 256, 224, "opencv", GRAY),
        "x3d_s": _recipe(13, 5, 182, 160, "opencv", x3d),
        "x3d_m": _recipe(16, 6, 256, 224, "opencv", x3d),
    }


def _caffe() -> dict[str, Recipe]:
    """C3D of Sports-1M (Tran 2015): 16 adjacent frames, 128 x 171, cut to 112, minus a mean image.

    The mean image is a file of its own that is not to be had; the mean colour of ImageNet in
    Caffe, in the order red, green, blue, stands for it.
    """
    colours = ((123 / 255, 117 / 255, 104 / 255), (1 / 255, 1 / 255, 1 / 255))
    c3d = _recipe(16, 30, (128, 171), 112, "opencv", colours)
    return {"c3d": dataclasses.replace(c3d, lacks="the mean image: a mean colour stands for it")}


def _others() -> dict[tuple[str, str], Recipe]:
    # Of a default folder of transformers, MCG-NJU/videomae-*: 16 frames x stride 4.
    hub = _recipe(16, 7.5, 224, 224, "torchvision_antialias", IMAGENET)
    # Its authors' code resizes with OpenCV.
    own = _recipe(16, 7.5, 224, 224, "videomae", IMAGENET)
    # The authors' TimeSformer is a fork of PySlowFast: 8 frames x stride 32.
    timesformer = _recipe(8, 30 / 32, 224, 224, "pyslowfast", GRAY)
    timesformer_of_hub = _recipe(8, 30 / 32, 224, 224, "torchvision_antialias", GRAY)
    # ConvNextImageProcessor of microsoft/resnet-*.
    resnet = _recipe(None, None, 256, 224, "torchvision_antialias_bicubic", IMAGENET)
    # Bicubic, 0.875 of the side is kept; (x - 127) / 128 of TensorFlow's, nearly.
    colours = ((0.498, 0.498, 0.498), (0.502, 0.502, 0.502))
    lite = _recipe(None, None, 256, 224, "torchvision_pillow_bicubic", colours)
    return {
        ("transformers", "videomae"): hub,
        ("videomae", "videomae"): own,
        ("timesformer", "timesformer"): timesformer,
        ("transformers", "timesformer"): timesformer_of_hub,
        ("transformers", "resnet18"): resnet,
        ("transformers", "resnet50"): resnet,
        ("efficientnet_lite0", "efficientnet_lite0"): lite,
    }


_TABLE: dict[tuple[str, str], Recipe] = {
    **{
        (origin, name): recipe
        for origin, recipes in (
            ("torchvision", _torchvision()),
            ("pytorchvideo", _pytorchvideo()),
            ("pyslowfast", _pyslowfast()),
            ("mmaction2", _mmaction2()),
            ("caffe", _caffe()),
        )
        for name, recipe in recipes.items()
    },
    **_others(),
}
