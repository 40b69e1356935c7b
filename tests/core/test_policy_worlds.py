"""Random worlds, changed step by step: the engine agrees with the naive evaluator on every question."""

from __future__ import annotations

import os
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naive_policy import NaiveWorld

from emu.core.addresses import to_int
from emu.core.objects import Namespace, NetworkPolicy, Node, Pod
from emu.core.policy import PolicyEngine
from emu.core.ranges import contains

WORLDS = int(os.environ.get("EMU_TEST_WORLDS", "120"))

NAMESPACES = ("x", "y")
POD_ADDRESSES = [f"10.0.0.{last}" for last in range(2, 9)]
NODE_ADDRESSES = {"n1": "10.0.0.12", "n2": "10.0.0.13"}
POD_CIDRS = {"n1": "10.0.0.0/25", "n2": "10.0.1.0/29"}
ADDRESSES = [f"10.0.0.{last}" for last in range(16)] + ["10.0.1.1", "8.8.8.8"]
PORTS = [(80, "TCP"), (81, "TCP"), (80, "UDP"), (8080, "TCP"), (53, "UDP"), (80, "SCTP")]
BLOCKS = ["0.0.0.0/0", "10.0.0.0/28", "10.0.0.0/29", "10.0.0.4/30", "10.0.0.5/32", "10.0.0.12/31", "::/0"]
EXCEPTS = ["10.0.0.4/31", "10.0.0.6/32", "10.0.0.12/32", "fd00::/8"]

labels = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["a", "b", ""]))
expressions = st.one_of(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["app", "tier", "kubernetes.io/metadata.name"]),
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(st.sampled_from(["a", "b", "", "x", "y"]), min_size=1, max_size=2),
        }
    ),
    st.fixed_dictionaries(
        {"key": st.sampled_from(["app", "tier"]), "operator": st.sampled_from(["Exists", "DoesNotExist"])}
    ),
)
selectors = st.fixed_dictionaries(
    {}, optional={"matchLabels": labels, "matchExpressions": st.lists(expressions, max_size=1)}
)
ports = st.one_of(
    st.fixed_dictionaries({}, optional={"protocol": st.sampled_from(["TCP", "UDP", "SCTP", None])}),
    st.fixed_dictionaries(
        {"port": st.sampled_from([80, 81, 8080, 53, "http", "dns"])},
        optional={"protocol": st.sampled_from(["TCP", "UDP", "SCTP"])},
    ),
    st.just({"port": 80, "endPort": 81}),
    st.just({"port": 53, "endPort": 53, "protocol": "UDP"}),
)
peers = st.one_of(
    st.builds(lambda selector: {"podSelector": selector}, selectors),
    st.builds(lambda selector: {"namespaceSelector": selector, "podSelector": None}, selectors),
    st.builds(lambda left, right: {"namespaceSelector": left, "podSelector": right}, selectors, selectors),
    st.builds(
        lambda cidr, excepted: {"ipBlock": {"cidr": cidr, "except": excepted}},
        st.sampled_from(BLOCKS),
        st.lists(st.sampled_from(EXCEPTS), max_size=2),
    ),
)


def rules(peers_field: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                peers_field: st.one_of(st.none(), st.lists(peers, max_size=2)),
                "ports": st.one_of(st.none(), st.lists(ports, max_size=2)),
            },
        ),
        max_size=2,
    )


