"""Features of a frozen network: equal to those computed by hand, and carried by the model."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from tests.made_runs import publish
from tests.models.test_folder import fitted
from tests.video_writer import read_number, write_video
from vidray import features, models, storage
from vidray.distributed.resources import Resources
from vidray.errors import ModelError, UserError
from vidray.evaluation import judging, teaching
from vidray.evaluation.judge_settings import JudgeSettings
from vidray.features.embedding import Embedding, Views, over_views
from vidray.features.extraction import Settings, describe_video
from vidray.labelling import embedding, labeller, predictor
from vidray.labelling.embed_options import EmbedOptions
from vidray.labelling.embedding import EmbedSettings
from vidray.labelling.options import LabelOptions
from vidray.labelling.settings import LabelSettings, name_and_digest
from vidray.learning.examples import read_features
from vidray.learning.train_config import FoldSettings, LearningSettings
from vidray.models import classical
from vidray.models.folder import load_network, save_classical, save_deep
from vidray.models.matrices import family_columns, feature_names, to_matrix
from vidray.models.model_files import read_info
from vidray.models.networks.build import build
from vidray.models.preprocess import IMAGENET, Preprocessing
from vidray.tables import run_folder
from vidray.video.clips import ClipSettings, Fit, read_clips
from vidray.video.decode import Video

CLASSES = ("jump", "run")
SIDE_PX, FRAMES, SIZE = 32, 4, 512
NETWORK = {"name": "resnet18_avg", "num_classes": 2, "frames": FRAMES, "size_px": SIDE_PX}
PREPROCESSING = Preprocessing(num_frames=FRAMES, size_px=SIDE_PX, mean=IMAGENET[0], std=IMAGENET[1])
DIGEST = "0123456789ab"


def save_network(folder: Path, *, seed: int = 0, fit: Fit = "squash", clips: int = 1) -> str:
    """The model folder of a small network as it begins."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(**NETWORK).network
    clip = ClipSettings(
        frames_per_clip=FRAMES, size_px=SIDE_PX, fit=fit, clips_per_video=clips,
        resize_px=(40,) if fit == "resize_crop" else (),
    )  # fmt: skip
    info = {
        "family": "deep", "name": "resnet18_avg", "class_names": CLASSES, "network": NETWORK,
        "preprocessing": PREPROCESSING, "clip": clip,
    }  # fmt: skip
    save_deep(str(folder), info, network.state_dict())
    return str(folder)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_network(tmp_path_factory.mktemp("network") / "resnet18")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Sixteen that differ, some of them with fewer frames than are wanted."""
    folder = tmp_path_factory.mktemp("videos")
    return [
        write_video(folder / f"{k}.mp4", num_frames=7 + 9 * (k % 4), first_number=50 * k)
        for k in range(16)
    ]


def settings_for(where: str, **changed: Any) -> EmbedSettings:
    """The settings of a network of ``save_network``, which is not asked for its size."""
    used = Embedding(model="resnet18_avg", digest=name_and_digest(where)[1], size=SIZE)
    extraction = Settings(
        families=(*changed.pop("families", ()), "embedding"),
        embedding=dataclasses.replace(used, **changed),
    )
    return EmbedSettings(extraction=extraction, network=where)


def planned(path: Path, **changed: Any) -> dict[str, Any]:
    """A row of VIDEOS."""
    info = storage.file_info(str(path))
    return {
        "video_id": path.stem, "uri": str(path), "size_bytes": info.size_bytes,
        "fingerprint": info.fingerprint, **changed,
    }  # fmt: skip


def row_of(batch: pa.RecordBatch) -> dict[str, Any]:
    (row,) = batch.to_pylist()
    return dict(row)


def by_hand(path: Path, where: str, *, clips: int = 4, crops: int = 1) -> NDArray[np.float64]:
    """Mean, maximum and deviation of the network without its head, without anything of vidray that
    the job takes: ``float64 (3 * SIZE,)``.
    """
    info = json.loads((Path(where) / "model.json").read_text())
    settings = dataclasses.replace(ClipSettings.from_json(info["clip"]), clips_per_video=clips)
    with Video(str(path)) as video:
        draw = path.stat().st_size
        pixels, _, _ = read_clips(video, str(path), settings, crops=crops, draw=draw)
    assert len(pixels) == clips * crops
    built = build(**NETWORK, weights=f"{where}/weights.safetensors")
    network: Any = built.network.eval()
    network.head = nn.Identity()
    mean, std = (np.array(colour, np.float32) for colour in IMAGENET)
    inputs = ((pixels.astype(np.float32) / 255 - mean) / std).transpose(0, 4, 1, 2, 3)
    with torch.no_grad():
        views = torch.from_numpy(np.ascontiguousarray(inputs))
        seen = torch.cat([network(view[None]) for view in views]).numpy().astype(np.float64)
    assert seen.shape == (clips * crops, SIZE)
    spread = np.sqrt(((seen - seen.mean(axis=0)) ** 2).mean(axis=0))
    return np.concatenate([seen.mean(axis=0), seen.max(axis=0), spread])


# The column


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fit", "clips", "crops"),
    [("squash", 4, 1), ("crop", 2, 3), ("resize_crop", 3, 1), ("resize_crop", 2, 3)],
)
def test_the_column_is_that_of_a_network_by_hand(
    fit: Fit, clips: int, crops: int, videos: list[Path], tmp_path: Path
) -> None:
    where = save_network(tmp_path / "network", fit=fit)
    settings = settings_for(where, clips=clips, crops=crops, families=("color",))
    describe = embedding.describe_videos(dataclasses.asdict(settings))
    plain = Settings(families=("color",))
    for path in videos[:4]:
        row = row_of(describe(planned(path)))
        assert (row["status"], row["config_digest"]) == ("ok", settings.digest)
        expected = by_hand(path, where, clips=clips, crops=crops)
        np.testing.assert_allclose(row["embedding"], expected, rtol=1e-5, atol=1e-5)
        assert np.min(row["embedding"][2 * SIZE :]) == 0 < np.max(row["embedding"][2 * SIZE :])
        # What lies beside it is as it is alone.
        alone = row_of(describe_video(planned(path), plain))
        del row["embedding"]
        assert repr({**alone, "config_digest": row["config_digest"]}) == repr(row)  # NaN is NaN.


def test_statistics_are_over_the_views() -> None:
    views = np.array([[1, 5], [3, 5], [8, -1]], np.float32)
    mean, std = views.mean(axis=0), [np.sqrt(78 / 9), np.sqrt(8)]
    np.testing.assert_allclose(over_views(views), [*mean, 8, 5, *std], rtol=1e-6)
    assert over_views(views[:1]).tolist() == [1, 5, 1, 5, 0, 0]
    assert over_views(views).dtype == np.float32


def test_every_number_has_a_name() -> None:
    used = Embedding(model="m", digest=DIGEST, size=3)
    names = feature_names(["flow", "embedding"], used)
    assert names[362:] == [
        *(f"embedding.mean[{k}]" for k in range(3)),
        *(f"embedding.max[{k}]" for k in range(3)),
        *(f"embedding.std[{k}]" for k in range(3)),
    ]
    columns = family_columns(["embedding", "color"], used)
    assert (columns["embedding"].tolist(), len(columns["color"])) == (list(range(9)), 432)
    kind = pa.list_(pa.float32(), 9)
    table = pa.table({"embedding": pa.array([list(range(9)), None], kind)})
    matrix = to_matrix(table, ["embedding"])
    assert matrix.shape == (2, 9)
    assert np.isnan(matrix[1]).all()
    with pytest.raises(UserError, match=r"no features embedding.*extract with --embed"):
        to_matrix(table.rename_columns(["flow"]), ["embedding"])
    with pytest.raises(UserError, match=r"a feature column is list<.*should be 0 float32"):
        to_matrix(pa.table({"embedding": pa.array([[1.0]])}), ["embedding"])
    for wrong in (features.column_names, features.get_family):
        with pytest.raises(UserError, match="--embed MODEL_DIR"):
            wrong("embedding")


def numbers_shown(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The number that each frame shows, ``float32 (V, T)``, in place of a network."""
    return np.array([[read_number(frame) for frame in view] for view in pixels], np.float32)


