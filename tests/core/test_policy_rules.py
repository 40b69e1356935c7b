"""One scenario, or several, for each rule of NetworkPolicy v1. The numbers are used in naive_policy.py too.

The world: node n1 (10.9.0.1, pods 10.0.1.0/24) and n2 (10.9.0.2, pods 10.0.2.0/24); in namespace x (team=red)
pods a and b (on n1), in y (team=blue) pods a (n1) and c (n2). Each serves `http` on 80/TCP, y/c on 8080/TCP.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from emu.core.addresses import to_int
from emu.core.objects import Namespace, NetworkPolicy, Node, Pod
from emu.core.policy import PolicyEngine
from emu.core.ranges import EVERYONE, contains

A, B, YA, YC = "10.0.1.2", "10.0.1.3", "10.0.1.4", "10.0.2.2"
NODE_1, NODE_2, BRIDGE_1 = "10.9.0.1", "10.9.0.2", "10.0.1.1"
OUTSIDE = "192.0.2.7"

Spec = dict[str, Any]


def pod(name: str, address: str, namespace: str = "x", node: str = "n1", **fields: Any) -> Pod:
    document = {
        "metadata": {"name": name, "namespace": namespace, "labels": fields.get("labels", {"pod": name})},
        "spec": {
            "nodeName": node,
            "hostNetwork": fields.get("host_network", False),
            "containers": [
                {
                    "name": "c",
                    "ports": fields.get("ports", [{"name": "http", "containerPort": 80}]),
                }
            ],
            "initContainers": fields.get("init", []),
        },
        "status": {"podIP": address, "phase": fields.get("phase", "Running")},
    }
    if fields.get("terminating"):
        document["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return msgspec.convert(document, Pod)


def namespace(name: str, labels: dict[str, str]) -> Namespace:
    return msgspec.convert({"metadata": {"name": name, "labels": labels}}, Namespace)


def node(name: str, address: str, cidr: str) -> Node:
    document = {
        "metadata": {"name": name},
        "spec": {"podCIDR": cidr},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }
    return msgspec.convert(document, Node)


def policy(spec: Spec, name: str = "p", own_namespace: str = "x") -> NetworkPolicy:
    return msgspec.convert(
        {"metadata": {"name": name, "namespace": own_namespace}, "spec": spec}, NetworkPolicy
    )


@pytest.fixture
def engine() -> PolicyEngine:
    built = PolicyEngine()
    built.set_node(node("n1", NODE_1, "10.0.1.0/24"))
    built.set_node(node("n2", NODE_2, "10.0.2.0/24"))
    built.set_namespace(namespace("x", {"team": "red"}))
    built.set_namespace(namespace("y", {"team": "blue"}))
    built.set_pod(pod("a", A))
    built.set_pod(pod("b", B))
    built.set_pod(pod("a", YA, "y"))
    built.set_pod(pod("c", YC, "y", "n2", ports=[{"name": "http", "containerPort": 8080}]))
    return built


def reaches(
    engine: PolicyEngine, source: str, destination: str, port: int = 80, protocol: str = "TCP"
) -> bool:
    """The engine's verdict, which must be the same by both of its questions."""
    decision = engine.decide(source, destination, port, protocol)
    assert contains(engine.sources(destination, port, protocol), to_int(source)) is decision.allowed
    return decision.allowed


SELECT_A = {"podSelector": {"matchLabels": {"pod": "a"}}}


def from_(*peers: Spec, ports: list[Spec] | None = None) -> Spec:
    """Pod a accepts only these peers."""
    rule: Spec = {"from": list(peers)}
    if ports is not None:
        rule["ports"] = ports
    return {**SELECT_A, "ingress": [rule]}


def ports(*entries: Spec) -> Spec:
    """Pod a accepts everyone on these ports."""
    return {**SELECT_A, "ingress": [{"ports": list(entries)}]}


def to(*peers: Spec, ports: list[Spec] | None = None) -> Spec:
    """Pod a may go only to these peers."""
    rule: Spec = {"to": list(peers)}
    if ports is not None:
        rule["ports"] = ports
    return {**SELECT_A, "policyTypes": ["Egress"], "egress": [rule]}


def labelled(**labels: str) -> Spec:
    return {"podSelector": {"matchLabels": labels}}


