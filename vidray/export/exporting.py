"""A model folder -> a model folder for another runtime.

network ──> graph ──> int8, if asked for ──> a folder of this machine ──> both answer the same clips
                                                                              │
OUT/  network.*, parity.json, model.json, _SUCCESS  <── if enough labels agree ┘

Nothing is written to OUT before the labels agree, and model.json, without which no job takes a
folder for a model, last.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from vidray import masking, models, storage
from vidray.errors import JobError, UserError
from vidray.evaluation import cost
from vidray.export import parity, peak, samples
from vidray.export.parity import Parity, TimedAnswers
from vidray.export.samples import Samples
from vidray.export.settings import ExportSettings
from vidray.export.whole import whole
from vidray.export.writing import ExportSource, Written, write
from vidray.models import inference
from vidray.models.exported.description import Export, is_graph
from vidray.models.exported.model import ExportedModel, can_run, load_exported
from vidray.models.folder import DeepModel
from vidray.models.model_files import check_apart, name_and_digest, read_info
from vidray.models.names import Ranges
from vidray.storage.addresses import local_path
from vidray.tables.run_folder import GRAPHS, MODEL, WEIGHTS, RunFolder

PARITY = "parity.json"
# NNCF's own advice is 300 pictures; ranges of a clip are those of its 8 to 32 frames.
_CALIBRATION_CLIPS = 128
_LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf")


def export(
    model_dir: str, out: str, settings: ExportSettings, *, overwrite: bool = False
) -> Parity | None:
    """Write the model folder ``out``; how it compares with its network, None if it was there.

    Args:
        model_dir: a network's.
        out: the folder to write, local or in a bucket.
        overwrite: remove an earlier model from the folder first.

    Raises:
        UserError: not a network, one that cannot be exported so, or no clips where they are needed.
        JobError: fewer labels agree than must, or int8 would be left in too few layers.
    """
    info = read_info(model_dir)
    _check_exportable(model_dir, info)
    check_apart(out, model_dir, flag="--model")
    digest = name_and_digest(model_dir)[1]
    chosen = dataclasses.asdict(settings)
    folder = RunFolder(
        out=storage.canonical(out),
        kind="model",
        same={"parent_digest": digest, "export": masking.throughout(chosen)},
        shown={"config": masking.throughout({"model": model_dir, "out": out, **chosen})},
        libraries=_LIBRARIES,
    )
    if overwrite:
        folder.overwrite()
    if (before := folder.check()) and before.get("state") == "finished":
        folder.claim()
        return None
    model = models.load(model_dir)
    assert isinstance(model, DeepModel)
    if settings.to != "torch":  # A graph runs from end to end.
        model = whole(model)
    source = _source(model, settings)
    compared = _compared(model, settings)
    with tempfile.TemporaryDirectory(prefix="vidray-export-") as made:
        found = _made(Path(made), model_dir, source, compared, digest)
        folder.claim()
        for name in (*GRAPHS[settings.to], PARITY, MODEL):
            storage.write_bytes(folder.path(name), (Path(made) / name).read_bytes())
    folder.finish()
    return found


def _check_exportable(model_dir: str, info: Mapping[str, Any]) -> None:
    shown = storage.without_secrets(model_dir)
    if info["family"] != "deep":
        raise UserError(f"{shown} holds {info['name']}, a classical model: only networks export")
    if info.get("exported") is not None:
        raise UserError(f"{shown} holds an export: give the folder that it was exported from")


def _source(model: DeepModel, settings: ExportSettings) -> ExportSource:
    """What is exported, with clips to calibrate on where these are needed."""
    source = ExportSource(model=model, settings=settings)
    if settings.precision != "int8":
        return source
    ranges: Ranges = "calibrated"
    if settings.ranges is not None:
        ranges = settings.ranges
    elif source.is_transformer and settings.to != "tensorrt":
        ranges = "dynamic"
    if ranges == "dynamic":
        return dataclasses.replace(source, ranges=ranges)
    if settings.data is None:
        raise UserError(
            f"--precision int8 of {model.name} takes its ranges of clips: give --data, the run of "
            "jobs/clips.py that it was trained on"
        )
    examples = samples.of_run(model, settings.data)
    most = settings.calibration_clips or _CALIBRATION_CLIPS
    calibration = samples.of_split(examples, "train", most)
    return dataclasses.replace(source, ranges=ranges, calibration=calibration)


def _compared(model: DeepModel, settings: ExportSettings) -> Samples:
    if settings.data is None:
        return samples.made(model, settings.compared_clips)
    examples = samples.of_run(model, settings.data)
    return samples.of_split(examples, "val", settings.compared_clips)


def _made(
    made: Path, model_dir: str, source: ExportSource, compared: Samples, digest: str
) -> Parity:
    """Fill a folder of this machine; for int8 again, with layers in float, if labels are lost."""
    written = write(source)
    found = _tried(made, model_dir, source, compared, digest, written)
    least = source.settings.least_agreement
    if found.agreement < least and source.ranges == "calibrated":
        labels = _labels(source.model, compared)
        written = write(dataclasses.replace(source, left=(compared, labels)))
        found = _tried(made, model_dir, source, compared, digest, written)
    if found.agreement < least:
        raise JobError(
            f"{found.agreement:.4f} of {found.clips} clips keep their label, and --least-agreement "
            f"is {least}: nothing was exported; take a larger number format"
        )
    return found


def _tried(
    made: Path,
    model_dir: str,
    source: ExportSource,
    compared: Samples,
    digest: str,
    written: Written,
) -> Parity:
    """Write a whole model folder, and hold its answers against the network's."""
    for name, data in written.files.items():
        (made / name).write_bytes(data)
    described = _described(source, digest, written)
    info = {**source.model.info, "exported": dataclasses.asdict(described)}
    (made / MODEL).write_text(json.dumps(info, indent=2))
    found = _compare(str(made), model_dir, source, compared, written)
    (made / PARITY).write_text(json.dumps(found.to_json(), indent=2))
    return found


