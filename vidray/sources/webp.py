"""Animated ``.webp`` files: the others are still pictures, and no videos."""

import logging
from collections.abc import Sequence

from vidray import storage
from vidray.storage import FileInfo

logger = logging.getLogger(__name__)

# One request each. Thumbnails lie beside videos by the million, animations hardly.
MOST_IN_A_BUCKET = 1000


def animated(files: Sequence[FileInfo]) -> list[FileInfo]:
    """The files whose header says animated; none, with a warning, if a bucket has too many.

    Raises:
        OSError: the storage fails.
    """
    if len(files) > MOST_IN_A_BUCKET and storage.is_bucket(files[0].uri):
        logger.warning(
            "passed over: %d .webp files, more than the %d that are looked into for animations; "
            "name animated ones in a CSV", len(files), MOST_IN_A_BUCKET,
        )  # fmt: skip
        return []
    heads = storage.read_heads([file.uri for file in files], 21)
    moving = [file for file, head in zip(files, heads, strict=True) if _is_animated(head)]
    if len(moving) < len(files):
        logger.info("passed over: %d .webp files, still pictures", len(files) - len(moving))
    return moving


def _is_animated(head: bytes) -> bool:
    # An extended file has its flags at byte 20; the second bit is "has frames".
    is_extended = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
    return is_extended and len(head) > 20 and bool(head[20] & 2)
