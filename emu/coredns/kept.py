"""Replies that are kept packed, and which of them a change of the cluster drops.

A reply is kept under the canonical form of its query: its name in lower case, flags and options without
effect left out (`codec.canonical`). It is listed under each Service that it depends on, so that a change
costs no more than what it changes. Nothing that is kept has an age: it is true until it is dropped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from emu.coredns.metrics import Tally

MAX_KEPT = 16384
Service = tuple[bytes, bytes]
"""(namespace, name)."""
_ANY = "any object"
_SERIAL = "the serial of the zone"
Reason = Service | str


class Kept(msgspec.Struct):
    """A packed reply without its id, in one or several orders of its records."""

    bodies: tuple[bytes, ...]
    tally: Tally
    any_spelling: bool
    """Whether the name of the question is all that depends on the spelling of the query."""
    reasons: tuple[Reason, ...]
    clients: dict[str, int] | None
    """As in Reply."""


class KeptReplies:
    """A table of bounded size; the oldest entry makes room for a new one."""

    def __init__(self) -> None:
        self.by_query: OrderedDict[bytes, Kept] = OrderedDict()
        """The oldest first. Only to be read. Stays the same object."""
        self._by_reason: dict[Reason, set[bytes]] = {}

    def keep(
        self,
        query: bytes,
        bodies: tuple[bytes, ...],
        tally: Tally,
        *,
        any_spelling: bool,
        services: tuple[Service, ...] | None,
        serial: bool,
        clients: dict[str, int] | None = None,
    ) -> None:
        """Keep a reply that is true until one of `services` changes, or any object where that is None.

        `serial`: whether the serial of the zone is in it.
        """
        reasons: tuple[Reason, ...] = (_ANY,) if services is None else services
        if serial:
            reasons = (*reasons, _SERIAL)
        self._drop(query)
        if len(self.by_query) >= MAX_KEPT:
            self._drop(next(iter(self.by_query)))
        self.by_query[query] = Kept(bodies, tally, any_spelling, reasons, clients)
        for reason in reasons:
            self._by_reason.setdefault(reason, set()).add(query)

    def clear(self) -> None:
        """Drop all replies."""
        self.by_query.clear()
        self._by_reason.clear()

    def forget(self, services: Iterable[Service], *, serial: bool) -> None:
        """Drop what depends on these Services or on objects that it does not name.

        `serial`: whether the serial of the zone has changed as well.
        """
        reasons: list[Reason] = [*services, _ANY]
        if serial:
            reasons.append(_SERIAL)
        for reason in reasons:
            for query in list(self._by_reason.get(reason, ())):
                self._drop(query)

    def _drop(self, query: bytes) -> None:
        kept = self.by_query.pop(query, None)
        if kept is None:
            return
        for reason in kept.reasons:
            queries = self._by_reason[reason]
            queries.remove(query)
            if not queries:
                del self._by_reason[reason]
