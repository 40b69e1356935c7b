"""One proxy process with 10,000 Service ports and 20,000 endpoints.

The proxy is fed with objects as the API server would send them, in a process of its own. This process is the
nodes that take its sockets, and the clients.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from emu.cluster.process import raise_descriptor_limit
from emu.core.config import ProxyMode
from emu.core.objects import Endpoints, EndpointSlice, NetworkPolicy, Node, Pod, Service
from emu.core.policy import PolicyEngine
from emu.planes.handover import Handover, HandoverReceiver
from emu.planes.loopback import LoopbackPlane
from emu.proxy.configuration import ProxyConfiguration
from emu.proxy.proxy import Proxy

PORTS = 10_000
FEW_PORTS = 10
CHANGES = 200
CONNECTIONS = 600
ROUNDS = 8
AIM_PROGRAMMED_SECONDS = 5.0
AIM_CHANGE_SECONDS = 0.010
AIM_MEGABYTES = 300

NODES = 2
_CLIENT = "127.125.0.9"
_PORT = 8000
_SAMPLE = 10
_AT_ONCE = 16


class World:
    """The objects and addresses of one proxy; several differ in the second octet of their addresses."""

    def __init__(self, octet: int) -> None:
        self._octet = octet

    def vip(self, number: int) -> str:
        return f"127.{self._octet}.{number // 250}.{number % 250 + 1}"

    def pod(self, number: int) -> str:
        """Pods alternate between the two nodes. Service n has pods 2n and 2n + 1."""
        return f"127.{self._octet + 2 + number % 2}.{number // 500}.{number // 2 % 250 + 2}"

    def node(self, number: int) -> Node:
        document = {
            "metadata": {"name": f"n{number}"},
            "spec": {
                "podCIDR": f"127.{self._octet + 2 + number}.0.0/16" if number < NODES else "127.1.2.0/24"
            },
            "status": {
                "addresses": [{"type": "InternalIP", "address": f"127.125.{self._octet}.{number + 10}"}]
            },
        }
        return msgspec.convert(document, Node)

    def service(self, number: int) -> bytes:
        name, namespace = f"service-{number}", f"ns-{number % 100}"
        document = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                **_metadata(name, namespace, number),
                "labels": {"app.kubernetes.io/name": name, "team": f"team-{number % 20}"},
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": self.vip(number),
                "clusterIPs": [self.vip(number)],
                "selector": {"app.kubernetes.io/name": name},
                "ports": [{"name": "http", "port": _PORT, "protocol": "TCP", "targetPort": "http"}],
                "sessionAffinity": "None",
                "internalTrafficPolicy": "Cluster",
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
            },
            "status": {"loadBalancer": {}},
        }
        return json.dumps(document).encode()

    def slice(self, number: int, pods: list[int]) -> bytes:
        name, namespace = f"service-{number}", f"ns-{number % 100}"
        document = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                **_metadata(f"{name}-abcde", namespace, number),
                "generateName": f"{name}-",
                "labels": {
                    "kubernetes.io/service-name": name,
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Service", "name": name, "uid": "u", "controller": True}
                ],
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": [self.pod(pod)],
                    "conditions": {"ready": True, "serving": True, "terminating": False},
                    "nodeName": f"n{pod % 2}",
                    "targetRef": {"kind": "Pod", "namespace": namespace, "name": f"{name}-{pod}", "uid": "u"},
                }
                for pod in pods
            ],
        }
        return json.dumps(document).encode()

    def endpoints(self, number: int, pods: list[int]) -> Endpoints:
        document = {
            "metadata": _metadata(f"service-{number}", f"ns-{number % 100}", number),
            "subsets": [
                {
                    "addresses": [{"ip": self.pod(pod), "nodeName": f"n{pod % 2}"} for pod in pods],
                    "ports": [{"name": "http", "port": 8080}],
                }
            ],
        }
        return msgspec.convert(document, Endpoints)

    def running_pod(self, number: int) -> Pod:
        document = {
            "metadata": {
                "name": f"pod-{number}",
                "namespace": f"ns-{number // 2 % 100}",
                "labels": {"app": f"service-{number // 2}"},
            },
            "spec": {"nodeName": f"n{number % 2}"},
            "status": {"phase": "Running", "podIP": self.pod(number)},
        }
        return msgspec.convert(document, Pod)


def _metadata(name: str, namespace: str, number: int) -> dict[str, str]:
    return {
        "name": name,
        "namespace": namespace,
        "uid": f"1b4e28ba-2fa1-11d2-883f-{number:012d}",
        "resourceVersion": str(number),
        "creationTimestamp": "2025-01-01T00:00:00Z",
    }


# --- the process of the proxy ---


class _Child:
    """Does what it is told over a pipe. What takes time answers with seconds."""

    def __init__(self, world: World, directory: Path) -> None:
        self.engine = PolicyEngine()
        self.proxy = Proxy(
            LoopbackPlane(),
            ProxyConfiguration(),
            self.engine,
            lambda name: directory / f"{name}.sock",
            lambda frontend, cause: print(f"  {cause}"),
            random.Random(1),
        )
        self._world = world
        self._slices: dict[int, EndpointSlice] = {}
        self._decode_service = msgspec.json.Decoder(Service).decode
        self._decode_slice = msgspec.json.Decoder(EndpointSlice).decode

    async def build(self, ports: int) -> float:
        """Take all objects in, and open all sockets."""
        for number in range(NODES):
            node = self._world.node(number)
            self.proxy.set_node(node.name, None, node)
        self.proxy.hold_back()
        seconds = 0.0
        for number in range(ports):
            bodies = self._world.service(number), self._world.slice(number, [2 * number, 2 * number + 1])
            began = time.perf_counter()
            service = self._decode_service(bodies[0])
            self.proxy.set_service(service.key, None, service)
            self._set_slice(number, bodies[1])
            seconds += time.perf_counter() - began
        began = time.perf_counter()
        self.proxy.synchronize()
        seconds += time.perf_counter() - began
        assert all(address in self.proxy.listeners for address in self.proxy.tables.frontends)
        return seconds

    async def change(self, number: int, pods: list[int]) -> float:
        """Give a Service other endpoints, and be answered by one of them."""
        body = self._world.slice(number, pods)
        began = time.perf_counter()
        self._set_slice(number, body)
        answer = await _reach(self._world.vip(number)) if pods else await asyncio.sleep(0)
        seconds = time.perf_counter() - began
        assert answer is None or answer in {self._world.pod(pod) for pod in pods}
        return seconds

    async def mode(self, mode: str) -> float:
        """Go over to a mode. The userspace mode reads Endpoints, which are known before."""
        if mode == ProxyMode.USERSPACE:
            for number in range(len(self._slices)):
                endpoints = self._world.endpoints(number, [2 * number, 2 * number + 1])
                self.proxy.set_endpoints(endpoints.key, None, endpoints)
        began = time.perf_counter()
        self.proxy.configure(self.proxy.configuration._replace(mode=ProxyMode(mode)))
        return await self._settled(began)

    async def node(self, number: int) -> float:
        """A Node is added, or says again what it has said."""
        node = self._world.node(number)
        began = time.perf_counter()
        self.proxy.set_node(node.name, None, node)
        await asyncio.sleep(0)
        return time.perf_counter() - began

    async def policy(self, ports: int) -> float:
        """The first NetworkPolicy: it isolates the pods of one Service."""
        for number in range(2 * ports):
            self.engine.set_pod(self._world.running_pod(number))
        document = {
            "metadata": {"name": "isolated", "namespace": "ns-7"},
            "spec": {"podSelector": {"matchLabels": {"app": "service-7"}}, "ingress": []},
        }
        self.engine.set_policy(msgspec.convert(document, NetworkPolicy))
        began = time.perf_counter()
        self.proxy.policies_changed()
        return await self._settled(began)

    async def cpu(self) -> float:
        return time.process_time()

    async def megabytes(self) -> float:
        """Private memory."""
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

    async def _settled(self, began: float) -> float:
        while not self.proxy.settled:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return time.perf_counter() - began

    def _set_slice(self, number: int, body: bytes) -> None:
        decoded = self._decode_slice(body)
        self.proxy.set_slice(decoded.key, self._slices.get(number), decoded)
        self._slices[number] = decoded


def _child(pipe: Connection, octet: int, directory: Path) -> None:
    asyncio.run(_obey(pipe, World(octet), directory))


async def _obey(pipe: Connection, world: World, directory: Path) -> None:
    raise_descriptor_limit()
    child = _Child(world, directory)
    commands: asyncio.Queue[tuple[Any, ...] | None] = asyncio.Queue()
    asyncio.get_running_loop().add_reader(pipe.fileno(), lambda: commands.put_nowait(pipe.recv()))
    while command := await commands.get():
        name, *arguments = command
        pipe.send(await getattr(child, name)(*arguments))
    child.proxy.close()


# --- nodes and clients ---


class _Scale:
    """A proxy of some size, and the ends of its connections."""

    def __init__(self, directory: Path, octet: int, ports: int) -> None:
        self.world = World(octet)
        self.ports = ports
        step = ports // _SAMPLE
        self.sample = [number * step + step // 2 for number in range(_SAMPLE)]
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_child, args=(theirs, octet, directory), daemon=True)
        self._process.start()

    async def tell(self, *command: Any) -> float:
        return await asyncio.to_thread(self._ask, command)

    def _ask(self, command: tuple[Any, ...]) -> float:
        self._pipe.send(command)
        answer: float = self._pipe.recv()
        return answer

    def stop(self) -> None:
        self._pipe.send(None)
        self._process.join()

    async def cost(self) -> float:
        """Seconds of processor time that a new connection costs the proxy."""
        addresses = [self.world.vip(number) for number in self.sample]
        await _connections(addresses, 8 * _SAMPLE)
        before = await self.tell("cpu")
        await _connections(addresses, CONNECTIONS)
        return (await self.tell("cpu") - before) / CONNECTIONS

    async def serve_pods(self) -> list[asyncio.Server]:
        """Servers for the userspace mode, which hands nothing over."""
        return [
            await asyncio.start_server(_answer_as(address), address, 8080)
            for number in self.sample
            for address in (self.world.pod(2 * number), self.world.pod(2 * number + 1))
        ]


def _answer_as(address: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
    def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(address.encode())
        writer.close()

    return answer


async def _reach(address: str) -> str:
    """The pod that answers a connection."""
    loop = asyncio.get_running_loop()
    while True:
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.bind((_CLIENT, 0))
            try:
                await loop.sock_connect(sock, (address, _PORT))
            except ConnectionRefusedError:
                await asyncio.sleep(0)
                continue
            return (await loop.sock_recv(sock, 100)).decode()


async def _connections(addresses: list[str], count: int) -> None:
    todo: Iterator[int] = iter(range(count))

    async def client() -> None:
        for number in todo:
            assert await _reach(addresses[number % len(addresses)])

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_AT_ONCE):
            tasks.create_task(client())


def _answer(sock: socket.socket, handover: Handover, ended: Callable[[], None]) -> None:
    sock.send(handover.endpoint.encode())
    sock.close()
    ended()


async def _measure(directory: Path) -> None:
    receivers = [HandoverReceiver(directory / f"n{number}.sock", _answer) for number in range(NODES)]
    for receiver in receivers:
        receiver.start()
    many, few = _Scale(directory, 120, PORTS), _Scale(directory, 124, FEW_PORTS)
    try:
        empty = await many.tell("megabytes")
        seconds = await many.tell("build", PORTS)
        _print("programmed", f"{seconds:.2f} s", f"aim < {AIM_PROGRAMMED_SECONDS:.0f} s")
        await _changes(many)
        await _print_walks(many)
        megabytes = await many.tell("megabytes")
        _print(
            "private memory", f"{megabytes:.0f} MB", f"aim < {AIM_MEGABYTES} MB; {empty:.0f} MB without any"
        )
        await few.tell("build", FEW_PORTS)
        await _costs(many, few)
    finally:
        many.stop()
        few.stop()
        for receiver in receivers:
            receiver.stop()


async def _changes(scale: _Scale) -> None:
    """Replace all endpoints of a Service, and give one its first, until a client is answered."""
    for title, emptied in (("endpoints replaced, in force", False), ("first endpoint, in force", True)):
        seconds = []
        for turn in range(CHANGES):
            number = turn * 37 % PORTS
            if emptied:
                await scale.tell("change", number, [])
            spare = 2 * PORTS + 2 * turn + emptied
            seconds.append(await scale.tell("change", number, [spare]))
        slowest = statistics.quantiles(seconds, n=100)[98]
        _print(
            title,
            f"{statistics.median(seconds) * 1000:.2f} ms",
            f"p99 {slowest * 1000:.2f} ms; aim < {AIM_CHANGE_SECONDS * 1000:.0f} ms",
        )


async def _print_walks(scale: _Scale) -> None:
    """What concerns all frontends at once."""
    for title, command in (
        ("a Node's heartbeat", ("node", 0)),
        ("another Node", ("node", NODES)),
        ("another mode", ("mode", "ipvs")),
        ("the first NetworkPolicy", ("policy", PORTS)),
    ):
        _print(title, f"{await scale.tell(*command) * 1000:.2f} ms", "")


async def _costs(many: _Scale, few: _Scale) -> None:
    servers = [*await many.serve_pods(), *await few.serve_pods()]
    print(f"  processor time of a new connection, {PORTS:,} ports against {FEW_PORTS}")
    for mode in ProxyMode:
        costs: dict[_Scale, list[float]] = {many: [], few: []}
        for scale in costs:
            await scale.tell("mode", mode.value)
        for _ in range(ROUNDS):
            for scale, found in costs.items():
                found.append(await scale.cost())
        best = [min(found) for found in costs.values()]
        _print(
            f"  {mode}",
            f"{best[0] / best[1]:.2f}",
            f"{best[0] * 1e6:.0f} us against {best[1] * 1e6:.0f} us; aim 1",
        )
    for server in servers:
        server.close()


def _print(title: str, figure: str, remark: str) -> None:
    print(f"  {title:<32} {figure:>12}" + (f"   ({remark})" if remark else ""))


def run() -> None:
    print(f"kube-proxy with {PORTS:,} Service ports and {2 * PORTS:,} endpoints")
    raise_descriptor_limit()
    with tempfile.TemporaryDirectory(prefix="emu-") as directory:
        asyncio.run(_measure(Path(directory)))
    print()
