"""Copies of videos across splits, or with different labels, on the page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from vidray import storage
from vidray.report.blocks import Card, Column, DataTable, Finding, Gallery, Part, Prose, Thumbnail
from vidray.report.dataset.duplicates import Compared, alike, compare, prepare, too_flat
from vidray.report.dataset.video_sets import VideoSet, splits_of
from vidray.report.frames.glances import Glances, glance_at
from vidray.report.settings import ReportSettings
from vidray.report.tools import Tools

# Each pair takes half a millisecond; where a whole set shows one place there are millions.
_MOST_PAIRS = 20_000
_MOST_SHOWN = 6
_HEIGHT_PX = 72  # two of 16:9 stand side by side in a card
_SIDES = ("first", "second")


@dataclass(frozen=True, kw_only=True)
class Copies:
    """What was found.

    Attributes:
        pairs: a row a pair that is a copy or the same place; columns of ``_row``.
        glances: of the videos compared.
        compared: videos; flat: of those, too dark or flat to be compared.
        of_videos: from so many.
        unchecked: pairs of like pictures beyond ``_MOST_PAIRS``.
    """

    pairs: pd.DataFrame
    glances: Glances
    compared: int
    flat: int
    of_videos: int
    unchecked: int

    @property
    def copies(self) -> pd.DataFrame:
        """Pairs that are copies."""
        return self.pairs.loc[self.pairs["is_copy"]]

    @property
    def across(self) -> pd.DataFrame:
        """Copies in two splits."""
        return self.copies.loc[self.copies["is_across"]]


def find(videos: VideoSet, settings: ReportSettings, *, most_seconds: float) -> Copies:
    """Copies among the videos that are in two splits or have two labels; and those of one place in
    two splits whose recordings are not known to be one.
    """
    readable = videos.frame[videos.frame["status"] == "ok"]
    chosen = choose(readable, settings.compared_videos, seed=settings.seed)
    names = ["video_id", "uri", "begin_seconds", "end_seconds"]
    rows = chosen[names].astype(object).where(chosen[names].notna(), None)
    found = glance_at(
        rows.to_dict("records"), hosts=settings.frames_from, most_seconds=most_seconds
    )
    by_id = chosen.set_index("video_id")
    by_id = by_id.loc[[video for video in by_id.index if video in found.of]]
    glances = {video: found.of[video] for video in by_id.index}
    places = [
        f"{split}\0{label}"
        for split, label in zip(by_id["split"].fillna(""), by_id["label"].fillna(""), strict=True)
    ]
    candidates = alike(glances, places)
    ids = list(glances)
    wanted = {number for pair in candidates[:_MOST_PAIRS] for number in pair}
    prepared = {number: prepare(glances[ids[number]]) for number in sorted(wanted)}
    pairs = [compare(ids[a], ids[b], prepared[a], prepared[b]) for a, b in candidates[:_MOST_PAIRS]]
    rows_of = [
        _row(pair, by_id.loc[pair.first], by_id.loc[pair.second])
        for pair in pairs
        if pair.is_copy or pair.is_same_place
    ]
    frame = pd.DataFrame(rows_of, columns=[*_COLUMNS])
    frame = frame.astype({name: bool for name in _COLUMNS if name.startswith("is_")})
    is_shown = frame["is_copy"] | (frame["is_across"] & ~frame["is_one_recording"])
    return Copies(
        pairs=frame.loc[is_shown],
        glances=found,
        compared=len(glances),
        flat=len(too_flat(glances)),
        of_videos=len(readable),
        unchecked=max(0, len(candidates) - _MOST_PAIRS),
    )


_COLUMNS = (
    "first", "first_uri", "first_label", "first_split", "second", "second_uri", "second_label",
    "second_split", "bits", "motion", "later_seconds", "is_copy", "is_across", "is_one_label",
    "is_one_recording",
)  # fmt: skip


def _row(pair: Compared, first: pd.Series[str], second: pd.Series[str]) -> dict[str, object]:
    both = {
        f"{name}_{column}": row[column] if pd.notna(row[column]) else None
        for name, row in (("first", first), ("second", second))
        for column in ("uri", "label", "split")
    }
    return {
        **both,
        "first": pair.first,
        "second": pair.second,
        "bits": pair.bits,
        "motion": pair.motion,
        "later_seconds": pair.later_seconds,
        "is_copy": pair.is_copy,
        "is_across": both["first_split"] != both["second_split"],
        "is_one_label": both["first_label"] == both["second_label"],
        "is_one_recording": first["recording"] == second["recording"],
    }


def choose(frame: pd.DataFrame, most: int, *, seed: int) -> pd.DataFrame:
    """At most ``most`` videos: an equal number of each split, and more of one where another has
    fewer; drawn by chance, sorted by video.
    """
    ordered = frame.sort_values("video_id", ignore_index=True)
    if len(ordered) <= most:
        return ordered
    splits = ordered["split"].fillna("")
    sizes = splits.value_counts(ascending=True)
    left, kept = most, []
    for number, (split, size) in enumerate(sizes.items()):
        share = min(int(size), left // (len(sizes) - number))
        kept.append(ordered[splits == split].sample(share, random_state=seed))
        left -= share
    return pd.concat(kept).sort_values("video_id", ignore_index=True)


def blocks(
    videos: VideoSet, tools: Tools, *, slug: str, section: str, most_seconds: float
) -> tuple[list[Part], list[Finding]]:
    """The parts of the page, and what the first screen says of them."""
    settings = tools.settings
    has_places = len(splits_of(videos.frame)) > 1 or videos.frame["label"].nunique() > 1
    if not has_places or not settings.compared_videos:
        return [], []
    if not settings.frames:
        return [Prose(paragraphs=["Copies are not looked for: frames are turned off."])], []
    found = find(videos, settings, most_seconds=most_seconds)
    parts: list[Part] = [Prose(paragraphs=[said(found)], is_finding=True)]
    parts.append(Prose(paragraphs=[_method(found)]))
    copies = found.copies.sort_values(
        ["is_across", "is_one_label", "bits"], ascending=[False, True, True], kind="stable"
    )
    if len(copies):
        parts.append(_table(copies, f"copies-{slug}", "Videos that are copies of one another"))
        parts.append(
            _gallery(copies, found, tools, "The copies side by side", "The same moments of both.")
        )
    places = found.pairs.loc[~found.pairs["is_copy"]].sort_values("bits", kind="stable")
    if len(places):
        title = "Videos of the same place in two splits"
        parts.append(_table(places, f"places-{slug}", title))
        parts.append(_gallery(places, found, tools, "The same place, another moment", ""))
    return parts, _findings(found, videos, section)


def said(found: Copies) -> str:
    """What was found, in words."""
    if not found.compared:
        why = next(iter(found.glances.failed.values()), "time was up")
        return f"Copies could not be looked for: none of the videos could be opened ({why})."
    across, copies = found.across, found.copies
    other = copies.loc[~copies["is_one_label"]]
    parts = [
        f"{_pairs(len(across))} of copies cross splits" + (
            f" ({_of_splits(across)})" if len(across) else ""
        ),
        f"{_pairs(len(other))} of copies {'has' if len(other) == 1 else 'have'} different labels",
    ]  # fmt: skip
    places = len(found.pairs) - len(copies)
    text = f"Of {found.compared:,} videos, {' and '.join(parts)}."
    if places:
        text += (
            f" {_pairs(places)} in two splits show{'s' if places == 1 else ''} the same place in "
            "other moments, though the table says that they are of two recordings, or of none."
        )
    return text


def _pairs(count: int) -> str:
    return "no pair" if not count else f"{count:,} pair{'s' * (count != 1)}"


def _of_splits(pairs: pd.DataFrame) -> str:
    """How many pairs lie between which splits."""
    names = [
        " and ".join(sorted([str(a or "no split"), str(b or "no split")]))
        for a, b in zip(pairs["first_split"], pairs["second_split"], strict=True)
    ]
    return ", ".join(f"{count} {name}" for name, count in pd.Series(names).value_counts().items())


def _method(found: Copies) -> str:
    text = (
        "Small frames of each video are compared by a perceptual hash; where two videos show like "
        "pictures, one is laid over the other in time, and what moves in them is compared, so that "
        "two clips of one camera are no copies. Copies that are encoded again, made smaller, cut "
        "off at the ends, or cropped by up to 5 % at each side are found; mirrored ones are not."
    )
    if found.compared < found.of_videos:
        text += (
            f" Compared are {found.compared:,} of {found.of_videos:,} videos, drawn by chance from "
            "each split; a pair is found only if both are among them (--compared-videos)."
        )
    if found.glances.failed:
        text += f" {len(found.glances.failed):,} more could not be opened."
    if found.glances.not_reached:
        text += f" {found.glances.not_reached:,} more were not reached in time."
    if found.flat:
        text += f" {found.flat:,} are too dark or too flat to be compared."
    if found.unchecked:
        text += f" {found.unchecked:,} pairs of like pictures were too many to be compared."
    return text


def _table(pairs: pd.DataFrame, name: str, title: str) -> Part:
    names = {
        side: [storage.name_of(str(uri)) for uri in pairs[f"{side}_uri"]]
        for side in ("first", "second")
    }
    return DataTable(
        name=name,
        title=title,
        frame=pairs.assign(first_name=names["first"], second_name=names["second"]),
        columns={
            "first_name": Column(title="Video"),
            "first_split": Column(title="Split"),
            "first_label": Column(title="Class"),
            "second_name": Column(title="Other video"),
            "second_split": Column(title="Its split"),
            "second_label": Column(title="Its class"),
            "bits": Column(title="Bits apart", form="number", hint="of 63; unlike pictures: 31"),
            "motion": Column(title="Motion alike", form="share", hint="correlation of what moves"),
            "later_seconds": Column(title="Shift", form="number", hint="seconds"),
        },
        most_rows=50,
    )


def _gallery(pairs: pd.DataFrame, found: Copies, tools: Tools, title: str, note: str) -> Part:
    shown = pairs.head(_MOST_SHOWN)
    cards = [
        _card({str(key): value for key, value in row.items()}, found, tools)
        for row in shown.to_dict("records")
    ]
    more = len(pairs) - len(shown)
    note = f"{note} {more:,} more pairs are in the table." if more else note
    return Gallery(title=title, cards=cards, note=note)


def _card(row: dict[str, Any], found: Copies, tools: Tools) -> Card:
    """A pair: frames of both, the same moments side by side."""
    pictures: list[Thumbnail] = []
    why = ""
    first, second = (float(found.glances.of[row[side]].seconds[-1]) for side in _SIDES)
    moments = _moments(first, second, row["later_seconds"])
    for times in moments:
        for side, at in zip(_SIDES, times, strict=True):
            frames = tools.thumbnails.of(
                str(row[f"{side}_uri"]), at_seconds=[at], height_px=_HEIGHT_PX
            )
            if isinstance(frames, str):
                why = why or frames
            else:
                said = f"{row[f'{side}_split'] or side}, {at:.2f} s"
                pictures += [replace(one, alt=f"{side}: {one.alt}", caption=said) for one in frames]
    return Card(
        title=" and ".join(storage.name_of(str(row[f"{side}_uri"])) for side in _SIDES),
        facts={
            name: ", ".join(str(row[f"{side}_{column}"] or "none") for side in _SIDES)
            for name, column in (("splits", "split"), ("classes", "label"))
        },
        pictures=pictures,
        why_none="" if pictures else why,
    )


def _moments(first: float, second: float, later: float) -> list[tuple[float, float]]:
    """Two moments that both videos show: seconds in the first and in the second.

    Args:
        first, second: how long they are.
        later: how much later in the first the second begins.
    """
    begin, end = max(0.0, later), max(0.0, later, min(first, second + later))
    times = [begin + share * (end - begin) for share in (0.25, 0.75)]
    return [(at, max(0.0, at - later)) for at in times]


def _findings(found: Copies, videos: VideoSet, section: str) -> list[Finding]:
    across = found.across
    if len(across):
        text = (
            f"{_pairs(len(across))} of copies cross the splits of {videos.name} "
            f"({_of_splits(across)}): a model is tested on what it was taught with."
        )
        return [Finding(level="alarm", text=text, section=section)]
    places = found.pairs.loc[~found.pairs["is_copy"]]
    if len(places):
        involved = len(np.unique(places[["first", "second"]].to_numpy(str)))
        text = (
            f"{involved} videos of {videos.name} show the same places in two splits, and no "
            "recording says that they belong together."
        )
        return [Finding(level="warning", text=text, section=section)]
    return []
