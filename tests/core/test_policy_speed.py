"""The engine at the size that it is made for: 10,000 pods on 100 nodes, 1,000 policies, 100 namespaces."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from emu.core.addresses import to_int, to_str
from emu.core.objects import NetworkPolicy, Pod
from emu.core.policy import PolicyEngine

# The machine that runs the tests may be slow and busy; a wrong order of growth is far beyond this.
SLACK = 4


def pod(number: int, **labels: str) -> Pod:
    document = {
        "metadata": {
            "name": f"pod-{number}",
            "namespace": f"ns-{number % 100}",
            "labels": {"app": f"app-{number // 100 % 20}", "tier": ("web", "db")[number % 3 == 0], **labels},
        },
        "spec": {"nodeName": f"node-{number % 100}"},
        "status": {"podIP": to_str(to_int("10.0.0.2") + number % 100 * 256 + number // 100)},
    }
    return msgspec.convert(document, Pod)


def policy(number: int, port: int = 80) -> NetworkPolicy:
    peers: list[dict[str, Any]] = [
        {"podSelector": {"matchLabels": {"tier": "web"}}},
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": f"app-{number % 20}"}}},
    ]
    document = {
        "metadata": {"name": f"p-{number}", "namespace": f"ns-{number % 100}"},
        "spec": {
            "podSelector": {"matchLabels": {"app": f"app-{number // 100 % 20}"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers, "ports": [{"port": port}]}],
            "egress": [{"to": peers}, {"ports": [{"port": 53, "protocol": "UDP"}]}],
        },
    }
    return msgspec.convert(document, NetworkPolicy)


def seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def test_build_and_changes_cost_what_they_should() -> None:
    pods = [pod(number) for number in range(10_000)]
    policies = [policy(number) for number in range(1_000)]
    engine = PolicyEngine()

    def build() -> None:
        for item in pods:
            engine.set_pod(item)
        for item in policies:
            engine.set_policy(item)
        engine.sources(pods[0].ip, 80)

    assert seconds(build) < 1.0 * SLACK
    hosted = [item for item in pods if item.spec.node_name == "node-7"]

    def refresh() -> None:
        for item in hosted[:30]:
            engine.sources(item.ip, 80)

    refresh()
    for change in (
        lambda: engine.set_pod(pod(7, new="label")),
        lambda: engine.remove_pod(pods[8].key),
        lambda: engine.set_policy(policy(7, port=81)),
    ):
        assert seconds(change) + seconds(refresh) < 0.020 * SLACK
