"""The error for a damaged file of ours."""

from __future__ import annotations

from vidray.errors import UserError
from vidray.masking import without_secrets


def damaged(uri: str, why: str = "") -> UserError:
    """The error that names the file, what is wrong with it, and the next step."""
    reason = f" ({why})" if why else ""
    return UserError(
        f"{without_secrets(uri)} is damaged{reason}, or not vidray's: put back what was there, or "
        "move it away"
    )
