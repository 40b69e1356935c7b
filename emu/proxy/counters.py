"""What the proxy counts: plain numbers on the data path, shaped for Prometheus only when somebody asks.

Names, help texts, labels and buckets are those of upstream's pkg/proxy/metrics (1.33), and each mode shows
the families that upstream registers for it; the userspace mode, which had none, shows those of all modes.
One process stands for the proxies of all nodes, so that a number is the sum over them; only iptables
rules are those of the first node, since one asks how many a node has.

Left out, since nothing here could fill them truly: iptables_ct_state_invalid_dropped_packets_total (no
packets are seen), and what upstream's processes say of Go and of their API client. Connections that are
open, and bytes, are not counted: sockets that were handed over would have to be followed for that.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from emu.core.config import ProxyMode
from emu.core.objects import EndpointSlice
from emu.proxy.exposition import Family, Histogram
from emu.proxy.tables import PortState
from emu.telemetry.flows import Verdict

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"

_FAMILY = 'ip_family="IPv4"'
_SYNC_BOUNDS = [0.001 * 2**i for i in range(15)]
_PROGRAMMING_BOUNDS = [0, 0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30)]


class RuleCounts(NamedTuple):
    """How many iptables rules the real kube-proxy would have, by table."""

    total: Mapping[str, int]
    """Those that exist."""
    last: Mapping[str, int]
    """Those written by the last synchronization."""


class Counters:
    """All metrics of the proxy process."""

    def __init__(self, started: float) -> None:
        """`started` is in seconds since the epoch: what was triggered earlier is not measured."""
        self.connections: Tally[tuple[str, Verdict]] = Tally()
        """Connections and datagram flows by service port name and verdict."""
        self.localhost_node_ports = 0
        """Connections and datagram flows to node ports at 127.0.0.1."""
        self.healthz: Tally[int] = Tally()
        """Answers at /healthz by status."""
        self.livez: Tally[int] = Tally()
        """Answers at /livez by status."""
        self.last_queued: float | None = None
        """When a synchronization was queued last."""
        self.iptables_rules: Callable[[], RuleCounts] | None = None
        """Counts the rules of the iptables mode; the two metrics are left out while there is none."""
        self.without_descriptor: Callable[[], int] = lambda: 0
        """Counts the frontends that have no socket for lack of file descriptors."""
        self._descriptor_shortages = 0
        self._started = started
        self._sync = Histogram(_SYNC_BOUNDS)
        self._full_sync = Histogram(_SYNC_BOUNDS)
        self._partial_sync = Histogram(_SYNC_BOUNDS)
        self._programming = Histogram(_PROGRAMMING_BOUNDS)
        self._reconciler = Histogram(_SYNC_BOUNDS)
        self._last_sync: float | None = None
        self._flows_deleted = 0
        self._service_changes = 0
        self._services_pending: set[str] = set()
        self._slice_changes = 0
        self._slices_pending = 0
        self._triggers: dict[str, list[float]] = {}
        self._without_local: dict[str, tuple[int, int]] = {}

    def service_changed(self, key: str) -> None:
        """A Service has changed; the change waits for a synchronization."""
        self._service_changes += 1
        self._services_pending.add(key)

    def slice_changed(self, before: EndpointSlice | None, now: EndpointSlice | None) -> None:
        """An EndpointSlice has changed; if its endpoints have, that waits for a synchronization."""
        self._slice_changes += 1
        if before and now and (before.endpoints, before.ports) == (now.endpoints, now.ports):
            return
        self._slices_pending += 1
        if now is None:
            # What deleted it left no time: its last one is that of an earlier change.
            self._triggers.pop(before.service_key if before else "", None)
        elif (moment := trigger_time(now)) is not None and moment > self._started:
            self._triggers.setdefault(now.service_key, []).append(moment)

    def endpoints_changed(self) -> None:
        """An Endpoints object has changed; the change waits for a synchronization."""
        self._slice_changes += 1
        self._slices_pending += 1

    def synced(self, seconds: float, now: float, *, full: bool) -> None:
        """All changes are in force since `now`: everything was looked at, or only what had changed."""
        self._sync.observe(seconds)
        (self._full_sync if full else self._partial_sync).observe(seconds)
        self._last_sync = now
        for moments in self._triggers.values():
            for moment in moments:
                self._programming.observe(now - moment)
        self._triggers.clear()
        self._services_pending.clear()
        self._slices_pending = 0

    def ports_changed(self, ports: Mapping[str, PortState | None], nodes: Iterable[str]) -> None:
        """Service ports have changed (None: are gone), or the nodes, which those of policy Local rest on."""
        names = set(nodes)
        for name, port in ports.items():
            self._without_local.pop(name, None)
            if port is None:
                for verdict in Verdict:
                    self.connections.pop((name, verdict), None)
            elif (port.internal_local or port.external_local) and port.usable:
                missing = len(names - {e.node for e in port.endpoints if e.usable})
                if missing:
                    self._without_local[name] = (
                        missing * port.internal_local,
                        missing * port.external_local,
                    )

    def flows_reconciled(self, seconds: float, deleted: int) -> None:
        """Datagram flows were held against the endpoints, and so many ended: stale conntrack entries."""
        self._reconciler.observe(seconds)
        self._flows_deleted += deleted

    def descriptors_short(self) -> None:
        """File descriptors have run out."""
        self._descriptor_shortages += 1

    def families(self, mode: ProxyMode) -> Iterator[Family]:
        """The metrics as a mode shows them."""
        yield from self._of_all_modes()
        if mode is not ProxyMode.USERSPACE:
            yield from self._of_conntrack()
        if mode in (ProxyMode.IPTABLES, ProxyMode.NFTABLES):
            yield from self._of_partial_syncs()
        if mode is ProxyMode.IPTABLES:
            yield from self._of_iptables()
        if mode in (ProxyMode.IPTABLES, ProxyMode.IPVS):
            yield _never_failed(
                "iptables_restore_failures_total", "Cumulative proxy iptables restore failures"
            )
        if mode is ProxyMode.NFTABLES:
            yield _never_failed("nftables_sync_failures_total", "Cumulative proxy nftables sync failures")
            yield _never_failed(
                "nftables_cleanup_failures_total", "Cumulative proxy nftables cleanup failures"
            )
        yield Family(
            "emu_proxy_connections_total",
            "counter",
            "Connections and datagram flows by service port and verdict",
            # A copy: connections go on while the text is made. No name of a Service or port needs escaping.
            (
                ("", f'service_port="{name}",verdict="{verdict}"', count)
                for (name, verdict), count in dict(self.connections).items()
            ),
        )
        yield Family(
            "emu_proxy_descriptor_shortages_total",
            "counter",
            "Times that file descriptors ran out",
            [("", "", self._descriptor_shortages)],
        )
        yield Family(
            "emu_proxy_frontends_without_descriptor",
            "gauge",
            "Frontends that have no socket for lack of file descriptors",
            [("", "", self.without_descriptor())],
        )

    def _of_all_modes(self) -> Iterator[Family]:
        sync, changes = "sync_proxy_rules", "Cumulative proxy rules"
        yield _histogram(f"{sync}_duration_seconds", "SyncProxyRules latency in seconds", self._sync)
        yield _gauge(
            f"{sync}_last_timestamp_seconds",
            "The last time proxy rules were successfully synced",
            _known(self._last_sync),
        )
        yield _gauge(
            f"{sync}_last_queued_timestamp_seconds",
            "The last time a sync of proxy rules was queued",
            _known(self.last_queued),
        )
        yield _histogram(
            "network_programming_duration_seconds",
            "In Cluster Network Programming Latency in seconds",
            self._programming,
        )
        yield _counter(f"{sync}_endpoint_changes_total", f"{changes} Endpoint changes", self._slice_changes)
        yield _counter(f"{sync}_service_changes_total", f"{changes} Service changes", self._service_changes)
        yield _gauge(
            f"{sync}_endpoint_changes_pending",
            "Pending proxy rules Endpoint changes",
            {"": self._slices_pending},
        )
        yield _gauge(
            f"{sync}_service_changes_pending",
            "Pending proxy rules Service changes",
            {"": len(self._services_pending)},
        )
        without = self._without_local.values()
        yield _gauge(
            f"{sync}_no_local_endpoints_total",
            "Number of services with a Local traffic policy and no endpoints",
            {
                f'{_FAMILY},traffic_policy="external"': sum(external for _, external in without),
                f'{_FAMILY},traffic_policy="internal"': sum(internal for internal, _ in without),
            },
        )
        for path, counts in (("healthz", self.healthz), ("livez", self.livez)):
            by_code = {f'code="{code}"': count for code, count in sorted(counts.items())}
            yield _counter(f"proxy_{path}_total", f"Cumulative proxy {path} HTTP status", by_code)

    def _of_partial_syncs(self) -> Iterator[Family]:
        for kind, histogram in (("full", self._full_sync), ("partial", self._partial_sync)):
            yield _histogram(
                f"sync_{kind}_proxy_rules_duration_seconds",
                f"SyncProxyRules latency in seconds for {kind} resyncs",
                histogram,
            )

    def _of_conntrack(self) -> Iterator[Family]:
        yield _histogram(
            "conntrack_reconciler_sync_duration_seconds",
            "ReconcileConntrackFlowsLatency latency in seconds",
            self._reconciler,
        )
        yield _counter(
            "conntrack_reconciler_deleted_entries_total",
            "Cumulative conntrack flows deleted by conntrack reconciler",
            {_FAMILY: self._flows_deleted},
        )

    def _of_iptables(self) -> Iterator[Family]:
        yield _never_failed(
            "iptables_partial_restore_failures_total", "Cumulative proxy iptables partial restore failures"
        )
        # Upstream counts packets in the nat table, which sees the first one of each flow only.
        yield _counter(
            "iptables_localhost_nodeports_accepted_packets_total",
            "Number of packets accepted on nodeports of loopback interface",
            self.localhost_node_ports,
        )
        if self.iptables_rules is not None:
            counts = self.iptables_rules()
            yield _gauge(
                "sync_proxy_rules_iptables_total",
                "Total number of iptables rules owned by kube-proxy",
                _by_table(counts.total),
            )
            yield _gauge(
                "sync_proxy_rules_iptables_last",
                "Number of iptables rules written by kube-proxy in last sync",
                _by_table(counts.last),
            )


def trigger_time(slice_: EndpointSlice) -> float | None:
    """When the change happened that a slice was last written for, in seconds since the epoch."""
    try:
        moment = datetime.fromisoformat(slice_.metadata.annotations.get(TRIGGER_TIME, ""))
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment.timestamp()


def _counter(name: str, text: str, values: int | Mapping[str, float]) -> Family:
    return _family(name, "counter", text, values if isinstance(values, Mapping) else {"": values})


def _gauge(name: str, text: str, values: Mapping[str, float]) -> Family:
    return _family(name, "gauge", text, values)


def _histogram(name: str, text: str, histogram: Histogram) -> Family:
    return Family(f"kubeproxy_{name}", "histogram", f"[ALPHA] {text}", histogram.samples(_FAMILY))


def _family(name: str, kind: str, text: str, values: Mapping[str, float]) -> Family:
    """A family with a value for each set of labels. All of upstream's are of the stability level ALPHA."""
    samples = [("", labels, value) for labels, value in values.items()]
    return Family(f"kubeproxy_{name}", kind, f"[ALPHA] {text}", samples)


def _never_failed(name: str, text: str) -> Family:
    """Rules that are not given to the kernel cannot fail to be written."""
    return _counter(f"sync_proxy_rules_{name}", text, {_FAMILY: 0})


def _known(value: float | None) -> Mapping[str, float]:
    return {} if value is None else {_FAMILY: value}


def _by_table(counts: Mapping[str, int]) -> Mapping[str, float]:
    return {f'{_FAMILY},table="{table}"': count for table, count in sorted(counts.items())}
