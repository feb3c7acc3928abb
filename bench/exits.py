"""Early exits: accuracy lost against work and seconds saved, and whether the bound holds.

    python bench/exits.py                                   # generated classes of motion, s3d
    python bench/exits.py --data runs/clips --model s3d --weights models/s3d --epochs 3
    python bench/exits.py --folder DIR                      # goes on with what is there

A network with exits is trained as ``jobs/train.py --exits`` does. Then videos that it has not
learnt from are drawn into two halves, recordings whole, again and again: the one chooses when a
clip may leave (``vidray.evaluation.exits.choose``), on the other the loss is counted. Held is a
draw whose other half lost no more than was allowed; that half is a sample itself. Seconds are of
one clip a pass and one thread, as the label job computes on a CPU, through the network and with
clips leaving in turn, medians. A quarter of an hour on an idle core.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import tyro
from numpy.typing import NDArray

from bench.made_clips import write_rows
from vidray import models
from vidray.evaluation import cost, exits, lesson_changes, teaching
from vidray.evaluation.exits import Said
from vidray.learning.epoch_lines import EpochLines
from vidray.learning.examples import Examples, read_clips
from vidray.learning.exit_settings import ExitSettings
from vidray.learning.hyperparameters import Augmentation, Training
from vidray.learning.train_config import DeepSettings, FoldSettings, LearningSettings, Workers
from vidray.models import deferral
from vidray.models.exit_rule import ExitRule
from vidray.models.folder import DeepModel
from vidray.models.networks.exits import ExitNetwork, flops_by_stage
from vidray.video.clips import ClipSettings
from vidray.video.synthetic import MOTIONS, moving_clips

FRAMES, SIZE_PX, RATE = 8, 32, 8.0
_TIMED_CLIPS = 40


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Train a network with exits, and judge these."""

    data: str | None = None
    """Finished run of clips with splits; generated clips of motion if not given."""
    model: str = "s3d"
    """Network that gets exits."""
    weights: str = "none"
    """Where its training starts from."""
    exits: int = 2
    """Early exits."""
    epochs: int = 8
    """Epochs of the training."""
    learning_rate: float | None = None
    """Of the training; the default of jobs/train.py if not given."""
    train: int = 250
    """Generated clips of each class to learn from."""
    others: int = 300
    """Generated clips of each class for the draws."""
    allow: tuple[float, ...] = (0.02, 0.05, 0.1)
    """Accuracy that may be lost."""
    draws: int = 20
    """Draws into halves."""
    folder: str | None = None
    """Folder to keep clips and the model in; what is there is not made again."""


def main(bench: Bench) -> None:
    """Make, train, draw, print."""
    torch.set_num_threads(1)
    with _folder(bench.folder) as folder:
        data = bench.data or str(folder / "clips")
        if bench.data is None and not (folder / "clips" / "_SUCCESS").exists():
            write_clips(folder / "clips", train=bench.train, others=bench.others)
        examples = read_clips(data)
        model = models.load(_learnt(bench, examples, data, str(folder / "model")))
    assert isinstance(model, DeepModel)
    others = _not_train(examples)
    said = exits.every_exit(model, others)
    _print_heads(model, said)
    for allow in bench.allow:
        _print_draws(model, others, said, allow, bench.draws)


