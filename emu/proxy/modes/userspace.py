"""userspace mode, as it was before Kubernetes 1.26 (roundrobin.go): a shuffled order, in turn, with retries.

The order is shuffled for each change of the endpoints, and the turn starts again at its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from emu.core.endpoints import PortEndpoint
from emu.proxy.modes.base import Candidates, Uncounted

DIAL_TIMEOUTS = (0.25, 0.5, 1.0, 2.0)
"""Seconds for each attempt to reach an endpoint; the next attempt goes to the next endpoint."""

AFFINITY_CLIENTS = 65536
"""How many clients the affinity map holds; the one seen longest ago makes room."""


class _Listed:
    """An endpoint for as long as it is listed. Ties to one that is gone end, also when its key comes back."""

    __slots__ = ("gone", "key")

    def __init__(self, key: str) -> None:
        self.key = key
        self.gone = False


class UserspaceBalancer(Uncounted):
    """Strict round robin. Affinity maps a client to an endpoint and is dropped when a dial fails."""

    def __init__(self, random: Random) -> None:
        self._shuffle = random.shuffle
        self._listed: dict[str, _Listed] = {}
        self._order: list[_Listed] = []
        self._next = 0
        self._timeout: float | None = None
        self._affinity: dict[str, tuple[_Listed, float]] = {}
        """By client: the endpoint, and when it was last used."""

    def update(self, endpoints: Sequence[PortEndpoint], affinity: float | None) -> None:
        """See Balancer."""
        self._timeout = affinity
        if affinity is None:
            self._affinity.clear()
        keys = {endpoint.key: None for endpoint in endpoints if endpoint.ready}
        if keys.keys() == self._listed.keys():
            return
        for key in self._listed.keys() - keys.keys():
            self._listed.pop(key).gone = True
        for key in keys:
            if key not in self._listed:
                self._listed[key] = _Listed(key)
        self._order = [self._listed[key] for key in keys]
        self._shuffle(self._order)
        self._next = 0

    def choose(self, candidates: Candidates, client: tuple[str, int], now: float) -> PortEndpoint | None:
        """See Balancer. Candidates are all the ready endpoints, as this mode knows no policies."""
        if self._timeout is not None and (bound := self._affinity.get(client[0])):
            listed, used = bound
            if not listed.gone and now - used < self._timeout:
                self._tie(client[0], listed, now)
                return candidates.by_key.get(listed.key)
        if not self._order:
            return None
        listed = self._order[self._next]
        self._next = (self._next + 1) % len(self._order)
        if self._timeout is not None:
            self._tie(client[0], listed, now)
        return candidates.by_key.get(listed.key)

    def failed(self, client: tuple[str, int]) -> None:
        """See Balancer."""
        self._affinity.pop(client[0], None)

    def _tie(self, client: str, listed: _Listed, now: float) -> None:
        self._affinity.pop(client, None)
        self._affinity[client] = (listed, now)
        if len(self._affinity) > AFFINITY_CLIENTS:
            del self._affinity[next(iter(self._affinity))]
