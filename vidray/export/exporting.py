"""A model folder -> a model folder for another runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vidray import models, storage
from vidray.errors import UserError
from vidray.export.graph import onnx_bytes, to_onnx
from vidray.export.settings import ExportSettings
from vidray.models.folder import DeepModel
from vidray.models.model_files import name_and_digest, read_info
from vidray.storage.json_file import write_json
from vidray.tables.run_folder import MODEL, RunFolder

Files = dict[str, bytes]


def export(model_dir: str, out: str, settings: ExportSettings, *, overwrite: bool) -> str:
    """Write the model folder ``out``; a line that says what it holds.

    Raises:
        UserError: not a network, or one that cannot be exported so.
    """
    info = read_info(model_dir)
    _, digest = name_and_digest(model_dir)
    described = {"to": settings.to, "precision": settings.precision, "parent_digest": digest}
    folder = RunFolder(
        out=storage.canonical(out),
        kind="model",
        same={"digest": digest},
        shown={"config": {"model": model_dir, "out": out, **described}},
        libraries=("torch", "onnx"),
    )
    if folder.claim(overwrite=overwrite) == "finished":
        return f"nothing to do: {out} holds this export"
    model = models.load(model_dir)
    if not isinstance(model, DeepModel):
        raise UserError(f"{model_dir} holds {info['name']}, which is no network of PyTorch")
    for name, data in _WRITERS[settings.to](model, settings).items():
        storage.write_bytes(folder.path(name), data)
    write_json(folder.path(MODEL), _info(info, described))
    folder.finish()
    return f"{info['name']} for {settings.to} in {settings.precision}"


def _info(parent: Mapping[str, Any], described: Mapping[str, str]) -> dict[str, Any]:
    return {**parent, "exported": dict(described)}


def _onnx(model: DeepModel, _: ExportSettings) -> Files:
    return {"network.onnx": onnx_bytes(to_onnx(model))}


def _openvino(model: DeepModel, settings: ExportSettings) -> Files:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "a.onnx").write_bytes(onnx_bytes(to_onnx(model)))
        found = openvino.convert_model(path / "a.onnx")
        half = settings.precision in ("float16", "bfloat16")
        openvino.save_model(found, path / "network.xml", compress_to_fp16=half)
        return {name: (path / name).read_bytes() for name in ("network.xml", "network.bin")}


_WRITERS: dict[str, Callable[[DeepModel, ExportSettings], Files]] = {
    "onnx": _onnx,
    "openvino": _openvino,
}
