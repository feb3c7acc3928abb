"""Versions of the libraries that decide a table's numbers, for run.json and for digests."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Iterable

from vidray import __version__

# Distributions by what is done with them; pyarrow decides the bytes of a table.
DECODING = ("av", "numpy", "opencv-python-headless", "pyarrow")
FEATURES = (*DECODING, "scipy")
CLASSICAL = ("numpy", "scikit-learn", "scipy", "skops")
DEEP = ("numpy", "torch", "torchvision")
# What runs an exported network, by ``models.names.Runtime``; there are two packages of ONNX
# Runtime, one of them for GPUs.
_RUNTIMES = {
    "onnx": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
    "torch": ("torch", "torchvision"),
}

Versions = dict[str, str | None]


def chosen(
    *, decoder: str = "pyav", enhance: str = "off", resizer: str | None = None
) -> tuple[str, ...]:
    """Libraries of a decoder, a denoiser or a resizer, where it was asked for."""
    decord = ("decord2", "decord") if decoder == "decord" else ()
    pillow = ("pillow",) if "pillow" in (resizer or "") else ()
    return (*decord, *(("numba",) if enhance != "off" else ()), *pillow)


def running(runtime: str | None) -> tuple[str, ...]:
    """Libraries that decide what a network says, by what runs it; None: it is no export."""
    return ("numpy", *_RUNTIMES[runtime or "torch"])


def of(libraries: Iterable[str]) -> Versions:
    """Version of vidray, of Python and of each library; None of one that is not installed."""
    found = {name: _version(name) for name in sorted(set(libraries))}
    return {"vidray": __version__, "python": platform.python_version(), **found}


def changes(then: object, now: Versions) -> list[str]:
    """Libraries that both name with other versions, such as ``torch 2.11.0 -> 2.15.0``.

    Args:
        then: the versions in run.json.
    """
    if not isinstance(then, dict):
        return ["unknown ones"]
    names = sorted(then.keys() & now.keys())
    return [f"{name} {then[name]} -> {now[name]}" for name in names if then[name] != now[name]]


@functools.cache
def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
