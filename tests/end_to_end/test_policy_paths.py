"""NetworkPolicies on every way to a pod, and where they end: rules that need a whole cluster to be seen."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import dns.exception
import dns.message
import dns.query
import pytest
from as_a_client import (
    DROPPED_SECONDS,
    Space,
    connect,
    endpoint_slice,
    node_ip,
    outcome,
    pod,
    program_at,
    service,
    set_proxy,
    udp_outcome,
)

from emu.core.objects import NetworkPolicy, Pod
from emu.testing import running_cluster

OUTSIDE = "127.220.0.9"
PORTS = [
    {"name": "tcp", "port": 80, "targetPort": 8080},
    {"name": "udp", "port": 80, "targetPort": 8081, "protocol": "UDP"},
]


@pytest.fixture(scope="module")
def cluster():
    with running_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def world(cluster):
    """`server` on node-1; clients `a` and `b` on node-2, `b` of another namespace too."""
    world = Space(cluster, "policies")
    named = [{"name": "web", "containerPort": 8080}]
    world.apply(
        pod("server", node="node-1", ports=named),
        pod("a", node="node-2"),
        pod("b", node="node-2"),
        service("server", "server", type="LoadBalancer", ports=PORTS, externalIPs=["127.220.3.1"]),
        service("a", "a"),
    )
    for source in (world.ip("a"), OUTSIDE):
        world.cluster.until(lambda source=source: outcome(source, world.vip("server"), 80) == "ok")
    world.external_ip("server")
    return world


@pytest.fixture
def policy(world):
    """Put a policy of the namespace in force; all of them are lifted afterwards."""

    def create(name: str, subject: str, **spec: Any) -> None:
        selector = {"matchLabels": {"app": subject}} if subject else {}
        world.apply(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": name},
                "spec": {"podSelector": selector, **spec},
            }
        )

    yield create
    world.lift_policies()
    until(world, {"ok"}, lambda: outcome(world.ip("a"), world.ip("server")))
    until(world, {"ok"}, lambda: outcome(world.ip("a"), world.vip("server"), 80))


def until(world: Space, expected: set[str], *probes: Callable[[], str], seconds: float = 8.0) -> None:
    """Wait until all probes have an outcome that is expected; they are asked at the same time."""
    with ThreadPoolExecutor(max(len(probes), 1)) as pool:
        world.cluster.until(
            lambda: {found.result() for found in [pool.submit(probe) for probe in probes]} <= expected,
            seconds=seconds,
            what=f"the outcomes are {expected}",
        )


def ways(world: Space) -> list[tuple[str, int, int]]:
    """Every address of `server`, with its TCP and UDP ports; the node port at the node it is not on."""
    node_port = world.node_port("server")
    return [
        (world.ip("server"), 8080, 8081),
        (world.vip("server"), 80, 80),
        ("127.220.3.1", 80, 80),
        (world.external_ip("server"), 80, 80),
        (node_ip(world.cluster, "node-2"), node_port, node_port),
    ]


def from_(source: str, world: Space, *, shared: bool = True) -> list[Callable[[], str]]:
    """Probes of every way from an address; without those whose entry node is not the client's to choose."""
    chosen = [
        way for way in ways(world) if shared or way[0] not in ("127.220.3.1", world.external_ip("server"))
    ]
    return [
        *(partial(outcome, source, address, tcp) for address, tcp, _ in chosen),
        *(partial(udp_outcome, source, address, udp) for address, _, udp in chosen),
    ]


def test_6_egress_isolation_holds_on_every_way(world, policy):
    policy("closed", "a", policyTypes=["Egress"])
    until(world, {"dropped"}, *from_(world.ip("a"), world))
    until(world, {"ok"}, *from_(world.ip("b"), world))


@pytest.mark.parametrize("mode", ["ipvs", "nftables", "userspace"])
def test_6_egress_isolation_holds_in_every_mode(world, policy, mode):
    set_proxy(world.cluster, mode)
    try:
        policy("closed", "a", policyTypes=["Egress"])
        expected = {"dropped", "reset"} if mode == "userspace" else {"dropped"}
        for address in (world.vip("server"), "127.220.3.1"):
            until(world, expected, lambda address=address: outcome(world.ip("a"), address, 80))
            assert outcome(world.ip("b"), address, 80) == "ok"
    finally:
        set_proxy(world.cluster, "iptables")


