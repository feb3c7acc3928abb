"""Classes and splits: how many videos and recordings of each class each split has."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from vidray.report.blocks import Column, DataTable, Finding, Part, Prose
from vidray.report.dataset.distributions import stacked
from vidray.report.dataset.video_sets import VideoSet, classes_of, splits_of

# Calibration and cross-validation cut the recordings of a class into five folds; and of four or
# fewer test recordings one more or less moves the recall by 25 points.
FEWEST_RECORDINGS = 5
_MOST_BARS = 30
_UNLABELLED, _NO_SPLIT = "(no label)", "(no split)"


def blocks(videos: VideoSet, slug: str) -> list[Part]:
    """The table and the chart of classes and splits, and what is wrong with them."""
    counts = count(videos.frame)
    found: list[Part] = [Prose(paragraphs=[_said(videos, counts)])]
    found += [Prose(paragraphs=[text], is_finding=True) for text in _wrong(videos)]
    splits = list(counts.attrs["splits"])
    columns = {"label": Column(title="Class")}
    for number, split in enumerate(splits):
        columns[f"videos_{number}"] = Column(title=f"{split}: videos", form="count")
        columns[f"share_{number}"] = Column(
            title="share", form="percent", hint="of the videos of this split"
        )
        columns[f"recordings_{number}"] = Column(
            title="recordings", form="count", hint="a video without a group counts as its own"
        )
    columns["videos"] = Column(title="all videos", form="count")
    columns["recordings"] = Column(title="recordings", form="count")
    found.append(_chart(counts, splits, slug))
    found.append(
        DataTable(
            name=f"class-splits-{slug}",
            title="Videos and recordings of each class in each split",
            frame=counts,
            columns=columns,
            note="A recording is what a video was cut from; where none is known, the video itself.",
        )
    )
    return found


def count(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a class: videos and recordings, of each split by its number, and in all.

    ``attrs["splits"]`` names the splits in the order of their numbers.
    """
    named = frame.assign(
        label=frame["label"].fillna(_UNLABELLED), split=frame["split"].fillna(_NO_SPLIT)
    )
    splits = splits_of(named)
    by_class = named.groupby("label")
    columns = {"videos": by_class.size(), "recordings": by_class["recording"].nunique()}
    for number, split in enumerate(splits):
        inside = named[named["split"] == split].groupby("label")
        size = inside.size()
        columns[f"videos_{number}"] = size
        columns[f"share_{number}"] = size / max(1, int(size.sum()))
        columns[f"recordings_{number}"] = inside["recording"].nunique()
    found = pd.DataFrame(columns).fillna(0)
    found = found.sort_values("videos", ascending=False, kind="stable")
    found = found.reset_index(names="label")
    found.attrs["splits"] = splits
    return found


def _said(videos: VideoSet, counts: pd.DataFrame) -> str:
    """How many of what, in a sentence."""
    frame = videos.frame
    labelled = counts[counts["label"] != _UNLABELLED]
    text = f"{len(frame):,} videos of {frame['recording'].nunique():,} recordings"
    if not len(labelled):
        return f"{text}; none has a label."
    most, least = labelled.iloc[0], labelled.iloc[-1]
    text += f" in {len(labelled)} classes"
    if len(labelled) > 1:
        text += (
            f": the largest is {most['label']} ({most['videos']:,.0f}), "
            f"the smallest {least['label']} ({least['videos']:,.0f})"
        )
    alone = int(frame["group"].isna().sum())
    if alone:
        text += f". {alone:,} videos name no recording and count as one each"
    return f"{text}."


def leaking_recordings(frame: pd.DataFrame) -> pd.DataFrame:
    """Recordings with videos in two or more splits: recording, splits, videos."""
    known = frame[frame["group"].notna() & frame["split"].notna()]
    per = known.groupby("group").agg(
        number=("split", "nunique"), splits=("split", _names), videos=("video_id", "size")
    )
    return per[per["number"] > 1].drop(columns="number").reset_index(names="recording")


def _names(values: pd.Series[str]) -> str:
    return ", ".join(sorted(set(values)))


def small_classes(frame: pd.DataFrame) -> dict[str, str]:
    """Class -> why it is too small to be learned or judged by."""
    known = frame[frame["label"].notna()]
    splits = splits_of(known)
    # Of many classes a look at the frame for each would take its square.
    place = known["split"].where(known["split"].isin(splits), "") if splits else ""
    per = known.assign(place=place).groupby(["label", "place"])["recording"].nunique()
    numbers = per.unstack(fill_value=0).reindex(columns=splits or [""], fill_value=0)
    found = {}
    for label, row in numbers.reindex(classes_of(known)).iterrows():
        few = {split: int(count) for split, count in row.items() if count < FEWEST_RECORDINGS}
        if few:
            found[str(label)] = ", ".join(
                f"{count} recording{'s' * (count != 1)}{f' in {split}' if split else ''}"
                for split, count in few.items()
            )
    return found


def _wrong(videos: VideoSet) -> list[str]:
    found = []
    leaks = leaking_recordings(videos.frame)
    if len(leaks):
        found.append(
            f"{len(leaks):,} recording{'s are' if len(leaks) > 1 else ' is'} in two splits "
            f"({_listed(leaks['recording'])}): a model is judged on what it was taught with. "
            "Make the splits again by recording."
        )
    few = small_classes(videos.frame)
    if few:
        found.append(
            f"{_listed([f'{label} ({why})' for label, why in few.items()])}: a class needs "
            f"{FEWEST_RECORDINGS} recordings in train to be cross-validated, and as many in val "
            "and test for a choice by it, or a figure of it, to mean something."
        )
    return found


def _listed(names: Sequence[str] | pd.Series[str], most: int = 6) -> str:
    """Names with commas; of many, the first, and how many more."""
    shown = [str(name) for name in list(names)[:most]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def findings(videos: VideoSet, section: str) -> list[Finding]:
    """What the first screen says of it."""
    leaks, few = leaking_recordings(videos.frame), small_classes(videos.frame)
    found = []
    if len(leaks):
        verb = "recording of {} is" if len(leaks) == 1 else "recordings of {} are"
        text = (
            f"{len(leaks):,} {verb.format(videos.name)} in more than one split: "
            f"{_listed(leaks['recording'], 3)}."
        )
        found.append(Finding(level="alarm", text=text, section=section))
    if few:
        shown = _listed([f"{label} ({why})" for label, why in few.items()], 3)
        verb = "class is" if len(few) == 1 else "classes are"
        text = f"{len(few)} {verb} too small in {videos.name}: {shown}."
        found.append(Finding(level="warning", text=text, section=section))
    return found


def _chart(counts: pd.DataFrame, splits: Sequence[str], slug: str) -> Part:
    shown = counts.head(_MOST_BARS)
    rows = [
        {
            "class": row["label"],
            "split": split,
            "videos": int(row[f"videos_{number}"]),
            "said": f"{row['label']}, {split}: {row[f'videos_{number}']:,.0f} videos of "
            f"{row[f'recordings_{number}']:,.0f} recordings",
        }
        for row in shown.to_dict("records")
        for number, split in enumerate(splits)
    ]
    more = len(counts) - len(shown)
    return stacked(
        pd.DataFrame(rows),
        label="class",
        value="videos",
        value_title="videos",
        color="split",
        name=f"class-balance-{slug}",
        title="Videos of each class by split",
        note=f"{more} smaller classes are in the table." if more else "",
    )
