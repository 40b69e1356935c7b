"""A proxy on addresses of its own, fed with objects instead of an API server."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from emu.core.config import ProxyMode
from emu.core.objects import Endpoints, EndpointSlice, NetworkPolicy, Node, Pod, Service
from emu.core.policy import PolicyEngine
from emu.planes.loopback import LoopbackPlane
from emu.proxy.configuration import ProxyConfiguration
from emu.proxy.proxy import Proxy
from emu.proxy.tables import Frontend

from .receiver import TestNode

_corner = itertools.count()


class Bench:
    """A proxy with two nodes. Addresses differ from test to test and from worker to worker."""

    def __init__(self, directory: Path) -> None:
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
        third = (worker * 32 + next(_corner) % 32) % 256
        self.base = f"127.202.{third}"
        self.vip = f"{self.base}.200"
        self.directory = directory
        self.engine = PolicyEngine()
        self.unbound: list[tuple[str, str]] = []
        self.nodes: dict[str, TestNode] = {}
        self.proxy = Proxy(
            LoopbackPlane(),
            ProxyConfiguration(),
            self.engine,
            lambda node: directory / f"{node}.sock",
            self._report,
            Random(1),
        )
        self._services: dict[str, Service] = {}
        self._slices: dict[str, EndpointSlice] = {}

    def _report(self, frontend: Frontend, cause: str) -> None:
        self.unbound.append((frontend.port.name, cause))

    def ip(self, last: int) -> str:
        return f"{self.base}.{last}"

    async def start(self) -> None:
        """Node n1 has pods .2-.62 and address .240, node n2 has pods .66-.126 and address .241."""
        for name in ("n1", "n2"):
            node = self.node(name)
            self.proxy.set_node(name, None, node)
            self.engine.set_node(node)
            self.nodes[name] = TestNode(self.directory / f"{name}.sock")
            await self.nodes[name].start()

    def node(self, name: str) -> Node:
        number = int(name[1:])
        document = {
            "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": f"z{number}"}},
            "spec": {"podCIDR": f"{self.base}.{(number - 1) * 64}/26"},
            "status": {"addresses": [{"type": "InternalIP", "address": self.ip(239 + number)}]},
        }
        return msgspec.convert(document, Node)

    def configure(self, **changes: Any) -> None:
        self.proxy.configure(self.proxy.configuration._replace(**changes))

    def mode(self, mode: str, scheduler: str = "rr") -> None:
        self.configure(mode=ProxyMode(mode), scheduler=scheduler)

    def service(
        self,
        name: str = "web",
        status: dict[str, Any] | None = None,
        annotations: dict[str, str] | None = None,
        created: str = "",
        **spec: Any,
    ) -> None:
        metadata = {"name": name, "namespace": "default", "creationTimestamp": created}
        document = {
            "metadata": {**metadata, "annotations": annotations or {}},
            "spec": {"clusterIP": self.vip, "ports": [{"port": 8000, "protocol": "TCP"}], **spec},
            "status": status or {},
        }
        service = msgspec.convert(document, Service)
        self.proxy.set_service(service.key, self._services.get(service.key), service)
        self._services[service.key] = service
        self.proxy.synchronize()

    def delete_service(self, name: str = "web") -> None:
        self.proxy.set_service(f"default/{name}", self._services.pop(f"default/{name}"), None)
        self.proxy.synchronize()

    def endpoints(
        self, *endpoints: dict[str, Any] | int, port: int = 8080, protocol: str = "TCP", name: str = "web"
    ) -> None:
        """Endpoints by the last octet of the pod, or as slices have them; the node follows from the octet.

        An Endpoints object says the same of those that are ready.
        """
        listed = [
            {"addresses": [self.ip(e)], "nodeName": "n1" if e < 64 else "n2"} if isinstance(e, int) else e
            for e in endpoints
        ]
        document = {
            "metadata": {
                "name": f"{name}-1",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": name},
            },
            "ports": [{"name": "", "port": port, "protocol": protocol}],
            "endpoints": listed,
        }
        slice_ = msgspec.convert(document, EndpointSlice)
        self.proxy.set_slice(slice_.key, self._slices.get(slice_.key), slice_)
        ready = [{"ip": e["addresses"][0], "nodeName": e.get("nodeName")} for e in listed if _is_ready(e)]
        subset = {"addresses": ready, "ports": [{"port": port, "protocol": protocol}]}
        objects = {"metadata": {"name": name, "namespace": "default"}, "subsets": [subset]}
        self.proxy.set_endpoints(f"default/{name}", None, msgspec.convert(objects, Endpoints))
        self._slices[slice_.key] = slice_
        self.proxy.synchronize()

    def pod(self, last: int, **labels: str) -> None:
        document = {
            "metadata": {"name": f"pod-{last}", "namespace": "default", "labels": labels},
            "spec": {"nodeName": "n1" if last < 64 else "n2"},
            "status": {"phase": "Running", "podIP": self.ip(last)},
        }
        self.engine.set_pod(msgspec.convert(document, Pod))

    def policy(self, name: str, **spec: Any) -> None:
        document = {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
        self.engine.set_policy(msgspec.convert(document, NetworkPolicy))
        self.proxy.policies_changed()

    async def ask(self, source: str, address: str, port: int, timeout: float = 5.0) -> list[str]:
        """`[pod, client the pod saw, how]`; raises as the client sees it."""
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.bind((source, 0))
            async with asyncio.timeout(timeout):
                await loop.sock_connect(sock, (address, port))
                data = await loop.sock_recv(sock, 1000)
        return data.decode().split()

    async def spread(self, source: str, count: int, port: int = 8000) -> list[str]:
        return [(await self.ask(source, self.vip, port))[0] for _ in range(count)]

    def stop(self) -> None:
        self.proxy.close()
        for node in self.nodes.values():
            node.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody tells of."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def _is_ready(endpoint: dict[str, Any]) -> bool:
    return bool(endpoint.get("conditions", {}).get("ready", True))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    await bench.start()
    try:
        yield bench
    finally:
        bench.stop()
