"""Counts the search queries that were in vain, by the pod that sent them.

A name that is not in the cluster is looked for there first, once for each domain of the pod's search path,
and each such query ends in NXDOMAIN. All these domains lie in the cluster's zone, so every NXDOMAIN of that
zone counts. What is kept is a number for each client address, since a pod is no matter of the hot path: which
pod has the address is looked up when the numbers are read, and just before it passes to another pod.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from emu.coredns.clients import Clients, PodName

MAX_ADDRESSES = 4096
MAX_PODS = 1000
"""Pods that have a series of their own; the one that has wasted none for the longest time makes room."""


class ClientCounts(dict[str, int]):
    """A number for each client address, 0 for a new one; `full` makes room before there are too many."""

    def __init__(self, full: Callable[[], None]) -> None:
        super().__init__()
        self._full = full

    def __missing__(self, address: str) -> int:
        if len(self) >= MAX_ADDRESSES:
            self._full()
            if len(self) >= MAX_ADDRESSES:
                self.clear()
        return 0


class WastedQueries:
    """The counter, as prometheus_client collects it."""

    def __init__(self, clients: Clients) -> None:
        self.counts = ClientCounts(self._fold)
        """To be increased for the address of whoever gets such a reply."""
        self._clients = clients
        self._pods: dict[PodName, int] = {}
        clients.before_change(self._settle)

    def want(self) -> None:
        """Have the pods known from now on."""
        self._clients.want()

    def collect(self) -> Iterator[Metric]:
        """The metric family."""
        self._fold()
        family = CounterMetricFamily(
            "emu_dns_search_queries_wasted",
            "Queries of each pod for names in the cluster's zone that do not exist.",
            labels=["namespace", "pod"],
        )
        for pod, count in self._pods.items():
            family.add_metric([pod.namespace, pod.name], count)
        yield family

    def _fold(self) -> None:
        for address in list(self.counts):
            self._settle(address)

    def _settle(self, address: str) -> None:
        """Bring an address's number to the pod that has it; nobody's is forgotten."""
        pod = self._clients.pod_at(address)
        if pod is None and not self._clients.synced:
            return
        count = self.counts.pop(address, 0)
        if not count or pod is None:
            return
        total = self._pods.pop(pod, 0) + count
        if len(self._pods) >= MAX_PODS:
            del self._pods[next(iter(self._pods))]
        self._pods[pod] = total
