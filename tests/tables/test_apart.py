"""Where a job may write: an empty folder, or one of its own kind, apart from what it lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from jobs import clips, evaluate, extract, label, study, train
from tests.models.test_folder import fitted
from tests.video_writer import write_video
from tune import search
from vidray import storage
from vidray.errors import UserError
from vidray.evaluation.study_settings import StudySettings
from vidray.models.folder import save_classical
from vidray.search.settings import SearchSettings
from vidray.storage import join
from vidray.tables import run_folder
from vidray.tables.apart import check_apart

KINDS = ("features", "clips", "label", "model", "evaluation", "study", "search")


def _report(kind: str) -> bytes:
    """run.json of a job."""
    name = "table" if kind in ("features", "clips") else "kind"
    return json.dumps({name: kind, "state": "finished"}).encode()


def _contents(place: str) -> dict[str, bytes]:
    files = storage.list_files(place, hidden=True)
    return {info.uri: storage.read_bytes(info.uri) for info in files}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_free_or_of_the_same_kind(place: str, kind: Any) -> None:
    out = join(place, "out")
    assert run_folder.check(out, kind) is None
    for other in KINDS:
        storage.write_bytes(join(out, "run.json"), _report(other))
        if other == kind:
            found = run_folder.check(out, kind)
            assert found is not None
            assert found["state"] == "finished"
        else:
            with pytest.raises(UserError, match=r"holds .*, not .*: choose another --out"):
                run_folder.check(out, kind)
    storage.remove_tree(join(out, "run.json"), inside=out)
    for name in ("a.mp4", "videos.parquet", "labels/a.mp4", "_runs/x"):
        storage.write_bytes(join(place, "full", name), b"mine")
        with pytest.raises(UserError, match=r"holds \S+ but no run.json: choose another --out"):
            run_folder.check(join(place, "full"), kind)
        storage.remove_tree(join(place, "full"), inside=place)
    storage.write_bytes(join(place, "file"), b"")
    with pytest.raises(UserError, match="is a file: --out must name a folder"):
        run_folder.check(join(place, "file"), kind)


def test_a_label_folder_whose_first_run_was_killed_is_its_own(place: str) -> None:
    """Older label jobs wrote run.json only after their first commit."""
    for name in ("_runs/set=m-1/k.claim", "labels/set=m-1/commit-000001.parquet", ".a.draft"):
        storage.write_bytes(join(place, name), b"")
        assert run_folder.check(place, "label") == {}
    for kind in ("features", "model"):
        with pytest.raises(UserError, match=r"but no run.json"):
            run_folder.check(place, kind)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("videos", "out", "how"),
    [
        ("v", "v", "is --videos itself"),
        ("v/", "v", "is --videos itself"),
        ("v", "v/out", "lies inside --videos"),
        ("v", "v/_out", "lies inside --videos"),
        ("v", "v/a/../deep/out", "lies inside --videos"),
        ("v/clips", "v", "lies around --videos"),
        ("v/list.csv", "v", "lies around --videos"),
        ("v/*.mp4", "v", "is --videos itself"),
        ("v/a-*/*.mp4", "v", "is --videos itself"),
        ("v/clips/**", "v", "lies around --videos"),
        ("v", "w", None),
        ("v", "v2", None),
        ("v/a.mp4", "v2/out", None),
        ("v/2026-*/*.mp4", "v/labels", None),
        ("list.csv", "out", None),
    ],
)
def test_a_job_does_not_see_what_it_writes(
    place: str, videos: str, out: str, how: str | None
) -> None:
    if ".." in out and storage.is_bucket(place):
        pytest.skip("a key in a bucket is taken as it is written")
    where = f"{place}/{out}"
    if how is None:
        assert run_folder.check(where, "label", videos=f"{place}/{videos}") is None
        return
    with pytest.raises(UserError, match=rf"--out .* {how}, .* choose an --out beside it"):
        run_folder.check(where, "label", videos=f"{place}/{videos}")


def test_links_and_other_spellings_are_seen_through(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "v")
    for videos, out in (
        (tmp_path / "v", tmp_path / "alias" / "out"),
        (tmp_path / "alias", tmp_path / "v" / "out"),
        (f"file://{tmp_path}/v", tmp_path / "v"),
        (tmp_path / "w" / ".." / "v", tmp_path / "v"),
        ("s3a://b/v", "s3://b/v/out"),
        ("s3://b", "s3://b/out"),
    ):
        with pytest.raises(UserError, match="choose an --out beside it"):
            check_apart(str(out), str(videos))


def _jobs(videos: str, model: str, out: str) -> dict[str, tuple[Callable[[Any], None], Any]]:
    """Every job by the kind of its folder, with inputs that are as they should be or not there."""
    data = join(model, "nowhere")
    return {
        "features": (extract.main, extract.ExtractConfig(videos=videos, out=out)),
        "clips": (clips.main, clips.ClipsConfig(videos=videos, out=out)),
        "label": (label.main, label.LabelConfig(model=model, videos=videos, out=out)),
        "model": (train.main, train.TrainConfig(data=data, model="knn", out=out)),
        "evaluation": (
            evaluate.main,
            evaluate.EvaluateConfig(model=model, data=data, out=out, overwrite=True),
        ),
        "study": (
            study.main,
            study.StudyConfig(
                settings=StudySettings(models=("knn",), features=data), out=out, overwrite=True
            ),
        ),
        "search": (
            search.main,
            search.SearchConfig(
                data=(data,), search=SearchSettings(kinds=("classical",)), out=out, overwrite=True
            ),
        ),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_job_refuses_first(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos, model, out = (str(tmp_path / name) for name in ("videos", "model", "out"))
    Path(videos, "run").mkdir(parents=True)
    write_video(Path(videos, "run", "a.avi"), num_frames=20)
    made = fitted("knn")
    save_classical(model, made.info, made.pipeline)
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray was started"))
    main, config = _jobs(videos, model, out)[kind]
    for other in KINDS:
        if other != kind:
            storage.write_bytes(join(out, "run.json"), _report(other))
            storage.write_bytes(join(out, "features", "part-00000.parquet"), b"theirs")
            before = _contents(str(tmp_path))
            with pytest.raises(UserError, match=r"holds .*, not .*: choose another --out"):
                main(config)
            assert _contents(str(tmp_path)) == before
    storage.remove_tree(join(out, "run.json"), inside=out)
    with pytest.raises(UserError, match=r"holds features but no run.json: choose another --out"):
        main(config)
    if kind in ("features", "clips", "label"):
        for folder in (videos, join(videos, "out")):
            main, config = _jobs(videos, model, folder)[kind]
            with pytest.raises(UserError, match="choose an --out beside it"):
                main(config)
        assert list(_contents(videos)) == [join(videos, "run", "a.avi")]


def test_a_model_of_a_hostile_name_writes_nothing(tmp_path: Path) -> None:
    videos, model, out = (str(tmp_path / name) for name in ("videos", "model", "out"))
    Path(videos, "run").mkdir(parents=True)
    write_video(Path(videos, "run", "a.avi"), num_frames=20)
    made = fitted("knn")
    for name in ("x/../../escaped", "/tmp/x", "..", "", None, 5, ["x"]):
        save_classical(model, {**made.info, "name": name}, made.pipeline)
        before = _contents(str(tmp_path))
        with pytest.raises(UserError, match=r"the name of the model is .* must be 1 to 128 of"):
            label.main(label.LabelConfig(model=model, videos=videos, out=out))
        assert _contents(str(tmp_path)) == before
