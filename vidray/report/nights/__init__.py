"""Labelling night by night: what came in, what failed, drift, the least sure videos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from vidray import storage
from vidray.errors import ERROR_KINDS
from vidray.report.blocks import Column, DataTable, Finding, Fold, Part, Prose, Section
from vidray.report.formats import plural
from vidray.report.nights import alarms, charts_over_nights, drift, labels, rows, unsure, watched
from vidray.report.nights import origin as origins
from vidray.report.nights.rows import NightRows
from vidray.report.runs import Runs
from vidray.report.tools import Tools

NAME = "nights"
# Of a night's videos; more failures than these are worth a person's look.
_MANY_FAILED = 0.05
_MOST_MESSAGE = 200  # Characters of an error in the table; the CSV has all.
_IN_SIGHT = 30
# Of all sets of labels together.
_MOST_FINDINGS = 3
_LEVELS = ("alarm", "warning", "good", "note")


def section(runs: Runs, tools: Tools) -> Section | None:
    """The chapter; None where no run has anything for it."""
    sets = [found for history in runs.labels if (found := rows.of_history(history))]
    if not sets:
        return None
    newest = max(sets, key=lambda one: int(one.numbers[-1]))
    blocks: list[Part] = []
    findings: list[Finding] = []
    files: dict[str, bytes] = {}
    for number, found in enumerate(sets, start=1):
        slug = NAME if len(sets) == 1 else f"{NAME}-{number}"
        parts, own, more = _of_set(found, runs, tools, slug)
        if len(sets) > 1:
            title = f"{found.history.name}: labels by {found.history.model_name}"
            is_open = found is newest or any(one.level == "alarm" for one in own)
            parts = [Fold(title=title, blocks=parts, is_open=is_open)]
            own = [replace(one, text=f"{found.history.name}: {one.text}") for one in own]
        blocks += parts
        findings += own
        files |= more
    worst = sorted(findings, key=lambda one: _LEVELS.index(one.level))[:_MOST_FINDINGS]
    return Section(
        name=NAME,
        title="Nights",
        lead=(
            "What each run of the label job found, what became of it, whether last night's videos "
            "and labels are unlike those before, and which labels a person should look at first."
        ),
        blocks=blocks,
        findings=worst,
        files=files,
    )


def _of_set(
    found: NightRows, runs: Runs, tools: Tools, slug: str
) -> tuple[list[Part], list[Finding], Mapping[str, bytes]]:
    """The parts of one set of labels, its findings and its files."""
    seed = tools.settings.seed
    origin = origins.of_labels(found, runs)
    seen = watched.watch(found, origin, most_nights=drift.MOST_NIGHTS + drift.BEFORE, seed=seed)
    made = drift.of_nights(found, seen, seed=seed)
    frame = rows.per_night(found, tools.settings)
    kinds = rows.failures(found)
    said = last_night(found, frame, kinds)
    level, text = alarms.verdict(found, made)
    unsure_blocks, files = unsure.blocks(found, tools, slug)
    blocks: list[Part] = [
        Prose(paragraphs=[said]),
        Prose(paragraphs=[text], is_finding=level != "note"),
        *_failed(found, slug),
        *alarms.blocks(found, made, slug),
        *charts_over_nights.of_counts(frame, kinds, slug, _prices(tools)),
        *labels.blocks(found, origin, seen.is_learnt[: len(found.rows)], slug, seed=seed),
        Prose(paragraphs=[*_history(found, frame), *seen.problems]),
        _table(frame, slug),
        *unsure_blocks,
    ]
    share = frame["failed_share"].iloc[-1]
    failing: alarms.Level = "warning" if share >= _MANY_FAILED else "note"
    findings = [Finding(level=failing, text=said, section=NAME)]
    if any(one.night == found.count - 1 for one in made):  # Else nothing is known of drift.
        findings.insert(0, Finding(level=level, text=text, section=NAME))
    return blocks, findings, files


def _prices(tools: Tools) -> str:
    settings = tools.settings
    return (
        f"At {settings.cpu_hour_price:g} for a CPU core and {settings.gpu_hour_price:g} for a GPU "
        "an hour, while videos were labelled."
    )


# In words


def last_night(found: NightRows, frame: pd.DataFrame, kinds: pd.DataFrame) -> str:
    """``Night 30 (2026-11-25): 3,333 videos came in, 3,301 labelled, 32 failed (…).``"""
    row = frame.iloc[-1]
    name = found.name(found.count - 1)
    parts = [f"{plural(round(row['came_in']), 'video')} came in"]
    if row["again"] > 0:
        parts[0] += f" ({row['again']:,.0f} of them labelled again)"
    parts.append(f"{row['labelled']:,.0f} labelled")
    counts = kinds.drop(columns="night").iloc[-1]
    failed = ", ".join(
        f"{number:,.0f} {kind}"
        for kind, number in counts[counts > 0].sort_values(ascending=False).items()
    )
    parts.append(f"{row['failed']:,.0f} failed" + (f" ({failed})" if failed else ""))
    if row["skipped"]:
        parts.append(f"{row['skipped']:,.0f} skipped")
    left = []
    if row["waiting"]:
        left.append(f"{row['waiting']:,.0f} wait for another attempt")
    if row["given_up"]:
        left.append(f"{row['given_up']:,.0f} in all are given up")
    after = f" {' and '.join(left)}." if left else ""
    return f"{name[0].upper()}{name[1:]}: {', '.join(parts)}.{after}"


def _history(found: NightRows, frame: pd.DataFrame) -> list[str]:
    """What all nights came to, and what is not known of them."""
    videos, hours = len(np.unique(found.video)), frame["hours_of_video"].sum()
    nights = "1 night" if found.count == 1 else f"{found.count:,} nights"
    said = [
        (
            f"{nights} of labels by {found.history.model_name} (set {found.history.set_name}): "
            f"{videos:,} videos, {hours:,.1f} hours. A night is named by the number of its commit."
        )
    ]
    if not found.is_whole.all():
        said.append(
            f"Of {(~found.is_whole).sum():,} nights whose files were compacted only the newest row "
            "of each video is left; how many came in and failed is from their reports."
        )
    unknown = int(frame["videos_per_second"].isna().sum())
    if unknown:
        said.append(
            f"Of {unknown:,} nights no report is kept (older versions kept only the last one's): "
            "their speed and cost are not known."
        )
    return said


# Parts


def _failed(found: NightRows, slug: str) -> list[Part]:
    """Last night's failures by kind, each with an example."""
    codes = np.where(found.night == found.count - 1, found.kinds.codes, -1)
    present, first, count = np.unique(codes, return_index=True, return_counts=True)
    examples = []
    for code, at, number in zip(present.tolist(), first.tolist(), count.tolist(), strict=True):
        if code < 0:
            continue
        row = found.rows.slice(at, 1).to_pylist()[0]
        message = " ".join(str(row["error_message"] or "").split())
        kind = found.kinds.names[code]
        examples.append(
            {
                "kind": kind,
                "videos": number,
                "meaning": ERROR_KINDS.get(kind, ""),
                "example": storage.name_of(storage.without_secrets(row["uri"])),
                "shown": message[:_MOST_MESSAGE] + ("…" if len(message) > _MOST_MESSAGE else ""),
                "error_message": message,
                "uri": storage.without_secrets(row["uri"]),
            }
        )
    if not examples:
        return []
    frame = pd.DataFrame(examples).sort_values(
        "videos", ascending=False, kind="stable", ignore_index=True
    )
    return [
        DataTable(
            name=f"{slug}-failures",
            title="Why videos failed last night, with an example of each",
            frame=frame,
            columns={
                "kind": Column(),
                "videos": Column(form="count"),
                "meaning": Column(),
                "example": Column(),
                "shown": Column(title="its error"),
            },
        )
    ]


