"""Labelled features and clips -> the best settings of classical and deep models, and their folders.

    python tune/search.py --data runs/features --families classical --out runs/search
    python tune/search.py --data runs/features runs/clips --families classical deep \\
        --trials 40 --minutes 60 --out runs/search

Needs finished runs of jobs/extract.py (classical models) and jobs/clips.py (deep ones). A classical
trial takes seconds, a deep one as long as jobs/train.py unless it is stopped early. Leaves a table
of all trials, the best model folder of each family and of both, ready for jobs/label.py, and how
these do on split test, which nothing else looks at. Run the same command again after a kill, or
with more --trials, and it goes on.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import ray
import ray.tune
import ray.util.scheduling_strategies
from ray.tune.schedulers import ASHAScheduler
from rich.console import Console
from rich.table import Table

# `python tune/search.py` finds modules beside itself only.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jobs import evaluate
from jobs.evaluate import EvaluateConfig
from tune import spaces
from vidray import cli, digests, learning, models, plots, runs, search, storage, summary, training
from vidray.augment import Augmentation
from vidray.errors import UserError
from vidray.learning import Examples
from vidray.loop import Training
from vidray.models import classical
from vidray.models.claim import ModelRun
from vidray.models.folder import save_classical, write_json
from vidray.pipeline import connect
from vidray.progress import duration
from vidray.search import Family, Metric, Proposal, Proposals, Trial
from vidray.train_config import DeepSettings, Flat, check_model
from vidray.trials import ClassicalTrials, DeepTrials, classical_options, recorded
from vidray.work_folder import WORK, WorkFolder

_OURS = (
    "trials", "trials.parquet", "search.json", "search.png", "importance.png", "best", "test",
    "classical", "deep",
)  # fmt: skip
# A deep trial without a GPU: more threads than this share a clip badly.
_MOST_CPUS = 4
# How often the process of a trial is started again after it died; what raises is not tried again.
_MOST_DEATHS = 1
_MOST_REMOVING_SECONDS = 30
# ASHA (Li 2020): the best third goes on.
_REDUCTION = 3


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Search hyperparameters of classical and deep models."""

    data: tuple[str, ...]
    """Finished runs to learn from, of jobs/extract.py for classical models and of jobs/clips.py for
    deep ones, or a folder that holds them as ``features`` and ``clips``; local or in a bucket."""
    families: tuple[Family, ...]
    """classical, deep or both."""
    out: str
    """Folder to write, local or in a bucket."""
    trials: int = 30
    """Of each family, the models' defaults among them."""
    minutes: float | None = None
    """Start no trial after so long; families share it."""
    models: tuple[str, ...] = ()
    """Models to choose from, a backbone such as resnet18 for all its poolings; all classical ones
    and resnet18, s3d and r3d_18 if none of a family is named."""
    metric: Metric = "log_loss"
    """What is made best: log_loss tells more of few videos, accuracy counts right answers."""
    searcher: Literal["tpe", "random"] = "tpe"
    """tpe learns from the trials before (Bergstra 2011), random does not."""
    preset: Literal["none", "notebook"] = "none"
    """notebook: the notebooks' grids of svm, random_forest and knn, every point once."""
    feature_families: tuple[str, ...] = ()
    """Feature families for classical models; all that were extracted if none is named."""
    folds: int = 5
    """Folds of a classical trial's cross-validation on split train; no recording is in two."""
    repeats: int = 1
    """Times it is done, each with other folds."""
    calibrated: bool = True
    """Judge calibrated probabilities; without, only the accuracy of svm has a meaning."""
    early_stopping: bool = True
    """Stop deep trials early that are not among the best third of those before (ASHA)."""
    at_once: int | None = None
    """Trials at once; as many as the cluster holds if not given."""
    resume: bool = True
    """Go on with a search of the same settings; --no-resume starts afresh."""
    deep: Annotated[DeepSettings, Flat] = field(default_factory=DeepSettings)
    training: Annotated[Training, Flat] = field(default_factory=Training)
    augmentation: Annotated[Augmentation, Flat] = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("folds", 2), ("repeats", 1)):
            value = getattr(self, name)
            if value < least:
                raise UserError(f"{name} is {value}: it must be {least} or more")
        if self.at_once is not None and self.at_once < 1:
            raise UserError(f"at_once is {self.at_once}: it must be 1 or more")
        if self.minutes is not None and not self.minutes > 0:
            raise UserError(f"minutes is {self.minutes}: it must be above 0")
        if not self.families:
            raise UserError("there is no family to search: give --families classical, deep or both")
        if not self.calibrated and self.metric == "log_loss":
            raise UserError("log_loss is of calibrated probabilities: give --metric accuracy")
        if self.deep.tensorboard:
            raise UserError("--tensorboard is for jobs/train.py: leave it out")
        self._check_models()
        self._refuse_idle_flags()

    def _check_models(self) -> None:
        for name in self.models:
            if name not in spaces.deep_models():
                check_model(name)
        for family in self.families:
            if self.models and not self.models_of(family):
                raise UserError(f"no {family} model is among --models: add one, or leave it out")
        if len([m for f in set(self.families) for m in self.models_of(f)]) < len(set(self.models)):
            raise UserError("--models names one of a family that is not among --families")
        if self.preset == "notebook" and "classical" in self.families:
            for name in self.models_of("classical"):
                if name not in spaces.NOTEBOOK:
                    known = ", ".join(spaces.NOTEBOOK)
                    raise UserError(f"the notebooks have no grid of {name}: only of {known}")

    def _refuse_idle_flags(self) -> None:
        """A flag that changes nothing is a mistake, and is said to be one."""
        plain = (DeepSettings(), Training(seed=self.training.seed), Augmentation())
        given = (self.deep, self.training, self.augmentation)
        if "deep" not in self.families and given != plain:
            raise UserError("there are flags for deep models and --families has no deep")
        if "classical" not in self.families and self.preset != "none":
            raise UserError("--preset is of classical models, and --families has no classical")

    @property
    def seed(self) -> int:
        """Of everything."""
        return self.training.seed

    def models_of(self, family: Family) -> tuple[str, ...]:
        """Names to choose from, each once."""
        if not self.models:
            if family == "deep":
                return spaces.DEEP_MODELS
            return tuple(spaces.NOTEBOOK if self.preset == "notebook" else spaces.CLASSICAL)
        known = classical.NAMES if family == "classical" else spaces.deep_models()
        return tuple(name for name in dict.fromkeys(self.models) if name in known)

    @property
    def fixed(self) -> dict[str, Any]:
        """What the user has said of deep models: not searched."""
        said: dict[str, Any] = {}
        for given, plain in ((self.deep, DeepSettings()), (self.training, Training())):
            said |= {
                f.name: getattr(given, f.name)
                for f in dataclasses.fields(given)
                if getattr(given, f.name) != getattr(plain, f.name)
            }
        return said | ({"augmentation": True} if self.augmentation != Augmentation() else {})