def test_views_are_spread_evenly_over_a_video_of_any_length(tmp_path: Path) -> None:
    """Of 70 seconds each view is the middle 4 of its stretch; of 50, the whole of it."""
    used = Embedding(model="m", digest=DIGEST, size=FRAMES, clips=3)
    settings = Settings(families=("embedding",), embedding=used)
    clip = ClipSettings(frames_per_clip=FRAMES, size_px=SIDE_PX)
    seen: list[NDArray[np.float32]] = []

    def embed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(numbers_shown(pixels))
        return seen[-1]

    for seconds, length in ((70, 4), (50, 50 / 3)):
        path = write_video(tmp_path / f"{seconds}.mp4", num_frames=10 * seconds, fps=10)
        row = row_of(describe_video(planned(path), settings, Views(clip=clip, embed=embed)))
        assert row["status"] == "ok", row["error_message"]
        middles = (np.arange(3) + 0.5) * seconds / 3
        within = (np.arange(FRAMES) + 0.5) / FRAMES - 0.5
        expected = 10 * (middles[:, None] + length * within)  # of (3, FRAMES) frames
        np.testing.assert_allclose(seen[-1], expected, atol=2)
        np.testing.assert_allclose(row["embedding"][:FRAMES], seen[-1].mean(axis=0), rtol=1e-6)
    # A stretch of a file is looked at alone.
    stretch = {"begin_seconds": 10.0, "end_seconds": 22.0}
    row = row_of(describe_video(planned(path, **stretch), settings, Views(clip=clip, embed=embed)))
    assert row["status"] == "ok"
    assert 100 <= seen[-1].min() < 110 < 210 < seen[-1].max() < 220


