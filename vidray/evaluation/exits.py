"""Early exits judged: when a clip may leave, chosen on split val, and what that saves and loses.

A clip leaves, not a video: each goes as far as it needs, and the probabilities of a video's clips
are averaged as they are without exits, each from the head that answered for it. What may be lost is
of videos, by those averages. So a threshold is right for as many clips as those it was chosen by.

    split val, a fifth of its recordings   a temperature for each exit
               the others                  the threshold: from the most confident on downwards,
                                           as long as the test shows that no more than allowed is
                                           lost (``deferral.choose_in_sequence``)

Two parts, since the test holds for thresholds that were fixed before it saw a video: those that
calibrate have decided what a confidence of 0.9 is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from vidray import models, storage
from vidray.evaluation import cost
from vidray.learning.examples import Examples
from vidray.models import deferral
from vidray.models.exit_rule import LEAST, MOST, ExitRule
from vidray.models.folder import DeepModel
from vidray.models.networks.exits import EachExit, ExitNetwork, flops_by_stage
from vidray.models.probabilities import softmax
from vidray.sources import splits
from vidray.storage.json_file import write_json
from vidray.tables.run_folder import MODEL

# Tried from the first on: 1 - 10 ** -6 to 0, where every clip leaves at the first exit. They must
# not depend on what is judged.
_TRIED = [1 - 10 ** (-step / 10) for step in range(60, -1, -1)]
# Of the recordings that calibrate: one number for each exit needs few.
_CALIBRATING = 5


def write_rule(
    out: str, info: Mapping[str, Any], examples: Examples, *, allow: float, device: str
) -> None:
    """Write model.json of a model with exits anew, with what split val says of them."""
    model = models.load(out, device=device)
    assert isinstance(model, DeepModel)
    val = examples.of_split("val")
    rule = choose(every_exit(model, val), allow=allow, ids=video_ids(val))
    write_json(storage.join(storage.canonical(out), MODEL), {**info, "exits": rule.to_json()})


@dataclass(frozen=True)
class Said:
    """What every head of a network says of clips.

    Attributes:
        logits: ``float32 (N, E + 1, K)``; the last are of the network's own head.
        videos: ``int64 (N,)``, each clip's video, from 0.
        labels: ``int64 (V,)``, the class of each video.
        groups: V names of recordings, None where it is not known.
    """

    logits: NDArray[np.float32]
    videos: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: list[str | None]

    def of_videos(self, wanted: NDArray[np.bool_]) -> Said:
        """The same of some of the videos, ``bool (V,)``."""
        clips, number = wanted[self.videos], np.cumsum(wanted) - 1
        groups = [group for group, is_in in zip(self.groups, wanted, strict=True) if is_in]
        return Said(self.logits[clips], number[self.videos[clips]], self.labels[wanted], groups)

    def right(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each video's label is right, ``bool (V,)``, by its clips ``(N, K)``."""
        sums = np.zeros((len(self.labels), probabilities.shape[1]))
        np.add.at(sums, self.videos, probabilities)
        means = sums / np.bincount(self.videos, minlength=len(sums))[:, None]
        return np.asarray(means.argmax(axis=1) == self.labels)

    def at_stage(self, stage: int) -> NDArray[np.float64]:
        """Probabilities ``(N, K)`` of one head, from 0, not calibrated."""
        return softmax(self.logits[:, stage])


def every_exit(model: DeepModel, examples: Examples) -> Said:
    """What every head of a model with exits says of clips."""
    assert isinstance(model.network, ExitNetwork)
    assert examples.clips is not None
    table = examples.table
    found = model.logits(EachExit(model.network), examples.clips.read, table["row"].to_numpy())
    ids = table["video_id"].to_pylist()
    number = {video: k for k, video in enumerate(video_ids(examples))}
    videos = np.array([number[video] for video in ids], np.int64)
    first = np.unique(videos, return_index=True)[1]
    groups = splits.known_recordings(table)
    return Said(
        found.reshape(len(found), model.network.num_stages, -1),
        videos,
        examples.targets(model.class_names)[first],
        [groups[k] for k in first.tolist()],
    )


def video_ids(examples: Examples) -> list[str]:
    """The videos of clips, each once, in the order of ``Said.labels``."""
    return list(dict.fromkeys(examples.table["video_id"].to_pylist()))