def main(config: SearchConfig) -> None:
    """Search each family, take the best of each, judge it once on split test."""
    began = time.monotonic()
    data = _read(config)
    connect()
    folder = _claim(config, data)
    trials: list[Trial] = []
    for number, family in enumerate(config.families):
        left = len(config.families) - number
        trials += _search(config, folder, data[family], family, _deadline(config, began, left))
    storage.write_bytes(folder.path("trials.parquet"), runs.parquet_bytes(search.to_table(trials)))
    winners = _hand_over(config, folder, data, trials)
    mattered = {
        family: search.importances(_of(trials, family), seed=config.seed)
        for family in config.families
    }
    write_json(
        folder.path("search.json"),
        {"metric": config.metric, "winners": winners, "importance": mattered},
    )
    _draw(config, folder, trials, mattered)
    counts = {family: _count(_of(trials, family)) for family in config.families}
    folder.finish(trials=counts, seconds=time.monotonic() - began)
    _say(config, trials, winners, mattered, time.monotonic() - began)


# What is searched on


def _read(config: SearchConfig) -> dict[Family, Examples]:
    """What each family learns from."""
    found: dict[str, str] = {}
    for uri in _run_folders(config.data):
        table = runs.read_json(uri).get("table")
        if table not in ("features", "clips") or table in found:
            raise UserError(
                f"{storage.without_secrets(uri)} holds {table or 'no table'}: --data takes one run "
                "of jobs/extract.py and one of jobs/clips.py"
            )
        found[table] = uri
    data: dict[Family, Examples] = {}
    for family, table, job in (
        ("classical", "features", "jobs/extract.py"),
        ("deep", "clips", "jobs/clips.py"),
    ):
        if family not in config.families:
            continue
        if table not in found:
            raise UserError(f"{family} models learn from {table}: add a run of {job} to --data")
        data[family] = (
            learning.read_features(found[table], config.feature_families)
            if family == "classical"
            else learning.read_clips(found[table])
        )
        _check_splits(found[table], data[family])
    return data