def test_a_network_of_another_size_is_a_fault_of_the_model(tmp_path: Path) -> None:
    used = Embedding(model="m", digest=DIGEST, size=7, clips=2)
    settings = Settings(families=("embedding",), embedding=used)
    views = Views(clip=ClipSettings(frames_per_clip=FRAMES, size_px=32), embed=numbers_shown)
    video = planned(write_video(tmp_path / "a.mp4", num_frames=9))
    with pytest.raises(ModelError, match="gives 2x4 numbers for 2 clips, and 7 each"):
        describe_video(video, settings, views)
    with pytest.raises(ValueError, match="give both, or neither"):
        describe_video(video, settings)


def test_a_failed_video_has_no_embedding(network: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    settings = settings_for(network)

    def never(_: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise AssertionError

    views = Views(clip=ClipSettings(), embed=never)
    row = row_of(describe_video(planned(tmp_path / "a.mp4"), settings.extraction, views))
    assert (row["status"], row["error_kind"], row["embedding"]) == ("failed", "unreadable", None)


@pytest.mark.slow
def test_a_network_elsewhere_gives_the_same_rows(network: str, videos: list[Path]) -> None:
    config = json.loads(json.dumps(dataclasses.asdict(settings_for(network, clips=9))))
    here = embedding.describe_videos(config)
    elsewhere = embedding.describe_videos(config, embedding.answer_questions(config))
    expected = [here(planned(path)) for path in videos[:4]]
    with ThreadPoolExecutor(4) as pool:  # Four who ask at once.
        found = list(pool.map(elsewhere, map(planned, videos[:4])))
    for one, other in zip(expected, found, strict=True):
        assert row_of(one)["status"] == "ok"
        assert one.equals(other)


# Settings


def test_runs_without_a_network_are_as_they_were() -> None:
    """Their digests, as vidray 1.1 made them, and their settings in run.json."""
    settings = Settings(families=("color", "flow"))
    assert (Settings().digest, settings.digest) == ("c826683c196c", "00251865f8bf")
    assert "embedding" not in settings.to_json()
    assert Settings.from_json(settings.to_json()) == settings
    assert Settings.from_json(dataclasses.asdict(settings)) == settings
    used = Embedding(model="m", digest=DIGEST, size=3)
    both = Settings(families=("flow", "embedding"), embedding=used)
    assert Settings.from_json(json.loads(json.dumps(both.to_json()))) == both
    assert both.only(("flow",)) == Settings(families=("flow",))
    assert both.only(("embedding",)).embedding == used
    assert both.schema.field("embedding").type == pa.list_(pa.float32(), 9)
    changed = [
        dataclasses.replace(both, embedding=dataclasses.replace(used, **change))
        for change in ({"digest": DIGEST[::-1]}, {"clips": 5}, {"precision": "bfloat16"})
    ]
    assert len({settings.digest for settings in (both, *changed)}) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"digest": "../../etc"}, "12 hex digits"),
        ({"model": "../m"}, "the name of the network"),
        ({"size": 0}, "size is 0"),
        ({"size": 1 << 20}, "size is 1048576"),
        ({"clips": 65}, "clips is 65: it must be 1 to 64"),
        ({"crops": 10}, "crops is 10: it must be 1 to 9"),
        ({"precision": "float16"}, "precision is 'float16': one of float32, bfloat16"),
    ],
)
def test_impossible_networks_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        Embedding(**{"model": "m", "digest": DIGEST, "size": 3, **change})


