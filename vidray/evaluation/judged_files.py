"""The files of an evaluation beside its figures: predictions, curves and their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vidray import storage
from vidray.evaluation import plots
from vidray.evaluation.answers import prediction_rows
from vidray.evaluation.curves import curves
from vidray.evaluation.drawing import save_figure
from vidray.evaluation.judged import Judged
from vidray.storage import parquet
from vidray.storage.json_file import write_json
from vidray.tables.run_folder import RunFolder


def write_predictions(folder: RunFolder, judged: Judged, names: Sequence[str]) -> None:
    """Write predictions.parquet, a row a video, worst first."""
    table = prediction_rows(
        video_ids=judged.video_ids,
        uris=judged.uris,
        y_true=judged.labels,
        probabilities=judged.probabilities,
        class_names=names,
        groups=judged.groups,
        exit_stages=judged.exit_stages,
    )
    storage.write_bytes(folder.path("predictions.parquet"), parquet.parquet_bytes(table))


def draw(folder: RunFolder, judged: Judged, metrics: dict[str, Any], names: Sequence[str]) -> None:
    """Write curves.json, and the pictures of its curves and of the confusion matrix."""
    found = curves(judged.labels, judged.probabilities, names)
    write_json(folder.path("curves.json"), found)
    for name, figure in {
        "confusion": plots.confusion(metrics["confusion_matrix"], names),
        "roc": plots.roc(found["roc"]),
        "precision_recall": plots.precision_recall(found["precision_recall"]),
        "calibration": plots.calibration(found["calibration"], ece=metrics["ece"]),
    }.items():
        save_figure(figure, folder.path(f"{name}.png"))
