"""Services as clients meet them, rule by rule, in each mode where the modes differ.

A pod's, a node's or an outside address is bound, a virtual address is dialled, and the pod says what it saw.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
import urllib.request
from collections import Counter

import pytest
from as_a_client import (
    Space,
    ask,
    client_seen,
    connect,
    endpoint_slice,
    http,
    node_ip,
    outcome,
    pod,
    program_at,
    service,
    set_proxy,
    udp,
    udp_outcome,
)

from emu.core.objects import Endpoints, EndpointSlice, Pod, Service
from emu.testing import running_cluster

OUTSIDE = "127.220.0.9"
KERNEL_MODES = ["iptables", "ipvs", "nftables"]
MODES = [*KERNEL_MODES, "userspace"]


@pytest.fixture(scope="module")
def cluster():
    with running_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def space(cluster):
    """Pods `one` on node-1 and `two` on node-2 are endpoints, `near` and `far` are clients beside them."""
    space = Space(cluster, "services")
    space.apply(
        pod("one", node="node-1", labels={"app": "web"}),
        pod("two", node="node-2", labels={"app": "web"}),
        pod("near", node="node-1"),
        pod("far", node="node-2"),
        service("web", "web"),
    )
    space.cluster.until(
        lambda: spread(space.ip("near"), space.vip("web"), 8) == {"one", "two"}, what="web is programmed"
    )
    return space


@pytest.fixture
def mode(request, cluster):
    set_proxy(cluster, request.param)
    yield request.param
    set_proxy(cluster, "iptables")


@pytest.fixture(params=MODES)
def any_mode(request, cluster):
    set_proxy(cluster, request.param)
    yield request.param
    set_proxy(cluster, "iptables")


def spread(source: str, address: str, tries: int = 24, port: int = 8080) -> set[str]:
    """The pods that answer; an address that does not answer yet has none."""
    names = set()
    for _ in range(tries):
        with contextlib.suppress(OSError):
            names.add(http(source, address, port))
    return names


def until_spread(space: Space, names: set[str], address: str, port: int = 8080, source: str = "") -> None:
    source = source or space.ip("near")
    space.cluster.until(
        lambda: spread(source, address, 1, port) <= names and spread(source, address, port=port) == names,
        what=f"{address}:{port} is served by {names}",
    )


def until_outcome(space: Space, expected: str, source: str, address: str, port: int = 8080) -> None:
    space.cluster.until(
        lambda: outcome(source, address, port) == expected, what=f"{address}:{port} is {expected}"
    )


# --- ports ---


def test_a4_named_target_ports_differ_per_pod(space):
    for name, number in (("first", 8000), ("second", 9000)):
        ports = [{"name": "http", "containerPort": number}]
        labels = {"app": "named"}
        space.apply(
            pod(name, "netexec", f"--http-port={number}", "--udp-port=-1", labels=labels, ports=ports)
        )
    without = pod("nameless", labels={"app": "named"})
    space.apply(without, service("named", "named", ports=[{"port": 8080, "targetPort": "http"}]))
    until_spread(space, {"first", "second"}, space.vip("named"))


def test_a2_tcp_and_udp_on_one_port_number(space):
    both = [
        {"name": "tcp", "port": 5300, "targetPort": 8080},
        {"name": "udp", "port": 5300, "targetPort": 8081, "protocol": "UDP"},
    ]
    space.apply(service("both", "web", type="NodePort", ports=both))
    until_spread(space, {"one", "two"}, space.vip("both"), 5300)
    answer = udp(space.ip("near"), space.vip("both"), 5300)
    assert answer.text in ("one", "two")
    assert answer.sender == (space.vip("both"), 5300)
    # A13: both entries share one node port; C14: the pod sees the node that was asked.
    ports = {port.node_port for port in space.cluster.object(Service, "both", "services").spec.ports}
    (number,) = ports
    for node in ("node-1", "node-2"):
        address = node_ip(space.cluster, node)
        seen = udp(OUTSIDE, address, number, "clientip")
        assert seen.sender == (address, number)
        assert seen.text.rpartition(":")[0] == address
        assert client_seen(OUTSIDE, address, number) == address


def test_udp_shows_the_pod_the_clients_address(space):
    assert udp(space.ip("far"), space.vip("both"), 5300, "clientip").text.startswith(space.ip("far") + ":")


def test_h3_a_udp_flow_leaves_an_endpoint_that_is_gone(space):
    space.apply(
        pod("u-1", labels={"app": "udp"}),
        pod("u-2", labels={"app": "udp"}),
        service("udp", "udp", ports=[{"port": 8081, "protocol": "UDP"}]),
    )
    address = space.vip("udp")
    space.cluster.until(lambda: udp_outcome(space.ip("near"), address, 8081) == "ok", what="UDP is served")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((space.ip("near"), 0))
        sock.connect((address, 8081))
        sock.settimeout(0.3)

        def served_by() -> str:
            sock.send(b"hostname")
            return sock.recv(100).decode()

        first = served_by()
        space.delete(Pod, first)
        other = {"u-1": "u-2", "u-2": "u-1"}[first]

        def moved() -> bool:
            with contextlib.suppress(OSError):
                return served_by() == other
            return False

        space.cluster.until(moved, what="the flow goes to the other endpoint")


# --- nobody there ---


def test_c3_without_endpoints_every_address_refuses_at_once(space, any_mode):
    ports = [
        {"name": "tcp", "port": 8080, "nodePort": 31080},
        {"name": "udp", "port": 8081, "protocol": "UDP", "nodePort": 31081},
    ]
    space.apply(service("nobody", "nobody", type="LoadBalancer", ports=ports, externalIPs=["127.220.1.1"]))
    addresses = (
        (space.vip("nobody"), 8080, 8081),
        ("127.220.1.1", 8080, 8081),
        (space.external_ip("nobody"), 8080, 8081),
        (node_ip(space.cluster, "node-1"), 31080, 31081),
    )
    expected = ("reset", "dropped") if any_mode == "userspace" else ("refused", "refused")

    def outcomes() -> set[tuple[str, str]]:
        return {
            (outcome(source, address, tcp, 0.25), udp_outcome(source, address, number, 0.25))
            for address, tcp, number in addresses
            for source in (space.ip("near"), OUTSIDE)
        }

    space.cluster.until(lambda: outcomes() == {expected}, what=f"all {expected}")
    space.delete(Service, "nobody")


def test_c6_a_pod_that_does_not_listen_takes_its_share(space):
    space.apply(
        pod("listens", labels={"app": "share"}),
        pod("mute", "pause", labels={"app": "share"}),
        service("share", "share"),
    )
    until_spread(space, {"listens"}, space.vip("share"))
    found = Counter(outcome(space.ip("near"), space.vip("share")) for _ in range(40))
    assert set(found) == {"ok", "reset"}
    assert min(found.values()) > 4


def test_g3_userspace_tries_the_next_endpoint(space):
    set_proxy(space.cluster, "userspace")
    try:
        assert spread(space.ip("near"), space.vip("share"), 10) == {"listens"}
        assert {outcome(space.ip("near"), space.vip("share")) for _ in range(10)} == {"ok"}
    finally:
        set_proxy(space.cluster, "iptables")


# --- who is an endpoint ---


def test_b6_pods_that_are_not_ready_serve_only_where_that_is_asked_for(space):
    probe = {"tcpSocket": {"port": 9999}, "periodSeconds": 1}
    space.apply(service("strict", "unready"), service("lax", "unready", publishNotReadyAddresses=True))
    space.apply(pod("unready", readinessProbe=probe), ready=False)
    until_spread(space, {"unready"}, space.vip("lax"))
    assert outcome(space.ip("near"), space.vip("strict")) == "refused"


def test_b8_b9_b10_slices_written_by_hand(space):
    space.apply(
        service("hand", ports=[{"name": "a", "port": 80, "targetPort": 1}, {"name": "b", "port": 81}]),
        endpoint_slice(
            "hand-1", "hand", [{"name": "a", "port": 8080}], [{"addresses": [space.ip("one"), "127.220.9.9"]}]
        ),
        endpoint_slice("hand-2", "hand", [{"name": "a", "port": 8080}], [{"addresses": [space.ip("one")]}]),
        endpoint_slice("hand-3", "hand", [{"name": "b", "port": 8080}], [{"addresses": [space.ip("two")]}]),
        endpoint_slice(
            "hand-4", "hand", [{"name": "b", "port": 8080, "protocol": "UDP"}], [{"addresses": ["127.0.0.1"]}]
        ),
    )
    until_spread(space, {"one"}, space.vip("hand"), 80)
    until_spread(space, {"two"}, space.vip("hand"), 81)
    assert client_seen(space.ip("near"), space.vip("hand"), 80) == space.ip("near")


def endpoints(name: str, address: str, port: int, **labels: str) -> dict[str, object]:
    """An Endpoints object as a user writes it."""
    subset = {"addresses": [{"ip": address}], "ports": [{"port": port}]}
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": [subset]}


def test_an_endpoint_outside_the_cluster_sees_the_client(space, any_mode):
    with program_at("127.220.2.1") as port:
        space.apply(
            service("program", ports=[{"port": 8080, "targetPort": port}]),
            endpoint_slice("program-1", "program", [{"port": port}], [{"addresses": ["127.220.2.1"]}]),
        )
        if any_mode == "userspace":
            # G5: it reads Endpoints, and to it a slice alone is no endpoint.
            until_outcome(space, "reset", space.ip("near"), space.vip("program"))
            skip_mirror = {"endpointslice.kubernetes.io/skip-mirror": "true"}
            space.apply(endpoints("program", "127.220.2.1", port, **skip_mirror))
        until_spread(space, {"program"}, space.vip("program"))
        seen = client_seen(space.ip("near"), space.vip("program"))
        assert seen == (node_ip(space.cluster, "node-1") if any_mode == "userspace" else space.ip("near"))


def test_a_program_on_a_pods_address_is_an_endpoint_like_any_other(space):
    space.apply(
        pod("host", "pause", labels={"app": "host"}),
        service("host", "host", ports=[{"port": 8080, "targetPort": 7000}]),
    )
    with program_at(space.ip("host"), 7000):
        until_spread(space, {"program"}, space.vip("host"))
        assert client_seen(space.ip("near"), space.vip("host")) == space.ip("near")


def test_b11_endpoints_written_by_hand_are_mirrored_and_followed(space):
    space.apply(service("mirrored"), endpoints("mirrored", space.ip("one"), 8080))
    until_spread(space, {"one"}, space.vip("mirrored"))
    space.apply(endpoints("mirrored", space.ip("two"), 8080))
    until_spread(space, {"two"}, space.vip("mirrored"))
    space.delete(Endpoints, "mirrored")
    space.cluster.until(
        lambda: outcome(space.ip("near"), space.vip("mirrored")) == "refused", what="nothing is mirrored"
    )


@pytest.mark.parametrize(
    ("first", "second", "serving"),
    [
        ({}, {}, {"one", "two"}),
        ({"ready": True}, {"ready": False, "serving": True, "terminating": True}, {"one"}),
        ({"ready": False, "serving": True, "terminating": True}, {"ready": False}, {"one"}),
        ({"ready": False, "serving": True}, {"ready": False, "serving": False, "terminating": True}, set()),
    ],
    ids=["unset is ready", "ready before terminating", "terminating fallback", "neither"],
)
def test_c13_conditions(space, first, second, serving):
    endpoints = [
        {"addresses": [space.ip(name)], "conditions": conditions}
        for name, conditions in (("one", first), ("two", second))
    ]
    space.apply(
        service("conditions"), endpoint_slice("conditions", "conditions", [{"port": 8080}], endpoints)
    )
    if serving:
        until_spread(space, serving, space.vip("conditions"))
    else:
        space.cluster.until(
            lambda: outcome(space.ip("near"), space.vip("conditions")) == "refused", what="it refuses"
        )


def test_c13_a_terminating_pod_serves_new_clients_while_it_shuts_down(space):
    space.apply(
        pod("leaving", "netexec", "--delay-shutdown=20", labels={"app": "leaving"}),
        service("leaving", "leaving"),
    )
    until_spread(space, {"leaving"}, space.vip("leaving"))
    space.delete(Pod, "leaving", options={"gracePeriodSeconds": 15})

    def conditions() -> set[tuple[bool, bool, bool]]:
        return {
            (item.ready, item.serving, item.terminating)
            for slice_ in space.cluster.objects(EndpointSlice, "services")
            if slice_.metadata.labels["kubernetes.io/service-name"] == "leaving"
            for item in slice_.endpoints
        }

    space.cluster.until(lambda: conditions() == {(False, True, True)}, what="the endpoint is terminating")
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        assert http(space.ip("near"), space.vip("leaving")) == "leaving"
    assert http(space.ip("near"), space.ip("leaving")) == "leaving"
    space.delete(Pod, "leaving", options={"gracePeriodSeconds": 0})
    space.cluster.until(
        lambda: outcome(space.ip("near"), space.vip("leaving")) == "refused", what="the pod is gone"
    )


def test_c7_an_established_connection_stays_until_its_pod_ends(space):
    address = space.vip("web")
    with connect(space.ip("near"), address, 8080) as sock:
        name = ask(sock)
        other = {"one": "two", "two": "one"}[name]
        space.patch(Pod, name, {"metadata": {"labels": {"app": "taken-out"}}})
        until_spread(space, {other}, address)
        assert ask(sock) == name
        space.patch(Pod, name, {"metadata": {"labels": {"app": "web"}}})
    until_spread(space, {"one", "two"}, address)


# --- ways in, and the source that a pod sees ---


def test_externally_reachable_addresses_masquerade_to_a_node(space, any_mode):
    space.apply(service("lb", "web", type="LoadBalancer", externalIPs=["127.220.1.2"]))
    nodes = {node_ip(space.cluster, name) for name in ("node-1", "node-2")}
    for address in (space.external_ip("lb"), "127.220.1.2"):
        until_spread(space, {"one", "two"}, address)
        assert client_seen(OUTSIDE, address) in nodes
        assert client_seen(space.ip("near"), address) == node_ip(space.cluster, "node-1")
        assert client_seen(space.ip("far"), address) == node_ip(space.cluster, "node-2")


def test_c15_local_policy_keeps_the_source_at_a_load_balancer(space, any_mode):
    space.apply(service("lb-local", "web", type="LoadBalancer", externalTrafficPolicy="Local"))
    address = space.external_ip("lb-local")
    until_spread(space, {"one", "two"}, address, source=OUTSIDE)
    seen = client_seen(OUTSIDE, address)
    if any_mode == "userspace":
        assert seen in {node_ip(space.cluster, name) for name in ("node-1", "node-2")}
    else:
        assert seen == OUTSIDE


@pytest.mark.parametrize("mode", KERNEL_MODES, indirect=True)
def test_c17_from_the_own_node_local_policy_is_short_circuited(space, mode):
    space.apply(service("np-local", "web", type="NodePort", externalTrafficPolicy="Local"))
    number, node = space.node_port("np-local"), node_ip(space.cluster, "node-1")
    until_spread(space, {"one"}, node, number, OUTSIDE)
    everyone = {"one"} if mode == "ipvs" else {"one", "two"}
    until_spread(space, everyone, node, number, space.ip("near"))
    assert client_seen(space.ip("near"), node, number) == space.ip("near")
    until_spread(space, everyone, node, number, node)
    assert client_seen(OUTSIDE, node, number) == OUTSIDE


def test_c18_node_ports_at_127_0_0_1(space, any_mode):
    space.apply(service("np", "web", type="NodePort"))
    number = space.node_port("np")
    until_spread(space, {"one", "two"}, node_ip(space.cluster, "node-1"), number, OUTSIDE)
    served = any_mode in ("iptables", "userspace")
    assert outcome(OUTSIDE, "127.0.0.1", number) == ("ok" if served else "refused")


def test_c20_source_ranges_guard_the_load_balancers_address_only(space):
    space.apply(service("guarded", "web", type="LoadBalancer", loadBalancerSourceRanges=["127.220.0.0/24"]))
    address, number = space.external_ip("guarded"), space.node_port("guarded")
    until_spread(space, {"one", "two"}, address, source=OUTSIDE)
    assert outcome("127.220.5.5", address) == "dropped"
    assert outcome(space.ip("near"), address) == "dropped"
    assert outcome("127.220.5.5", node_ip(space.cluster, "node-1"), number) == "ok"
    assert outcome("127.220.5.5", space.vip("guarded")) == "ok"


@pytest.mark.parametrize("mode", KERNEL_MODES, indirect=True)
def test_c10_hairpin_shows_a_node_address(space, mode):
    space.apply(pod("lonely"), service("lonely", "lonely"))
    until_spread(space, {"lonely"}, space.vip("lonely"))
    own = space.cluster.object(Pod, "lonely", "services")
    node = node_ip(space.cluster, own.spec.node_name)
    bridge = own.ip.rpartition(".")[0] + ".1"
    assert client_seen(own.ip, space.vip("lonely")) in (node, bridge)


@pytest.mark.parametrize("mode", KERNEL_MODES, indirect=True)
def test_c8_c9_pods_and_nodes_are_seen_as_themselves_at_a_cluster_ip(space, mode):
    for source in (space.ip("near"), space.ip("far"), node_ip(space.cluster, "node-2")):
        assert client_seen(source, space.vip("web")) == source


@pytest.mark.parametrize("mode", KERNEL_MODES)
def test_masquerade_all_shows_the_clients_node(space, mode):
    set_proxy(space.cluster, mode, **{mode: {"masqueradeAll": True}})
    try:
        assert client_seen(space.ip("near"), space.vip("web")) == node_ip(space.cluster, "node-1")
        assert client_seen(space.ip("far"), space.vip("web")) == node_ip(space.cluster, "node-2")
    finally:
        set_proxy(space.cluster, "iptables")


def test_b12_traffic_distribution_prefers_the_own_node(space):
    space.apply(service("close", "web", trafficDistribution="PreferSameNode"))
    until_spread(space, {"one"}, space.vip("close"))
    until_spread(space, {"two"}, space.vip("close"), source=space.ip("far"))


# --- choice ---


def test_c12_affinity_moves_only_when_its_endpoint_goes(space, any_mode):
    space.apply(
        pod("s-1", labels={"app": "sticky"}),
        pod("s-2", labels={"app": "sticky"}),
        service("sticky", "sticky", sessionAffinity="ClientIP"),
    )
    source, address = space.ip("near"), space.vip("sticky")
    space.cluster.until(lambda: outcome(source, address) == "ok", what="sticky is programmed")
    (bound,) = spread(source, address, 12)
    space.apply(pod("s-3", labels={"app": "sticky"}))
    assert spread(source, address, 12) == {bound}
    space.patch(Pod, bound, {"metadata": {"labels": {"app": "away"}}})
    others = {"s-1", "s-2", "s-3"} - {bound}
    space.cluster.until(lambda: spread(source, address, 1) <= others, what="the client has moved")
    assert len(spread(source, address, 12)) == 1
    for name in ("s-1", "s-2", "s-3"):
        space.delete(Pod, name, options={"gracePeriodSeconds": 0})
    empty = "reset" if any_mode == "userspace" else "refused"
    space.cluster.until(lambda: outcome(source, address) == empty, what="sticky is empty")


def test_e3_least_connections_counts_what_was_handed_over(space):
    set_proxy(space.cluster, "ipvs", ipvs={"scheduler": "lc"})
    try:
        source, address = space.ip("near"), space.vip("web")
        with contextlib.ExitStack() as held:
            names = []
            for _ in range(6):
                sock = held.enter_context(connect(source, address, 8080))
                names.append(ask(sock))
            assert Counter(names) == {"one": 3, "two": 3}
    finally:
        set_proxy(space.cluster, "iptables")


# --- changes of a Service ---


def test_a7_type_changes_open_and_close_addresses(space):
    space.apply(service("changing", "web"))
    address, node = space.vip("changing"), node_ip(space.cluster, "node-1")
    until_spread(space, {"one", "two"}, address)
    space.patch(Service, "changing", {"spec": {"type": "NodePort"}})
    number = space.node_port("changing")
    until_spread(space, {"one", "two"}, node, number, OUTSIDE)
    space.patch(Service, "changing", {"spec": {"type": "LoadBalancer"}})
    balancer = space.external_ip("changing")
    until_spread(space, {"one", "two"}, balancer, source=OUTSIDE)
    assert space.node_port("changing") == number
    assert space.vip("changing") == address
    space.patch(Service, "changing", {"spec": {"type": "ClusterIP"}})
    for where, port in ((node, number), (balancer, 8080)):
        space.cluster.until(
            lambda where=where, port=port: outcome(OUTSIDE, where, port) == "refused", what=f"{where} is shut"
        )
    assert outcome(OUTSIDE, address) == "ok"
    space.patch(Service, "changing", {"spec": {"type": "ExternalName", "externalName": "example.com"}})
    space.cluster.until(lambda: outcome(OUTSIDE, address) == "refused", what="the ClusterIP is given back")


def test_a_port_may_change_and_the_old_one_refuses(space):
    space.apply(service("moving", "web", ports=[{"name": "a", "port": 8080, "targetPort": 8080}]))
    until_spread(space, {"one", "two"}, space.vip("moving"))
    ports = [{"name": "a", "port": 9090, "targetPort": 8080, "protocol": "TCP"}]
    space.patch(Service, "moving", {"spec": {"ports": ports}})
    until_spread(space, {"one", "two"}, space.vip("moving"), 9090)
    assert outcome(space.ip("near"), space.vip("moving"), 8080) == "refused"


def test_c1_the_api_server_is_a_service(space):
    address = space.cluster.object(Service, "kubernetes", "default").spec.cluster_ip
    context = ssl.create_default_context(cafile=str(space.cluster.settings.state.root / "pki" / "ca.crt"))
    try:
        with urllib.request.urlopen(f"https://{address}:443/version", context=context, timeout=5) as reply:
            assert b"gitVersion" in reply.read()
    except PermissionError:
        pytest.skip("ports below 1024 may not be bound")


def test_a6_a_headless_service_has_no_virtual_address(space):
    space.apply(service("headless", "web", clusterIP="None"))
    assert space.vip("headless") == "None"
    assert client_seen(space.ip("near"), space.ip("one")) == space.ip("near")
