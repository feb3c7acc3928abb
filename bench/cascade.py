"""Two models, the cheap one first: what is lost and saved, and whether the bound holds.

    python bench/cascade.py --folder DIR                          # made clips: classes of motion
    python bench/cascade.py --features RUN --by-video --allow 0.1     # clips of a features run
    python bench/cascade.py --folders CHEAP DEAR --clips RUN      # networks: RUN's split test
    python bench/cascade.py --simulate --draws 1000               # no videos: six made problems

The cheap model looks at ``--cheap`` families and the dear one at ``--dear`` families. Of made clips
a part is learnt from and both answer the rest; of a features run both answer every video of known
recording in folds that never split one. Networks come from model folders. Then half of the
recordings, drawn anew each time, choose the threshold, and the other half shows what is lost.

Printed: in how many draws no more is lost than allowed, of all that val was drawn from and of the
other half alone; the means; and the seconds a video of each model alone and of both, from file to
label in one thread. Made clips cost a second each, once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import tyro
from numpy.typing import NDArray

from vidray import models as model_folders
from vidray.evaluation import judging, two_stages_cost
from vidray.evaluation.judged import judge
from vidray.features.extraction import Settings, describe_videos
from vidray.learning.examples import read_clips, read_features
from vidray.models import classical
from vidray.models.deferral import Threshold, choose_threshold
from vidray.models.folder import ClassicalModel, Model
from vidray.models.folds import group_folds
from vidray.models.matrices import to_matrix
from vidray.sources import list_videos
from vidray.sources.splits import known_recordings
from vidray.video import synthetic

Floats = NDArray[np.float64]
Draw = tuple[Floats, NDArray[np.bool_], NDArray[np.bool_], list[str | None]]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Draw val again and again."""

    folder: str = ""
    """Folder that keeps made clips and their features."""
    features: str = ""
    """Finished run of jobs/extract.py; made clips if not given."""
    folders: tuple[str, ...] = ()
    """Model folders of a cheap and a dear network, instead of models that are trained here."""
    clips: str = ""
    """Finished run of jobs/clips.py, whose split test they answer."""
    scenes: int = 240
    """Made clips."""
    learnt: int = 80
    """Of the made clips, those that the models learn from."""
    cheap: tuple[str, ...] = ("motion",)
    """Families of the cheap model."""
    dear: tuple[str, ...] = ("flow",)
    """Families of the dear model."""
    models: tuple[str, str] = field(default=("logistic_regression", "extra_trees"))
    """The cheap and the dear model."""
    allow: float = 0.05
    """Accuracy that may be lost."""
    draws: int = 40
    """Draws of val."""
    timed: int = 6
    """Videos timed; 0 times none."""
    by_video: bool = False
    """Draw videos of a features run, not recordings. What is shown is then of videos of the same
    recordings: of fewer than 70 recordings nothing else can be shown for 0.05."""
    simulate: bool = False
    """Made answers of known distribution instead: the loss on new videos is then exact."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What both models say of videos that they have not learnt from."""

    videos: list[dict[str, Any]]
    answers: tuple[Floats, Floats]
    labels: NDArray[np.int64]
    groups: list[str | None]
    models: tuple[Model, Model]

    @property
    def draw(self) -> Draw:
        """Confidence, and which model is right."""
        cheap, dear = self.answers
        right = [found.argmax(axis=1) == self.labels for found in self.answers]
        assert len(cheap) == len(dear)
        return np.minimum(cheap.max(axis=1), 1.0), right[0], right[1], self.groups


def main(bench: Bench) -> None:
    """Answer, draw, time."""
    if bench.simulate:
        _simulate(bench)
        return
    pool = _pool(bench)
    sure, cheap, dear, groups = pool.draw
    counted = "" if None in groups else f" of {len(set(groups))} recordings"
    names = [_named(model) for model in pool.models]
    print(
        f"{len(sure)} videos{counted}; accuracy of {names[0]} {cheap.mean():.3f}, of {names[1]} "
        f"{dear.mean():.3f}; allowed to be lost {bench.allow:g}"
    )
    _print_draws(_draws(pool.draw, bench))
    if bench.timed:
        _print_seconds(pool, bench)


def _named(model: Model) -> str:
    if isinstance(model, ClassicalModel):
        return f"{model.name} of {' '.join(model.families)}"
    return model.name


# ---------- the answers ----------


def _pool(bench: Bench) -> Pool:
    if bench.folders:
        return _of_folders(bench)
    return _of_run(bench) if bench.features else _of_made(bench)


def _of_folders(bench: Bench) -> Pool:
    torch.set_num_threads(1)
    first, second = map(model_folders.load, bench.folders)
    test = read_clips(bench.clips).of_split("test")
    assert first.class_names == second.class_names
    by_first, by_second = (
        judge(test.table, judging.predict(model, test)) for model in (first, second)
    )
    return Pool(
        videos=_listed(bench.clips, by_first.video_ids),
        answers=(by_first.probabilities, by_second.probabilities),
        labels=_targets(by_first.labels, first.class_names),
        groups=[None] * len(by_first.labels) if bench.by_video else by_first.groups,
        models=(first, second),
    )


