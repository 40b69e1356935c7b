"""ipvs mode: a virtual server with a scheduler, true connection counts, and persistence.

A connection that ends stays among the inactive ones for the time that ipvs keeps it in TIME_WAIT. Counts of
an endpoint that is gone are kept while it has connections, so that it has them again when it comes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from emu.core.endpoints import PortEndpoint
from emu.proxy.modes.base import Affinity, Candidates
from emu.proxy.modes.schedulers import SCHEDULERS, Destination

TIME_WAIT_SECONDS = 120.0
PERSISTENT_CLIENTS = 65536


class IpvsBalancer:
    """One virtual server. All weights are 1, as kube-proxy sets them."""

    counts = True

    def __init__(self, scheduler: str, destination: str) -> None:
        self._scheduler = SCHEDULERS[scheduler](destination)
        self._destinations: dict[str, Destination] = {}
        self._candidates: Candidates | None = None
        self._listed: list[Destination] = []
        self._time_wait: deque[tuple[float, Destination]] = deque()
        self._timeout: float | None = None
        self._templates = Affinity(PERSISTENT_CLIENTS)
        self._open: dict[str, int] = {}

    def update(self, endpoints: Sequence[PortEndpoint], affinity: float | None) -> None:
        """See Balancer."""
        keys = {endpoint.key for endpoint in endpoints}
        for key, destination in list(self._destinations.items()):
            if key not in keys and destination.active == 0:
                del self._destinations[key]
        self._candidates = None
        self._timeout = affinity
        if affinity is None:
            self._templates.clear()
            self._open.clear()
        else:
            self._templates.keep_only(keys)

    def choose(self, candidates: Candidates, client: tuple[str, int], now: float) -> PortEndpoint | None:
        """See Balancer."""
        while self._time_wait and self._time_wait[0][0] <= now:
            self._time_wait.popleft()[1].inactive -= 1
        if candidates is not self._candidates:
            self._candidates = candidates
            self._listed = [self._destination(key) for key in candidates.by_key]
        if self._timeout is not None:
            # A template does not expire while its client has connections.
            timeout = float("inf") if self._open.get(client[0]) else self._timeout
            bound = self._templates.find(client[0], timeout, now)
            if bound and (chosen := candidates.by_key.get(bound)):
                self._templates.bind(client[0], bound, now)
                return chosen
        picked = self._scheduler.pick(self._listed, client[0])
        if picked is None:
            return None
        if self._timeout is not None:
            self._templates.bind(client[0], picked.key, now)
        return candidates.by_key[picked.key]

    def begun(self, endpoint: PortEndpoint, client: tuple[str, int], now: float) -> None:
        """See Balancer."""
        self._destination(endpoint.key).active += 1
        if self._timeout is not None:
            self._open[client[0]] = self._open.get(client[0], 0) + 1

    def ended(self, endpoint: PortEndpoint, client: tuple[str, int], now: float) -> None:
        """See Balancer."""
        destination = self._destination(endpoint.key)
        destination.active -= 1
        destination.inactive += 1
        self._time_wait.append((now + TIME_WAIT_SECONDS, destination))
        if client[0] in self._open:
            self._open[client[0]] -= 1
            if not self._open[client[0]]:
                del self._open[client[0]]
                if self._timeout is not None and (
                    bound := self._templates.find(client[0], float("inf"), now)
                ):
                    self._templates.bind(client[0], bound, now)

    def failed(self, client: tuple[str, int]) -> None:
        """See Balancer."""

    def connections(self, key: str) -> tuple[int, int]:
        """Active and inactive connections of an endpoint, as `ipvsadm -Ln` shows them."""
        destination = self._destinations.get(key)
        return (destination.active, destination.inactive) if destination else (0, 0)

    def _destination(self, key: str) -> Destination:
        destination = self._destinations.get(key)
        if destination is None:
            destination = self._destinations[key] = Destination(key)
        return destination
