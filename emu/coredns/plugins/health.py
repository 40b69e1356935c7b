"""health: says that the process is alive. See health.md."""

from __future__ import annotations

import asyncio
import contextlib
import time

from emu.coredns.chain import Endpoint, Plugin
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment
from emu.coredns.families import Families, Family
from emu.coredns.values import http_port, seconds

PORT = 8080
_INTERVAL_SECONDS = 1.0

DURATION = Family(
    "coredns_health_request_duration_seconds",
    "Histogram of the time (in seconds) each request took.",
    (),
    "histogram",
    tuple(0.00025 * 10**step for step in range(5)),
)


class Health(Plugin):
    """Serves /health."""

    name = "health"

    def __init__(self, families: Families) -> None:
        self._families = families
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Measure from time to time how long a request would wait for its turn."""
        self._task = asyncio.get_running_loop().create_task(self._measure())

    async def stop(self) -> None:
        """Measure no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _measure(self) -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0)
            self.serve()
            self._families.observe(DURATION, value=time.perf_counter() - started)
            await asyncio.sleep(_INTERVAL_SECONDS)

    @staticmethod
    def serve() -> tuple[int, str, bytes]:
        """Always 200."""
        return 200, "text/plain; charset=utf-8", b"OK"


def setup(directive: Directive, environment: Environment) -> Health:
    """`health [ADDRESS] { lameduck DURATION }`."""
    for line in directive.block:
        if line.name != "lameduck" or len(line.args) != 1:
            raise directive.error(f'"{line.name}" is not an option', line.number)
        seconds(directive, line.args[0], line.number)
    port = http_port(directive, PORT)
    environment.endpoints.append(Endpoint(port, "/health", Health.serve))
    return Health(environment.facts.metrics.families)
