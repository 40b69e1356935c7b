"""What a cluster still lacks, in words."""

import msgspec
import pytest

from emu.cluster.readiness import missing, missing_nodes
from emu.core.config import parse_config
from emu.core.objects import Deployment, Node, Pod

CONFIG = parse_config({"nodes": [{"name": "node-1"}]})


def node(ready: str) -> Node:
    return msgspec.convert(
        {"metadata": {"name": "node-1"}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}, Node
    )


def pod(ready: str, **extra) -> Pod:
    conditions = [{"type": "Ready", "status": ready}]
    metadata = {"name": "p", "namespace": "default", **extra.pop("metadata", {})}
    return msgspec.convert({"metadata": metadata, "status": {"conditions": conditions, **extra}}, Pod)


def deployment(available: int, *, observed: int = 1, name: str = "coredns") -> Deployment:
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": "kube-system", "generation": 1},
            "spec": {"replicas": 2},
            "status": {"availableReplicas": available, "updatedReplicas": 2, "observedGeneration": observed},
        },
        Deployment,
    )


DNS = deployment(2)


@pytest.mark.parametrize(
    ("nodes", "deployments", "pods", "expected"),
    [
        ([node("True")], [DNS], [pod("True")], []),
        ([], [DNS], [], ["node node-1"]),
        ([node("Unknown")], [DNS], [], ["node node-1"]),
        ([node("True")], [], [], ["Deployment kube-system/coredns"]),
        ([node("True")], [deployment(1)], [], ["Deployment kube-system/coredns"]),
        ([node("True")], [deployment(2, observed=0)], [], ["Deployment kube-system/coredns"]),
        ([node("True")], [DNS, deployment(1, name="web")], [], ["Deployment kube-system/web"]),
        ([node("True")], [DNS], [pod("False")], ["Pod default/p"]),
        ([node("True")], [DNS], [pod("False", phase="Succeeded")], []),
        ([node("True")], [DNS], [pod("False", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})], []),
    ],
    ids=[
        "all is Ready",
        "a node is not there",
        "a node is not Ready",
        "DNS is not there",
        "DNS lacks a replica",
        "the controller has not seen the Deployment",
        "another Deployment lacks a replica",
        "a pod is not Ready",
        "a pod that ended is not waited for",
        "a pod that goes is not waited for",
    ],
)
def test_missing(nodes, deployments, pods, expected):
    assert missing(CONFIG, nodes, deployments, pods) == expected


def test_missing_nodes_names_each():
    config = parse_config({"nodes": [{"name": "a"}, {"name": "b"}]})
    assert missing_nodes(config, []) == ["node a", "node b"]
