"""Figures against scikit-learn, naive loops and numbers worked out by hand."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import nn

from vidray.errors import UserError
from vidray.evaluation import compute_metrics
from vidray.evaluation.answers import (
    PREDICTIONS,
    average_views,
    prediction_rows,
)
from vidray.evaluation.cost import (
    flops_per_clip,
    measure_cost,
    median_seconds,
    num_parameters,
    peak_memory,
    size_bytes,
)
from vidray.evaluation.curves import (
    curves,
)
from vidray.evaluation.metrics import (
    baselines,
)


def make(num_videos: int, num_classes: int, *, seed: int = 0, ties: bool = False):
    """Labels, probabilities that know something of them, and names."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(num_videos) % num_classes)
    logits = rng.normal(size=(num_videos, num_classes))
    logits[np.arange(num_videos), truth] += 1
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if ties:
        scores = np.stack([rng.multinomial(6, row) for row in scores]) / 6
    return truth, scores, [f"class {k}" for k in range(num_classes)]


def to_json(values: object) -> str:
    return json.dumps(values, allow_nan=False)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("num_classes", [2, 3, 8])
def test_figures_are_scikit_learns(num_classes: int, ties: bool) -> None:
    truth, scores, names = make(150, num_classes, ties=ties)
    found = compute_metrics(truth, scores, names, resamples=10)
    predicted = scores.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted))
    for key, score in (
        ("macro_precision", sk.precision_score),
        ("macro_recall", sk.recall_score),
        ("macro_f1", sk.f1_score),
    ):
        assert found[key] == pytest.approx(
            score(truth, predicted, average="macro", zero_division=0)
        )
    oracle = scores[:, 1] if num_classes == 2 else scores
    auc = sk.roc_auc_score(truth, oracle, multi_class="ovr", average="macro")
    assert found["macro_auc"] == pytest.approx(auc)
    ap = [sk.average_precision_score(truth == k, scores[:, k]) for k in range(num_classes)]
    assert found["macro_average_precision"] == pytest.approx(np.mean(ap))
    assert found["log_loss"] == pytest.approx(sk.log_loss(truth, scores))
    brier = sk.brier_score_loss(truth, scores, labels=range(num_classes), scale_by_half=False)
    assert found["brier"] == pytest.approx(brier)
    assert found["confusion_matrix"] == sk.confusion_matrix(truth, predicted).tolist()
    report = sk.classification_report(
        truth, predicted, target_names=names, output_dict=True, zero_division=0
    )
    for k, name in enumerate(names):
        row = found["per_class"][name]
        assert row["support"] == report[name]["support"]
        assert row["precision"] == pytest.approx(report[name]["precision"])
        assert row["recall"] == pytest.approx(report[name]["recall"])
        assert row["f1"] == pytest.approx(report[name]["f1-score"])
        assert row["average_precision"] == pytest.approx(ap[k])
    to_json(found)


@pytest.mark.parametrize("ties", [False, True])
def test_top5(ties: bool) -> None:
    truth, scores, names = make(200, 9, ties=ties)
    # scikit-learn puts the last of equal scores first, we (like argmax) the first: so mirrored.
    oracle = sk.top_k_accuracy_score(8 - truth, scores[:, ::-1], k=5, labels=range(9))
    assert compute_metrics(truth, scores, names, resamples=2)["top5"] == pytest.approx(oracle)
    assert compute_metrics(*make(20, 5), resamples=2)["top5"] is None
    # Constant answers deserve nothing but chance.
    constant = np.full((6, 6), 1 / 6)
    found = compute_metrics(np.arange(6), constant, list("abcdef"), resamples=2)
    assert (found["top5"], found["accuracy"]) == (pytest.approx(5 / 6), pytest.approx(1 / 6))


def test_names_and_indices_are_the_same() -> None:
    truth, scores, names = make(30, 3)
    by_name = compute_metrics([names[k] for k in truth], scores, names, resamples=50)
    by_array = compute_metrics(np.array(names)[truth], scores, names, resamples=50)
    assert compute_metrics(truth, scores, names, resamples=50) == by_name == by_array


