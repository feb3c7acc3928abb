"""Model folders with early exits for ``bench/gpu.py``: fresh weights, a chosen share leaves."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import torch

from bench.gpu_label import Given
from bench.gpu_parts import device_here
from vidray import models, storage
from vidray.models.deferral import Threshold
from vidray.models.exit_rule import ExitRule
from vidray.models.folder import save_deep
from vidray.models.model_files import read_info
from vidray.models.networks.exits import EachExit, ExitNetwork, placed
from vidray.video import clips
from vidray.video.decode import Video

_EXITS = 2
_LOOKED_AT = 32  # Videos that differ: the others are copies of them.


def model_that_leaves(what: Given, share: str) -> str:
    """A folder of the bench's network with two exits.

    Args:
        share: ``none``, ``half`` or ``all`` of the clips leave at the first exit.
    """
    folder = what.folder / f"exits-{share}"
    if (folder / "model.json").exists():
        return str(folder)
    whole = what.folder / "exits-none"
    if not (whole / "model.json").exists():
        _make(what, str(whole))
    if share != "none":
        shutil.copytree(whole, folder, dirs_exist_ok=True)
        at = 0.0 if share == "all" else _median_confidence(what, str(whole))
        _leave_at(folder, at)
    return str(folder)


def _make(what: Given, folder: str) -> None:
    info = read_info(what.model)
    torch.manual_seed(0)
    kinds = ("name", "num_classes", "frames", "size_px")
    network = {name: info["network"][name] for name in kinds}
    shape = (3, info["clip"]["frames_per_clip"], info["clip"]["size_px"], info["clip"]["size_px"])
    network["exits"] = tuple(placed(models.build(**network), network["name"], _EXITS, shape))
    built = models.build(**network).network
    rule = ExitRule(temperatures=(1.0,) * _EXITS, threshold=_threshold(None))
    changed = {**info, "network": network, "exits": rule.to_json()}
    save_deep(folder, changed, built.state_dict())


def _threshold(value: float | None) -> Threshold:
    """What no split val has shown: it is speed alone that is measured."""
    return Threshold(
        value=value, share=0.0, lost=0.0, lost_interval=(-1.0, 1.0), allow=0.5, sureness=0.95,
        num_videos=1, num_groups=1,
    )  # fmt: skip


def _leave_at(folder: Path, value: float) -> None:
    file = folder / "model.json"
    info = json.loads(file.read_text())
    rule = ExitRule.from_json(info["exits"])
    info["exits"] = dataclasses.replace(rule, threshold=_threshold(value)).to_json()
    file.write_text(json.dumps(info, indent=2))


def _median_confidence(what: Given, folder: str) -> float:
    """Of the first exit, over the videos."""
    model = models.load(folder, device=device_here())
    assert isinstance(model, models.DeepModel)
    assert isinstance(model.network, ExitNetwork)
    pixels = []
    for row in what.videos[:_LOOKED_AT]:
        with storage.opened(row["uri"]) as source, Video(source) as opened:
            pixels.append(clips.read_clips(opened, source, model.clip)[0])
    stored = np.concatenate(pixels)
    each = model.logits(EachExit(model.network), lambda rows: stored[rows], np.arange(len(stored)))
    first = torch.from_numpy(each[:, : len(model.class_names)]).double()
    return float(first.softmax(dim=1).amax(dim=1).median())
