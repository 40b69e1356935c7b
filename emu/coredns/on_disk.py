"""A Corefile on disk, followed while it changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0


async def follow(
    path: Path, take_up: Callable[[str], Awaitable[None]], interval: float = INTERVAL_SECONDS
) -> None:
    """Give the text of a file to `take_up`, now and after each change, until cancelled.

    A file that cannot be read is told of once, and its last text stays in force. Files that it imports are
    read again only when it changes itself.
    """
    seen: str | None = None
    told = ""
    while True:
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            if str(error) != told:
                log.error("the Corefile cannot be read: %s", error)
            told = str(error)
        else:
            told = ""
            if text != seen:
                seen = text
                await take_up(text)
        await asyncio.sleep(interval)
