"""mh: Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4) by the client's address."""

from __future__ import annotations

import math
from array import array
from functools import lru_cache

from emu.core.addresses import to_int
from emu.proxy.modes.schedulers.base import Destination, Destinations, Scheduler

TABLE_SIZE = 4093
_TURN_BITS = 6
"""The turns of one destination in a round are kept below 2 to this power."""

_PLACE_KEY = 2654435761
_SKIP_KEY = 2654446892
"""The kernel's keys are constants, so a client's destination is the same on every node."""

_MASK = (1 << 64) - 1
_CACHED = 65536


class MaglevHashing(Scheduler):
    """mh: a table of 4,093 entries in which each destination takes its preferred places in turn.

    A change of the list moves few clients. With `port` the client's port counts too. With `fallback` other
    entries are tried where the destination has weight 0; otherwise there is none for that client.
    """

    def __init__(self, destinations: Destinations, port: bool, fallback: bool) -> None:
        super().__init__(destinations)
        self._port = port
        self._fallback = fallback
        self._table = array("H")

    def pick(self, client: tuple[str, int], now: float) -> Destination | None:
        """See Scheduler."""
        table = self._table or self._populate()
        if not table:
            return None
        source = to_int(client[0]) + (client[1] if self._port else 0)
        place = hashed(source, _PLACE_KEY) % TABLE_SIZE
        destination = self.destinations[table[place]]
        if destination.weight > 0:
            return destination
        if self._fallback and any(each.weight > 0 for each in self.destinations):
            for offset in range(TABLE_SIZE):
                again = hashed(source + (place + offset) % TABLE_SIZE, _PLACE_KEY) % TABLE_SIZE
                destination = self.destinations[table[again]]
                if destination.weight > 0:
                    return destination
        return None

    def added(self, at: int) -> None:
        """See Scheduler. The table is filled when it is needed."""
        self._table = array("H")

    def removed(self, at: int, destination: Destination) -> None:
        """See Scheduler."""
        self._table = array("H")

    def updated(self, destination: Destination) -> None:
        """See Scheduler. One that goes down to weight 0 keeps the entries of its last weight."""
        if destination.weight:
            self._table = array("H")

    def _populate(self) -> array[int]:
        turns = _turns([destination.last_weight for destination in self.destinations])
        if not any(turns):
            return self._table
        places = [_preference(destination.key) for destination in self.destinations]
        nowhere = len(turns)
        table = array("H", [nowhere]) * TABLE_SIZE
        position = [place for place, _ in places]
        left = TABLE_SIZE
        while True:
            for number, (_, skip) in enumerate(places):
                for _ in range(turns[number]):
                    at = position[number]
                    while table[at] != nowhere:
                        at += skip
                        if at >= TABLE_SIZE:
                            at -= TABLE_SIZE
                    table[at] = number
                    position[number] = at
                    left -= 1
                    if not left:
                        self._table = table
                        return table


def _turns(weights: list[int]) -> list[int]:
    """How many places each takes in a round: its weight over their divisor, scaled down to few bits."""
    divisor = math.gcd(*weights)
    if not divisor:
        return [0] * len(weights)
    shift = max((max(weights) // divisor).bit_length() - _TURN_BITS, 0)
    return [(weight // divisor) >> shift or int(weight != 0) for weight in weights]


@lru_cache(maxsize=_CACHED)
def _preference(key: str) -> tuple[int, int]:
    """Where a destination begins to look for places, and by how much it goes on."""
    ip, _, port = key.rpartition(":")
    number = to_int(ip) + int(port)
    return hashed(number, _PLACE_KEY) % TABLE_SIZE, hashed(number, _SKIP_KEY) % (TABLE_SIZE - 1) + 1


def hashed(number: int, key: int) -> int:
    """The kernel's hsiphash of a 32-bit number on 64-bit machines: SipHash-1-3, its lower half.

    `key` is both halves of the key. Numbers are taken modulo 2**32.
    """
    message = 4 << 56 | number & 0xFFFFFFFF
    state = (
        key ^ 0x736F6D6570736575,
        key ^ 0x646F72616E646F6D,
        key ^ 0x6C7967656E657261,
        key ^ 0x7465646279746573 ^ message,
    )
    v0, v1, v2, v3 = _round(*state)
    v0 ^= message
    v2 ^= 0xFF
    v0, v1, v2, v3 = _round(*_round(*_round(v0, v1, v2, v3)))
    return (v0 ^ v1 ^ v2 ^ v3) & 0xFFFFFFFF


def _round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    v0 = v0 + v1 & _MASK
    v1 = (v1 << 13 | v1 >> 51) & _MASK ^ v0
    v0 = (v0 << 32 | v0 >> 32) & _MASK
    v2 = v2 + v3 & _MASK
    v3 = (v3 << 16 | v3 >> 48) & _MASK ^ v2
    v0 = v0 + v3 & _MASK
    v3 = (v3 << 21 | v3 >> 43) & _MASK ^ v0
    v2 = v2 + v1 & _MASK
    v1 = (v1 << 17 | v1 >> 47) & _MASK ^ v2
    v2 = (v2 << 32 | v2 >> 32) & _MASK
    return v0, v1, v2, v3
