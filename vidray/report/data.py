"""The data: classes, splits, frames, properties, quality, duplicates, shortcuts, failures."""

from __future__ import annotations

from vidray.report import balance, distributions, failed_videos, shortcut_check
from vidray.report.blocks import Finding, Fold, Part, Prose, Section
from vidray.report.runs import Runs
from vidray.report.tools import Tools
from vidray.report.video_sets import VideoSet, of_runs

_NAME = "data"
# Further sets are named; each takes seconds to minutes.
_MOST_SETS = 3


def section(runs: Runs, tools: Tools) -> Section | None:
    """The chapter; None where no run has anything for it."""
    sets = of_runs(runs)
    if not sets:
        return None
    blocks: list[Part] = []
    findings: list[Finding] = []
    for number, videos in enumerate(sets[:_MOST_SETS]):
        parts, found = _of_set(videos, runs, tools, slug=str(number + 1))
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
    videos: VideoSet, runs: Runs, tools: Tools, slug: str
) -> tuple[list[Part], list[Finding]]:
    seed = tools.settings.seed
    shortcuts, warned = shortcut_check.blocks(videos, runs, slug=slug, section=_NAME, seed=seed)
    parts: list[Part] = [
        Fold(title="Classes and splits", blocks=balance.blocks(videos, slug)),
        *([Fold(title="Shortcuts", blocks=shortcuts)] if shortcuts else []),
        Fold(title="What the files are", blocks=distributions.blocks(videos, slug)),
        Fold(title="What failed", blocks=failed_videos.blocks(videos, slug)),
    ]
    findings = [
        *balance.findings(videos, _NAME),
        *warned,
        *failed_videos.findings(videos, _NAME),
    ]
    return parts, findings