def _run_folders(data: Sequence[str]) -> list[str]:
    found = []
    for uri in map(storage.canonical, data):
        inside = [storage.join(uri, name) for name in ("features", "clips")]
        if storage.exists(storage.join(uri, "run.json")):
            found.append(uri)
        elif there := [path for path in inside if storage.exists(storage.join(path, "run.json"))]:
            found += there
        else:
            raise UserError(
                f"{storage.without_secrets(uri)} is not a run folder (no run.json), nor does it "
                "hold one as features or clips: give the --out of jobs/extract.py or jobs/clips.py"
            )
    return found


def _check_splits(uri: str, examples: Examples) -> None:
    """What is searched by must be there before the first trial, not after the last."""
    _ = examples.class_names
    for split in ("val", "test"):
        if not len(examples.of_split(split).table):
            raise UserError(
                f"{storage.without_secrets(uri)} has no labelled video in split {split}: give the "
                "extracting or cutting job --split-fractions, or a source with splits"
            )


def _claim(config: SearchConfig, data: Mapping[Family, Examples]) -> WorkFolder:
    """The folder, and in its settings all that a trial's result depends on."""
    settings: dict[str, Any] = {
        "seed": config.seed,
        "metric": config.metric,
        "searcher": config.searcher,
        "preset": config.preset,
    }
    for family, examples in data.items():
        settings[f"{family}_data"] = examples.digest
        settings[f"{family}_models"] = list(config.models_of(family))
    if "classical" in data:
        settings |= {
            "feature_families": list(data["classical"].families),
            "folds": config.folds,
            "repeats": config.repeats,
            "calibrated": config.calibrated,
        }
    if "deep" in data:
        for group in (config.deep, config.training, config.augmentation):
            settings |= dataclasses.asdict(group)
        settings["early_stopping"] = config.early_stopping
        for name in ("workers", "min_workers", "gpu", "max_failures", "tensorboard"):
            del settings[name]  # Of no effect on what is learnt.
    asked = {
        "data": [storage.without_secrets(uri) for uri in config.data],
        "families": list(config.families),
        "trials": config.trials,
        "minutes": config.minutes,
    }
    folder = WorkFolder(
        out=storage.canonical(config.out), kind="search", ours=_OURS, settings=settings, asked=asked
    )
    # The first start decides them: what is proposed would change with another cluster.
    earlier = folder.earlier_settings() if config.resume else {}
    for family in data:
        name = f"{family}_generation"
        settings[name] = earlier.get(name) or _generation(config, family)
    folder.claim(resume=config.resume)
    return folder


def _generation(config: SearchConfig, family: Family) -> int:
    """Proposals that do not wait for one another: classical trials differ in length."""
    return _at_once(config, family) * (4 if family == "classical" else 1)


def _at_once(config: SearchConfig, family: Family) -> int:
    """Trials that the cluster holds."""
    if family == "classical":
        room = int(ray.cluster_resources().get("CPU", 0))
    else:
        room = training.trainings_at_once(_workers(config))
    if not room:
        raise UserError(f"the cluster has no room for a {family} trial: add nodes")
    return min(room, config.at_once or room)


def _workers(config: SearchConfig) -> training.Workers:
    return dataclasses.replace(config.deep.who, most_cpus=_MOST_CPUS)


def _deadline(config: SearchConfig, began: float, families_left: int) -> float | None:
    """When the family that comes now must stop to begin trials: those left share what is left."""
    if config.minutes is None:
        return None
    now = time.monotonic()
    return now + max(0.0, began + 60 * config.minutes - now) / families_left


# The search of one family


