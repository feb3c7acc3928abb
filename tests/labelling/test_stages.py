"""Two models for one video: who labels it, what of the other is read, and what it costs nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.labelling.test_labeller import (
    FEATURES,
    FirstNumber,
    answer,
    planned,
    write_scenes,
)
from tests.models.test_folder import fitted, save, trained
from vidray.errors import UserError
from vidray.features import extraction
from vidray.labelling import labeller, stages, wire
from vidray.labelling.labeller import ClipModel
from vidray.labelling.predictor import answer_questions
from vidray.labelling.settings import LabelOptions, LabelSettings, Second, name_and_digest
from vidray.labelling.stages import Stage
from vidray.models.folder import ClassicalModel, save_classical
from vidray.video import decode
from vidray.video.clips import ClipSettings

NAMES = ("bright", "dark")
SETTINGS = LabelSettings(
    model="m",
    model_digest="d",
    options=LabelOptions(long_seconds=8.0, window_seconds=2.0, step_seconds=1.0),
    then=Second(model="n", model_digest="e", threshold=0.7),
)


def brightness(asked: list[int], **cut: Any) -> Stage:
    """A network as sure as a clip is bright or dark; ``asked`` gets how many clips of each call."""

    def predict(pixels: np.ndarray) -> wire.Answer:
        asked.append(len(pixels))
        bright = pixels.mean(axis=(1, 2, 3, 4)) / 255
        return wire.Answer(np.stack([bright, 1 - bright], axis=1))

    settings = ClipSettings(**{"frames_per_clip": 4, "size_px": 8, **cut})
    return Stage(model=ClipModel(class_names=NAMES, clip=settings, predict=predict), views=None)


class Color(FirstNumber):
    """The share of the darkest bin of the first color says dark: nothing in between."""

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        dark = rows[:, 0].clip(0.1, 0.9)
        return np.stack([1 - dark, dark], axis=1)


def classical() -> Stage:
    model = ClassicalModel(
        name="color",
        class_names=NAMES,
        pipeline=Color(),
        families=FEATURES.families,
        features=FEATURES,
        info={},
    )
    return Stage(model=model, views=None)


def labelled(path: Path, first: Stage, second: Stage, threshold: float = 0.7) -> dict[str, Any]:
    assert SETTINGS.then is not None
    settings = dataclasses.replace(
        SETTINGS, then=dataclasses.replace(SETTINGS.then, threshold=threshold)
    )
    row = answer(stages.label_video(planned(path), first, second, settings))
    assert row["config_digest"] == settings.digest
    return row


def alone(path: Path, stage: Stage) -> dict[str, Any]:
    return answer(labeller.label_video(planned(path), stage.model, SETTINGS, stage.views))


def same(
    row: dict[str, Any], other: dict[str, Any], *, but: tuple[str, ...] = ("stage", "config_digest")
) -> bool:
    return {k: v for k, v in row.items() if k not in but} == {
        k: v for k, v in other.items() if k not in but
    }


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each pass over a video answers."""
    seen: list[int] = []
    read = decode.Video.read

    def counted(self: decode.Video, *requests: decode.Request) -> list[decode.Frames]:
        seen.append(len(requests))
        return read(self, *requests)

    monkeypatch.setattr(decode.Video, "read", counted)
    return seen


SECOND_CUT = {"frames_per_clip": 6, "size_px": 16, "clips_per_video": 2}


def test_a_sure_label_stays_and_the_second_model_is_not_asked(
    tmp_path: Path, passes: list[int]
) -> None:
    path = write_scenes(tmp_path / "a.mp4", (2, 230))
    asked: list[int] = []
    first, second = brightness([]), brightness(asked, **SECOND_CUT)
    row = labelled(path, first, second)
    assert (row["stage"], row["label"], asked) == (1, "bright", [])
    assert passes == [2]  # The frames of both, in one pass.
    assert same(row, alone(path, first))


def test_an_unsure_label_is_the_second_models_of_the_same_pass(
    tmp_path: Path, passes: list[int]
) -> None:
    path = write_scenes(tmp_path / "a.mp4", (2, 140), (1, 90))
    asked: list[int] = []
    first, second = brightness([]), brightness(asked, **SECOND_CUT)
    row = labelled(path, first, second)
    assert (row["stage"], asked, passes) == (2, [2], [2])
    assert same(row, alone(path, second))


