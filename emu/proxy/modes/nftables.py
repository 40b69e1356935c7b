"""nftables mode: `numgen random mod N` over the endpoints; affinity in a set with a timeout."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from emu.core.endpoints import PortEndpoint
from emu.proxy.modes.base import Affinity, Candidates, Uncounted

AFFINITY_CLIENTS = 65536


class NftablesBalancer(Uncounted):
    """Uniform random. Each new connection renews its client's element of the affinity set."""

    def __init__(self, random: Random) -> None:
        self._random = random.random
        self._timeout: float | None = None
        self._affinity = Affinity(AFFINITY_CLIENTS)

    def update(self, endpoints: Sequence[PortEndpoint], affinity: float | None) -> None:
        """See Balancer."""
        self._timeout = affinity
        if affinity is None:
            self._affinity.clear()
        else:
            self._affinity.keep_only({endpoint.key for endpoint in endpoints})

    def choose(self, candidates: Candidates, client: tuple[str, int], now: float) -> PortEndpoint | None:
        """See Balancer."""
        endpoints = candidates.endpoints
        if not endpoints:
            return None
        if self._timeout is None:
            return endpoints[int(self._random() * len(endpoints))]
        bound = self._affinity.find(client[0], self._timeout, now)
        chosen = candidates.by_key.get(bound) if bound else None
        if chosen is None:
            chosen = endpoints[int(self._random() * len(endpoints))]
        self._affinity.bind(client[0], chosen.key, now)
        return chosen
