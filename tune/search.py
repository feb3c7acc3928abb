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
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import ray
from rich.console import Console

# `python tune/search.py` finds modules beside itself only.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tune import spaces
from vidray import cli, storage
from vidray.distributed import training
from vidray.distributed.capacity import connect
from vidray.errors import UserError
from vidray.evaluation.drawing import save_figure
from vidray.learning.augment import Augmentation
from vidray.learning.deep_job import Workers
from vidray.learning.examples import Examples, Selection
from vidray.learning.hyperparameters import Training
from vidray.learning.recordings import Demand
from vidray.learning.train_config import (
    DeepSettings,
    Flat,
    check_model,
    deciding_settings,
)
from vidray.models import classical
from vidray.models.folds import MOST_REPEATS
from vidray.progress import duration
from vidray.search import conductor, winners
from vidray.search.conductor import Plan
from vidray.search.data import Data, read
from vidray.search.plots import importance_bars, search_curve
from vidray.search.proposals import (
    Family,
    Metric,
    Proposals,
    Searcher,
    State,
    Trial,
    importances,
    is_loss,
    to_table,
)
from vidray.search.trials import ClassicalTrials, DeepTrials
from vidray.storage import parquet
from vidray.storage.json_file import write_json
from vidray.tables import out_folder, summary, versions
from vidray.tables.summary import Table
from vidray.tables.work_folder import WORK, WorkFolder