def test_how_far_a_video_went_is_that_of_the_model_that_labelled_it(tmp_path: Path) -> None:
    """A first model with early exits says nothing of a second one without."""
    path = write_scenes(tmp_path / "a.mp4", (2, 140))
    plain, other = brightness([]), brightness([], **SECOND_CUT)
    assert isinstance(plain.model, ClipModel)
    predict = plain.model.predict

    def leaving(pixels: np.ndarray) -> wire.Answer:
        return dataclasses.replace(predict(pixels), stages=np.full(len(pixels), 3, np.int32))

    early = Stage(model=dataclasses.replace(plain.model, predict=leaving), views=None)
    assert labelled(path, early, other, threshold=0.0)["exit_stage"] == 3
    assert labelled(path, early, other)["exit_stage"] is None
    assert labelled(path, other, early)["exit_stage"] == 3


def test_models_of_the_same_clips_have_them_read_once(tmp_path: Path, passes: list[int]) -> None:
    path = write_scenes(tmp_path / "a.mp4", (2, 140))
    first, second = brightness([]), brightness([])
    row = labelled(path, first, second)
    assert (row["stage"], passes) == (2, [1])
    assert same(row, alone(path, second))


def test_the_threshold_itself_is_sure_enough(tmp_path: Path) -> None:
    path = write_scenes(tmp_path / "a.mp4", (2, 200))
    first, second = brightness([]), brightness([])
    sure = alone(path, first)["probability"]
    assert labelled(path, first, second, threshold=sure)["stage"] == 1
    assert labelled(path, first, second, threshold=np.nextafter(sure, 1))["stage"] == 2
    assert labelled(path, first, second, threshold=0.0)["stage"] == 1


@pytest.mark.parametrize("level", [230, 140])
def test_a_classical_model_first(tmp_path: Path, passes: list[int], level: int) -> None:
    path = write_scenes(tmp_path / "a.mp4", (2, level))
    asked: list[int] = []
    first, second = classical(), brightness(asked, **SECOND_CUT)
    sure = alone(path, first)["probability"]
    read = passes.copy()
    passes.clear()
    kept = labelled(path, first, second, threshold=sure)
    assert same(kept, alone(path, first))
    assert (kept["stage"], asked, passes[0]) == (1, [], read[0] + 1)
    passes.clear()
    row = labelled(path, first, second, threshold=1.0)
    assert (row["stage"], asked, len(passes)) == (2, [2], 1)
    other = alone(path, second)
    assert (row["label"], row["probabilities"]) == (other["label"], other["probabilities"])
    assert row["duration_seconds"] == other["duration_seconds"]


@pytest.mark.parametrize("level", [230, 140])
def test_a_classical_model_second(tmp_path: Path, level: int) -> None:
    path = write_scenes(tmp_path / "a.mp4", (2, level))
    first, second = brightness([]), classical()
    row = labelled(path, first, second)
    assert same(row, alone(path, first if level == 230 else second))
    assert row["stage"] == (1 if level == 230 else 2)


@pytest.mark.parametrize(("level", "stage"), [(230, 1), (140, 2)])
def test_a_long_video_is_decided_as_a_whole(tmp_path: Path, level: int, stage: int) -> None:
    path = write_scenes(tmp_path / "a.mp4", (9, level), (3, 30))
    asked: list[int] = []
    first, second = brightness([]), brightness(asked, **SECOND_CUT)
    row = labelled(path, first, second, threshold=0.65)
    assert row["stage"] == stage
    assert bool(asked) == (stage == 2)
    assert row["segments"]
    assert same(row, alone(path, (first, second)[stage - 1]))


def test_a_long_video_of_a_classical_model_has_windows_of_the_second(tmp_path: Path) -> None:
    path = write_scenes(tmp_path / "a.mp4", (9, 140))
    second = brightness([], **SECOND_CUT)
    row = labelled(path, classical(), second, threshold=1.0)
    assert row["stage"] == 2
    assert same(row, alone(path, second))


