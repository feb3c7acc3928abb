"""Labelled features and clips -> the best settings of classical and deep models, and their folders.

    python tune/search.py --data runs/features --kinds classical --out runs/search
    python tune/search.py --data runs/features runs/clips --kinds classical deep \\
        --trials 40 --minutes 60 --out runs/search

Needs finished runs of jobs/extract.py (classical models) and jobs/clips.py (deep ones). A classical
trial takes seconds, a deep one as long as jobs/train.py unless it is stopped early. Leaves a table
of all trials, the best model folder of each kind and of both, ready for jobs/label.py, and how
these do on split test, which nothing else looks at. Run the same command again after a kill, or
with more --trials, and it goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from vidray import cli, storage
from vidray.flags import Flat
from vidray.models.names import ModelKind
from vidray.search.settings import SearchSettings
from vidray.tables import run_folder
from vidray.tune import candidates

if TYPE_CHECKING:
    from vidray.learning.examples import Examples
    from vidray.search.proposals import SearchSpace


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Search hyperparameters of classical and deep models."""

    data: tuple[str, ...]
    """Finished run of jobs/extract.py for classical models, of jobs/clips.py for deep ones. For
    both kinds give both, or a folder that holds them as ``features`` and ``clips``; splits that the
    data lack are derived (see --split-fractions)."""
    out: str
    """Folder to write, local or in a bucket."""
    overwrite: bool = False
    """Start afresh: remove what an earlier run left in the folder first."""
    search: Annotated[SearchSettings, Flat]
    """The search space, the metric and the limits."""

    def __post_init__(self) -> None:
        candidates.check_models(self.search)


def main(config: SearchConfig) -> None:
    """Search each kind, write the best model of each, show the results."""
    settings, out = config.search, storage.canonical(config.out)
    before = run_folder.check(out, "search")
    # What these import takes seconds: arguments are checked before them, data before Ray.
    from vidray.search import labelled_runs

    runs = labelled_runs.read_runs(
        config.data,
        settings,
        recorded=before.get("asked") if before and not config.overwrite else None,
    )

    from vidray.search import closing, search_run

    def space_of(kind: ModelKind, examples: Examples, models: Sequence[str]) -> SearchSpace:
        return candidates.space_of(settings, kind, examples, models)

    search = search_run.Search(
        out=out,
        settings=settings,
        runs=runs,
        models={kind: candidates.models_of(settings, kind) for kind in runs},
        first={kind: candidates.in_order(settings, kind) for kind in runs},
        space_of=space_of,
    )
    asked = {
        "data": [storage.without_secrets(uri) for uri in config.data],
        "kinds": list(settings.kinds),
        "selection": next(iter(runs.values())).examples.selection.to_json(),
        "trials": settings.trials,
        "minutes": settings.minutes,
    }
    found = search_run.run(search, asked=asked, overwrite=config.overwrite)
    closing.show(found, search)


if __name__ == "__main__":
    cli.run(SearchConfig, main)
