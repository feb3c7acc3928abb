"""bench/gpu.py without a GPU: its plan, its time limits, what it keeps, its tables, a try-out."""

import dataclasses
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bench import gpu, gpu_busy
from bench.gpu_child import MEASURES, bench_of
from bench.gpu_plan import (
    PARTS,
    Bench,
    Part,
    chosen_parts,
    lacking,
    settings_of,
    that_fit,
)
from bench.gpu_results import GpuResults
from bench.gpu_tables import markdown, table
from bench.gpu_tests import read_report
from tests.gpu_marks import ROOT
from vidray.errors import JobError, UserError

_MACHINE = {"GPU": "none", "torch": "2.11.0"}

# The plan


def test_the_least_important_are_dropped_first() -> None:
    parts = [Part("label", "", 100, 200), Part("train", "", 50, 90), Part("tests", "", 20, 90)]
    assert [part.name for part in that_fit(parts, 170)] == ["label", "train", "tests"]
    assert [part.name for part in that_fit(parts, 169)] == ["label", "train"]
    assert [part.name for part in that_fit(parts, 149)] == ["label", "tests"]
    assert [part.name for part in that_fit(parts, 20)] == ["tests"]
    assert that_fit(parts, 19) == []


def test_what_the_issue_asks_for_fits_into_eight_minutes() -> None:
    seconds = Bench().budget_seconds
    assert seconds <= 480
    named = {part.name for part in that_fit([p for p in PARTS if not p.needs], seconds - 15)}
    assert {"label", "train", "tests", "compile"} <= named


def test_every_part_is_measured_by_something() -> None:
    names = [part.name for part in PARTS]
    assert sorted(MEASURES) == sorted(set(names))
    assert len(names) == len(set(names))
    assert all(part.seconds <= part.limit_seconds for part in PARTS)
    for place in MEASURES.values():
        module, _, function = place.partition(":")
        assert f"def {function}(" in (ROOT / "bench" / f"{module}.py").read_text()


def test_parts_come_by_importance_however_they_are_given() -> None:
    bench = Bench(parts=("jobs", "train", "label"))
    assert [part.name for part in chosen_parts(bench)] == ["label", "train", "jobs"]


def test_a_part_says_which_packages_it_lacks() -> None:
    part = Part("tensorrt", "", 1, 2, ("tensorrt", "onnx"))
    assert lacking(part, lambda _: True) is None
    assert lacking(part, lambda name: name == "onnx") == "tensorrt cannot be imported"
    assert lacking(part, lambda _: False) == "tensorrt and onnx cannot be imported"


def test_settings_survive_json() -> None:
    bench = Bench(networks=("r3d_18",), clips=7, budget_seconds=3, parts=("train",))
    again = bench_of(json.loads(json.dumps(settings_of(bench))))
    assert again == dataclasses.replace(Bench(), networks=("r3d_18",), clips=7)


# The file


def test_rows_are_kept_and_failed_ones_measured_again(tmp_path: Path) -> None:
    results = GpuResults.opened(tmp_path, _MACHINE, {"clips": 3})
    results.add("train", "a", {"clips_per_second": 1.0})
    results.add("train", "b", {"error": "out of memory"})
    results.mark("train", "failed", seconds=2, why="1 rows failed: b")
    results.mark("train", "done", seconds=3)
    again = GpuResults.opened(tmp_path, _MACHINE, {"clips": 3})
    assert again.measured("train") == {"a"}
    assert again.part("train")["seconds"] == 5
    assert list(tmp_path.iterdir()) == [tmp_path / "gpu.json"]


@pytest.mark.parametrize(
    ("machine", "settings"), [({"GPU": "another"}, {"clips": 3}), (_MACHINE, {"clips": 4})]
)
def test_figures_of_two_machines_are_not_mixed(
    tmp_path: Path, machine: dict[str, Any], settings: dict[str, Any]
) -> None:
    GpuResults.opened(tmp_path, _MACHINE, {"clips": 3}).add("train", "a", {"x": 1})
    assert GpuResults.opened(tmp_path, machine, settings).rows("train") == {}
    kept = json.loads((tmp_path / "gpu.before-1.json").read_text())
    assert kept["parts"]["train"]["rows"] == {"a": {"x": 1}}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": 1, "settings": {}, "parts": {}}'])
def test_another_file_in_its_place_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "gpu.json").write_text(text)
    with pytest.raises(UserError, match=r"gpu\.json is not what bench/gpu\.py writes .*--out"):
        GpuResults.opened(tmp_path, _MACHINE, {})


# Parts that fail, hang and take their time

_CHILD = """
import subprocess, sys, time
from pathlib import Path
from bench.gpu_results import GpuResults

name, out, work = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
with (out / "began.txt").open("a") as log:
    log.write(name + "\\n")
results = GpuResults.read(out)
row = {"way": "a", "videos_per_second": 1.5, "network": "r3d_18", "clips_per_second": 2, "batch": 1,
       "frames": 1, "size_px": 1, "peak_gpu_bytes": None, "spread": 0.0}
results.add(name, "first", row)
if name == "train":
    raise SystemExit("broken")
if name == "exits":
    results.mark(name, "left out", why="no exits here")
    raise SystemExit(3)
if name == "tests":
    hanging = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (out / "hanging.txt").write_text(str(hanging.pid))
    time.sleep(600)
results.add(name, "second", row)
"""


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_part_that_fails_or_hangs_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    child = tmp_path / "child.py"
    child.write_text(_CHILD)
    monkeypatch.setattr(gpu, "_CHILD", child)
    parts = [Part("label", "a", 1, 60), Part("train", "b", 1, 60), Part("tests", "c", 1, 6),
             Part("compile", "d", 1, 60), Part("tensorrt", "e", 1, 60, ("no_such_package",)),
             Part("exits", "g", 1, 60), Part("jobs", "f", 100, 100)]  # fmt: skip
    monkeypatch.setattr(gpu, "chosen_parts", lambda _: iter(parts))
    bench = Bench(out=tmp_path / "out", device="cpu", budget_seconds=90)
    with pytest.raises(JobError, match=r"parts that failed: train$"):
        gpu.main(bench)
    told = capsys.readouterr().out
    assert "will probably not fit: jobs" in told
    assert "not all there: tests, tensorrt, exits, jobs" in told
    results = GpuResults.read(bench.out)
    assert {name: part["state"] for name, part in results.parts.items()} == {
        "label": "done", "train": "failed", "tests": "ended", "compile": "done",
        "tensorrt": "left out", "exits": "left out", "jobs": "left out",
    }  # fmt: skip
    assert list(results.rows("tests")) == ["first"]
    assert list(results.rows("compile")) == ["first", "second"]
    assert results.part("tests")["why"] == "ended after 6 s"
    assert results.part("tensorrt")["why"] == "no_such_package cannot be imported"
    assert results.part("exits")["why"] == "no exits here"
    assert "it takes about 100 s" in results.part("jobs")["why"]
    assert not is_running(int((bench.out / "hanging.txt").read_text()))
    # Both rows of label, and what compile and exits measured of the same way.
    assert "| a | 1.5 | - | - | - | - | - | - | - | 5 |" in (bench.out / "gpu.md").read_text()

    # Once more: what is done is not begun again.
    child.write_text(_CHILD.replace('name == "train"', "False").replace('name == "tests"', "False"))
    (bench.out / "began.txt").unlink()
    gpu.main(bench)
    assert (bench.out / "began.txt").read_text().split() == ["train", "tests", "exits"]
    found = GpuResults.read(bench.out)
    assert found.part("tests")["state"] == found.part("train")["state"] == "done"
    assert found.part("tests")["why"] == ""


def test_no_gpu_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no NVIDIA GPU here: --device cpu --tiny"):
        gpu.main(Bench(out=tmp_path / "out"))
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'Failed to initialize NVML'\nexit 9\n")
    smi.chmod(0o755)
    with pytest.raises(UserError, match="'Failed to initialize NVML': the driver must work"):
        gpu.main(Bench(out=tmp_path / "out"))


# How busy the GPU is


@pytest.mark.parametrize(
    ("line", "sample"),
    [("37, 2048\n", (0.37, 2 << 30)), ("0, 4\n", (0.0, 4 << 20)), ("[N/A], [N/A]\n", None),
     ("Unable to determine the device handle\n", None), ("\n", None)],
)  # fmt: skip
def test_samples(line: str, sample: tuple[float, int] | None) -> None:
    assert gpu_busy.read_sample(line) == sample


def test_only_samples_between_two_times_count() -> None:
    watch = gpu_busy.BusyWatch([(1.0, 0.0, 5), (2.0, 0.5, 7), (3.0, 1.0, 6), (4.0, 0.0, 9)])
    assert watch.between(2.0, 3.0) == 0.75
    assert watch.peak_bytes(2.0, 3.0) == 7
    assert watch.between(5.0, 6.0) is watch.peak_bytes(5.0, 6.0) is None


def test_nvidia_smi_is_asked_for_the_gpu_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho "40, 100"\necho "60, 300"\nexec sleep 60\n'
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-3f2a,1")
    began = time.time()
    with gpu_busy.watching() as watch:
        while len(watch.samples) < 2 and time.time() < began + 20:
            time.sleep(0.01)
    assert watch.between(began, time.time()) == pytest.approx(0.5)
    assert "--id=GPU-3f2a" in (tmp_path / "asked").read_text().split()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with gpu_busy.watching() as watch:
        pass
    assert watch.samples == []


# Tables


def test_tables(tmp_path: Path) -> None:
    results = GpuResults(tmp_path, {"GPU": "H100"}, settings_of(Bench(decoders=16)))
    rows = results.rows("label")
    for number, speed in enumerate((50, 60, 90), start=1):
        rows[f"plain loop, float32 #{number}"] = {"way": "plain loop, float32", "busy": 0.1,
                                                  "videos_per_second": speed}  # fmt: skip
    rows["decoding alone #1"] = {"way": "decoding alone", "videos_per_second": 200.0}
    rows["predictor, float32 #1"] = {
        "way": "predictor, float32", "videos_per_second": 150, "busy": 0.25,
        "peak_gpu_bytes": 3 << 30, "same_labels": 0.995, "start_seconds": 8.2,
    }  # fmt: skip
    rows["predictor, bfloat16 #1"] = {"error": "out | of memory"}
    head = {"frames": 16, "size_px": 112, "batch": 32, "spread": 0.01, "network": "r3d_18"}
    results.rows("train")["a"] = {
        **head, "way": "float32", "clips_per_second": 400, "peak_gpu_bytes": 6 << 30,
    }  # fmt: skip
    results.rows("train")["b"] = {
        **head, "way": "bfloat16", "clips_per_second": 500, "peak_gpu_bytes": 3 << 30,
    }  # fmt: skip
    results.rows("agree")["r3d_18"] = {"float32": 1.5e-6, "bfloat16": 0.012}
    results.rows("tests")["tests/a.py::test_b"] = {"outcome": "failed", "error": "E", "seconds": 1}
    results.rows("tests")["tests/a.py"] = {"tests": 1, "error": "1 failed"}
    results.parts["jobs"] = {"rows": {}, "state": "left out", "why": "ray cannot be imported"}
    told = markdown(results)
    for line in (
        "| plain loop, float32 | 60 | 1.00 | 30% | 10% | - | - | - | - | 3 |",
        "| predictor, float32 | 150 | 2.50 | 75% | 25% | 3.0 | 99.5% | - | 8 | 1 |",
        "| predictor, bfloat16 #1 | failed: out \\| of memory | - | - | - | - | - | - | - | - |",
        "| r3d_18, 32 of 16x112x112 | bfloat16 | 500 | 1.25 | 3.0 | 1% |",
        "| r3d_18 | 1.5e-06 | 0.012 | - |",
        "| tests | 0 | 1 | 0 | test_b: E |",
    ):
        assert line in told.splitlines()
    assert "on Ray | left out | - | ray cannot be imported |" in told
    assert table(("a", "b"), []) == ""


def test_a_report_of_pytest_becomes_rows(tmp_path: Path) -> None:
    file = tmp_path / "test_three.py"
    file.write_text(
        "import pytest\ndef test_a(): pass\ndef test_b(): assert 0\n"
        "def test_c(): pytest.skip('why')\n"
    )
    report = tmp_path / "report.xml"
    flags = ["-q", "-c", "/dev/null", "-p", "no:cacheprovider", f"--junitxml={report}", str(file)]
    subprocess.run([sys.executable, "-m", "pytest", *flags], capture_output=True, check=False)
    rows = dict(read_report(report, "f.py"))
    assert {key: row["outcome"] for key, row in rows.items()} == {
        "f.py::test_a": "passed", "f.py::test_b": "failed", "f.py::test_c": "left out",
    }  # fmt: skip
    assert rows["f.py::test_b"]["error"] == "assert 0"
    assert rows["f.py::test_c"]["why"] == "why"


# The whole of it, small


@pytest.mark.slow
def test_a_try_out_on_a_cpu(tmp_path: Path) -> None:
    """Labelling and training steps, in processes of their own that see no GPU."""
    out = tmp_path / "out"
    command = [sys.executable, "bench/gpu.py", "--device", "cpu", "--tiny", "--decoders", "1",
               "--parts", "label", "train", "--out", str(out)]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = GpuResults.read(out)
    ways = {row["way"]: row for row in results.rows("label").values()}
    assert list(ways) == [
        "decoding alone", "decoders, answered at once", "plain loop, float32",
        "predictor, float32", "predictor, bfloat16",
    ]  # fmt: skip
    assert all(row["videos_per_second"] > 0 and row["busy"] is None for row in ways.values())
    # Other arithmetic and another resizer, of the same frames.
    assert ways["predictor, float32"]["same_labels"] == 1
    assert ways["plain loop, float32"]["different_labels"] >= 1
    trained = {row["way"] for row in results.rows("train").values()}
    assert {"bfloat16", "float32, channels last", "bfloat16, checkpointing"} <= trained
    assert "## Labelling" in (out / "gpu.md").read_text()


@pytest.mark.slow
def test_the_script_unpacks_wheels(tmp_path: Path) -> None:
    """A module and a program of a wheel are there; without a GPU it says so and exits with 2."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tyro_double-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tyro_double.py", "print('imported')\n")
        info = "tyro_double-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tyro_double\nVersion: 1\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        # As of a wheel whose large files were taken out.
        wheel.writestr(f"{info}/RECORD", "tyro_double.py,,\ngone/large.so,sha256=abc,1\n")
        program = zipfile.ZipInfo("tyro_double-1.0.data/scripts/nvidia-smi")
        program.external_attr = 0o100755 << 16
        wheel.writestr(program, f"#!/bin/sh\n{sys.executable} -c 'import tyro_double'\nexit 9\n")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "bench/gpu.sh", str(tmp_path / "out"), str(wheels), "--parts", "train"],
        cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout
    assert "imported" in (tmp_path / "out" / "gpu.log").read_text()
    assert "the driver must work first" in done.stdout
