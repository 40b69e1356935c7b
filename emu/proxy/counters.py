"""What the proxy counts: plain numbers on the data path, shaped for Prometheus only when somebody asks."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from emu.telemetry.flows import Verdict


class Counters(Collector):
    """All metrics of the proxy process, with upstream's names where there are such."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.connections: Tally[tuple[str, Verdict]] = Tally()
        """Connections and datagram flows by service port name and verdict."""
        self.sync_duration = Histogram(
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds",
            registry=self.registry,
            buckets=(
                0.001,
                0.002,
                0.004,
                0.008,
                0.016,
                0.032,
                0.064,
                0.128,
                0.256,
                0.512,
                1.024,
                2.048,
                4.096,
            ),
        )
        self.last_sync = Gauge(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "The last time proxy rules were successfully synced",
            registry=self.registry,
        )
        self.last_queued = Gauge(
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
            "The last time a sync of proxy rules was queued",
            registry=self.registry,
        )
        self.endpoint_changes = Counter(
            "kubeproxy_sync_proxy_rules_endpoint_changes_total",
            "Cumulative proxy rules Endpoint changes",
            registry=self.registry,
        )
        self.service_changes = Counter(
            "kubeproxy_sync_proxy_rules_service_changes_total",
            "Cumulative proxy rules Service changes",
            registry=self.registry,
        )
        self.healthz = Counter(
            "kubeproxy_proxy_healthz",
            "Cumulative proxy healthz HTTP status",
            ["code"],
            registry=self.registry,
        )
        self.livez = Counter(
            "kubeproxy_proxy_livez", "Cumulative proxy livez HTTP status", ["code"], registry=self.registry
        )
        self.registry.register(self)

    def synced(self, seconds: float) -> None:
        """A synchronization took so long."""
        self.sync_duration.observe(seconds)
        self.last_sync.set(time.time())

    def collect(self) -> Iterator[CounterMetricFamily]:
        """See Collector."""
        family = CounterMetricFamily(
            "emu_proxy_connections",
            "Connections and datagram flows by service port and verdict",
            labels=("service_port", "verdict"),
        )
        for (service_port, verdict), count in self.connections.items():
            family.add_metric((service_port, verdict), count)
        yield family
