"""NetworkPolicies on real sockets: directions, protocols, names, blocks, changes while running."""

from __future__ import annotations

import asyncio
import socket

import pytest

from emu.client.resolver import ResolveError, Resolver
from emu.core.objects import NetworkPolicy, Node, Pod, Service
from emu.testing import Cluster, running_cluster

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}
spec:
  nodeName: {node}
  containers:
    - name: c
      image: agnhost
      args: [netexec, --http-port=8080, --udp-port=8081]
      ports: [{{name: web, containerPort: 8080}}]
---
"""

# `a` and `server` are on different nodes: what comes from a pod's own node is always let in.
MANIFESTS = (
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: other, labels: {team: blue}}\n---\n"
    + POD.format(name="server", namespace="default", node="node-1")
    + POD.format(name="a", namespace="default", node="node-2")
    + POD.format(name="b", namespace="default", node="node-2")
    + POD.format(name="c", namespace="other", node="node-2")
    + """
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  selector: {app: server}
  ports:
    - {name: http, port: 8080}
    - {name: udp, port: 8081, protocol: UDP}
"""
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    manifests = tmp_path_factory.mktemp("manifests") / "all.yaml"
    manifests.write_text(MANIFESTS)
    with running_cluster(manifests) as running:
        yield running


@pytest.fixture
def policy(cluster):
    """Put a policy in force for a test; `reaches` waits until the expectation comes true."""
    names = []

    def create(spec: dict) -> None:
        name = f"policy-{len(names)}"
        names.append(name)
        document = {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
        cluster.call(lambda client: client.create(NetworkPolicy.resource, document))

    yield create
    for name in names:
        cluster.call(lambda client, name=name: client.delete(NetworkPolicy.resource, "default", name))
    cluster.until(lambda: tcp(cluster, "a") and udp(cluster, "a"), what="everything is open again")


SERVER = {"podSelector": {"matchLabels": {"app": "server"}}}


def tcp(cluster: Cluster, client: str, *, through: str = "pod") -> bool:
    try:
        return cluster.dial(client, target(cluster, through), 8080, "/hostname", seconds=0.7).body == "server"
    except TimeoutError:
        return False


def udp(cluster: Cluster, client: str, *, through: str = "pod") -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((cluster.address(client), 0))
        sock.settimeout(0.7)
        sock.sendto(b"hostname", (target(cluster, through), 8081))
        try:
            return sock.recv(100) == b"server"
        except TimeoutError:
            return False


def target(cluster: Cluster, through: str) -> str:
    if through == "pod":
        return cluster.object(Pod, "server").ip
    return cluster.object(Service, "server").spec.cluster_ip


def expect(cluster: Cluster, *, admitted: tuple[str, ...], dropped: tuple[str, ...], probe=tcp) -> None:
    for through in ("pod", "service"):
        for client, expected in (*((name, True) for name in admitted), *((name, False) for name in dropped)):
            cluster.until(
                lambda client=client, through=through, expected=expected: (
                    probe(cluster, client, through=through) is expected
                ),
                what=f"{client} through the {through}: {expected}",
                seconds=5,
            )


def test_rule_9_an_empty_ingress_denies_all(cluster, policy):
    policy({**SERVER, "ingress": []})
    expect(cluster, admitted=(), dropped=("a", "other/c"))
    expect(cluster, admitted=(), dropped=("a", "other/c"), probe=udp)


def test_rule_13_namespace_selector(cluster, policy):
    policy({**SERVER, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}}]}]})
    expect(cluster, admitted=("other/c",), dropped=("a",))
    expect(cluster, admitted=("other/c",), dropped=("a",), probe=udp)


def test_rule_19_named_port_admits_its_protocol_only(cluster, policy):
    policy({**SERVER, "ingress": [{"ports": [{"port": "web"}]}]})
    expect(cluster, admitted=("a",), dropped=())
    expect(cluster, admitted=(), dropped=("a",), probe=udp)


def test_rule_20_end_port(cluster, policy):
    policy({**SERVER, "ingress": [{"ports": [{"port": 8081, "endPort": 8090, "protocol": "UDP"}]}]})
    expect(cluster, admitted=("a",), dropped=(), probe=udp)
    expect(cluster, admitted=(), dropped=("a",))


def test_rule_21_ip_block_with_except_matches_pods(cluster, policy):
    block = {
        "cidr": cluster.object(Node, "node-2", "").spec.pod_cidr,
        "except": [f"{cluster.address('b')}/32"],
    }
    policy({**SERVER, "ingress": [{"from": [{"ipBlock": block}]}]})
    expect(cluster, admitted=("a", "other/c"), dropped=("b", "127.0.0.1"))


def test_rule_24_egress_isolation_cuts_names_until_port_53_is_open(cluster, policy):
    resolver = Resolver(cluster.plane, cluster.settings.config, timeout=0.7, attempts=1)

    def resolves(pod: str) -> bool:
        try:
            return bool(asyncio.run(resolver.resolve("server", source=cluster.address(pod))))
        except ResolveError:
            return False

    subject = {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Egress"]}
    policy({**subject, "egress": []})
    cluster.until(lambda: not resolves("a"), what="a resolves nothing")
    assert resolves("b")
    expect(cluster, admitted=("b",), dropped=("a",))
    ports = [{"port": port, "protocol": protocol} for port in (53, 1053) for protocol in ("UDP", "TCP")]
    policy({**subject, "egress": [{"ports": ports}]})
    cluster.until(lambda: resolves("a"), what="a resolves again")
    assert not tcp(cluster, "a")


def test_rule_26_an_established_connection_is_kept(cluster, policy):
    request = b"GET /hostname HTTP/1.1\r\nHost: server\r\n\r\n"
    address = target(cluster, "pod")
    with socket.create_connection((address, 8080), 5, source_address=(cluster.address("a"), 0)) as sock:
        sock.sendall(request)
        assert b"server" in sock.recv(4096)
        policy({**SERVER, "ingress": []})
        expect(cluster, admitted=(), dropped=("a",))
        sock.sendall(request)
        assert b"server" in sock.recv(4096)


def test_rule_29_the_own_node_is_always_let_in_and_others_are_not(cluster, policy):
    policy({**SERVER, "ingress": []})
    expect(cluster, admitted=(), dropped=("a",))
    own, other = (cluster.object(Node, name, "").internal_ip for name in ("node-1", "node-2"))
    assert tcp(cluster, own)
    assert not tcp(cluster, other)


def test_rules_16_and_34_labels_and_deletion_take_effect(cluster, policy):
    policy({**SERVER, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}]}]})
    expect(cluster, admitted=("a",), dropped=("b",))
    patch = {"metadata": {"labels": {"app": "a"}}}
    cluster.call(lambda client: client.patch(Pod.resource, "default", "b", patch))
    expect(cluster, admitted=("a", "b"), dropped=("other/c",))
    patch = {"metadata": {"labels": {"app": "b"}}}
    cluster.call(lambda client: client.patch(Pod.resource, "default", "b", patch))
    expect(cluster, admitted=("a",), dropped=("b",))
