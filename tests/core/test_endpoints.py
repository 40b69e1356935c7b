"""Endpoint selection, one row for each rule."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from emu.core.endpoints import (
    PortEndpoint,
    cluster_endpoints,
    endpoints_of_port,
    endpoints_of_subsets,
    has_usable,
    local_endpoints,
    nodes_with_local,
)
from emu.core.objects import Endpoints, EndpointSlice


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
        # B9, B10: endpointslicecache.go.
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
        ("number 0", [endpoint_slice("a", [at(2)], [{"name": "http", "port": 0}])], []),
        ("no ports", [endpoint_slice("a", [at(2)], [])], []),
        ("no slices", [], []),
        (
            "sorted as text",
            [endpoint_slice("a", [at(10), at(9)])],
            [10, 9],
        ),
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


def test_b9_a_duplicate_that_names_its_node_wins() -> None:
    slices = [
        endpoint_slice("a", [at(2)]),
        endpoint_slice("b", [at(2, nodeName="n2")]),
        endpoint_slice("c", [at(2, nodeName="n3")]),
    ]
    assert [endpoint.node for endpoint in endpoints_of_port(slices, "http", "TCP")] == ["n2"]


SUBSETS = [
    {
        "addresses": [{"ip": "127.244.1.3", "nodeName": "n1"}, {"ip": "127.244.1.2"}],
        "notReadyAddresses": [{"ip": "127.244.1.9"}],
        "ports": [{"name": "http", "port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}],
    },
    {"addresses": [{"ip": "127.244.1.2"}], "ports": [{"name": "http", "port": 9090}]},
    {"addresses": [{"ip": "127.244.1.2"}], "ports": [{"name": "http", "port": 8080}]},
    {"addresses": [{"ip": "127.244.1.4"}], "ports": [{"port": 80}]},
]


@pytest.mark.parametrize(
    ("rule", "port", "expected"),
    [
        (
            "addresses only, each once",
            "http",
            ["127.244.1.2:8080", "127.244.1.2:9090", "127.244.1.3:8080"],
        ),
        ("by name alone", "dns", ["127.244.1.2:53", "127.244.1.3:53"]),
        ("unnamed", "", ["127.244.1.4:80"]),
        ("unknown name", "https", []),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_g5_endpoints_objects(rule: str, port: str, expected: list[str]) -> None:
    found = endpoints_of_subsets(msgspec.convert({"subsets": SUBSETS}, Endpoints).subsets, port)
    assert keys(found) == expected
    assert all(endpoint.ready for endpoint in found)
    assert {endpoint.node for endpoint in found if endpoint.address == "127.244.1.3"} <= {"n1"}


@pytest.mark.parametrize(
    ("conditions", "ready", "serving", "terminating"),
    [
        # B7.
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
        # C13.
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
    assert ("n1" in nodes_with_local(endpoints)) is bool(local)


def test_c16_an_endpoint_without_a_node_is_local_nowhere() -> None:
    endpoints = (E("a", node=""),)
    assert local_endpoints(endpoints, "") == ()
    assert nodes_with_local(endpoints) == frozenset()


@pytest.mark.parametrize(
    ("rule", "endpoints", "expected"),
    [
        # C21: topologyModeFromHints.
        ("no hints", (E("a"), E("b")), ["a", "b"]),
        ("several zones in a hint", (E("a", zones={"z1", "z2"}), E("b", zones={"z2"})), ["a"]),
        (
            "hints rule, not where an endpoint is",
            (E("a", zones={"z2"}), E("b", node="n2", zones={"z1"})),
            ["b"],
        ),
        (
            "a node hint is missing",
            (E("a", nodes={"n1"}, zones={"z2"}), E("b", zones={"z1"})),
            ["b"],
        ),
        (
            "a node hint is missing, and there are no zone hints",
            (E("a", nodes={"n1"}), E("b")),
            ["a", "b"],
        ),
        (
            "no hint fits",
            (E("a", zones={"z2"}, nodes={"n2"}), E("b", zones={"z3"}, nodes={"n3"})),
            ["a", "b"],
        ),
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


def test_c21_policy_local_does_not_look_at_hints() -> None:
    endpoints = (E("a", zones={"z2"}, nodes={"n2"}), E("b", node="n2", zones={"z1"}, nodes={"n1"}))
    assert keys(local_endpoints(endpoints, "n1")) == ["a"]


def test_usable() -> None:
    assert not has_usable((E("a", "serving"), E("b", "not-ready")))
    assert has_usable((E("a", "terminating"),))
