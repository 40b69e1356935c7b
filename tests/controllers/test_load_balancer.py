"""A15 to A17: external IPs of Services of type LoadBalancer."""

from __future__ import annotations

from typing import Any

import pytest

from emu.controllers import load_balancer
from emu.controllers.actions import Action, Patch, Report
from emu.core.objects import Service

from .controller_objects import metadata, service, view

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


def with_status(*ingress: dict[str, str], going: bool = False, **spec: Any) -> Service:
    """A Service of type LoadBalancer whose status was written by somebody."""
    meta = metadata("web", **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if going else {}))
    status = {"loadBalancer": {"ingress": list(ingress)}}
    return view(Service, {"metadata": meta, "spec": {"type": "LoadBalancer", **spec}, "status": status})


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
            "A17 what another class gave",
            with_status({"ip": "203.0.113.7"}, loadBalancerClass="x/y"),
            set(),
            ("-", ""),
        ),
        (
            "A16 without node ports",
            service(type="LoadBalancer", allocateLoadBalancerNodePorts=False),
            set(),
            given("127.0.113.1"),
        ),
        (
            "A15 an ipMode that was set by hand stays",
            with_status({"ip": "127.0.113.2", "ipMode": "Proxy"}),
            set(),
            ("-", ""),
        ),
        ("a name instead of an address", with_status({"hostname": "x.org"}), set(), given("127.0.113.1")),
        ("an address of another pool", with_status({"ip": "203.0.113.7"}), set(), given("127.0.113.1")),
        (
            "two addresses",
            with_status({"ip": "127.0.113.1"}, {"ip": "127.0.113.2"}),
            set(),
            given("127.0.113.1"),
        ),
        ("a Service that is being deleted gets none", with_status(going=True), set(), ("-", "")),
        (
            "and keeps what it has until it is gone",
            with_status({"ip": "127.0.113.2"}, going=True),
            set(),
            ("-", ""),
        ),
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
