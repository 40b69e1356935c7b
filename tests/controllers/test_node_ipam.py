"""External IPs, pod ranges, Endpoints, mirrored slices."""

from __future__ import annotations

from typing import Any

import pytest
from controller_objects import metadata, node, pod, service, view, written_slice

from emu.controllers import endpoints, endpointslice_mirroring, load_balancer, node_ipam
from emu.controllers.actions import Action, Create, Delete, Patch, Replace, Report
from emu.core.addresses import Networks
from emu.core.objects import Endpoints, Service

POOL = "127.0.113.0/30"


def outcome(actions: list[Action]) -> tuple[Any, str]:
    """The ingress that is written ("-" for none written) and the reason of the Event."""
    ingress: Any = "-"
    reason = ""
    for action in actions:
        if isinstance(action, Patch):
            ingress = action.patch["status"]["loadBalancer"]["ingress"]
        elif isinstance(action, Report):
            reason = action.reason
    return ingress, reason


def given(address: str) -> tuple[Any, str]:
    return [{"ip": address, "ipMode": "VIP"}], "EnsuredLoadBalancer"


FAILED = "SyncLoadBalancerFailed"


@pytest.mark.parametrize(
    ("rule", "subject", "taken", "expected"),
    [
        ("the lowest free", service(type="LoadBalancer"), {"127.0.113.1"}, given("127.0.113.2")),
        ("what it has it keeps", service(type="LoadBalancer", ingress=["127.0.113.2"]), set(), ("-", "")),
        (
            "loadBalancerIP is honoured",
            service(type="LoadBalancer", loadBalancerIP="127.0.113.2"),
            set(),
            given("127.0.113.2"),
        ),
        (
            "a changed loadBalancerIP too",
            service(type="LoadBalancer", ingress=["127.0.113.1"], loadBalancerIP="127.0.113.2"),
            set(),
            given("127.0.113.2"),
        ),
        (
            "loadBalancerIP is taken",
            service(type="LoadBalancer", loadBalancerIP="127.0.113.2"),
            {"127.0.113.2"},
            ("-", FAILED),
        ),
        (
            "loadBalancerIP is elsewhere",
            service(type="LoadBalancer", loadBalancerIP="203.0.113.7"),
            set(),
            ("-", FAILED),
        ),
        ("A17 another class", service(type="LoadBalancer", loadBalancerClass="x/y"), set(), ("-", "")),
        (
            "the pool is exhausted",
            service(type="LoadBalancer"),
            {"127.0.113.1", "127.0.113.2"},
            ("-", FAILED),
        ),
        ("another type gives back", service(ingress=["127.0.113.1"]), set(), (None, "")),
        (
            "a shared address: the other one keeps it",
            service(type="LoadBalancer", ingress=["127.0.113.1"]),
            {"127.0.113.1"},
            given("127.0.113.2"),
        ),
    ],
)
def test_load_balancer(rule: str, subject: Service, taken: set[str], expected: tuple[Any, str]) -> None:
    assert outcome(load_balancer.decide(subject, taken, POOL)) == expected, rule


def test_exhausted_pool_names_the_remedy() -> None:
    (report,) = load_balancer.decide(service(type="LoadBalancer"), {"127.0.113.1", "127.0.113.2"}, POOL)
    assert isinstance(report, Report)
    assert report.warning
    assert "networks.loadBalancers" in report.message


@pytest.mark.parametrize(
    ("rule", "address", "taken", "expected"),
    [
        ("the number of its address", "127.168.1.12", set(), "127.244.3.0/24"),
        ("else the lowest free", "127.168.1.11", {"127.244.1.0/24", "127.244.2.0/24"}, "127.244.3.0/24"),
        ("an address of no number", "127.168.0.1", {"127.244.1.0/24"}, "127.244.2.0/24"),
        ("no address yet", "", set(), None),
    ],
)
def test_pod_ranges(rule: str, address: str, taken: set[str], expected: str | None) -> None:
    actions = node_ipam.decide(node(address=address), taken, Networks())
    written = [a.patch["spec"]["podCIDR"] for a in actions if isinstance(a, Patch)]
    assert written == ([expected] if expected else []), rule


def test_pod_ranges_run_out() -> None:
    ranges = Networks(pods="127.244.0.0/23")
    (report,) = node_ipam.decide(node(), {"127.244.1.0/24"}, ranges)
    assert isinstance(report, Report)
    assert "networks.pods" in report.message


def hand_written(**more: Any) -> Endpoints:
    return view(
        Endpoints,
        {
            "metadata": metadata("db", **more),
            "subsets": [
                {
                    "addresses": [{"ip": "127.0.0.5"}],
                    "notReadyAddresses": [{"ip": "127.0.0.6"}],
                    "ports": [{"port": 5432, "name": "pg"}],
                }
            ],
        },
    )


def test_b11_endpoints_are_mirrored() -> None:
    (created,) = endpointslice_mirroring.decide(service("db", selector={}), hand_written(), [])
    assert isinstance(created, Create)
    document = created.document
    assert document["metadata"]["labels"] == {
        "kubernetes.io/service-name": "db",
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
    }
    assert document["ports"] == [{"name": "pg", "protocol": "TCP", "port": 5432}]
    assert [(e["addresses"], e["conditions"]) for e in document["endpoints"]] == [
        (["127.0.0.5"], {"ready": True}),
        (["127.0.0.6"], {"ready": False}),
    ]
    present = [written_slice(dict(document))]
    assert endpointslice_mirroring.decide(service("db", selector={}), hand_written(), present) == []
    gone = endpointslice_mirroring.decide(service("db", selector={}), None, present)
    assert [type(a) for a in gone] == [Delete]


@pytest.mark.parametrize(
    ("rule", "subject", "source"),
    [
        ("the Service has a selector", service("db"), hand_written()),
        (
            "asked to skip",
            service("db", selector={}),
            hand_written(labels={"endpointslice.kubernetes.io/skip-mirror": "true"}),
        ),
        ("no Service", None, hand_written()),
    ],
)
def test_b11_not_mirrored(rule: str, subject: Service | None, source: Endpoints) -> None:
    assert endpointslice_mirroring.decide(subject, source, []) == [], rule


def test_endpoints_of_a_service() -> None:
    nodes = {"node-1": node()}
    pods = [pod("b", ip="127.244.1.10"), pod("a", ip="127.244.1.9"), pod("c", ip="127.244.1.3", ready=False)]
    (created,) = endpoints.decide(service(), pods, nodes, None)
    assert isinstance(created, Create)
    (subset,) = created.document["subsets"]
    assert [a["ip"] for a in subset["addresses"]] == ["127.244.1.9", "127.244.1.10"]
    assert [a["ip"] for a in subset["notReadyAddresses"]] == ["127.244.1.3"]
    assert subset["ports"] == [{"port": 8080, "protocol": "TCP"}]
    present = view(Endpoints, dict(created.document))
    assert endpoints.decide(service(), pods, nodes, present) == []
    assert [type(a) for a in endpoints.decide(service(), pods[:2], nodes, present)] == [Replace]
