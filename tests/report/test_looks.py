"""What networks are seen to look at, and why some are not."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.made_runs import clips_run
from tests.report.deep_runs import (
    FRAMES,
    SIDE_PX,
    clips_folder,
    judged_network,
    network_folder,
    runs_of,
)
from vidray.models.attention import attend
from vidray.models.folder import DeepModel, load
from vidray.models.grad_cam import grad_cam
from vidray.report.inside import looks
from vidray.report.inside.looks import chosen_videos, clips_of, look_into
from vidray.report.reading import read
from vidray.report.runs import Runs
from vidray.tables.shards import Clips


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("looks")
    clips_folder(out / "clips")
    network_folder(out / "resnet18_attention", "resnet18_attention")
    return out


def made(folders: Path) -> Runs:
    judged = judged_network(folders / "resnet18_attention", folders / "clips")
    return runs_of([judged], folders / "clips")


def test_the_surest_errors_and_the_surest_right_answers_are_chosen(folders: Path) -> None:
    judged = made(folders).judged[0]
    everything = set(judged.video_ids)
    assert chosen_videos(judged, everything) == [9, 5, 3, 15, 14, 13]
    assert chosen_videos(judged, everything - {"v009", "v015"}) == [5, 3, 0, 14, 13, 12]
    assert chosen_videos(judged, {"v009", *(f"v{k:03}" for k in range(10, 16))}) == [
        9, 15, 14, 13, 12, 11,
    ]  # fmt: skip
    assert chosen_videos(judged, {"v000", "v003", "v005", "v009", "v015"}) == [9, 5, 3, 0, 15]
    assert chosen_videos(judged, set()) == []


def test_the_clips_are_those_that_it_was_judged_on(folders: Path, tmp_path: Path) -> None:
    runs = made(folders)
    judged = runs.judged[0]
    found = clips_of(judged, runs)
    assert found is not None
    assert found.out == str(folders / "clips")
    moved = {"config": {**judged.config, "data": "/elsewhere/clips"}}
    assert clips_of(dataclasses.replace(judged, report=moved), runs) == found
    other = {"config": {**judged.config, "data": "/elsewhere/others"}}
    assert clips_of(dataclasses.replace(judged, report=other), runs) is None
    for wrong in ({}, {"data": 3}, {"data": ""}, {"data": None}):
        assert clips_of(dataclasses.replace(judged, report={"config": wrong}), runs) is None
    twice = dataclasses.replace(runs, clips=(found, dataclasses.replace(found, out="/b/clips")))
    assert clips_of(dataclasses.replace(judged, report=moved), twice) is None


@pytest.mark.slow
def test_looks_are_the_networks_own(folders: Path) -> None:
    runs = made(folders)
    found = look_into(runs.judged[0], runs.clips[0])
    assert found.problem == ""
    assert [look.uri for look in found.looks] == [
        f"/videos/v{k:03}.mp4" for k in (9, 5, 3, 15, 14, 13)
    ]
    assert [look.is_right for look in found.looks] == [False] * 3 + [True] * 3
    assert "average over the frames" in found.weights_are
    assert found.maps_are.startswith("Grad-CAM")
    model, clips = load(str(folders / "resnet18_attention")), Clips(str(folders / "clips"))
    assert isinstance(model, DeepModel)
    for look, seen in zip(found.looks, found.frames_seen, strict=True):
        video = Path(look.uri).stem
        row = clips.table["video_id"].to_pylist().index(video)
        pixels = clips.read(np.array([row]))
        np.testing.assert_array_equal(look.frames, pixels[0])
        inputs = model.preprocessing.to_input(torch.from_numpy(pixels))
        attention = attend(model.network, inputs)
        output = model.class_names.index(look.label)
        maps = grad_cam(model.network, inputs, np.array([output]), least_side=4)
        assert attention is not None
        assert maps is not None
        np.testing.assert_allclose(look.weights, attention.frames[0], atol=1e-6)
        np.testing.assert_allclose(look.maps, maps.maps[0], atol=1e-6)
        assert abs(seen - attention.frames_seen[0]) < 1e-4
        assert look.places == (4, 4)
        assert look.clip == "1 of 1"


@pytest.mark.slow
def test_of_several_clips_the_one_that_says_most_is_shown(folders: Path, tmp_path: Path) -> None:
    rows = [
        {"video_id": "v009", "uri": "/videos/v009.mp4", "fingerprint": "f", "label": label,
         "split": "test", "group": "g", "status": "ok"}
        for label in ("jump", "run", "jump")
    ]  # fmt: skip
    clips_run(tmp_path / "clips", frames=FRAMES, size_px=SIDE_PX, rows=rows)
    runs = made(folders)
    given = read([str(tmp_path / "clips")]).clips[0]
    (look,) = look_into(runs.judged[0], given).looks
    model = load(str(folders / "resnet18_attention"))
    assert isinstance(model, DeepModel)
    pixels = Clips(str(tmp_path / "clips")).read(np.arange(3))
    best = int(model.predict(pixels)[:, model.class_names.index(look.label)].argmax())
    assert look.clip == f"{best + 1} of 3"
    np.testing.assert_array_equal(look.frames, pixels[best])


@pytest.mark.slow
def test_a_slow_network_is_looked_into_at_fewer_videos(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "_MOST_SECONDS", 0.0)
    runs = made(folders)
    found = look_into(runs.judged[0], runs.clips[0])
    assert len(found.looks) == 1
    assert found.problem.startswith("Only 1 of 6 videos: each takes")


def test_a_network_too_large_for_a_page_is_not_loaded(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "_MOST_WEIGHTS_BYTES", 1 << 20)
    runs = made(folders)
    found = look_into(runs.judged[0], runs.clips[0])
    assert found.looks == ()
    assert "GB, too large for a page" in found.problem


def test_a_damaged_model_is_said(folders: Path, tmp_path: Path) -> None:
    runs = made(folders)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.json").write_bytes((folders / "resnet18_attention/model.json").read_bytes())
    assert runs.judged[0].model is not None
    model = dataclasses.replace(runs.judged[0].model, out=str(broken))
    judged = dataclasses.replace(runs.judged[0], model=model)
    missing = look_into(judged, runs.clips[0])
    assert missing.looks == ()
    assert missing.problem.startswith("It cannot be looked into: ")
    (broken / "weights.safetensors").write_bytes(b"\x10" + bytes(100))
    damaged = look_into(judged, runs.clips[0])
    assert damaged.looks == ()
    assert damaged.problem.startswith("It cannot be looked into: ")


@pytest.mark.slow
def test_clips_that_were_cut_otherwise_are_said(folders: Path, tmp_path: Path) -> None:
    clips_run(tmp_path / "clips", 16, frames=FRAMES, size_px=32)
    runs = made(folders)
    other = read([str(tmp_path / "clips")]).clips[0]
    found = look_into(runs.judged[0], other)
    assert "cut with other settings than the model's" in found.problem
    assert found.looks == ()


@pytest.mark.slow
def test_a_clips_run_without_its_pixels_is_said(folders: Path, tmp_path: Path) -> None:
    clips_folder(tmp_path / "clips")
    given = read([str(tmp_path / "clips")]).clips[0]
    for shard in (tmp_path / "clips" / "clips").glob("*.npy"):
        shard.unlink()
    found = look_into(made(folders).judged[0], given)
    assert found.looks == ()
    assert "cannot be looked into" in found.problem