def test_class_that_does_not_occur() -> None:
    truth, scores, names = make(60, 3)
    with_absent = np.column_stack([scores[:, :2], np.zeros(60), scores[:, 2:]])
    names = [*names[:2], "absent", names[2]]
    truth = np.where(truth == 2, 3, truth)
    found = compute_metrics(truth, with_absent, names, resamples=20)
    absent = found["per_class"]["absent"]
    assert absent.pop("support") == 0
    assert set(absent.values()) == {None}
    predicted = with_absent.argmax(axis=1)
    assert found["macro_f1"] == pytest.approx(sk.f1_score(truth, predicted, average="macro"))
    auc = [sk.roc_auc_score(truth == k, with_absent[:, k]) for k in (0, 1, 3)]
    assert found["macro_auc"] == pytest.approx(np.mean(auc))
    assert np.shape(found["confusion_matrix"]) == (4, 4)
    assert "absent" not in curves(truth, with_absent, names)["roc"]
    to_json(found)


def test_one_class_only() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    found = compute_metrics([0, 0, 0], scores, ["a", "b"], resamples=100)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["macro_auc"] is None
    assert found["intervals"]["macro_auc"] is None
    assert found["macro_average_precision"] is None
    assert found["macro_precision"] == pytest.approx(0.5)  # a: 1, b: 0 of 1
    assert curves([0, 0, 0], scores, ["a", "b"])["roc"] == {}
    to_json(found)
    perfect = compute_metrics([0], [[1.0, 0.0]], ["a", "b"])
    assert perfect["accuracy"] == perfect["macro_f1"] == 1
    assert str(perfect["log_loss"]) == "0.0"
    assert set(perfect["intervals"].values()) == {None}
    to_json(perfect)


def test_zero_for_the_true_class_is_a_large_but_finite_loss() -> None:
    found = compute_metrics([0, 1], [[0.0, 1.0], [0.0, 1.0]], ["a", "b"], resamples=5)
    assert found["log_loss"] == pytest.approx(-np.log(np.finfo(float).eps) / 2)


def test_calibration_by_hand() -> None:
    # Confidences 0.9, 0.92 (bin 0.867 to 0.933, one right) and 0.6 (bin 0.533 to 0.6, right).
    scores = np.array([[0.9, 0.1], [0.92, 0.08], [0.4, 0.6]])
    found = compute_metrics([0, 1, 1], scores, ["a", "b"], resamples=2)
    assert found["ece"] == pytest.approx((2 * abs(0.5 - 0.91) + 1 * abs(1 - 0.6)) / 3)
    bins = curves([0, 1, 1], scores, ["a", "b"])["calibration"]
    assert [row["num_videos"] for row in bins] == [1, 2]
    assert bins[0]["low"] < 0.6 <= bins[0]["high"]  # a bin holds its upper edge
    assert bins[1]["accuracy"] == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_is_that_of_a_loop(seed: int) -> None:
    truth, scores, names = make(40, 4, seed=seed)
    error = 0.0
    for k in range(15):
        inside = [row for row, p in enumerate(scores.max(axis=1)) if k / 15 < p <= (k + 1) / 15]
        if inside:
            right = np.mean([scores[row].argmax() == truth[row] for row in inside])
            confidence = np.mean([scores[row].max() for row in inside])
            error += len(inside) / 40 * abs(right - confidence)
    assert compute_metrics(truth, scores, names, resamples=1)["ece"] == pytest.approx(error)


@pytest.mark.slow
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_are_those_of_a_loop_over_scikit_learn(grouped: bool, ties: bool) -> None:
    truth, scores, names = make(45, 6, ties=ties)
    groups = [f"g{k // 3}" for k in range(45)] if grouped else None
    found = compute_metrics(truth, scores, names, groups=groups, resamples=50, seed=3)
    members = np.arange(45).reshape(15 if grouped else 45, -1)
    rng = np.random.default_rng(3)
    drawn: dict[str, list[float]] = {}
    for _ in range(50):
        rows = members[rng.integers(len(members), size=len(members))].ravel()
        y, p = truth[rows], scores[rows]
        answer = p.argmax(axis=1)
        auc = [sk.roc_auc_score(y == k, p[:, k]) for k in range(6) if 0 < (y == k).sum() < len(y)]
        options = {"average": "macro", "zero_division": 0}
        values = {
            "accuracy": sk.accuracy_score(y, answer),
            "macro_precision": sk.precision_score(y, answer, **options),
            "macro_recall": sk.recall_score(y, answer, **options),
            "macro_f1": sk.f1_score(y, answer, **options),
            "macro_auc": np.mean(auc),
            "top5": sk.top_k_accuracy_score(5 - y, p[:, ::-1], k=5, labels=range(6)),
            "log_loss": sk.log_loss(y, p, labels=range(6)),
            "brier": sk.brier_score_loss(y, p, labels=range(6), scale_by_half=False),
        }
        for name, value in values.items():
            drawn.setdefault(name, []).append(value)
    assert found["num_groups"] == len(members)
    assert set(found["intervals"]) == set(drawn)
    for name, values in drawn.items():
        expected = np.percentile(values, [2.5, 97.5])
        assert found["intervals"][name] == pytest.approx(expected, abs=1e-6), name