def _table(frame: pd.DataFrame, slug: str) -> DataTable:
    """A row a night, the newest first."""
    columns = {
        "night": Column(form="count"),
        "committed_at": Column(title="committed (UTC)", form="date"),
        "came_in": Column(title="came in", form="count"),
        "again": Column(
            title="labelled again", form="count", hint="retried, or their content changed"
        ),
        "labelled": Column(form="count"),
        "failed": Column(form="count"),
        "failed_share": Column(title="share failed", form="percent"),
        "waiting": Column(
            form="count", hint="after the night: failed, and may succeed at the next attempt"
        ),
        "given_up": Column(title="given up", form="count", hint="after the night, in all"),
        "hours_of_video": Column(title="hours of video", form="number"),
        "videos_per_second": Column(title="videos a second", form="number"),
        "cost": Column(form="number", hint="CPU and GPU time at the prices of this page"),
    }
    if frame["skipped"].sum():
        columns["skipped"] = Column(form="count")
    return DataTable(
        name=f"{slug}-table",
        title="Every night",
        frame=frame.iloc[::-1].reset_index(drop=True),
        columns=columns,
        note=_IN_TABLE,
        most_rows=_IN_SIGHT,
    )


_IN_TABLE = (
    "The newest first. Waiting and given up are counts after the night: videos that failed for a "
    "reason that may pass, with attempts left, and those that will not be tried again."
)
