"""The shortcut check on the page: in words, as a figure, and beside the models' accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vidray.evaluation.pairs import SIGNIFICANT, differences, least_p
from vidray.evaluation.study_plan import METADATA
from vidray.report import charts
from vidray.report.blocks import Column, DataTable, Finding, Part, Prose
from vidray.report.dataset.shortcuts import (
    ALL,
    ALL_FILE,
    FILE_COLUMNS,
    Rival,
    Shortcuts,
    measure,
    rival,
)
from vidray.report.dataset.video_sets import VideoSet
from vidray.report.runs import JudgedModel, Runs

# So far above guessing on the way to 1, metadata matter to somebody who reads this page.
_WORTH_SAYING = 0.1
_TOGETHER = {ALL_FILE: "All file properties", ALL: "All properties of file and picture"}


def blocks(
    videos: VideoSet, runs: Runs, *, slug: str, section: str, seed: int
) -> tuple[list[Part], list[Finding]]:
    """The parts of the page, and what the first screen says of it."""
    labelled = videos.labelled
    if labelled["label"].nunique() < 2:
        return [], []
    found = measure(labelled, seed=seed)
    if isinstance(found, str):
        return [Prose(paragraphs=[f"Shortcut check {found}."])], []
    if not len(found.frame):
        return [Prose(paragraphs=["Shortcut check: all videos have the same properties."])], []
    beside = compare(labelled, runs.judged, seed=seed)
    said = _verdict(found)
    parts: list[Part] = [
        Prose(paragraphs=[said], is_finding=True),
        Prose(paragraphs=[_method(found)]),
        _chart(found, slug),
        _table(found, slug),
    ]
    for number, one in enumerate(beside, start=1):
        parts += [Prose(paragraphs=[rivals_said(one)], is_finding=True)]
        parts += [_beside(one, f"{slug}-{number}")]
    # A study has judged the metadata, too, and the chapter that compares the models says it.
    is_said = any(METADATA in study.rows["model"].to_pylist() for study in runs.studies)
    return parts, _findings(found, [] if is_said else beside, said, section)


def _verdict(found: Shortcuts) -> str:
    """What the check says, in words with its figures."""
    strong = found.frame[found.frame["is_shortcut"]]
    best = _rows(found.frame)[0]
    guess = f"guessing gives {found.guessing:.2f}"
    if len(strong):
        named = [f"the {row['title']} alone gives {_with_interval(row)}" for row in _rows(strong)]
        text = f"File properties give the class away: {'; '.join(named[:3])}; {guess}."
    else:
        text = (
            f"No property of the files tells the class by itself: the best, the {best['title']}, "
            f"gives {_with_interval(best)}; {guess}."
        )
    if len(found.together):
        told = found.together[found.together["is_shortcut"] | (found.together["title"] == ALL_FILE)]
        for one in _rows(told if len(told) else found.together):
            proven = ", better than guessing" if one["is_shortcut"] else ", which may be chance"
            text += f" {_TOGETHER[one['title']]} together give {_with_interval(one)}{proven}."
    return text


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _with_interval(row: Mapping[str, Any]) -> str:
    return f"{row['balanced_accuracy']:.2f} ({row['low']:.2f} to {row['high']:.2f})"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _method(found: Shortcuts) -> str:
    text = (
        "Trees that see one number of a video, such as its width or how bright its pictures are "
        "on the whole, and nothing of what happens in it, predict the class of each of "
        f"{found.videos:,} videos without having seen its recording ({found.recordings:,} "
        f"recordings). The figure is balanced accuracy, the mean over {len(found.class_names)} "
        "classes of the share found right; the interval is over recordings. A property counts as "
        f"a shortcut where it beats guessing at p < {SIGNIFICANT} after Holm's correction. A "
        "model may have learned these instead of what is to be seen: make the classes alike in "
        "them, or test on videos that are."
    )
    if found.of_videos > found.videos and not found.left_out:
        text += f" These videos are drawn by chance from {found.of_videos:,}."
    if found.left_out:
        few = ", ".join(found.left_out[:5]) + (" \u2026" if len(found.left_out) > 5 else "")
        text += f" Left out: {len(found.left_out)} classes of too few recordings ({few})."
    return text


def _chart(found: Shortcuts, slug: str) -> Part:
    rows = pd.concat([found.together, found.frame], ignore_index=True)
    rows["kind"] = np.where(rows["is_shortcut"], "beats guessing", "may be chance")
    rows["said"] = [
        f"{row['title']}: balanced accuracy {_with_interval(row)}, {row['kind']}"
        for row in _rows(rows)
    ]
    return charts.dots(
        rows,
        label="title",
        value="balanced_accuracy",
        low="low",
        high="high",
        value_title=f"balanced accuracy (guessing: {found.guessing:.2f})",
        color="kind",
        name=f"shortcuts-{slug}",
        title="How well a property alone tells the class",
    )


def _table(found: Shortcuts, slug: str) -> Part:
    rows = pd.concat([found.together, found.frame], ignore_index=True)
    rows["verdict"] = np.where(rows["is_shortcut"], "tells the class", "not shown to")
    rows["of"] = [
        "" if not row["column"] else "file" if row["column"] in FILE_COLUMNS else "picture"
        for row in _rows(rows)
    ]
    return DataTable(
        name=f"shortcut-figures-{slug}",
        title="Each property alone, and together",
        frame=rows.assign(p_said=rows["p"].map(_p)),
        columns={
            "title": Column(title="Property"),
            "balanced_accuracy": Column(
                title="Balanced accuracy", form="share", interval=("low", "high")
            ),
            "p_said": Column(title="p", hint="after Holm's correction over properties"),
            "verdict": Column(title="Verdict"),
            "differs": Column(title="How the classes differ"),
        },
    )


def compare(
    labelled: pd.DataFrame, judged: Sequence[JudgedModel], *, seed: int
) -> list[pd.DataFrame]:
    """For each set of videos that models were judged on, those of most models first, a row a model:
    model, run, split, videos, recordings, accuracy, that of file properties alone on the same
    videos, the difference with its interval, and p after Holm.
    """
    on_same: dict[tuple[tuple[str, ...], tuple[str, ...]], list[JudgedModel]] = {}
    for one in judged:
        pairs = sorted(zip(one.video_ids, one.truth, strict=True))
        key = (tuple(video for video, _ in pairs), tuple(label for _, label in pairs))
        on_same.setdefault(key, []).append(one)
    found = []
    for (video_ids, truth), models in on_same.items():
        other = rival(labelled, video_ids, truth, seed=seed)
        if other is not None:
            recordings = labelled.set_index("video_id")["recording"].loc[list(video_ids)]
            found.append(_beside_models(models, other, recordings, seed))
    return sorted(found, key=lambda frame: -len(frame))


def _beside_models(
    models: Sequence[JudgedModel], other: Rival, recordings: pd.Series[str], seed: int
) -> pd.DataFrame:
    """Models beside their rival, the most accurate first; their videos are sorted by id."""
    rights = [_rights(one) for one in models]
    group_of = pd.factorize(recordings)[0].astype(np.int64)
    pairs = [(number, len(models)) for number in range(len(models))]
    gains = differences(np.stack([*rights, other.hits]), pairs, group_of, seed=seed)
    rows = [
        {
            "model": one.title,
            "run": one.name,
            "split": one.split,
            "videos": len(right),
            "recordings": int(group_of.max()) + 1,
            "accuracy": float(right.mean()),
            "metadata": float(other.hits.mean()),
            "taught_with": other.taught_with,
            "difference": gain.value,
            "low": None if gain.interval is None else gain.interval[0],
            "high": None if gain.interval is None else gain.interval[1],
            "p": gain.corrected,
            "is_better": gain.is_real and gain.value > 0,
            "is_worse": gain.is_real and gain.value < 0,
        }
        for one, right, gain in zip(models, rights, gains, strict=True)
    ]
    frame = pd.DataFrame(rows)
    return frame.sort_values("accuracy", ascending=False, kind="stable", ignore_index=True)


def _rights(one: JudgedModel) -> NDArray[np.bool_]:
    """Which videos, sorted by id, a model labels right."""
    order = np.argsort(np.asarray(one.video_ids, object), kind="stable")
    right = np.asarray(one.predicted, object) == np.asarray(one.truth, object)
    return np.asarray(right, np.bool_)[order]


def rivals_said(beside: pd.DataFrame) -> str:
    """Which models beat the file properties, in a sentence."""
    best = beside.iloc[0]
    better = int(beside["is_better"].sum())
    gain = f"{best['difference']:+.3f}"
    if pd.notna(best["low"]):
        gain += f", {best['low']:+.3f} to {best['high']:+.3f}"
    figures = (
        f"the best, {best['model']}, has {best['accuracy']:.3f} on {best['videos']} "
        f"{best['split']} videos of {best['recordings']} recordings, a forest over file "
        f"properties alone {best['metadata']:.3f} (difference {gain})"
    )
    if not better:
        few = "" if _could_show(beside) else ". So few recordings cannot show a difference"
        models = f"None of {len(beside)} models" if len(beside) > 1 else "The model"
        not_ = "" if len(beside) > 1 else "not "
        return f"{models} is {not_}shown to be better than the metadata: {figures}{few}."
    verb = "is" if better == 1 else "are"
    return f"{better} of {len(beside)} models {verb} better than the metadata: {figures}."


def _could_show(beside: pd.DataFrame) -> bool:
    """Whether so many recordings can prove a model better, all of them being for it."""
    return len(beside) * least_p(int(beside["recordings"].iloc[0])) <= SIGNIFICANT


def _beside(beside: pd.DataFrame, slug: str) -> Part:
    verdicts = np.where(beside["is_better"], "better", "not shown to be better")
    run = {} if beside["model"].is_unique else {"run": Column(title="Run")}
    return DataTable(
        name=f"models-and-metadata-{slug}",
        title="Models beside a forest over file properties, on the same videos",
        frame=beside.assign(
            verdict=np.where(beside["is_worse"], "worse", verdicts), p_said=beside["p"].map(_p)
        ),
        columns={
            "model": Column(title="Model"),
            **run,
            "videos": Column(title="Videos", form="count"),
            "accuracy": Column(title="Accuracy", form="share", best="highest"),
            "metadata": Column(title="Metadata alone", form="share"),
            "difference": Column(title="Difference", form="share", interval=("low", "high")),
            "p_said": Column(title="p", hint="exact, paired, over recordings; after Holm"),
            "verdict": Column(title="Than the metadata"),
        },
        note="The forest is taught with the other recordings of these videos and sees "
        f"{len(FILE_COLUMNS)} properties of a file, no picture. Intervals are over recordings.",
    )


def _findings(found: Shortcuts, beside: pd.DataFrame, said: str, section: str) -> list[Finding]:
    findings = []
    every = pd.concat([found.together, found.frame], ignore_index=True)
    enough = found.guessing + _WORTH_SAYING * (1 - found.guessing)
    if (every["is_shortcut"] & (every["balanced_accuracy"] >= enough)).any():
        findings.append(Finding(level="warning", text=said, section=section))
    first = beside[0] if beside else pd.DataFrame({"is_better": [True]})
    if not first["is_better"].any() and (first["difference"].iloc[0] <= 0 or _could_show(first)):
        findings.append(Finding(level="warning", text=rivals_said(first), section=section))
    return findings
