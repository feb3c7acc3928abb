"""The best trial of each family as a model folder, judged on split val and, once, on split test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs import evaluate
from jobs.evaluate import EvaluateConfig
from vidray import models, storage
from vidray.evaluation import judging
from vidray.learning.examples import Examples, with_families
from vidray.models import classical
from vidray.models.folder import save_classical
from vidray.search.data import Data
from vidray.search.proposals import (
    Family,
    Metric,
    Trial,
    best_trial,
    is_loss,
)
from vidray.search.trials import classical_options
from vidray.storage import json_file
from vidray.storage.json_file import write_json
from vidray.tables import digests, run_folder, versions
from vidray.tables.run_folder import RunFolder


def hand_over(
    folder: RunFolder,
    data: Mapping[Family, Data],
    trials: Sequence[Trial],
    *,
    metric: Metric,
    seed: int,
) -> dict[Family, dict[str, Any]]:
    """Write a model folder named after each family, and its evaluation in ``test/``.

    Returns:
        Of each family that has a winner: ``trial, model, settings, score, val, test``, the last two
        as of ``evaluation.compute_metrics``.
    """
    found: dict[Family, dict[str, Any]] = {}
    for family, own in data.items():
        winner = best_trial([t for t in trials if t.family == family], metric)
        if winner is None:
            continue
        val = _model_folder(folder, own.examples, winner, seed)
        found[family] = {
            "trial": winner.name,
            "model": winner.model,
            "settings": winner.settings,
            "score": winner.score,
            "val": val,
            "test": _test(folder, own.uri, family),
        }
    return found


def choose(
    folder: RunFolder, winners: Mapping[Family, Mapping[str, Any]], *, metric: Metric
) -> Family:
    """The family whose winner is the best on split val; its folder is copied to ``best``."""
    sign = 1 if is_loss(metric) else -1
    chosen = min(winners, key=lambda family: sign * winners[family]["val"][metric])
    storage.remove_tree(folder.path("best"), inside=folder.out)
    _copy(folder.path(chosen), folder.path("best"))
    return chosen


def _model_folder(
    folder: RunFolder, examples: Examples, winner: Trial, seed: int
) -> dict[str, Any]:
    """Write the winner's model folder unless it is there; its figures on split val."""
    out = folder.path(winner.family)
    digest = digests.of([winner.params, winner.settings, folder.settings])
    if _is_finished(out, digest):
        return dict(_metrics(out)["val"])
    storage.remove_tree(folder.path(f"test/{winner.family}"), inside=folder.out)
    libraries = versions.CLASSICAL if winner.family == "classical" else versions.DEEP
    settings = {"trial": winner.name, **winner.settings}
    run = RunFolder(
        out=out,
        kind="model",
        same={"digest": digest},
        shown={"config": settings},
        libraries=libraries,
    )
    run.claim(overwrite=True)
    if winner.family == "classical":
        _fit(examples, winner, out, seed)
    else:
        _copy(storage.join(folder.work, winner.name, "model"), out)
    val = examples.of_split("val")
    judged = judging.judge(val.table, judging.predict(models.load(out), val))
    metrics = {"val": judged.metrics(examples.class_names), "search": winner.metrics}
    write_json(storage.join(out, "metrics.json"), metrics)
    run.finish(score=winner.score)
    return metrics["val"]


def _is_finished(out: str, digest: str) -> bool:
    done = storage.exists(storage.join(out, "_SUCCESS"))
    return done and run_folder.read_json(out).get("digest") == digest


def _fit(examples: Examples, winner: Trial, out: str, seed: int) -> None:
    train = with_families(examples.of_split("train"), winner.settings["families"])
    names = examples.class_names
    pipeline = classical.fit(
        winner.model,
        train.matrix(),
        train.targets(names),
        train.groups,
        names,
        seed=seed,
        **classical_options(winner.settings),
    )
    info = {
        "family": "classical",
        "name": winner.model,
        "class_names": names,
        "data_digest": examples.digest,
        "selection": examples.selection,
        "families": train.families,
        "features": train.settings,
    }
    save_classical(out, info, pipeline)


def _test(folder: RunFolder, data: str, family: Family) -> dict[str, Any]:
    """The winner on split test: once, and not again when a search goes on to the same winner."""
    out = folder.path(f"test/{family}")
    if storage.exists(storage.join(out, "_SUCCESS")):
        return _metrics(out)
    return evaluate.judge(
        EvaluateConfig(model=folder.path(family), data=data, out=out, overwrite=True)
    )


def _metrics(folder: str) -> dict[str, Any]:
    return json_file.read(storage.join(folder, "metrics.json"))


def _copy(source: str, target: str) -> None:
    """Every file directly in a folder, ``_SUCCESS`` last."""
    names = [storage.name_of(found.uri) for found in storage.list_files(source, hidden=True)]
    for name in sorted(names, key=lambda name: name == "_SUCCESS"):
        storage.write_bytes(
            storage.join(target, name), storage.read_bytes(storage.join(source, name))
        )