def test_interval_of_accuracy_is_about_binomial() -> None:
    scores = np.array([[0.8, 0.2]] * 400)
    truth = np.array([0] * 300 + [1] * 100)
    low, high = compute_metrics(truth, scores, ["a", "b"])["intervals"]["accuracy"]
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert (low, high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.006)


def test_copies_of_a_recording_add_no_certainty() -> None:
    truth, scores, names = make(40, 2)
    alone = compute_metrics(truth, scores, names, resamples=300)
    copies = (np.repeat(truth, 5), np.repeat(scores, 5, axis=0), names)
    groups = [f"g{k // 5}" for k in range(200)]
    together = compute_metrics(*copies, groups=groups, resamples=300)
    assert together["intervals"]["macro_auc"] == pytest.approx(alone["intervals"]["macro_auc"])
    independent = compute_metrics(*copies, resamples=300)["intervals"]["accuracy"]
    low, high = together["intervals"]["accuracy"]
    assert high - low > 1.8 * (independent[1] - independent[0])


def test_video_without_a_group_is_one_of_its_own() -> None:
    truth, scores, names = make(6, 2)
    found = compute_metrics(truth, scores, names, groups=["a", None, "a", None, "b", "0"])
    assert found["num_groups"] == 5


def test_same_seed_same_intervals() -> None:
    one, same, other = (compute_metrics(*make(50, 3), seed=seed) for seed in (0, 0, 1))
    assert to_json(one) == to_json(same)
    assert one["intervals"] != other["intervals"]


@pytest.mark.slow
def test_large_test_split_takes_seconds() -> None:
    begin = time.process_time()
    compute_metrics(*make(5000, 10))
    assert time.process_time() - begin < 30  # measured: 1.5


def test_wrong_arguments() -> None:
    truth, scores, names = make(6, 3)
    with pytest.raises(UserError, match="no videos"):
        compute_metrics([], np.zeros((0, 3)), names)
    with pytest.raises(UserError, match="did you mean 'class 1'"):
        compute_metrics(["class1"] * 6, scores, names)
    with pytest.raises(UserError, match="None"):
        compute_metrics(["class 1", None] * 3, scores, names)
    with pytest.raises(ValueError, match="no index of 3 classes"):
        compute_metrics(truth + 1, scores, names)
    with pytest.raises(ValueError, match=r"need \(6, 3\)"):
        compute_metrics(truth, scores[:, :2], names)
    with pytest.raises(ValueError, match="softmax"):
        compute_metrics(truth, scores * 3, names)
    with pytest.raises(ValueError, match="softmax"):
        compute_metrics(truth, scores * np.nan, names)
    with pytest.raises(ValueError, match="different"):
        compute_metrics(truth, scores, ["a", "a", "b"])
    with pytest.raises(ValueError, match="5 groups for 6"):
        compute_metrics(truth, scores, names, groups=["g"] * 5)