policies = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {"name": st.sampled_from(["p1", "p2", "p3"]), "namespace": st.sampled_from(NAMESPACES)}
        ),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "podSelector": st.one_of(st.none(), selectors),
                "policyTypes": st.one_of(
                    st.none(), st.lists(st.sampled_from(["Ingress", "Egress"]), max_size=2)
                ),
                "ingress": st.one_of(st.none(), rules("from")),
                "egress": st.one_of(st.none(), rules("to")),
            },
        ),
    }
)
container_ports = st.lists(
    st.sampled_from(
        [
            {"name": "http", "containerPort": 80},
            {"name": "http", "containerPort": 8080},
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns", "containerPort": 53},
        ]
    ),
    max_size=2,
)
pods = st.builds(
    lambda number, namespace, pod_labels, node, host_network, phase, named: {
        "metadata": {"name": f"pod-{number}", "namespace": namespace, "labels": pod_labels},
        "spec": {
            "nodeName": node,
            "hostNetwork": host_network,
            "containers": [{"name": "c", "ports": named}],
        },
        "status": {
            # Two pods of one number in different namespaces never exist together: see Worlds.apply.
            "podIP": NODE_ADDRESSES[node] if host_network else POD_ADDRESSES[number],
            "hostIP": NODE_ADDRESSES[node],
            "phase": phase,
        },
    },
    st.integers(0, len(POD_ADDRESSES) - 1),
    st.sampled_from(NAMESPACES),
    labels,
    st.sampled_from(["n1", "n2"]),
    st.sampled_from([False, False, False, False, True]),
    st.sampled_from(["Running", "Running", "Running", "Pending", "Succeeded", "Failed"]),
    container_ports,
)
namespaces = st.builds(
    lambda name, own: {"metadata": {"name": name, "labels": own}}, st.sampled_from(NAMESPACES), labels
)
nodes = st.builds(
    lambda name, with_cidr: {
        "metadata": {"name": name},
        "spec": {"podCIDR": POD_CIDRS[name]} if with_cidr else {},
        "status": {"addresses": [{"type": "InternalIP", "address": NODE_ADDRESSES[name]}]},
    },
    st.sampled_from(["n1", "n2"]),
    st.booleans(),
)
steps = st.one_of(
    st.tuples(st.just("policy"), policies),
    st.tuples(st.just("policy"), policies),
    st.tuples(st.just("pod"), pods),
    st.tuples(st.just("pod"), pods),
    st.tuples(st.just("pod"), pods),
    st.tuples(st.just("namespace"), namespaces),
    st.tuples(st.just("node"), nodes),
    st.tuples(
        st.sampled_from(["remove policy", "remove pod", "remove namespace", "remove node"]), st.integers(0, 9)
    ),
)


class Worlds:
    """One world told to both evaluators."""

    def __init__(self) -> None:
        self.naive = NaiveWorld()
        self.engine = PolicyEngine()

    def apply(self, step: str, value: Any) -> None:
        naive, engine = self.naive, self.engine
        match step:
            case "policy":
                key = f"{value['metadata']['namespace']}/{value['metadata']['name']}"
                naive.policies[key] = value
                engine.set_policy(msgspec.convert(value, NetworkPolicy))
            case "pod":
                for key in [key for key in naive.pods if key.endswith(value["metadata"]["name"])]:
                    del naive.pods[key]
                    engine.remove_pod(key)
                naive.pods[f"{value['metadata']['namespace']}/{value['metadata']['name']}"] = value
                engine.set_pod(msgspec.convert(value, Pod))
            case "namespace":
                naive.namespaces[value["metadata"]["name"]] = value
                engine.set_namespace(msgspec.convert(value, Namespace))
            case "node":
                naive.nodes[value["metadata"]["name"]] = value
                engine.set_node(msgspec.convert(value, Node))
            case _:
                self._remove(step.split()[1], value)

    def _remove(self, kind: str, number: int) -> None:
        kept = {"policy": "policies", "pod": "pods", "namespace": "namespaces", "node": "nodes"}[kind]
        known: dict[str, Any] = getattr(self.naive, kept)
        if known:
            key = sorted(known)[number % len(known)]
            del known[key]
            getattr(self.engine, f"remove_{kind}")(key)

    def compare(self, destinations: list[str]) -> None:
        for destination in destinations:
            for port, protocol in PORTS:
                reachable = self.engine.sources(destination, port, protocol)
                senders = self.engine.senders(destination, port, protocol)
                for source in ADDRESSES:
                    expected = self.naive.allowed(source, destination, port, protocol)
                    question = (source, destination, port, protocol)
                    assert contains(reachable, to_int(source)) is expected, question
                    if source in POD_ADDRESSES or destination in POD_ADDRESSES:
                        egress = self.engine.decide_egress(*question)
                        assert contains(senders, to_int(source)) is egress.allowed, (question, egress)
                        decision = self.engine.decide(*question)
                        assert decision.allowed is expected, (question, decision)
                        assert decision.reason.startswith("allowed: " if expected else "dropped: ")


@settings(
    max_examples=WORLDS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    st.lists(pods, min_size=6, max_size=6),
    st.lists(policies, min_size=2, max_size=4),
    st.lists(steps, min_size=1, max_size=6),
)
def test_engine_agrees_with_the_rules_after_each_change(
    first_pods: list[Any], first_policies: list[Any], changes: list[tuple[str, Any]]
) -> None:
    worlds = Worlds()
    for value in first_pods:
        worlds.apply("pod", value)
    for value in first_policies:
        worlds.apply("policy", value)
    for step, value in changes:
        # Asked before and after, so that nothing that was kept may be stale.
        worlds.compare(POD_ADDRESSES)
        worlds.apply(step, value)
    worlds.compare([*POD_ADDRESSES, "10.0.0.12", "8.8.8.8"])
