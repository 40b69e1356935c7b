"""iptables mode: a chain of `statistic --mode random` rules; affinity by the `recent` match.

Endpoint i of n has a rule with probability 1/(n-i), the last one none, so that each gets exactly 1/n.
Every endpoint's chain keeps its own list of recent clients; the first endpoint in the chain that has the
client in its list wins, before any random rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from emu.core.endpoints import PortEndpoint
from emu.proxy.modes.base import Affinity, Candidates, Uncounted

RECENT_CLIENTS = 100
"""How many addresses a `recent` list holds (xt_recent's ip_list_tot); older ones fall out."""


class IptablesBalancer(Uncounted):
    """Uniform random; with ClientIP affinity a recent list for each endpoint."""

    def __init__(self, random: Random) -> None:
        self._random = random.random
        self._timeout: float | None = None
        self._recent: dict[str, Affinity] = {}

    def update(self, endpoints: Sequence[PortEndpoint], affinity: float | None) -> None:
        """See Balancer. A list goes with its endpoint's chain."""
        self._timeout = affinity
        if affinity is None:
            self._recent.clear()
            return
        keys = {endpoint.key for endpoint in endpoints}
        for key in self._recent.keys() - keys:
            del self._recent[key]

    def choose(self, candidates: Candidates, client: tuple[str, int], now: float) -> PortEndpoint | None:
        """See Balancer."""
        endpoints = candidates.endpoints
        if not endpoints:
            return None
        if self._timeout is None:
            return endpoints[int(self._random() * len(endpoints))]
        address = client[0]
        chosen = None
        for key, recent in self._recent.items():
            if recent.find(address, self._timeout, now) and (chosen := candidates.by_key.get(key)):
                break
        if chosen is None:
            chosen = endpoints[int(self._random() * len(endpoints))]
        self._recent.setdefault(chosen.key, Affinity(RECENT_CLIENTS)).bind(address, chosen.key, now)
        return chosen