def _of_made(bench: Bench) -> Pool:
    settings = Settings(families=tuple(dict.fromkeys((*bench.cheap, *bench.dear))))
    folder = Path(bench.folder or ".")
    synthetic.make_single_clips(folder / "videos", scenes=bench.scenes)
    rows = list_videos(str(folder / "videos")).to_pylist()
    table = _described(rows, folder / "features.parquet", settings)
    videos = {row["video_id"]: row for row in rows}
    order = np.random.default_rng(0).permutation(len(table))
    train, rest = table.take(order[: bench.learnt]), table.take(order[bench.learnt :])
    names = sorted(set(table["label"].to_pylist()))
    models = tuple(
        _fitted(model, families, train, names, settings)
        for model, families in zip(bench.models, (bench.cheap, bench.dear), strict=True)
    )
    return Pool(
        videos=[videos[one] for one in rest["video_id"].to_pylist()],
        answers=(models[0].predict(rest), models[1].predict(rest)),
        labels=_targets(rest["label"].to_pylist(), names),
        groups=[None] * len(rest),
        models=(models[0], models[1]),
    )


def _described(rows: Sequence[dict[str, Any]], cache: Path, settings: Settings) -> pa.Table:
    if cache.exists():
        table = pq.read_table(cache)
        if set(table["config_digest"].to_pylist()) == {settings.digest} and len(table) == len(rows):
            return table
    describe, began = describe_videos(settings.__dict__ | settings.to_json()), time.perf_counter()
    table = pa.Table.from_batches([describe(row).replace_schema_metadata(None) for row in rows])
    print(f"{len(rows)} videos described in {time.perf_counter() - began:.0f} s")
    pq.write_table(table, cache)
    return table


def _fitted(
    name: str, families: Sequence[str], train: pa.Table, names: list[str], settings: Settings
) -> ClassicalModel:
    groups = known_recordings(train)
    pipeline = classical.fit(
        name,
        to_matrix(train, families),
        _targets(train["label"].to_pylist(), names),
        groups,
        names,
        seed=0,
    )
    return ClassicalModel(
        name=name,
        class_names=tuple(names),
        pipeline=pipeline,
        families=tuple(families),
        features=settings.only(families),
        info={},
    )


def _targets(labels: Sequence[str], names: Sequence[str]) -> NDArray[np.int64]:
    return np.array([names.index(label) for label in labels], np.int64)


