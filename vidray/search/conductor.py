"""The trials of one kind of models on Ray Tune.

    Proposals <──ask, tell── Conductor <──suggest, results── Ray Tune ──> trials, so many at once
                                 │ a JSON file per trial, a line on the screen
                                 └─> of a trial that is kept already, only its result

Classical trials have one CPU each. A deep trial of one worker is that worker itself; one of several
is a driver that needs next to nothing, and as many run at once as their workers have room together,
so none waits for CPUs that another one holds.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
import ray.tune
import ray.util.scheduling_strategies
from ray.tune.schedulers import ASHAScheduler

from vidray import storage
from vidray.distributed import training
from vidray.learning.train_config import Workers
from vidray.models.names import ModelKind
from vidray.progress import duration
from vidray.search.proposals import (
    METRICS,
    Proposal,
    Proposals,
    Trial,
    best_trial,
    failed,
    from_json,
    name_of,
    to_json,
)
from vidray.search.settings import Metric, is_loss
from vidray.search.trials import STOP, ClassicalTrials, DeepTrials, recorded
from vidray.tables.run_folder import RunFolder

# How often the process of a trial is started again after it died; what raises is not tried again.
_MOST_DEATHS = 1
# PyTorch, and a state dict twice: of the driver of a deep trial.
_DRIVER_MEMORY_BYTES = 1 << 30
_MOST_REMOVING_SECONDS = 30
# ASHA (Li 2020): the best third goes on.
_REDUCTION = 3


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is searched of one kind.

    Args:
        folder: of the search.
        proposals: what to try.
        metric: what the score is.
        at_once: trials that run at the same time.
        deadline: ``time.monotonic()`` after which none begins; None is never.
        epochs: of a deep trial that goes to its end.
        stops_early: whether ASHA stops deep trials.
    """

    kind: ModelKind
    folder: RunFolder
    proposals: Proposals
    metric: Metric
    at_once: int
    deadline: float | None = None
    epochs: int = 0
    stops_early: bool = False


def room(kind: ModelKind, workers: Workers) -> int:
    """Trials that the cluster holds at once: a classical one has a CPU, a deep one its workers."""
    if kind == "deep":
        return training.trainings_at_once(workers)
    return int(ray.cluster_resources().get("CPU", 0))


def node_folder() -> str:
    """A name for what trials share on each node."""
    return str(Path(tempfile.gettempdir()) / f"vidray-search-{uuid.uuid4().hex}")


def run_classical(plan: Plan, trials: ClassicalTrials) -> list[Trial]:
    """Every trial, those of an earlier run too."""

    def trial(settings: dict[str, Any], trials: ClassicalTrials) -> None:
        recorded(trials.run, settings, ray.tune.report)

    # The object store holds the table once a node, and its arrays are read where they lie.
    shared = ray.tune.with_parameters(trial, trials=trials)
    try:
        return _run(plan, ray.tune.with_resources(shared, {"CPU": 1.0}))
    finally:
        _remove_from_nodes(trials.folder)


def run_deep(plan: Plan, trials: DeepTrials) -> list[Trial]:
    """Every trial, those of an earlier run too."""

    def trial(settings: dict[str, Any]) -> None:
        recorded(trials.run, settings, ray.tune.report)

    asha = _Halving(plan, trials) if plan.stops_early and plan.epochs > 1 else None
    if trials.workers.in_process:
        resources = training.resources_of_one(trials.workers)
    else:
        resources = {"CPU": 0.0, "memory": float(_DRIVER_MEMORY_BYTES)}
    return _run(plan, ray.tune.with_resources(trial, resources), asha)


def _run(plan: Plan, trainable: Any, asha: _Halving | None = None) -> list[Trial]:
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # Ray Tune's framed settings, which ``verbose`` leaves.
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # A failed trial has no score.
    # It prints what it cannot save of its own record, which nobody reads: what is wrong is raised.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    conductor = _Conductor(plan, asha)
    if conductor.is_over or conductor.is_late:
        return conductor.trials
    with tempfile.TemporaryDirectory(prefix="vidray-tune-") as scratch:
        ray.tune.Tuner(
            trainable,
            tune_config=ray.tune.TuneConfig(
                search_alg=conductor,
                scheduler=asha,
                num_samples=-1,  # The conductor knows when it is over.
                max_concurrent_trials=plan.at_once,
                reuse_actors=True,  # PyTorch and scikit-learn are imported once, not every time.
            ),
            run_config=ray.tune.RunConfig(
                name=plan.kind,
                storage_path=scratch,
                failure_config=ray.tune.FailureConfig(max_failures=_MOST_DEATHS),
                verbose=0,
            ),
        ).fit()
    return conductor.trials