def test_families_and_network_are_given_together() -> None:
    used = Embedding(model="m", digest=DIGEST, size=3)
    with pytest.raises(UserError, match="embedding must be among them"):
        Settings(families=("flow",), embedding=used)
    with pytest.raises(UserError, match=r"--embed MODEL_DIR"):
        Settings(families=("embedding",))


@pytest.mark.slow
def test_the_command_looks_at_the_network_first(network: str, tmp_path: Path) -> None:
    """In a child process, which finds out how many numbers there will be."""
    resources = Resources(memory_gib=3)

    def found(where: str, preset: str = "default", **own: Any) -> EmbedSettings:
        options = EmbedOptions(embed=where, **own)
        return embedding.settings_of(options, Settings(families=()), preset, resources)

    alone = found(network).extraction
    digest = name_and_digest(network)[1]
    assert alone.families == ("embedding",)
    assert alone.embedding == Embedding(model="resnet18_avg", digest=digest, size=SIZE, clips=4)
    # A preset that is not the default is named, too; and a model of more clips has more.
    many = found(save_network(tmp_path / "many", clips=6), preset="notebook").extraction
    assert many.families == (*features.PRESETS["notebook"], "embedding")
    assert many.embedding is not None
    assert many.embedding.clips == 6

    with pytest.raises(UserError, match=r"embed_crops is 3.*has learnt from whole pictures"):
        found(network, embed_crops=3)
    made = fitted("knn")
    save_classical(str(tmp_path / "knn"), made.info, made.pipeline)
    with pytest.raises(UserError, match="knn, a classical model: give a deep one"):
        found(str(tmp_path / "knn"))
    with pytest.raises(UserError, match="is not a model folder"):
        found(str(tmp_path / "nowhere"))
    large = json.loads((Path(network) / "model.json").read_text())
    large["clip"] |= {"frames_per_clip": 64, "size_px": 512}
    shutil.copytree(network, tmp_path / "large")
    (tmp_path / "large" / "model.json").write_text(json.dumps(large))
    with pytest.raises(UserError, match=r"64 views of a video take 9.0 GiB, and a worker has 3.0"):
        found(str(tmp_path / "large"), embed_clips=64)


# Models


