"""Short texts that a user writes by hand: lists of classes, labels, words."""

from __future__ import annotations

from vidray.errors import UserError, VideoError
from vidray.masking import without_secrets
from vidray.storage import uris
from vidray.storage.addresses import canonical


def read_text(uri: str, *, most_bytes: int, give: str, other: str) -> str:
    """The text of a file in UTF-8, local or in a bucket; a byte-order mark is left out.

    Args:
        most_bytes: a larger file is refused unread.
        give: the next step where it cannot be read, such as ``give a text file``.
        other: what is said of a file that is no UTF-8.

    Raises:
        UserError: it is not there, too large, cannot be read, or is no UTF-8.
    """
    shown, where = without_secrets(uri), canonical(uri)
    try:
        if uris.file_info(where).size_bytes > most_bytes:
            raise UserError(f"{shown} is larger than {most_bytes >> 20} MiB: {give}")
        return uris.read_bytes(where).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{shown} {other}") from None
    except (OSError, VideoError) as error:
        if isinstance(error, FileNotFoundError) or getattr(error, "kind", None) == "missing":
            raise UserError(f"{shown} cannot be read, it is not there: {give}") from None
        said = error.message if isinstance(error, VideoError) else type(error).__name__
        raise UserError(f"{shown} cannot be read ({said}): {give}") from None
