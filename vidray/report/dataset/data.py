"""The data: classes, splits, frames, properties, quality, duplicates, shortcuts, failures."""

from __future__ import annotations

from vidray.report.blocks import Finding, Fold, Part, Prose, Section
from vidray.report.dataset import (
    balance,
    class_grids,
    distributions,
    duplicate_check,
    enhanced,
    failed_videos,
    shortcut_check,
)
from vidray.report.dataset.video_sets import VideoSet, of_runs
from vidray.report.runs import Runs
from vidray.report.tools import Tools

_NAME = "data"
# Further sets are named; each takes seconds to minutes.
_MOST_SETS = 3
# For comparing videos of all sets: 2,000 short clips take as long on two idle cores.
_MOST_SECONDS = 120.0


def section(runs: Runs, tools: Tools) -> Section | None:
    """The chapter; None where no run has anything for it."""
    sets = of_runs(runs)
    if not sets:
        return None
    blocks: list[Part] = []
    findings: list[Finding] = []
    shown = sets[:_MOST_SETS]
    for number, videos in enumerate(shown):
        parts, found = _of_set(
            videos, runs, tools, slug=str(number + 1), most_seconds=_MOST_SECONDS / len(shown)
        )
        findings += found
        if len(sets) == 1:
            blocks += parts
        else:
            title = f"{videos.name}: {len(videos.frame):,} videos"
            blocks.append(Fold(title=title, blocks=parts, is_open=number == 0))
    if len(sets) > _MOST_SETS:
        rest = ", ".join(f"{one.name} ({len(one.frame):,})" for one in sets[_MOST_SETS:])
        blocks.append(Prose(paragraphs=[f"Smaller sets of videos are not shown: {rest}."]))
    return Section(
        name=_NAME,
        title="The data",
        lead="What the videos are, whether the splits are fair, and what else tells their classes.",
        blocks=blocks,
        findings=findings,
    )


def _of_set(
    videos: VideoSet, runs: Runs, tools: Tools, *, slug: str, most_seconds: float
) -> tuple[list[Part], list[Finding]]:
    """The parts of a set of videos, each under its heading, and the findings.

    Args:
        most_seconds: for decoding videos to compare them.
    """
    seed = tools.settings.seed
    copies, leaks = duplicate_check.blocks(
        videos, tools, slug=slug, section=_NAME, most_seconds=most_seconds
    )
    shortcuts, warned = shortcut_check.blocks(videos, runs, slug=slug, section=_NAME, seed=seed)
    chapters = {
        "Classes and splits": balance.blocks(videos, slug),
        "What the classes show": class_grids.blocks(videos, tools),
        "Copies and shared places": copies,
        "Shortcuts": shortcuts,
        "What the files are": distributions.blocks(videos, slug),
        "Enhancement": enhanced.blocks(videos, tools.settings),
        "What failed": failed_videos.blocks(videos, slug),
    }
    parts = [Fold(title=title, blocks=some) for title, some in chapters.items() if some]
    findings = [
        *balance.findings(videos, _NAME),
        *leaks,
        *warned,
        *failed_videos.findings(videos, _NAME),
    ]
    return list(parts), findings
