"""The model of the label benchmarks, whose head is fitted to the videos, and its exports."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vidray import models, sources
from vidray.models import DeepModel
from vidray.models.folder import save_deep
from vidray.models.preprocess import KINETICS, Preprocessing
from vidray.tables.shards import Clips
from vidray.video.clips import ClipSettings

_ROOT = Path(__file__).resolve().parents[1]
# Of made videos, which have no labels.
CLASSES = ("a", "b", "c", "d")
# Made videos that differ, see ``xvid_clips``.
_DIFFERENT = 32
_RIDGE = 1e-3  # Of the largest eigenvalue: the fit of few clips by many numbers.


def make_model(work: Path, source: str, *, name: str, frames: int, size_px: int) -> Path:
    """The model folder, made unless it is there; and beside it ``clips``, which it is fitted to."""
    folder = work / name
    if (folder / "model.json").exists():
        return folder
    data = work / "run"
    _jobs(
        "clips.py", "--videos", _labelled(work, source), "--out", data,
        "--frames-per-clip", frames, "--size-px", size_px,
    )  # fmt: skip
    cut = Clips(str(data))
    classes = tuple(sorted(set(cut.table["label"].to_pylist())))
    save_fresh(folder, name, classes, frames=frames, size_px=size_px)
    split = cut.table["split"].to_numpy(zero_copy_only=False)
    # Nothing of made videos can be learnt for others, so all are fitted to.
    rows = np.flatnonzero((split == "train") | (classes == CLASSES))
    _fit_head(folder, cut, classes, rows)
    return folder


def export_model(work: Path, model: Path, precision: str) -> Path:
    """The model for OpenVINO, exported unless it is there."""
    out = work / f"{model.name}_{precision}"
    if (out / "_SUCCESS").exists():
        return out
    # Few clips are compared here, and one of them may hang by a thread; the benchmark itself counts
    # the labels of all videos.
    _jobs(
        "export.py", "--model", model, "--out", out, "--to", "openvino", "--precision", precision,
        "--data", work / "run", "--least-agreement", 0.9,
    )  # fmt: skip
    return out


def save_fresh(
    folder: Path, name: str, classes: tuple[str, ...], *, frames: int, size_px: int
) -> None:
    """A model folder of fresh weights."""
    torch.manual_seed(0)
    network: dict[str, Any] = {
        "name": name, "num_classes": len(classes), "frames": frames, "size_px": size_px,
    }  # fmt: skip
    mean, std = KINETICS
    info = {
        "family": "deep",
        "name": name,
        "class_names": classes,
        "network": network,
        "preprocessing": Preprocessing(num_frames=frames, size_px=size_px, mean=mean, std=std),
        "clip": ClipSettings(frames_per_clip=frames, size_px=size_px),
    }
    built = models.build(**network).network
    # Statistics of batch norms as training would leave them.
    with torch.no_grad():
        noise = torch.randn(4, 3, frames, size_px, size_px)
        for _ in range(3):
            built.train()(noise)
    save_deep(str(folder), info, built.state_dict())


def _fit_head(folder: Path, cut: Clips, classes: tuple[str, ...], rows: NDArray[np.int64]) -> None:
    """Ridge regression of the classes on what the head sees, in the head's place."""
    model = models.load(str(folder))
    assert isinstance(model, DeepModel)
    assert isinstance(model.head, torch.nn.Linear)
    seen = np.concatenate([model.embed(cut.read(rows[k : k + 8])) for k in range(0, len(rows), 8)])
    middle = seen.mean(axis=0)
    labels = cut.table["label"].to_pylist()
    wanted = np.array([[name == labels[k] for name in classes] for k in rows], np.float64)
    x = (seen - middle).astype(np.float64)
    products = x @ x.T
    ridge = _RIDGE * np.linalg.eigvalsh(products)[-1] * np.eye(len(rows))
    weights = x.T @ np.linalg.solve(products + ridge, wanted - wanted.mean(axis=0))  # (D, K)
    scale = 10.0  # Of logits: a class that is sure has a probability near 1.
    bias = wanted.mean(axis=0) - middle @ weights
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(scale * weights.T))
        model.head.bias.copy_(torch.from_numpy(scale * bias))
    save_deep(str(folder), model.info, model.network.state_dict())


def _labelled(work: Path, source: str) -> str:
    """The source, or of made videos a manifest of those that differ, with made labels."""
    videos = sources.list_videos(source).to_pylist()
    if any(video["label"] is not None for video in videos):
        return source
    path = work / "labelled.csv"
    work.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "group"])
        for k, video in enumerate(videos[:_DIFFERENT]):
            split = "val" if k % 4 == 0 else "train"
            # The number decides, so that each class is in both splits.
            writer.writerow([video["uri"], CLASSES[k // 4 % len(CLASSES)], split, f"clip{k}"])
    return str(path)


def _jobs(name: str, *words: object) -> None:
    command = [sys.executable, str(_ROOT / "jobs" / name), *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
