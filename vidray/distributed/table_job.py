"""A job that makes a table of videos: checked, listed, made on Ray, published, summarised."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vidray import storage
from vidray.distributed.resources import PredictorChoice, Resources
from vidray.learning import split_report
from vidray.sources import list_videos
from vidray.tables import run_folder, summary
from vidray.tables.runs import Run

if TYPE_CHECKING:
    from vidray.distributed.worker import TableSettings

    class JobSettings(TableSettings, Protocol):
        """Settings of a table that also say which libraries decide its rows."""

        @property
        def libraries(self) -> tuple[str, ...]:
            """Names of distributions."""


def make(
    kind: Literal["features", "clips"],
    videos: str,
    out: str,
    settings: JobSettings,
    resources: Resources,
    *,
    predicting: tuple[PredictorChoice, str] | None = None,
    config: Mapping[str, Any],
    verb: str,
    split_fractions: tuple[float, float, float] | None = None,
    show: int = 0,
    overwrite: bool = False,
) -> None:
    """Make the missing parts of the table, and print the result.

    Args:
        videos: the source.
        settings: what decides a row.
        predicting: which processes hold the network that rows are made by, and their work
            (``module:function``); None where there is no network.
        config: what run.json shows.
        verb: what the progress line calls it.
        split_fractions: fractions of splits to derive; None keeps the given splits.
        show: rows to print.

    Raises:
        UserError: the folder holds something else, or the source is wrong.
    """
    folder = storage.canonical(out)
    run_folder.check(folder, kind, videos=videos)
    run = Run(
        out=folder,
        table=kind,
        videos=storage.without_secrets(storage.canonical(videos)),
        digest=f"{settings.digest} {split_fractions or 'splits as given'}",
        libraries=settings.libraries,
    )
    # Ray takes a second to import: not for a folder that holds something else.
    from vidray.distributed import pipeline

    report = pipeline.make_run(
        run,
        partial(list_videos, videos, splits=split_fractions),
        settings,
        resources,
        dict(config),
        predicting=predicting,
        verb=verb,
        overwrite=overwrite,
    )
    summary.print_rows(run, show)
    if split_fractions:
        split_report.print_split_counts(run.read_videos())
    summary.print_run(run, report)
