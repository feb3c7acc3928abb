"""Two models judged as one: on videos that did not choose the threshold."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.command_lines import exit_code
from tests.made_runs import features_run, videos
from tests.videos import write_video
from vidray.errors import UserError
from vidray.evaluation import two_stages, two_stages_cost
from vidray.evaluation.judged import Judged
from vidray.models import two_stages as kept
from vidray.models.deferral import Threshold, choose_threshold
from vidray.models.model_files import name_and_digest
from vidray.video.clips import ClipSettings


def judged(ids: str, labels: str, sure: list[float]) -> Judged:
    scores = np.array(sure)
    return Judged(
        video_ids=list(ids),
        uris=[f"/{one}.mp4" for one in ids],
        labels=list(labels),
        groups=[None] * len(ids),
        probabilities=np.stack([scores, 1 - scores], axis=1),
    )


def test_the_videos_of_both_are_compared_in_one_order() -> None:
    ours, theirs = two_stages._in_common(
        judged("abc", "xyx", [0.1, 0.2, 0.3]), judged("dcb", "xxy", [0.4, 0.5, 0.6]), "val"
    )
    assert ours.video_ids == theirs.video_ids == ["b", "c"]
    assert ours.probabilities[:, 0].tolist() == [0.2, 0.3]
    assert theirs.probabilities[:, 0].tolist() == [0.6, 0.5]


def test_videos_that_differ_are_refused() -> None:
    with pytest.raises(UserError, match="no video is in split val of both"):
        two_stages._in_common(judged("a", "x", [0.1]), judged("b", "x", [0.1]), "val")
    with pytest.raises(UserError, match=r"/a.mp4 is 'x' in one model's data and 'y' in the other"):
        two_stages._in_common(judged("a", "x", [0.1]), judged("a", "y", [0.1]), "val")


# ---------- what both cost ----------


def network(asked: list[int], sure: float) -> Any:
    def predict(pixels: np.ndarray) -> np.ndarray:
        asked.append(len(pixels))
        return np.tile([sure, 1 - sure], (len(pixels), 1))

    return SimpleNamespace(clip=ClipSettings(frames_per_clip=3, size_px=16), predict=predict)


def threshold(value: float | None) -> Threshold:
    return Threshold(
        value=value, share=0.0, lost=0.0, lost_interval=(0.0, 0.0), allow=0.1, sureness=0.95,
        num_videos=9, num_groups=9,
    )  # fmt: skip


@pytest.mark.parametrize(("value", "second"), [(0.8, 0), (0.9, 1), (None, 1)])
def test_the_second_model_is_timed_where_it_is_asked(
    tmp_path: Path, value: float | None, second: int
) -> None:
    path = write_video(tmp_path / "a.mp4", num_frames=8)
    video = {"uri": str(path), "video_id": "a", "size_bytes": path.stat().st_size}
    first_asked, second_asked = [], []
    cheap, dear = network(first_asked, 0.8), network(second_asked, 0.7)
    assert two_stages_cost.label_by_both(video, cheap, dear, threshold(value))
    assert (len(first_asked), len(second_asked)) == (1, second)


def test_seconds_count_by_the_shares_of_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds that each way takes of an easy and of a hard video, by a clock that it moves."""
    now = [0.0]
    monkeypatch.setattr(two_stages_cost.time, "perf_counter", lambda: now[0])
    cost = {"easy": (1.0, 5.0, 2.0), "hard": (1.0, 5.0, 6.0)}

    def way(number: int) -> Any:
        def label(*given: Any) -> bool:
            video = next(one for one in given if isinstance(one, dict | list))
            uri = (video[0] if isinstance(video, list) else video)["uri"]
            now[0] += cost.get(uri, (0.0,) * 3)[number]
            return uri in cost

        return label

    models = SimpleNamespace(), SimpleNamespace()
    alone = {id(model): way(number) for number, model in enumerate(models)}
    monkeypatch.setattr(
        two_stages_cost.judging, "label_here", lambda model, some: alone[id(model)](some)
    )
    monkeypatch.setattr(two_stages_cost, "label_by_both", way(2))
    easy, hard, gone = ([{"uri": name}] for name in ("easy", "hard", "gone"))
    both: Any = (*models, threshold(0.5))
    found = two_stages_cost.measure(*both, [(0.75, easy), (0.25, hard)])
    assert found.seconds_per_video == {"first": 1.0, "second": 5.0, "both": 3.0}
    assert found.timed_videos == 2
    assert two_stages_cost.measure(*both, [(0.75, easy), (0.25, gone)]).both is None


