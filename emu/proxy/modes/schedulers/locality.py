"""lblc and lblcr: one destination, or a few, for each destination address, until they are overloaded.

They were made for caches. The destination address is that of the virtual server, so there is one entry.
"""

from __future__ import annotations

from emu.proxy.modes.schedulers.base import Destination, Destinations, Scheduler
from emu.proxy.modes.schedulers.least import weighted_least

EXPIRATION = 24 * 3600.0
"""Seconds without use after which an entry is forgotten, and without change after which a set shrinks.

Those of sysctl lblc_expiration and lblcr_expiration.
"""


class LocalityBased(Scheduler):
    """lblc: always the same destination, until it is overloaded or gone; then the choice of wlc."""

    def __init__(self, destinations: Destinations) -> None:
        super().__init__(destinations)
        self._cached: Destination | None = None
        self._used = 0.0

    def pick(self, client: tuple[str, int], now: float) -> Destination | None:
        """See Scheduler."""
        cached = self._cached
        if cached is not None and now - self._used < EXPIRATION:
            self._used = now
            if cached.listed and cached.weight > 0 and not overloaded(cached, self.destinations):
                return cached
        picked = weighted_least(self.destinations)
        if picked is not None:
            self._cached, self._used = picked, now
        return picked


class LocalityBasedWithReplication(Scheduler):
    """lblcr: the least loaded of a set of destinations, which grows by the choice of wlc under overload.

    A set of several that has not changed for a day loses its most loaded member.
    """

    def __init__(self, destinations: Destinations) -> None:
        super().__init__(destinations)
        self._set: Destinations = []
        """Newest first."""
        self._used = 0.0
        self._changed = 0.0

    def pick(self, client: tuple[str, int], now: float) -> Destination | None:
        """See Scheduler."""
        if now - self._used >= EXPIRATION:
            self._set.clear()
        self._used = now
        least = weighted_least([destination for destination in self._set if destination.listed])
        if len(self._set) > 1 and now - self._changed > EXPIRATION:
            most = _weighted_most(self._set)
            if most is not None:
                self._set.remove(most)
                self._changed = now
        if least is not None and not overloaded(least, self.destinations):
            return least
        picked = weighted_least(self.destinations)
        if picked is not None and picked not in self._set:
            self._set.insert(0, picked)
            self._changed = now
        return picked

    def removed(self, at: int, destination: Destination) -> None:
        """See Scheduler. One that has connections may come back."""
        if destination.idle and destination in self._set:
            self._set.remove(destination)


def overloaded(destination: Destination, others: Destinations) -> bool:
    """Whether it has more active connections than its weight while another has less than half its own."""
    return destination.active > destination.weight and any(
        other.active * 2 < other.weight for other in others
    )


def _weighted_most(destinations: Destinations) -> Destination | None:
    most: Destination | None = None
    for destination in destinations:
        if destination.weight > 0 and (
            most is None or most.overhead * destination.weight < destination.overhead * most.weight
        ):
            most = destination
    return most
