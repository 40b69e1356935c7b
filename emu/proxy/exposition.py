"""Prometheus' text format, made in pieces, so that a long answer does not hold up the event loop.

Source: the text-based format, version 0.0.4, as client_golang writes it: families sorted by name.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LINES_PER_PIECE = 500

Sample = tuple[str, str, float]
"""What follows the family's name, the labels as they are written between braces, the value."""


class Family(NamedTuple):
    """One metric with all its samples."""

    name: str
    kind: str
    """counter, gauge or histogram."""
    help: str
    samples: Iterable[Sample]


class Histogram:
    """Observations counted by upper bounds."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Iterable[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    @property
    def count(self) -> int:
        """How many observations there were."""
        return sum(self._counts)

    def observe(self, value: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self, labels: str) -> Iterator[Sample]:
        """Its series under some labels."""
        bounds = (*map(number, self._bounds), "+Inf")
        for bound, count in zip(bounds, accumulate(self._counts), strict=True):
            yield "_bucket", f'{labels},le="{bound}"', count
        yield "_sum", labels, self._sum
        yield "_count", labels, self.count


def pieces(families: Iterable[Family]) -> Iterator[bytes]:
    """The text of all families, some hundred lines at a time."""
    lines: list[str] = []
    for family in sorted(families, key=lambda family: family.name):
        lines.append(f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n")
        for suffix, labels, value in family.samples:
            braced = f"{{{labels}}}" if labels else ""
            lines.append(f"{family.name}{suffix}{braced} {number(value)}\n")
            if len(lines) >= LINES_PER_PIECE:
                yield "".join(lines).encode()
                lines.clear()
    yield "".join(lines).encode()


def number(value: float) -> str:
    """A number as short as it can be."""
    return str(int(value)) if value == int(value) else repr(value)
