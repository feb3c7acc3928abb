"""The recipe that a folder of transformers holds: its processor's JSON files and its config.

The files are input like a video: anybody may have written them. A key that is missing has the
default of the processor's class in transformers 5, as it would have there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from vidray.errors import UserError
from vidray.models.preprocess import IMAGENET, Colour
from vidray.models.recipes import HALF, Recipe
from vidray.storage import checked_json
from vidray.video.resizing import Resizer

# In the order in which transformers looks for them; the first may hold the others' content.
FILES = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")
_MOST_BYTES = 1 << 20
_MOST_PX = 4096
_SHORT_224: dict[str, Any] = {"size": {"shortest_edge": 224}, "crop_size": 224}
# Processors' defaults by model type: transformers.models.*.{video,image}_processing_*.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "videomae": {**_SHORT_224, "image_mean": HALF[0], "image_std": HALF[1]},
    "timesformer": {**_SHORT_224, "image_mean": IMAGENET[0], "image_std": IMAGENET[1]},
    "vivit": {
        "size": {"shortest_edge": 256},
        "crop_size": 224,
        "rescale_factor": 1 / 127.5,
        "offset": True,
        "image_mean": HALF[0],
        "image_std": HALF[1],
    },
    "vjepa2": {"crop_size": 256, "image_mean": IMAGENET[0], "image_std": IMAGENET[1]},
    "clip": {
        **_SHORT_224,
        "resample": 3,
        # transformers' OPENAI_CLIP_MEAN and _STD
        "image_mean": (0.48145466, 0.4578275, 0.40821073),
        "image_std": (0.26862954, 0.26130258, 0.27577711),
    },
    "siglip": {
        "size": {"height": 224, "width": 224},
        "do_center_crop": False,
        "resample": 3,
        "image_mean": HALF[0],
        "image_std": HALF[1],
    },
}
# Of images, whose weights fill networks of clips.
_DEFAULTS |= {
    "vit": {
        "size": {"height": 224, "width": 224},
        "do_center_crop": False,
        "image_mean": HALF[0],
        "image_std": HALF[1],
    },
    # Saved with the processor of ConvNeXT.
    "resnet": {
        "size": {"shortest_edge": 384},
        "crop_pct": 224 / 256,
        "resample": 3,
        "image_mean": HALF[0],
        "image_std": HALF[1],
    },
}
# Rates that the authors trained at, of Kinetics' 30 frames a second: VideoMAE takes every fourth,
# TimeSformer every 32nd, ViViT every second frame; V-JEPA 2 reads 4 a second.
_RATES = {"videomae": 7.5, "timesformer": 30 / 32, "vivit": 15.0, "vjepa2": 4.0}
_RESIZERS: dict[tuple[bool, int], Resizer] = {
    (False, 2): "torchvision_antialias",
    (False, 3): "torchvision_antialias_bicubic",
    (True, 2): "pillow",
    (True, 3): "pillow_bicubic",
}


def of_folder(folder: str) -> Recipe:
    """The recipe of a local folder of transformers.

    Raises:
        UserError: a file is missing, is no JSON, or says what vidray cannot do.
    """
    config = _read(folder, "config.json")
    if config is None:
        raise UserError(f"{folder} holds no config.json: give a folder of transformers")
    for file in FILES:
        found = _read(folder, file)
        if found is None:
            continue
        if file == FILES[0]:  # It holds one for each kind of input, or, in older folders, none.
            parts = (found.get("video_processor"), found.get("image_processor"))
            found = next((part for part in parts if isinstance(part, dict)), None)
        if found is not None:
            return of_json(config, found)
    raise UserError(f"{folder} holds none of {', '.join(FILES)}: what it was trained on is unknown")


def of_json(config: Mapping[str, Any], processor: Mapping[str, Any]) -> Recipe:
    """The recipe of the contents of config.json and of a processor's file.

    Raises:
        UserError: a value is impossible, or vidray cannot do it.
    """
    kind = _kind(config)
    # A key with null has no value, as in transformers.
    given = {key: value for key, value in processor.items() if value is not None}
    values = {**_DEFAULTS[kind], **given}
    crop_px, resize_px = _sizes(kind, values)
    frames = _frames(kind, config)
    mean, std = _colours(kind, values)
    return Recipe(
        frames=frames,
        frames_per_second=_RATES.get(kind),
        resize_px=resize_px,
        crop_px=crop_px,
        resizer=_resizer(values),
        mean=mean,
        std=std,
    )


def _read(folder: str, file: str) -> dict[str, Any] | None:
    path = os.path.join(folder, file)
    if not os.path.isfile(path):
        return None
    try:
        if os.path.getsize(path) > _MOST_BYTES:
            raise ValueError("it has over 1 MiB")
        with open(path, "rb") as opened:
            found = checked_json.loads(opened.read(_MOST_BYTES))
        if not isinstance(found, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not what transformers writes: {error}") from None
    return found


def _kind(config: Mapping[str, Any]) -> str:
    """The model type, of a tower for pictures that of its whole model."""
    said = config.get("model_type")
    kind = said.removesuffix("_vision_model") if isinstance(said, str) else ""
    if kind not in _DEFAULTS:
        known = ", ".join(_DEFAULTS)
        shown = checked_json.shown(said)
        raise UserError(f"model_type is {shown}: vidray knows how {known} were trained")
    return kind


def _sizes(kind: str, values: Mapping[str, Any]) -> tuple[int, tuple[int, ...]]:
    """The crop and the size before it."""
    if values.get("do_resize") is False:
        raise UserError("do_resize is false: vidray cannot feed frames of any size")
    if kind == "resnet":
        return _sizes_of_convnext(values)
    crop = _square(values["crop_size"]) if "crop_size" in values else None
    if kind == "vjepa2" and crop is not None:
        resize: tuple[int, ...] = (int(crop * 256 / 224),)  # Whatever its size says.
    else:
        resize = _size(values["size"], is_square=kind in ("siglip", "vit"))
    if crop is None or values.get("do_center_crop") is False:
        crop = min(resize)
        if max(resize) != crop:
            raise UserError(f"size is {resize} and nothing is cropped: vidray feeds squares")
    if crop > min(resize):
        raise UserError(f"crop_size is {crop} and size is {resize}: frames are not padded")
    return crop, resize


def _sizes_of_convnext(values: Mapping[str, Any]) -> tuple[int, tuple[int, ...]]:
    """A share of the shorter side is kept, or from 384 pixels on a frame is squashed."""
    (crop,) = _size(values["size"], is_square=False)
    if crop >= 384:
        return crop, (crop, crop)
    share = _number("crop_pct", values["crop_pct"])
    if not 0 < share <= 1:
        raise UserError(f"crop_pct is {share}: it must be above 0, and 1 at the most")
    return crop, (_pixels("size / crop_pct", int(crop / share)),)


def _size(value: Any, *, is_square: bool) -> tuple[int, ...]:
    """The shorter side, or height and width."""
    if not isinstance(value, Mapping):
        side = _pixels("size", value)
        return (side, side) if is_square else (side,)
    if "shortest_edge" in value and "longest_edge" not in value:
        return (_pixels("size.shortest_edge", value["shortest_edge"]),)
    if "height" in value and "width" in value:
        return _pixels("size.height", value["height"]), _pixels("size.width", value["width"])
    raise UserError(
        f"size has {', '.join(map(str, value))}: vidray knows shortest_edge, or height and width"
    )


def _square(value: Any) -> int:
    if not isinstance(value, Mapping):
        return _pixels("crop_size", value)
    height, width = (_pixels(f"crop_size.{key}", value.get(key)) for key in ("height", "width"))
    if height != width:
        raise UserError(f"crop_size is {height}x{width}: vidray feeds squares")
    return height


def _pixels(name: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _MOST_PX:
        shown = checked_json.shown(value)
        raise UserError(f"{name} is {shown}: it must be a whole number from 1 to {_MOST_PX}")
    return value


def _frames(kind: str, config: Mapping[str, Any]) -> int | None:
    key = "frames_per_clip" if kind == "vjepa2" else "num_frames"
    if kind not in _RATES:
        return None
    # The defaults of the classes of transformers.
    default = {"videomae": 16, "timesformer": 8, "vivit": 32, "vjepa2": 64}[kind]
    return _pixels(key, config.get(key, default))


def _resizer(values: Mapping[str, Any]) -> Resizer:
    # Video and image processors are torchvision's in transformers 5 unless they say otherwise.
    named = (values.get(f"{kind}_type") for kind in ("video_processor", "image_processor"))
    name = next((name for name in named if isinstance(name, str)), "")
    on_pillow = name == "VivitImageProcessor" or name.endswith("Pil")
    resample = values.get("resample", 2)
    found = _RESIZERS.get((on_pillow, resample)) if type(resample) is int else None
    if found is None:
        shown = checked_json.shown(resample)
        raise UserError(f"resample is {shown}: vidray knows 2 (bilinear) and 3 (bicubic)")
    return found


def _colours(kind: str, values: Mapping[str, Any]) -> tuple[Colour, Colour]:
    """(x * factor - offset - mean) / std of bytes x, as mean and deviation of pixels 0 to 1."""
    # ViViT's video processor has no key offset, and always subtracts 1.
    has_offset = values.get("image_processor_type") == "VivitImageProcessor"
    is_moved = kind == "vivit" and (values["offset"] is not False or not has_offset)
    offset = 1.0 if is_moved else 0.0
    factor = _number("rescale_factor", values.get("rescale_factor", 1 / 255))
    if values.get("do_rescale") is False:
        factor, offset = 1.0, 0.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if values.get("do_normalize") is not False:
        mean, std = _three("image_mean", values), _three("image_std", values)
    white = 255 * factor
    if not white > 0:
        raise UserError(f"rescale_factor is {factor}: it must be above 0")
    red, green, blue = ((offset + value) / white for value in mean)
    red_std, green_std, blue_std = (value / white for value in std)
    found = (red, green, blue), (red_std, green_std, blue_std)
    if not all(0 <= value <= 1 for value in found[0]) or not all(0 < v <= 1 for v in found[1]):
        raise UserError(f"image_mean and image_std come to {found}: they must be from 0 to 1")
    return found


def _three(name: str, values: Mapping[str, Any]) -> Colour:
    value = values[name]
    several = list(value) if isinstance(value, list | tuple) else [value] * 3
    if len(several) != 3:
        raise UserError(f"{name} is {checked_json.shown(value)}: it must be three numbers")
    red, green, blue = (_number(name, one) for one in several)
    return red, green, blue


def _number(name: str, value: Any) -> float:
    if type(value) not in (int, float) or abs(value) > 1e9:
        raise UserError(f"{name} is {checked_json.shown(value)}: it must be a number")
    return float(value)