@pytest.fixture(scope="module")
def run(network: str, videos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished extraction of the videos with color and embedding, of its own copy of the
    network, in ``network`` beside it.
    """
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(network, folder / "network")
    settings = settings_for(str(folder / "network"), families=("color",))
    describe = embedding.describe_videos(dataclasses.asdict(settings))
    rows = []
    for k, path in enumerate(videos):
        of_video = {
            "label": CLASSES[k % 2], "group": f"g{k}",
            "split": ("train", "train", "train", "val", "val", "test", "test", "train")[k // 2],
        }  # fmt: skip
        rows.append(row_of(describe(planned(path, **of_video))))
    publish(
        str(folder / "features"), "features", settings.extraction, rows, "extraction",
        embed=settings.network,
    )  # fmt: skip
    videos_file = folder / "features" / "videos.parquet"
    listed = pq.read_table(videos_file)
    sizes = pa.array([path.stat().st_size for path in videos], pa.int64())
    pq.write_table(
        listed.set_column(listed.schema.get_field_index("size_bytes"), "size_bytes", sizes),
        videos_file,
    )
    return folder


def taught(run: Path, out: Path, *families: str) -> Path:
    """A model folder, as jobs/train.py leaves it."""
    examples = read_features(str(run / "features"), families)
    own = dataclasses.replace(LearningSettings().classical, families=families)
    settings = LearningSettings(classical=own)
    lesson = teaching.lesson_of(
        "logistic_regression", examples, settings, folds=FoldSettings(folds=0),
        on_rows=lambda _: None,
    )  # fmt: skip
    lesson.check()
    folder = teaching.model_run(lesson, data=str(run / "features"), out=str(out))
    folder.claim()
    folder.finish(**lesson.teach(folder).report)
    return out


@pytest.fixture(scope="module")
def model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught(run, tmp_path_factory.mktemp("model") / "model", "embedding")


def label_settings(model: Path) -> LabelSettings:
    digest = name_and_digest(str(model))[1]
    return LabelSettings(model=str(model), model_digest=digest, options=LabelOptions())


@pytest.mark.slow
def test_logistic_regression_of_it_is_that_of_features_by_hand(
    run: Path, model: Path, videos: list[Path]
) -> None:
    where = str(run / "network")
    x = np.stack([by_hand(path, where) for path in videos]).astype(np.float32)
    examples = read_features(str(run / "features"), ["embedding"])
    np.testing.assert_allclose(examples.matrix(), x, rtol=1e-5, atol=1e-5)
    split = np.array(examples.table["split"].to_pylist())
    train = np.flatnonzero(split == "train")
    y, groups = examples.targets(CLASSES)[train], [examples.groups[k] for k in train]

    def answers(matrix: NDArray[np.float32], *, calibrated: bool) -> NDArray[np.float64]:
        pipeline = classical.fit(
            "logistic_regression", matrix[train], y, groups, CLASSES, seed=0, calibrated=calibrated
        )
        return classical.predict(pipeline, matrix)

    # Calibration on eight videos turns a difference of 1e-6 into one of 1e-4.
    found, expected = (answers(m, calibrated=False) for m in (examples.matrix(), x))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    loaded = models.load(str(model))
    assert isinstance(loaded, models.ClassicalModel)
    found = loaded.predict(examples.table)
    np.testing.assert_allclose(found, answers(examples.matrix(), calibrated=True), atol=1e-9)
    assert np.ptp(found[:, 0]) > 1e-3
    importance = json.loads((model / "importance.json").read_text())
    assert [one["name"] for one in importance["families"]] == ["embedding"]
    assert all(
        re.fullmatch(r"embedding\.(mean|max|std)\[\d+\]", one["name"])
        for one in importance["features"]
    )


@pytest.mark.slow
def test_it_labels_when_the_network_it_was_made_by_is_gone(
    run: Path, videos: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    report = json.loads((tmp_path / "run" / "features" / "run.json").read_text())
    report["config"]["embed"] = str(tmp_path / "run" / "network")
    (tmp_path / "run" / "features" / "run.json").write_text(json.dumps(report))
    both = taught(tmp_path / "run", tmp_path / "both", "color", "embedding")
    shutil.rmtree(tmp_path / "run" / "network")

    loaded = models.load(str(both))
    assert isinstance(loaded, models.ClassicalModel)
    examples = read_features(str(run / "features"))
    expected = loaded.predict(examples.table)
    config = dataclasses.asdict(label_settings(both))
    here = labeller.label_videos(config)
    elsewhere = labeller.label_videos(config, predictor.answer_questions(config))
    for path, probabilities in zip(videos, expected, strict=True):
        video = planned(path, attempts=1, true_label=None)
        row = row_of(here(video))
        assert row["status"] == "ok", row["error_message"]
        np.testing.assert_allclose(row["probabilities"], probabilities, atol=1e-7)
        assert row == row_of(elsewhere(video))


@pytest.mark.slow
def test_judging_counts_the_network(run: Path, model: Path, tmp_path: Path) -> None:
    settings = JudgeSettings(timed_videos=2)
    found = judging.evaluate(str(model), str(run / "features"), str(tmp_path / "out"), settings)
    own = load_network(str(model))
    cost = found.metrics["cost"]
    assert cost["parameters"] == sum(p.numel() for p in own.network.parameters())
    assert cost["size_bytes"] > 4 * cost["parameters"]
    assert cost["flops_per_clip"] > 1e8
    assert cost["frames_per_second"] == pytest.approx(4 * FRAMES / cost["seconds_per_video"])
    assert cost["end_to_end_seconds_per_video"] > 0.5 * cost["seconds_per_video"] > 0
    # A model of other families asks nothing of the network.
    plain = taught(run, tmp_path / "plain", "color")
    assert "embedding" not in read_info(str(plain))["features"]
    assert not (plain / "embedding").exists()
    found = judging.evaluate(str(plain), str(run / "features"), str(tmp_path / "2"), settings)
    assert found.metrics["cost"]["parameters"] is None


@pytest.mark.slow
def test_a_network_that_is_gone_or_changed_is_said_before_training(
    run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run / "features", tmp_path / "features")
    file = tmp_path / "features" / "run.json"
    report = json.loads(file.read_text())

    def refused(where: object) -> str:
        report["config"]["embed"] = where
        file.write_text(json.dumps(report))
        with pytest.raises(UserError) as refusal:
            taught(tmp_path, tmp_path / "model", "color", "embedding")
        assert not (tmp_path / "model").exists()
        return str(refusal.value)

    gone = refused(str(tmp_path / "nowhere"))
    assert "nowhere, a model carries its network, and it cannot be had" in gone
    assert "put it back, or extract again with --embed of another one" in gone
    other = refused(save_network(tmp_path / "other", seed=1))
    assert re.search(r"other has changed since it made the embeddings \(\w{12} -> \w{12}\)", other)
    assert "does not say where" in refused(None)
    # Without it nothing is missing.
    assert taught(tmp_path, tmp_path / "model", "color").exists()


@pytest.mark.slow
def test_a_network_changed_under_a_job_stops_it(run: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "network", tmp_path / "network")
    config = dataclasses.asdict(settings_for(str(tmp_path / "network")))
    shutil.copytree(model, tmp_path / "model")
    labels = dataclasses.asdict(label_settings(tmp_path / "model"))
    save_network(tmp_path / "network", seed=1)
    for work in (embedding.describe_videos, embedding.answer_questions):
        with pytest.raises(UserError, match="network has changed since the job began"):
            work(config)
    # And that a model carries, whose digest covers it.
    before = name_and_digest(str(tmp_path / "model"))[1]
    save_network(tmp_path / "model" / "embedding", seed=1)
    assert name_and_digest(str(tmp_path / "model"))[1] != before
    for work in (labeller.label_videos, predictor.answer_questions):
        with pytest.raises(UserError, match=r"embedding holds the network \w{12}, and the model w"):
            work(labels)


@pytest.mark.slow
def test_a_carried_network_is_looked_at_as_any_model(model: Path, tmp_path: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(UserError, match=message):
            models.load(str(tmp_path / "model"))
        with pytest.raises(UserError, match=message):
            load_network(str(tmp_path / "model"))

    def fresh() -> Path:
        shutil.rmtree(tmp_path / "model", ignore_errors=True)
        return Path(shutil.copytree(model, tmp_path / "model"))

    shutil.rmtree(fresh() / "embedding")
    refused(r"not a whole model folder \(no embedding/model.json\)")
    made = fitted("knn")
    save_classical(str(fresh() / "embedding"), made.info, made.pipeline)
    refused("holds a classical model: a network must be there")
    (fresh() / "embedding" / "model.json").write_text("{}")
    refused("embedding/model.json is not what a training writes")
    info = json.loads((fresh() / "model.json").read_text())
    for change, message in {
        "digest": ("x", "12 hex digits"), "size": (3.5, "a whole number"),
        "clips": (10**9, "clips is 1000000000"), "uri": ("/etc", "unknown key"),
    }.items():  # fmt: skip
        wrong = json.loads(json.dumps(info))
        wrong["features"]["embedding"][change] = message[0]
        (tmp_path / "model" / "model.json").write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=re.escape(message[1])):
            read_info(str(tmp_path / "model"))
    for value in ("x", [1]):
        wrong = {**info, "features": {**info["features"], "embedding": value}}
        (tmp_path / "model" / "model.json").write_text(json.dumps(wrong))
        with pytest.raises(UserError, match=r"features.embedding is .*must be an object or null"):
            read_info(str(tmp_path / "model"))
    # Of another size than it says: its pipeline takes no such rows.
    info["features"]["embedding"]["size"] = 5
    (tmp_path / "model" / "model.json").write_text(json.dumps(info))
    with pytest.raises(ModelError):
        models.load(str(tmp_path / "model"))


def test_overwriting_a_model_removes_the_network_it_carried(tmp_path: Path) -> None:
    folder = run_folder.RunFolder(out=str(tmp_path), kind="model", same={"digest": "d"})
    folder.claim()
    (tmp_path / "embedding").mkdir()
    (tmp_path / "embedding" / "model.json").write_text("{}")
    folder.overwrite()
    assert not (tmp_path / "embedding").exists()
