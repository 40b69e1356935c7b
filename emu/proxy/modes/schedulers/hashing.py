"""dh and sh: 256 buckets filled over the list; the bucket of an address names its destination.

A bucket whose destination has weight 0 gives no destination.
"""

from __future__ import annotations

from itertools import cycle, islice, repeat

from emu.core.addresses import to_int
from emu.proxy.modes.schedulers.base import Destination, Destinations, Scheduler

BUCKETS = 256
_MULTIPLIER = 2654435761


class DestinationHashing(Scheduler):
    """dh: by the address of the virtual server, so that each has one destination. Weights do not matter."""

    def __init__(self, destinations: Destinations, address: str) -> None:
        super().__init__(destinations)
        self._bucket = to_int(address) * _MULTIPLIER % BUCKETS

    def pick(self, client: tuple[str, int], now: float) -> Destination | None:
        """See Scheduler. Bucket b of n destinations belongs to the one at b mod n."""
        if not self.destinations:
            return None
        destination = self.destinations[self._bucket % len(self.destinations)]
        return destination if destination.weight > 0 else None


class SourceHashing(Scheduler):
    """sh: by the client's address. A destination fills as many buckets in a row as its weight says.

    One of weight 0 fills one. With `port` the client's port counts too. With `fallback` the other buckets
    are tried in turn where a destination has weight 0.
    """

    def __init__(self, destinations: Destinations, port: bool, fallback: bool) -> None:
        super().__init__(destinations)
        self._port = port
        self._fallback = fallback
        self._buckets: list[Destination] = []

    def pick(self, client: tuple[str, int], now: float) -> Destination | None:
        """See Scheduler."""
        if not self.destinations:
            return None
        buckets = self._buckets or self._fill()
        hashed = (to_int(client[0]) + (client[1] if self._port else 0)) * _MULTIPLIER % BUCKETS
        if buckets[hashed].weight > 0:
            return buckets[hashed]
        if self._fallback:
            for offset in range(BUCKETS):
                # The hash counts twice: the walk starts at it, and it is in the hash of each step.
                destination = buckets[(hashed + (hashed + offset) % BUCKETS) % BUCKETS]
                if destination.weight > 0:
                    return destination
        return None

    def changed(self) -> None:
        """See Scheduler. The buckets are filled when they are needed."""
        self._buckets = []

    def _fill(self) -> list[Destination]:
        turns = (turn for each in cycle(self.destinations) for turn in repeat(each, max(each.weight, 1)))
        self._buckets = list(islice(turns, BUCKETS))
        return self._buckets