def team(name: str) -> Spec:
    return {"namespaceSelector": {"matchLabels": {"team": name}}}


def expression(key: str, operator: str, *values: str) -> Spec:
    return {"podSelector": {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}}


def block(cidr: str, *excepted: str) -> Spec:
    return {"ipBlock": {"cidr": cidr, "except": list(excepted)}}


DENY_INGRESS = {"podSelector": {}}
DENY_EGRESS = {"podSelector": {}, "policyTypes": ["Egress"]}

# (rule and what of it, spec of policy x/p, [(source, destination, port, protocol, allowed)])
SCENARIOS: list[tuple[str, Spec, list[tuple[str, str, int, str, bool]]]] = [
    ("1 own namespace only", DENY_INGRESS, [(YC, A, 80, "TCP", False), (A, YC, 80, "TCP", True)]),
    (
        "2 no policyTypes and an egress rule: both directions",
        {**SELECT_A, "egress": [{"to": [labelled(pod="b")]}]},
        [(A, B, 80, "TCP", True), (A, YC, 80, "TCP", False), (B, A, 80, "TCP", False)],
    ),
    (
        "2 no policyTypes and egress []: ingress only",
        {**SELECT_A, "egress": []},
        [(A, YC, 80, "TCP", True), (B, A, 80, "TCP", False)],
    ),
    (
        "2 policyTypes [] counts as missing",
        {**SELECT_A, "policyTypes": []},
        [(A, YC, 80, "TCP", True), (B, A, 80, "TCP", False)],
    ),
    (
        "3 a section whose type is not listed has no effect",
        {**SELECT_A, "policyTypes": ["Egress"], "ingress": [], "egress": [{}]},
        [(B, A, 80, "TCP", True), (A, B, 80, "TCP", True)],
    ),
    (
        "3 a listed type without a section denies everything",
        {**SELECT_A, "policyTypes": ["Ingress", "Egress"]},
        [(B, A, 80, "TCP", False), (A, B, 80, "TCP", False), (A, OUTSIDE, 80, "TCP", False)],
    ),
    (
        "3 duplicates are legal",
        {**SELECT_A, "policyTypes": ["Ingress", "Ingress"]},
        [(B, A, 80, "TCP", False), (A, B, 80, "TCP", True)],
    ),
    ("4 isolation is per direction", DENY_INGRESS, [(A, YC, 80, "TCP", True), (YC, A, 80, "TCP", False)]),
    ("4 not selected is open", from_(labelled(pod="b")), [(YC, B, 80, "TCP", True)]),
    (
        "7 outside is never restricted itself",
        DENY_EGRESS,
        [(OUTSIDE, A, 80, "TCP", True), (A, OUTSIDE, 80, "TCP", False), (OUTSIDE, OUTSIDE, 80, "TCP", True)],
    ),
    (
        "8 ports AND peers, never crossed between rules",
        {
            **SELECT_A,
            "ingress": [
                {"from": [labelled(pod="b")], "ports": [{"port": 80}]},
                {"from": [team("blue")], "ports": [{"port": 81}]},
            ],
        },
        [
            (B, A, 80, "TCP", True),
            (B, A, 81, "TCP", False),
            (YC, A, 80, "TCP", False),
            (YC, A, 81, "TCP", True),
        ],
    ),
    ("9 no rule denies all", {**SELECT_A, "ingress": []}, [(B, A, 80, "TCP", False)]),
    (
        "9 one empty rule allows all",
        {**SELECT_A, "ingress": [{}]},
        [(B, A, 80, "TCP", True), (OUTSIDE, A, 9, "SCTP", True)],
    ),
    (
        "10 from [] is every peer, external ones too",
        {**SELECT_A, "ingress": [{"from": [], "ports": [{"port": 80}]}]},
        [(OUTSIDE, A, 80, "TCP", True), (YC, A, 80, "TCP", True), (YC, A, 81, "TCP", False)],
    ),
    (
        "10 to null is every peer",
        {**SELECT_A, "policyTypes": ["Egress"], "egress": [{"to": None, "ports": [{"port": 80}]}]},
        [(A, OUTSIDE, 80, "TCP", True), (A, B, 80, "TCP", True), (A, B, 81, "TCP", False)],
    ),
    (
        "11 no ports is every port and protocol",
        from_(labelled(pod="b")),
        [(B, A, 1, "TCP", True), (B, A, 65535, "UDP", True), (B, A, 9, "SCTP", True)],
    ),
    (
        "11 ports [] is every port and protocol",
        from_(labelled(pod="b"), ports=[]),
        [(B, A, 1, "TCP", True), (B, A, 65535, "UDP", True)],
    ),
    ("11 ports [{}] is every TCP port", ports({}), [(B, A, 1, "TCP", True), (B, A, 1, "UDP", False)]),
    ("12 podSelector null is all pods", {"podSelector": None}, [(A, B, 80, "TCP", False)]),
    ("12 podSelector absent is all pods", {}, [(A, B, 80, "TCP", False)]),
    (
        "13 podSelector alone is the policy's namespace",
        from_(labelled(pod="a")),
        [(YA, A, 80, "TCP", False), (B, A, 80, "TCP", False)],
    ),
    (
        "13 namespaceSelector alone is all pods of these namespaces",
        from_(team("blue")),
        [(YA, A, 80, "TCP", True), (YC, A, 80, "TCP", True), (B, A, 80, "TCP", False)],
    ),
    (
        "13 both in one element: AND",
        from_({**team("blue"), **labelled(pod="c")}),
        [(YA, A, 80, "TCP", False), (YC, A, 80, "TCP", True), (B, A, 80, "TCP", False)],
    ),
    (
        "13 in two elements: OR",
        from_(team("blue"), labelled(pod="b")),
        [(YA, A, 80, "TCP", True), (YC, A, 80, "TCP", True), (B, A, 80, "TCP", True)],
    ),
    (
        "13 a null selector is an absent one",
        from_({"podSelector": {}, "namespaceSelector": None}),
        [(YA, A, 80, "TCP", False), (B, A, 80, "TCP", True)],
    ),
    (
        "13 {} selects all",
        from_({"namespaceSelector": {}}),
        [(YA, A, 80, "TCP", True), (B, A, 80, "TCP", True), (OUTSIDE, A, 80, "TCP", False)],
    ),
    ("14 In", from_(expression("pod", "In", "b", "c")), [(B, A, 80, "TCP", True)]),
    ("14 In needs the key", from_(expression("tier", "In", "")), [(B, A, 80, "TCP", False)]),
    ("14 Exists", from_(expression("pod", "Exists")), [(B, A, 80, "TCP", True)]),
    ("14 Exists needs the key", from_(expression("tier", "Exists")), [(B, A, 80, "TCP", False)]),
    ("14 DoesNotExist", from_(expression("pod", "DoesNotExist")), [(B, A, 80, "TCP", False)]),
    ("14 DoesNotExist, absent", from_(expression("tier", "DoesNotExist")), [(B, A, 80, "TCP", True)]),
    ("14 NotIn", from_(expression("pod", "NotIn", "b")), [(B, A, 80, "TCP", False)]),
    ("14 NotIn matches when absent", from_(expression("tier", "NotIn", "b")), [(B, A, 80, "TCP", True)]),
    ("14 an empty value needs the key", from_(labelled(tier="")), [(B, A, 80, "TCP", False)]),
    (
        "15 every namespace carries its name",
        from_({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "y"}}}),
        [(YA, A, 80, "TCP", True), (B, A, 80, "TCP", False)],
    ),
    ("17 protocol null is TCP", ports({"protocol": None, "port": 80}), [(B, A, 80, "TCP", True)]),
    (
        "17 an SCTP rule isolates and never admits TCP",
        ports({"protocol": "SCTP", "port": 80}),
        [(B, A, 80, "TCP", False), (B, A, 80, "SCTP", True)],
    ),
    (
        "18 no port is all of the protocol",
        ports({"protocol": "UDP"}),
        [(B, A, 53, "UDP", True), (B, A, 53, "TCP", False)],
    ),
    (
        "19 named port of the destination, for ingress",
        ports({"port": "http"}),
        [(B, A, 80, "TCP", True), (B, A, 8080, "TCP", False), (B, A, 80, "UDP", False)],
    ),
    (
        "19 named port of each destination, for egress",
        to({"namespaceSelector": {}}, ports=[{"port": "http"}]),
        [
            (A, B, 80, "TCP", True),
            (A, YC, 8080, "TCP", True),
            (A, YC, 80, "TCP", False),
            (A, B, 8080, "TCP", False),
        ],
    ),
    (
        "19 named port with an empty to means no outside",
        {**SELECT_A, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "http"}]}]},
        [(A, YC, 8080, "TCP", True), (A, OUTSIDE, 80, "TCP", False)],
    ),
    ("19 a name nobody has", ports({"port": "grpc"}), [(B, A, 80, "TCP", False)]),
    (
        "20 endPort is inclusive",
        ports({"port": 80, "endPort": 82}),
        [
            (B, A, 79, "TCP", False),
            (B, A, 80, "TCP", True),
            (B, A, 82, "TCP", True),
            (B, A, 83, "TCP", False),
        ],
    ),
    ("20 endPort may equal port", ports({"port": 80, "endPort": 80}), [(B, A, 80, "TCP", True)]),
    (
        "20 endPort for egress",
        to({"namespaceSelector": {}}, ports=[{"port": 80, "endPort": 82}]),
        [(A, YC, 81, "TCP", True), (A, YC, 83, "TCP", False)],
    ),
    (
        "21 ipBlock matches outside and pods",
        from_(block("192.0.2.0/24"), block("10.0.2.0/24")),
        [(OUTSIDE, A, 80, "TCP", True), (YC, A, 80, "TCP", True), (B, A, 80, "TCP", False)],
    ),
    (
        "21 except narrows its own block",
        from_(block("0.0.0.0/0", "10.0.0.0/16")),
        [(OUTSIDE, A, 80, "TCP", True), (YC, A, 80, "TCP", False)],
    ),
    (
        "21 except is no deny",
        from_(block("0.0.0.0/0", "10.0.0.0/16"), block("10.0.2.2/32")),
        [(YC, A, 80, "TCP", True), (B, A, 80, "TCP", False)],
    ),
    ("21 the other family matches nothing", from_(block("::/0")), [(YC, A, 80, "TCP", False)]),
    (
        "21 ipBlock for egress",
        to(block("10.0.2.0/24", "10.0.2.4/30")),
        [(A, YC, 80, "TCP", True), (A, "10.0.2.5", 80, "TCP", False), (A, OUTSIDE, 80, "TCP", False)],
    ),
    (
        "22 selectors never match outside",
        from_({"namespaceSelector": {}, "podSelector": {}}),
        [(OUTSIDE, A, 80, "TCP", False), (YC, A, 80, "TCP", True)],
    ),
    ("22 nodes are plain addresses", from_(block("10.9.0.2/32")), [(NODE_2, A, 80, "TCP", True)]),
    (
        "23 an egress block of virtual addresses admits no pod",
        to(block("10.96.0.0/12")),
        [(A, B, 80, "TCP", False), (A, YC, 80, "TCP", False)],
    ),
    ("24 DNS gets no exemption", to(labelled(pod="b")), [(A, YC, 53, "UDP", False)]),
    (
        "28 a pod always reaches itself",
        {**SELECT_A, "policyTypes": ["Ingress", "Egress"]},
        [(A, A, 80, "TCP", True), (A, A, 53, "UDP", True)],
    ),
    (
        "29 the own node always reaches its pods",
        DENY_INGRESS,
        [(NODE_1, A, 80, "TCP", True), (BRIDGE_1, A, 80, "TCP", True)],
    ),
    ("29 egress to the own node is judged", DENY_EGRESS, [(A, NODE_1, 80, "TCP", False)]),
    (
        "30 other nodes are not exempt",
        DENY_INGRESS,
        [(NODE_2, A, 80, "TCP", False), ("10.0.2.1", A, 80, "TCP", False)],
    ),
]


