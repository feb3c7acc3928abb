"""Failures: how many videos failed by kind, what the kind means, and examples."""

from __future__ import annotations

import pandas as pd

from vidray import storage
from vidray.errors import ERROR_KINDS, PASSING_KINDS
from vidray.report.blocks import Column, DataTable, Finding, Fold, Part, Prose
from vidray.report.dataset.video_sets import VideoSet
from vidray.tables.schema import STATUSES

_MOST_MESSAGE = 240
_EXAMPLES_EACH = 10
# Above this share of videos, what failed changes what the rest stands for.
_WARNING_SHARE = 0.01


def blocks(videos: VideoSet, slug: str) -> list[Part]:
    """Counts by status, kinds of failures, and examples of each; what could be read wrong."""
    states = videos.states
    found: list[Part] = [_counts(states, slug)]
    failed = states[states["status"] == "failed"]
    if len(failed):
        found.append(_kinds(failed, slug))
        found.append(Fold(title="Examples of each failure", blocks=[_examples(failed, slug)],
                          is_open=False))  # fmt: skip
    return [*found, *_corrupt(videos, slug)]


def _counts(states: pd.DataFrame, slug: str) -> Part:
    counted = states.groupby(["run", "job"], sort=False)["status"].value_counts().unstack()
    counted = counted.reindex(columns=STATUSES).fillna(0).reset_index()
    counted["videos"] = counted[list(STATUSES)].sum(axis=1)
    counted["failed_share"] = counted["failed"] / counted["videos"].clip(lower=1)
    return DataTable(
        name=f"statuses-{slug}",
        title="Videos by run and status",
        frame=counted,
        columns={
            "run": Column(title="Run"),
            "job": Column(title="Job"),
            "videos": Column(title="Videos", form="count"),
            **{name: Column(title=name, form="count") for name in STATUSES},
            "failed_share": Column(title="Share failed", form="percent"),
        },
    )


def _kinds(failed: pd.DataFrame, slug: str) -> Part:
    rows = []
    for kind, of_kind in failed.groupby("error_kind", sort=False, dropna=False):
        known = str(kind) if pd.notna(kind) else "(no kind)"
        first = of_kind.iloc[0]
        rows.append(
            {
                "kind": known,
                "meaning": ERROR_KINDS.get(known, "a kind that this version does not know"),
                "videos": of_kind["video_id"].nunique(),
                "again": "may pass" if known in PASSING_KINDS else "the video's own fault",
                "example": storage.name_of(str(first["uri"])),
                "message": shortened(first["error_message"]),
            }
        )
    frame = pd.DataFrame(rows).sort_values("videos", ascending=False, kind="stable")
    return DataTable(
        name=f"failures-{slug}",
        title="Failures by kind",
        frame=frame,
        columns={
            "kind": Column(title="Kind"),
            "videos": Column(title="Videos", form="count"),
            "meaning": Column(title="What it means"),
            "again": Column(title="When tried again"),
            "example": Column(title="Example"),
            "message": Column(title="Its message"),
        },
    )


def _examples(failed: pd.DataFrame, slug: str) -> Part:
    few = failed.groupby("error_kind", sort=False, dropna=False).head(_EXAMPLES_EACH)
    frame = few[["run", "uri", "error_kind", "error_message"]].assign(
        video=[storage.name_of(str(uri)) for uri in few["uri"]],
        message=[shortened(text) for text in few["error_message"]],
    )
    return DataTable(
        name=f"failed-videos-{slug}",
        title=f"Failed videos, up to {_EXAMPLES_EACH} of each kind",
        frame=frame.drop(columns="error_message"),
        columns={
            "video": Column(title="Video"),
            "error_kind": Column(title="Kind"),
            "message": Column(title="Message"),
            "run": Column(title="Run"),
        },
    )


def shortened(message: object) -> str | None:
    """A message in one line and ``_MOST_MESSAGE`` characters: some have thousands."""
    if not isinstance(message, str):
        return None
    line = " ".join(message[: 4 * _MOST_MESSAGE].split())
    if len(line) <= _MOST_MESSAGE and len(message) <= 4 * _MOST_MESSAGE:
        return line
    return f"{line[:_MOST_MESSAGE]}\u2026 ({len(message):,} characters)"


def _corrupt(videos: VideoSet, slug: str) -> list[Part]:
    """Videos whose decoder marked frames corrupt or refused packets, the worst first."""
    numbers = ["corrupt_frames", "corrupt_share", "damaged_packets"]
    frame = videos.frame.assign(
        **{name: pd.to_numeric(videos.frame[name], errors="coerce") for name in numbers}
    )
    looked = frame[frame["corrupt_share"].notna()]
    if not len(looked):
        return []
    hurt = looked[(looked["corrupt_frames"] > 0) | (looked["damaged_packets"] > 0)]
    if not len(hurt):
        text = f"No corrupt frame and no damaged packet in the {len(looked):,} videos looked at."
        return [Prose(paragraphs=[text])]
    worst = hurt.sort_values(["corrupt_share", "damaged_packets"], ascending=False)
    table = DataTable(
        name=f"corrupt-{slug}",
        title="Videos with corrupt frames or damaged packets, the worst first",
        frame=worst[["uri", "label", "split", *numbers]].assign(
            video=[storage.name_of(str(uri)) for uri in worst["uri"]]
        ),
        columns={
            "video": Column(title="Video"),
            "label": Column(title="Class"),
            "split": Column(title="Split"),
            "corrupt_share": Column(title="Corrupt frames", form="percent"),
            "corrupt_frames": Column(title="frames", form="count"),
            "damaged_packets": Column(title="Damaged packets", form="count"),
        },
        most_rows=20,
        note=f"{len(hurt):,} of {len(looked):,} videos looked at ({len(hurt) / len(looked):.1%}).",
    )
    return [table]


def findings(videos: VideoSet, section: str) -> list[Finding]:
    """What the first screen says of it: many failed."""
    failed = videos.states[videos.states["status"] == "failed"]
    per_video = failed.drop_duplicates("video_id")
    share = len(per_video) / max(1, len(videos.frame))
    if share < _WARNING_SHARE:
        return []
    kinds = per_video["error_kind"].fillna("no kind").value_counts()
    said = ", ".join(f"{count} {kind}" for kind, count in kinds.head(4).items())
    text = f"{len(per_video):,} of {len(videos.frame):,} videos of {videos.name} failed: {said}."
    return [Finding(level="warning", text=text, section=section)]
