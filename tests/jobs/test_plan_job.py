"""jobs/plan.py on runs made by hand: its tables, its file, and one line for all that is wrong."""

import json
from pathlib import Path

import pytest

from jobs import plan
from tests.command_lines import ROOT, exit_code
from tests.planning.timed import label_folder
from vidray.planning import driver
from vidray.planning.settings import PlanSettings

PRICES = str(ROOT / "docs" / "examples" / "prices.csv")
FLAGS = ("--videos-per-day", "5000", "--deadline-hours", "0.5", "--nights", "10")


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> str:
    return label_folder(tmp_path_factory.mktemp("plan") / "labels")


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "SIZES", (20, 200))
    monkeypatch.setattr(driver, "ROUNDS", 1)


def test_a_plan_is_printed_and_written(
    labels: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "plan.json"
    before = {path: path.stat().st_mtime_ns for path in Path(labels).rglob("*")}
    flags = ("--run", labels, "--price", PRICES, "--out", str(out), *FLAGS)
    assert exit_code("jobs/plan.py", *flags, "--grow-to", "50000") == 0
    told = capsys.readouterr().out
    made = json.loads(out.read_text())
    assert [option["kind"] for option in made["options"]] == [
        "16 cpus", "16 cpus spot", "4 cpus little memory",
    ]  # fmt: skip
    assert made["best"] in told
    assert f"* {made['best']}" not in told
    for words in (
        "5,000 videos in a night of at most 0.5 h",
        "EUR a night",
        "50,000",
        "hours (10",
    ):
        assert words in told
    (best,) = (option for option in made["options"] if option["kind"] == made["best"])
    in_time = [a["money"] for a in made["options"] if a["chance"] >= made["settings"]["sureness"]]
    assert best["money"] == min(in_time)
    # The run is only read.
    assert {path: path.stat().st_mtime_ns for path in Path(labels).rglob("*")} == before


def test_without_prices_no_money_is_told(labels: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("jobs/plan.py", "--run", labels, *FLAGS, "--grow-to", "5000") == 0
    told = capsys.readouterr().out
    assert "as in the run" in told
    assert "no price" in told
    assert "EUR" not in told


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--videos-per-day", "0"), "videos_per_day is 0: it must be 1 to"),
        (("--deadline-hours", "-1"), "deadline_hours is -1"),
        (("--deadline-hours", "nan"), "deadline_hours is nan"),
        (("--price", "gone.csv"), "gone.csv cannot be read, it is not there"),
        (("--price", __file__), "must have the columns item, name, price"),
        (("--run", "gone"), "--run gone holds no run.json"),
        (("--run", str(ROOT)), "holds no run.json"),
        (("--out", str(ROOT)), "a folder: give the name of a JSON file"),
        (("--out", f"{__file__}/plan.json"), "is a file"),
        (("--nodes", "1000000"), "nodes is 1e+06: it must be 1 to"),
    ],
)
def test_what_is_wrong_is_one_line(
    flags: tuple[str, ...],
    told: str,
    labels: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = () if "--run" in flags else ("--run", labels)
    assert exit_code("jobs/plan.py", *given, *flags) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert told in shown.err
    assert shown.err.count("\n") == 1


def test_flags_are_known_before_anything_is_read() -> None:
    """As tests/jobs/test_light_imports.py wants it, and defaults are allowed values."""
    assert plan.PlanConfig(run="x").settings == PlanSettings()