def test_6_egress_isolation_holds_towards_endpoints_outside(world, policy):
    with program_at("127.220.4.1") as port:
        world.apply(
            service("program", ports=[{"port": 8080}]),
            endpoint_slice("program-1", "program", [{"port": port}], [{"addresses": ["127.220.4.1"]}]),
        )
        address = world.vip("program")
        until(world, {"ok"}, lambda: outcome(world.ip("a"), address))
        policy("closed", "a", policyTypes=["Egress"])
        until(world, {"dropped"}, lambda: outcome(world.ip("a"), address))
        policy(
            "open", "a", policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "127.220.4.0/24"}}]}]
        )
        until(world, {"ok"}, lambda: outcome(world.ip("a"), address))


def test_18_23_a_service_is_judged_by_its_pods(world, policy):
    """The pod's port counts, not the Service's; a block of Service addresses admits nothing."""
    peer = {"podSelector": {"matchLabels": {"app": "server"}}}
    services = world.cluster.settings.config.ranges.services
    policy("by-block", "a", policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": services}}]}])
    until(world, {"dropped"}, lambda: outcome(world.ip("a"), world.vip("server"), 80))
    policy("by-port", "a", policyTypes=["Egress"], egress=[{"to": [peer], "ports": [{"port": 80}]}])
    assert outcome(world.ip("a"), world.vip("server"), 80) == "dropped"
    policy("by-port", "a", policyTypes=["Egress"], egress=[{"to": [peer], "ports": [{"port": 8080}]}])
    until(world, {"ok"}, lambda: outcome(world.ip("a"), world.vip("server"), 80))
    assert udp_outcome(world.ip("a"), world.vip("server"), 80) == "dropped"


def test_19_a_named_port_of_egress_is_the_destinations(world, policy):
    policy("named", "a", policyTypes=["Egress"], egress=[{"ports": [{"port": "web"}]}])
    until(world, {"dropped"}, lambda: udp_outcome(world.ip("a"), world.ip("server"), 8081))
    assert outcome(world.ip("a"), world.ip("server")) == "ok"
    assert outcome(world.ip("a"), world.ip("b")) == "dropped"


def test_9_ingress_isolation_on_every_way(world, policy):
    """An address that enters at any node may enter at the pod's own, which is always let in (29)."""
    policy("closed", "server", ingress=[])
    probes = [probe for source in (world.ip("a"), OUTSIDE) for probe in from_(source, world, shared=False)]
    until(world, {"dropped"}, *probes)


def syn(source: str, address: str, port: int) -> str:
    """What becomes of a connection attempt alone."""
    try:
        connect(source, address, port, DROPPED_SECONDS).close()
    except TimeoutError:
        return "dropped"
    return "ok"


def test_denied_clients_get_no_answer_to_their_syn(world, policy):
    if not world.cluster.plane.can_filter():
        pytest.skip("the kernel takes no socket filters from this user: connections are held once accepted")
    policy("closed", "a", policyTypes=["Egress"])
    tcp = [(address, port) for address, port, _ in ways(world)]
    until(world, {"dropped"}, *(partial(syn, world.ip("a"), *way) for way in tcp))
    until(world, {"ok"}, *(partial(syn, world.ip("b"), *way) for way in tcp))


def test_2_an_egress_rule_without_types_closes_ingress_too(world, policy):
    policy("no-types", "server", egress=[{}])
    until(world, {"dropped"}, lambda: outcome(world.ip("a"), world.ip("server")))


def test_11_a_port_without_anything_is_every_tcp_port(world, policy):
    policy("tcp", "server", ingress=[{"ports": [{}]}])
    until(world, {"dropped"}, lambda: udp_outcome(world.ip("a"), world.ip("server"), 8081))
    assert outcome(world.ip("a"), world.ip("server")) == "ok"


def test_5_policies_add_up(world, policy):
    def only(name: str) -> list[Any]:
        return [{"from": [{"podSelector": {"matchLabels": {"app": name}}}]}]

    policy("closed", "", ingress=[])
    until(world, {"dropped"}, lambda: outcome(world.ip("a"), world.ip("server")))
    policy("a", "server", ingress=only("a"))
    until(world, {"ok"}, lambda: outcome(world.ip("a"), world.ip("server")))
    assert outcome(world.ip("b"), world.ip("server")) == "dropped"
    policy("b", "server", ingress=only("b"))
    until(world, {"ok"}, lambda: outcome(world.ip("b"), world.ip("server")))
    assert outcome(world.ip("a"), world.ip("server")) == "ok"
    world.cluster.call(lambda client: client.delete(NetworkPolicy.resource, world.name, "a"))
    until(world, {"dropped"}, lambda: outcome(world.ip("a"), world.ip("server")))


def test_28_a_pod_always_reaches_itself(world, policy):
    policy("closed", "", policyTypes=["Ingress", "Egress"])
    until(world, {"dropped"}, lambda: outcome(world.ip("b"), world.ip("a")))
    assert outcome(world.ip("a"), world.ip("a")) == "ok"
    assert outcome(world.ip("a"), world.vip("a")) == "ok"
    assert udp_outcome(world.ip("a"), world.ip("a"), 8081) == "ok"


def test_29_32_a_new_pod_is_isolated_from_its_first_moment_and_probed_all_the_same(world, policy):
    policy("closed", "", policyTypes=["Ingress", "Egress"])
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}
    world.apply(pod("late", node="node-1", readinessProbe=probe))
    assert outcome(world.ip("a"), world.ip("late")) == "dropped"
    assert outcome(node_ip(world.cluster, "node-1"), world.ip("late")) == "ok"
    world.delete(Pod, "late", options={"gracePeriodSeconds": 0})