def _search(
    config: SearchConfig,
    folder: WorkFolder,
    examples: Examples,
    family: Family,
    deadline: float | None,
) -> list[Trial]:
    """Every trial of a family, those of an earlier run too."""
    at_once = _at_once(config, family)
    proposals = _proposals(config, folder, examples, family)
    print(
        f"{family}: up to {len(proposals)} trials of {', '.join(config.models_of(family))}; "
        f"{at_once} at once",
        flush=True,
    )
    asha = _asha(config) if family == "deep" else None
    conductor = _Conductor(config, folder, family, proposals, asha, deadline)
    scratch = Path(tempfile.gettempdir()) / f"vidray-search-{uuid.uuid4().hex}"
    trainable = (
        _classical_trainable(config, examples, scratch / "prepared")
        if family == "classical"
        else _deep_trainable(config, examples, folder)
    )
    try:
        ray.tune.Tuner(
            trainable,
            tune_config=ray.tune.TuneConfig(
                search_alg=conductor,
                scheduler=asha,
                num_samples=-1,  # The conductor knows when it is over.
                max_concurrent_trials=at_once,
                reuse_actors=True,  # PyTorch and scikit-learn are imported once, not every time.
            ),
            run_config=ray.tune.RunConfig(
                name=family,
                storage_path=str(scratch / "tune"),
                failure_config=ray.tune.FailureConfig(max_failures=_MOST_DEATHS),
                verbose=0,
            ),
        ).fit()
    finally:
        _remove_everywhere(scratch)
    return conductor.trials


def _classical_trainable(config: SearchConfig, examples: Examples, folder: Path) -> Any:
    train = examples.of_split("train")
    trials = ClassicalTrials(
        x=classical.without_infinities(train.matrix()),
        y=train.targets(examples.class_names),
        groups=train.groups,
        class_names=examples.class_names,
        families=examples.families,
        folder=str(folder),
        folds=config.folds,
        repeats=config.repeats,
        calibrated=config.calibrated,
        metric=config.metric,
        seed=config.seed,
    )

    def trial(settings: dict[str, Any], trials: ClassicalTrials) -> None:
        recorded(trials.run, settings, ray.tune.report)

    # The object store holds the table once a node, and its arrays are read where they lie.
    shared = ray.tune.with_parameters(trial, trials=trials)
    return ray.tune.with_resources(shared, {"cpu": 1})


def _deep_trainable(config: SearchConfig, examples: Examples, folder: WorkFolder) -> Any:
    assert examples.clips is not None
    trials = DeepTrials(
        data=examples.clips.uri,
        work=folder.path(WORK),
        deep=config.deep,
        training=config.training,
        augmentation=config.augmentation,
        workers=_workers(config),
        metric=config.metric,
    )

    def trial(settings: dict[str, Any]) -> None:
        recorded(trials.run, settings, ray.tune.report)

    # It waits for the training's workers, which take the CPUs and GPUs.
    return ray.tune.with_resources(trial, {"cpu": 0})


def _remove_everywhere(scratch: Path) -> None:
    """On every node: what trials shared there."""

    @ray.remote(num_cpus=0)
    def remove() -> None:
        shutil.rmtree(scratch, ignore_errors=True)

    on = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    removed = [
        remove.options(scheduling_strategy=on(node_id=node, soft=False)).remote() for node in nodes
    ]
    ray.wait(removed, num_returns=len(removed), timeout=_MOST_REMOVING_SECONDS)


def _proposals(
    config: SearchConfig, folder: WorkFolder, examples: Examples, family: Family
) -> Proposals:
    names = config.models_of(family)
    searcher: search.Searcher = config.searcher
    limit = config.trials
    if family == "deep":
        assert examples.clips is not None
        stored = spaces.Stored(frames=examples.clips.num_frames, size_px=examples.clips.size_px)
        pretrained = config.deep.weights != "none"
        space = spaces.deep(names, stored, pretrained=pretrained, fixed=config.fixed)
        first = spaces.deep_defaults(names, stored, pretrained=pretrained, fixed=config.fixed)
    elif config.preset == "notebook":
        space, first = spaces.notebook(names, examples.families), spaces.notebook_grid(names)
        searcher, limit = "grid", len(first)
    else:
        space = spaces.classical(names, examples.families)
        first = spaces.classical_defaults(names, examples.families)
    return Proposals(
        space,
        searcher=searcher,
        metric=config.metric,
        seed=config.seed,
        limit=limit,
        generation=folder.settings[f"{family}_generation"],
        first=first,
    )


