"""Compare models fairly: all on the same videos, the same folds, the same test set.

    python jobs/study.py --features runs/features --clips runs/clips --out runs/study
        --models extra_trees svm resnet18_avg r3d_18 --fractions 0.1 0.25 0.5 1.0

Needs finished runs of jobs/extract.py (classical models) and jobs/clips.py (deep ones) over the
same videos. Each model is trained once for the test set, folds x repeats times for the
cross-validation and once per fraction for the learning curve: minutes for classical models, that
many trainings for deep ones. Each is stored as it is done; run the same command again after a kill
and it goes on from there, also with models, folds or fractions added. Leaves study.json,
study.parquet, pareto.png, learning_curve.json and learning_curve.png. Exports, pruned networks and
networks with exits are judged beside them: name their folders with --folders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from vidray import cli
from vidray.evaluation.study_settings import StudySettings
from vidray.flags import Flat


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Compare models: test set, cross-validation over all labelled videos, learning curve."""

    settings: Annotated[StudySettings, Flat]
    out: str
    """Folder to write, local or in a bucket."""
    overwrite: bool = False
    """Start afresh: remove what an earlier run left in the folder first."""


def main(config: StudyConfig) -> None:
    """Train every model, judge it, write and show the results."""
    # These take seconds to import: not before the arguments are known to be right.
    from vidray import storage
    from vidray.evaluation import console, study

    found = study.run(config.settings, storage.canonical(config.out), overwrite=config.overwrite)
    console.print_study(config.out, config.settings.folds, found)


if __name__ == "__main__":
    cli.run(StudyConfig, main)