# ---------- the command ----------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A worse and a better model of 1,200 videos of no recording, a quarter of them val."""
    folder = tmp_path_factory.mktemp("models")
    rows = [{**row, "group": None} for row in videos(1200)]
    data = features_run(folder / "data", rows=rows)
    for name, families in (("worse", "temporal"), ("better", "motion")):
        flags = ("--data", data, "--model", "logistic_regression", "--folds", "0")
        out = folder / name
        assert exit_code("jobs/train.py", *flags, "--families", families, "--out", out) == 0
    return {"data": data, "worse": folder / "worse", "better": folder / "better"}


@pytest.mark.slow
def test_two_models_are_judged_as_one(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, flags = tmp_path / "out", ("--data", models["data"], "--timed-videos", "0")
    both = ("--model", models["better"], "--then", models["worse"])
    assert exit_code("jobs/evaluate.py", *both, *flags, "--allow", "0.05", "--out", out) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    figures = metrics["two_stages"]
    answers = kept.read(str(out))
    assert answers.cheap == name_and_digest(str(models["better"]))[1]
    assert answers.dear == name_and_digest(str(models["worse"]))[1]
    assert len(answers.confidence) == 300
    chosen = choose_threshold(
        answers.confidence, answers.cheap_right, answers.dear_right, allow=0.05
    )
    assert Threshold.from_json(figures["threshold"]) == chosen == answers.threshold(0.05)
    # The better model first: all is kept, and more is won than lost.
    assert chosen.value == 0.0
    assert figures["videos_by_stage"] == [300, 0]
    assert figures["lost"] < 0
    accuracy = figures["accuracy"]
    assert figures["lost"] == pytest.approx(accuracy["second"] - accuracy["both"])
    assert figures["lost_interval"][0] < figures["lost"] < figures["lost_interval"][1]
    assert metrics["accuracy"] == accuracy["both"] == accuracy["first"]
    rows = pq.read_table(out / "predictions.parquet")
    assert len(rows) == metrics["num_videos"] == 300
    assert f"--then, and --judged {out}" in capsys.readouterr().out
    assert exit_code("jobs/evaluate.py", *both, *flags, "--out", out) == 2
    assert "holds an evaluation" in capsys.readouterr().err


@pytest.mark.slow
def test_a_worse_model_first_keeps_nothing_or_little(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, flags = tmp_path / "out", ("--data", models["data"], "--timed-videos", "0")
    both = ("--model", models["worse"], "--then", models["better"])
    assert exit_code("jobs/evaluate.py", *both, *flags, "--allow", "0.02", "--out", out) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    first, second = metrics["two_stages"]["videos_by_stage"]
    assert second > 10 * first
    assert metrics["accuracy"] >= metrics["two_stages"]["accuracy"]["second"] - 0.02
    for wrong, said in (
        (("--split", "val"), "leave --split out"),
        (("--allow", "0"), "above 0 and below 1"),
        (("--then-data", tmp_path / "none"), "none"),
    ):
        assert exit_code("jobs/evaluate.py", *both, *flags, *wrong, "--out", tmp_path / "b") == 2
        assert said in capsys.readouterr().err
    one = ("--model", models["worse"], "--then-data", models["data"])
    assert exit_code("jobs/evaluate.py", *one, *flags, "--out", tmp_path / "b") == 2
    assert "--then-data has no effect on one model" in capsys.readouterr().err
