"""lc, wlc, sed and nq: the destination with the least load. Each looks at all of them, as the kernel does."""

from __future__ import annotations

from emu.proxy.modes.schedulers.base import Destination, Destinations, Scheduler


class LeastConnection(Scheduler):
    """lc: the least overhead, whatever the weights; the first in the list on ties."""

    def pick(self, client: tuple[str, int], now: float) -> Destination | None:
        """See Scheduler."""
        best: Destination | None = None
        least = 0
        for destination in self.destinations:
            if destination.weight > 0:
                load = destination.active * 256 + destination.inactive
                if best is None or load < least:
                    best, least = destination, load
        return best


class WeightedLeastConnection(Scheduler):
    """wlc: the least overhead relative to the weight; the first in the list on ties."""

    def pick(self, client: tuple[str, int], now: float) -> Destination | None:
        """See Scheduler."""
        return weighted_least(self.destinations)


class ShortestExpectedDelay(Scheduler):
    """sed: the least (active + 1) relative to the weight; the first in the list on ties."""

    def pick(self, client: tuple[str, int], now: float) -> Destination | None:
        """See Scheduler."""
        return _shortest_expected_delay(self.destinations)


class NeverQueue(Scheduler):
    """nq: the first one without an active connection, otherwise as sed."""

    def pick(self, client: tuple[str, int], now: float) -> Destination | None:
        """See Scheduler."""
        for destination in self.destinations:
            if not destination.active and destination.weight > 0:
                return destination
        return _shortest_expected_delay(self.destinations)


def weighted_least(destinations: Destinations) -> Destination | None:
    """The destination with the least overhead relative to its weight. Fractions are compared crosswise."""
    best: Destination | None = None
    least = 0
    for destination in destinations:
        if destination.weight > 0:
            load = destination.active * 256 + destination.inactive
            if best is None or least * destination.weight > load * best.weight:
                best, least = destination, load
    return best


def _shortest_expected_delay(destinations: Destinations) -> Destination | None:
    best: Destination | None = None
    least = 0
    for destination in destinations:
        if destination.weight > 0:
            load = destination.active + 1
            if best is None or least * destination.weight > load * best.weight:
                best, least = destination, load
    return best