def test_curves_keep_their_shape_in_200_points() -> None:
    truth, scores, names = make(5000, 3)
    found = curves(truth, scores, names)
    to_json(found)
    for k, name in enumerate(names):
        roc = found["roc"][name]
        x, y = np.array(roc["false_positive_rate"]), np.array(roc["true_positive_rate"])
        assert len(x) <= 200
        assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
        auc = sk.roc_auc_score(truth == k, scores[:, k])
        assert roc["auc"] == pytest.approx(auc)
        assert sk.auc(x, y) == pytest.approx(auc, abs=0.005)
        pr = found["precision_recall"][name]
        assert len(pr["recall"]) <= 200
        assert pr["recall"][0] == 1
        assert (pr["recall"][-1], pr["precision"][-1]) == (0, 1)
        area = -np.sum(np.diff(pr["recall"]) * np.array(pr["precision"])[:-1])
        assert area == pytest.approx(pr["average_precision"], abs=0.02)
        assert pr["share"] == pytest.approx(1 / 3, abs=0.001)
    assert sum(row["num_videos"] for row in found["calibration"]) == 5000


def test_short_curve_is_whole() -> None:
    truth, scores, names = make(30, 2)
    false_rate, true_rate, _ = sk.roc_curve(truth == 1, scores[:, 1])
    found = curves(truth, scores, names)["roc"][names[1]]
    assert found["false_positive_rate"] == false_rate.tolist()
    assert found["true_positive_rate"] == true_rate.tolist()


def test_majority_baseline() -> None:
    found = baselines(["b", "b", "a"], ["a", "b"], train_labels=["a", "a", "b"])["majority"]
    assert (found["label"], found["accuracy"]) == ("a", pytest.approx(1 / 3))
    assert found["interval"] == pytest.approx([0, 1])
    own = baselines([1, 1, 0], ["a", "b"])["majority"]
    assert (own["label"], own["accuracy"]) == ("b", pytest.approx(2 / 3))
    assert baselines([1, 0], ["a", "b"], groups=["g", "g"])["majority"]["interval"] is None


def test_average_views() -> None:
    ids, scores = average_views(["v2", "v1", "v2"], [[1.0, 0.0], [0.3, 0.7], [0.5, 0.5]])
    assert ids == ["v2", "v1"]
    np.testing.assert_allclose(scores, [[0.75, 0.25], [0.3, 0.7]])
    ids, scores = average_views([], np.zeros((0, 4)))
    assert (ids, scores.shape) == ([], (0, 4))
    with pytest.raises(ValueError, match="one row for each id"):
        average_views(["a"], np.zeros((2, 3)))