@pytest.mark.parametrize(
    ("spec", "questions"),
    [pytest.param(spec, questions, id=name) for name, spec, questions in SCENARIOS],
)
def test_rule(engine: PolicyEngine, spec: Spec, questions: list[tuple[str, str, int, str, bool]]) -> None:
    engine.set_policy(policy(spec))
    assert not engine.errors
    for source, destination, port, protocol, allowed in questions:
        assert reaches(engine, source, destination, port, protocol) is allowed, (source, destination, port)


def test_rule_4_without_policies_everything_is_allowed(engine: PolicyEngine) -> None:
    assert engine.empty
    assert engine.decide(YC, A, 80).reason == "allowed: there is no NetworkPolicy"
    assert engine.sources(A, 80) == EVERYONE


def test_rule_5_policies_add_up(engine: PolicyEngine) -> None:
    engine.set_policy(policy(DENY_INGRESS, "deny"))
    engine.set_policy(policy(from_(labelled(pod="b"), ports=[{"port": 80}]), "b"))
    engine.set_policy(policy(from_(team("blue"), ports=[{"port": 81}]), "blue"))
    assert reaches(engine, B, A, 80)
    assert reaches(engine, YC, A, 81)
    assert not reaches(engine, YC, A, 80)


def test_rule_6_both_sides_must_agree(engine: PolicyEngine) -> None:
    engine.set_policy(policy(to(team("blue")), "out"))
    assert reaches(engine, A, YC)
    engine.set_policy(policy(DENY_INGRESS, "in", "y"))
    assert not reaches(engine, A, YC)
    engine.set_policy(policy({"podSelector": {}, "ingress": [{}]}, "in", "y"))
    assert reaches(engine, A, YC)
    engine.set_policy(policy(DENY_EGRESS, "out"))
    assert not reaches(engine, A, YC)


