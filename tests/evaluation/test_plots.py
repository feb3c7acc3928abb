"""Pictures: what is drawn where, read back from the figure; no text cut off or overlapping."""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vidray import storage
from vidray.evaluation import compute_metrics, plots
from vidray.evaluation.curves import (
    curves,
)
from vidray.evaluation.drawing import save_figure


def history(num_epochs: int) -> list[dict[str, float | None]]:
    return [
        {
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "val_loss": 1 + abs(epoch - 3) / 10,
            "train_accuracy": 1 - 0.5 / epoch,
            "val_accuracy": 0.8 - abs(epoch - 4) / 10,
            "learning_rate": 0.001 * epoch,
        }
        for epoch in range(1, num_epochs + 1)
    ]


def judged(num_classes: int, num_videos: int = 300):
    rng = np.random.default_rng(0)
    names = [f"class_number_{k}" for k in range(num_classes)]
    truth = rng.integers(num_classes, size=num_videos)
    logits = rng.normal(size=(num_videos, num_classes))
    logits[np.arange(num_videos), truth] += 2
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    metrics = compute_metrics(truth, scores, names, resamples=2)
    return metrics, curves(truth, scores, names), names


def sizes(models: list[str], counts: list[int]) -> list[dict[str, object]]:
    return [
        {"model": model, "train_videos": n, "accuracy": 0.6, "low": 0.5, "high": 0.65}
        for model, n in itertools.product(models, counts)
    ]


def all_figures(num_classes: int) -> Iterator[Figure]:
    metrics, drawn, names = judged(num_classes)
    yield plots.confusion(metrics["confusion_matrix"], names)
    yield plots.roc(drawn["roc"])
    yield plots.precision_recall(drawn["precision_recall"])
    yield plots.calibration(drawn["calibration"], ece=metrics["ece"])
    yield plots.training_curve(history(12))
    yield plots.learning_curve(sizes(["svm", "r3d_18"], [24, 48, 96, 143, 186, 239]))


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [2, 20, 100])
def test_axes_are_named_and_texts_do_not_overlap(num_classes: int) -> None:
    for figure in all_figures(num_classes):
        FigureCanvasAgg(figure).draw()
        title = figure.get_suptitle() or figure.axes[0].get_title()
        assert title
        for axes in figure.axes:
            assert axes.get_ylabel()
            for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
                boxes = [
                    label.get_window_extent()
                    for label in labels
                    if label.get_text() and label.get_visible()
                ]
                for one, two in itertools.pairwise(boxes):
                    assert not one.overlaps(two), title


def test_confusion_has_numbers_up_to_20_classes() -> None:
    figure = plots.confusion([[5, 2], [0, 9]], ["cat", "dog"])
    axes = figure.axes[0]
    numbers = {text.get_position(): text.get_text() for text in axes.texts}
    assert numbers == {(0, 0): "5", (1, 0): "2", (0, 1): "0", (1, 1): "9"}  # x is the prediction
    assert "14 of 16" in axes.get_title()
    assert "cat taken for dog (2 times)" in axes.get_title()
    np.testing.assert_allclose(axes.images[0].get_array(), [[5 / 7, 2 / 7], [0, 1]])
    assert not plots.confusion(np.eye(21, dtype=int), ["x"] * 21).axes[0].texts


def test_confusion_of_a_class_without_videos() -> None:
    axes = plots.confusion([[0, 0], [0, 3]], ["a", "b"]).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0, 0], [0, 1]])
    assert axes.get_title() == "3 of 3 videos right"


def test_training_curve_marks_the_best_epochs() -> None:
    loss, accuracy, rate = plots.training_curve(history(8)).axes
    labels = [line.get_label() for line in loss.lines]
    assert labels == ["training", "validation", "best validation: 1 in epoch 3"]
    assert accuracy.lines[2].get_label() == "best validation: 0.8 in epoch 4"
    np.testing.assert_allclose(rate.lines[0].get_ydata(), 0.001 * np.arange(1, 9))


def test_training_without_validation() -> None:
    rows = [{**row, "val_loss": None, "val_accuracy": None} for row in history(1)]
    loss, accuracy, _ = plots.training_curve(rows).axes
    assert [line.get_label() for line in loss.lines] == ["training"]
    assert [line.get_label() for line in accuracy.lines] == ["training"]


def test_of_many_classes_the_worst_are_named() -> None:
    _, drawn, _ = judged(30)
    axes = plots.roc(drawn["roc"]).axes[0]
    labels = [line.get_label() for line in axes.lines if not line.get_label().startswith("_")]
    worst = sorted(drawn["roc"], key=lambda name: drawn["roc"][name]["auc"])[:8]
    assert [label.split()[-1] for label in labels[2:]] == worst
    assert labels[1] == "the 22 other classes"
    assert len(axes.lines) == 31
    assert "guessing" in labels[0]


def test_no_class_has_a_curve() -> None:
    assert "no class" in plots.roc({}).axes[0].get_title()
    assert "no class" in plots.precision_recall({}).axes[0].get_title()


def test_learning_curve_shows_the_intervals() -> None:
    rows = sizes(["knn"], [200, 50, 100])
    axes = plots.learning_curve(rows).axes[0]
    line = axes.containers[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), [50, 100, 200])
    segments = axes.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([segment[:, 1] for segment in segments], [[0.5, 0.65]] * 3)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["50", "100", "200"]


def test_learning_curve_of_many_models_and_of_one_size() -> None:
    models = [f"model_{k}" for k in range(12)]
    axes = plots.learning_curve(sizes(models, [40])).axes[0]
    looks = {
        (c.lines[0].get_color(), c.lines[0].get_marker(), c.lines[0].get_linestyle())
        for c in axes.containers
    }
    assert len(looks) == 12


@pytest.mark.slow
def test_saved_png_is_whole_and_always_the_same(tmp_path: Path) -> None:
    names = ["a price of $5 and $6", "_hidden", "日本語", "x" * 80]
    uris = [str(tmp_path / name) for name in ("one.png", "two.png")]
    for uri in uris:
        save_figure(plots.confusion(np.arange(16).reshape(4, 4), names), uri)
    one, two = (storage.read_bytes(uri) for uri in uris)
    assert one == two
    pixels = cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR)  # (H, W, 3)
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edges == 255).all()  # nothing runs over the border
    assert (pixels < 128).any()


def test_hard_class_names_in_a_legend(tmp_path: Path) -> None:
    _, drawn, _ = judged(3)
    renamed = dict(zip(["_hidden", "$x", "100 %"], drawn["roc"].values(), strict=True))
    figure = plots.roc(renamed)
    save_figure(figure, str(tmp_path / "roc.png"))
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert len(legend) == 4
    assert any("_hidden" in text for text in legend)


@pytest.mark.slow
def test_no_global_state() -> None:
    list(all_figures(2))
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )
