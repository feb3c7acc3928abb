"""jobs/plan.py against real runs: twice the videos, half the workers.

    python bench/plan.py                      # about a minute a run, three runs a round
    python bench/plan.py --videos 320 --runs 5

Synthetic clips, of which some are there under several names, are labelled by a small fresh network.
In each round a run of so many videos and workers is measured, then one of twice the videos and one
of half the workers; each is predicted from the first. Printed are the medians of the rounds. Where
other work shares the machine, look at the last column: of the real runs and of the plan the time is
taken away in which workers waited for a CPU.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from bench.label import Bench as LabelBench
from bench.label import save_model
from vidray.planning import driver, plan, rates
from vidray.planning.driver import Driver
from vidray.planning.rates import Rates
from vidray.planning.settings import PlanSettings
from vidray.video.synthetic import make_clips

_ROOT = Path(__file__).resolve().parents[1]
_CLIPS_PER_CLASS = 12


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Compare plans with runs."""

    videos: int = 160
    """Videos of the run that plans are made from."""
    workers: int = 2
    """Its workers."""
    runs: int = 3
    """Rounds; medians are printed."""
    model: str = "resnet18_avg"
    """Network; its weights do not matter."""
    frames: int = 8
    """Frames of a clip."""
    size_px: int = 96
    """Width and height of a clip."""


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """Seconds of one round: real and predicted."""

    working: tuple[float, float]
    whole: tuple[float, float]
    without_waiting: tuple[float, float]


def main(bench: Bench) -> None:
    """Run rounds and print medians."""
    with tempfile.TemporaryDirectory() as folder:
        make_clips(f"{folder}/made", clips_per_class=_CLIPS_PER_CLASS)
        few = _linked(Path(folder), bench.videos)
        many = _linked(Path(folder), 2 * bench.videos)
        model = f"{folder}/model"
        save_model(LabelBench(model=bench.model, frames=bench.frames, size_px=bench.size_px), model)
        found: dict[str, list[_Compared]] = {"twice the videos": [], "half the workers": []}
        rehearsed: Driver | None = None
        for number in range(bench.runs):
            base = _label(model, few, f"{folder}/base{number}", bench.workers)
            rehearsed = rehearsed or driver.rehearse(base, f"{folder}/base{number}")
            for name, videos, workers in (
                ("twice the videos", many, bench.workers),
                ("half the workers", few, bench.workers // 2),
            ):
                real = _label(model, videos, f"{folder}/{workers}-{number}-{name[:5]}", workers)
                found[name].append(_compared(base, rehearsed, real))
                print(f"round {number + 1}, {name}: {found[name][-1]}", flush=True)
    print("real and predicted seconds, and predicted for each real second")
    for name, every in found.items():
        for what in ("working", "whole", "without_waiting"):
            real, told = (
                statistics.median(getattr(one, what)[side] for one in every) for side in (0, 1)
            )
            print(f"{name:18}{what:16}{real:8.1f} {told:8.1f} {told / real:6.2f}")


def _linked(folder: Path, number: int) -> str:
    """A folder of so many videos: the made ones, under several names."""
    made = sorted(file for file in (folder / "made").rglob("*") if file.is_file())
    into = folder / f"videos{number}"
    into.mkdir()
    for k in range(number):
        file = made[k % len(made)]
        os.link(file, into / f"{k:05}{file.suffix}")
    return str(into)


def _label(model: str, videos: str, out: str, workers: int) -> Rates:
    """What a run of jobs/label.py measures."""
    command = [
        sys.executable, str(_ROOT / "jobs" / "label.py"), "--model", model, "--videos", videos,
        "--out", out, "--workers", str(workers),
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return rates.read(out)


def _compared(base: Rates, rehearsed: Driver, real: Rates) -> _Compared:
    def told(*, without_waiting: bool) -> plan.Option:
        settings = PlanSettings(
            videos_per_day=real.videos,
            nodes=1,
            workers_per_node=real.timing.workers,
            without_waiting=without_waiting,
            grow_to=1,
        )
        return plan.make(base, rehearsed, None, settings).options[0]

    plain = told(without_waiting=False)
    around = real.startup_seconds + real.checking_seconds + real.committing_seconds
    whole = real.working_seconds + around + (real.listing_seconds or 0.0)
    return _Compared(
        working=(real.working_seconds, plain.working_seconds.median),
        whole=(whole, plain.whole_seconds.median),
        without_waiting=(
            real.working_seconds * (1 - real.waiting_share),
            told(without_waiting=True).working_seconds.median,
        ),
    )


if __name__ == "__main__":
    main(tyro.cli(Bench))
