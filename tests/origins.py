"""The transforms of the packages that weights come from, and ours beside them.

``python bench/preprocessing.py`` prints how far they are apart; tests/models/test_recipes.py checks
it. Frames go in as PyAV gives them, ``uint8 (T, H, W, 3)``; ``float32 (3, T, H, W)`` comes out.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torchvision.models as tv
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.models import video

from tests.shared_data import CORPUS, FIGHT
from tests.video_writer import sequential_frames
from vidray.models import processors, recipes
from vidray.models.preprocess import Preprocessing
from vidray.models.recipes import Recipe
from vidray.video import sampling
from vidray.video.clips import ClipSettings, read_clips
from vidray.video.decode import Video

Frames = NDArray[np.uint8]
Transform = Callable[[Frames], Tensor]

# Small and large, wide, tall and odd, one turned by its metadata; H.264 and VP9.
REAL = (
    FIGHT / "no_fight" / "nofi077.mp4",  # 320x240
    FIGHT / "fight" / "fi113.mp4",  # 400x216
    FIGHT / "fight" / "fi065.mp4",  # 450x360
    FIGHT / "fight" / "fi096.mp4",  # 1920x1080
    CORPUS / "exoplayer" / "bear-vp9-odd-dimensions.webm",  # 161x121
    CORPUS / "mp4parse" / "video_rotation_90.mp4",  # 100x60, shown upright
)


@dataclass(frozen=True, kw_only=True)
class Origin:
    """One set of weights: what its package makes of frames, and the recipe by which we do.

    Attributes:
        most: the largest difference that is right, of a normalised unit.
    """

    name: str
    recipe: Recipe
    transform: Transform
    most: float = 1e-5


def _channels_first(frames: Frames) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)  # (T, 3, H, W)


def _of_video(weights: Any) -> Transform:
    return lambda frames: weights.transforms()(_channels_first(frames))


def _of_images(weights: Any) -> Transform:
    """Pillow's images, as its training read them: (T, H, W, 3) -> (3, T, h, w)."""

    def transform(frames: Frames) -> Tensor:
        return torch.stack([weights.transforms()(Image.fromarray(f)) for f in frames], dim=1)

    return transform


def _known(name: str, origin: str) -> Recipe:
    found = recipes.recipe_of(name, origin)
    assert found is not None
    return found


def of_torchvision() -> Iterator[Origin]:
    videos = {
        "r3d_18": video.R3D_18_Weights.KINETICS400_V1,
        "s3d": video.S3D_Weights.KINETICS400_V1,
        "mvit_v1_b": video.MViT_V1_B_Weights.KINETICS400_V1,
        "mvit_v2_s": video.MViT_V2_S_Weights.KINETICS400_V1,
        "swin3d_t": video.Swin3D_T_Weights.KINETICS400_V1,
    }
    images = {
        "resnet18_avg": tv.ResNet18_Weights.DEFAULT,
        "resnet50_lstm": tv.ResNet50_Weights.DEFAULT,
        "efficientnet_b0_max": tv.EfficientNet_B0_Weights.DEFAULT,
        "timesformer_divided": tv.ViT_B_16_Weights.DEFAULT,
        "i3d_r50": tv.ResNet50_Weights.DEFAULT,
    }
    for name, weights in videos.items():
        recipe = _known(name, "torchvision")
        yield Origin(name=f"torchvision {name}", recipe=recipe, transform=_of_video(weights))
    for name, weights in images.items():
        recipe = _known(name, "torchvision")
        yield Origin(name=f"torchvision {name}", recipe=recipe, transform=_of_images(weights))


def _facebook(recipe: Recipe, offset: Callable[[float], int]) -> Transform:
    """Bytes / 255, mean and deviation, short_side_scale, a middle crop: float all the way."""

    def transform(frames: Frames) -> Tensor:
        mean, std = (torch.tensor(values)[None, :, None, None] for values in recipe.colours)
        clip = (_channels_first(frames).float() / 255 - mean) / std
        (short,) = recipe.resize_px
        height, width = clip.shape[2:]
        if width < height:
            size = (math.floor((float(height) / width) * short), short)
        else:
            size = (short, math.floor((float(width) / height) * short))
        clip = interpolate(clip, size=size, mode="bilinear", align_corners=False)
        top, left = (offset((side - recipe.crop_px) / 2) for side in size)
        cropped = clip[:, :, top : top + recipe.crop_px, left : left + recipe.crop_px]
        return cropped.permute(1, 0, 2, 3)

    return transform


def of_facebook() -> Iterator[Origin]:
    """They resize floats, we store bytes: half a level of 255 apart, 0.0087 of a unit."""
    for name in ("slowfast_r50", "slow_r50", "x3d_s", "mvit_v1_b"):
        recipe = _known(name, "pytorchvideo")
        transform = _facebook(recipe, lambda rest: int(round(rest)))  # noqa: RUF046
        yield Origin(name=f"pytorchvideo {name}", recipe=recipe, transform=transform, most=1e-2)
    for origin, name in (
        ("pyslowfast", "slowfast_r50"),
        ("pyslowfast", "x3d_s"),
        ("pyslowfast", "mvit_v2_s"),
        ("timesformer", "timesformer_divided"),  # A fork of it.
    ):
        recipe = _known(name, origin)
        transform = _facebook(recipe, math.ceil)
        yield Origin(name=f"{origin} {name}", recipe=recipe, transform=transform, most=1e-2)