class _Halving(ASHAScheduler):
    """ASHA that asks a trial to stop instead of killing it: see ``trials.STOP``."""

    def __init__(self, plan: Plan, trials: DeepTrials) -> None:
        super().__init__(
            time_attr="epoch",
            metric="best_score",
            mode="min" if is_loss(plan.metric) else "max",
            max_t=plan.epochs,
            # Under the warm-up of the learning rate all are alike.
            grace_period=max(1, plan.epochs // 4),
            reduction_factor=_REDUCTION,
            stop_last_trials=False,
        )
        self._trials = trials

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide before the trial's ``report`` returns."""
        action = super().on_trial_result(tune_controller, trial, result)
        if action == self.STOP and not result.get("is_whole"):
            folder = self._trials.folder(trial.config["number"])
            storage.write_bytes(storage.join(folder, STOP), str(result["epoch"]).encode())
        return self.CONTINUE

    def replay(self, trial: Trial) -> None:
        """Learn what a trial of an earlier run reported."""
        controller: Any = None
        stand_in: Any = SimpleNamespace(trial_id=trial.name)
        self.on_trial_add(controller, stand_in)
        for row in trial.history:
            super().on_trial_result(controller, stand_in, row)


def _remove_from_nodes(folder: str) -> None:
    """What trials shared on each node."""

    @ray.remote(num_cpus=0)
    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)

    on = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    removed = [
        remove.options(scheduling_strategy=on(node_id=node, soft=False)).remote() for node in nodes
    ]
    ray.wait(removed, num_returns=len(removed), timeout=_MOST_REMOVING_SECONDS)


@dataclass(kw_only=True)
class _Running:
    """A trial that Ray Tune has begun."""

    proposal: Proposal
    began: float
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)


