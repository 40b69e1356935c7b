"""A keyed work queue: what is to be looked at again, each thing once, and later after a failure.

The guarantees of client-go's work queue: a key waits at most once, is never worked on by two workers at a
time, and when it is added while it is worked on it is worked on once more afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from emu.client.rest import ApiError, ApiUnreachable

log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 0.005
_LAST_RETRY_SECONDS = 10.0
_LOGGED_FROM_FAILURE = 3

Process = Callable[[str], Awaitable[float | None]]
"""Works on a key. A number means: once more after so many seconds."""


def retry_delay(failures: int) -> float:
    """Seconds until the next attempt after `failures` failures in a row: doubled each time, bounded."""
    return min(_FIRST_RETRY_SECONDS * 2.0 ** (failures - 1), _LAST_RETRY_SECONDS)


class WorkQueue:
    """Calls `process` for every key that is added, with as many workers as asked for.

    A key whose processing fails comes back with exponential back-off; the others are not held up.
    """

    def __init__(self, name: str, process: Process, *, workers: int = 1) -> None:
        self._name = name
        self._process = process
        self._workers = workers
        self._waiting: dict[str, None] = {}
        self._active: set[str] = set()
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._idle_workers: list[asyncio.Future[None]] = []

    def add(self, key: str) -> None:
        """Work on a key as soon as possible."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = None
            self._wake_one()

    def add_after(self, key: str, seconds: float) -> None:
        """Work on a key after some time; of two times the earlier counts."""
        loop = asyncio.get_running_loop()
        pending = self._timers.get(key)
        if pending is not None:
            if pending.when() <= loop.time() + seconds:
                return
            pending.cancel()
        self._timers[key] = loop.call_later(seconds, self._fire, key)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._work())
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()

    def _fire(self, key: str) -> None:
        del self._timers[key]
        self.add(key)

    def _wake_one(self) -> None:
        while self._idle_workers:
            worker = self._idle_workers.pop()
            if not worker.done():
                worker.set_result(None)
                return

    async def _next(self) -> str:
        while not self._waiting:
            idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle_workers.append(idle)
            await idle
        key = next(iter(self._waiting))
        del self._waiting[key]
        return key

    async def _work(self) -> None:
        while True:
            key = await self._next()
            self._active.add(key)
            try:
                await self._attempt(key)
            finally:
                self._active.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    async def _attempt(self, key: str) -> None:
        try:
            after = await self._process(key)
        except (ApiError, ApiUnreachable) as error:
            self._failed(key, str(error), expected=isinstance(error, ApiError) and error.conflict)
        except Exception:
            log.exception("%s: fault while working on %s", self._name, key)
            self._failed(key, "fault", expected=True)
        else:
            self._failures.pop(key, None)
            if after is not None:
                self.add_after(key, after)

    def _failed(self, key: str, why: str, *, expected: bool) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = retry_delay(failures) * random.uniform(0.75, 1.0)
        level = logging.WARNING if not expected and failures % 10 == _LOGGED_FROM_FAILURE else logging.DEBUG
        log.log(level, "%s: %s: %s; trying again in %.1f s", self._name, key, why, delay)
        self.add_after(key, delay)