def test_rule_16_labels_of_pods_as_subjects_and_peers(engine: PolicyEngine) -> None:
    engine.set_policy(policy(from_(labelled(role="client"))))
    assert not reaches(engine, B, A)
    assert engine.set_pod(pod("b", B, labels={"pod": "b", "role": "client"}))
    assert reaches(engine, B, A)
    engine.set_pod(pod("a", A, labels={"pod": "other"}))
    assert reaches(engine, YC, A)
    engine.set_pod(pod("a", A))
    assert not reaches(engine, YC, A)


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_rule_16_labels_of_namespaces(engine: PolicyEngine, direction: str) -> None:
    engine.set_policy(policy(from_(team("blue")) if direction == "ingress" else to(team("blue"))))
    ends = (YC, A) if direction == "ingress" else (A, YC)
    assert reaches(engine, *ends)
    assert engine.set_namespace(namespace("y", {"team": "green"}))
    assert not reaches(engine, *ends)
    engine.set_namespace(namespace("y", {"team": "blue"}))
    assert reaches(engine, *ends)
    engine.remove_namespace("y")
    assert not reaches(engine, *ends)


def test_rule_19_a_name_with_several_numbers_is_resolved_per_pod(engine: PolicyEngine) -> None:
    engine.set_policy(policy({"podSelector": {}, "ingress": [{"ports": [{"port": "http"}]}]}))
    engine.set_pod(pod("b", B, ports=[{"name": "http", "containerPort": 9000}]))
    assert reaches(engine, YC, A, 80)
    assert not reaches(engine, YC, A, 9000)
    assert reaches(engine, YC, B, 9000)
    assert not reaches(engine, YC, B, 80)