def _listed(run: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of VIDEOS that a run was made of."""
    listed = pq.read_table(Path(run) / "videos.parquet").to_pylist()
    videos = {row["video_id"]: row for row in listed}
    return [videos[one] for one in ids]


def _of_run(bench: Bench) -> Pool:
    examples = read_features(bench.features, tuple(dict.fromkeys((*bench.cheap, *bench.dear))))
    known = [bool(group) for group in known_recordings(examples.table)]
    table = examples.table.filter(pa.array(known))
    names, groups = sorted(set(table["label"].to_pylist())), known_recordings(table)
    labels = _targets(table["label"].to_pylist(), names)
    settings = Settings.from_json(examples.settings)
    answers = [np.zeros((len(table), len(names))) for _ in bench.models]
    models: list[ClassicalModel] = []
    for train, judged in group_folds(labels, groups, folds=5, seed=0, class_names=names):
        models = [
            _fitted(model, families, table.take(train), names, settings)
            for model, families in zip(bench.models, (bench.cheap, bench.dear), strict=True)
        ]
        for found, model in zip(answers, models, strict=True):
            found[judged] = model.predict(table.take(judged))
    return Pool(
        videos=_listed(bench.features, table["video_id"].to_pylist()),
        answers=(answers[0], answers[1]),
        labels=labels,
        groups=[None] * len(groups) if bench.by_video else list(groups),
        models=(models[0], models[1]),
    )


# ---------- draws of val ----------


def _halves(groups: Sequence[str | None], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which videos are val: those of half of the recordings."""
    names = np.array([group or f"video {row}" for row, group in enumerate(groups)])
    drawn = rng.permutation(np.unique(names))
    return np.isin(names, drawn[: len(drawn) // 2])


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One draw: the threshold, the share kept and lost on videos that did not choose it, and what
    it loses of all that val was drawn from.
    """

    threshold: Threshold
    share: float
    lost: float
    lost_of_all: float


def _draws(draw: Draw, bench: Bench) -> list[Drawn]:
    sure, cheap, dear, groups = draw
    rng, found, loss = np.random.default_rng(1), [], dear.astype(int) - cheap
    for _ in range(bench.draws):
        val = _halves(groups, rng)
        own = [group for group, chosen in zip(groups, val, strict=True) if chosen]
        answers = (sure[val], cheap[val], dear[val])
        threshold = choose_threshold(*answers, allow=bench.allow, groups=own)
        stays = sure >= (np.inf if threshold.value is None else threshold.value)
        lost = loss * stays
        found.append(
            Drawn(
                threshold=threshold,
                share=float(stays[~val].mean()),
                lost=float(lost[~val].mean()),
                lost_of_all=float(lost.mean()),
            )
        )
    return found


def _print_draws(drawn: Sequence[Drawn]) -> None:
    allow, number = drawn[0].threshold.allow, len(drawn)
    held = sum(one.lost <= allow for one in drawn)
    held_of_all = sum(one.lost_of_all <= allow for one in drawn)
    none = sum(one.threshold.value is None for one in drawn)
    shares, lost = [one.share for one in drawn], [one.lost for one in drawn]
    low, high = np.percentile(lost, [5, 95])
    print(
        f"of {number} draws no more is lost than allowed in {held_of_all}, and on the videos that "
        f"did not choose, few as they are, in {held} (no threshold in {none}); there "
        f"{np.mean(shares):.0%} are kept (median {np.median(shares):.0%}) and {np.mean(lost):.4f} "
        f"is lost (90 % of draws: {low:.3f} to {high:.3f})"
    )


def _print_seconds(pool: Pool, bench: Bench) -> None:
    """Time both with the threshold of all answers: as many are kept as a user would keep."""
    sure, cheap, dear, groups = pool.draw
    threshold = choose_threshold(sure, cheap, dear, allow=bench.allow, groups=groups)
    value = np.inf if threshold.value is None else threshold.value
    stays = sure >= value
    stages = []
    for stage in (stays, ~stays):
        if stage.any():
            rows = np.flatnonzero(stage)[: max(1, bench.timed // 2)]
            stages.append((float(stage.mean()), [pool.videos[row] for row in rows]))
    found = two_stages_cost.measure(*pool.models, threshold, stages)
    if found.first and found.second and found.both:
        print(
            f"{found.timed_videos} videos, {stays.mean():.0%} kept: {1000 * found.first:.0f} ms a "
            f"video of the cheap model, {1000 * found.second:.0f} of the dear one, "
            f"{1000 * found.both:.0f} of both: {1 - found.both / found.second:.0%} saved"
        )


# ---------- made answers ----------


def answers(rng: np.random.Generator, number: int, *, rates: tuple[float, float, float]) -> Draw:
    """Confidences, and answers whose chance of being right rises with them.

    Args:
        rates: how often the dear model is right, and the cheap one at the highest and the lowest
            confidence.
    """
    dear_rate, best, worst = rates
    sure = rng.beta(4, 1.5, number)
    cheap = rng.random(number) < worst + (best - worst) * sure
    return sure, cheap, rng.random(number) < dear_rate, [None] * number


def recordings(rng: np.random.Generator, number: int, *, lost: float, largest: int) -> Draw:
    """Recordings of 1 to ``largest`` videos, of which the cheap model misses all or none."""
    of = np.repeat(np.arange(number), rng.integers(1, largest + 1, number))
    missed = (rng.random(number) < lost)[of]
    sure = np.where(missed, rng.random(len(of)), rng.beta(6, 1, len(of)))
    return sure, ~missed, np.ones(len(of), bool), [f"r{k}" for k in of]


PROBLEMS = {
    "the dear one is always right": (partial(answers, rates=(1.0, 1.0, 0.6)), 0.02),
    "the dear one errs too": (partial(answers, rates=(0.95, 1.0, 0.5)), 0.05),
    "each as good as the other": (partial(answers, rates=(0.9, 0.9, 0.9)), 0.05),
    "the confidence says nothing": (partial(answers, rates=(0.95, 0.85, 0.85)), 0.05),
    "recordings of 1 to 5 videos": (partial(recordings, lost=0.06, largest=5), 0.03),
    "recordings of one video": (partial(recordings, lost=0.1, largest=1), 0.05),
}


def _simulate(bench: Bench) -> None:
    """Choose on 400 videos, or recordings, and look at 200,000 new ones."""
    for name, (draw, allow) in PROBLEMS.items():
        sure, cheap, dear, _ = draw(np.random.default_rng(1), 200_000)
        loss, rng, drawn = dear.astype(int) - cheap, np.random.default_rng(2), []
        for _ in range(bench.draws):
            *val, groups = draw(rng, 400)
            threshold = choose_threshold(*val, allow=allow, groups=groups)
            stays = sure >= (np.inf if threshold.value is None else threshold.value)
            lost, share = float((loss * stays).mean()), float(stays.mean())
            drawn.append(Drawn(threshold=threshold, share=share, lost=lost, lost_of_all=lost))
        print(f"{name}, allowed {allow:g}: ", end="")
        _print_draws(drawn)


if __name__ == "__main__":
    main(tyro.cli(Bench))