_OURS = (
    "trials", "trials.parquet", "search.json", "search.png", "importance.png", "best", "test",
    "classical", "deep",
)  # fmt: skip
# A deep trial without a GPU: more threads than this share a clip badly.
_MOST_CPUS = 4
_OF_CLASSICAL = ("preset", "feature_families", "folds", "repeats", "calibrated")
_STATES: tuple[State, ...] = ("ok", "stopped", "failed")
_LIBRARIES: dict[Family, tuple[str, ...]] = {
    "classical": (*versions.CLASSICAL, "optuna"),
    "deep": (*versions.DEEP, "optuna"),
}


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Search hyperparameters of classical and deep models."""

    data: tuple[str, ...]
    """Finished runs to learn from, of jobs/extract.py for classical models and of jobs/clips.py for
    deep ones, or a folder that holds them as ``features`` and ``clips``; local or in a bucket.
    Where they give no splits, these are derived (see --split-fractions)."""
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
    selection: Annotated[Selection, Flat] = field(default_factory=Selection)
    deep: Annotated[DeepSettings, Flat] = field(default_factory=DeepSettings)
    training: Annotated[Training, Flat] = field(default_factory=Training)
    augmentation: Annotated[Augmentation, Flat] = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("folds", 2), ("repeats", 1)):
            value = getattr(self, name)
            if value < least:
                raise UserError(f"{name} is {value}: it must be {least} or more")
        if self.repeats > MOST_REPEATS:
            raise UserError(f"repeats is {self.repeats}: it must be {MOST_REPEATS} at the most")
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
        if self.training.keep != Training().keep:
            raise UserError("--keep follows from --metric here: leave it out")
        plain = (DeepSettings(), Training(seed=self.training.seed), Augmentation(), True)
        given = (self.deep, self.training, self.augmentation, self.early_stopping)
        if "deep" not in self.families and given != plain:
            raise UserError("there are flags for deep models and --families has no deep")
        if "classical" not in self.families:
            for name in _OF_CLASSICAL:
                if getattr(self, name) != SearchConfig.__dataclass_fields__[name].default:
                    flag = "--" + name.replace("_", "-")
                    raise UserError(f"{flag} is of classical models, and --families has none")

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
    """Search each family, hand over the best of each, show what came of it."""
    began = time.monotonic()
    out_folder.check(storage.canonical(config.out), "search")
    data = read(
        config.data,
        config.families,
        feature_families=config.feature_families,
        selection=config.selection,
        demand=_demand(config),
    )
    connect()
    folder = _claim(config, data)
    trials: list[Trial] = []
    for number, family in enumerate(data):
        deadline = _deadline(config, began, len(data) - number)
        trials += _search(config, folder, data[family], family, deadline)
    table = to_table(trials)
    storage.write_bytes(folder.path("trials.parquet"), parquet.parquet_bytes(table))
    best = winners.hand_over(folder, data, trials, metric=config.metric, seed=config.seed)
    if not best:
        reason = next((trial.error for trial in trials if trial.error), "all were stopped")
        raise UserError(
            f"no trial came to its end ({reason}): see {folder.path('trials.parquet')}, and give "
            "--no-resume to start afresh with what is right"
        )
    chosen = winners.choose(folder, best, metric=config.metric)
    mattered = {family: importances(_of(trials, family), seed=config.seed) for family in data}
    found = {"metric": config.metric, "best": chosen, "winners": best, "importance": mattered}
    write_json(folder.path("search.json"), found)
    _draw(config, folder, trials, mattered)
    counts = {family: Counter(t.state for t in _of(trials, family)) for family in data}
    folder.finish(trials=counts, seconds=time.monotonic() - began)
    _say(config, trials, found, time.monotonic() - began)


def _demand(config: SearchConfig) -> Demand:
    """What a classical trial asks of the recordings of each class."""
    return Demand(
        folds=config.folds,
        repeats=config.repeats,
        calibrated=config.calibrated,
        seed=config.seed,
        least_folds=2,
        uncalibrated="--no-calibrated --metric accuracy",
        left_out=config.selection.without_classes,
    )


def _claim(config: SearchConfig, data: Mapping[Family, Data]) -> WorkFolder:
    """The folder, and in its settings all that a trial's result depends on."""
    settings: dict[str, Any] = {
        "seed": config.seed,
        "metric": config.metric,
        "searcher": config.searcher,
        "preset": config.preset,
    }
    for family, own in data.items():
        settings[f"{family}_data"] = own.examples.digest
        settings[f"{family}_models"] = list(config.models_of(family))
    if "classical" in data:
        settings |= {
            "feature_families": list(data["classical"].examples.families),
            "folds": config.folds,
            "repeats": config.repeats,
            "calibrated": config.calibrated,
        }
    if "deep" in data:
        settings |= deciding_settings(config.deep, config.training, config.augmentation)
        settings["early_stopping"] = config.early_stopping
    asked = {
        "data": [storage.without_secrets(uri) for uri in config.data],
        "families": list(config.families),
        "selection": dataclasses.asdict(next(iter(data.values())).examples.selection),
        "trials": config.trials,
        "minutes": config.minutes,
    }
    folder = WorkFolder(
        out=storage.canonical(config.out),
        kind="search",
        ours=_OURS,
        settings=settings,
        asked=asked,
        libraries=tuple(name for family in data for name in _LIBRARIES[family]),
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


def _workers(config: SearchConfig) -> Workers:
    """One worker is the trial's own process."""
    who = config.deep.who
    return dataclasses.replace(who, most_cpus=_MOST_CPUS, in_process=who.workers == 1)


def _deadline(config: SearchConfig, began: float, families_left: int) -> float | None:
    """When the family that comes now must stop to begin trials: those left share what is left."""
    if config.minutes is None:
        return None
    now = time.monotonic()
    return now + max(0.0, began + 60 * config.minutes - now) / families_left


# The search of one family


def _search(
    config: SearchConfig, folder: WorkFolder, data: Data, family: Family, deadline: float | None
) -> list[Trial]:
    plan = Plan(
        family=family,
        folder=folder,
        proposals=_proposals(config, folder, data.examples, family),
        metric=config.metric,
        at_once=_at_once(config, family),
        deadline=deadline,
        epochs=config.training.epochs,
        stops_early=config.early_stopping,
    )
    print(
        f"{family}: up to {len(plan.proposals)} trials of "
        f"{', '.join(config.models_of(family))}; {plan.at_once} at once",
        flush=True,
    )
    if family == "deep":
        return conductor.run_deep(plan, _deep_trials(config, folder, data))
    return conductor.run_classical(plan, _classical_trials(config, data.examples))


def _classical_trials(config: SearchConfig, examples: Examples) -> ClassicalTrials:
    train = examples.of_split("train")
    return ClassicalTrials(
        x=classical.without_infinities(train.matrix()),
        y=train.targets(examples.class_names),
        groups=train.groups,
        class_names=examples.class_names,
        families=examples.families,
        folder=conductor.node_folder(),
        folds=config.folds,
        repeats=config.repeats,
        calibrated=config.calibrated,
        metric=config.metric,
        seed=config.seed,
    )


def _deep_trials(config: SearchConfig, folder: WorkFolder, data: Data) -> DeepTrials:
    return DeepTrials(
        data=data.uri,
        selection=data.examples.selection,
        work=folder.path(WORK),
        deep=config.deep,
        training=config.training,
        augmentation=config.augmentation,
        workers=_workers(config),
        metric=config.metric,
    )


def _proposals(
    config: SearchConfig, folder: WorkFolder, examples: Examples, family: Family
) -> Proposals:
    names = config.models_of(family)
    searcher: Searcher = config.searcher
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


# What a person sees


def _of(trials: Sequence[Trial], family: Family) -> list[Trial]:
    return [trial for trial in trials if trial.family == family]


def _draw(
    config: SearchConfig,
    folder: WorkFolder,
    trials: Sequence[Trial],
    mattered: Mapping[Family, Mapping[str, Mapping[str, float]]],
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
    figure = search_curve(rows, metric=config.metric, lowest=is_loss(config.metric))
    save_figure(figure, folder.path("search.png"))
    shares = {model: share for family in mattered.values() for model, share in family.items()}
    if shares:
        save_figure(importance_bars(shares), folder.path("importance.png"))


def _say(
    config: SearchConfig, trials: Sequence[Trial], found: Mapping[str, Any], seconds: float
) -> None:
    metric = config.metric.replace("_", " ")
    console = Console(width=summary.WIDTH)
    best = found["winners"]
    table = Table("family", "trials", "ok", "stopped", "failed", "best model", metric, box=None)
    judged = Table("best", "split", "videos", "accuracy", "95 %", "macro AUC", "log loss", box=None)
    for family in dict.fromkeys(config.families):
        own = _of(trials, family)
        counts = Counter(trial.state for trial in own)
        numbers = [str(len(own)), *(str(counts[state]) for state in _STATES)]
        winner = best.get(family)
        shown = (winner["model"], f"{winner['score']:.3f}") if winner else ("-", "-")
        table.add_row(family, *numbers, *shown)
        for split in ("val", "test") if winner else ():
            judged.add_row(family, split, *_figures(winner[split]))
    console.print(table)
    for shares in found["importance"].values():
        for model, own_shares in shares.items():
            told = [f"{n.split('.')[-1]} {share:.0%}" for n, share in own_shares.items()]
            print(f"what mattered to {model}: {', '.join(told)}")
    console.print(judged)
    chosen = found["best"]
    print(
        f"best: {best[chosen]['model']} ({chosen}), model folder "
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