def test_rule_19_ports_of_sidecars_count_and_of_other_init_containers_do_not(engine: PolicyEngine) -> None:
    engine.set_policy(policy(ports({"port": "admin"})))
    init = {"name": "i", "ports": [{"name": "admin", "containerPort": 9000}]}
    engine.set_pod(pod("a", A, init=[init]))
    assert not reaches(engine, B, A, 9000)
    engine.set_pod(pod("a", A, init=[{**init, "restartPolicy": "Always"}]))
    assert reaches(engine, B, A, 9000)


def test_rule_31_pods_on_the_host_network_are_their_node(engine: PolicyEngine) -> None:
    engine.set_pod(pod("host", NODE_2, node="n2", labels={"pod": "host"}, host_network=True))
    engine.set_policy(policy(from_(labelled(pod="host"))))
    assert not reaches(engine, NODE_2, A)
    engine.set_policy(policy(from_(block("10.9.0.2/32"))))
    assert reaches(engine, NODE_2, A)
    engine.set_policy(policy({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}))
    assert reaches(engine, OUTSIDE, NODE_2)
    assert reaches(engine, NODE_2, YC)


def test_rule_32_a_new_pod_is_isolated_from_the_first_moment(engine: PolicyEngine) -> None:
    engine.set_policy(policy(DENY_INGRESS))
    assert reaches(engine, YC, "10.0.1.9")
    engine.set_pod(pod("new", "10.0.1.9", phase="Pending"))
    assert not reaches(engine, YC, "10.0.1.9")


