"""The rates of a run, from its folder; and every folder that has none is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.planning.timed import SECONDS, TIMING, label_folder, rates
from vidray.errors import UserError
from vidray.planning.rates import read


def changed(folder: Path, **values: Any) -> str:
    """The same folder with other values in run.json; None takes a key away."""
    file = folder / "run.json"
    report = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({n: v for n, v in report.items() if v != "gone"}))
    return str(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(label_folder(tmp_path_factory.mktemp("made") / "labels"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """With the table of the made one, and a run.json of its own."""
    (tmp_path / "labels").symlink_to(made / "labels")
    (tmp_path / "run.json").write_text((made / "run.json").read_text())
    return tmp_path


def test_the_rates_of_a_night(folder: Path) -> None:
    found = read(str(folder))
    (table,) = folder.glob("labels/*/*.parquet")
    assert found.timing.seconds_per_video == pytest.approx(1.5)
    assert found.seconds.tolist() == [1.0, 3.0]
    assert found.shares.tolist() == [0.75, 0.25]
    assert found.bytes_per_video == 1e6
    assert found.waiting_share == pytest.approx(6 / 60)
    assert found.asking_share == 0
    assert found.table_bytes == table.stat().st_size / 40
    assert (found.startup_seconds, found.listing_seconds) == (8.0, 0.3)
    assert (found.checking_seconds, found.committing_seconds) == (0.1, 0.2)


def test_who_asks_predictors_asks_for_a_share_of_the_time() -> None:
    found = rates(of_timing={"predictors": 1}, stages={"decode": 15.0, "predict": 45.0})
    assert found.asking_share == 0.75
    two = {"decode": 15.0, "predict": 30.0, "predict_then": 6.0}
    assert rates(of_timing={"predictors": 1}, stages=two).asking_share == pytest.approx(0.1)


def test_a_run_that_was_gone_on_with_has_not_listed(folder: Path) -> None:
    seconds = {name: value for name, value in SECONDS.items() if name != "listing"}
    assert read(changed(folder, seconds=seconds, listed="gone")).listing_seconds is None


def test_a_run_is_needed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("gone", "empty", "file"):
        with pytest.raises(UserError, match="holds no run\\.json: give the folder of --out"):
            read(str(tmp_path / name))
    with pytest.raises(UserError, match="holds a model: give the folder of jobs"):
        read(changed(folder, kind="model"))
    with pytest.raises(UserError, match="is not finished: run the same command again"):
        read(changed(folder, kind="label", state="running"))
    with pytest.raises(UserError, match="is not finished"):  # It has no _SUCCESS.
        read(changed(folder, kind="features", state="finished"))


def test_an_older_run_says_what_it_lacks(folder: Path) -> None:
    with pytest.raises(UserError, match="has no timing, since an older vidray wrote it"):
        read(changed(folder, timing="gone"))


def test_a_night_with_nothing_to_do_has_timed_nothing(folder: Path) -> None:
    with pytest.raises(UserError, match="has timed no video: nothing was left to do"):
        read(changed(folder, timing=None))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("workers", 0, "must be 1 or more"),
        ("workers", "2", "timing.workers is \"2\": it must be a whole number"),
        ("video_seconds", [], "video_seconds must be"),
        ("video_seconds", [[1.0]], "video_seconds must be"),
        ("video_seconds", [[1.0, 0]], "video_seconds must be"),
        ("video_seconds", [[-1.0, 5]], "below 0"),
        ("video_seconds", [[1.0, float("nan")]], "damaged|must be a number"),
        ("video_seconds", [[1.0, 1e999]], "damaged|must be a number"),
        ("video_seconds", [[1.0, 2.5]], "whole"),
        ("video_seconds", [[1.0, 1]] * 2000, "1 to 1000 pairs"),
        ("video_seconds", [[0.0, 5]], "took no time"),
        ("video_seconds", [[1e300, 5]], "more seconds or videos"),
        ("video_seconds", [[1.0, 1e300]], "more seconds or videos"),
        ("worker_starts_seconds", [], "worker_starts_seconds"),
        ("predictor_seconds", -1.0, "below 0"),
        ("gpus_each", -1.0, "below 0"),
        ("nodes", 10**30, "whole number"),
        ("evil", 1, "unknown key"),
    ],
)  # fmt: skip
def test_damaged_timing_is_one_line(name: str, value: Any, told: str, folder: Path) -> None:
    with pytest.raises(UserError, match=told) as error:
        read(changed(folder, timing={**TIMING, name: value}))
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "values",
    [
        {"seconds": None},
        {"seconds": {**SECONDS, "startup": -1.0}},
        {"seconds": {**SECONDS, "working": "long"}},
        {"seconds": {**SECONDS, "in_workers": {"decode": []}}},
        {"seconds": {**SECONDS, "in_workers": 3}},
        {"counts": None},
        {"counts": {"videos": 0}},
        {"listed": -4},
        {"set": 5},
        {"set": "../../etc"},
        {"set": "gone-0123456789ab"},
        {"hours_of_video_per_hour": [1]},
    ],
)
def test_other_damage_is_one_line(values: dict[str, Any], folder: Path) -> None:
    with pytest.raises(UserError) as error:
        read(changed(folder, **values))
    assert "\n" not in str(error.value)
