"""Maps of the videos: t-SNE and UMAP of features and of embeddings, and what is true in them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd

from vidray import storage
from vidray.evaluation.intervals import Floats, Integers
from vidray.report import charts
from vidray.report.blocks import Chart, Column, DataTable, Finding, Fold, Prose, Section
from vidray.report.inside import projections
from vidray.report.inside.map_points import MapPoints, all_points
from vidray.report.inside.projections import Neighbourhood
from vidray.report.inside.video_cards import VideoCards, gallery, stretches_of
from vidray.report.runs import Runs
from vidray.report.tools import Tools

# Each map takes a second or two.
_MOST_SPACES = 4
# Points of a map, each of which has a frame in the page.
MOST_SHOWN = 300
# One less than there are colours: the rest share the last.
_MOST_CLASSES = 7
_FRAME_HEIGHT_PX = 64
_POINT_SIZE = 45
_UNKNOWN, _OTHERS = "unknown", "other classes"


@dataclass(frozen=True, kw_only=True)
class _Space:
    """Videos, their numbers standardised, and what their neighbours are."""

    points: MapPoints
    values: Floats
    near: Neighbourhood | None

    @property
    def shown(self) -> pd.DataFrame:
        """The videos on the map."""
        return self.points.frame.head(MOST_SHOWN)

    @property
    def own_recording(self) -> float | None:
        """Share of neighbours that are of the video's recording; None where none is known."""
        is_known = bool(self.points.frame["recording"].notna().any())
        return self.near.own_recording if self.near is not None and is_known else None


def section(runs: Runs, tools: Tools) -> Section | None:
    """The chapter; None where no run has features or embeddings of enough videos."""
    found = list(itertools.islice(_spaces(runs, tools.settings.seed), _MOST_SPACES + 1))
    spaces = found[:_MOST_SPACES]
    if not spaces:
        return None
    cards = VideoCards(
        tools.thumbnails,
        "map",
        stretches_of(runs),
        height_px=_FRAME_HEIGHT_PX,
        has_captions=False,
    )
    each_once = pd.concat([space.shown for space in spaces]).drop_duplicates("video_id")
    # Made before the maps, whose points lead to them.
    frames = [
        cards.card(row["video_id"], row["uri"], _facts(row), frames=1)
        for row in each_once.to_dict("records")
    ]
    classes = _named_classes(each_once["true_label"])
    maps = [
        chart
        for number, space in enumerate(spaces, start=1)
        for chart in _maps(space, cards, classes, number, tools.settings.seed)
    ]
    return Section(
        name="maps",
        title="Maps of the videos",
        lead=(
            "Each point is a video, and videos with similar numbers are near one another. Colour "
            "and shape are the true class, a ring marks an error. Point at one to see its frame."
        ),
        blocks=[
            *maps,
            _table(spaces),
            Prose(paragraphs=_explanation(spaces, is_cut=len(found) > len(spaces))),
            Fold(
                title=f"The {len(frames)} videos on the maps",
                blocks=[gallery("One frame of each", frames, is_compact=True)],
                is_open=False,
            ),
        ],
        findings=_findings(spaces),
    )


def _spaces(runs: Runs, seed: int) -> Iterator[_Space]:
    """Each that has enough videos whose numbers differ; of runs that hold the same, the first."""
    seen = set()
    for points in all_points(runs, seed):
        if len(points.frame) >= projections.FEWEST:
            values = projections.standardised(points.vectors)
            key = (*points.frame["video_id"], blake2b(values.tobytes()).digest())
            if values.shape[1] and key not in seen:
                seen.add(key)
                yield _Space(points=points, values=values, near=_near(points, values, seed))


def _near(points: MapPoints, values: Floats, seed: int) -> Neighbourhood | None:
    """Of the videos whose class is known; None where there are too few, or of one class."""
    kept = points.frame["true_label"].notna().to_numpy()
    some = points.frame[kept]
    if len(some) < projections.FEWEST or some["true_label"].nunique() < 2:
        return None
    class_of = pd.factorize(some["true_label"])[0].astype(np.int64)
    return projections.neighbourhood(values[kept], class_of, _recordings(some), seed)


def _recordings(frame: pd.DataFrame) -> Integers:
    """The number of each video's recording, int64 (N,); a video without is one of its own."""
    units = [
        ("", video) if recording is None else (recording,)
        for recording, video in zip(frame["recording"], frame["video_id"], strict=True)
    ]
    number_of = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    return np.array([number_of[unit] for unit in units], np.int64)


def _named_classes(labels: pd.Series[Any]) -> list[str]:
    """The classes with a colour of their own: all, or the largest seven, by name."""
    counts = Counter(label for label in labels if label is not None)
    most = _MOST_CLASSES + (len(counts) == _MOST_CLASSES + 1)
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    return sorted(ranked[:most])