def test_rule_33_terminating_pods_keep_their_policies_until_gone(engine: PolicyEngine) -> None:
    engine.set_policy(policy(from_(labelled(pod="b"))))
    assert not engine.set_pod(pod("a", A, terminating=True))
    assert not engine.set_pod(pod("b", B, terminating=True))
    assert not reaches(engine, YC, A)
    assert reaches(engine, B, A)
    engine.remove_pod("x/b")
    assert not reaches(engine, B, A)
    engine.remove_pod("x/a")
    assert reaches(engine, YC, A)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_rule_33_a_reused_address_inherits_nothing(engine: PolicyEngine, phase: str) -> None:
    engine.set_policy(policy(from_(labelled(pod="b"))))
    engine.set_pod(pod("b", B, phase=phase))
    assert not reaches(engine, B, A)
    engine.set_pod(pod("d", B, "y"))
    assert not reaches(engine, B, A)
    engine.set_pod(pod("b", B))
    engine.set_pod(pod("d", B, "y"))
    # The API still has the pod that left: who got the address last has it.
    engine.set_pod(pod("e", B, "y"))
    engine.set_pod(pod("b", B, labels={"pod": "b", "changed": "yes"}))
    assert not reaches(engine, B, A)
    engine.remove_pod("y/e")
    engine.remove_pod("y/d")
    assert reaches(engine, B, A)


def test_rule_34_deleting_lifts_and_updates_replace(engine: PolicyEngine) -> None:
    engine.set_policy(policy(from_(labelled(pod="b"))))
    assert not reaches(engine, YC, A)
    assert engine.set_policy(policy(from_(team("blue"))))
    assert reaches(engine, YC, A)
    assert not reaches(engine, B, A)
    assert engine.remove_policy("x/p")
    assert not engine.remove_policy("x/p")
    assert engine.empty
    assert reaches(engine, B, A)


# What the API server refuses (rules 35 to 39) must not open anything, should it reach the engine.
BROKEN = {
    "35 protocol": ports({"protocol": "ICMP", "port": 80}),
    "35 port number": ports({"port": 70000}),
    "35 endPort without port": ports({"endPort": 80}),
    "35 endPort with a name": ports({"port": "http", "endPort": 80}),
    "35 endPort below port": ports({"port": 80, "endPort": 79}),
    "36 a peer without fields": from_({}),
    "36 ipBlock with a selector": from_({**block("0.0.0.0/0"), "podSelector": {}}),
    "37 cidr": from_(block("10.0.0.0/33")),
    "37 cidr without a length": from_(block("10.0.0.1")),
    "37 except": from_(block("0.0.0.0/0", "nonsense")),
    "38 operator": from_(expression("pod", "Like", "b")),
    "38 In without values": from_(expression("pod", "In")),
    "38 Exists with values": from_(expression("pod", "Exists", "b")),
    "38 subject": {**expression("pod", "Like", "a"), "ingress": [{}]},
    "39 policyTypes": {**SELECT_A, "policyTypes": ["ingress"], "ingress": [{}]},
}


@pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in BROKEN.items()])
def test_what_cannot_be_compiled_closes_its_subjects(engine: PolicyEngine, spec: Spec) -> None:
    engine.set_policy(policy(spec))
    assert list(engine.errors) == ["x/p"]
    assert not reaches(engine, B, A)
    assert not reaches(engine, YC, A)
    decision = engine.decide(B, A, 80)
    assert "x/p cannot be compiled and admits nobody (spec." in decision.reason
    engine.set_policy(policy({**SELECT_A, "ingress": [{}]}))
    assert not engine.errors
    assert reaches(engine, B, A)


