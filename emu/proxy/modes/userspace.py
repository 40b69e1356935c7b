"""userspace mode, as it was before Kubernetes 1.26: round robin in a shuffled order, with retries.

The order is shuffled once for each change of the endpoints, and the turn starts again at its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from emu.core.endpoints import PortEndpoint
from emu.proxy.modes.base import Affinity, Candidates, Uncounted

DIAL_TIMEOUTS = (0.25, 0.5, 1.0, 2.0)
"""Seconds for each attempt to reach an endpoint; the next attempt goes to the next endpoint."""

AFFINITY_CLIENTS = 65536


class UserspaceBalancer(Uncounted):
    """Strict round robin. Affinity maps a client to an endpoint and is dropped when a dial fails."""

    def __init__(self, random: Random) -> None:
        self._shuffle = random.shuffle
        self._order: list[str] = []
        self._next = 0
        self._timeout: float | None = None
        self._affinity = Affinity(AFFINITY_CLIENTS)

    def update(self, endpoints: Sequence[PortEndpoint], affinity: float | None) -> None:
        """See Balancer."""
        self._timeout = affinity
        keys = [endpoint.key for endpoint in endpoints if endpoint.ready]
        if affinity is None:
            self._affinity.clear()
        else:
            self._affinity.keep_only(set(keys))
        if sorted(self._order) != sorted(keys):
            self._shuffle(keys)
            self._order = keys
            self._next = 0

    def choose(self, candidates: Candidates, client: tuple[str, int], now: float) -> PortEndpoint | None:
        """See Balancer."""
        if self._timeout is not None:
            bound = self._affinity.find(client[0], self._timeout, now)
            if bound and (chosen := candidates.by_key.get(bound)):
                self._affinity.bind(client[0], chosen.key, now)
                return chosen
        for _ in self._order:
            key = self._order[self._next]
            self._next = (self._next + 1) % len(self._order)
            if chosen := candidates.by_key.get(key):
                if self._timeout is not None:
                    self._affinity.bind(client[0], key, now)
                return chosen
        return None

    def failed(self, client: tuple[str, int]) -> None:
        """See Balancer."""
        self._affinity.forget(client[0])
