"""20,000 connections through a ClusterIP that say nothing, and a client that comes after them."""

from __future__ import annotations

import multiprocessing
import socket
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import yaml

from emu.cluster.process import raise_descriptor_limit
from emu.core.objects import Service
from emu.testing import Cluster, running_cluster

CONNECTIONS = 20_000
CLIENTS = 4
NODES = ("node-1", "node-2", "node-3")
_PORT = 8080


def manifests() -> list[dict[str, object]]:
    container = {
        "name": "c",
        "image": "registry.k8s.io/e2e-test-images/agnhost:2.53",
        "args": ["netexec", f"--http-port={_PORT}"],
    }
    pods: list[dict[str, object]] = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"echo-{node}", "labels": {"app": "echo"}},
            "spec": {"nodeName": node, "containers": [container]},
        }
        for node in NODES
    ]
    service: dict[str, object] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "echo"},
        "spec": {"selector": {"app": "echo"}, "ports": [{"port": _PORT}]},
    }
    return [*pods, service]


def _say_nothing(pipe: Connection, address: str, source: str, count: int) -> None:
    raise_descriptor_limit()
    kept = [socket.create_connection((address, _PORT), 30, source_address=(source, 0)) for _ in range(count)]
    pipe.send(len(kept))
    pipe.recv()


def _megabytes(cluster: Cluster) -> dict[str, float]:
    """Private memory of the processes on the path."""
    found = {}
    for process in cluster.status()["processes"]:
        if process["name"] in ("proxy", *NODES):
            lines = Path(f"/proc/{process['pid']}/status").read_text().splitlines()
            kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            found[process["name"]] = kilobytes / 1024
    return found


def _answered(cluster: Cluster, address: str) -> float:
    began = time.perf_counter()
    assert cluster.dial("127.0.0.1", address, _PORT, "/hostname", seconds=30).status == 200
    return time.perf_counter() - began


def run() -> None:
    print(f"{CONNECTIONS:,} connections through a ClusterIP that say nothing")
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "manifests.yaml"
        file.write_text(yaml.safe_dump_all(manifests()))
        with running_cluster(file, arguments=["--nodes", str(len(NODES))]) as cluster:
            address = cluster.object(Service, "echo").spec.cluster_ip
            cluster.until(lambda: _answered(cluster, address), what="the Service is served")
            before = _megabytes(cluster)
            pipes = []
            began = time.perf_counter()
            for number in range(CLIENTS):
                ours, theirs = context.Pipe()
                arguments = (theirs, address, f"127.0.0.{number + 1}", CONNECTIONS // CLIENTS)
                context.Process(target=_say_nothing, args=arguments, daemon=True).start()
                pipes.append(ours)
            made = sum(pipe.recv() for pipe in pipes)
            taken_up = _answered(cluster, address)
            print(
                f"  {made:,} made and taken up in {time.perf_counter() - began:.1f} s, by {CLIENTS} clients"
            )
            print(f"  a new client is answered in {_answered(cluster, address) * 1000:.1f} ms", end="")
            print(f" ({taken_up * 1000:.0f} ms while the last of them are taken up)")
            for name, megabytes in _megabytes(cluster).items():
                print(f"  {name:<8} {megabytes:5.0f} MB private memory, {before[name]:.0f} MB before")
            for pipe in pipes:
                pipe.send(None)
    print()
