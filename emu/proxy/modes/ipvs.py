"""ipvs mode: a virtual server with its real servers, their connections, a scheduler, and persistence.

The list is in the kernel's order: a real server that is added goes to its head. kube-proxy adds those that
are missing in the order of their keys, and then takes those away that are not wanted any more. A TCP server
that has connections then stays with weight 0 until they are gone, which is looked at each minute
(graceful_termination.go). One that comes back meanwhile is added anew, and has its connections again.

Counts are those of `ipvsadm -Ln`: a TCP connection is active while it is established, and inactive for as
long as ipvs keeps it in TIME_WAIT; a UDP flow is inactive all its life (ip_vs_proto_tcp.c, ip_vs_conn.c).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from emu.core.endpoints import PortEndpoint
from emu.proxy.modes.base import Candidates
from emu.proxy.modes.persistence import Template, Templates
from emu.proxy.modes.schedulers import SCHEDULERS, Flags
from emu.proxy.modes.schedulers.base import Destination, Destinations

TIME_WAIT_SECONDS = 120.0
REMOVAL_CHECK_SECONDS = 60.0


_Entry = tuple[Destination, Template | None]
"""What is known of a connection that has ended."""


class RealServer(NamedTuple):
    """A line of `ipvsadm -Ln`."""

    key: str
    """`ip:port`."""
    weight: int
    active: int
    inactive: int


class IpvsBalancer:
    """One virtual server. All weights are 1, as kube-proxy sets them, or 0 for those on their way out."""

    counts = True

    def __init__(self, scheduler: str, flags: Flags, address: str, protocol: str) -> None:
        """`flags` are those in force; `address` is the IP of the virtual server."""
        self._address = address
        self._tcp = protocol == "TCP"
        self._destinations: Destinations = []
        self._scheduler = SCHEDULERS[scheduler](self._destinations, address, flags)
        self._known: dict[str, Destination] = {}
        """By key: those in the list, and those that are gone while they have connections."""
        self._leaving: list[Destination] = []
        self._checked = 0.0
        self._wanted: AbstractSet[str] = frozenset()
        self._mark = object()
        """Another one with each change of what is wanted. Each kind of client has candidates of its own."""
        self._time_wait: deque[tuple[int, Counter[_Entry]]] = deque()
        """What leaves TIME_WAIT at which second. Memory must not grow with the rate of connections."""
        self._timeout: float | None = None
        self._templates = Templates()

    def reschedule(self, scheduler: str, flags: Flags) -> None:
        """Go over to another scheduler. Real servers, connections and templates stay."""
        self._scheduler = SCHEDULERS[scheduler](self._destinations, self._address, flags)

    def update(self, endpoints: Sequence[PortEndpoint], affinity: float | None) -> None:
        """See Balancer. The list follows with the candidates, when they come."""
        self._timeout = affinity
        if affinity is None:
            self._templates.clear()

    def choose(self, candidates: Candidates, client: tuple[str, int], now: float) -> PortEndpoint | None:
        """See Balancer."""
        time_wait = self._time_wait
        due = self._leaving or (time_wait and time_wait[0][0] <= now)
        if due or candidates.listed is not self._mark:
            self._advance(candidates, now)
        timeout = self._timeout
        if timeout is None:
            picked = self._scheduler.pick(client, now)
            return candidates.by_key[picked.key] if picked is not None else None
        template = self._templates.find(client[0], now)
        if template is not None:
            bound = self._known.get(template.key)
            if bound is not None and bound.listed and bound.weight:
                self._templates.use(client[0], template, now)
                return candidates.by_key[bound.key]
            # sysctl expire_quiescent_template = 1
            self._templates.drop(client[0])
        picked = self._scheduler.pick(client, now)
        if picked is None:
            return None
        self._templates.add(client[0], picked.key, timeout, now)
        return candidates.by_key[picked.key]

    def begun(self, endpoint: PortEndpoint, client: tuple[str, int], now: float) -> None:
        """See Balancer."""
        destination = self._known.get(endpoint.key)
        if destination is None:
            destination = self._known[endpoint.key] = Destination(endpoint.key)
            destination.listed = False
        if self._tcp:
            destination.active += 1
        else:
            destination.inactive += 1
        if self._timeout is not None:
            template = self._templates.holding(client[0], endpoint.key)
            if template is not None:
                template.connections += 1

    def ended(self, endpoint: PortEndpoint, client: tuple[str, int], now: float) -> None:
        """See Balancer."""
        destination = self._known[endpoint.key]
        template = self._templates.holding(client[0], endpoint.key)
        if self._tcp:
            destination.active -= 1
            destination.inactive += 1
            second = math.ceil(now + TIME_WAIT_SECONDS)
            if not self._time_wait or self._time_wait[-1][0] != second:
                self._time_wait.append((second, Counter()))
            self._time_wait[-1][1][destination, template] += 1
        else:
            self._gone((destination, template), 1, now)

    def failed(self, client: tuple[str, int]) -> None:
        """See Balancer."""

    def real_servers(self, candidates: Candidates, now: float) -> list[RealServer]:
        """The real servers in the order of the list, for the candidates that there are now."""
        self._advance(candidates, now)
        return [RealServer(d.key, d.weight, d.active, d.inactive) for d in self._destinations]

    def _advance(self, candidates: Candidates, now: float) -> None:
        """Do what was to be done by now."""
        if self._leaving:
            check = now - now % REMOVAL_CHECK_SECONDS
            if check > self._checked:
                self._checked = check
                self._end_time_wait(check)
                for destination in [leaving for leaving in self._leaving if leaving.idle]:
                    self._remove(destination)
        self._end_time_wait(now)
        if candidates.listed is not self._mark:
            wanted = candidates.by_key.keys()
            if wanted != self._wanted:
                self._wanted, self._mark = wanted, object()
                self._synchronize(wanted)
            candidates.listed = self._mark

    def _end_time_wait(self, now: float) -> None:
        while self._time_wait and self._time_wait[0][0] <= now:
            second, entries = self._time_wait.popleft()
            for entry, count in entries.items():
                self._gone(entry, count, second)

    def _gone(self, entry: _Entry, count: int, now: float) -> None:
        """The kernel's entries for some connections are no more."""
        destination, template = entry
        destination.inactive -= count
        if not destination.listed and destination.idle:
            del self._known[destination.key]
        if template is not None:
            template.release(count, now)

    def _synchronize(self, wanted: AbstractSet[str]) -> None:
        for key in wanted:
            destination = self._known.get(key)
            if destination is None:
                destination = self._known[key] = Destination(key)
            elif destination.listed:
                if destination.weight:
                    continue
                self._remove(destination)
                self._known[key] = destination
            self._add(destination)
        for destination in [d for d in self._destinations if d.weight and d.key not in wanted]:
            if self._tcp and not destination.idle:
                destination.set_weight(0)
                self._leaving.append(destination)
                self._scheduler.updated(destination)
            else:
                self._remove(destination)

    def _add(self, destination: Destination) -> None:
        destination.listed = True
        destination.set_weight(1)
        self._destinations.insert(0, destination)
        self._scheduler.added(0)

    def _remove(self, destination: Destination) -> None:
        at = self._destinations.index(destination)
        del self._destinations[at]
        destination.listed = False
        if not destination.weight:
            self._leaving.remove(destination)
        if destination.idle:
            del self._known[destination.key]
        self._scheduler.removed(at, destination)