def _described(source: ExportSource, digest: str, written: Written) -> Export:
    network, pre = source.model.network, source.model.preprocessing
    joined = hashlib.sha256()
    for name in GRAPHS[source.settings.to]:
        joined.update(written.files[name])
    shape = (pre.num_channels, pre.num_frames, pre.size_px, pre.size_px)
    return Export(
        to=source.settings.to,
        precision=source.settings.precision,
        parent_digest=digest,
        ranges=source.ranges,
        parameters=cost.num_parameters(network),
        flops_per_clip=_flops(network, shape),
        sha256=joined.hexdigest(),
    )


def _flops(network: nn.Module, shape: tuple[int, int, int, int]) -> int | None:
    try:
        return cost.flops_per_clip(network, shape)
    except (RuntimeError, NotImplementedError):  # Of tensors without content, somewhere.
        return None


def _labels(model: DeepModel, compared: Samples) -> NDArray[np.int64]:
    answers = [model.predict(compared.clip(k)) for k in range(len(compared))]
    labels: NDArray[np.int64] = np.concatenate(answers).argmax(axis=1)
    return labels


def _compare(
    made: str, model_dir: str, source: ExportSource, compared: Samples, written: Written
) -> Parity:
    before, after, run_by = source.model, *_opened(made)
    inference.to_channels_last(before.network)  # As a label job computes.
    first, second = parity.alternated(before.predict, after.predict, compared)
    weights = storage.file_info(storage.join(storage.canonical(model_dir), WEIGHTS)).size_bytes
    here = None if storage.is_bucket(storage.canonical(model_dir)) else model_dir

    def side(timed: TimedAnswers, size_bytes: int, folder: str | None) -> parity.ParitySide:
        used = None if folder is None else peak.peak_bytes(folder)
        return parity.side(timed, compared, before.class_names, size_bytes, used)

    return Parity(
        clips=len(compared),
        made=compared.made is not None,
        agreement=parity.agreement(first.answers, second.answers),
        agreement_interval=parity.agreement_interval(first.answers, second.answers),
        largest_change=float(np.abs(first.answers - second.answers).max()),
        before=side(first, weights, here and local_path(storage.canonical(here))),
        after=side(second, sum(map(len, written.files.values())), made),
        layers_in_float=written.layers_in_float,
        run_by=run_by,
    )


def _opened(made: str) -> tuple[DeepModel | ExportedModel, str]:
    """The export as a job opens it, and what runs it; TensorRT's graph where there is no TensorRT
    by ONNX Runtime, which shows what int8 has changed and not what TensorRT will.
    """
    info = read_info(made)
    if not is_graph(info):
        model = models.load(made)
        assert isinstance(model, DeepModel)
        return model, "PyTorch"
    to = info["exported"]["to"]
    if to == "tensorrt" and not can_run("tensorrt"):
        stand_in = {**info, "exported": {**info["exported"], "to": "onnx"}}
        return load_exported(made, stand_in, threads=1), "ONNX Runtime in TensorRT's place"
    device = "cuda" if to == "tensorrt" else "cpu"
    runs = {"onnx": "ONNX Runtime", "openvino": "OpenVINO", "tensorrt": "TensorRT"}
    return load_exported(made, info, device=device, threads=1), runs[to]
