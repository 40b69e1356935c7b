"""kube-proxy's metrics: upstream's names, and true values."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from emu.core.config import ProxyMode
from emu.core.objects import EndpointSlice
from emu.proxy.counters import Counters, RuleCounts, trigger_time
from emu.proxy.exposition import LINES_PER_PIECE, Family, Histogram, number, pieces
from emu.telemetry.flows import Verdict

ALL_MODES = {
    "kubeproxy_sync_proxy_rules_duration_seconds": "histogram",
    "kubeproxy_sync_proxy_rules_last_timestamp_seconds": "gauge",
    "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds": "gauge",
    "kubeproxy_network_programming_duration_seconds": "histogram",
    "kubeproxy_sync_proxy_rules_endpoint_changes_pending": "gauge",
    "kubeproxy_sync_proxy_rules_endpoint_changes_total": "counter",
    "kubeproxy_sync_proxy_rules_service_changes_pending": "gauge",
    "kubeproxy_sync_proxy_rules_service_changes_total": "counter",
    "kubeproxy_sync_proxy_rules_no_local_endpoints_total": "gauge",
    "kubeproxy_proxy_healthz_total": "counter",
    "kubeproxy_proxy_livez_total": "counter",
    "emu_proxy_connections_total": "counter",
    "emu_proxy_descriptor_shortages_total": "counter",
    "emu_proxy_frontends_without_descriptor": "gauge",
}
PARTIAL_SYNCS = {
    "kubeproxy_sync_full_proxy_rules_duration_seconds": "histogram",
    "kubeproxy_sync_partial_proxy_rules_duration_seconds": "histogram",
}
CONNTRACK = {
    "kubeproxy_conntrack_reconciler_sync_duration_seconds": "histogram",
    "kubeproxy_conntrack_reconciler_deleted_entries_total": "counter",
}
OF_MODE = {
    ProxyMode.IPTABLES: {
        **PARTIAL_SYNCS,
        **CONNTRACK,
        "kubeproxy_sync_proxy_rules_iptables_restore_failures_total": "counter",
        "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total": "counter",
        "kubeproxy_sync_proxy_rules_iptables_total": "gauge",
        "kubeproxy_sync_proxy_rules_iptables_last": "gauge",
        "kubeproxy_iptables_localhost_nodeports_accepted_packets_total": "counter",
    },
    ProxyMode.IPVS: {
        **CONNTRACK,
        "kubeproxy_sync_proxy_rules_iptables_restore_failures_total": "counter",
    },
    ProxyMode.NFTABLES: {
        **PARTIAL_SYNCS,
        **CONNTRACK,
        "kubeproxy_sync_proxy_rules_nftables_sync_failures_total": "counter",
        "kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total": "counter",
    },
    ProxyMode.USERSPACE: {},
}


def text(families: Iterable[Family]) -> str:
    return b"".join(pieces(families)).decode()


def values(counters: Counters, mode: ProxyMode = ProxyMode.IPTABLES) -> dict[tuple[str, ...], float]:
    """Every sample, by name and values of its labels in the order of their names (without ip_family)."""
    found = {}
    for family in text_string_to_metric_families(text(counters.families(mode))):
        for sample in family.samples:
            labels = [sample.labels[key] for key in sorted(sample.labels) if key != "ip_family"]
            found[sample.name, *labels] = sample.value
    return found


@pytest.mark.parametrize("mode", ProxyMode)
def test_i5_families_of_a_mode(mode: ProxyMode) -> None:
    counters = Counters(0)
    counters.iptables_rules = lambda: RuleCounts({"filter": 7}, {"filter": 1})
    lines = text(counters.families(mode)).splitlines()
    types = dict(line.split()[2:] for line in lines if line.startswith("# TYPE"))
    assert types == ALL_MODES | OF_MODE[mode]
    names = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert names == sorted(types)
    assert all(" [ALPHA] " in line for line in lines if line.startswith("# HELP kubeproxy_"))


def test_i5_exposition_is_what_a_prometheus_parser_reads() -> None:
    counters = Counters(0)
    counters.connections["default/web:http", Verdict.FORWARDED] = 3
    counters.healthz[200] += 2
    counters.healthz[503] += 1
    counters.last_queued = 1_700_000_000.5
    counters.synced(0.003, 1_700_000_001.0, full=True)
    counters.flows_reconciled(0.1, 4)
    counters.iptables_rules = lambda: RuleCounts({"nat": 40, "filter": 7}, {"nat": 8, "filter": 7})
    found = values(counters)
    assert found["emu_proxy_connections_total", "default/web:http", "forwarded"] == 3
    assert found["kubeproxy_proxy_healthz_total", "200"] == 2
    assert found["kubeproxy_proxy_healthz_total", "503"] == 1
    assert found["kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",] == 1_700_000_000.5
    assert found["kubeproxy_sync_proxy_rules_last_timestamp_seconds",] == 1_700_000_001
    assert found["kubeproxy_sync_proxy_rules_duration_seconds_bucket", "0.002"] == 0
    assert found["kubeproxy_sync_proxy_rules_duration_seconds_bucket", "0.004"] == 1
    assert found["kubeproxy_sync_proxy_rules_duration_seconds_bucket", "16.384"] == 1
    assert found["kubeproxy_sync_full_proxy_rules_duration_seconds_sum",] == 0.003
    assert found["kubeproxy_sync_partial_proxy_rules_duration_seconds_count",] == 0
    assert found["kubeproxy_conntrack_reconciler_deleted_entries_total",] == 4
    assert found["kubeproxy_sync_proxy_rules_iptables_total", "nat"] == 40
    assert found["kubeproxy_sync_proxy_rules_iptables_last", "filter"] == 7


def test_i5_upstreams_labels_and_order() -> None:
    lines = text(Counters(0).families(ProxyMode.IPTABLES)).splitlines()
    assert (
        'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="external"} 0'
        in (lines)
    )
    assert 'kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="0.25"} 0' in lines
    assert "kubeproxy_sync_proxy_rules_service_changes_pending 0" in lines
    assert (
        "# HELP kubeproxy_network_programming_duration_seconds [ALPHA] In Cluster Network Programming "
        "Latency in seconds"
    ) in lines


def test_i5_times_that_are_not_known_have_no_sample() -> None:
    assert not [key for key in values(Counters(0)) if "timestamp" in key[0]]


def test_i5_rules_are_left_out_while_nobody_counts_them() -> None:
    assert not [key for key in values(Counters(0)) if key[0].endswith(("iptables_total", "iptables_last"))]


def slice_of(trigger: str = "", address: str = "127.1.1.1", service: str = "web") -> EndpointSlice:
    annotations = {"endpoints.kubernetes.io/last-change-trigger-time": trigger} if trigger else {}
    document = {
        "metadata": {
            "name": f"{service}-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
            "annotations": annotations,
        },
        "ports": [{"port": 80}],
        "endpoints": [{"addresses": [address]}],
    }
    return msgspec.convert(document, EndpointSlice)


def test_i5_changes_are_pending_until_they_are_in_force() -> None:
    counters = Counters(0)
    counters.service_changed("default/web")
    counters.service_changed("default/web")
    counters.service_changed("default/api")
    counters.slice_changed(None, slice_of())
    counters.slice_changed(slice_of(), slice_of(trigger="2023-11-14T22:13:20Z"))
    found = values(counters)
    assert found["kubeproxy_sync_proxy_rules_service_changes_total",] == 3
    assert found["kubeproxy_sync_proxy_rules_service_changes_pending",] == 2
    assert found["kubeproxy_sync_proxy_rules_endpoint_changes_total",] == 2
    assert found["kubeproxy_sync_proxy_rules_endpoint_changes_pending",] == 1
    counters.synced(0.001, 1, full=False)
    found = values(counters)
    assert found["kubeproxy_sync_proxy_rules_service_changes_pending",] == 0
    assert found["kubeproxy_sync_proxy_rules_endpoint_changes_pending",] == 0
    assert found["kubeproxy_sync_proxy_rules_service_changes_total",] == 3
    assert found["kubeproxy_sync_partial_proxy_rules_duration_seconds_count",] == 1
    assert found["kubeproxy_sync_full_proxy_rules_duration_seconds_count",] == 0


T = "2023-11-14T22:13:20.250000Z"
T_SECONDS = 1_700_000_000.25


@pytest.mark.parametrize(
    ("started", "changes", "observed"),
    [
        pytest.param(0, [(None, slice_of(T))], [0.75], id="from_the_change_of_a_pod_to_the_rules"),
        pytest.param(
            0,
            [(None, slice_of(T)), (slice_of(T), slice_of(T, "127.1.1.2"))],
            [0.75, 0.75],
            id="for_each_change_of_a_slice",
        ),
        pytest.param(0, [(slice_of(), slice_of(T))], [], id="not_where_no_endpoint_has_changed"),
        pytest.param(T_SECONDS, [(None, slice_of(T))], [], id="not_for_changes_before_the_proxy_started"),
        pytest.param(0, [(None, slice_of())], [], id="not_for_slices_that_do_not_say"),
        pytest.param(0, [(None, slice_of(T)), (slice_of(T), None)], [], id="not_for_slices_that_are_gone"),
        pytest.param(
            0, [(None, slice_of(T, service="api")), (slice_of(T), None)], [0.75], id="but_for_other_services"
        ),
    ],
)
def test_i5_network_programming_duration(
    started: float, changes: list[tuple[EndpointSlice | None, EndpointSlice | None]], observed: list[float]
) -> None:
    counters = Counters(started)
    for before, now in changes:
        counters.slice_changed(before, now)
    counters.synced(0.001, T_SECONDS + 0.75, full=False)
    counters.synced(0.001, T_SECONDS + 9, full=False)
    found = values(counters)
    name = "kubeproxy_network_programming_duration_seconds"
    assert (found[f"{name}_count",], found[f"{name}_sum",]) == (len(observed), sum(observed))
    assert found[f"{name}_bucket", "1"] - found[f"{name}_bucket", "0.5"] == len(observed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (T, T_SECONDS),
        ("2023-11-14T22:13:20Z", 1_700_000_000),
        ("2023-11-14T22:13:20.123456789Z", 1_700_000_000.123456),
        ("2023-11-14T23:13:20+01:00", 1_700_000_000),
        ("2023-11-14T22:13:20", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_trigger_times(text: str, expected: float | None) -> None:
    assert trigger_time(slice_of(text)) == expected


def test_histogram_counts_a_value_up_to_its_bound() -> None:
    histogram = Histogram([1, 2.5])
    for value in (0.5, 1, 2, 7):
        histogram.observe(value)
    assert list(histogram.samples('a="b"')) == [
        ("_bucket", 'a="b",le="1"', 2),
        ("_bucket", 'a="b",le="2.5"', 3),
        ("_bucket", 'a="b",le="+Inf"', 4),
        ("_sum", 'a="b"', 10.5),
        ("_count", 'a="b"', 4),
    ]


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0"), (3.0, "3"), (0.25, "0.25"), (1_700_000_000.5, "1700000000.5")]
)
def test_numbers(value: float, expected: str) -> None:
    assert number(value) == expected


def test_a_long_exposition_comes_in_pieces() -> None:
    count = 3 * LINES_PER_PIECE
    samples = [("", f'n="{n}"', n) for n in range(count)]
    parts = list(pieces([Family("many", "gauge", "Many.", samples)]))
    assert len(parts) > 3
    assert max(part.count(b"\n") for part in parts) <= LINES_PER_PIECE + 1
    (family,) = text_string_to_metric_families(b"".join(parts).decode())
    assert [sample.value for sample in family.samples] == list(range(count))
