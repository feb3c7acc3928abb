"""Between a training worker and the driver, in a process that needs no PyTorch for it.

worker 0: tell(rows) ──> Mailbox ──> driver: listen()
   go on or not      <──         <──         answer()
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any


class Mailbox:
    """What one tells and another listens to, and the answer. Ray makes an actor of it."""

    def __init__(self) -> None:
        self._told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answers: asyncio.Queue[bool] = asyncio.Queue()

    async def tell(self, message: dict[str, Any]) -> bool:
        """Returns the driver's answer: whether to go on."""
        await self._told.put(message)
        return await self._answers.get()

    async def listen(self) -> dict[str, Any] | None:
        """A message, or None after half a second without one."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._told.get(), 0.5)
        return None

    async def answer(self, go_on: bool) -> None:
        """To the message listened to last."""
        await self._answers.put(go_on)