def test_prediction_rows_are_worst_first() -> None:
    table = prediction_rows(
        video_ids=list("vwxyz"),
        uris=[f"/{name}.mp4" for name in "vwxyz"],
        y_true=["a", "a", "b", "b", "a"],
        probabilities=[[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [0.45, 0.55], [0.6, 0.4]],
        class_names=["a", "b"],
        groups=["g1", None, "g2", None, None],
    )
    assert table.schema == PREDICTIONS
    assert table["video_id"].to_pylist() == ["x", "w", "y", "z", "v"]
    first = table.slice(0, 1).to_pylist()[0]
    assert first.pop("loss") == pytest.approx(-np.log(0.2))
    assert first.pop("probability") == pytest.approx(0.8)
    assert first.pop("probabilities") == pytest.approx([0.8, 0.2])
    assert first == {
        "video_id": "x",
        "uri": "/x.mp4",
        "true_label": "b",
        "label": "a",
        "correct": False,
        "group": "g2",
    }
    assert table["correct"].to_pylist() == [False, False, True, True, True]
    # Of three classes a right answer can cost more than a wrong one.
    table = prediction_rows(
        video_ids=["wrong", "right"],
        uris=["w", "r"],
        y_true=["a", "a"],
        probabilities=[[0.45, 0.5, 0.05], [0.4, 0.3, 0.3]],
        class_names=["a", "b", "c"],
        groups=[None, None],
    )
    assert table["video_id"].to_pylist() == ["right", "wrong"]
    assert table["loss"].to_pylist() == pytest.approx([-np.log(0.4), -np.log(0.45)])


# Cost


class Recurrent(nn.Module):
    """An LSTM and attention over T: layers whose fused kernels PyTorch's counter does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 4, bidirectional=True, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.drop = nn.Dropout(0.5)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        steps, _ = self.lstm(clips.mean(dim=(3, 4)).transpose(1, 2))  # (N, T, 8)
        mixed, _ = self.attention(steps, steps, steps, need_weights=False)
        return self.drop(mixed).mean(dim=1)


def test_flops_by_hand() -> None:
    conv = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    conv(torch.zeros(1, 3, 2, 5, 5))
    by_hand = 2 * (4 * 3 * 27 * 50) + 2 * (4 * 50 * 2)
    assert flops_per_clip(conv, (3, 2, 5, 5)) == by_hand
    num_steps = 5
    lstm = 2 * (2 * num_steps * (6 * 16 + 4 * 16))
    attention = 2 * num_steps * 8 * 32 + 2 * 2 * (2 * num_steps * num_steps * 4)
    network = Recurrent()
    network.drop.eval()
    assert flops_per_clip(network, (6, num_steps, 3, 3)) == lstm + attention
    # What it found stays: modes, weights and where they are.
    assert network.training
    assert not network.drop.training
    assert next(network.parameters()).device.type == "cpu"


def test_parameters() -> None:
    assert num_parameters(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))) == 8 * 28 + 16


def test_size_on_disk(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "weights.safetensors").write_bytes(b"x" * 1000)
    (tmp_path / "deep" / "model.json").write_bytes(b"x" * 234)
    assert size_bytes(str(tmp_path)) == 1234


@pytest.mark.slow
def test_median_leaves_out_warming_up() -> None:
    pauses = iter([0.5, 0.02, 0.02, 0.02])
    assert 0.02 <= median_seconds(lambda: time.sleep(next(pauses)), runs=3) < 0.3
    with pytest.raises(ValueError, match="runs=0"):
        median_seconds(lambda: None, runs=0)


@pytest.mark.slow
def test_peak_memory_of_each_block() -> None:
    for megabytes in (200, 50):  # the second is not hidden by the first
        with peak_memory() as peak:
            block = np.ones(megabytes * 2**20, np.uint8)
            del block
        assert peak.ram_bytes == pytest.approx(megabytes * 2**20, rel=0.2)


@pytest.mark.slow
def test_peak_memory_where_the_mark_cannot_be_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    block = np.ones(300 * 2**20, np.uint8)
    del block
    monkeypatch.setattr("vidray.memory.reset_peak", lambda: False)
    with peak_memory() as peak:
        pass
    assert peak.ram_bytes is None  # the mark is an earlier one's


@pytest.mark.slow
def test_measure_cost(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(b"12345")
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 2 * 4 * 4, 2))
    cost = measure_cost(
        lambda: time.sleep(0.02),
        num_videos=4,
        frames_per_video=16,
        model_dir=str(tmp_path),
        network=network,
        clip_shape=(3, 2, 4, 4),
        runs=3,
    )
    assert (cost["parameters"], cost["flops_per_clip"], cost["size_bytes"]) == (194, 384, 5)
    assert cost["seconds_per_video"] == pytest.approx(0.005, rel=1)
    assert cost["frames_per_second"] == pytest.approx(16 / cost["seconds_per_video"])
    assert cost["peak_ram_bytes"] is None  # too little to be told from the interpreter's own
    # Over 32 MiB, or malloc may give what an earlier test gave back, and nothing is seen of it.
    classical = measure_cost(lambda: np.ones(64 << 20, np.uint8), num_videos=1, frames_per_video=0)
    assert classical["frames_per_second"] is None
    assert classical["peak_ram_bytes"] == pytest.approx(64 << 20, rel=0.2)
    assert classical["parameters"] is classical["size_bytes"] is classical["flops_per_clip"] is None
    to_json(cost)


@pytest.mark.gpu
def test_peak_gpu_memory() -> None:
    with peak_memory() as peak:
        block = torch.ones(64 * 2**20, dtype=torch.uint8, device="cuda")
        del block
    first = peak.gpu_bytes
    with peak_memory() as peak:
        block = torch.ones(2**20, dtype=torch.uint8, device="cuda")
        del block
    assert first is not None
    assert peak.gpu_bytes is not None
    assert first - peak.gpu_bytes == 63 * 2**20


@pytest.mark.slow
def test_classical_evaluation_needs_no_torch() -> None:
    code = (
        "import sys; from vidray.evaluation import cost, metrics; "
        "metrics.compute_metrics([0, 1], [[1, 0], [0, 1]], ['a', 'b'], resamples=2); "
        "cost.measure_cost(lambda: None, num_videos=1, frames_per_video=1, runs=1); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