def _asha(config: SearchConfig) -> ASHAScheduler | None:
    epochs = config.training.epochs
    if not config.early_stopping or epochs == 1:
        return None
    return ASHAScheduler(
        time_attr="epoch",
        metric="best_score",
        mode="min" if search.is_loss(config.metric) else "max",
        max_t=epochs,
        grace_period=max(1, epochs // _REDUCTION**2),
        reduction_factor=_REDUCTION,
        stop_last_trials=False,
    )


class _Conductor(ray.tune.search.Searcher):  # type: ignore[misc]
    """Between Ray Tune and the proposals: hands these out, keeps what comes back.

    A trial that an earlier run kept is not run again: searcher and scheduler are told of it, in
    its place, as if it had just come to its end.
    """

    def __init__(
        self,
        config: SearchConfig,
        folder: WorkFolder,
        family: Family,
        proposals: Proposals,
        asha: ASHAScheduler | None,
        deadline: float | None,
    ) -> None:
        super().__init__()
        self._config, self._folder, self._family = config, folder, family
        self._proposals, self._asha, self._deadline = proposals, asha, deadline
        self._began = time.monotonic()
        self._running: dict[str, tuple[Proposal, float]] = {}
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._by_number: dict[int, Trial] = {}

    @property
    def trials(self) -> list[Trial]:
        """By number."""
        return [self._by_number[number] for number in sorted(self._by_number)]

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Ray Tune asks for a trial; None: not yet."""
        while not self._proposals.is_over:
            proposal = self._proposals.ask()
            if proposal is None:
                return None
            if kept := self._kept(proposal):
                self._tell_scheduler(kept)
                self._take(kept)
                continue
            if self._deadline is not None and time.monotonic() > self._deadline:
                break
            self._running[trial_id] = proposal, time.monotonic()
            self._rows[trial_id] = []
            return {"number": proposal.number, **proposal.settings}
        return str(self.FINISHED)

    def _kept(self, proposal: Proposal) -> Trial | None:
        """What an earlier run came to with it."""
        values = self._folder.read(_part(self._family, proposal.number))
        if values is None or values["params"] != proposal.params:
            return None
        return search.from_json(values)

    def _tell_scheduler(self, trial: Trial) -> None:
        if self._asha is None or not trial.history:
            return
        stand_in: Any = SimpleNamespace(trial_id=trial.name)
        self._asha.on_trial_add(None, stand_in)
        for row in trial.history:
            self._asha.on_trial_result(None, stand_in, row)
        self._asha.on_trial_complete(None, stand_in, trial.history[-1])

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A row of a trial that goes on."""
        rows = self._rows[trial_id]
        if "epoch" not in result or any(row["epoch"] == result["epoch"] for row in rows):
            return
        rows.append({name: result[name] for name in ("epoch", "score", "best_score")})
        if self._family == "deep":
            self._say_epoch(trial_id, rows[-1])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial's end: whole, stopped early, failed, or its process died too often."""
        proposal, began = self._running.pop(trial_id)
        seconds = time.monotonic() - began
        if result and not error:
            self.on_trial_result(trial_id, result)
        rows = self._rows.pop(trial_id)
        if error or not result:
            died = f"its process died {_MOST_DEATHS + 1} times: it was killed, or out of memory"
            trial = search.failed(proposal, self._family, died, seconds)
        elif result.get("error_message"):
            trial = search.failed(proposal, self._family, result["error_message"], seconds)
        else:
            trial = self._whole(proposal, result, rows, seconds)
        self._folder.write(_part(self._family, trial.number), dataclasses.asdict(trial))
        self._take(trial)
        self._drop_weights(trial)
        self._say(trial)

    def _whole(
        self, proposal: Proposal, result: Mapping[str, Any], rows: list[dict[str, Any]],
        seconds: float,
    ) -> Trial:  # fmt: skip
        is_stopped = self._family == "deep" and not result.get("is_whole")
        return Trial(
            family=self._family,
            number=proposal.number,
            params=proposal.params,
            settings=proposal.settings,
            state="stopped" if is_stopped else "ok",
            score=result["best_score"],
            metrics={name: result.get(name) for name in search.METRICS},
            history=rows,
            seconds=seconds,
        )

    def _take(self, trial: Trial) -> None:
        self._by_number[trial.number] = trial
        self._proposals.tell(trial)

    def _drop_weights(self, trial: Trial) -> None:
        """Of deep trials only the best one's are kept: each is hundreds of megabytes."""
        if self._family == "classical":
            return
        winner = search.best(self.trials, self._config.metric)
        for other in self.trials:
            if other is not winner and (other is trial or other.state == "ok"):
                storage.remove_tree(self._folder.path(f"{WORK}/{other.name}"))

    def _say_epoch(self, trial_id: str, row: Mapping[str, Any]) -> None:
        proposal, _ = self._running[trial_id]
        print(
            f"  {search.name_of(self._family, proposal.number)} {proposal.settings['model']}: "
            f"epoch {row['epoch']}/{self._config.training.epochs}, "
            f"{self._config.metric.replace('_', ' ')} {row['score']:.3f}",
            flush=True,
        )

    def _say(self, trial: Trial) -> None:
        """A line a trial: what it came to, the best so far, how long the rest will take."""
        done, total = len(self._by_number), len(self._proposals)
        ran = [t for t in self.trials if t.seconds]
        left = (time.monotonic() - self._began) / max(len(ran), 1) * (total - done)
        if self._deadline is not None:
            left = min(left, max(0.0, self._deadline - time.monotonic()))
        outcome = f"failed: {trial.error}" if trial.score is None else f"{trial.score:.3f}"
        if trial.state == "stopped":
            outcome += f", stopped after epoch {len(trial.history)}"
        winner = search.best(self.trials, self._config.metric)
        best = f"best {winner.score:.3f} ({winner.model})" if winner else "none yet"
        print(
            f"{self._family} {done}/{total} {trial.model} {outcome}; {best}, {duration(left)} left",
            flush=True,
        )

    def set_search_properties(self, *_: Any, **__: Any) -> bool:
        """Ray Tune tells what is searched by; the proposals know."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune keeps a record of its own, which nobody reads: ours is the folder."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """See ``__getstate__``."""

    def restore(self, checkpoint_path: str) -> None:
        """See ``__getstate__``."""


def _part(family: Family, number: int) -> str:
    return f"trials/{search.name_of(family, number)}.json"


# The best of each family


def _hand_over(
    config: SearchConfig,
    folder: WorkFolder,
    data: Mapping[Family, Examples],
    trials: Sequence[Trial],
) -> dict[str, Any]:
    """Model folders of the winners, judged on split val to choose one and on split test once."""
    winners: dict[str, Any] = {}
    for family, examples in data.items():
        winner = search.best(_of(trials, family), config.metric)
        if winner is None:
            print(f"{family}: no trial came to its end, so there is no model")
            continue
        val = _model_folder(config, folder, examples, winner)
        winners[family] = {
            "trial": winner.name,
            "model": winner.model,
            "settings": winner.settings,
            "score": winner.score,
            "val": val,
            "test": _test(config, folder, family),
        }
    if not winners:
        raise RuntimeError(f"no trial came to its end: see {folder.path('trials.parquet')}")
    sign = 1 if search.is_loss(config.metric) else -1
    chosen = min(winners, key=lambda family: sign * winners[family]["val"][config.metric])
    _copy(folder.path(chosen), folder.path("best"))
    return {**winners, "best": chosen}


def _model_folder(
    config: SearchConfig, folder: WorkFolder, examples: Examples, winner: Trial
) -> dict[str, Any]:
    """Write the winner's model folder unless it is there; its figures on split val."""
    out = folder.path(winner.family)
    shown = {"trial": winner.name, **winner.settings}
    digest = digests.of([winner.params, winner.settings, folder.settings])
    run = ModelRun(out=out, digest=digest, config=shown)
    if storage.exists(storage.join(out, "_SUCCESS")) and runs.read_json(out)["digest"] == digest:
        metrics: dict[str, Any] = json.loads(storage.read_bytes(storage.join(out, "metrics.json")))
        return dict(metrics["val"])
    storage.remove_tree(folder.path(f"test/{winner.family}"))
    run.claim(resume=False)
    if winner.family == "classical":
        _fit(config, examples, winner, out)
    else:
        _copy(folder.path(f"{WORK}/{winner.name}/model"), out, keep=True)
    val = examples.of_split("val")
    judged = learning.judge(val.table, learning.predict(models.load(out), val))
    metrics = {"val": judged.metrics(examples.class_names), "search": winner.metrics}
    write_json(storage.join(out, "metrics.json"), metrics)
    run.finish({"score": winner.score})
    return metrics["val"]


def _fit(config: SearchConfig, examples: Examples, winner: Trial, out: str) -> None:
    train = learning.with_families(examples.of_split("train"), winner.settings["families"])
    names = examples.class_names
    pipeline = classical.fit(
        winner.model,
        train.matrix(),
        train.targets(names),
        train.groups,
        names,
        seed=config.seed,
        **classical_options(winner.settings),
    )
    info = {
        "family": "classical",
        "name": winner.model,
        "class_names": names,
        "data_digest": examples.digest,
        "families": train.families,
        "features": train.settings,
    }
    save_classical(out, info, pipeline)


def _test(config: SearchConfig, folder: WorkFolder, family: Family) -> dict[str, Any]:
    """The winner on split test: once, and not again when the search goes on to the same winner."""
    out = folder.path(f"test/{family}")
    if storage.exists(storage.join(out, "_SUCCESS")):
        metrics: dict[str, Any] = json.loads(storage.read_bytes(storage.join(out, "metrics.json")))
        return metrics
    table = "features" if family == "classical" else "clips"
    data = next(uri for uri in _run_folders(config.data) if runs.read_json(uri)["table"] == table)
    return evaluate.judge(
        EvaluateConfig(model=folder.path(family), data=data, out=out, overwrite=True)
    )


def _copy(source: str, target: str, *, keep: bool = False) -> None:
    """Every file of a folder; ``_SUCCESS`` last."""
    if not keep:
        storage.remove_tree(target)
    names = [storage.name_of(found.uri) for found in storage.list_files(source, hidden=True)]
    for name in sorted(names, key=lambda name: name == "_SUCCESS"):
        storage.write_bytes(
            storage.join(target, name), storage.read_bytes(storage.join(source, name))
        )


# What a person sees


def _of(trials: Sequence[Trial], family: Family) -> list[Trial]:
    return [trial for trial in trials if trial.family == family]


def _count(trials: Sequence[Trial]) -> dict[str, int]:
    return dict(Counter(trial.state for trial in trials))


def _draw(
    config: SearchConfig,
    folder: WorkFolder,
    trials: Sequence[Trial],
    mattered: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> None:
    rows = [
        {
            "family": trial.family,
            "number": trial.number,
            "model": trial.params["model"],
            "state": trial.state,
            "score": trial.score,
            "history": trial.history,
        }
        for trial in trials
    ]
    figure = plots.search(rows, metric=config.metric, lowest=search.is_loss(config.metric))
    plots.save(figure, folder.path("search.png"))
    shares = {model: share for family in mattered.values() for model, share in family.items()}
    if shares:
        plots.save(plots.importance(shares), folder.path("importance.png"))


def _say(
    config: SearchConfig,
    trials: Sequence[Trial],
    winners: Mapping[str, Any],
    mattered: Mapping[str, Mapping[str, Mapping[str, float]]],
    seconds: float,
) -> None:
    metric = config.metric.replace("_", " ")
    console = Console(width=summary.WIDTH)
    table = Table("family", "trials", "ok", "stopped", "failed", "best model", metric, box=None)
    for family in config.families:
        own = _of(trials, family)
        count, winner = _count(own), winners.get(family)
        table.add_row(
            family,
            str(len(own)),
            *(str(count.get(state, 0)) for state in ("ok", "stopped", "failed")),
            winner["model"] if winner else "-",
            f"{winner['score']:.3f}" if winner else "-",
        )
    console.print(table)
    for model, shares in ((m, s) for family in mattered.values() for m, s in family.items()):
        told = ", ".join(f"{name.split('.')[-1]} {share:.0%}" for name, share in shares.items())
        print(f"what mattered to {model}: {told}")
    judged = Table(
        "best of", "split", "videos", "accuracy", "95 %", "macro AUC", "log loss", box=None
    )
    for family in config.families:
        for split in ("val", "test"):
            if family in winners:
                judged.add_row(family, split, *_figures(winners[family][split]))
    console.print(judged)
    chosen = winners["best"]
    print(
        f"best: {winners[chosen]['model']} ({chosen}), model folder "
        f"{storage.join(config.out, 'best')}, in {duration(seconds)}"
    )


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    low, high = metrics["intervals"]["accuracy"] or (float("nan"), float("nan"))
    auc = metrics["macro_auc"]
    return [
        str(metrics["num_videos"]),
        f"{metrics['accuracy']:.3f}",
        f"{low:.2f} to {high:.2f}",
        "-" if auc is None else f"{auc:.3f}",
        f"{metrics['log_loss']:.3f}",
    ]


if __name__ == "__main__":
    cli.run(SearchConfig, main)
