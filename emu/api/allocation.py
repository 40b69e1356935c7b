"""Choosing addresses and node ports out of a range, by bands.

The lower band is preferred for values that users choose, so what is given out dynamically comes from the
upper band first. Source: KEP-3070 (ClusterIP) and KEP-3668 (node ports).
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import NamedTuple

from emu.core.addresses import cidr_bounds

Choose = Callable[[int], int]
"""Gives a number from 0 to below its argument; `random.randrange` outside tests."""


class Band(NamedTuple):
    """A range from `first` to `last`, both usable, whose lowest `static` values are given out last."""

    first: int
    last: int
    static: int

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.first <= value <= self.last


NODE_PORTS = Band(30000, 32767, 86)


def service_addresses(cidr: str) -> Band:
    """The usable addresses of a Service range: all but network and broadcast address."""
    low, high = cidr_bounds(cidr)
    size = high - low + 1
    static = min(max(16, size // 16), 256) if size > 16 else 0
    return Band(low + 1, high - 1, static)


def pick(band: Band, taken: Container[int], choose: Choose) -> int | None:
    """A free value: from a random start in the upper band, then from the lower one. None if all are taken."""
    for low, high in ((band.first + band.static, band.last), (band.first, band.first + band.static - 1)):
        size = high - low + 1
        if size <= 0:
            continue
        start = choose(size)
        for step in range(size):
            value = low + (start + step) % size
            if value not in taken:
                return value
    return None
