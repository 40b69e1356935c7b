"""The API server alone, on one core: creates, lists, the delay of watches, memory, start.

The server is a process of its own, bound to one core where there are two. Its clients are processes too;
they send requests that were built before over kept TLS connections, so that they are not what is measured.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from emu.client.kubeconfig import read_kubeconfig
from emu.cluster.config import component_environment

CREATES = 4000
PODS = 5000
EVENTS = 300
PATH = "/api/v1/namespaces/default/pods"
AIMS = {
    "creates": "aim 2,000/s",
    "list": "aim 150 ms",
    "delay": "aim p99 < 20 ms",
    "start": "aim < 0.5 s",
    "none": "no aim",
}


class Server(NamedTuple):
    """A running API server."""

    process: subprocess.Popen[bytes]
    port: int
    token: str
    ca: str

    def head(self, method: str, path: str, body: bytes = b"") -> bytes:
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Authorization: Bearer {self.token}",
            "Content-Type: application/json",
            "Accept: application/json",
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def private_bytes(self) -> int:
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_")) * 1024


@contextmanager
def serving() -> Iterator[tuple[Server, float]]:
    """An API server and the seconds until it was ready."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = directory / "emu.yaml"
        config.write_text(json.dumps({"ports": {"apiserver": port}}))
        arguments = [
            "apiserver",
            "--log-level",
            "warning",
            "--state-dir",
            str(directory / "state"),
            "--config",
            str(config),
        ]
        began = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "emu", *arguments], env=component_environment())
        try:
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(process.pid, cores[:1])
            kubeconfig = directory / "state" / "kubeconfig"
            # Written when it is ready.
            while not kubeconfig.exists():
                time.sleep(0.002)
            seconds = time.monotonic() - began
            credentials = read_kubeconfig(kubeconfig)
            yield Server(process, port, credentials.token, credentials.ca.decode()), seconds
        finally:
            process.terminate()
            process.wait()


def pod(name: str) -> bytes:
    """As short as clients in Go write it."""
    container = {
        "name": "web",
        "image": "nginx:1.27",
        "ports": [{"containerPort": 80}],
        "env": [{"name": "MODE", "value": "production"}],
    }
    labels = {"app": "web", "pod-template-hash": "5d4f8c7b9"}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels},
            "spec": {"containers": [container]},
        },
        separators=(",", ":"),
    ).encode()


def use_other_core() -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[1:] or cores)


# --- clients ---


class Client:
    """One kept connection; one request at a time."""

    def __init__(self, server: Server) -> None:
        context = ssl.create_default_context(cadata=server.ca)
        plain = socket.create_connection(("127.0.0.1", server.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        self.began = 0.0
        self._buffer = bytearray()

    def send(self, request: bytes) -> None:
        self.began = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bytes | None:
        """The answer's status line and body when it is complete. Call when readable."""
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the API server closed a connection")
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._buffer[:end])
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        if len(self._buffer) < end + 4 + length:
            return None
        self._buffer.clear()
        return head.split(b"\r\n")[0]

    def ask(self, request: bytes) -> float:
        """Seconds until the whole answer is there."""
        self.send(request)
        while (status := self.receive()) is None:
            pass
        if not status.split()[1].startswith(b"2"):
            raise RuntimeError(status.decode())
        return time.perf_counter() - self.began


def create(server: Server, clients: int, prefix: str, count: int, result: Connection) -> None:
    """Create `count` pods over so many connections, and give the latencies and the seconds in all."""
    use_other_core()
    requests = (server.head("POST", PATH, pod(f"{prefix}-{number}")) for number in range(count))
    ready = list(requests)[::-1]
    connections = [Client(server) for _ in range(clients)]
    latencies: list[float] = []
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        began = time.perf_counter()
        for connection in connections:
            connection.send(ready.pop())
        while len(latencies) < count:
            for key, _ in selector.select():
                connection = key.data
                status = connection.receive()
                if status is None:
                    continue
                if b" 201 " not in status:
                    raise RuntimeError(status.decode())
                latencies.append(time.perf_counter() - connection.began)
                if ready:
                    connection.send(ready.pop())
        result.send((latencies, time.perf_counter() - began))


def watch(server: Server, watchers: int, count: int, result: Connection) -> None:
    """Receive `count` events on each of so many watches, and give the times at which they came."""
    use_other_core()
    request = server.head("GET", f"{PATH}?watch=1&resourceVersion={_version(server)}")
    times: list[float] = []
    left = watchers * count
    with selectors.DefaultSelector() as selector:
        for _ in range(watchers):
            connection = Client(server)
            connection.send(request)
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.socket.recv(1 << 16)
            left -= data.count(b'{"type"')
            connection.socket.setblocking(False)
            selector.register(connection.socket, selectors.EVENT_READ, connection.socket)
        result.send("watching")
        while left:
            ready = selector.select(10)
            if not ready:
                raise RuntimeError(f"{left} events did not come")
            for key, _ in ready:
                try:
                    data = key.data.recv(1 << 16)
                except ssl.SSLWantReadError:
                    continue
                found = data.count(b'{"type"')
                times += [time.monotonic()] * found
                left -= found
        result.send(times)


def _version(server: Server) -> str:
    client = Client(server)
    client.socket.sendall(server.head("GET", "/api/v1/namespaces/default/secrets"))
    answer = client.socket.recv(1 << 16)
    while b'"resourceVersion":"' not in answer:
        answer += client.socket.recv(1 << 16)
    return answer.partition(b'"resourceVersion":"')[2].partition(b'"')[0].decode()


@contextmanager
def client(target: Any, *arguments: Any) -> Iterator[Connection]:
    """A process of a client, and what it sends."""
    spawning = mp.get_context("spawn")
    result, sending = spawning.Pipe(duplex=False)
    process = spawning.Process(target=target, args=(*arguments, sending), daemon=True)
    process.start()
    sending.close()
    yield result
    process.join()


def plain(server: Server) -> Server:
    """What a client process needs: the server's process cannot be passed on."""
    return server._replace(process=None)  # type: ignore[arg-type]


# --- figures ---


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] * 1000


