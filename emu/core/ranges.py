"""Sets of IPv4 addresses as sorted ranges, the form that policies yield and kernel filters take."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

Ranges = tuple[tuple[int, int], ...]
"""Disjoint, ascending, non-adjacent, inclusive (first, last) pairs of unsigned 32-bit integers."""

EVERYONE: Ranges = ((0, 0xFFFFFFFF),)
NOBODY: Ranges = ()


def union(pairs: Iterable[tuple[int, int]]) -> Ranges:
    """The set of all addresses that lie in any of the pairs, which may overlap and come in any order."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(pairs):
        if merged and low <= merged[-1][1] + 1:
            if high > merged[-1][1]:
                merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return tuple(merged)


def including(ranges: Ranges, addresses: Iterable[int]) -> Ranges:
    """The set with a few single addresses added, without walking through all of it."""
    for address in addresses:
        if contains(ranges, address):
            continue
        at = bisect_left(ranges, (address, address))
        low = high = address
        before, after = at, at
        if at > 0 and ranges[at - 1][1] == address - 1:
            before, low = at - 1, ranges[at - 1][0]
        if at < len(ranges) and ranges[at][0] == address + 1:
            after, high = at + 1, ranges[at][1]
        ranges = (*ranges[:before], (low, high), *ranges[after:])
    return ranges


def complement(ranges: Ranges) -> Ranges:
    """All addresses that are not in the set."""
    gaps = []
    start = 0
    for low, high in ranges:
        if start < low:
            gaps.append((start, low - 1))
        start = high + 1
    if start <= 0xFFFFFFFF:
        gaps.append((start, 0xFFFFFFFF))
    return tuple(gaps)


def intersection(left: Ranges, right: Ranges) -> Ranges:
    """The addresses that lie in both sets."""
    if left == EVERYONE:
        return right
    if right == EVERYONE:
        return left
    common = []
    i = j = 0
    while i < len(left) and j < len(right):
        low, high = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if low <= high:
            common.append((low, high))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return tuple(common)


def contains(ranges: Ranges, address: int) -> bool:
    """Whether an address lies in the set, by binary search."""
    at = bisect_right(ranges, (address, 0xFFFFFFFF)) - 1
    return at >= 0 and address <= ranges[at][1]