def _opencv(recipe: Recipe, *, of_mmaction2: bool) -> Transform:
    """mmaction2's Resize, CenterCrop and ActionDataPreprocessor, or VideoMAE's own of the same."""

    def transform(frames: Frames) -> Tensor:
        (short,) = recipe.resize_px
        height, width = frames.shape[1:3]
        factor = short / min(height, width)
        if of_mmaction2:
            size = int(width * factor + 0.5), int(height * factor + 0.5)
        elif width < height:
            size = short, int(short * height / width)
        else:
            size = int(short * width / height), short
        resized = np.stack([cv2.resize(frame, size) for frame in frames])
        rests = (size[1] - recipe.crop_px, size[0] - recipe.crop_px)
        top, left = (rest // 2 if of_mmaction2 else int(round(rest / 2.0)) for rest in rests)  # noqa: RUF046
        crop = resized[:, top : top + recipe.crop_px, left : left + recipe.crop_px]
        mean, std = (torch.tensor(values) * 255 for values in recipe.colours)
        return ((torch.from_numpy(crop) - mean) / std).permute(3, 0, 1, 2)

    return transform


def of_opencv() -> Iterator[Origin]:
    for name in ("i3d_r50", "slowfast_r50", "timesformer_joint", "videomae_base", "x3d_m", "c3d"):
        recipe = _known(name, "mmaction2")
        most = 1e-4 if name == "c3d" else 1e-5  # Its values go to 151.
        transform = _opencv(recipe, of_mmaction2=True)
        yield Origin(name=f"mmaction2 {name}", recipe=recipe, transform=transform, most=most)
    recipe = _known("videomae_small", "videomae")
    yield Origin(name="videomae", recipe=recipe, transform=_opencv(recipe, of_mmaction2=False))


def of_transformers(folder: Path) -> Iterator[Origin]:
    """Their processors as saved to ``folder``, of which our recipe is read; none without them."""
    if importlib.util.find_spec("transformers") is None:
        return
    import transformers as hf

    kinds: dict[str, tuple[Any, Any]] = {
        "videomae": (hf.VideoMAEVideoProcessor, {}),
        "videomae (image processor)": (hf.VideoMAEImageProcessor, {}),
        "vivit": (hf.VivitVideoProcessor, {}),
        "vivit (image processor)": (hf.VivitImageProcessor, {}),
        "timesformer": (hf.TimesformerVideoProcessor, {}),
        "vjepa2": (hf.VJEPA2VideoProcessor, {}),
        "vjepa2 of 64 px": (hf.VJEPA2VideoProcessor, {"crop_size": 64}),
        "clip": (hf.CLIPImageProcessor, {}),
        "siglip": (hf.SiglipImageProcessor, {}),
        "vit": (hf.ViTImageProcessor, {}),
        "resnet": (hf.ConvNextImageProcessor, {"size": {"shortest_edge": 224}}),
        "resnet of 384 px": (hf.ConvNextImageProcessor, {}),
    }
    for name, (kind, options) in kinds.items():
        processor = kind(**options)
        where = folder / name.replace(" ", "_")
        processor.save_pretrained(str(where))
        (where / "config.json").write_text(json.dumps({"model_type": name.split()[0]}))
        yield Origin(
            name=f"transformers {name}",
            recipe=processors.of_folder(str(where)),
            transform=_of_processor(processor),
        )


def _of_processor(processor: Any) -> Transform:
    def transform(frames: Frames) -> Tensor:
        found = processor(list(frames), return_tensors="pt")
        values = found.get("pixel_values", found.get("pixel_values_videos"))
        clip = values[0] if values.ndim == 5 else values  # (T, 3, H, W)
        return torch.as_tensor(clip, dtype=torch.float32).permute(1, 0, 2, 3)

    return transform


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on two threads resizes a few pixels of a million by another last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.lru_cache(maxsize=8)
def _whole(path: Path, frames: int) -> Frames:
    """The frames that a clip over the whole of a video has, upright and of their full size."""
    with Video(str(path)) as opened:
        turns, num_frames = opened.probe().rotation_degrees // 90, opened.num_frames
    chosen = sampling.uniform(num_frames=num_frames, count=frames)
    stored = sequential_frames(path)[0][chosen]
    return np.ascontiguousarray(np.rot90(stored, turns, axes=(1, 2)))


def ours(opened: Video, path: Path, recipe: Recipe, *, frames: int) -> tuple[Tensor, Frames]:
    """Our input ``float32 (3, T, h, w)``, cut as the recipe says, and the whole frames it is of."""
    settings = ClipSettings(**{**recipe.clip(), "frames_per_clip": frames, "clip_seconds": None})
    (clip,), _, _ = read_clips(opened, str(path), settings)
    preprocessing = Preprocessing(
        num_frames=frames, size_px=recipe.crop_px, mean=recipe.mean, std=recipe.std
    )
    selected = preprocessing.select(clip[None])
    assert selected.base is clip or np.shares_memory(selected, clip)  # Right already.
    return preprocessing.to_input(torch.from_numpy(selected))[0], _whole(path, frames)


def difference(opened: Video, path: Path, origin: Origin, *, frames: int) -> float:
    """The largest difference between our input and theirs, of a normalised unit.

    Args:
        opened: the video of ``path``, so that it is decoded once for many origins.
    """
    found, whole = ours(opened, path, origin.recipe, frames=frames)
    with one_thread():
        expected = origin.transform(whole)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float((found - expected).abs().max())
