"""loop: notices that forwarded queries come back. See loop.md."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

from emu.coredns import codec
from emu.coredns.chain import Answer, Plugin, Query, Reply
from emu.coredns.corefile import Directive
from emu.coredns.environment import Environment

log = logging.getLogger(__name__)

_SEEN_LIMIT = 2


class Loop(Plugin):
    """Sends one HINFO query for a random name down the chain, and counts how often it comes by."""

    name = "loop"

    def __init__(self, zone: str) -> None:
        number = f"{random.getrandbits(60)}.{random.getrandbits(60)}"
        self._probe = codec.to_wire(f"{number}.{zone}")
        self._zone = zone
        self._seen = 0
        self._task: asyncio.Task[None] | None = None
        self._found = False

    async def start(self) -> None:
        """Send the probe in the background."""
        self._task = asyncio.get_running_loop().create_task(self._send())

    async def stop(self) -> None:
        """Give the probe up."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def answer(self, query: Query) -> Answer:
        """Let queries pass, unless what is below leads back here."""
        if query.request.key == self._probe and query.request.type == codec.HINFO:
            self._seen += 1
            if self._seen > _SEEN_LIMIT and not self._found:
                self._found = True
                log.error(
                    "Loop (%s:%s -> %s:%s) detected for zone %r: queries for it are refused until forward "
                    "names a server outside the cluster",
                    *query.client,
                    *query.local,
                    self._zone,
                )
        if self._found:
            return Reply(codec.SERVFAIL, plugin=self.name, error=LookupError("forwarding leads back here"))
        return None

    async def _send(self) -> None:
        if self.chain is None:
            return
        request = codec.parse_request(codec.encode_query(0, self._probe, codec.HINFO))
        query = Query(request, ("127.0.0.1", 0), "udp", ("127.0.0.1", 0), zone=self._zone)
        found = self.chain.resolve(query, self.chain.plugins.index(self))
        if not isinstance(found, Reply):
            await found


def setup(directive: Directive, environment: Environment) -> Loop:
    """`loop`."""
    if directive.args or directive.block:
        raise directive.error("it takes no arguments")
    return Loop(environment.zone_names[0])
