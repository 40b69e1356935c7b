"""Services, slices and nodes that change under open connections: the new takes its place, the old is gone.

Rules A9, A12, B12, C7, C13 to C16, C19 to C21, as they hold from one moment to the next.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from as_a_client import (
    OUTSIDE,
    Space,
    ask,
    at_once,
    client_seen,
    connect,
    endpoint_slice,
    node_ip,
    outcome,
    service,
    spread,
    udp_outcome,
)
from proxy_modes import every_mode, kernel_modes

from emu.core.objects import EndpointSlice, Node, Service

ENDPOINTS = {"one", "two"}


class Changing:
    """One Service that a test changes as it likes."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.nodes = {name: node_ip(space.cluster, name) for name in ("node-1", "node-2", "node-3")}

    def change(self, name: str, **spec: Any) -> None:
        self.space.patch(Service, name, {"spec": spec})

    def until(self, expected: Any, *dial: Any, what: str = "") -> None:
        """Wait until a dial has an outcome, or until exactly some pods answer."""
        source, address, *port = dial

        def so() -> bool:
            if isinstance(expected, str):
                return outcome(source, address, *port) == expected
            return (
                spread(source, address, 1, *port) <= expected
                and spread(source, address, 24, *port) == expected
            )

        self.space.cluster.until(so, what=what or f"{address} is {expected}")


@pytest.fixture(scope="module")
def changing(space: Space) -> Changing:
    return Changing(space)


@every_mode
def test_c7_ports_change_under_an_open_connection(changing: Changing, mode: str):
    space, near, name = changing.space, changing.space.ip("near"), f"ports-{mode}"
    space.apply(service(name, "web", ports=[{"name": "a", "port": 8080, "targetPort": 8080}]))
    address = space.vip(name)
    changing.until(ENDPOINTS, near, address)
    with connect(near, address, 8080) as sock:
        pod = ask(sock)
        changing.change(name, ports=[{"name": "a", "port": 8080, "targetPort": 8081, "protocol": "UDP"}])
        changing.until("refused", near, address)
        space.cluster.until(lambda: udp_outcome(near, address, 8080) == "ok", what="UDP is served")
        assert ask(sock) == pod
        changing.change(name, ports=[{"name": "b", "port": 8080, "targetPort": 8080, "protocol": "TCP"}])
        changing.until(ENDPOINTS, near, address)
        assert udp_outcome(near, address, 8080) == "refused"
        changing.change(name, ports=[{"name": "b", "port": 9090, "targetPort": 8080, "protocol": "TCP"}])
        changing.until(ENDPOINTS, near, address, 9090)
        assert outcome(near, address) == "refused"
        assert ask(sock) == pod


@every_mode
def test_a12_c19_node_ports_and_external_ips_change(changing: Changing, mode: str):
    space, name, node = changing.space, f"ways-{mode}", changing.nodes["node-3"]
    kept, dropped = space.outside("18.1"), space.outside("18.2")
    space.apply(service(name, "web", type="NodePort", externalIPs=[kept, dropped]))
    number = space.node_port(name)
    other = number + 1 if number < 32767 else number - 1
    changing.until(ENDPOINTS, OUTSIDE, node, number)
    changing.until(ENDPOINTS, OUTSIDE, dropped)
    changing.change(
        name,
        externalIPs=[kept],
        ports=[{"port": 8080, "targetPort": 8080, "protocol": "TCP", "nodePort": other}],
    )
    changing.until(ENDPOINTS, OUTSIDE, node, other)
    changing.until("refused", OUTSIDE, node, number)
    changing.until("refused", OUTSIDE, dropped)
    assert outcome(OUTSIDE, kept) == "ok"
    space.delete(Service, name)
    changing.until("refused", OUTSIDE, kept)
    changing.until("refused", OUTSIDE, node, other)


@every_mode
def test_a9_a_service_is_made_again_at_the_same_address(changing: Changing, mode: str):
    space, name = changing.space, f"again-{mode}"
    space.apply(service(name, "web"))
    address = space.vip(name)
    changing.until(ENDPOINTS, OUTSIDE, address)
    for selector, pods in (("near", {"near"}), ("web", ENDPOINTS)):
        space.delete(Service, name)
        space.apply(service(name, selector, clusterIP=address))
        changing.until(pods, OUTSIDE, address)


@kernel_modes
def test_c15_c16_policies_change_under_open_connections(changing: Changing, mode: str):
    space, name, node = changing.space, f"policies-{mode}", changing.nodes["node-3"]
    space.apply(service(name, "web", type="NodePort"))
    address, number, third = space.vip(name), space.node_port(name), space.ip("third")
    changing.until(ENDPOINTS, OUTSIDE, node, number)
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(connect(*dial)) for dial in ((OUTSIDE, node, number), (third, address, 8080))
        ]
        pods = [ask(sock) for sock in held]
        changing.change(name, externalTrafficPolicy="Local", internalTrafficPolicy="Local")
        dials = [(OUTSIDE, node, number), (third, address)]
        # In ipvs both policies together leave node-3 without a real server, and that refuses. Where others
        # are served at the same address the proxy has accepted by then, and resets.
        closed = ["refused", "reset"] if mode == "ipvs" else ["dropped", "dropped"]
        space.cluster.until(lambda: at_once(outcome, dials) == closed, what="the policies are in force")
        assert client_seen(OUTSIDE, changing.nodes["node-1"], number) == OUTSIDE
        assert [ask(sock) for sock in held] == pods
        changing.change(name, externalTrafficPolicy="Cluster", internalTrafficPolicy="Cluster")
        changing.until(ENDPOINTS, OUTSIDE, node, number)
        changing.until(ENDPOINTS, third, address)
        assert client_seen(OUTSIDE, node, number) == node
        assert [ask(sock) for sock in held] == pods


