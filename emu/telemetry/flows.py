"""Flow records: what became of each connection or datagram flow, and why.

Each process keeps its own bounded ring; writing costs one append while nobody looks.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from enum import StrEnum
from typing import Any

import msgspec

CAPACITY = 4096


class Verdict(StrEnum):
    """What became of a flow."""

    FORWARDED = "forwarded"
    DROPPED = "dropped"
    REFUSED = "refused"


class Path(StrEnum):
    """How a flow travels."""

    LOCAL = "local"
    """On one node, over the bridge cni0."""
    OVERLAY = "overlay"
    """Between two nodes, encapsulated between their addresses."""
    HANDOVER = "handover"
    """Through a virtual IP, the socket handed to the pod's node."""
    RELAY = "relay"
    """Through a virtual IP, the bytes copied by the proxy."""
    GATEWAY = "gateway"
    """Through the gateway."""


class FlowRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One flow. Addresses are `ip:port`; time is in seconds since the epoch."""

    time: float = 0.0
    protocol: str = "TCP"
    source: str
    destination: str
    """The address that the source dialled."""
    endpoint: str = ""
    """The pod address that was chosen, where a Service was dialled."""
    service: str = ""
    path: Path | None = None
    verdict: Verdict
    reason: str = ""
    """The rule that decided; for policies, which policy and which of its rules."""
    reporter: str = ""


_Entry = tuple[float, Callable[..., FlowRecord], tuple[Any, ...]]


class FlowRing:
    """The most recent flows of a process."""

    def __init__(self, reporter: str, capacity: int = CAPACITY) -> None:
        self._reporter = reporter
        self._entries: deque[_Entry] = deque(maxlen=capacity)
        self._followers: set[asyncio.Queue[_Entry]] = set()

    def add(self, build: Callable[..., FlowRecord], *args: Any) -> None:
        """Append what `build(*args)` makes of this moment's flow; it is built when somebody looks.

        A follower that cannot keep up loses it.
        """
        entry = (time.time(), build, args)
        self._entries.append(entry)
        for queue in self._followers:
            if not queue.full():
                queue.put_nowait(entry)

    def lines(self) -> bytes:
        """All records that are kept, oldest first, as JSON lines."""
        return b"".join(self._line(entry) for entry in self._entries)

    async def follow(self) -> AsyncGenerator[bytes]:
        """JSON lines of records that are added from now on."""
        queue: asyncio.Queue[_Entry] = asyncio.Queue(CAPACITY)
        self._followers.add(queue)
        try:
            while True:
                yield self._line(await queue.get())
        finally:
            self._followers.discard(queue)

    def _line(self, entry: _Entry) -> bytes:
        at, build, args = entry
        record = msgspec.structs.replace(build(*args), time=at, reporter=self._reporter)
        return msgspec.json.encode(record) + b"\n"
