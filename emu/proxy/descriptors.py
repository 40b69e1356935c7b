"""File descriptors, of which a process has a limited number: who may take how many, and running out of them.

The kernel always gives the lowest number that is free, so the number of a new descriptor tells how many are
taken. Frontends leave a quarter to connections and datagram flows, and connections leave a few to the proxy's
own: those to the API server and the nodes, its health and its metrics.
"""

from __future__ import annotations

import logging
import resource
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

QUIET_SECONDS = 10.0
_OWN = 64


class Descriptors:
    """The limit, its shares, and the episode of a shortage.

    An episode begins with the first socket that cannot be had, and is over when nothing has waited for one
    for a while: descriptors come and go with every connection, and nobody wants to read of each.
    """

    def __init__(self, on_shortage: Callable[[], None]) -> None:
        """`on_shortage` is called once for each episode."""
        self._on_shortage = on_shortage
        self._began: float | None = None
        self._last = 0.0
        self.set_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    def set_limit(self, limit: int) -> None:
        """How many descriptors this process may have."""
        self.limit = limit
        self.frontends_below = limit * 3 // 4
        """The number that a frontend's socket must not reach."""
        self.connections_below = limit - min(_OWN, limit // 8)
        """The number at which no more connections are accepted."""
        self.flows_at_most = limit // 4
        """How many datagram flows there may be."""

    @property
    def short(self) -> bool:
        """Whether there is a shortage."""
        return self._began is not None

    def any_for_connections(self) -> bool:
        """Whether a connection may be accepted now."""
        try:
            with socket.socket() as probe:
                return probe.fileno() < self.connections_below
        except OSError:
            return False

    def missing(self, now: float) -> bool:
        """A socket cannot be had. True when an episode begins with it."""
        self._last = now
        if self._began is not None:
            return False
        self._began = now
        self._on_shortage()
        return True

    def enough(self, now: float) -> bool:
        """Nothing waits for a descriptor. False while it is too early to call the episode over."""
        if self._began is None:
            return True
        if now - self._last < QUIET_SECONDS:
            return False
        log.info("there are enough file descriptors again, after %.0f s", self._last - self._began)
        self._began = None
        return True

    def __str__(self) -> str:
        return f"the limit of {self.limit} open files is reached, raise it with `ulimit -n`; all else goes on"