@kernel_modes
def test_c20_source_ranges_change_under_an_open_connection(changing: Changing, mode: str):
    space, name = changing.space, f"ranges-{mode}"
    space.apply(service(name, "web", type="LoadBalancer"))
    address = space.external_ip(name)
    changing.until(ENDPOINTS, OUTSIDE, address)
    with connect(OUTSIDE, address, 8080) as sock:
        pod = ask(sock)
        changing.change(name, loadBalancerSourceRanges=["10.0.0.0/8"])
        changing.until("dropped", OUTSIDE, address)
        assert ask(sock) == pod
        changing.change(name, loadBalancerSourceRanges=["10.0.0.0/8", f"{OUTSIDE}/32"])
        changing.until("ok", OUTSIDE, address)
        assert ask(sock) == pod


@kernel_modes
def test_c13_c15_a_load_balancer_leaves_a_node_whose_endpoints_terminate(changing: Changing, mode: str):
    space, name = changing.space, f"leaving-{mode}"
    leaving = {"ready": False, "serving": True, "terminating": True}

    def endpoints(one: dict[str, bool], two: dict[str, bool]) -> dict[str, Any]:
        listed = [
            {"addresses": [space.ip(pod)], "nodeName": node, "conditions": conditions}
            for pod, node, conditions in (("one", "node-1", one), ("two", "node-2", two))
        ]
        return dict(endpoint_slice(f"{name}-1", name, [{"port": 8080}], listed))

    space.apply(
        service(name, type="LoadBalancer", externalTrafficPolicy="Local"), endpoints({"ready": True}, {})
    )
    address, number = space.external_ip(name), space.node_port(name)
    changing.until(ENDPOINTS, OUTSIDE, address)
    space.apply(endpoints(leaving, {"ready": True}))
    # Its health check fails; who dials the node itself is served all the same.
    changing.until({"two"}, OUTSIDE, address)
    changing.until({"one"}, OUTSIDE, changing.nodes["node-1"], number)
    space.apply(endpoints(leaving, {"ready": False}))
    changing.until({"one"}, OUTSIDE, address)
    space.delete(EndpointSlice, f"{name}-1")
    changing.until("refused", OUTSIDE, address)


@every_mode
def test_c14_an_external_ip_may_be_a_nodes_own_address(changing: Changing, mode: str):
    space, name, node = changing.space, f"own-{mode}", changing.nodes["node-2"]
    space.apply(service(name, "web", ports=[{"port": 9090, "targetPort": 8080}], externalIPs=[node]))
    changing.until(ENDPOINTS, OUTSIDE, node, 9090)
    assert client_seen(OUTSIDE, node, 9090) == node
    assert client_seen(space.ip("near"), node, 9090) == changing.nodes["node-1"]
    space.delete(Service, name)
    changing.until("refused", OUTSIDE, node, 9090)


@every_mode
def test_c14_node_ports_of_nodes_that_come_and_go(changing: Changing, mode: str):
    space, name, address = changing.space, f"nodes-{mode}", changing.space.outside("18.3")
    space.apply(service(name, "web", type="NodePort"))
    number, call = space.node_port(name), space.cluster.call
    status = {"status": {"addresses": [{"type": "InternalIP", "address": address}]}}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    call(lambda client: client.create(Node.resource, node))
    try:
        call(lambda client: client.patch(Node.resource, "", name, status, subresource="status"))
        changing.until(ENDPOINTS, OUTSIDE, address, number)
        assert client_seen(OUTSIDE, address, number) == address
    finally:
        call(lambda client: client.delete(Node.resource, "", name))
    changing.until("refused", OUTSIDE, address, number)


def test_b12_c21_zones_of_nodes_change(changing: Changing):
    space, label = changing.space, "topology.kubernetes.io/zone"
    space.apply(service("zones", "web", trafficDistribution="PreferSameZone"))
    third, address = space.ip("third"), space.vip("zones")
    changing.until({"two"}, third, address)
    try:
        space.patch(Node, "node-3", {"metadata": {"labels": {label: "zone-a"}}})
        changing.until({"one"}, third, address)
        # An endpoint without a zone has no hint, and then no hint counts.
        space.patch(Node, "node-1", {"metadata": {"labels": {label: None}}})
        changing.until(ENDPOINTS, third, address)
    finally:
        space.patch(Node, "node-1", {"metadata": {"labels": {label: "zone-a"}}})
        space.patch(Node, "node-3", {"metadata": {"labels": {label: "zone-b"}}})
    changing.until({"two"}, third, address)
