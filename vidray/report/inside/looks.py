"""What a network looks at in a few of the videos that it was judged on; PyTorch loads here.

The pixels are those of the clips run, as the network was given them: nothing is decoded. Only
folders that were given are opened, the model's by ``models.folder.load``, which trusts no file.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vidray import storage
from vidray.errors import ModelError, UserError, VideoError
from vidray.report.runs import ClipsRun, JudgedModel, Runs, find_stated
from vidray.tables.run_folder import WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

    from vidray.models.attention import ClipAttention
    from vidray.models.folder import DeepModel
    from vidray.tables.shards import Clips

MOST_VIDEOS = 6
# A network of VideoMAE's large size has 1.2 GB, and its activations some more.
_MOST_WEIGHTS_BYTES = 2 << 30
# Of a clips run in a bucket, which is copied here.
_MOST_COPIED_BYTES = 2 << 30
_MOST_SECONDS = 60.0
# Of a map, if the network has a stage with as many: 64 px are 2 in the last one of a ResNet.
_LEAST_SIDE = 4
_MOST_CLIPS = 4  # of a video, of which the one is shown that says most
_DAMAGE = (
    UserError, ModelError, VideoError, OSError, MemoryError, RuntimeError, ValueError, KeyError,
    IndexError, TypeError, AttributeError, AssertionError, pa.ArrowException,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Look:
    """A network's look at one clip of a video.

    Attributes:
        uri: of the video.
        truth, label: its true label, and what the network says of the video.
        probability: of ``label``, for the video.
        clip: which of the video's clips, such as ``2 of 4``; it speaks most for ``label``.
        frames: ``uint8 (T, H, W, 3)``: what the network saw.
        weights: ``float32 (T,)``: of the frames, summing to 1; None if it has no such.
        maps: ``float32 (T, h, w)``, 0 to 1: where it looks; None if it has no such.
        places: rows and columns of the maps before they were interpolated.
    """

    uri: str
    truth: str
    label: str
    probability: float
    clip: str
    frames: NDArray[np.uint8]
    weights: NDArray[np.float32] | None
    maps: NDArray[np.float32] | None
    places: tuple[int, int] = (0, 0)

    @property
    def is_right(self) -> bool:
        """Whether the answer is right."""
        return self.truth == self.label


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What one network looks at.

    Attributes:
        looks: errors first.
        weights_are: what the weights of frames are; empty without.
        maps_are: what the maps are; empty without.
        frames_seen: of each look, as ``ClipAttention.frames_seen``; none where frames count alike.
        problem: why there are none, or fewer; empty else.
    """

    looks: Sequence[Look] = ()
    weights_are: str = ""
    maps_are: str = ""
    frames_seen: Sequence[float] = ()
    problem: str = ""


def clips_of(judged: JudgedModel, runs: Runs) -> ClipsRun | None:
    """The clips run that a model was judged on: the folder it names, or one that was moved."""
    return find_stated(runs.clips, judged.config.get("data"))


def look_into(judged: JudgedModel, run: ClipsRun) -> Looks:
    """The looks of a judged network at its worst errors and its surest right answers."""
    assert judged.model is not None
    try:
        model, clips = _opened(judged.model.out, run)
        return _looks(judged, model, clips)
    except _DAMAGE as error:
        said = " ".join(str(error).split())[:300]
        ours = isinstance(error, UserError | ModelError | VideoError)
        reason = said if ours else f"{type(error).__name__}: {said}"
        return Looks(problem=f"It cannot be looked into: {reason}")


def _opened(model_dir: str, run: ClipsRun) -> tuple[DeepModel, Clips]:
    from vidray.models.exported.description import is_graph
    from vidray.models.folder import DeepModel, load
    from vidray.models.model_files import read_info
    from vidray.tables.shards import Clips
    from vidray.video.clips import ClipSettings

    if is_graph(read_info(model_dir)):
        raise UserError(
            "it is an export, which shows no attention and no gradients; the network that it was "
            "made of does"
        )
    size = storage.file_info(storage.join(model_dir, WEIGHTS)).size_bytes
    if size > _MOST_WEIGHTS_BYTES:
        raise UserError(f"its weights are {size / 1e9:.1f} GB, too large for a page")
    if storage.is_bucket(run.out):
        there = sum(info.size_bytes for info in storage.list_files(f"{run.out}/clips"))
        if there > _MOST_COPIED_BYTES:
            raise UserError(f"its clips are {there / 1e9:.1f} GB in a bucket: copy them here first")
    clip = run.config.get("clip")
    model = load(model_dir)
    assert isinstance(model, DeepModel)
    if not isinstance(clip, dict) or ClipSettings.from_json(clip) != model.clip:
        raise UserError(f"the clips of {run.name} are cut with other settings than the model's")
    return model, Clips(run.out)


