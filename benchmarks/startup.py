"""From `emu up` until all is Ready and reachable: 3 nodes, 12 pods, 4 Services, 2 policies."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import yaml

from emu.core.objects import Service
from emu.testing import running_cluster

ROUNDS = 5


def manifests() -> list[dict[str, object]]:
    documents: list[dict[str, object]] = []
    for name in ("a", "b", "c", "d"):
        labels = {"app": name}
        container = {
            "name": "agnhost",
            "image": "registry.k8s.io/e2e-test-images/agnhost:2.53",
            "args": ["netexec", "--http-port=8080"],
        }
        documents.append(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name},
                "spec": {
                    "replicas": 3,
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
                },
            }
        )
        documents.append(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"selector": labels, "ports": [{"port": 8080}]},
            }
        )
    return [*documents, *(_policy(name) for name in ("a", "b"))]


def _policy(name: str) -> dict[str, object]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"allow-{name}"},
        "spec": {"podSelector": {"matchLabels": {"app": name}}, "ingress": [{"ports": [{"port": 8080}]}]},
    }


def run() -> None:
    print("emu up: 3 nodes, 12 pods, 4 Services, 2 policies, until Ready and reachable")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "manifests.yaml"
        file.write_text(yaml.safe_dump_all(manifests()))
        seconds = []
        for _ in range(ROUNDS):
            started = time.monotonic()
            with running_cluster(file, arguments=["--nodes", "3"]) as cluster:
                services = cluster.objects(Service)
                for service in services:
                    if service.name != "kubernetes":
                        cluster.until(lambda service=service: _reachable(cluster, service), what=service.name)
                seconds.append(time.monotonic() - started)
    rounds = ", ".join(f"{second:.2f}" for second in seconds)
    print(f"  median of {ROUNDS}: {statistics.median(seconds):.2f} s   (all: {rounds})")
    print("  aim: <= 1.5 s\n")


def _reachable(cluster, service: Service) -> bool:
    try:
        return cluster.dial("127.0.0.1", service.spec.cluster_ip, 8080, "/hostname").status == 200
    except OSError:
        return False
