"""What a report shows, as flags. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from vidray.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """What the page shows."""

    title: str = ""
    """Heading of the page; made from the runs if not given."""
    frames: bool = True
    """Decode frames of the videos that the page shows; without them it needs no video."""
    frames_from: tuple[str, ...] = ()
    """Hosts that frames are fetched from where a table names web addresses of videos
    (https://HOST/...); of folders and buckets they always are."""
    shown_videos: int = 12
    """Videos in each gallery, such as the worst errors of a model."""
    compared_videos: int = 2000
    """Videos that are compared to find copies across splits, 0 for none; of more, so many are
    drawn from all splits. 1,000 short ones take a minute or two on two cores."""
    robustness_videos: int = 0
    """Videos that are damaged on purpose (blur, noise, darkness, dropped frames) and labelled
    again, to see what the models bear; 0: none. Takes 10 to 30 seconds a video, and more of large
    ones."""
    cpu_hour_price: float = 0.05
    """Price of one CPU core for an hour, for the cost of a million videos."""
    gpu_hour_price: float = 3.0
    """Price of one GPU for an hour."""
    seed: int = 0
    """Seed of all random draws."""

    def __post_init__(self) -> None:
        if not 1 <= self.shown_videos <= 100:
            raise UserError(f"shown_videos is {self.shown_videos}: it must be 1 to 100")
        if not 0 <= self.compared_videos <= 20_000:
            # A video takes up to 64 kB of memory until all are compared.
            raise UserError(f"compared_videos is {self.compared_videos}: it must be 0 to 20000")
        if not 0 <= self.robustness_videos <= 1000:
            raise UserError(f"robustness_videos is {self.robustness_videos}: it must be 0 to 1000")
        if not self.frames and (self.frames_from or self.robustness_videos):
            flag = "--frames-from" if self.frames_from else "--robustness-videos"
            raise UserError(f"--no-frames opens no video and {flag} does: give one of them")
        if wrong := [host for host in self.frames_from if "/" in host]:
            raise UserError(f"frames_from is {wrong[0]}: a host, such as videos.example.org")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed}: it must be 0 to {2**32 - 1}")
        for name in ("cpu_hour_price", "gpu_hour_price"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}: it must be 0 or more")
