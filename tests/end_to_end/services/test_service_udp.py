"""Datagrams through every way in: one decision for each flow, and when a flow is decided anew.

Rules H1 and H3 to H5, G5, and what the rules of the data path (A2, A13, C8, C12, C14, C15) mean for UDP.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
from as_a_client import (
    OUTSIDE,
    Space,
    client_seen,
    endpoint_slice,
    node_ip,
    pod,
    service,
    udp,
    udp_outcome,
)
from proxy_modes import every_mode, in_modes, kernel_modes

from emu.core.objects import Endpoints, EndpointSlice, Pod, Service

UDP = [{"port": 8081, "protocol": "UDP"}]
MANY = {"m-1", "m-2", "m-3"}


class Flow:
    """A connected UDP socket."""

    def __init__(self, source: str, address: str, port: int = 8081, seconds: float = 2.0) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((source, 0))
        self.sock.connect((address, port))
        self.sock.settimeout(seconds)

    def ask(self, text: str = "hostname") -> str:
        """The answer to one datagram, from the address that was dialled: others are not heard."""
        self.sock.send(text.encode())
        return self.sock.recv(1000).decode()

    def fate(self, seconds: float = 0.3) -> str:
        """The name that answers, `refused` or `dropped`."""
        self.sock.settimeout(seconds)
        try:
            return self.ask()
        except ConnectionRefusedError:
            return "refused"
        except TimeoutError:
            return "dropped"


@contextlib.contextmanager
def flow(source: str, address: str, port: int = 8081) -> Iterator[Flow]:
    made = Flow(source, address, port)
    with made.sock:
        yield made


@pytest.fixture(scope="module")
def world(space: Space) -> Space:
    space.apply(
        *(pod(f"m-{n}", node=f"node-{n}", labels={"app": "many"}) for n in (1, 2, 3)),
        service("many", "many", ports=UDP),
        service("sticky", "many", ports=UDP, sessionAffinity="ClientIP"),
        service(
            "both",
            "web",
            type="NodePort",
            ports=[
                {"name": "tcp", "port": 5300, "targetPort": 8080},
                {"name": "udp", "port": 5300, "targetPort": 8081, "protocol": "UDP"},
            ],
        ),
        service("local", "web", type="NodePort", ports=UDP, externalTrafficPolicy="Local"),
        service("internal", ports=UDP, internalTrafficPolicy="Local"),
        service("empty", ports=UDP),
    )
    space.cluster.until(
        lambda: udp_outcome(space.ip("near"), space.vip("local"), 8081) == "ok",
        what="the Services are in force",
    )
    return space


def until_fate(space: Space, asking: Flow, expected: str) -> None:
    space.cluster.until(lambda: asking.fate() == expected, what=f"the flow's fate is {expected}")


# --- addresses ---


@every_mode
def test_a2_a13_tcp_and_udp_share_one_port_number_and_one_node_port(world: Space, mode: str):
    near, address = world.ip("near"), world.vip("both")
    answer = udp(near, address, 5300)
    assert answer.text in ("one", "two")
    assert answer.sender == (address, 5300)
    number = world.node_port("both", "udp")
    assert number == world.node_port("both", "tcp")
    for name in ("node-1", "node-3"):
        node = node_ip(world.cluster, name)
        seen = udp(OUTSIDE, node, number, "clientip")
        assert seen.sender == (node, number)
        # C14: both are seen as the node that was asked.
        assert seen.text.rpartition(":")[0] == node == client_seen(OUTSIDE, node, number)


@every_mode
def test_c8_c15_datagrams_keep_the_clients_address_where_connections_do(world: Space, mode: str):
    near, far, node = world.ip("near"), world.ip("far"), node_ip(world.cluster, "node-2")
    number = world.node_port("local")
    rows = [
        (near, world.vip("both"), 5300, near, node_ip(world.cluster, "node-1")),
        (far, world.vip("both"), 5300, far, node),
        (node, world.vip("both"), 5300, node, node),
        (OUTSIDE, node, number, OUTSIDE, node),
    ]
    for source, address, port, kept, shown_by_userspace in rows:
        seen = udp(source, address, port, "clientip").text.rpartition(":")[0]
        assert seen == (shown_by_userspace if mode == "userspace" else kept)


# --- flows ---


@kernel_modes
def test_h1_one_decision_for_each_flow(world: Space, mode: str):
    near, address = world.ip("near"), world.vip("many")
    names = []
    for _ in range(30):
        with flow(near, address) as asking:
            names.append(asking.ask())
            assert {asking.ask() for _ in range(4)} == {names[-1]}
    assert set(names) == MANY


@in_modes("userspace")
def test_g5_a_flow_ends_after_a_quarter_of_a_second(world: Space, mode: str):
    with flow(world.ip("near"), world.vip("many")) as asking:
        names = [asking.ask()]
        sent = time.monotonic()
        for _ in range(5):
            name = asking.ask()
            now = time.monotonic()
            assert name == names[0] or now - sent > 0.2
            sent = now
        for _ in range(2):
            time.sleep(0.4)
            names.append(asking.ask())
    assert set(names) == MANY


@every_mode
def test_c12_affinity_holds_for_all_flows_of_a_client(world: Space, mode: str):
    names = [udp(world.ip("far"), world.vip("sticky"), 8081).text for _ in range(12)]
    assert len(set(names)) == 1
    clients = [f"127.220.13.{number}" for number in range(1, 20)]
    assert len({udp(client, world.vip("sticky"), 8081).text for client in clients}) > 1


@kernel_modes
def test_h3_a_flow_leaves_an_endpoint_that_is_gone(world: Space, mode: str):
    with flow(world.ip("near"), world.vip("many")) as asking:
        first = asking.ask()
        world.patch(Pod, first, {"metadata": {"labels": {"app": "away"}}})
        try:
            world.cluster.until(lambda: asking.fate() in MANY - {first}, what="the flow has moved")
            second = asking.ask()
        finally:
            world.patch(Pod, first, {"metadata": {"labels": {"app": "many"}}})
        # The endpoint that comes back does not take it away again.
        with flow(world.ip("far"), world.vip("many")) as other:
            world.cluster.until(lambda: _again(other, world) == first, what=f"{first} is back")
        assert asking.ask() == second


def _again(asking: Flow, world: Space) -> str:
    """Who answers another flow of the same client."""
    with flow(world.ip("far"), world.vip("many")) as new:
        return new.ask()


@kernel_modes
def test_h3_h4_h5_flows_of_a_service_that_loses_and_gains_its_only_endpoint(world: Space, mode: str):
    near, address = world.ip("near"), world.vip("empty")
    assert udp_outcome(near, address, 8081) == "refused"
    with flow(near, address) as asking:
        assert asking.fate() == "refused"
        for name in ("one", "two"):
            endpoint = {"addresses": [world.ip(name)]}
            world.apply(endpoint_slice("empty-1", "empty", UDP, [endpoint]))
            until_fate(world, asking, name)
            if name == "two":
                world.delete(EndpointSlice, "empty-1")
                until_fate(world, asking, "refused")


@in_modes("iptables", "nftables")
def test_h4_a_flow_that_was_dropped_is_decided_anew(world: Space, mode: str):
    with flow(world.ip("near"), world.vip("internal")) as asking:
        elsewhere = {"addresses": [world.ip("two")], "nodeName": "node-2"}
        here = {"addresses": [world.ip("one")], "nodeName": "node-1"}
        world.apply(endpoint_slice("internal-1", "internal", UDP, [elsewhere]))
        until_fate(world, asking, "dropped")
        world.apply(endpoint_slice("internal-1", "internal", UDP, [elsewhere, here]))
        until_fate(world, asking, "one")
        world.delete(EndpointSlice, "internal-1")
        until_fate(world, asking, "refused")


@in_modes("userspace")
def test_g5_c3_userspace_mode_loses_datagrams_that_no_endpoint_is_there_for(world: Space, mode: str):
    near, address = world.ip("near"), world.vip("empty")
    with flow(near, address) as asking:
        assert asking.fate() == "dropped"
        subset = {"addresses": [{"ip": world.ip("one")}], "ports": UDP}
        metadata = {"name": "empty"}
        world.apply({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": [subset]})
        until_fate(world, asking, "one")
        world.delete(Endpoints, "empty")
        until_fate(world, asking, "dropped")


@every_mode
def test_h1_flows_go_on_when_the_service_changes_in_other_ways(world: Space, mode: str):
    with flow(world.ip("near"), world.vip("many")) as asking:
        first = asking.ask()
        world.patch(Service, "many", {"metadata": {"annotations": {"changed-in": mode}}})
        world.patch(Service, "many", {"spec": {"type": "NodePort"}})
        number = world.node_port("many")
        node = node_ip(world.cluster, "node-1")
        world.cluster.until(lambda: udp_outcome(OUTSIDE, node, number) == "ok", what="there is a node port")
        if mode != "userspace":
            assert asking.ask() == first
        world.patch(Service, "many", {"spec": {"type": "ClusterIP"}})
        world.cluster.until(lambda: udp_outcome(OUTSIDE, node, number) == "refused", what="there is none")
        assert asking.ask() in ({first} if mode != "userspace" else MANY)
