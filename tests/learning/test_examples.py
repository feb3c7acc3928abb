"""What models learn from, against rows written by hand."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.made_runs import publish
from vidray import features
from vidray.errors import UserError
from vidray.evaluation import judging
from vidray.evaluation.judged import judge
from vidray.features.extraction import Settings
from vidray.learning.examples import Examples, read_clips, read_features
from vidray.models.folder import ClassicalModel, DeepModel
from vidray.models.preprocess import Preprocessing
from vidray.storage import join
from vidray.video.clips import ClipSettings

FEATURES = Settings(families=("temporal", "motion"))
CLIPS = ClipSettings(frames_per_clip=2, size_px=4)
# video, label, split, group, status
VIDEOS = (
    ("v0", "run", "train", "g1", "ok"),
    ("v1", "jump", "train", "g2", "ok"),
    ("v2", "jump", "val", "g3", "ok"),
    ("v3", "run", "train", None, "ok"),
    ("v4", None, "train", "g4", "ok"),
    ("v5", "clap", "train", "g5", "failed"),
    ("v6", "run", None, "g6", "ok"),
    ("v7", "run", "test", "g7", "ok"),
)
Video = tuple[str, str | None, str | None, str | None, str]


def head(video: Video) -> dict[str, Any]:
    name, label, split, group, status = video
    failed = status == "failed"
    return {
        "video_id": name,
        "uri": f"/videos/{name}.mp4",
        "fingerprint": f"f-{name}",
        "label": label,
        "split": split,
        "group": group,
        "status": status,
        "error_kind": "unreadable" if failed else None,
        "error_message": "broken" if failed else None,
    }


def numbers(name: str, family: str) -> list[float]:
    """Feature k of video v3 is 3 + k / 1000, and motion's the negative."""
    sign = -1 if family == "motion" else 1
    return [sign * (int(name[1:]) + k / 1000) for k in range(features.FAMILIES[family].length)]


def features_run(out: str, videos: Sequence[Video] = VIDEOS, settings: Settings = FEATURES) -> str:
    rows = []
    for video in videos:
        row = head(video)
        if video[-1] == "ok":
            row |= {f: numbers(video[0], f) for f in settings.families} | {"num_frames": 7}
        rows.append(row)
    return publish(out, "features", settings, rows, "extraction")


def pixels(name: str, clip: int) -> np.ndarray:
    return np.full((2, 4, 4, 3), 10 * int(name[1:]) + clip, np.uint8)


def clips_run(out: str) -> str:
    """Two clips of each video that is ok."""
    rows = []
    for video in VIDEOS:
        if video[-1] != "ok":
            rows.append(head(video))
            continue
        for clip in (0, 1):
            made = {"clip_index": clip, "pixels": pixels(video[0], clip).tobytes()}
            rows.append(head(video) | made)
    return publish(out, "clips", CLIPS, rows, "clip")


def ids(examples: Examples) -> list[str]:
    found: list[str] = examples.table["video_id"].to_pylist()
    return found


@pytest.fixture
def described(tmp_path: Path) -> Examples:
    return read_features(features_run(str(tmp_path / "features")))


@pytest.fixture
def cut(tmp_path: Path) -> Examples:
    return read_clips(clips_run(str(tmp_path / "clips")))


@pytest.mark.slow
def test_features_that_are_ok_and_labelled(place: str) -> None:
    found = read_features(features_run(join(place, "features")))
    assert ids(found) == ["v0", "v1", "v2", "v3", "v6", "v7"]
    assert found.families == ("temporal", "motion")
    assert Settings.from_json(found.settings) == FEATURES
    assert found.clips is None
    assert found.groups == ["g1", "g2", "g3", None, "g6", "g7"]
    expected = [numbers(v, "temporal") + numbers(v, "motion") for v in ids(found)]
    np.testing.assert_array_equal(found.matrix(), np.array(expected, np.float32))
    assert found.table["num_frames"].to_pylist() == [7] * 6


def test_families_are_chosen_in_the_order_given(tmp_path: Path) -> None:
    data = features_run(str(tmp_path / "features"))
    found = read_features(data, ("motion",))
    assert found.families == ("motion",)
    assert "temporal" not in found.table.column_names
    swapped = read_features(data, ("motion", "temporal")).of_split("val")
    expected = numbers("v2", "motion") + numbers("v2", "temporal")
    np.testing.assert_array_equal(swapped.matrix()[0], np.array(expected, np.float32))
    with pytest.raises(UserError, match="has no family color, only temporal motion"):
        read_features(data, ("motion", "color"))
    with pytest.raises(UserError, match="motoin"):
        read_features(data, ("motoin",))