def test_a_bad_video_has_no_stage(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("none")
    row = labelled(path, brightness([]), brightness([]))
    assert (row["status"], row["error_kind"], row["stage"]) == ("failed", "unreadable", None)


def test_a_video_replaced_meanwhile_has_no_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_scenes(tmp_path / "a.mp4", (2, 230))
    row = planned(path)
    write_scenes(path, (1, 30))
    found = answer(stages.label_video(row, brightness([]), brightness([]), SETTINGS))
    assert (found["error_kind"], found["stage"]) == ("changed", None)


# ---------- settings ----------


def test_the_settings_of_two_models_and_back() -> None:
    assert LabelSettings.from_json(dataclasses.asdict(SETTINGS)) == SETTINGS
    assert SETTINGS.first == dataclasses.replace(SETTINGS, then=None)
    assert (SETTINGS.asked.model, SETTINGS.asked.model_digest) == ("n", "e")
    assert SETTINGS.asked.options == SETTINGS.options
    assert SETTINGS.first.asked == SETTINGS.first


@pytest.mark.parametrize(
    "change",
    [
        lambda then: None,
        lambda then: dataclasses.replace(then, threshold=0.71),
        lambda then: dataclasses.replace(then, model_digest="f"),
    ],
)
def test_other_labels_have_another_digest(change: Callable[[Second], Second | None]) -> None:
    assert SETTINGS.then is not None
    other = dataclasses.replace(SETTINGS, then=change(SETTINGS.then))
    assert other.digest != SETTINGS.digest
    moved = dataclasses.replace(SETTINGS.then, model="elsewhere")
    assert dataclasses.replace(SETTINGS, then=moved).digest == SETTINGS.digest


def test_one_model_has_the_digest_that_it_had_before() -> None:
    """Else every label would be made again."""
    one = LabelSettings(model="m", model_digest="0123456789ab")
    assert one.digest == "c8e6fa3587b6"
    assert one.labelled_by == "0123456789ab"
    assert SETTINGS.labelled_by not in ("d", "e")


def test_features_are_as_without_the_second_models_frames(tmp_path: Path) -> None:
    """Frames read beside others change none of them."""
    from vidray.video.aside import Aside

    path = write_scenes(tmp_path / "a.mp4", (1, 100), (1, 200))
    aside = Aside(ClipSettings(frames_per_clip=5, size_px=12))
    plain = extraction.describe_video(planned(path), FEATURES)
    beside = extraction.describe_video(planned(path), FEATURES, aside=aside)
    assert repr(plain.to_pylist()) == repr(beside.to_pylist())  # NaN is not equal to itself.
    found = aside.clips()
    assert found is not None
    assert found.shape == (1, 5, 12, 12, 3)


@pytest.mark.slow
def test_a_process_of_its_own_holds_the_second_models_network(tmp_path: Path) -> None:
    """The label is the same, whoever has the network; the first model's is in the worker."""
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    made = fitted("logistic_regression")
    save_classical(first, made.info, made.pipeline)
    save(trained("resnet18_avg"), second)
    settings = LabelSettings(
        model=first,
        model_digest=name_and_digest(first)[1],
        then=Second(model=second, model_digest=name_and_digest(second)[1], threshold=1.0),
    )
    config = json.loads(json.dumps(dataclasses.asdict(settings)))
    answers = answer_questions(config)
    asked: list[int] = []

    def ask(question: pa.RecordBatch) -> pa.RecordBatch:
        asked.append(len(question))
        return answers(question)

    path = write_scenes(tmp_path / "a.mp4", (1, 140), (1, 60))
    here, elsewhere = stages.label_videos(config), stages.label_videos(config, ask)
    row = answer(elsewhere(planned(path)))
    assert (row["stage"], row["status"], len(asked)) == (2, "ok", 1)
    assert row == answer(here(planned(path)))
    sure = dataclasses.replace(settings, then=dataclasses.replace(settings.then, threshold=0.0))
    kept = stages.label_videos(dataclasses.asdict(sure), ask)
    assert answer(kept(planned(path)))["stage"] == 1
    assert len(asked) == 1
    save(trained("resnet18_avg"), first)  # Replaced while the job runs.
    with pytest.raises(UserError, match="has changed since the job began"):
        stages.label_videos(config)
