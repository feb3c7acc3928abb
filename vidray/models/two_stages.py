"""What two models said of split val, kept to choose the threshold between them from.

    OUT/two_stages.json      beside the figures that jobs/evaluate.py --then writes

The file names both models by their digests: no others are ever labelled with by it. Any accuracy
may be allowed to be lost; the threshold follows from the answers.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

import numpy as np

from vidray import storage
from vidray.errors import UserError, VideoError
from vidray.models import deferral
from vidray.models.deferral import Threshold
from vidray.storage import checked_json
from vidray.storage.json_file import write_json

FILE = "two_stages.json"
# The answers to a million videos.
_MOST_BYTES = 128 << 20


@dataclass(frozen=True, kw_only=True)
class ValAnswers:
    """The answers of a cheap and a dear model to videos that neither has learnt from.

    Attributes:
        cheap, dear: digests of the models (``model_files.name_and_digest``).
        confidence: (N,) probability of the cheap model's label.
        cheap_right, dear_right: (N,) whether each model's label is the true one.
        groups: (N,) source recording, null where it is not known.
    """

    cheap: str
    dear: str
    confidence: tuple[float, ...]
    cheap_right: tuple[bool, ...]
    dear_right: tuple[bool, ...]
    groups: tuple[str | None, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.confidence), len(self.cheap_right), len(self.dear_right)}
        if lengths != {len(self.groups)} or not self.groups:
            raise UserError("its columns are not of one length, of one video or more")
        for digest in (self.cheap, self.dear):
            if not re.fullmatch("[0-9a-f]{12}", digest):
                raise UserError(f"{checked_json.shown(digest)} is no digest of a model")
        if not all(0 <= one <= 1 for one in self.confidence):
            raise UserError("a confidence is no number from 0 to 1")

    def threshold(self, allow: float) -> Threshold:
        """The lowest threshold that loses no more than ``allow`` of the dear model's accuracy."""
        return deferral.choose_threshold(
            np.array(self.confidence),
            np.array(self.cheap_right),
            np.array(self.dear_right),
            allow=allow,
            groups=self.groups,
        )

    @property
    def least_allowed(self) -> float:
        """The smallest loss, in steps of a thousandth, for which there is a threshold; 1.0: none.

        The more is allowed, the more passes the test: found by halving.
        """
        low, high = 0, 1000  # Nothing passes at 0.
        while high - low > 1:
            middle = (low + high) // 2
            passes = self.threshold(middle / 1000).value is not None
            low, high = (low, middle) if passes else (middle, high)
        return high / 1000

    def write(self, folder: str) -> None:
        """Write the file."""
        write_json(storage.join(folder, FILE), asdict(self))


def read(folder: str) -> ValAnswers:
    """The answers in a folder of jobs/evaluate.py --then, which may be anybody's.

    Raises:
        UserError: there are none, or they are damaged.
    """
    where = storage.join(storage.canonical(folder), FILE)
    shown = storage.without_secrets(folder)
    if not storage.exists(where):
        raise UserError(f"{shown} holds no {FILE}: make it with jobs/evaluate.py --then")
    try:
        if (size_bytes := storage.file_info(where).size_bytes) > _MOST_BYTES:
            most = f"{_MOST_BYTES >> 20} MiB"
            raise UserError(f"it has {size_bytes >> 20} MiB, and {most} hold a million videos'")
        return checked_json.build(ValAnswers, checked_json.loads(storage.read_bytes(where)), "it")
    except (VideoError, ValueError) as error:  # A UserError is a ValueError, too.
        raise UserError(
            f"{shown}/{FILE} is not what jobs/evaluate.py writes: {error}; judge both models again"
        ) from None