def run() -> None:
    print("API server on one core, over TLS")
    starts = []
    for _ in range(3):
        with serving() as (_, seconds):
            starts.append(seconds)
    print(f"  start to /readyz, median of 3   {statistics.median(starts):8.2f} s     {AIMS['start']}")
    with serving() as (server, _):
        with client(create, plain(server), 1, "warm", 200) as result:
            result.recv()
        for clients in (1, 8, 64):
            creates(server, clients)
    with serving() as (server, _):
        lists(server)
    with serving() as (server, _):
        for watchers in (1, 200):
            delays(server, watchers)
    print()


def creates(server: Server, clients: int) -> None:
    before = server.cpu_seconds()
    with client(create, plain(server), clients, f"c{clients}", CREATES) as result:
        latencies, seconds = result.recv()
    cpu = (server.cpu_seconds() - before) / CREATES * 1e6
    print(
        f"  creates, {clients:>2} clients             {CREATES / seconds:8,.0f} /s    "
        f"p50 {quantile(latencies, 0.5):.2f} ms, p99 {quantile(latencies, 0.99):.2f} ms, "
        f"{cpu:.0f} us of the server's core each; {AIMS['creates'] if clients > 1 else AIMS['none']}"
    )


def lists(server: Server) -> None:
    with client(create, plain(server), 8, "warm", 200) as result:
        result.recv()
    before = server.private_bytes()
    with client(create, plain(server), 8, "pod", PODS) as result:
        result.recv()
    memory = (server.private_bytes() - before) / PODS * 1000 / (1 << 20)
    connection = Client(server)
    request = server.head("GET", PATH)
    table = request.replace(
        b"Accept: application/json", b"Accept: application/json;as=Table;v=v1;g=meta.k8s.io"
    )
    for title, asked, aim in (("", request, AIMS["list"]), (", as a Table", table, AIMS["none"])):
        seconds = statistics.median(connection.ask(asked) for _ in range(7))
        print(f"  list of {PODS:,} pods{title:<14} {seconds * 1000:8.0f} ms    {aim}")
    print(f"  memory for 1,000 pods           {memory:8.1f} MiB   with their history; {AIMS['none']}")


def delays(server: Server, watchers: int) -> None:
    writer = Client(server)
    with client(watch, plain(server), watchers, EVENTS) as result:
        result.recv()
        sent = []
        for number in range(EVENTS):
            request = server.head("POST", PATH, pod(f"w{watchers}-{number}"))
            sent.append(time.monotonic())
            writer.ask(request)
            time.sleep(0.02)
        times = sorted(result.recv())
    # Writes are far apart, so the events come in their order.
    late = [time - sent[place // watchers] for place, time in enumerate(times)]
    print(
        f"  write to event, {watchers:>3} watchers   {quantile(late, 0.5):9.1f} ms    "
        f"p99 {quantile(late, 0.99):.1f} ms; {AIMS['delay']}"
    )