def _looks(judged: JudgedModel, model: DeepModel, clips: Clips) -> Looks:
    rows_of: dict[str, list[int]] = {}
    for row, video in enumerate(clips.table["video_id"].to_pylist()):
        rows_of.setdefault(video, []).append(row)
    chosen = chosen_videos(judged, set(rows_of))
    if not chosen:
        return Looks(problem="None of the videos that it was judged on is among the clips.")
    begun = time.monotonic()
    looks: list[Look] = []
    seen: list[float] = []
    rules = ("", "")
    problem = ""
    for number in chosen:
        rows = rows_of[judged.video_ids[number]]
        look, frames_seen, rules = _look(judged, number, rows, model, clips)
        looks.append(look)
        if frames_seen is not None:
            seen.append(frames_seen)
        spent = time.monotonic() - begun
        if spent > _MOST_SECONDS and len(looks) < len(chosen):
            problem = (
                f"Only {len(looks)} of {len(chosen)} videos: each takes "
                f"{spent / len(looks):.0f} s on this machine."
            )
            break
    return Looks(
        looks=looks, weights_are=rules[0], maps_are=rules[1], frames_seen=seen, problem=problem
    )


def chosen_videos(judged: JudgedModel, there: set[str]) -> list[int]:
    """Numbers of the videos to look at: the worst errors, then the surest right answers.

    Half and half, as far as there are as many; at most ``MOST_VIDEOS``.

    Args:
        there: video_ids that have clips.
    """
    sure = judged.probabilities.max(axis=1)
    order = [int(k) for k in np.argsort(-sure, kind="stable") if judged.video_ids[int(k)] in there]
    wrong = [k for k in order if judged.truth[k] != judged.predicted[k]]
    right = [k for k in order if judged.truth[k] == judged.predicted[k]]
    half = MOST_VIDEOS // 2
    num_wrong = min(len(wrong), max(half, MOST_VIDEOS - len(right)))
    return [*wrong[:num_wrong], *right[: MOST_VIDEOS - num_wrong]]


def _look(
    judged: JudgedModel, number: int, rows: Sequence[int], model: DeepModel, clips: Clips
) -> tuple[Look, float | None, tuple[str, str]]:
    import torch

    from vidray.models.attention import attend

    some = np.array(rows, np.int64)
    if len(some) > _MOST_CLIPS:
        some = some[np.linspace(0, len(some) - 1, _MOST_CLIPS).round().astype(np.int64)]
    label = judged.predicted[number]
    output = model.class_names.index(label)
    pixels = clips.read(some)
    best = int(model.predict(pixels, batch_size=1)[:, output].argmax())
    frames = np.require(model.preprocessing.select(pixels[best : best + 1]), requirements="W")
    inputs = model.preprocessing.to_input(torch.from_numpy(frames))
    found = attend(model.network, inputs)
    maps, places, maps_are = _maps(model, inputs, output, found)
    look = Look(
        uri=judged.uris[number],
        truth=judged.truth[number],
        label=label,
        probability=float(judged.probabilities[number].max()),
        clip=f"{list(rows).index(int(some[best])) + 1} of {len(rows)}",
        frames=frames[0],
        weights=None if found is None or not found.weighs_frames else found.frames[0],
        maps=maps,
        places=places,
    )
    seen = float(found.frames_seen[0]) if found is not None and found.weighs_frames else None
    return look, seen, ("" if found is None else found.rule, maps_are)


def _maps(
    model: DeepModel, inputs: Tensor, output: int, found: ClipAttention | None
) -> tuple[NDArray[np.float32] | None, tuple[int, int], str]:
    """Grad-CAM of a clip, or a transformer's attention to patches; with its places and a name."""
    from vidray.models.grad_cam import grad_cam

    if found is not None and found.patches is not None:
        patches = found.patches[0]
        rows, columns = patches.shape[1:]
        highest = float(patches.max())
        return patches / (highest or 1.0), (rows, columns), "attention to each part of the frame"
    seen = grad_cam(model.network, inputs, np.array([output]), least_side=_LEAST_SIDE)
    if seen is None:
        return None, (0, 0), ""
    said = "Grad-CAM: the places whose features speak for the label that it gives"
    return seen.maps[0], seen.places[1:], said
