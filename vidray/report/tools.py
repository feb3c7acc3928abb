"""What the sections of the page are made with, beside the runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from vidray.report.frames.thumbnails import Thumbnails
from vidray.report.settings import ReportSettings
from vidray.report.verdict.damage_trials import DamageTrials


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The settings, and what decodes frames of videos.

    Attributes:
        thumbnails: small frames of a video, for galleries and tooltips.
        damage: the models on videos that are damaged on purpose.
    """

    settings: ReportSettings
    thumbnails: Thumbnails
    damage: DamageTrials = field(default_factory=DamageTrials)
