"""The policy engine at its size: 10,000 pods on 100 nodes, 1,000 policies, 100 namespaces."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from emu.core.addresses import to_int, to_str
from emu.core.objects import NetworkPolicy, Pod
from emu.core.policy import PolicyEngine

AIM_BUILD_SECONDS = 1.0
AIM_CHANGE_SECONDS = 0.020


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


def run() -> None:
    print("policy engine: 10,000 pods, 1,000 policies, 100 namespaces (processor time)")
    pods = [pod(number) for number in range(10_000)]
    policies = [policy(number) for number in range(1_000)]
    engine = PolicyEngine()

    def build() -> None:
        for item in pods:
            engine.set_pod(item)
        for item in policies:
            engine.set_policy(item)
        engine.sources(pods[0].ip, 80)

    print(f"  build                {seconds(build):8.3f} s    (aim <= {AIM_BUILD_SECONDS:.0f} s)")
    hosted = [item for item in pods if item.spec.node_name == "node-7"]

    def refresh() -> None:
        for item in hosted[:30]:
            engine.sources(item.ip, 80)

    refresh()
    for name, change in (
        ("one pod changed", lambda: engine.set_pod(pod(7, new="label"))),
        ("one pod removed", lambda: engine.remove_pod(pods[8].key)),
        ("one policy changed", lambda: engine.set_policy(policy(7, port=81))),
    ):
        took = seconds(change) + seconds(refresh)
        print(f"  {name:<20} {took * 1000:8.1f} ms   (aim <= {AIM_CHANGE_SECONDS * 1000:.0f} ms)")
    print()
