"""Counts of queries and replies, under CoreDNS's metric names.

Queries answered from kept replies are only tallied, and are added when the metrics are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from emu import __version__
from emu.coredns.families import Families, Histogram

DURATION_BUCKETS = tuple(0.00025 * 2**step for step in range(16))
SIZE_BUCKETS = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16000, 32000, 48000, 64000)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Labels(NamedTuple):
    """What queries are told apart by."""

    server: str
    zone: str
    proto: str
    type: str
    rcode: str
    plugin: str
    do: bool


class Tally(msgspec.Struct):
    """Counts replies that are alike in labels and sizes, where time matters."""

    times: int = 0


class _Distribution(msgspec.Struct):
    count: int
    durations: Histogram
    requests: Histogram
    responses: Histogram


class Metrics:
    """All metrics of the process."""

    def __init__(self) -> None:
        self._by_labels: dict[Labels, _Distribution] = {}
        self._tallies: dict[tuple[Labels, int, int], Tally] = {}
        self.plugins: set[tuple[str, str, str]] = set()
        """(server, zone, plugin) of what the Corefile enables."""
        self.reloads_failed = 0
        self.families = Families()
        """What plugins count."""
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def register(self, collector: Collector) -> None:
        """Serve what another collector has, too."""
        self._registry.register(collector)

    def tally(self, labels: Labels, request_size: int, reply_size: int) -> Tally:
        """What counts the kept replies of these labels and sizes (octets). Their duration counts as zero."""
        return self._tallies.setdefault((labels, request_size, reply_size), Tally())

    def add(
        self, labels: Labels, request_size: int, reply_size: int, duration: float, times: int = 1
    ) -> None:
        """Count queries. Sizes in octets, duration of each in seconds."""
        found = self._by_labels.get(labels)
        if found is None:
            found = _Distribution(
                0, Histogram(DURATION_BUCKETS), Histogram(SIZE_BUCKETS), Histogram(SIZE_BUCKETS)
            )
            self._by_labels[labels] = found
        found.count += times
        found.durations.add(duration, times)
        found.requests.add(request_size, times)
        found.responses.add(reply_size, times)

    def serve(self) -> tuple[int, str, bytes]:
        """Status, content type and body of /metrics."""
        for (labels, request_size, reply_size), tally in self._tallies.items():
            if tally.times:
                self.add(labels, request_size, reply_size, 0.0, tally.times)
                tally.times = 0
        return 200, CONTENT_TYPE, generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The metric families, as prometheus_client asks for them."""
        build = GaugeMetricFamily("coredns_build_info", "Version of the server.", labels=["version"])
        build.add_metric([f"emu-{__version__}"], 1)
        yield build
        enabled = GaugeMetricFamily(
            "coredns_plugin_enabled",
            "Plugins of each server block.",
            labels=["server", "zone", "view", "name"],
        )
        for server, zone, name in sorted(self.plugins):
            enabled.add_metric([server, zone, "", name], 1)
        yield enabled
        yield CounterMetricFamily(
            "coredns_reload_failed", "Corefiles that were refused.", value=self.reloads_failed
        )
        yield from self._counters()
        yield from self._histograms()
        yield from self.families.collect()

    def _counters(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "coredns_dns_requests",
            "DNS requests.",
            labels=["server", "zone", "view", "proto", "family", "type"],
        )
        responses = CounterMetricFamily(
            "coredns_dns_responses",
            "Response codes.",
            labels=["server", "zone", "view", "rcode", "plugin"],
        )
        do = CounterMetricFamily(
            "coredns_dns_do_requests", "Requests with the DO bit.", labels=["server", "zone", "view"]
        )
        by_request: dict[tuple[str, ...], int] = {}
        by_response: dict[tuple[str, ...], int] = {}
        by_do: dict[tuple[str, ...], int] = {}
        for labels, found in self._by_labels.items():
            where = (labels.server, labels.zone, "")
            _increase(by_request, (*where, labels.proto, "1", labels.type), found.count)
            _increase(by_response, (*where, labels.rcode, labels.plugin), found.count)
            if labels.do:
                _increase(by_do, where, found.count)
        for family, counts in ((requests, by_request), (responses, by_response), (do, by_do)):
            for key, count in counts.items():
                family.add_metric(key, count)
            yield family

    def _histograms(self) -> Iterator[Metric]:
        for field, name, text, with_proto in (
            ("durations", "coredns_dns_request_duration_seconds", "Time to answer.", False),
            ("requests", "coredns_dns_request_size_bytes", "Size of requests.", True),
            ("responses", "coredns_dns_response_size_bytes", "Size of replies.", True),
        ):
            labels = ["server", "zone", "view", *(["proto"] if with_proto else [])]
            family = HistogramMetricFamily(name, text, labels=labels)
            merged: dict[tuple[str, ...], tuple[list[tuple[str, float]], float]] = {}
            for key, found in self._by_labels.items():
                where = (key.server, key.zone, "", *((key.proto,) if with_proto else ()))
                buckets, total = getattr(found, field).cumulative()
                if where in merged:
                    before, sum_before = merged[where]
                    buckets = [
                        (bound, count + old) for (bound, count), (_, old) in zip(buckets, before, strict=True)
                    ]
                    total += sum_before
                merged[where] = (buckets, total)
            for where, (buckets, total) in merged.items():
                family.add_metric(where, buckets, total)
            yield family


def _increase(counts: dict[tuple[str, ...], int], key: tuple[str, ...], by: int) -> None:
    counts[key] = counts.get(key, 0) + by
