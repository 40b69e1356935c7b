"""The node's metrics in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from emu.nodes.host import Host


def exposition(host: Host, pods: int) -> bytes:
    """All metrics, read now."""
    registry = CollectorRegistry()
    registry.register(_NodeCollector(host, pods))
    return generate_latest(registry)


class _NodeCollector(Collector):
    def __init__(self, host: Host, pods: int) -> None:
        self._host = host
        self._pods = pods

    def collect(self) -> Iterator[Metric]:
        counts = self._host.counts()
        yield GaugeMetricFamily("kubelet_running_pods", "Pods on this node.", self._pods)
        yield GaugeMetricFamily("emu_node_servers", "Ports that pods listen on.", counts["servers"])
        yield GaugeMetricFamily("emu_node_connections", "Open connections.", counts["connections"])
        yield GaugeMetricFamily(
            "emu_node_held_connections", "Denied connections that are held without a byte.", counts["held"]
        )
        flows = CounterMetricFamily("emu_node_flows", "Decided flows.", labels=["verdict"])
        for verdict, count in self._host.flow_log.total.items():
            flows.add_metric([verdict.value], count)
        yield flows
