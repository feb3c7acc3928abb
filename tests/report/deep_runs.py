"""A network that was judged on clips, as a report has it; nothing was trained."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tests.made_runs import LABELS, clips_run, videos
from vidray.models.folder import save_deep
from vidray.models.model_files import read_info
from vidray.models.networks.build import build
from vidray.models.preprocess import IMAGENET, Preprocessing
from vidray.report.reading import read
from vidray.report.runs import JudgedModel, Runs, TrainedModel
from vidray.video.clips import ClipSettings

FRAMES, SIDE_PX = 4, 64


def clips_folder(out: Path, number: int = 16) -> Path:
    """A finished run of clips, one of each video."""
    return clips_run(out, number, frames=FRAMES, size_px=SIDE_PX)


def network_folder(out: Path, name: str) -> Path:
    """The model folder of a network as it begins."""
    network = {"name": name, "num_classes": 2, "frames": FRAMES, "size_px": SIDE_PX}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = build(**network).network  # type: ignore[arg-type]
    mean, std = IMAGENET
    info = {
        "family": "deep",
        "name": name,
        "class_names": LABELS,
        "network": network,
        "preprocessing": Preprocessing(num_frames=FRAMES, size_px=SIDE_PX, mean=mean, std=std),
        "clip": ClipSettings(frames_per_clip=FRAMES, size_px=SIDE_PX),
    }
    save_deep(str(out), info, built.state_dict())
    return out


def judged_network(
    model: Path, data: Path, *, number: int = 16, wrong: Sequence[int] = (0, 3, 5, 9)
) -> JudgedModel:
    """Its answers for the videos: the later in the list, the surer."""
    rows = videos(number)
    truth = [str(row["label"]) for row in rows]
    answers = [LABELS[1 - LABELS.index(t)] if k in wrong else t for k, t in enumerate(truth)]
    sure = np.linspace(0.55, 0.95, number)
    probabilities = np.array(
        [
            [s, 1 - s] if label == LABELS[0] else [1 - s, s]
            for s, label in zip(sure, answers, strict=True)
        ]
    )
    return JudgedModel(
        out=f"{model}_test",
        name=f"{model.name}_test",
        report={"config": {"model": str(model), "data": str(data), "split": "test"}},
        class_names=LABELS,
        video_ids=tuple(str(row["video_id"]) for row in rows),
        uris=tuple(str(row["uri"]) for row in rows),
        truth=tuple(truth),
        predicted=tuple(answers),
        groups=(None,) * number,
        probabilities=probabilities,
        cost={},
        baselines={},
        model=TrainedModel(out=str(model), name=model.name, report={}, info=read_info(str(model))),
    )


def runs_of(judged: Sequence[JudgedModel], *folders: Path) -> Runs:
    """What a report is made of: these folders, and these judged models."""
    runs = read([str(folder) for folder in folders])
    models = tuple(one.model for one in judged if one.model is not None)
    return dataclasses.replace(runs, judged=tuple(judged), models=models)