def test_clips_and_their_pixels(cut: Examples) -> None:
    assert ids(cut) == [v for v in ("v0", "v1", "v2", "v3", "v6", "v7") for _ in (0, 1)]
    assert cut.table["clip_index"].to_pylist() == [0, 1] * 6
    assert cut.families == ()
    assert ClipSettings.from_json(cut.settings) == CLIPS
    assert cut.clips is not None
    # Unlabelled v4 is in the shard, so a row of the table is not a row of the pixels.
    train = cut.of_split("train")
    assert ids(train) == ["v0", "v0", "v1", "v1", "v3", "v3"]
    read = cut.clips.read(train.table["row"].to_numpy())
    expected = [pixels(v, clip) for v in ("v0", "v1", "v3") for clip in (0, 1)]
    np.testing.assert_array_equal(read, np.stack(expected))
    test = cut.of_split("test").table["row"].to_numpy()
    np.testing.assert_array_equal(cut.clips.read(test)[1], pixels("v7", 1))


def test_classes_are_those_of_split_train(described: Examples) -> None:
    assert described.class_names == ("jump", "run")  # clap is of a failed video
    assert ids(described.of_split("train")) == ["v0", "v1", "v3"]
    assert ids(described.of_split("val")) == ["v2"]
    assert ids(described.of_split("test")) == ["v7"]
    assert ids(described.of_split("tset")) == []
    train = described.of_split("train")
    targets = train.targets(("jump", "run"))
    assert targets.dtype == np.int64
    assert targets.tolist() == [1, 0, 1]
    assert train.targets(("run", "fall", "jump")).tolist() == [0, 2, 0]
    with pytest.raises(UserError, match="label 'run' is in no video of split train"):
        train.targets(("jump", "clap"))


@pytest.mark.parametrize("videos", [VIDEOS[:1], VIDEOS[2:3], VIDEOS[6:]])
def test_one_class_is_too_few(tmp_path: Path, videos: Sequence[Video]) -> None:
    found = read_features(features_run(str(tmp_path / "f"), videos))
    # No flag would help: there is nothing to tell apart.
    with pytest.raises(UserError, match=f"of one class, '{videos[0][1]}', .* add videos") as error:
        _ = found.class_names
    assert "--" not in str(error.value)


@pytest.mark.parametrize(("videos", "classes"), [(VIDEOS[:3:2], 1), (VIDEOS[2:3] + VIDEOS[7:], 0)])
def test_one_class_to_learn_is_too_few(
    tmp_path: Path, videos: Sequence[Video], classes: int
) -> None:
    found = read_features(features_run(str(tmp_path / "f"), videos))
    # Of two recordings no split has both classes in train and videos to judge.
    message = f"split train holds {classes} of the 2 classes, and 2 or more are needed: add record"
    with pytest.raises(UserError, match=message):
        _ = found.class_names
    labels = ("run", "jump") * 9
    more = [(f"v1{k}", label, "val", None, "ok") for k, label in enumerate(labels)]
    found = read_features(features_run(str(tmp_path / "more"), [*videos, *more]))
    with pytest.raises(UserError, match=r"derive other splits with --split-fractions 0\.\d"):
        _ = found.class_names


def test_no_labelled_row_is_refused(tmp_path: Path) -> None:
    data = features_run(str(tmp_path / "f"), VIDEOS[4:6])
    with pytest.raises(UserError, match="has no video that is both ok and labelled"):
        read_features(data)


def test_the_digest_tells_what_was_learnt_from(tmp_path: Path) -> None:
    def digest(name: str, videos: Sequence[Video], settings: Settings = FEATURES) -> str:
        return read_features(features_run(str(tmp_path / name), videos, settings)).digest

    first, second, *rest = VIDEOS
    before = digest("same", VIDEOS)
    assert len(before) == 12
    assert digest("again", VIDEOS) == before
    # What is not learnt from does not count.
    assert digest("failed", [video for video in VIDEOS if video[0] != "v5"]) == before
    changed = {
        "fewer": digest("fewer", VIDEOS[1:]),
        "label": digest("label", [("v0", "jump", *first[2:]), second, *rest]),
        "split": digest("split", [(*first[:2], "val", *first[3:]), second, *rest]),
        "group": digest("group", [(*first[:3], "g9", first[4]), second, *rest]),
        "settings": digest("settings", VIDEOS, dataclasses.replace(FEATURES, enhance="auto")),
    }
    assert len({before, *changed.values()}) == 6, changed


