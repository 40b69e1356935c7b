"""Unix sockets that their owner alone may use."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def serve_owner(path: Path, serve: Serve) -> asyncio.Server:
    """Serve at a path. A socket file that an earlier process left is replaced."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    previous = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(serve, str(path))
    finally:
        os.umask(previous)
