"""Address sets behave as sets."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from emu.core.ranges import (
    EVERYONE,
    NOBODY,
    Ranges,
    complement,
    contains,
    including,
    intersection,
    union,
)

LAST = 0xFFFFFFFF

# Small numbers, so that neighbours and overlaps are common, and both ends of the address space.
addresses = st.one_of(st.integers(0, 40), st.integers(LAST - 20, LAST))
pairs = st.lists(st.tuples(addresses, addresses).map(lambda ends: (min(ends), max(ends))), max_size=8)
sets = pairs.map(union)
PROBES = [*range(42), *range(LAST - 21, LAST + 1), 1 << 31]


def members(ranges: Ranges) -> set[int]:
    return {address for address in PROBES if contains(ranges, address)}


def well_formed(ranges: Ranges) -> bool:
    ascending = all(before[1] + 1 < after[0] for before, after in pairwise(ranges))
    return ascending and all(0 <= low <= high <= LAST for low, high in ranges)


@given(pairs)
def test_union(given_pairs: list[tuple[int, int]]) -> None:
    merged = union(given_pairs)
    assert well_formed(merged)
    assert members(merged) == {
        address for address in PROBES if any(low <= address <= high for low, high in given_pairs)
    }


@given(sets, sets)
def test_intersection(left: Ranges, right: Ranges) -> None:
    both = intersection(left, right)
    assert well_formed(both)
    assert members(both) == members(left) & members(right)


@given(sets)
def test_complement(ranges: Ranges) -> None:
    rest = complement(ranges)
    assert well_formed(rest)
    assert members(rest) == set(PROBES) - members(ranges)
    assert complement(rest) == ranges


@given(sets, st.lists(addresses, max_size=4))
def test_including(ranges: Ranges, added: list[int]) -> None:
    assert including(ranges, added) == union((*ranges, *((address, address) for address in added)))


def test_limits() -> None:
    assert complement(EVERYONE) == NOBODY
    assert complement(NOBODY) == EVERYONE
    assert contains(EVERYONE, 0)
    assert contains(EVERYONE, LAST)
    assert not contains(NOBODY, 0)
    assert not contains(EVERYONE, -1)
