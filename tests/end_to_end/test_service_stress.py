"""What happens to clients of Services when processes die, and when there are too many of them."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from as_a_client import pod, service

from emu.core.objects import ConfigMap, Pod, Service
from emu.testing import Cluster, running_cluster

NODES = ("node-1", "node-2", "node-3")
SILENT = 2_000
SILENT_CLIENTS = Path(__file__).with_name("silent_clients.py")
BULK = 100_000
REQUEST = b"GET /hostname HTTP/1.1\r\nHost: a\r\n\r\n"


def manifests() -> list[object]:
    echo = [pod(f"echo-{node}", node=node, labels={"app": "echo"}) for node in NODES]
    return [
        *echo,
        service("echo", "echo"),
        pod("last", node="node-3"),
        service("last", "last"),
        {
            **pod("bulk", node="node-1"),
            "spec": {
                "nodeName": "node-1",
                "containers": [
                    {
                        "name": "c",
                        "image": "hashicorp/http-echo:1.0",
                        "args": ["-listen=:8080", f"-text={'x' * BULK}"],
                    }
                ],
            },
        },
        service("bulk", "bulk"),
    ]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("faults")
    (directory / "all.yaml").write_text(yaml.safe_dump_all(manifests()))
    (directory / "emu.yaml").write_text("nodeLifecycle: {leaseDurationSeconds: 2}\n")
    arguments = ["--nodes", str(len(NODES)), "--config", str(directory / "emu.yaml")]
    with running_cluster(directory / "all.yaml", arguments=arguments) as running:
        for name in ("echo", "last", "bulk"):
            running.until(lambda name=name: answers(running, name), what=f"{name} is served")
        yield running


def vip(cluster: Cluster, name: str) -> str:
    return cluster.object(Service, name).spec.cluster_ip


def answers(cluster: Cluster, name: str, seconds: float = 5.0) -> bool:
    try:
        return cluster.dial("127.0.0.1", vip(cluster, name), 8080, "/hostname", seconds=seconds).status == 200
    except OSError:
        return False


def pid(cluster: Cluster, name: str) -> int:
    return next(process["pid"] for process in cluster.status()["processes"] if process["name"] == name)


def descriptors(number: int) -> int:
    return len(list(Path(f"/proc/{number}/fd").iterdir()))


def megabytes(number: int) -> float:
    """Private memory of a process."""
    lines = Path(f"/proc/{number}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


@contextlib.contextmanager
def nothing_leaks(cluster: Cluster, *names: str, kept: int = 0) -> Iterator[None]:
    """In the end processes have no more descriptors than before, but for a few that they may keep."""
    # The proxy's channel to a node is opened by the first connection.
    address, seen = vip(cluster, "echo"), set()
    cluster.until(lambda: seen.add(answer(address)) or len(seen) == len(NODES), what="each node answers")
    before = {number: descriptors(number) for number in (pid(cluster, name) for name in names)}
    yield
    for number, count in before.items():
        cluster.until(
            lambda number=number, count=count: descriptors(number) <= count + kept,
            what="descriptors are closed",
        )


@contextlib.contextmanager
def in_mode(cluster: Cluster, mode: str) -> Iterator[None]:
    _set_mode(cluster, mode)
    try:
        yield
    finally:
        _set_mode(cluster, "iptables")


def _set_mode(cluster: Cluster, mode: str) -> None:
    data = {"config.conf": f"kind: KubeProxyConfiguration\nmode: {mode}\n"}
    cluster.call(lambda client: client.patch(ConfigMap.resource, "kube-system", "kube-proxy", {"data": data}))
    cluster.until(lambda: status(cluster, "/proxyMode") == mode, what=f"mode {mode}")


def status(cluster: Cluster, path: str) -> str:
    port = cluster.settings.config.fixed_ports.proxy_metrics
    return cluster.dial("127.0.0.1", "127.0.0.1", port, path).body


@contextlib.contextmanager
def silent(address: str, count: int, *sources: str) -> Iterator[None]:
    """So many connections that say nothing, as long as the block runs."""
    command = [sys.executable, str(SILENT_CLIENTS), address, "8080", str(count), *sources]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as clients:
        assert clients.stdout is not None
        assert clients.stdin is not None
        try:
            assert clients.stdout.readline() == f"{count}\n"
            yield
        finally:
            clients.stdin.close()


def connect(address: str) -> socket.socket:
    sock = socket.create_connection((address, 8080), 5, source_address=("127.0.0.1", 0))
    sock.settimeout(5)
    return sock


def ask(sock: socket.socket) -> bytes:
    """The name of the pod at the other end."""
    sock.sendall(REQUEST)
    return sock.recv(4096).rpartition(b"\r\n")[2]


def answer(address: str) -> bytes:
    """The name of a pod, by a connection of its own."""
    with connect(address) as sock:
        return ask(sock)


def served(address: str) -> bool:
    try:
        return answer(address).startswith(b"echo-")
    except OSError:
        return False


def is_reset(sock: socket.socket) -> bool:
    try:
        sock.recv(100)
    except ConnectionResetError:
        return True
    return False


def test_the_proxy_is_killed_connections_go_on_and_virtual_addresses_are_back(cluster):
    address = vip(cluster, "echo")
    with connect(address) as sock:
        first = ask(sock)
        killed = time.monotonic()
        cluster.kill("proxy")
        assert ask(sock) == first
        cluster.until(lambda: served(address), what="the virtual address is back")
        print(f"back after {time.monotonic() - killed:.2f} s")
        assert ask(sock) == first


@pytest.mark.parametrize("mode", ["iptables", "userspace"])
def test_connections_that_say_nothing_keep_nobody_out(cluster, mode):
    address = vip(cluster, "echo")
    with in_mode(cluster, mode), nothing_leaks(cluster, "proxy", *NODES):
        proxy = pid(cluster, "proxy")
        before = megabytes(proxy)
        with silent(address, SILENT, "127.0.0.1", "127.0.0.2"):
            assert served(address)
            assert megabytes(proxy) < before + 50


def test_clients_that_never_read_fill_no_memory(cluster):
    address = vip(cluster, "bulk")
    # A relay keeps four pipes at most for the next bulk.
    with in_mode(cluster, "userspace"), nothing_leaks(cluster, "proxy", "node-1", kept=8):
        processes = [pid(cluster, name) for name in ("proxy", "node-1")]
        before = [megabytes(process) for process in processes]
        with contextlib.ExitStack() as stack:
            for _ in range(10):
                sock = stack.enter_context(connect(address))
                # Requests for 100 MB, until nobody takes any more of them.
                sock.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    sock.sendall(REQUEST * (100_000_000 // BULK))
            assert answers(cluster, "bulk")
            for process, was in zip(processes, before, strict=True):
                assert megabytes(process) < was + 20


def test_without_descriptors_clients_wait_and_the_proxy_says_so_once(cluster):
    address = vip(cluster, "echo")
    with in_mode(cluster, "userspace"), nothing_leaks(cluster, "proxy"):
        proxy = pid(cluster, "proxy")
        before = shortages(cluster)
        soft, hard = resource.prlimit(proxy, resource.RLIMIT_NOFILE)
        with connect(address) as held:
            first = ask(held)
            highest = max(int(entry.name) for entry in Path(f"/proc/{proxy}/fd").iterdir())
            resource.prlimit(proxy, resource.RLIMIT_NOFILE, (highest + 12, hard))
            try:
                with silent(address, 40, "127.0.0.1"), connect(address) as late:
                    late.settimeout(0.3)
                    with pytest.raises(TimeoutError):
                        ask(late)
                    assert ask(held) == first
                cluster.until(lambda: served(address), what="clients are served again")
            finally:
                resource.prlimit(proxy, resource.RLIMIT_NOFILE, (soft, hard))
        assert shortages(cluster) == before + 1
        logs = (cluster.settings.state.logs / "proxy.log").read_text()
        assert logs.count("open files is reached") == 1


def shortages(cluster: Cluster) -> int:
    name = "emu_proxy_descriptor_shortages_total "
    line = next(line for line in status(cluster, "/metrics").splitlines() if line.startswith(name))
    return int(line.removeprefix(name))


def test_an_endpoint_that_ends_ends_its_connections_and_no_others(cluster, tmp_path):
    file = tmp_path / "pod.yaml"
    file.write_text(yaml.safe_dump(pod("brief", node="node-2", labels={"app": "echo"})))
    cluster.apply(file)
    address = vip(cluster, "echo")
    held: dict[bytes, socket.socket] = {}

    def held_at_all() -> bool:
        sock = connect(address)
        name = ask(sock)
        if name in held:
            sock.close()
        else:
            held[name] = sock
        return len(held) == 4

    with contextlib.ExitStack() as stack:
        cluster.until(held_at_all, what="each endpoint has a connection")
        for sock in held.values():
            stack.enter_context(sock)
        cluster.call(lambda client: client.delete(Pod.resource, "default", "brief"))
        with contextlib.suppress(ConnectionResetError):
            assert held.pop(b"brief").recv(100) == b""
        for name, sock in held.items():
            assert ask(sock) == name
        assert answers(cluster, "echo")


def test_a_node_process_dies_with_connections_on_their_way_to_it(cluster):
    address = vip(cluster, "last")
    node = pid(cluster, "node-3")
    with contextlib.ExitStack() as stack, nothing_leaks(cluster, "proxy"):
        held = stack.enter_context(connect(address))
        assert ask(held) == b"last"
        # It takes nothing any more: these wait in the channel from the proxy, and the one that it has
        # waits for an answer.
        os.kill(node, signal.SIGSTOP)
        waiting = [stack.enter_context(connect(address)) for _ in range(5)]
        for sock in (held, *waiting):
            sock.sendall(REQUEST)
        cluster.kill("node-3", hold=True)
        assert [is_reset(sock) for sock in (held, *waiting)] == [True] * 6
    cluster.until(
        lambda: all(answers(cluster, "echo", seconds=0.3) for _ in range(12)),
        what="only endpoints of living nodes are used",
    )
    cluster.start("node-3")
    cluster.until(lambda: answers(cluster, "last", seconds=0.3), what="the node serves again")
