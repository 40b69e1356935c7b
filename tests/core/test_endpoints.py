"""Endpoint selection, one row for each rule."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from emu.core.endpoints import (
    PortEndpoint,
    cluster_endpoints,
    endpoints_of_port,
    has_usable,
    local_endpoints,
    ready_endpoints,
)
from emu.core.objects import EndpointSlice


def endpoint_slice(
    name: str,
    endpoints: list[dict[str, Any]],
    ports: list[dict[str, Any]] | None = None,
    address_type: str = "IPv4",
) -> EndpointSlice:
    document = {
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": address_type,
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}] if ports is None else ports,
        "endpoints": endpoints,
    }
    return msgspec.convert(document, EndpointSlice)


def keys(endpoints: tuple[PortEndpoint, ...]) -> list[str]:
    return [endpoint.key for endpoint in endpoints]


def at(last: int, **fields: Any) -> dict[str, Any]:
    return {"addresses": [f"127.244.1.{last}"], **fields}


@pytest.mark.parametrize(
    ("rule", "slices", "expected"),
    [
        ("addresses[0] only", [endpoint_slice("a", [{"addresses": ["127.244.1.2", "127.244.1.3"]}])], [2]),
        ("no address", [endpoint_slice("a", [{"addresses": []}])], []),
        ("sorted", [endpoint_slice("a", [at(4), at(2)]), endpoint_slice("b", [at(3)])], [2, 3, 4]),
        ("duplicates over slices", [endpoint_slice("a", [at(2)]), endpoint_slice("b", [at(2)])], [2]),
        ("other family", [endpoint_slice("a", [{"addresses": ["fd00::2"]}], address_type="IPv6")], []),
        ("other port name", [endpoint_slice("a", [at(2)], [{"name": "x", "port": 8080}])], []),
        (
            "other protocol",
            [endpoint_slice("a", [at(2)], [{"name": "http", "protocol": "UDP", "port": 8080}])],
            [],
        ),
        ("no number", [endpoint_slice("a", [at(2)], [{"name": "http"}])], []),
        ("not ready ones are listed", [endpoint_slice("a", [at(2, conditions={"ready": False})])], [2]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_slices_to_endpoints(rule: str, slices: list[EndpointSlice], expected: list[int]) -> None:
    found = endpoints_of_port(slices, "http", "TCP")
    assert keys(found) == [f"127.244.1.{last}:8080" for last in expected]


def test_the_number_in_the_slice_wins_and_may_differ_between_slices() -> None:
    slices = [
        endpoint_slice("a", [at(2)], [{"name": "http", "port": 8080}]),
        endpoint_slice("b", [at(3)], [{"name": "http", "port": 9090}]),
    ]
    assert keys(endpoints_of_port(slices, "http", "TCP")) == ["127.244.1.2:8080", "127.244.1.3:9090"]


def test_unnamed_matches_unnamed() -> None:
    slices = [endpoint_slice("a", [at(2)], [{"port": 8080}])]
    assert keys(endpoints_of_port(slices, "", "TCP")) == ["127.244.1.2:8080"]
    assert endpoints_of_port(slices, "http", "TCP") == ()


def test_the_first_slice_by_name_wins_a_duplicate() -> None:
    slices = [
        endpoint_slice("b", [at(2, conditions={"ready": False})]),
        endpoint_slice("a", [at(2, conditions={"ready": True})]),
    ]
    assert [endpoint.ready for endpoint in endpoints_of_port(slices, "http", "TCP")] == [True]


@pytest.mark.parametrize(
    ("conditions", "ready", "serving", "terminating"),
    [
        ({}, True, True, False),
        ({"ready": False}, False, False, False),
        ({"ready": False, "serving": True, "terminating": True}, False, True, True),
        ({"ready": True, "serving": False}, True, False, False),
    ],
)
def test_unset_conditions(conditions: dict[str, bool], ready: bool, serving: bool, terminating: bool) -> None:
    found = endpoints_of_port([endpoint_slice("a", [at(2, conditions=conditions)])], "http", "TCP")[0]
    assert (found.ready, found.serving, found.terminating) == (ready, serving, terminating)


def port_endpoint(name: str, state: str = "ready", node: str = "n1", **hints: set[str]) -> PortEndpoint:
    flags = {
        "ready": (True, True, False),
        "terminating": (False, True, True),
        "dying": (False, False, True),
        "not-ready": (False, False, False),
        "serving": (False, True, False),
    }[state]
    return PortEndpoint(
        name,
        name,
        80,
        node,
        *flags,
        zone_hints=frozenset(hints.get("zones", ())),
        node_hints=frozenset(hints.get("nodes", ())),
    )


E = port_endpoint


@pytest.mark.parametrize(
    ("rule", "endpoints", "cluster", "local"),
    [
        ("ready ones", (E("a"), E("b", node="n2")), ["a", "b"], ["a"]),
        ("not ready ones never", (E("a", "not-ready"), E("b", "dying")), [], []),
        ("serving without terminating never", (E("a", "serving"),), [], []),
        ("ready before terminating", (E("a"), E("b", "terminating")), ["a"], ["a"]),
        ("terminating when none is ready", (E("a", "terminating"), E("b", "dying")), ["a"], ["a"]),
        (
            "fallback is decided for each set alone",
            (E("a", "terminating"), E("b", node="n2")),
            ["b"],
            ["a"],
        ),
        ("none local", (E("b", node="n2"),), ["b"], []),
        ("without a node never local", (E("b", node=""),), ["b"], []),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sets(rule: str, endpoints: tuple[PortEndpoint, ...], cluster: list[str], local: list[str]) -> None:
    assert keys(cluster_endpoints(endpoints, "n1", "z1")) == cluster
    assert keys(local_endpoints(endpoints, "n1")) == local


@pytest.mark.parametrize(
    ("rule", "endpoints", "expected"),
    [
        ("zone hints", (E("a", zones={"z1"}), E("b", zones={"z2"})), ["a"]),
        ("a hint is missing", (E("a", zones={"z1"}), E("b")), ["a", "b"]),
        ("no hint names the zone", (E("a", zones={"z2"}), E("b", zones={"z3"})), ["a", "b"]),
        (
            "node hints come first",
            (E("a", zones={"z1"}, nodes={"n1"}), E("b", zones={"z1"}, nodes={"n2"})),
            ["a"],
        ),
        (
            "zone hints when no node hint fits",
            (E("a", zones={"z1"}, nodes={"n3"}), E("b", zones={"z2"}, nodes={"n2"})),
            ["a"],
        ),
        (
            "only ready ones need hints",
            (E("a", zones={"z1"}), E("b", "not-ready")),
            ["a"],
        ),
        (
            "terminating ones regardless of hints",
            (E("a", "terminating", zones={"z2"}), E("b", "terminating", zones={"z1"})),
            ["a", "b"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_topology(rule: str, endpoints: tuple[PortEndpoint, ...], expected: list[str]) -> None:
    assert keys(cluster_endpoints(endpoints, "n1", "z1")) == expected


def test_without_a_zone_zone_hints_do_not_count() -> None:
    endpoints = (E("a", zones={"z1"}), E("b", zones={"z2"}))
    assert keys(cluster_endpoints(endpoints, "n1", "")) == ["a", "b"]


def test_usable_and_ready() -> None:
    assert not has_usable((E("a", "serving"), E("b", "not-ready")))
    assert has_usable((E("a", "terminating"),))
    assert keys(ready_endpoints((E("a"), E("b", "terminating")))) == ["a"]
