"""The chain of plugins: what a plugin is, and how a query goes down the chain and its reply comes back up.

A query goes down in the order of `emu.coredns.plugins.order` until a plugin answers; the reply then passes
the plugins above in reverse. `answer` is a plain function, so that the common query costs no task; a plugin
that must wait (for an upstream, say) returns an awaitable, and only then the query gets a task of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, NamedTuple

import msgspec

from emu.coredns import codec
from emu.coredns.codec import Record, Request

log = logging.getLogger(__name__)

Section = list[Record]


class Query(msgspec.Struct):
    """A question on its way through a chain. `rewritten` copies may go down the rest of it."""

    request: Request
    client: tuple[str, int]
    proto: str
    """`udp` or `tcp`."""
    local: tuple[str, int]
    zone: str = "."
    """The zone of the server block."""
    started: float = msgspec.field(default_factory=time.perf_counter)
    lookup: Callable[[Query, bytes, int], Awaitable[Reply]] | None = None
    """Resolve another name through the whole server, on behalf of this query."""
    depth: int = 0
    counted: bool = False
    """Whether `prometheus` wants it counted."""
    stopped: bool = False
    """Whether a `rewrite stop` has had its turn: later rules do not apply."""
    observers: tuple[Callable[[Query, Reply, int], None], ...] = ()
    """Called with query, reply and the reply's size once that is known."""
    asked: list[tuple[Plugin, Request]] | None = None
    """What plugins have asked those below them, where somebody wants to know."""


class Reply(msgspec.Struct):
    """An answer. `rcode` may exceed 15 (EDNS)."""

    rcode: int = codec.NOERROR
    answer: Section = msgspec.field(default_factory=list)
    authority: Section = msgspec.field(default_factory=list)
    additional: Section = msgspec.field(default_factory=list)
    authoritative: bool = False
    recursion: bool = False
    truncated: bool = False
    plugin: str = ""
    """Who answered."""
    constant: bool = False
    """The same for every client until an object of the cluster changes."""
    services: tuple[tuple[bytes, bytes], ...] | None = None
    """Of a constant reply: the Services, as (namespace, name), that alone can change it by a change of
    themselves or of their endpoints. None where other objects can."""
    personal: bool = False
    """For this client, or for this moment only: nobody may keep it."""
    split: bool = False
    """A zone transfer: the answer may take several messages."""
    shuffle: bool = False
    """Address records are to come in a new order each time."""
    error: Exception | None = None
    """Why it is a SERVFAIL."""
    clients: dict[str, int] | None = None
    """Counts, by client address, how often the reply is given. It knows new addresses by itself."""

    @property
    def flags(self) -> int:
        """The header's flags that are the server's to choose."""
        return (
            (codec.AA if self.authoritative else 0)
            | (codec.RA if self.recursion else 0)
            | (codec.TC if self.truncated else 0)
        )


Answer = Reply | Awaitable["Reply | None"] | None
Pending = Reply | Coroutine[Any, Any, Reply]
"""A reply, or what will give it."""


def changed(found: Pending, change: Callable[[Reply], Reply]) -> Pending:
    """What `change` makes of a reply, once it is there."""
    if isinstance(found, Reply):
        return change(found)

    async def later() -> Reply:
        return change(await found)

    return later()


class Dropped(asyncio.CancelledError):
    """Raised in an awaitable that a plugin returns: the query gets no reply, its task is cancelled."""


class Plugin:
    """One plugin of one server block. A module offers `setup(directive, environment)` that makes it."""

    name: str = ""
    chain: Chain | None = None
    """The chain that it is part of, known once the server block is complete."""
    every_class = False
    """Whether queries of other classes than IN are its business."""
    opens = ""
    """What the server lets in on its account: `classes` other than IN, or zone `transfers`."""
    search_zones: tuple[bytes, ...] = ()
    """The zones within which `autopath` may follow the search paths of pods."""

    def answer(self, query: Query) -> Answer:
        """A reply, None to pass the query on, or an awaitable of either."""
        return None

    def finish(self, query: Query, reply: Reply) -> Reply:
        """The reply on its way back: as it is, changed, or another."""
        return reply

    def zone_names(self, zone: bytes) -> Iterable[bytes] | None:
        """The names that have records in a zone, for `transfer`; None where the zone is not the plugin's."""
        return None

    def below(self, query: Query) -> Pending:
        """The reply of the plugins after this one."""
        assert self.chain is not None, "a plugin is asked only as part of a chain"
        if query.asked is not None:
            query.asked.append((self, query.request))
        return self.chain.resolve(query, self.chain.plugins.index(self) + 1)

    def explain(self, query: Query) -> str:
        """What the plugin makes of a query, in words for `emu dns explain`; "" where it has no part in it."""
        return ""

    async def start(self) -> None:
        """Called once the server serves; raise nothing."""

    async def stop(self) -> None:
        """Called when the chain has been replaced or the process ends."""

    @property
    def ready(self) -> bool:
        """Whether the plugin can do its work; asked by `ready`."""
        return True


class Endpoint(NamedTuple):
    """An HTTP endpoint that a plugin wants served on every address of the DNS pods."""

    port: int
    path: str
    handler: Callable[[], tuple[int, str, bytes]]
    """Gives status, content type and body."""


class Chain:
    """The plugins of one server block, in order."""

    def __init__(self, zone: str, plugins: list[Plugin]) -> None:
        self.zone = zone
        self.plugins = plugins
        self.opens = {plugin.opens for plugin in plugins}
        """What its plugins let in; see Plugin."""
        self._every_class = [plugin if plugin.every_class else Plugin() for plugin in plugins]
        for plugin in plugins:
            plugin.chain = self

    def resolve(self, query: Query, start: int = 0) -> Pending:
        """The reply of the plugins from number `start` on; a coroutine where one of them has to wait."""
        plugins = self.plugins if query.request.cls == codec.IN else self._every_class
        for number in range(start, len(plugins)):
            try:
                found = plugins[number].answer(query)
            except Exception as error:  # noqa: BLE001  one bad query must not end the server; `errors` tells
                return self._finish(query, _failure(plugins[number], error), start, number)
            if found is None:
                continue
            if isinstance(found, Reply):
                return self._finish(query, found, start, number)
            return self._wait(query, found, start, number)
        return self._finish(query, self._nobody(), start, len(plugins))

    async def _wait(self, query: Query, pending: Awaitable[Reply | None], start: int, number: int) -> Reply:
        try:
            reply = await pending
        except Exception as error:  # noqa: BLE001  as above
            reply = _failure(self.plugins[number], error)
        if reply is None:
            below = self.resolve(query, number + 1)
            reply = below if isinstance(below, Reply) else await below
        return self._finish(query, reply, start, number)

    def _finish(self, query: Query, reply: Reply, start: int, end: int) -> Reply:
        for number in range(end - 1, start - 1, -1):
            reply = self.plugins[number].finish(query, reply)
        return reply

    @staticmethod
    def _nobody() -> Reply:
        """What CoreDNS's NextOrFailure yields at the end of a chain."""
        return Reply(codec.SERVFAIL, error=LookupError("no next plugin found"))


def _failure(plugin: Plugin, error: Exception) -> Reply:
    return Reply(codec.SERVFAIL, error=error, plugin=plugin.name)
