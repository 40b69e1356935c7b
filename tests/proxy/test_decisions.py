"""What becomes of connections, rule by rule, without sockets."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from emu.core.addresses import to_int
from emu.core.config import ProxyMode
from emu.core.ranges import contains
from emu.proxy.paths import OUTSIDE as OUTSIDE_CLIENT
from emu.proxy.paths import Client, ClientKind
from emu.proxy.tables import Address

from .worlds import (
    CLUSTER_IP,
    EXTERNAL_IP,
    LOAD_BALANCER,
    NODE_PORT,
    OUTSIDE,
    SERVICE_PORT,
    World,
    node_ip,
    pod_ip,
)

KERNEL_MODES = ["iptables", "ipvs", "nftables"]
MODES = [*KERNEL_MODES, "userspace"]
WAYS = {
    "ClusterIP": (CLUSTER_IP, SERVICE_PORT),
    "externalIP": (EXTERNAL_IP, SERVICE_PORT),
    "LB": (LOAD_BALANCER, SERVICE_PORT),
    "NodePort": (node_ip(1), NODE_PORT),
}
CLIENTS = {
    "pod": pod_ip(1, 9),
    "remote pod": pod_ip(2, 9),
    "node": node_ip(1),
    "remote node": node_ip(2),
    "outside": OUTSIDE,
}
NOT_READY = {"ready": False}
TERMINATING = {"ready": False, "serving": True, "terminating": True}


def on(node: int, last: int = 2, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [pod_ip(node, last)], "nodeName": f"n{node}", "conditions": conditions}


def world_of(mode: str, *endpoints: dict[str, Any], nodes: int = 2, **spec: Any) -> World:
    world = World(nodes, mode=ProxyMode(mode))
    world.service(**spec)
    world.endpoints(*endpoints)
    world.tables.read_endpoints(mode == "userspace")
    ready = [e for e in endpoints if e["conditions"].get("ready", True)]
    addresses = [{"ip": e["addresses"][0], "nodeName": e["nodeName"]} for e in ready]
    world.subsets({"addresses": addresses, "ports": [{"port": 8080}]})
    return world


# --- A, C1, C2: what addresses there are ---


@pytest.mark.parametrize(
    ("rule", "spec", "missing"),
    [
        ("a1 ClusterIP", {"type": "ClusterIP", "externalIPs": []}, {"externalIP", "LB", "NodePort"}),
        ("a1 NodePort", {"type": "NodePort", "externalIPs": []}, {"externalIP", "LB"}),
        ("a1 LoadBalancer", {"externalIPs": []}, {"externalIP"}),
        ("a6 headless", {"clusterIP": "None"}, set(WAYS)),
        ("a8 ExternalName", {"type": "ExternalName", "externalName": "example.com"}, set(WAYS)),
        ("a16 no node ports", {"ports": [{"port": SERVICE_PORT}]}, {"NodePort"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_addresses_of_a_type(rule: str, spec: dict[str, Any], missing: set[str]) -> None:
    world = world_of("iptables", on(1), **spec)
    frontends = world.tables.frontends
    assert {way for way, (ip, port) in WAYS.items() if Address(ip, port, "TCP") not in frontends} == missing


def test_a16_node_ports_stay_where_only_new_ones_are_not_allocated() -> None:
    world = world_of("iptables", on(1), allocateLoadBalancerNodePorts=False)
    assert Address(node_ip(1), NODE_PORT, "TCP") in world.tables.frontends


def test_c2_protocol_and_port_belong_to_the_match() -> None:
    world = world_of("iptables", on(1), ports=[{"port": 80, "name": "a"}, {"port": 81, "protocol": "UDP"}])
    assert {address for address in world.tables.frontends if address.ip == CLUSTER_IP} == {
        Address(CLUSTER_IP, 80, "TCP"),
        Address(CLUSTER_IP, 81, "UDP"),
    }


def test_c19_a_load_balancer_of_ip_mode_proxy_is_left_alone() -> None:
    world = world_of("iptables", on(1))
    address = Address(LOAD_BALANCER, SERVICE_PORT, "TCP")
    assert address in world.tables.frontends
    world.service(ip_mode="Proxy")
    assert address not in world.tables.frontends


def test_clients_are_told_apart_by_their_address() -> None:
    world = World(3)
    found = {
        ip: world.tables.client(ip)
        for ip in (pod_ip(1, 2), pod_ip(2, 254), pod_ip(3, 1), node_ip(2), pod_ip(4, 2), OUTSIDE, "127.0.0.1")
    }
    assert found == {
        pod_ip(1, 2): Client(ClientKind.POD, "n1"),
        pod_ip(2, 254): Client(ClientKind.POD, "n2"),
        pod_ip(3, 1): Client(ClientKind.NODE, "n3"),
        node_ip(2): Client(ClientKind.NODE, "n2"),
        pod_ip(4, 2): OUTSIDE_CLIENT,
        OUTSIDE: OUTSIDE_CLIENT,
        "127.0.0.1": OUTSIDE_CLIENT,
    }
    world.tables.set_node("n1", None)
    assert world.tables.client(pod_ip(1, 2)) == OUTSIDE_CLIENT


# --- C3, C4, C5: nobody there ---

POLICIES = [
    {"internalTrafficPolicy": internal, "externalTrafficPolicy": external}
    for internal, external in itertools.product(("Cluster", "Local"), repeat=2)
]


@pytest.mark.parametrize("policies", POLICIES, ids=lambda value: "-".join(value.values()))
@pytest.mark.parametrize("mode", MODES)
def test_c3_without_a_usable_endpoint_every_way_refuses_whatever_the_policies(
    mode: str, policies: dict[str, str]
) -> None:
    spec = {**policies, "loadBalancerSourceRanges": ["127.220.0.0/16"]}
    for endpoints in ([], [on(1, **NOT_READY)], [on(2, ready=False, serving=True)]):
        world = world_of(mode, *endpoints, **spec)
        for (ip, port), source in itertools.product(WAYS.values(), CLIENTS.values()):
            assert world.decide(source, ip, port).verdict == "refused"
            # Without a socket the kernel refuses; the userspace mode accepts, and closes.
            assert world.planner.listens(world.frontend(ip, port)) is (mode == "userspace")


@pytest.mark.parametrize("mode", KERNEL_MODES)
def test_c3_each_port_is_judged_alone(mode: str) -> None:
    ports = [{"name": "a", "port": 80}, {"name": "", "port": 81}]
    world = world_of(mode, on(1), type="ClusterIP", ports=ports)
    assert not world.planner.listens(world.frontend(CLUSTER_IP, 80))
    assert world.planner.listens(world.frontend(CLUSTER_IP, 81))


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
@pytest.mark.parametrize(
    ("way", "client", "expected"),
    [
        ("ClusterIP", "pod", "dropped"),
        ("ClusterIP", "node", "dropped"),
        # It enters at the first node, n1.
        ("ClusterIP", "outside", "dropped"),
        ("ClusterIP", "remote pod", "forwarded"),
        ("NodePort", "outside", "dropped"),
        ("NodePort", "remote pod", "dropped"),
        ("NodePort", "remote node", "dropped"),
        # C17: what starts on the node may use every endpoint.
        ("NodePort", "pod", "forwarded"),
        ("NodePort", "node", "forwarded"),
        ("externalIP", "outside", "dropped"),
        ("externalIP", "pod", "forwarded"),
        ("LB", "pod", "forwarded"),
        # Health checks lead a load balancer to n2.
        ("LB", "outside", "forwarded"),
    ],
)
def test_c4_endpoints_elsewhere_are_dropped(mode: str, way: str, client: str, expected: str) -> None:
    world = world_of(mode, on(2), internalTrafficPolicy="Local", externalTrafficPolicy="Local")
    choice = world.decide(CLIENTS[client], *WAYS[way])
    assert choice.verdict == expected
    assert ("no local endpoints on n1" in choice.reason) is (expected == "dropped")


def test_c4_terminating_endpoints_of_the_node_count_as_local() -> None:
    world = world_of("iptables", on(1, **TERMINATING), on(2), externalTrafficPolicy="Local")
    assert world.flow(OUTSIDE, node_ip(1), NODE_PORT)[1] == {pod_ip(1, 2)}
    # C13: the cluster's set is decided alone, and it has a ready one.
    assert world.flow(OUTSIDE, CLUSTER_IP, SERVICE_PORT)[1] == {pod_ip(2, 2)}


# --- C10, C12: one node, one client ---


@pytest.mark.parametrize("mode", KERNEL_MODES)
@pytest.mark.parametrize("external", ["Cluster", "Local"])
@pytest.mark.parametrize("way", list(WAYS))
def test_c10_a_pod_does_not_see_itself(mode: str, external: str, way: str) -> None:
    world = world_of(mode, on(1), externalTrafficPolicy=external)
    choice = world.decide(pod_ip(1, 2), *WAYS[way])
    assert choice.endpoint is not None
    assert choice.source in (pod_ip(1, 1), node_ip(1))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", list(WAYS))
def test_c10_a_pod_in_the_host_network_sees_the_node(mode: str, way: str) -> None:
    endpoint = {"addresses": [node_ip(1)], "nodeName": "n1", "conditions": {}}
    verdicts, found, seen = world_of(mode, endpoint).flow(node_ip(1), *WAYS[way], tries=2)
    assert (verdicts, found, seen) == ({"forwarded"}, {node_ip(1)}, {node_ip(1)})


@pytest.mark.parametrize("mode", MODES)
def test_c14_an_external_ip_that_is_a_nodes_own_is_entered_there(mode: str) -> None:
    world = world_of(mode, on(1), on(2), externalIPs=[node_ip(2)])
    _, found, seen = world.flow(OUTSIDE, node_ip(2), SERVICE_PORT)
    assert (found, seen) == ({pod_ip(1, 2), pod_ip(2, 2)}, {node_ip(2)})
    # Inside, each node has the rule itself.
    assert world.flow(pod_ip(1, 9), node_ip(2), SERVICE_PORT)[2] == {node_ip(1)}


@pytest.mark.parametrize("mode", KERNEL_MODES)
def test_c15_an_external_ip_that_is_a_nodes_own_leads_to_the_endpoints_there(mode: str) -> None:
    world = world_of(mode, on(1), on(2), externalIPs=[node_ip(2)], externalTrafficPolicy="Local")
    assert world.flow(OUTSIDE, node_ip(2), SERVICE_PORT) == ({"forwarded"}, {pod_ip(2, 2)}, {OUTSIDE})
    assert contains(world.planner.allowed_sources(world.frontend(node_ip(2))), to_int(OUTSIDE))


@pytest.mark.parametrize("mode", KERNEL_MODES)
def test_c13_a_load_balancer_sends_to_nodes_with_ready_endpoints_first(mode: str) -> None:
    world = world_of(mode, on(1, **TERMINATING), on(2), externalTrafficPolicy="Local")
    assert world.flow(OUTSIDE, LOAD_BALANCER, SERVICE_PORT)[1] == {pod_ip(2, 2)}
    world.endpoints(on(1, **TERMINATING), on(2, **NOT_READY))
    assert world.flow(OUTSIDE, LOAD_BALANCER, SERVICE_PORT)[1] == {pod_ip(1, 2)}


@pytest.mark.parametrize("mode", KERNEL_MODES)
def test_c12_affinity_is_of_a_service_port_on_a_node(mode: str) -> None:
    endpoints = [on(1, last) for last in range(2, 10)]
    world = world_of(mode, *endpoints, sessionAffinity="ClientIP", externalTrafficPolicy="Local")
    # Another client has had its turn at the ClusterIP.
    world.decide(CLIENTS["remote pod"], *WAYS["ClusterIP"])
    world.decide(CLIENTS["outside"], *WAYS["ClusterIP"])
    bound = {
        way: world.flow(CLIENTS["pod"], *WAYS[way])[1]
        for way in ("ClusterIP", "NodePort", "LB", "externalIP")
    }
    assert all(len(found) == 1 for found in bound.values())
    # In ipvs each virtual server has persistence templates of its own, and its own turn.
    assert (bound["NodePort"] == bound["ClusterIP"]) is (mode != "ipvs")
    assert bound["NodePort"] == bound["LB"] == bound["externalIP"]


# --- C16, E9: ipvs differs ---


@pytest.mark.parametrize(
    ("endpoints", "client", "expected"),
    [
        ([on(2)], "pod", "refused"),
        ([on(2)], "outside", "refused"),
        ([on(2)], "remote pod", "forwarded"),
    ],
)
def test_c16_ipvs_refuses_where_there_is_no_local_endpoint(
    endpoints: list[dict[str, Any]], client: str, expected: str
) -> None:
    world = world_of("ipvs", *endpoints, internalTrafficPolicy="Local")
    assert world.decide(CLIENTS[client], *WAYS["ClusterIP"]).verdict == expected
    assert world.planner.listens(world.frontend(*WAYS["ClusterIP"]))


def test_c16_ipvs_has_no_socket_where_no_node_has_a_local_endpoint() -> None:
    nowhere = {"addresses": ["127.220.9.9"], "nodeName": None, "conditions": {}}
    world = world_of("ipvs", nowhere, internalTrafficPolicy="Local")
    assert not world.planner.listens(world.frontend(*WAYS["ClusterIP"]))
    assert world.planner.listens(world.frontend(*WAYS["NodePort"]))
    world.configure(mode=ProxyMode.IPTABLES)
    assert world.planner.listens(world.frontend(*WAYS["ClusterIP"]))


@pytest.mark.parametrize("way", ["NodePort", "LB", "externalIP"])
@pytest.mark.parametrize(
    ("rule", "endpoints", "client", "verdict", "reached", "seen"),
    [
        ("no local one: pods of the node reach all", [on(2), on(3)], "pod", "forwarded", {2, 3}, "pod"),
        ("no local one: so does the node", [on(2), on(3)], "node", "forwarded", {2, 3}, "node"),
        ("a local one: the node has only that", [on(1), on(2)], "node", "forwarded", {1}, "node"),
        ("a local one: pods have only that", [on(1), on(2)], "pod", "forwarded", {1}, "pod"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_e9_ipvs_with_external_policy_local(
    way: str,
    rule: str,
    endpoints: list[dict[str, Any]],
    client: str,
    verdict: str,
    reached: set[int],
    seen: str,
) -> None:
    world = world_of("ipvs", *endpoints, nodes=3, externalTrafficPolicy="Local")
    verdicts, found, sources = world.flow(CLIENTS[client], *WAYS[way])
    assert verdicts == {verdict}
    assert found == {pod_ip(node, 2) for node in reached}
    assert sources == {CLIENTS[seen]}


@pytest.mark.parametrize("client", ["outside", "remote pod", "remote node"])
def test_e9_replies_do_not_come_back_to_clients_elsewhere(client: str) -> None:
    world = world_of("ipvs", on(2), nodes=3, externalTrafficPolicy="Local")
    assert world.decide(CLIENTS[client], *WAYS["NodePort"]).verdict == "dropped"


def test_e9_with_both_policies_local_there_is_no_real_server() -> None:
    world = world_of("ipvs", on(2), externalTrafficPolicy="Local", internalTrafficPolicy="Local")
    assert world.decide(CLIENTS["pod"], *WAYS["NodePort"]).verdict == "refused"
    # At the address of one node all are refused, so that there is no socket.
    assert not world.planner.listens(world.frontend(*WAYS["NodePort"]))
    assert world.planner.listens(world.frontend(node_ip(2), NODE_PORT))


def test_e9_source_ranges_drop_before_ipvs_refuses() -> None:
    local = {"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}
    nowhere = {"addresses": ["127.220.9.9"], "nodeName": None, "conditions": {}}
    world = world_of("ipvs", nowhere, loadBalancerSourceRanges=["127.220.0.0/16"], **local)
    assert world.decide(OUTSIDE, *WAYS["LB"]).verdict == "refused"
    assert world.decide(CLIENTS["pod"], *WAYS["LB"]).verdict == "dropped"
    # Who is dropped must not be refused by a socket that is missing.
    assert world.planner.listens(world.frontend(*WAYS["LB"]))
    assert not world.planner.listens(world.frontend(*WAYS["externalIP"]))


# --- C17: no detector ---


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_c17_without_a_detector_pods_count_as_outside(mode: str) -> None:
    world = world_of(mode, on(2), externalTrafficPolicy="Local")
    world.configure(detects_local=False)
    verdicts = {who: world.decide(ip, *WAYS["NodePort"]).verdict.value for who, ip in CLIENTS.items()}
    assert verdicts == dict.fromkeys(CLIENTS, "dropped") | {"node": "forwarded"}


def test_c17_the_filter_then_keeps_pods_out_and_lets_the_node_in() -> None:
    world = world_of("iptables", on(2), externalTrafficPolicy="Local")
    world.configure(detects_local=False)
    allowed = world.planner.allowed_sources(world.frontend(*WAYS["NodePort"]))
    # The node has two addresses, its own and the bridge's, and that lies among those of its pods.
    assert [contains(allowed, to_int(ip)) for ip in (node_ip(1), pod_ip(1, 1))] == [True, True]
    assert not any(contains(allowed, to_int(ip)) for ip in (pod_ip(1, 9), pod_ip(2, 1), node_ip(2), OUTSIDE))


# --- C18: node ports ---


@pytest.mark.parametrize(
    ("mode", "listed", "localhost_node_ports", "expected"),
    [
        ("iptables", (), True, {"n1", "n2", "localhost"}),
        ("iptables", (), False, {"n1", "n2"}),
        ("iptables", ("primary",), True, {"n1", "n2"}),
        ("iptables", (f"{node_ip(2)}/32",), True, {"n2"}),
        ("iptables", ("127.0.0.0/24",), True, {"localhost"}),
        ("iptables", (f"{node_ip(1)}/32", "127.0.0.1/32"), True, {"n1", "localhost"}),
        ("iptables", ("fd00::/8",), True, {"n1", "n2", "localhost"}),
        ("iptables", ("10.0.0.0/8",), True, set()),
        ("nftables", (), True, {"n1", "n2"}),
        ("nftables", ("primary",), True, {"n1", "n2"}),
        ("nftables", (f"{node_ip(1)}/32",), True, {"n1"}),
        ("nftables", ("127.0.0.0/8",), True, {"n1", "n2"}),
        ("ipvs", (), True, {"n1", "n2"}),
        ("ipvs", (f"{node_ip(2)}/32",), True, {"n2"}),
        # It took nodePortAddresses and did nothing with them.
        ("userspace", (f"{node_ip(2)}/32",), False, {"n1", "n2", "localhost"}),
    ],
)
def test_c18_where_node_ports_are(
    mode: str, listed: tuple[str, ...], localhost_node_ports: bool, expected: set[str]
) -> None:
    world = world_of(mode, on(1))
    world.configure(node_port_addresses=listed, localhost_node_ports=localhost_node_ports)
    addresses = {"n1": node_ip(1), "n2": node_ip(2), "localhost": "127.0.0.1"}
    found = {name for name, ip in addresses.items() if world.planner.listens(world.frontend(ip, NODE_PORT))}
    assert found == expected
    assert all(world.planner.listens(world.frontend(ip, SERVICE_PORT)) for ip in (CLUSTER_IP, LOAD_BALANCER))


# --- C20: source ranges ---


@pytest.mark.parametrize("mode", KERNEL_MODES)
@pytest.mark.parametrize(
    ("ranges", "let_in"),
    [
        (["127.220.0.0/16"], {"outside"}),
        ([" 127.220.0.1/32 "], {"outside"}),
        (["127.244.1.0/24"], {"pod"}),
        ([f"{node_ip(1)}/32"], {"node"}),
        (["127.221.0.0/16", "127.244.2.9/32"], {"remote pod"}),
        (["0.0.0.0/0"], set(CLIENTS)),
        (["fd00::/8"], set(CLIENTS)),
        (["10.0.0.0/8"], set()),
    ],
    ids=lambda value: (
        value[0].strip() if isinstance(value, list) else " and ".join(sorted(value)) or "nobody"
    ),
)
def test_c20_source_ranges_guard_the_load_balancers_address_only(
    mode: str, ranges: list[str], let_in: set[str]
) -> None:
    world = world_of(mode, on(1), loadBalancerSourceRanges=ranges)
    found = {
        (way, who)
        for way, who in itertools.product(WAYS, CLIENTS)
        if world.decide(CLIENTS[who], *WAYS[way]).verdict == "dropped"
    }
    assert found == {("LB", who) for who in set(CLIENTS) - let_in}


def test_c20_the_userspace_mode_had_no_source_ranges() -> None:
    world = world_of("userspace", on(1), loadBalancerSourceRanges=["10.0.0.0/8"])
    assert world.decide(OUTSIDE, *WAYS["LB"]).verdict == "forwarded"


# --- C21: topology of the node where traffic enters ---


@pytest.mark.parametrize(
    ("client", "way", "expected"),
    [
        ("pod", "ClusterIP", {1}),
        ("remote pod", "ClusterIP", {2}),
        ("outside", "ClusterIP", {1}),
        ("remote pod", "NodePort", {1}),
        ("remote node", "externalIP", {2}),
    ],
)
def test_c21_hints_are_read_for_the_entry_node(client: str, way: str, expected: set[int]) -> None:
    hinted = [on(node) | {"hints": {"forZones": [{"name": f"z{node}"}]}} for node in (1, 2)]
    world = world_of("nftables", *hinted)
    assert world.flow(CLIENTS[client], *WAYS[way])[1] == {pod_ip(node, 2) for node in expected}


# --- G5: the userspace mode's endpoints ---


def test_g5_the_userspace_mode_reads_endpoints_and_nothing_of_slices() -> None:
    world = World(mode=ProxyMode.USERSPACE)
    world.tables.read_endpoints(True)
    world.service(internalTrafficPolicy="Local", externalTrafficPolicy="Local")
    world.endpoints(on(1))
    assert world.decide(OUTSIDE, CLUSTER_IP).verdict == "refused"
    world.subsets(
        {
            "addresses": [{"ip": pod_ip(2, 7), "nodeName": "n2"}],
            "notReadyAddresses": [{"ip": pod_ip(2, 8), "nodeName": "n2"}],
            "ports": [{"port": 8080}],
        }
    )
    for way, source in itertools.product(WAYS.values(), CLIENTS.values()):
        verdicts, found, seen = world.flow(source, *way, tries=4)
        assert (verdicts, found) == ({"forwarded"}, {pod_ip(2, 7)})
        assert seen <= {node_ip(1), node_ip(2)}
    assert world.tables.read_endpoints(False)
    world.take()
    world.configure(mode=ProxyMode.IPTABLES)
    assert world.flow(OUTSIDE, node_ip(1), NODE_PORT)[1] == {pod_ip(1, 2)}


def test_g5_a_load_balancer_knows_policies_again_when_the_userspace_mode_ends() -> None:
    world = world_of("userspace", on(1), externalTrafficPolicy="Local")
    assert world.flow(OUTSIDE, *WAYS["LB"])[2] == {node_ip(1), node_ip(2)}
    world.configure(mode=ProxyMode.NFTABLES)
    assert world.flow(OUTSIDE, *WAYS["LB"])[::2] == ({"forwarded"}, {OUTSIDE})


# --- two Services, one address ---


@pytest.mark.parametrize("order", list(itertools.permutations(["young", "old", "older"])))
def test_the_oldest_service_has_an_address_whatever_came_first(order: tuple[str, ...]) -> None:
    world = World()
    created = {
        "older": "2026-01-01T00:00:00Z",
        "old": "2026-01-02T00:00:00Z",
        "young": "2026-01-03T00:00:00Z",
    }
    told = []
    for name in order:
        world.service(name, clusterIP=f"127.96.1.{len(name)}", type="ClusterIP", created=created[name])
        told += world.conflicts
    address = Address(EXTERNAL_IP, SERVICE_PORT, "TCP")
    assert world.tables.frontends[address].port.service.name == "older"
    latest = {waiting.port.service.name: holder.port.service.name for waiting, holder in told}
    assert latest == {"old": "older", "young": "older"}
    # Nobody is told twice, and who moves up is told of nothing.
    world.service("young", clusterIP="127.96.1.5", type="ClusterIP", created=created["young"])
    assert world.conflicts == ()
    world.tables.set_service("default/older", None)
    world.take()
    assert world.tables.frontends[address].port.service.name == "old"
    assert [(w.port.service.name, h.port.service.name) for w, h in world.conflicts] == [("young", "old")]


@pytest.mark.parametrize("mode", KERNEL_MODES)
def test_a_frontend_of_before_decides_nothing_for_those_who_come_after(mode: str) -> None:
    world = world_of(mode, on(1, 2))
    before = world.frontend(CLUSTER_IP)
    world.endpoints(on(1, 3))
    world.planner.decide(before, (OUTSIDE, 40000), 0.0)
    found = world.decide(OUTSIDE, CLUSTER_IP).endpoint
    assert found
    assert found.address == pod_ip(1, 3)