class _Conductor(ray.tune.search.Searcher):
    """What Ray Tune asks for trials: hands out the proposals, keeps what comes back.

    A trial that an earlier run kept is not run again: searcher and scheduler hear of it, in
    its place, as if it had just come to its end.

    Ray Tune's own OptunaSearch takes as long: 15.0 s for 24 trials of nothing, this 15.9 s, plain
    ray.remote 6.6 s (``bench/ray_tune.py --epochs 1``, median of two, on two busy CPUs). But what
    it proposes depends on the order in which trials end, so a search killed and resumed would come
    to another result; and its state is a pickle, which nobody may read from a bucket.
    """

    def __init__(self, plan: Plan, asha: _Halving | None) -> None:
        super().__init__()
        self._plan, self._asha = plan, asha
        self._running: dict[str, _Running] = {}
        self._by_number: dict[int, Trial] = {}
        self._began = time.monotonic()
        self._ran = 0
        self._next = self._ask()

    @property
    def is_over(self) -> bool:
        """Whether every trial was kept by an earlier run."""
        return self._next is None and self._plan.proposals.is_over

    @property
    def is_late(self) -> bool:
        """Whether no trial begins any more."""
        return self._plan.deadline is not None and time.monotonic() > self._plan.deadline

    @property
    def trials(self) -> list[Trial]:
        """All trials so far, by number."""
        return [self._by_number[number] for number in sorted(self._by_number)]

    def suggest(self, trial_id: str) -> Any:
        """Ray Tune asks for a trial's settings; None: not yet."""
        if self.is_late:
            return self.FINISHED
        proposal, self._next = self._next or self._ask(), None
        if proposal is None:
            return self.FINISHED if self._plan.proposals.is_over else None
        self._running[trial_id] = _Running(proposal=proposal, began=time.monotonic())
        return {"number": proposal.number, **proposal.settings}

    def _ask(self) -> Proposal | None:
        """The next that no earlier run kept; None: there is none, or none yet."""
        while not self._plan.proposals.is_over:
            proposal = self._plan.proposals.ask()
            if proposal is None:
                return None
            kept = self._kept(proposal)
            if kept is None:
                return proposal
            self._replay(kept)
        return None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """An epoch of a deep trial, perhaps reported before."""
        running = self._running.get(trial_id)
        if running is None or "epoch" not in result:
            return
        if result["epoch"] in [row["epoch"] for row in running.history]:
            return
        row = {name: result[name] for name in ("epoch", "score", "best_score")}
        running.history.append(row)
        print(
            f"  {name_of('deep', running.proposal.number)} "
            f"{running.proposal.settings['model']}: epoch {row['epoch']}/{self._plan.epochs}, "
            f"{self._plan.metric.replace('_', ' ')} {row['score']:.3f}",
            flush=True,
        )

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial's end: whole, stopped early, failed, or its process died too often."""
        if result and not error:
            self.on_trial_result(trial_id, result)
        running = self._running.pop(trial_id, None)
        if running is None:
            return
        trial = self._trial(running, {} if error or not result else result)
        part = _part(self._plan.kind, trial.number)
        self._plan.folder.write(part, to_json(trial))
        self._take(trial)
        self._ran += 1
        self._drop_weights(trial)
        self._say(trial)

    def _trial(self, running: _Running, result: Mapping[str, Any]) -> Trial:
        """What came of it; an empty result is a process that died."""
        kind, proposal = self._plan.kind, running.proposal
        seconds = time.monotonic() - running.began
        died = f"its process died {_MOST_DEATHS + 1} times: it was killed, or out of memory"
        error = result.get("error_message") if result else died
        if error is not None:
            return failed(proposal, kind, error, seconds)
        is_stopped = kind == "deep" and not result.get("is_whole")
        return Trial(
            kind=kind,
            number=proposal.number,
            params=proposal.params,
            settings=proposal.settings,
            state="stopped" if is_stopped else "ok",
            score=result["best_score"],
            metrics={name: result.get(name) for name in METRICS},
            history=running.history,
            seconds=seconds,
        )

    def _kept(self, proposal: Proposal) -> Trial | None:
        """What an earlier run came to with it."""
        kind = self._plan.kind

        def parse(values: Mapping[str, Any]) -> Trial | None:
            if values["params"] != proposal.params:
                return None
            # Kind and number name a folder, whatever the file says of them.
            ours: dict[str, Any] = {
                "kind": kind,
                "number": proposal.number,
                "settings": proposal.settings,
            }
            return dataclasses.replace(from_json(values), **ours)

        return self._plan.folder.parsed(_part(kind, proposal.number), parse)

    def _replay(self, trial: Trial) -> None:
        self._take(trial)
        if self._asha is not None and trial.history:
            self._asha.replay(trial)

    def _take(self, trial: Trial) -> None:
        self._by_number[trial.number] = trial
        self._plan.proposals.tell(trial)

    def _drop_weights(self, trial: Trial) -> None:
        """Keep the weights of the best deep trial only: each is hundreds of megabytes."""
        if self._plan.kind == "classical":
            return
        winner = best_trial(self.trials, self._plan.metric)
        for other in self.trials:
            if other is not winner and (other is trial or other.state == "ok"):
                folder = self._plan.folder
                storage.remove_tree(storage.join(folder.work, other.name), inside=folder.out)

    def _say(self, trial: Trial) -> None:
        """A line a trial: what it came to, the best so far, how long the rest will take."""
        done, total = len(self._by_number), len(self._plan.proposals)
        left = (time.monotonic() - self._began) / self._ran * (total - done)
        if self._plan.deadline is not None:
            left = min(left, max(0.0, self._plan.deadline - time.monotonic()))
        outcome = f"failed: {trial.error}" if trial.score is None else f"{trial.score:.3f}"
        if trial.state == "stopped":
            outcome += f", stopped after epoch {len(trial.history)}"
        winner = best_trial(self.trials, self._plan.metric)
        best = f"best {winner.score:.3f} ({winner.model})" if winner else "none yet"
        print(
            f"{trial.kind} {done}/{total} {trial.model} {outcome}; {best}, {duration(left)} left",
            flush=True,
        )

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        """Ray Tune says what is searched by; the proposals know."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune keeps a record of its own, which nobody reads: ours is the folder."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """See ``__getstate__``."""

    def restore(self, checkpoint_path: str) -> None:
        """See ``__getstate__``."""


def _part(kind: ModelKind, number: int) -> str:
    return f"trials/{name_of(kind, number)}.json"
