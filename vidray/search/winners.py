"""The best trial of each kind as a model folder, judged on split val and, once, on split test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vidray import models, storage
from vidray.evaluation import judging, teaching
from vidray.evaluation.judge_settings import JudgeSettings
from vidray.learning.examples import Examples, with_families
from vidray.models.names import ModelKind
from vidray.search.labelled_runs import LabelledRun
from vidray.search.proposals import Trial, best_trial
from vidray.search.settings import Metric, is_loss
from vidray.search.trials import classical_options
from vidray.storage import json_file
from vidray.storage.json_file import write_json
from vidray.tables import digests, run_folder, versions
from vidray.tables.run_folder import RunFolder


def hand_over(
    folder: RunFolder,
    runs_of: Mapping[ModelKind, LabelledRun],
    trials: Sequence[Trial],
    *,
    metric: Metric,
    seed: int,
) -> dict[ModelKind, dict[str, Any]]:
    """Write a model folder named after each kind, and its evaluation in ``test/``.

    Returns:
        For each kind that has a winner: ``trial, model, settings, score``; ``search``, the figures
        it won by; ``val`` and ``test``, as of ``evaluation.compute_metrics``.
    """
    found: dict[ModelKind, dict[str, Any]] = {}
    for kind, run in runs_of.items():
        winner = best_trial([t for t in trials if t.kind == kind], metric)
        if winner is None:
            continue
        val = _model_folder(folder, run.examples, winner, seed)
        judged_on = "train" if kind == "classical" else "val"
        found[kind] = {
            "trial": winner.name,
            "model": winner.model,
            "settings": winner.settings,
            "score": winner.score,
            "search": {
                "num_videos": _num_videos(run.examples.of_split(judged_on)),
                **winner.metrics,
            },
            "val": val,
            "test": _test(folder, run.uri, kind),
        }
    return found


def choose(
    folder: RunFolder, winners: Mapping[ModelKind, Mapping[str, Any]], *, metric: Metric
) -> ModelKind:
    """The kind whose winner is the best on split val; its folder is copied to ``best``."""
    sign = 1 if is_loss(metric) else -1
    chosen = min(winners, key=lambda kind: sign * winners[kind]["val"][metric])
    storage.remove_tree(folder.path("best"), inside=folder.out)
    _copy(folder.path(chosen), folder.path("best"))
    return chosen


def _model_folder(
    folder: RunFolder, examples: Examples, winner: Trial, seed: int
) -> dict[str, Any]:
    """Write the winner's model folder unless it is there; its figures on split val."""
    out = folder.path(winner.kind)
    settings = {"trial": winner.name, **winner.settings}
    if _is_finished(out, settings):
        return dict(_metrics(out)["val"])
    storage.remove_tree(folder.path(f"test/{winner.kind}"), inside=folder.out)
    libraries = versions.CLASSICAL if winner.kind == "classical" else versions.DEEP
    digest = digests.of([winner.params, winner.settings, folder.settings])
    run = RunFolder(
        out=out,
        kind="model",
        same={"digest": digest},
        shown={"config": settings},
        libraries=libraries,
    )
    run.claim(overwrite=True)
    if winner.kind == "classical":
        _fit(examples, winner, out, seed)
    else:
        _copy(storage.join(folder.work, winner.name, "model"), out)
    val = teaching.judge_val(models.load(out), examples)
    assert val is not None  # A search without a video in split val is refused at its start.
    write_json(storage.join(out, "metrics.json"), {"val": val, "search": winner.metrics})
    run.finish(score=winner.score)
    return val


def _is_finished(out: str, settings: Mapping[str, Any]) -> bool:
    """Whether this trial's model is there already.

    The digest is not asked: it changes when a search goes on with another kind, and the weights of
    a deep winner are nowhere else by then.
    """
    if not storage.exists(storage.join(out, "_SUCCESS")):
        return False
    wanted = json.loads(json.dumps(settings))  # As JSON gives it back, which knows no tuples.
    return bool(run_folder.read_json(out).get("config") == wanted)


def _fit(examples: Examples, winner: Trial, out: str, seed: int) -> None:
    train = with_families(examples.of_split("train"), winner.settings["families"])
    names = examples.class_names
    pipeline = teaching.fit(
        winner.model, train, names, seed=seed, **classical_options(winner.settings)
    )
    teaching.save_fitted(out, winner.model, pipeline, train, names, examples.digest)


def _test(folder: RunFolder, data: str, kind: ModelKind) -> dict[str, Any]:
    """Judge the winner on split test, once: not again when a resumed search has the same winner."""
    out = folder.path(f"test/{kind}")
    if storage.exists(storage.join(out, "_SUCCESS")):
        return _metrics(out)
    model = folder.path(kind)
    return judging.evaluate(model, data, out, JudgeSettings(), overwrite=True).metrics


def _num_videos(examples: Examples) -> int:
    return len(set(examples.table["video_id"].to_pylist()))


def _metrics(folder: str) -> dict[str, Any]:
    return json_file.read(storage.join(folder, "metrics.json"))


def _copy(source: str, target: str) -> None:
    """Copy every file of a folder and of those in it, ``_SUCCESS`` last."""
    root = storage.canonical(source)
    files = storage.list_files(root, hidden=True)
    names = [found.uri.removeprefix(root).lstrip("/") for found in files]
    for name in sorted(names, key=lambda name: name == "_SUCCESS"):
        storage.write_bytes(
            storage.join(target, name), storage.read_bytes(storage.join(source, name))
        )
