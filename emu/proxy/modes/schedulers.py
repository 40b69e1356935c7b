"""The schedulers of ipvs, as Linux' `net/netfilter/ipvs` has them. Destinations of weight 0 get nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from emu.core.addresses import to_int


class Destination:
    """A real server of a virtual server: weight and connection counts."""

    __slots__ = ("active", "inactive", "key", "weight")

    def __init__(self, key: str, weight: int = 1) -> None:
        self.key = key
        self.weight = weight
        self.active = 0
        self.inactive = 0


Destinations = Sequence[Destination]


class Scheduler(Protocol):
    """Picks a destination for a new connection."""

    def pick(self, destinations: Destinations, client: str) -> Destination | None:
        """The destination for a client address, or None when none may be used."""


class RoundRobin:
    """rr: the next one after the last chosen, in list order."""

    def __init__(self) -> None:
        self._last = ""
        self._at = -1

    def pick(self, destinations: Destinations, client: str) -> Destination | None:
        """See Scheduler."""
        count = len(destinations)
        start = self._position(destinations)
        for step in range(count):
            at = (start + step) % count
            if destinations[at].weight > 0:
                self._at, self._last = at, destinations[at].key
                return destinations[at]
        return None

    def _position(self, destinations: Destinations) -> int:
        """Where to go on: behind the last chosen one, wherever the list has it now."""
        if self._at < 0:
            return 0
        if self._at < len(destinations) and destinations[self._at].key == self._last:
            return self._at + 1
        for at, destination in enumerate(destinations):
            if destination.key == self._last:
                return at + 1
        return self._at


class WeightedRoundRobin:
    """wrr: passes over the list take those of at least the current weight, which falls by the gcd."""

    def __init__(self) -> None:
        self._signature: tuple[tuple[str, int], ...] = ()
        self._at = -1
        self._current = 0

    def pick(self, destinations: Destinations, client: str) -> Destination | None:
        """See Scheduler."""
        signature = tuple((destination.key, destination.weight) for destination in destinations)
        top = max((destination.weight for destination in destinations), default=0)
        if top == 0:
            return None
        step = math.gcd(*(destination.weight for destination in destinations))
        if signature != self._signature:
            self._signature, self._at = signature, -1
            self._current = top - (step - 1)
        while True:
            self._at += 1
            if self._at == len(destinations):
                self._at = 0
                self._current -= step
                if self._current <= 0:
                    self._current = top
            if destinations[self._at].weight >= self._current:
                return destinations[self._at]


class Least:
    """lc, wlc, sed: the least overhead relative to weight, the first in the list on ties."""

    def __init__(self, overhead: Callable[[Destination], int], *, weighted: bool) -> None:
        self._overhead = overhead
        self._weighted = weighted

    def pick(self, destinations: Destinations, client: str) -> Destination | None:
        """See Scheduler."""
        best: Destination | None = None
        least = 0
        for destination in destinations:
            if destination.weight <= 0:
                continue
            load = self._overhead(destination)
            if best is None or (
                load * best.weight < least * destination.weight if self._weighted else load < least
            ):
                best, least = destination, load
        return best


class NeverQueue:
    """nq: the first one without an active connection, otherwise as sed."""

    def __init__(self) -> None:
        self._otherwise = Least(expected_delay, weighted=True)

    def pick(self, destinations: Destinations, client: str) -> Destination | None:
        """See Scheduler."""
        for destination in destinations:
            if destination.weight > 0 and destination.active == 0:
                return destination
        return self._otherwise.pick(destinations, client)


class Hashed:
    """dh and sh: 256 buckets filled over the list by weight; an address's bucket names its destination.

    A bucket whose destination may not be used gives no destination.
    """

    BUCKETS = 256

    def __init__(self, *, address: str | None, weighted: bool) -> None:
        """`address` is what is hashed; None hashes the client's (sh)."""
        self._address = address
        self._weighted = weighted
        self._filled_from: list[tuple[str, int]] = []
        self._buckets: list[int] = []

    def pick(self, destinations: Destinations, client: str) -> Destination | None:
        """See Scheduler."""
        if not destinations:
            return None
        listed = [
            (destination.key, max(destination.weight, 1) if self._weighted else 1)
            for destination in destinations
        ]
        if listed != self._filled_from:
            self._filled_from = listed
            turns = [at for at, (_, weight) in enumerate(listed) for _ in range(weight)]
            self._buckets = [turns[bucket % len(turns)] for bucket in range(self.BUCKETS)]
        hashed = (to_int(self._address or client) * 2654435761) & (self.BUCKETS - 1)
        chosen = destinations[self._buckets[hashed]]
        return chosen if chosen.weight > 0 else None


def connection_overhead(destination: Destination) -> int:
    """An active connection costs as much as 256 inactive ones."""
    return destination.active * 256 + destination.inactive


def expected_delay(destination: Destination) -> int:
    """The new connection counts as active."""
    return destination.active + 1


SCHEDULERS: dict[str, Callable[[str], Scheduler]] = {
    "rr": lambda destination: RoundRobin(),
    "wrr": lambda destination: WeightedRoundRobin(),
    "lc": lambda destination: Least(connection_overhead, weighted=False),
    "wlc": lambda destination: Least(connection_overhead, weighted=True),
    "sed": lambda destination: Least(expected_delay, weighted=True),
    "nq": lambda destination: NeverQueue(),
    "sh": lambda destination: Hashed(address=None, weighted=True),
    "dh": lambda destination: Hashed(address=destination, weighted=False),
}
"""By name; each takes the address of the virtual server."""
