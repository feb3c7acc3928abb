"""jobs/label.py --then without Ray: which model labelled what, and what is refused in one line."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jobs import label
from tests.labelling.test_label_nights import _make_parts_here
from tests.models.test_folder import fitted
from tests.video_writer import write_video
from vidray.distributed import pipeline
from vidray.distributed.resources import PredictorChoice
from vidray.errors import UserError
from vidray.labelling import commits
from vidray.labelling.options import LabelOptions, TwoStages
from vidray.models.folder import save_classical
from vidray.models.model_files import name_and_digest
from vidray.models.two_stages import FILE, ValAnswers
from vidray.tables import schema


def judged(folder: Path, cheap: str, dear: str, **changed: Any) -> str:
    """Answers to 400 videos: the cheap model is wrong of those of which it is not 0.6 sure."""
    folder.mkdir(exist_ok=True)
    sure = [k / 400 for k in range(1, 401)]
    answers = ValAnswers(
        **{
            "cheap": name_and_digest(cheap)[1],
            "dear": name_and_digest(dear)[1],
            "confidence": tuple(sure),
            "cheap_right": tuple(one > 0.6 for one in sure),
            "dear_right": (True,) * 400,
            "groups": (None,) * 400,
            **changed,
        }
    )
    answers.write(str(folder))
    return str(folder)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> label.LabelConfig:
    monkeypatch.setattr(pipeline, "make_all_parts", _make_parts_here)
    for folder, name in (("cheap", "logistic_regression"), ("dear", "knn")):
        made = fitted(name)
        save_classical(str(tmp_path / folder), made.info, made.pipeline)
    (tmp_path / "videos").mkdir()
    for number in range(6):
        path = tmp_path / "videos" / f"v{number}.avi"
        write_video(path, num_frames=12, first_number=40 * number)
    (tmp_path / "videos" / "none.avi").write_text("none")
    cheap, dear, out = (str(tmp_path / name) for name in ("cheap", "dear", "out"))
    two = TwoStages(then=dear, judged=judged(tmp_path / "judged", cheap, dear), allow=0.05)
    return label.LabelConfig(model=cheap, videos=str(tmp_path / "videos"), out=out, two=two)


def change(config: label.LabelConfig, **two: Any) -> label.LabelConfig:
    return dataclasses.replace(config, two=dataclasses.replace(config.two, **two))


def rows_of(out: str, set_name: str | None = None) -> dict[str, dict[str, Any]]:
    table = commits.read_labels(out, set_name=set_name)
    return {Path(row["uri"]).stem: row for row in table.to_pylist()}


def test_each_row_says_which_model_labelled_it(
    config: label.LabelConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label.main(config)
    told = capsys.readouterr().out
    assert "logistic_regression keeps its label where it is 0.5" in told
    rows = rows_of(config.out)
    alone: dict[int, dict[str, dict[str, Any]]] = {}
    for stage, model in ((1, config.model), (2, str(config.two.then))):
        out = str(tmp_path / f"alone{stage}")
        label.main(dataclasses.replace(config, model=model, out=out, two=TwoStages()))
        alone[stage] = rows_of(out)
        assert {row["stage"] for row in alone[stage].values()} == {None}
    stages = Counter(row["stage"] for row in rows.values())
    report = json.loads(Path(config.out, "run.json").read_text())
    assert report["videos_by_stage"] == {str(k): n for k, n in stages.items() if k is not None}
    assert (rows["none"]["status"], rows["none"]["stage"]) == ("failed", None)
    (found,) = commits.list_sets(config.out)
    assert found.startswith("logistic_regression-then-knn-")
    for name, row in rows.items():
        if row["stage"] is not None:
            own = alone[row["stage"]][name]
            assert row["probabilities"] == own["probabilities"]
            sure = alone[1][name]["probability"] >= _value(config)
            assert (row["stage"] == 1) == sure
            assert row["model_digest"] not in (alone[1][name]["model_digest"], own["model_digest"])


def _value(config: label.LabelConfig) -> float:
    from vidray.models import two_stages

    assert config.two.judged is not None
    value = two_stages.read(config.two.judged).threshold(config.two.allow).value
    assert value is not None
    return value


@pytest.mark.parametrize("stage", [1, 2])
def test_one_model_may_label_all(config: label.LabelConfig, tmp_path: Path, stage: int) -> None:
    # Sure of everything, or only where it is surer than a model of three classes can be here.
    sure = {1: (0.0,) * 400, 2: (1.0,) * 400}[stage]
    right = {1: (True,) * 400, 2: tuple(k % 2 > 0 for k in range(400))}[stage]
    answers = {"confidence": sure, "cheap_right": right}
    if stage == 2:
        answers |= {
            "confidence": (1.0,) * 300 + (0.999,) * 100,
            "cheap_right": (True,) * 300 + (False,) * 100,
        }
    assert config.two.then is not None
    where = judged(tmp_path / "other", config.model, config.two.then, **answers)
    label.main(change(config, judged=where))
    assert {row["stage"] for row in rows_of(config.out).values()} == {stage, None}


def test_other_losses_and_models_make_other_sets(config: label.LabelConfig) -> None:
    label.main(config)
    label.main(config)  # Nothing is left.
    label.main(change(config, allow=0.2))
    label.main(dataclasses.replace(config, two=TwoStages()))
    sets = commits.list_sets(config.out)
    assert len(sets) == 3
    assert sets[-1].startswith("logistic_regression-")
    assert "then" not in sets[-1]


def test_labels_of_before_the_column_are_still_read(
    config: label.LabelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = dataclasses.replace(config, two=TwoStages())
    with monkeypatch.context() as patch:
        for name in ("LABELLED", "LABELS"):
            own = getattr(schema, name)
            patch.setattr(schema, name, own.remove(own.get_field_index("stage")))
        from vidray.labelling import console

        patch.setattr(console, "COLUMNS", tuple(c for c in console.COLUMNS if c != "stage"))
        patch.setattr("vidray.labelling.nights._stages_of", lambda rows: {})
        label.main(alone)
    before = rows_of(config.out)
    assert {row["stage"] for row in before.values()} == {None}
    write_video(Path(config.videos) / "new.avi", num_frames=12)
    label.main(alone)
    assert before.items() <= rows_of(config.out).items()


# ---------- what is refused ----------


def refused(config: label.LabelConfig, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        label.main(config)
    assert "\n" not in str(caught.value)
    assert not Path(config.out).exists()


def test_the_answers_of_other_models_are_refused(config: label.LabelConfig, tmp_path: Path) -> None:
    made = fitted("svm")
    save_classical(str(tmp_path / "third"), made.info, made.pipeline)
    third = str(tmp_path / "third")
    refused(change(config, then=third), "judges the models .* and these are")
    refused(dataclasses.replace(config, model=third), "judges the models .* and these are")
    refused(change(config, then=config.model), "the same model as --model")


def test_models_of_other_classes_are_refused(config: label.LabelConfig, tmp_path: Path) -> None:
    made = fitted("svm")
    for names, said in (
        (["clap", "jump", "sit"], "only one knows 'run'"),
        (["run", "jump", "clap"], "their order differs"),
    ):
        save_classical(str(tmp_path / "third"), {**made.info, "class_names": names}, made.pipeline)
        refused(change(config, then=str(tmp_path / "third")), said)


def test_too_few_videos_show_nothing(config: label.LabelConfig, tmp_path: Path) -> None:
    refused(change(config, allow=0.001), "^400 videos of val .* takes 2997 videos")
    of_few = tuple(f"r{k % 20}" for k in range(400))
    assert config.two.then is not None
    where = judged(tmp_path / "other", config.model, config.two.then, groups=of_few)
    refused(
        change(config, judged=where), "20 recordings .* recordings at least: give .*--allow 0.1"
    )


def test_flags_that_change_what_was_judged_are_refused(config: label.LabelConfig) -> None:
    for options in (LabelOptions(clips_per_video=2), LabelOptions(crops=3)):
        refused(dataclasses.replace(config, settings=options), "the threshold of --then was chosen")
    half = dataclasses.replace(config, settings=LabelOptions(precision="bfloat16"))
    refused(half, "the threshold of --then was chosen of float32: leave it out")
    embedding = dataclasses.replace(config, settings=LabelOptions(embedding=True))
    refused(embedding, "those of one model")
    compiled = dataclasses.replace(config, settings=LabelOptions(compile=True))
    refused(compiled, "--compile has no effect on logistic_regression")
    asked = dataclasses.replace(config, predicting=PredictorChoice(predictors=1))
    refused(asked, "--predictors has no effect on knn")


def test_a_flag_without_the_other_is_refused(config: label.LabelConfig) -> None:
    for wrong in ({"then": None}, {"judged": None}):
        with pytest.raises(UserError, match="is given without"):
            change(config, **wrong)
    for allow in (0.0, 1.0, float("nan")):
        with pytest.raises(UserError, match="above 0 and below 1"):
            TwoStages(allow=allow)
    refused(dataclasses.replace(config, two=TwoStages(allow=0.2)), "--allow has no effect")


@pytest.mark.parametrize(
    "damage",
    [
        lambda told: "{",
        lambda told: "[]",
        lambda told: json.dumps({**told, "confidence": told["confidence"][:-1]}),
        lambda told: json.dumps({**told, "confidence": [2.0] * 400}),
        lambda told: json.dumps({**told, "cheap_right": [1] * 400}),
        lambda told: json.dumps({**told, "groups": "all"}),
        lambda told: json.dumps({**told, "more": 1}),
        lambda told: json.dumps({name: [] for name in told}),
        lambda told: json.dumps({**told, "dear": None}),
        lambda told: json.dumps({**told, "dear": "[/b]\n"}),
    ],
)
def test_a_damaged_file_is_one_line(config: label.LabelConfig, damage: Any) -> None:
    assert config.two.judged is not None
    where = Path(config.two.judged, FILE)
    where.write_text(damage(json.loads(where.read_text())))
    refused(config, "is not what jobs/evaluate.py writes")
    where.unlink()
    refused(config, f"holds no {FILE}: make it with jobs/evaluate.py --then")
