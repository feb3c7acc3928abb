"""The plain PyTorch way to feed a network with videos: a DataLoader whose workers decode."""

from __future__ import annotations

from collections.abc import Iterator

import av
import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from vidray.video.clips import ClipSettings, clip_frames

BATCH = 16  # As many clips as the label job's predictor gives a GPU at a time.


class PlainVideos(Dataset[torch.Tensor]):
    """PyAV decodes a video up to the last frame that is wanted, OpenCV scales those that are."""

    def __init__(self, uris: list[str], clip: ClipSettings) -> None:
        self._uris, self._clip = uris, clip

    def __len__(self) -> int:
        return len(self._uris)

    def __getitem__(self, row: int) -> torch.Tensor:
        """The clip, uint8 (T, H, W, 3)."""
        size = (self._clip.size_px, self._clip.size_px)
        with av.open(self._uris[row]) as container:
            stream = container.streams.video[0]
            (wanted,) = clip_frames(stream.frames, float(stream.average_rate or 25), self._clip)
            kept: dict[int, torch.Tensor] = {}
            for number, frame in enumerate(container.decode(stream)):
                if number in wanted:
                    pixels = frame.to_ndarray(format="rgb24")
                    scaled = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
                    kept[number] = torch.from_numpy(scaled)
                if number >= wanted.max():
                    break
        return torch.stack([kept[number] for number in wanted.tolist()])


class WarmedOrder(Sampler[int]):
    """All rows in their order; in the first epoch only as many as start every worker."""

    def __init__(self, rows: int, warming: int) -> None:
        self._rows, self._warming = rows, warming
        self._is_warm = False

    def __iter__(self) -> Iterator[int]:
        rows = self._rows if self._is_warm else min(self._warming, self._rows)
        self._is_warm = True
        return iter(range(rows))

    def __len__(self) -> int:
        return self._rows


def warmed_loader(uris: list[str], clip: ClipSettings, *, workers: int) -> DataLoader[torch.Tensor]:
    """Batches of all videos in their order, in the second epoch and later ones; the first epoch is
    short and starts the workers.
    """
    return DataLoader(
        PlainVideos(uris, clip),
        batch_size=BATCH,
        sampler=WarmedOrder(len(uris), workers * BATCH),
        num_workers=workers,
        persistent_workers=True,
        pin_memory=torch.cuda.is_available(),
        # Forked, they would have the locks of threads that they have not.
        multiprocessing_context="spawn",
    )
