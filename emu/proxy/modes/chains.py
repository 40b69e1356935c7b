"""What iptables and nftables mode have in common: a chain that asks for affinity, then chooses at random.

With ClientIP affinity each endpoint's chain remembers its clients. A service's chain first asks each
endpoint, in the order of the rules, whether it has the client, and only then chooses. A client is nearly
always with one endpoint, so the way back from a client to its endpoints makes that a look-up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from random import Random

from emu.core.endpoints import PortEndpoint
from emu.proxy.modes.base import Candidates, Uncounted


class ClientLists(ABC):
    """For each endpoint, by key, the clients that were sent to it and when, the longest ago first."""

    def __init__(self) -> None:
        self._clients: dict[str, dict[str, float]] = {}
        self._endpoints: dict[str, set[str]] = {}

    @abstractmethod
    def fresh(self, seen: float, timeout: float, now: float) -> bool:
        """Whether a client that was seen at a time still counts."""

    @abstractmethod
    def make_room(self, key: str, timeout: float, now: float) -> bool:
        """Whether another client may enter an endpoint's list. Others may have to leave it."""

    def find(
        self, client: str, among: Mapping[str, PortEndpoint], timeout: float, now: float
    ) -> PortEndpoint | None:
        """The first endpoint that has a client, in the order of the chain, which is that of the keys."""
        keys = self._endpoints.get(client)
        if keys is None:
            return None
        for key in sorted(keys) if len(keys) > 1 else keys:
            if key in among and self.fresh(self._clients[key][client], timeout, now):
                return among[key]
        return None

    def remember(self, client: str, key: str, timeout: float, now: float) -> None:
        """A new connection of a client goes to an endpoint: its time starts again."""
        clients = self._clients.setdefault(key, {})
        if clients.pop(client, None) is None:
            if not self.make_room(key, timeout, now):
                return
            self._endpoints.setdefault(client, set()).add(key)
        clients[client] = now

    def size(self, key: str) -> int:
        """How many clients an endpoint has."""
        return len(self._clients[key])

    def oldest(self, key: str) -> tuple[str, float] | None:
        """The client that was sent to an endpoint longest ago, and when."""
        return next(iter(self._clients[key].items()), None)

    def forget(self, client: str, key: str) -> None:
        """Take a client out of an endpoint's list."""
        del self._clients[key][client]
        self._release(client, key)

    def keep_only(self, endpoints: Sequence[PortEndpoint]) -> None:
        """The chains of other endpoints are gone, and their lists with them."""
        if self._clients:
            for key in self._clients.keys() - {endpoint.key for endpoint in endpoints if endpoint.usable}:
                for client in self._clients.pop(key):
                    self._release(client, key)

    def clear(self) -> None:
        """Forget everyone."""
        self._clients.clear()
        self._endpoints.clear()

    def _release(self, client: str, key: str) -> None:
        keys = self._endpoints[client]
        keys.discard(key)
        if not keys:
            del self._endpoints[client]


class ChainBalancer(Uncounted):
    """Uniform random over the candidates."""

    def __init__(self, random: Random, lists: ClientLists) -> None:
        self._random = random.random
        self._timeout: float | None = None
        self._lists = lists

    def update(self, endpoints: Sequence[PortEndpoint], affinity: float | None) -> None:
        """See Balancer."""
        self._timeout = affinity
        if affinity is None:
            self._lists.clear()
        else:
            self._lists.keep_only(endpoints)

    def choose(self, candidates: Candidates, client: tuple[str, int], now: float) -> PortEndpoint | None:
        """See Balancer."""
        endpoints = candidates.endpoints
        if not endpoints:
            return None
        if self._timeout is None:
            return endpoints[int(self._random() * len(endpoints))]
        chosen = self._lists.find(client[0], candidates.by_key, self._timeout, now)
        if chosen is None:
            chosen = endpoints[int(self._random() * len(endpoints))]
        self._lists.remember(client[0], chosen.key, self._timeout, now)
        return chosen
