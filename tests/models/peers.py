"""Networks of the packages that other people's weights come from; a test skips where one lacks.

They are old: their imports warn, and want what was removed since.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from typing import Any

import pytest
import torchvision.transforms.functional
from torch import nn


def pytorchvideo(name: str) -> nn.Module:
    """A network of PyTorchVideo's hub with its random weights; it gives logits."""
    pytest.importorskip("pytorchvideo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Of torchvision before 0.17; only augmentations use it.
        sys.modules.setdefault(
            "torchvision.transforms.functional_tensor", torchvision.transforms.functional
        )
        hub = importlib.import_module("pytorchvideo.models.hub")
        network: nn.Module = getattr(hub, name)(pretrained=False)
    network.blocks[-1].activation = None  # type: ignore[index, union-attr]
    return network.eval()


def mmaction(kind: str, module: str, **settings: Any) -> nn.Module:
    """A backbone of mmaction2 with its random weights.

    Args:
        kind: its class.
        module: of ``mmaction.models.backbones``.
        settings: its arguments.
    """
    pytest.importorskip("mmaction")
    pytest.importorskip("mmcv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = importlib.import_module("mmaction")
        # Without running their __init__.py, which imports what is not in the wheel.
        for name in ("models", "models.backbones", "models.common", "models.utils"):
            package = types.ModuleType(f"mmaction.{name}")
            package.__path__ = [f"{root.__path__[0]}/{name.replace('.', '/')}"]
            sys.modules.setdefault(package.__name__, package)
        for name in ("conv2plus1d", "transformer"):
            importlib.import_module(f"mmaction.models.common.{name}")
        importlib.import_module("mmengine.registry").init_default_scope("mmaction")
        there = importlib.import_module(f"mmaction.models.backbones.{module}")
        network: nn.Module = getattr(there, kind)(**settings)
    network.eval()  # Theirs return nothing.
    return network