def resolution(source: str, at: str, port: int) -> str:
    """What becomes of a question over UDP and over TCP: `ok` or `dropped`, or `mixed`."""
    question = dns.message.make_query("server.policies.svc.cluster.local.", "A")
    found = set()
    for send in (dns.query.udp, dns.query.tcp):
        try:
            found.add(
                "ok" if send(question, at, timeout=0.6, port=port, source=source).answer else "no answer"
            )
        except (TimeoutError, dns.exception.Timeout):
            found.add("dropped")
    return found.pop() if len(found) == 1 else "mixed"


def test_24_no_dns_server_answers_an_isolated_pod(world, policy):
    config = world.cluster.settings.config
    if not world.cluster.plane.can_bind(world.ip("a").rpartition(".")[0] + ".250", 53):
        pytest.skip("ports below 1024 may not be bound: DNS answers at 1053")
    pods = world.cluster.objects(Pod, "kube-system", labels="k8s-app=kube-dns")
    servers = [
        (config.ranges.dns_service, 53),
        *((item.ip, 53) for item in pods),
        ("127.0.0.1", config.fixed_ports.dns),
    ]
    policy("closed", "a", policyTypes=["Egress"])
    until(world, {"dropped"}, lambda: outcome(world.ip("a"), world.ip("server")))
    until(world, {"dropped"}, *(partial(resolution, world.ip("a"), *server) for server in servers))
    until(world, {"ok"}, *(partial(resolution, world.ip("b"), *server) for server in servers))
    ports = [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    policy("dns", "a", policyTypes=["Egress"], egress=[{"to": [peer], "ports": ports}])
    until(world, {"ok"}, *(partial(resolution, world.ip("a"), *server) for server in servers[:-1]))
    assert outcome(world.ip("a"), world.ip("server")) == "dropped"


def test_33_a_reused_address_has_none_of_the_old_policies(world, policy):
    policy("closed", "old", ingress=[])
    world.apply(pod("old", node="node-1"))
    address = world.ip("old")
    until(world, {"dropped"}, lambda: outcome(world.ip("a"), address))
    world.delete(Pod, "old", options={"gracePeriodSeconds": 0})
    until(world, {"refused"}, lambda: outcome(world.ip("a"), address))
    world.apply(pod("new", node="node-1"))
    until(world, {"ok"}, lambda: outcome(world.ip("a"), world.ip("new")))
    world.delete(Pod, "new", options={"gracePeriodSeconds": 0})