REASONS = [
    (
        from_(labelled(pod="b"), ports=[{"port": 80}]),
        (B, A, 80),
        "allowed: ingress rule 1 of NetworkPolicy x/p admits the peer x/b (pod=b) on port 80/TCP",
    ),
    (
        from_(labelled(pod="b"), ports=[{"port": 80}]),
        (YC, A, 80),
        "dropped: ingress of x/a is isolated by NetworkPolicy x/p; "
        "its rule 1 matches port 80/TCP but not the peer y/c (pod=c)",
    ),
    (
        from_(labelled(pod="b"), ports=[{"port": 80}, {"port": "http"}, {"port": 90, "endPort": 99}]),
        (B, A, 81),
        "dropped: ingress of x/a is isolated by NetworkPolicy x/p; "
        "its rule 1 matches the peer x/b (pod=b) but not port 81/TCP (only 80/TCP, http/TCP, 90-99/TCP)",
    ),
    (
        from_(labelled(pod="b"), ports=[{"port": 80}]),
        (OUTSIDE, A, 81),
        "dropped: ingress of x/a is isolated by NetworkPolicy x/p; "
        "its rule 1 matches neither port 81/TCP nor the peer 192.0.2.7 (no pod)",
    ),
    (
        DENY_INGRESS,
        (B, A, 80),
        "dropped: ingress of x/a is isolated by NetworkPolicy x/p, which admits nobody",
    ),
    (
        DENY_EGRESS,
        (A, OUTSIDE, 443),
        "dropped: egress of x/a is isolated by NetworkPolicy x/p, which admits nobody",
    ),
    (DENY_INGRESS, (NODE_1, A, 80), "allowed: 10.9.0.1 is node n1, which may always reach its own pod x/a"),
    (DENY_INGRESS, (A, A, 80), "allowed: x/a may always reach itself"),
    (DENY_INGRESS, (A, YC, 80), "allowed: no NetworkPolicy isolates egress of x/a or ingress of y/c"),
    (DENY_INGRESS, (OUTSIDE, NODE_1, 80), "allowed: neither end is a pod"),
]


@pytest.mark.parametrize(("spec", "question", "reason"), REASONS)
def test_reason(engine: PolicyEngine, spec: Spec, question: tuple[str, str, int], reason: str) -> None:
    engine.set_policy(policy(spec))
    assert engine.decide(*question).reason == reason


def test_reason_names_all_that_isolate_and_the_rule_that_came_nearest(engine: PolicyEngine) -> None:
    engine.set_policy(policy(DENY_INGRESS, "deny"))
    engine.set_policy(policy(from_(labelled(pod="z"), ports=[{"port": 80}]), "near"))
    decision = engine.decide(B, A, 80)
    assert decision.policies == ("x/deny", "x/near")
    assert decision.reason == (
        "dropped: ingress of x/a is isolated by NetworkPolicies x/deny, x/near; "
        "of x/near, rule 1 matches port 80/TCP but not the peer x/b (pod=b)"
    )


def test_reason_of_both_sides(engine: PolicyEngine) -> None:
    engine.set_policy(policy(to(team("blue")), "out"))
    engine.set_policy(policy({"podSelector": {}, "ingress": [{}]}, "in", "y"))
    decision = engine.decide(A, YC, 8080)
    assert decision.policies == ("x/out", "y/in")
    assert decision.reason == (
        "allowed: egress rule 1 of NetworkPolicy x/out admits the peer y/c (pod=c) on port 8080/TCP; "
        "ingress rule 1 of NetworkPolicy y/in admits the peer x/a (pod=a) on port 8080/TCP"
    )


def test_an_unchanged_object_is_no_change(engine: PolicyEngine) -> None:
    assert not engine.set_pod(pod("a", A))
    assert not engine.set_namespace(namespace("x", {"team": "red"}))
    assert not engine.set_node(node("n1", NODE_1, "10.0.1.0/24"))
    assert engine.set_policy(policy(DENY_INGRESS))
    assert not engine.set_policy(policy(DENY_INGRESS))
    assert not engine.remove_pod("x/unknown")


def test_the_own_node_is_known_by_the_pod_before_the_node_is(engine: PolicyEngine) -> None:
    engine.remove_node("n1")
    engine.set_policy(policy(DENY_INGRESS))
    assert not reaches(engine, NODE_1, A)
    status = msgspec.structs.replace(pod("a", A).status, host_ip=NODE_1)
    assert engine.set_pod(msgspec.structs.replace(pod("a", A), status=status))
    assert reaches(engine, NODE_1, A)


def test_what_is_no_ipv4_address_is_no_pod_and_in_no_block(engine: PolicyEngine) -> None:
    engine.set_policy(policy(from_(block("0.0.0.0/0"))))
    assert not engine.decide("::1", A, 80).allowed
    engine.set_policy(policy({**SELECT_A, "ingress": [{}]}))
    assert engine.decide("::1", A, 80).allowed
