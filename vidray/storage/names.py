"""Names that become parts of paths. Each stored or given name is checked by a strict pattern first:
it is untrusted.
"""

from __future__ import annotations

import re
import uuid

from vidray.errors import UserError
from vidray.storage.checked_json import shown

_TOKEN = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


def new_token() -> str:
    """A new name that nobody else has."""
    return uuid.uuid4().hex


def is_token(text: str) -> bool:
    """Whether the text is a token of ``new_token``."""
    return _TOKEN.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Whether the text names one file or folder and cannot lead out of its folder."""
    return _NAME.fullmatch(text) is not None


def check_name(name: object, *, what: str) -> str:
    """``name``, after a check.

    Args:
        what: it is the name of, for the message.

    Raises:
        UserError: it is not.
    """
    if not isinstance(name, str) or not is_name(name):
        raise UserError(
            f"the name of {what} is {shown(name)}: it must be 1 to 128 of A-Z a-z 0-9 . _ + - and "
            "begin with a letter or digit"
        )
    return name