def test_runs_that_cannot_be_learnt_from(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"not a run folder.*jobs/extract\.py"):
        read_features(str(empty))
    with pytest.raises(UserError, match=r"not a run folder.*jobs/clips\.py"):
        read_clips(str(empty))
    features_folder = features_run(str(tmp_path / "f"))
    clips_folder = clips_run(str(tmp_path / "c"))
    with pytest.raises(UserError, match=r"holds clips, .* learns from features.*jobs/extract\.py"):
        read_features(clips_folder)
    with pytest.raises(UserError, match=r"holds features, .* learns from clips.*jobs/clips\.py"):
        read_clips(features_folder)
    (empty / "run.json").write_text('{"kind": "model"}')
    with pytest.raises(UserError, match="holds a model, and this model learns from features"):
        read_features(str(empty))
    for folder, read in (
        (features_folder, read_features),
        (clips_folder, read_clips),
    ):
        Path(folder, "_SUCCESS").unlink()
        with pytest.raises(UserError, match=r"no finished run|unfinished run"):
            read(folder)


# Answers


class Brightness(torch.nn.Module):
    """Logits (mean, 0) of a clip of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        mean = clips.mean(dim=(1, 2, 3, 4)) * self.scale
        return torch.stack([mean, torch.zeros_like(mean)], dim=1)


class FirstNumber:
    """A fitted model of two classes: the first number is the probability of the second one."""

    n_features_in_ = 4
    classes_ = np.array([0, 1])

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        return np.stack([1 - rows[:, 0] / 10, rows[:, 0] / 10], axis=1)


def deep() -> DeepModel:
    return DeepModel(
        name="brightness",
        class_names=("bright", "dark"),
        network=Brightness(),
        preprocessing=Preprocessing(num_frames=2, size_px=4, mean=(0.0,) * 3, std=(1.0,) * 3),
        clip=CLIPS,
        info={},
    )


def simple() -> ClassicalModel:
    return ClassicalModel(
        name="first_number",
        class_names=("a", "b"),
        pipeline=FirstNumber(),
        families=("temporal",),
        features=FEATURES,
        info={},
    )


def test_a_deep_model_answers_for_clips(cut: Examples) -> None:
    train = cut.of_split("train")
    found = judging.predict(deep(), train)
    value = np.array([0, 1, 10, 11, 30, 31]) / 255
    np.testing.assert_allclose(found[:, 0], 1 / (1 + np.exp(-value)), rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert judging.predict(deep(), cut.of_split("none")).shape == (0, 2)


def test_a_classical_model_answers_for_features(described: Examples) -> None:
    found = judging.predict(simple(), described.of_split("train"))
    np.testing.assert_allclose(found[:, 1], [0, 0.1, 0.3], atol=1e-7)


def test_a_model_is_not_given_the_other_ones_rows(described: Examples, cut: Examples) -> None:
    with pytest.raises(UserError, match="first_number learns from features, not clips"):
        judging.predict(simple(), cut)
    with pytest.raises(UserError, match="brightness learns from clips, not features"):
        judging.predict(deep(), described)


def test_a_video_is_judged_by_the_mean_of_its_clips(cut: Examples) -> None:
    train = cut.of_split("train")
    # Clips of v0, v0, v1, v1, v3, v3.
    given = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.4, 0.6], [1, 0], [0.1, 0.9]])
    judged = judge(train.table, given)
    assert judged.video_ids == ["v0", "v1", "v3"]
    assert judged.uris == ["/videos/v0.mp4", "/videos/v1.mp4", "/videos/v3.mp4"]
    assert judged.labels == ["run", "jump", "run"]
    assert judged.groups == ["g1", "g2", None]
    np.testing.assert_allclose(judged.probabilities, [[0.6, 0.4], [0.3, 0.7], [0.55, 0.45]])
    metrics = judged.metrics(("run", "jump"))
    assert metrics["num_videos"] == 3
    assert metrics["accuracy"] == 1


def test_clips_of_a_video_need_not_be_neighbours(cut: Examples) -> None:
    train = cut.of_split("train")
    order = [0, 2, 4, 1, 3, 5]
    given = np.arange(12, dtype=float).reshape(6, 2)
    judged = judge(train.table.take(order), given[order])
    assert judged.video_ids == ["v0", "v1", "v3"]
    np.testing.assert_allclose(judged.probabilities, [[1, 2], [5, 6], [9, 10]])
    assert judged.labels == ["run", "jump", "run"]
