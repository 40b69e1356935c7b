"""Goes over from one KubeProxyConfiguration to the next, once the new mode knows what it needs.

The userspace mode reads Endpoints where the others read EndpointSlices. They are watched only while that mode
is wanted, and it is in force only when all are known, so that no Service that is served stops being so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from emu.client.reflector import Reflector
from emu.core.config import ProxyMode
from emu.core.objects import Endpoints
from emu.proxy.configuration import ProxyConfiguration
from emu.proxy.proxy import Proxy


class Switch:
    """Puts configurations in force."""

    def __init__(
        self, proxy: Proxy, tasks: asyncio.TaskGroup, reflector: Callable[[], Reflector[Endpoints]]
    ) -> None:
        """`reflector` makes one for all Endpoints; what runs here runs in `tasks`."""
        self._proxy = proxy
        self._tasks = tasks
        self._new_reflector = reflector
        self.wanted = proxy.configuration
        """What was asked for last."""
        self._watch: asyncio.Task[None] | None = None
        self.settled = asyncio.Event()
        """Set while the configuration that was asked for last is in force."""

    def to(self, configuration: ProxyConfiguration) -> None:
        """Go over to a configuration: at once, or when the Endpoints are known."""
        self.wanted = configuration
        if configuration.mode is ProxyMode.USERSPACE:
            if self._watch is None:
                self.settled.clear()
                self._watch = self._tasks.create_task(self._watch_endpoints())
            elif self.settled.is_set():
                self._proxy.configure(configuration)
            return
        self._proxy.configure(configuration)
        self.settled.set()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
            self._proxy.forget_endpoints()

    async def _watch_endpoints(self) -> None:
        # The watch before this one may have told of some when they were no longer wanted.
        self._proxy.forget_endpoints()
        reflector = self._new_reflector()
        reflector.subscribe(self._proxy.set_endpoints)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reflector.run())
            await reflector.synced.wait()
            self._proxy.configure(self.wanted)
            self.settled.set()