def choose(said: Said, *, allow: float, ids: list[str]) -> ExitRule:
    """Temperatures, and the lowest threshold that loses no more than ``allow``.

    Args:
        said: of split val.
        allow: accuracy that may be lost.
        ids: V names of the videos: those of a recording, or of none, calibrate by their hash.
    """
    names = [group or video for group, video in zip(said.groups, ids, strict=True)]
    calibrates = np.array([_draw(name) % _CALIBRATING == 0 for name in names])
    if calibrates.all() or not calibrates.any():
        calibrates = np.array([name == names[0] for name in names])
    fitted, tested = said.of_videos(calibrates), said.of_videos(~calibrates)
    if not len(tested.labels):  # One recording shows nothing, whatever it has decided.
        tested = said
    labels = fitted.labels[fitted.videos]
    temperatures = tuple(
        fit_temperature(fitted.logits[:, stage], labels)
        for stage in range(said.logits.shape[1] - 1)
    )
    dear = tested.right(tested.at_stage(-1)).astype(np.int64)
    answers = [answered(tested, temperatures, at) for at in _TRIED]
    last = said.logits.shape[1]
    threshold = deferral.choose_in_sequence(
        _TRIED,
        np.stack([dear - tested.right(found) for found, _ in answers]),
        [float((stages < last).mean()) for _, stages in answers],
        allow=allow,
        groups=tested.groups,
    )
    return ExitRule(temperatures=temperatures, threshold=threshold)


def answered(
    said: Said, temperatures: tuple[float, ...], leaves_at: float | None
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Probabilities ``(N, K)`` as ``networks.exits.Leaving`` gives them, and the stage of each
    clip, ``int32 (N,)``, 1 for the first exit.
    """
    probabilities = said.at_stage(-1)
    stages = np.full(len(probabilities), said.logits.shape[1], np.int32)
    if leaves_at is None:
        return probabilities, stages
    for stage in reversed(range(len(temperatures))):  # The first that is sure counts.
        own = softmax(said.logits[:, stage] / np.float32(temperatures[stage]))
        leaves = own.max(axis=1) >= leaves_at
        probabilities[leaves], stages[leaves] = own[leaves], stage + 1
    return probabilities, stages


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature with the least cross-entropy: of logits ``(N, K)`` for labels ``(N,)``."""
    wide = logits.astype(np.float64)
    own = wide[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        highest = wide.max(axis=1)
        sums = np.exp((wide - highest[:, None]) * scale).sum(axis=1)
        return float(np.mean(np.log(sums) + (highest - own) * scale))

    ends = (math.log(LEAST), math.log(MOST))
    found = minimize_scalar(loss, bounds=ends, method="bounded")  # convex in 1 / temperature
    return float(np.clip(math.exp(found.x), LEAST, MOST))


def figures(
    model: DeepModel,
    examples: Examples,
    probabilities: NDArray[np.float64],
    stages: NDArray[np.int32],
    *,
    timed_videos: int,
) -> dict[str, Any]:
    """What the exits of a model save and lose on clips, as metrics.json holds it.

    Args:
        probabilities, stages: of the clips, as ``model.answer_rows`` gives them.
        timed_videos: videos whose time is measured; 0 measures none.
    """
    assert model.exits is not None
    assert isinstance(model.network, ExitNetwork)
    said, fed = every_exit(model, examples), model.preprocessing
    shape = (fed.num_channels, fed.num_frames, fed.size_px, fed.size_px)
    flops = flops_by_stage(model.network, shape)
    shares = [float((stages == k + 1).mean()) for k in range(len(flops))]
    whole = said.right(said.at_stage(-1))
    lost = whole.astype(np.int64) - said.right(probabilities)
    return {
        "threshold": model.exits.threshold.value,
        "stages": [
            {
                "accuracy": float(said.right(said.at_stage(k)).mean()),  # of all, by this head
                "share": share,  # of the clips, that leave here
                "flops_per_clip": own,
            }
            for k, (share, own) in enumerate(zip(shares, flops, strict=True))
        ],
        "accuracy_without_exits": float(whole.mean()),
        "lost": float(lost.mean()),
        "lost_interval": list(deferral.interval_of_lost(lost, said.groups)),
        "flops_per_clip": float(np.dot(shares, flops)),
        "flops_without_exits": cost.flops_per_clip(model.network, shape),
        **_seconds(model, examples, timed_videos),
    }


def _seconds(model: DeepModel, examples: Examples, timed_videos: int) -> dict[str, float | None]:
    """Seconds of the network for a video, with and without its exits, one after the other."""
    names = ("seconds_per_video", "seconds_without_exits", "seconds_saved_per_video")
    if not timed_videos:
        return dict.fromkeys(names)
    ids = video_ids(examples)[:timed_videos]
    table = examples.table
    rows = table["row"].to_numpy()[np.isin(table["video_id"].to_numpy(), ids)]
    assert examples.clips is not None
    read, whole = examples.clips.read, dataclasses.replace(model, exits=None)
    leaving, through = (
        cost.median_seconds(partial(one.predict_rows, read, rows), runs=3) / len(ids)
        for one in (model, whole)
    )
    return dict(zip(names, (leaving, through, through - leaving), strict=True))


def _draw(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"calibrates {name}".encode()).digest()[:4], "big")
