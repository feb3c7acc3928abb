"""The loop of jobs/label.py without Ray: real labels, made in this process, part by part."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs import label
from tests.models.test_folder import fitted
from tests.video_writer import write_video
from vidray.distributed import pipeline
from vidray.distributed.resources import Resources
from vidray.labelling import commits, stages
from vidray.labelling.settings import LabelOptions
from vidray.models.folder import save_classical
from vidray.tables import versions
from vidray.tables.runs import Run
from vidray.video.decode import Limits


def _make_parts_here(
    run: Run, videos: pa.Table, settings: Any, _resources: Resources, *_: Any
) -> dict[str, Any]:
    """As ``pipeline.make_all_parts``, one video after another."""
    work = stages.label_videos(dataclasses.asdict(settings))
    numbers = run.part_numbers(videos)
    for part in numbers.unique().to_pylist():
        mine = videos.filter(pc.equal(numbers, part)).to_pylist()
        made = [work(video).replace_schema_metadata(None) for video in mine]
        run.write_part(part, pa.Table.from_batches(made, settings.schema))
    return {
        "counts": run.check(videos),
        "seconds": {"startup": 0.0, "working": 1.0, "in_workers": {}},
        "videos_per_second": float(len(videos)),
        "cost_per_thousand_videos": None,
    }


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> label.LabelConfig:
    monkeypatch.setattr(pipeline, "make_all_parts", _make_parts_here)
    made = fitted("knn")
    save_classical(str(tmp_path / "model"), made.info, made.pipeline)
    (tmp_path / "videos").mkdir()
    for name, frames in (("short", 20), ("long", 100)):
        write_video(tmp_path / "videos" / f"{name}.avi", num_frames=frames)
    places = {name: str(tmp_path / name) for name in ("model", "videos", "out")}
    return label.LabelConfig(**places)


def test_run_json_says_what_the_driver_took(config: label.LabelConfig) -> None:
    label.main(config)
    report = json.loads((Path(config.out) / "run.json").read_text())
    assert report["listed"] == 2
    assert report["seconds"]["listing"] > 0
    assert report["seconds"]["committing"] > 0
    assert report["seconds"]["startup"] >= 0
    (night,) = Path(config.out).glob("nights/*.json")
    assert json.loads(night.read_text())["seconds"] == report["seconds"]


def test_a_cap_that_has_risen_labels_what_was_over_it(
    config: label.LabelConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = Limits(max_seconds=2.0)
    low = dataclasses.replace(config, settings=LabelOptions(limits=limits))
    label.main(low)
    rows = {Path(row["uri"]).stem: row for row in commits.read_labels(config.out).to_pylist()}
    assert rows["short"]["status"] == "ok"
    long = rows["long"]
    assert (long["error_kind"], long["cap"], long["cap_value"]) == ("too_large", "max_seconds", 2.0)
    capsys.readouterr()
    wide = LabelOptions(limits=dataclasses.replace(limits, max_pixels=10**8))
    label.main(dataclasses.replace(low, settings=wide, resources=Resources(memory_gib=16.0)))
    assert "1 unchanged, 1 quarantined" in capsys.readouterr().out
    label.main(config)
    assert "1 retried, 1 unchanged" in capsys.readouterr().out
    assert len(commits.list_sets(config.out)) == 1
    again = commits.read_labels(config.out).to_pylist()
    assert [row["status"] for row in again] == ["ok", "ok"]
    assert [row["cap"] for row in again] == [None, None]
    label.main(low)  # A lower cap takes no label away.
    assert "2 unchanged" in capsys.readouterr().out


def test_run_json_is_there_before_anything_else_and_names_the_libraries(
    config: label.LabelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = Path(config.out, "run.json")

    def killed(run: Run, *_: Any, **__: Any) -> None:
        before = json.loads(report.read_text())
        assert (before["kind"], before["state"]) == ("label", "running")
        assert run.is_there()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "make_all_parts", killed)
        with pytest.raises(KeyboardInterrupt):
            label.main(config)
    label.main(config)
    told = json.loads(report.read_text())
    assert (told["kind"], told["state"], told["commit"]) == ("label", "finished", 1)
    wanted = {*versions.FEATURES, *versions.CLASSICAL, "vidray", "python"}
    assert set(told["versions"]) == wanted
    (commit,) = commits.LabelSet(out=config.out, name=told["set"]).commits()
    assert commit.contents.versions == (told["versions"],)


def test_every_night_keeps_its_report(config: label.LabelConfig) -> None:
    label.main(config)
    first = json.loads(Path(config.out, "run.json").read_text())
    write_video(Path(config.videos) / "new.avi", num_frames=20)
    label.main(config)
    label.main(config)  # Nothing is new: no night.
    nights = {
        path.name: json.loads(path.read_text()) for path in Path(config.out, "nights").iterdir()
    }
    assert sorted(nights) == ["commit-000001.json", "commit-000002.json"]
    assert nights["commit-000001.json"].items() <= first.items()
    assert [night["counts"]["videos"] for night in nights.values()] in ([2, 1], [1, 2])
    assert nights["commit-000002.json"]["hours_of_video"] == pytest.approx(20 / 25 / 3600, abs=1e-3)
    label.main(dataclasses.replace(config, overwrite=True))
    assert [path.name for path in Path(config.out, "nights").iterdir()] == ["commit-000001.json"]


def test_a_dry_run_writes_nothing(config: label.LabelConfig) -> None:
    label.main(dataclasses.replace(config, dry_run=True))
    assert not Path(config.out).exists()
