"""The first screen: what the runs are, the one table that matters, what needs a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from vidray import storage
from vidray.report import beside
from vidray.report.blocks import (
    Column,
    DataTable,
    Finding,
    Fold,
    Gallery,
    Part,
    Prose,
    Section,
)
from vidray.report.formats import listing, plural
from vidray.report.runs import (
    ClipsRun,
    ExtractRun,
    FinishedRun,
    JudgedModel,
    LabelHistory,
    Problem,
    Runs,
    SearchResult,
    StudyResult,
    TrainedModel,
)

_LEVELS = ("alarm", "warning", "good", "note")
# Of findings of one level, what went wrong comes before what is to be known.
_FIRST = ("problems", "nights", "compare")
# Chapters whose first table may be the one of the first screen, the most telling first, and the
# columns of it that fit there.
_TABLES: dict[str, tuple[str, ...]] = {
    "compare": ("model", "kind", "accuracy", "macro_f1", "macro_auc", "ece",
                "end_to_end_seconds_per_video", "size_bytes"),
    "nights": (),
    "data": (),
}  # fmt: skip
_MOST_ROWS = 10
# Videos that a person should look at: of one reason before those of others, and in all.
_OF_ONE_REASON, _TO_SEE = 4, 10


def section(runs: Runs, sections: Sequence[Section], problems: Sequence[Problem] = ()) -> Section:
    """The first chapter, made of the findings and tables of all others."""
    findings = [finding for other in sections for finding in other.findings]
    if problems:
        findings.append(_missing(problems))
    findings.sort(key=lambda one: (_LEVELS.index(one.level), _urgency(one.section)))
    blocks: list[Part] = [Prose(paragraphs=[_what(runs)])]
    if table := _the_table(sections):
        blocks.append(table)
    if table := _to_see(sections):
        blocks.append(table)
    blocks.append(Fold(title="The runs on this page", blocks=[_runs(runs)], is_open=False))
    return Section(
        name="overview",
        title="Overview",
        lead=_lead(findings),
        blocks=blocks,
        findings=findings,
    )


def _lead(findings: Sequence[Finding]) -> str:
    counts = {level: sum(one.level == level for one in findings) for level in _LEVELS}
    if counts["alarm"]:
        return f"{plural(counts['alarm'], 'alarm')}: somebody must look at what is listed first."
    if counts["warning"]:
        return f"No alarm, and {plural(counts['warning'], 'warning')} to know of."
    return "Nothing here needs a person."


def _urgency(section: str) -> int:
    return _FIRST.index(section) if section in _FIRST else len(_FIRST)


def _missing(problems: Sequence[Problem]) -> Finding:
    first = problems[0]
    others = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    text = f"Not on this page: {storage.name_of(first.folder)} {first.why}{others}."
    return Finding(level="warning", text=text, section="problems")


def _what(runs: Runs) -> str:
    """What the page is of, in a sentence."""
    rows = [row for run in runs.features for row in _states(run)]
    videos, described = {video for video, _ in rows}, {v for v, status in rows if status == "ok"}
    clips = sum(len(run.rows) for run in runs.clips)
    labelled = {v for history in runs.labels for v in history.rows["video_id"].to_pylist()}
    nights = sum(len(history.rows["commit"].unique()) for history in runs.labels)
    said = [
        videos and _described(len(videos), len(described)),
        clips and f"{plural(clips, 'clip')} cut for training",
        runs.models and f"{plural(len(runs.models), 'model')} trained",
        runs.judged and f"{plural(len(runs.judged), 'evaluation')}",
        runs.studies and plural(len(runs.studies), "study", "studies"),
        runs.searches and plural(len(runs.searches), "search", "searches"),
        nights and f"{plural(nights, 'night')} of labels of {plural(len(labelled), 'video')}",
    ]
    found = [text for text in said if text]
    if not found:
        return "There is no finished run."
    return f"This page shows {listing(found)}."


def _states(run: ExtractRun) -> Iterator[tuple[str, str]]:
    columns = (run.rows[name].to_pylist() for name in ("video_id", "status"))
    return zip(*columns, strict=True)


def _described(videos: int, described: int) -> str:
    if described == videos:
        return f"{plural(videos, 'video')} described by features"
    return f"{plural(videos, 'video')}, {described:,} of them described by features"


def _the_table(sections: Sequence[Section]) -> DataTable | None:
    """The table that matters most for these runs, its telling columns only."""
    made = {other.name: other for other in sections}
    for name, wanted in _TABLES.items():
        parts = beside.parts(made[name].blocks) if name in made else ()
        tables = [part for part in parts if isinstance(part, DataTable)]
        if not tables:
            continue
        first = tables[0]
        names = [column for column in wanted if column in first.columns] or list(first.columns)
        return DataTable(
            name="overview-table",
            title=first.title,
            frame=first.frame,
            columns={column: first.columns[column] for column in names},
            most_rows=_MOST_ROWS,
            link=first.link,
            note=f"More of it in the chapter {made[name].title}.",
        )
    return None


def _to_see(sections: Sequence[Section]) -> DataTable | None:
    """The videos that a person should look at first: some of each reason, ten in all."""
    found = [
        {
            "video": card.title,
            "why": block.why,
            "link": f"#{card.anchor or section.name}",
            "place": place,
        }
        for section in sections
        for block in beside.parts(section.blocks)
        if isinstance(block, Gallery) and block.why
        for place, card in enumerate(block.cards)
    ]
    # Those of one reason stand together; of each the first few go before all others.
    rows = pd.DataFrame(found, columns=["video", "why", "link", "place"])
    rows = rows.drop_duplicates("video")
    early = rows["place"] < _OF_ONE_REASON
    chosen = pd.concat([rows[early], rows[~early]]).head(_TO_SEE).sort_index()
    if not len(chosen):
        return None
    return DataTable(
        name="videos-to-see",
        title="Videos to look at first",
        frame=chosen.drop(columns="place"),
        columns={"video": Column(title="Video"), "why": Column(title="Why")},
        link="link",
    )


def _runs(runs: Runs) -> DataTable:
    rows = [
        {"run": run.name, "job": _job(run), "holds": _holds(run), "took": _took(run),
         "folder": storage.without_secrets(run.out)}
        for run in runs.finished
    ]  # fmt: skip
    columns = {
        "run": Column(title="Run"),
        "job": Column(title="Job"),
        "holds": Column(title="Holds"),
        "took": Column(title="Took", form="seconds"),
        "folder": Column(title="Folder"),
    }
    frame = pd.DataFrame(rows, columns=list(columns))
    return DataTable(name="runs", title="Runs", frame=frame, columns=columns)


def _job(run: FinishedRun) -> str:
    kinds = {
        ExtractRun: "extract",
        ClipsRun: "clips",
        TrainedModel: "train",
        JudgedModel: "evaluate",
        StudyResult: "study",
        SearchResult: "search",
        LabelHistory: "label",
    }
    return kinds[type(run)]


def _holds(run: FinishedRun) -> str:
    match run:
        case ExtractRun():
            return f"{plural(len(run.rows), 'video')}: {', '.join(run.families)}"
        case ClipsRun():
            return plural(len(run.rows), "clip")
        case TrainedModel():
            classes = plural(len(run.info["class_names"]), "class", "classes")
            return f"{run.info['name']}, {classes}"
        case JudgedModel():
            return f"{run.title} on {plural(len(run.truth), 'video')} of split {run.split}"
        case StudyResult():
            return plural(len(run.rows["model"].unique()), "model")
        case SearchResult():
            return plural(len(run.trials), "trial")
        case LabelHistory():
            nights = plural(len(run.rows["commit"].unique()), "night")
            return f"{plural(len(run.rows), 'row')} in {nights}"
    return ""


def _took(run: FinishedRun) -> float | None:
    """Seconds of the whole job, as far as its run.json says."""
    whole = run.number("seconds", "all") or run.number("seconds")
    if whole is not None:
        return whole
    parts = [run.number("seconds", name) for name in ("startup", "working", "training")]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None