@contextlib.contextmanager
def _folder(given: str | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(given or scratch)


def write_clips(out: Path, *, train: int, others: int) -> None:
    """A finished run of generated clips, each a scene of its own; val and test share ``others``."""
    clip = ClipSettings(frames_per_clip=FRAMES, size_px=SIZE_PX, clip_seconds=FRAMES / RATE)
    names, rows = list(MOTIONS), []
    for split, count, seed in (
        ("train", train, 0),
        ("val", others // 2, 1),
        ("test", others // 2, 2),
    ):
        pixels, labels = moving_clips(
            clips_each=count, frames=FRAMES, size_px=SIZE_PX, frames_per_second=RATE, seed=seed
        )
        rows += [
            {
                "video_id": f"{split}{k:05}", "uri": f"/made/{split}{k:05}.mp4",
                "fingerprint": f"{seed}-{k}", "label": names[label], "split": split,
                "group": f"{split}{k:05}", "status": "ok", "clip_index": 0,
                "pixels": one.tobytes(), "config_digest": clip.digest,
            }
            for k, (one, label) in enumerate(zip(pixels, labels.tolist(), strict=True))
        ]  # fmt: skip
    write_rows(out, clip, rows)


def _learnt(bench: Bench, examples: Examples, data: str, out: str) -> str:
    """The model folder, trained unless it is there."""
    settings = LearningSettings(
        deep=DeepSettings(weights=bench.weights),
        training=Training(epochs=bench.epochs, learning_rate=bench.learning_rate),
        augmentation=Augmentation.none(),
        workers=Workers(in_process=True),
    )
    lesson = teaching.lesson_of(
        bench.model, examples, settings, folds=FoldSettings(), on_rows=EpochLines(bench.epochs)
    )
    lesson = lesson_changes.with_exits(lesson, ExitSettings(exits=bench.exits))
    run = teaching.model_run(lesson, data=data, out=out)
    if run.claim() != "finished":
        run.finish(**lesson.teach(run).report)
    return out


def _not_train(examples: Examples) -> Examples:
    kept = np.isin(examples.table["split"].to_numpy(zero_copy_only=False), ["val", "test"])
    return dataclasses.replace(examples, table=examples.table.filter(pa.array(kept)))


def _print_heads(model: DeepModel, said: Said) -> None:
    flops = _flops(model)
    print("| stage | GFLOP of a clip that leaves there | accuracy if all did |")
    print("|---|---|---|")
    for stage, own in enumerate(flops):
        right = said.right(said.at_stage(stage))
        print(f"| {stage + 1} | {own / 1e9:.3f} | {right.mean():.3f} |")
    whole = cost.flops_per_clip(model.network, _shape(model))
    print(f"without exits: {whole / 1e9:.3f} GFLOP; {len(said.labels)} videos", flush=True)


def _print_draws(model: DeepModel, others: Examples, said: Said, allow: float, draws: int) -> None:
    """What is lost and saved on the halves that have not chosen."""
    flops = _flops(model)
    ids = np.array(exits.video_ids(others))
    whole = cost.flops_per_clip(model.network, _shape(model))
    lost, shares, work, rules = [], [], [], []
    for draw in range(draws):
        chooses = _half(said, ids, draw)
        rule = exits.choose(said.of_videos(chooses), allow=allow, ids=ids[chooses].tolist())
        rest = said.of_videos(~chooses)
        found, stages = exits.answered(rest, rule.temperatures, rule.threshold.value)
        lost.append(_lost(rest, found))
        shares.append(float((stages <= len(rule.temperatures)).mean()))
        counts = np.bincount(stages, minlength=len(flops) + 1)[1:]
        done = 1.0 if rule.threshold.value is None else float(counts @ flops) / len(stages) / whole
        work.append(done)  # Where nothing may leave, no exit is asked.
        rules.append(rule)
    held = sum(one.mean() <= allow for one in lost)
    shown = sum(rule.threshold.value is not None for rule in rules)
    middle = rules[int(np.argsort(shares)[len(shares) // 2])]
    last = lost[0]
    low, high = deferral.interval_of_lost(last, rest.groups)
    print(
        f"allow {allow:g}: held in {held} of {draws} draws, a threshold was found in {shown}; "
        f"lost on the other half: median {np.median([one.mean() for one in lost]):.4f}, most "
        f"{max(one.mean() for one in lost):.4f}; of the first draw {last.mean():.4f} "
        f"({low:.4f} to {high:.4f}); clips that leave {np.median(shares):.1%}, work "
        f"{np.median(work):.2f} of the network's; {_seconds(model, others, middle)}",
        flush=True,
    )


def _half(said: Said, ids: NDArray[np.str_], draw: int) -> NDArray[np.bool_]:
    """Which videos choose: half of the recordings."""
    names = [group or video for group, video in zip(said.groups, ids.tolist(), strict=True)]
    each, of_video = np.unique(names, return_inverse=True)
    chosen = np.random.default_rng(draw).permutation(len(each)) < len(each) // 2
    return np.asarray(chosen[of_video])


def _lost(said: Said, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    whole = said.right(said.at_stage(-1)).astype(np.int64)
    return np.asarray(whole - said.right(probabilities))


def _seconds(model: DeepModel, others: Examples, rule: ExitRule) -> str:
    """Milliseconds of a clip with and without exits, by turns."""
    assert others.clips is not None
    rows = others.table["row"].to_numpy()[:: max(1, len(others.table) // _TIMED_CLIPS)]
    read = others.clips.read
    leaving = dataclasses.replace(model, exits=rule)
    through = dataclasses.replace(model, exits=None)
    took: dict[str, list[float]] = {"whole": [], "leaving": []}
    for _ in range(5):
        for name, one in (("whole", through), ("leaving", leaving)):
            answer = partial(one.predict_rows, read, rows, batch_size=1)
            took[name].append(1000 * cost.median_seconds(answer, runs=1) / len(rows))
    whole, early = (float(np.median(took[name])) for name in ("whole", "leaving"))
    return f"{whole:.1f} ms a clip without exits, {early:.1f} with them"


def _shape(model: DeepModel) -> tuple[int, int, int, int]:
    fed = model.preprocessing
    return fed.num_channels, fed.num_frames, fed.size_px, fed.size_px


def _flops(model: DeepModel) -> list[int]:
    assert isinstance(model.network, ExitNetwork)
    return flops_by_stage(model.network, _shape(model))


if __name__ == "__main__":
    main(tyro.cli(Bench))
