"""A ClusterIP against a direct connection to the pod behind it, in each mode of kube-proxy."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

from benchmarks.load import Figures, available, load
from emu.core.objects import ConfigMap, Pod, Service
from emu.testing import Cluster, running_cluster

ROUNDS = 3
MODES = ("iptables", "ipvs", "nftables", "userspace")
AIMS = {"requests/s, kept connections": 0.97, "new connections/s": 0.80, "bulk bytes/s": 0.97}
BULK_BYTES = 100_000


def manifests() -> list[dict[str, object]]:
    pods = {
        "small": {
            "image": "registry.k8s.io/e2e-test-images/agnhost:2.53",
            "args": ["netexec", "--http-port=8080"],
        },
        "bulk": {"image": "hashicorp/http-echo:1.0", "args": ["-listen=:8080", f"-text={'x' * BULK_BYTES}"]},
    }
    documents: list[dict[str, object]] = []
    for name, container in pods.items():
        documents.append(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": name}},
                "spec": {"containers": [{"name": "c", **container}]},
            }
        )
        documents.append(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"selector": {"app": name}, "ports": [{"port": 8080}]},
            }
        )
    return documents


def run() -> None:
    print("ClusterIP against the pod itself")
    if not available():
        print("  not measured: wrk is not installed (apt-get install wrk)\n")
        return
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "manifests.yaml"
        file.write_text(yaml.safe_dump_all(manifests()))
        with running_cluster(file) as cluster:
            for mode in MODES:
                _set_mode(cluster, mode)
                _compare(cluster, mode)
    print()


def _set_mode(cluster: Cluster, mode: str) -> None:
    data = {"config.conf": f'kind: KubeProxyConfiguration\nmode: "{mode}"\n'}
    cluster.call(lambda client: client.patch(ConfigMap.resource, "kube-system", "kube-proxy", {"data": data}))
    port = cluster.settings.config.fixed_ports.proxy_metrics
    cluster.until(
        lambda: cluster.dial("127.0.0.1", "127.0.0.1", port, "/proxyMode").body.strip() == mode,
        what=f"mode {mode}",
    )


def _compare(cluster: Cluster, mode: str) -> None:
    measures: dict[str, tuple[str, str, Callable[[str], Figures], Callable[[Figures], float]]] = {
        "requests/s, kept connections": (
            "small",
            "/hostname",
            lambda url: load(url, connections=32),
            lambda figures: figures.requests_per_second,
        ),
        "new connections/s": (
            "small",
            "/hostname",
            lambda url: load(url, connections=32, close=True),
            lambda figures: figures.requests_per_second,
        ),
        "bulk bytes/s": (
            "bulk",
            "/",
            lambda url: load(url, connections=8),
            lambda figures: figures.bytes_per_second,
        ),
    }
    print(f"  {mode}")
    for title, (name, path, measure, figure) in measures.items():
        direct_url = f"http://{cluster.object(Pod, name).ip}:8080{path}"
        service_url = f"http://{cluster.object(Service, name).spec.cluster_ip}:8080{path}"
        direct, service, errors = [], [], 0
        for _ in range(ROUNDS):
            for url, into in ((direct_url, direct), (service_url, service)):
                figures = measure(url)
                into.append(figure(figures))
                errors += figures.errors
        ratio = statistics.median(service) / statistics.median(direct)
        aim = f"aim {AIMS[title]:.2f}" if mode != "userspace" else "a relay, no aim"
        print(
            f"    {title:<30} {ratio:5.2f}   ({statistics.median(service):,.0f} against "
            f"{statistics.median(direct):,.0f}; {aim}{f'; {errors} errors' if errors else ''})"
        )