def _maps(
    space: _Space, cards: VideoCards, classes: Sequence[str], number: int, seed: int
) -> Iterator[Chart]:
    """The space by each method that is installed."""
    points, shown = space.points, space.shown
    values = space.values[: len(shown)]
    for method, (slug, project) in projections.METHODS.items():
        if slug == "umap" and not projections.has_umap():
            continue
        place = project(values, seed)
        frame = pd.DataFrame({"x": place[:, 0], "y": place[:, 1]})
        frame = frame.join(shown.reset_index(drop=True))
        frame["class"] = [_class(label, classes) for label in frame["true_label"]]
        frame["ringed"] = [_is_error(row) for row in frame.to_dict("records")]
        frame["said"] = [_said(row, points.model) for row in frame.to_dict("records")]
        frame["link"] = cards.links(frame["video_id"])
        order = {name: place for place, name in enumerate([*classes, _OTHERS, _UNKNOWN])}
        yield charts.scatter(
            frame.sort_values("class", key=lambda names: names.map(order), kind="stable"),
            x="x",
            y="y",
            x_title="",
            y_title="",
            name=f"map-{number}-{slug}",
            title=f"{method} of {points.what} ({points.run})",
            note=f"{_note(space)} {_kept(values, place)}",
            color="class",
            axes=False,
            size=_POINT_SIZE,
        )


def _class(label: str | None, classes: Sequence[str]) -> str:
    if label is None:
        return _UNKNOWN
    return label if label in classes else _OTHERS


def _is_error(row: Mapping[str, Any]) -> bool:
    return None not in (row["label"], row["true_label"]) and row["label"] != row["true_label"]


def _said(row: Mapping[str, Any], model: str) -> str:
    parts = [f"{storage.name_of(row['uri'])}: {row['true_label'] or 'class unknown'}"]
    if row["label"] is not None:
        parts.append(f"{model} says {row['label']}{' (wrong)' if _is_error(row) else ''}")
    if row["recording"] is not None:
        parts.append(f"recording {row['recording']}")
    return "; ".join(parts)


def _facts(row: Mapping[str, Any]) -> dict[str, str]:
    return {"true label": row["true_label"] or _UNKNOWN}


def _note(space: _Space) -> str:
    points, shown = space.points, space.shown
    said = f"{len(shown):,} videos"
    if len(shown) < points.num_videos:
        said = f"{len(shown):,} of {points.num_videos:,} videos, each class with its share"
    judged = int(shown["label"].notna().sum())
    if not judged:
        return f"{said}."
    errors = sum(_is_error(row) for row in shown.to_dict("records"))
    return f"{said}; {judged:,} have an answer of {points.model}, {errors:,} errors are ringed."


def _kept(values: Floats, place: Floats) -> str:
    share = 100 * projections.kept_neighbours(values, place)
    return (
        f"Of the five nearest points of each, {share:.0f} % are among the ten videos that are "
        "nearest in all dimensions."
    )


def _table(spaces: Sequence[_Space]) -> DataTable:
    rows = [
        {
            "numbers": space.points.what,
            "run": space.points.run,
            "videos": space.near.videos if space.near else None,
            "dimensions": space.values.shape[1],
            "same_class": space.near.same_class if space.near else None,
            "same_class_low": space.near.low if space.near else None,
            "same_class_high": space.near.high if space.near else None,
            "by_chance": space.near.by_chance if space.near else None,
            "own_recording": space.own_recording,
        }
        for space in spaces
    ]
    return DataTable(
        name="map-neighbours",
        title="What is true in all dimensions: the five nearest neighbours of each video",
        frame=pd.DataFrame(rows),
        columns={
            "numbers": Column(title="Numbers"),
            "run": Column(title="Run"),
            "videos": Column(title="Videos", form="count"),
            "dimensions": Column(title="Dimensions", form="count"),
            "same_class": Column(
                title="Of its class",
                form="percent",
                best="highest",
                interval=("same_class_low", "same_class_high"),
                hint="of the five nearest videos of other recordings",
            ),
            "by_chance": Column(
                title="By chance", form="percent", hint="if the numbers said nothing of the class"
            ),
            "own_recording": Column(
                title="Of its recording", form="percent", hint="of the five nearest videos of all"
            ),
        },
        note=(
            "Neighbours of the video's own recording are left out where classes are compared: that "
            "they look alike is no merit. Intervals (95 %) are from resampled recordings."
        ),
    )


def _explanation(spaces: Sequence[_Space], *, is_cut: bool) -> list[str]:
    first = (
        "A map shows which videos are alike, as far as two dimensions can: how many neighbours it "
        "keeps is below each. How far groups are from one another, how large they are and which "
        "way they lie means nothing, and groups may be seen in pure noise. So believe a group as "
        "far as the table above does, which looks at all dimensions."
    )
    said = [first]
    own = max((space.own_recording or 0.0 for space in spaces), default=0.0)
    if own > 0:
        said.append(
            f"Up to {100 * own:.0f} % of a video's nearest neighbours are of its own recording: "
            "tight groups are often recordings, not classes."
        )
    if not projections.has_umap():
        said.append("For a second map of each, by UMAP: pip install 'vidray[umap]'.")
    if is_cut:
        said.append(f"The first {len(spaces)} of the runs with features or embeddings are shown.")
    return said


def _findings(spaces: Sequence[_Space]) -> list[Finding]:
    """One warning where the numbers that models learn from do not tell the classes apart."""
    for space in spaces:
        near = space.near
        if near is not None and near.low is not None and near.low <= near.by_chance:
            text = (
                f"Nearest neighbours by {space.points.what} ({space.points.run}) are of the "
                f"video's class in {100 * near.same_class:.0f} % of cases and in "
                f"{100 * near.by_chance:.0f} % by chance: these numbers hardly tell the classes "
                "apart."
            )
            return [Finding(level="warning", text=text, section="maps")]
    return []
