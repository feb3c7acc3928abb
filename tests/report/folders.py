"""Finished run folders of every kind, written as the jobs write them, without running any."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.made_runs import LABELS, clips_run, features_run, videos
from vidray.evaluation.answers import prediction_rows
from vidray.evaluation.metrics import baselines, compute_metrics
from vidray.features.extraction import Settings
from vidray.labelling import commits
from vidray.models import classical
from vidray.models.folder import save_classical
from vidray.storage.json_file import write_json
from vidray.storage.parquet import parquet_bytes
from vidray.tables import schema
from vidray.tables.run_folder import RunFolder
from vidray.tables.runs import Run


def model(out: Path, name: str = "knn", *, data: str = "runs/features") -> Path:
    """A fitted classical model on the family ``motion``."""
    rng = np.random.default_rng(0)
    features = Settings(families=("motion",))
    y = np.arange(20) % 2
    x = rng.normal(size=(20, features.family("motion").length)).astype(np.float32)
    x[y == 1] += 1
    info = {
        "family": "classical",
        "name": name,
        "class_names": list(LABELS),
        "data_digest": "0" * 12,
        "selection": {"split_fractions": None, "without_classes": []},
        "families": ["motion"],
        "features": dataclasses.asdict(features),
    }
    folder = RunFolder(out=str(out), kind="model", shown={"config": {"data": data, "model": name}})
    folder.claim()
    fitted = classical.fit(name, x, y, None, LABELS, seed=0, calibrated=False)
    save_classical(str(out), info, fitted)
    folder.finish(seconds={"training": 1.5, "all": 2.0})
    return out


def evaluation(
    out: Path,
    model: Path | str,
    *,
    number: int = 16,
    skill: float = 1.0,
    seed: int = 0,
    rows: Sequence[dict[str, object]] | None = None,
    class_names: Sequence[str] = LABELS,
) -> Path:
    """Answers that are the better the higher ``skill``; 0 is chance."""
    rng = np.random.default_rng(seed)
    table = videos(number) if rows is None else rows
    truth = [str(row["label"]) for row in table]
    logits = rng.normal(size=(len(truth), len(class_names)))
    for k, label in enumerate(truth):
        logits[k, list(class_names).index(label)] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    groups = [row.get("group") for row in table]
    config = {"model": str(model), "data": "runs/features", "split": "test"}
    folder = RunFolder(out=str(out), kind="evaluation", shown={"config": config})
    folder.claim()
    cost = {"parameters": None, "size_bytes": 1000, "end_to_end_seconds_per_video": 0.5}
    metrics = {
        **compute_metrics(truth, probabilities, class_names, groups=groups, resamples=100),
        "baselines": baselines(truth, class_names, groups=groups),
        "cost": cost,
    }
    write_json(folder.path("metrics.json"), metrics)
    predictions = prediction_rows(
        video_ids=[str(row["video_id"]) for row in table],
        uris=[str(row["uri"]) for row in table],
        y_true=truth,
        probabilities=probabilities,
        class_names=class_names,
        groups=groups,
    )
    Path(folder.path("predictions.parquet")).write_bytes(parquet_bytes(predictions))
    folder.finish(counts={"videos": len(truth)})
    return out


def night(
    out: Path, rows: Sequence[dict[str, object]], *, set_name: str = "knn-0123456789ab"
) -> int:
    """One night's labels, committed; ``rows`` are of LABELLED, what they lack is made up."""
    labels = commits.LabelSet(out=str(out), name=set_name)
    folder = RunFolder(out=str(out), kind="label", shown={"set": set_name, "config": {}})
    folder.claim()
    run = labels.new_run("source", "digest")
    plan = [
        {name: row.get(name) for name in schema.VIDEOS.names}
        | {"size_bytes": 1, "fingerprint": "f"}
        for row in rows
    ]
    claimed = labels.claim(
        run,
        labels.todo(pa.Table.from_pylist(plan, schema=schema.VIDEOS), max_attempts=3),
        {},
    )
    assert isinstance(claimed, Run)
    plain = {"fingerprint": "f", "status": "ok", "attempts": 1, "config_digest": "digest"}
    parts = pa.Table.from_pylist([{**plain, **row} for row in rows], schema=schema.LABELLED)
    claimed.write_part(0, parts)
    number = labels.commit(claimed, model_digest="0" * 12, class_names=LABELS)
    assert number is not None
    labels.remove(claimed)
    counts = {"videos": len(rows), "ok": len(rows), "failed": 0, "skipped": 0, "error_kinds": {}}
    report = {
        "counts": counts,
        "seconds": {"working": 10.0, "startup": 1.0},
        "videos_per_second": 2,
    }
    folder.write(f"nights/commit-{number:06d}.json", {"commit": number, **report})
    folder.write_run_json("finished", commit=number, **report)
    return number


def label_rows(number: int, first: int = 0, seed: int = 0) -> list[dict[str, object]]:
    """Rows of a night for ``night``: right labels for nine of ten."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for k in range(first, first + number):
        truth = LABELS[k % 2]
        label = truth if rng.random() < 0.9 else LABELS[1 - k % 2]
        high = float(rng.uniform(0.55, 0.99))
        share = [high, 1 - high] if label == LABELS[0] else [1 - high, high]
        rows.append(
            {
                "video_id": f"n{k:05}",
                "uri": f"/nights/n{k:05}.mp4",
                "label": label,
                "true_label": truth,
                "probability": high,
                "probabilities": share,
                "duration_seconds": float(rng.lognormal(1.5, 0.5)),
            }
        )
    return rows


def all_kinds(root: Path) -> Path:
    """A folder with runs that give every chapter something: two judged models, two nights."""
    features_run(root / "features", 32)
    clips_run(root / "clips", 32)
    model(root / "knn")
    evaluation(root / "knn_test", root / "knn", number=32, skill=1)
    evaluation(root / "other_test", "models/other", number=32, skill=3, seed=1)
    for first in (0, 40):
        night(root / "labels", label_rows(40, first=first, seed=first))
    return root
