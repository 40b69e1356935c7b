"""Metrics of plugins: counters, gauges and histograms that outlive a reload of the Corefile."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric


class Family(NamedTuple):
    """A metric, under CoreDNS's name and help text. A counter's name is without `_total`."""

    name: str
    text: str
    labels: tuple[str, ...]
    kind: Literal["counter", "gauge", "histogram"] = "counter"
    bounds: tuple[float, ...] = ()
    """Of a histogram's buckets."""


class Histogram:
    """Values by the bucket that they fall into."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def cumulative(self) -> tuple[list[tuple[str, float]], float]:
        """Upper bounds with the counts up to each, and the sum of all values."""
        total = 0
        buckets = []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets, self._sum


class Families:
    """The values of all families, by label values."""

    def __init__(self) -> None:
        self._values: dict[Family, dict[tuple[str, ...], float]] = {}
        self._buckets: dict[Family, dict[tuple[str, ...], Histogram]] = {}

    def increase(self, family: Family, *labels: str, by: float = 1) -> None:
        """Count."""
        values = self._values.setdefault(family, {})
        values[labels] = values.get(labels, 0) + by

    def set(self, family: Family, *labels: str, value: float) -> None:
        """Set a gauge."""
        self._values.setdefault(family, {})[labels] = value

    def observe(self, family: Family, *labels: str, value: float) -> None:
        """Add to a histogram."""
        found = self._buckets.setdefault(family, {})
        if labels not in found:
            found[labels] = Histogram(family.bounds)
        found[labels].add(value)

    def value(self, family: Family, *labels: str) -> float:
        """What a counter or gauge says."""
        return self._values.get(family, {}).get(labels, 0)

    def collect(self) -> Iterator[Metric]:
        """The families that have values, as prometheus_client asks for them."""
        for family, values in self._values.items():
            make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = make(family.name, family.text, labels=family.labels)
            for labels, value in values.items():
                metric.add_metric(labels, value)
            yield metric
        for family, found in self._buckets.items():
            histogram = HistogramMetricFamily(family.name, family.text, labels=family.labels)
            for labels, buckets in found.items():
                histogram.add_metric(labels, *buckets.cumulative())
            yield histogram
