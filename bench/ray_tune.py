"""Cost of the search's own use of Ray Tune against Tune's OptunaSearch and ASHA.

    python bench/ray_tune.py                 # 40 short trials of 8 epochs, on every CPU

The trials compute nothing: they sleep, so that what remains is the engine. The ways take turns on
one Ray. Printed are medians: seconds in all, and what is above the time that the trials slept; of
each way, whether two searches of one seed tried the same settings.

    conductor  vidray's: Tune's runner and ASHA, proposals by vidray.search
    optuna     ray.tune.search.optuna.OptunaSearch and ASHAScheduler
    remote     ray.remote and ray.wait, proposals by vidray.search; stops no trial early
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
import ray
import ray.tune
import tyro
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from vidray.distributed import capacity
from vidray.search import conductor
from vidray.search.conductor import Plan
from vidray.search.proposals import Proposal, Proposals, SearchSpace, Trial
from vidray.tables.run_folder import RunFolder

Way = Literal["conductor", "optuna", "remote"]
Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Compare engines of a search."""

    rounds: int = 3
    """Runs of each way; medians are printed."""
    trials: int = 40
    """Trials of each search."""
    epochs: int = 8
    """Reports of each trial; 1 is a classical one's."""
    seconds: float = 0.2
    """Seconds that a trial sleeps in all, on average."""


def main(bench: Bench) -> None:
    """Run every way in turn and print medians."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    capacity.connect()
    at_once = int(ray.cluster_resources()["CPU"])
    ways: dict[Way, Callable[[Bench, int], list[Settings]]] = {
        "conductor": _conductor,
        "optuna": _optuna,
        "remote": _remote,
    }
    seconds: dict[Way, list[float]] = {way: [] for way in ways}
    tried: dict[Way, list[list[Settings]]] = {way: [] for way in ways}
    for number in range(bench.rounds):
        for way in list(ways)[number % 3 :] + list(ways)[: number % 3]:
            began = time.monotonic()
            tried[way].append(ways[way](bench, at_once))
            seconds[way].append(time.monotonic() - began)
            print(f"  {way}: {seconds[way][-1]:.1f} s", file=sys.stderr, flush=True)
    print(f"{bench.trials} trials of {bench.epochs} epochs, {at_once} at once: seconds")
    print(f"{'':10s}{'all':>8s}{'engine':>8s}{'a trial':>9s}  same settings twice")
    for way, values in seconds.items():
        median = statistics.median(values)
        engine = median - bench.trials * bench.seconds / at_once
        same = all(one == tried[way][0] for one in tried[way])
        print(f"{way:10s}{median:8.1f}{engine:8.1f}{engine / bench.trials:9.2f}  {same}")


def _space(trial: optuna.Trial) -> Settings:
    return {
        "model": trial.suggest_categorical("model", ["a", "b", "c"]),
        "rate": trial.suggest_float("rate", 1e-4, 1e-1, log=True),
        "depth": trial.suggest_int("depth", 1, 9),
    }


def _proposals(bench: Bench, at_once: int) -> Proposals:
    return Proposals(
        SearchSpace(space=_space, first=()), searcher="tpe", metric="accuracy", seed=0,
        limit=bench.trials, generation=4 * at_once,
    )  # fmt: skip


def _work(
    settings: Settings, epochs: int, seconds: float, report: Callable[[Settings], Any]
) -> None:
    """A curve that rises, of a trial that takes 0.5 to 1.5 times ``seconds``."""
    # Trials of one search end in another order than they began, and each time in another one.
    whole = seconds * (0.5 + int.from_bytes(os.urandom(2), "big") / 0xFFFF)
    for epoch in range(1, epochs + 1):
        time.sleep(whole / epochs)
        score = (1 - settings["rate"]) * (settings["depth"] / 10) * epoch / epochs
        report(
            {
                "epoch": epoch,
                "score": score,
                "best_score": score,
                "accuracy": score,
                "is_whole": epoch == epochs,
            }
        )


def _conductor(bench: Bench, at_once: int) -> list[Settings]:
    def trial(settings: Settings) -> None:
        _work(settings, bench.epochs, bench.seconds, ray.tune.report)

    with tempfile.TemporaryDirectory() as out:
        folder = RunFolder(out=out, kind="search", settings={})
        folder.claim()
        plan = Plan(
            kind="classical", folder=folder, proposals=_proposals(bench, at_once),
            metric="accuracy", at_once=at_once, epochs=bench.epochs,
        )  # fmt: skip
        with Path(os.devnull).open("w") as nowhere:
            screen, sys.stdout = sys.stdout, nowhere
            try:
                found = conductor._run(plan, ray.tune.with_resources(trial, {"CPU": 1.0}))
            finally:
                sys.stdout = screen
    return [one.params for one in found]


def _optuna(bench: Bench, at_once: int) -> list[Settings]:
    def trial(settings: Settings) -> None:
        _work(settings, bench.epochs, bench.seconds, ray.tune.report)

    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    sampler = optuna.samplers.TPESampler(seed=0)
    with tempfile.TemporaryDirectory() as scratch:
        found = ray.tune.Tuner(
            ray.tune.with_resources(trial, {"CPU": 1.0}),
            tune_config=ray.tune.TuneConfig(
                search_alg=OptunaSearch(_space, metric="accuracy", mode="max", sampler=sampler),
                scheduler=ASHAScheduler(
                    time_attr="epoch",
                    metric="accuracy",
                    mode="max",
                    max_t=bench.epochs,
                    grace_period=max(1, bench.epochs // 4),
                    reduction_factor=3,
                )
                if bench.epochs > 1
                else None,
                num_samples=bench.trials,
                max_concurrent_trials=at_once,
                reuse_actors=True,
            ),
            run_config=ray.tune.RunConfig(name="search", storage_path=scratch, verbose=0),
        ).fit()
        return [dict(found[k].config or {}) for k in range(len(found))]


def _remote(bench: Bench, at_once: int) -> list[Settings]:
    @ray.remote(num_cpus=1)
    def run(settings: Settings) -> float:
        scores: list[float] = []
        _work(settings, bench.epochs, bench.seconds, lambda report: scores.append(report["score"]))
        return scores[-1]

    proposals = _proposals(bench, at_once)
    running: dict[Any, Proposal] = {}
    done: dict[int, Settings] = {}
    while running or not proposals.is_over:
        while len(running) < at_once and not proposals.is_over:
            asked = proposals.ask()
            if asked is None:
                break
            running[run.remote(asked.settings)] = asked
        (ready,), _ = ray.wait(list(running))
        ended = running.pop(ready)
        done[ended.number] = ended.params
        proposals.tell(
            Trial(
                kind="classical",
                number=ended.number,
                params=ended.params,
                settings=ended.settings,
                state="ok",
                score=ray.get(ready),
            )
        )
    return [done[number] for number in sorted(done)]


if __name__ == "__main__":
    main(tyro.cli(Bench))
