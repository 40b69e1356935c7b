"""The shell around a component's process: logging, signals, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from emu.core.errors import UserError
from emu.core.settings import Settings
from emu.telemetry.logs import setup_logging

log = logging.getLogger(__name__)


def raise_descriptor_limit() -> None:
    """Let this process and those that it starts open as many files as the system permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run_component(name: str, settings: Settings, component: Coroutine[Any, Any, None]) -> int:
    """Run a component until it ends or SIGINT or SIGTERM asks it to. Returns the exit code.

    0 after a request to stop, 2 for an error that the user can set right (its sentence goes to standard
    error), 1 for any other.
    """
    setup_logging(name, settings.config.log_level, settings.config.log_format)
    raise_descriptor_limit()
    settings.state.run.mkdir(parents=True, exist_ok=True)
    try:
        asyncio.run(_until_signalled(component))
    except UserError as error:
        print(f"emu: {error}", file=sys.stderr)
        return 2
    except Exception:
        log.exception("%s failed", name)
        return 1
    return 0


async def _until_signalled(component: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(component)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.debug("stopped on request")
