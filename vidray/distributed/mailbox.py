"""Messages between a training worker and the driver, in a process that needs no PyTorch.

worker 0: tell(rows) ──> Mailbox ──> driver: listen()
   go on or not      <──         <──         answer()
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any


class Mailbox:
    """A queue of messages from a worker to the driver, and the answers. It runs as a Ray actor."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._answers: asyncio.Queue[bool] = asyncio.Queue()

    async def tell(self, message: dict[str, Any]) -> bool:
        """Send a message; returns the driver's answer: whether to go on."""
        await self._messages.put(message)
        return await self._answers.get()

    async def listen(self) -> dict[str, Any] | None:
        """Receive a message, or None after half a second without one."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._messages.get(), 0.5)
        return None

    async def answer(self, go_on: bool) -> None:
        """Answer the message received last."""
        await self._answers.put(go_on)
