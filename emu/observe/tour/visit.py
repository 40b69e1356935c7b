"""What every stop of the tour stands on: the cluster's objects, clients that act as its pods, the report."""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import msgspec

from emu.client.kubeconfig import read_kubeconfig
from emu.client.resolver import Resolver
from emu.client.rest import Client
from emu.core.objects import EndpointSlice, Node, Pod, Service
from emu.core.settings import Settings
from emu.observe.probe import Reply, http_get, http_get_through, tunnel
from emu.planes.base import Plane
from emu.telemetry.flows import FlowRecord

_DEADLINE_SECONDS = 30.0
_POLL_SECONDS = 0.05


class TourError(Exception):
    """An outcome was not the expected one. The message says which."""


class Processes(Protocol):
    """The power over the cluster's processes that the last stop needs."""

    def kill(self, name: str, *, hold: bool = False) -> None:
        """End a process with SIGKILL."""

    def start(self, name: str) -> None:
        """Start a process that is held down."""


class Visit:
    """A tour under way."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        plane: Plane,
        processes: Processes,
        write: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self.config = settings.config
        self.client = client
        self.plane = plane
        self.processes = processes
        self.resolver = Resolver(plane, settings.config)
        self._write = write
        # Port 80 itself is taken nowhere on the pod network's own address: only the privilege is asked for.
        self.low_ports = plane.can_bind(self.config.ranges.pods.partition("/")[0], 80)

    def say(self, text: str) -> None:
        """Print a sentence of explanation, on as many lines as it needs."""
        self._write(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="      "))

    def show(self, what: str, outcome: str) -> None:
        """Print an outcome that was just seen."""
        self._write(f"    {what:<60} {outcome}")

    def expect(self, holds: bool, otherwise: str) -> None:
        """Raise TourError with `otherwise` unless it holds."""
        if not holds:
            raise TourError(otherwise)

    async def pod(self, name: str, namespace: str = "default") -> Pod:
        """A pod by name."""
        return await self.client.get(Pod, namespace, name)

    async def web_pods(self) -> list[Pod]:
        """The pods of the Deployment `web` that are not going away, by name."""
        pods = await self.client.list(Pod, "default", label_selector="app=web")
        return sorted((pod for pod in pods if not pod.terminating), key=lambda pod: pod.name)

    async def service(self, name: str, namespace: str = "default") -> Service:
        """A Service by name."""
        return await self.client.get(Service, namespace, name)

    async def ready_endpoints(self, service: str) -> set[str]:
        """Addresses of a Service's endpoints that are ready."""
        slices = await self.client.list(
            EndpointSlice, "default", label_selector=f"kubernetes.io/service-name={service}"
        )
        return {
            address
            for item in slices
            for point in item.endpoints
            if point.ready
            for address in point.addresses
        }

    async def node_of(self, pod: Pod) -> Node:
        """The node that a pod runs on."""
        return await self.client.get(Node, "", pod.spec.node_name)

    async def get(
        self, source: Pod | str, address: str, port: int, path: str, *, seconds: float = 5.0
    ) -> Reply:
        """GET from a pod's or another address."""
        return await http_get(self.plane, address_of(source), address, port, path, seconds=seconds)

    async def get_service(self, source: Pod, service: Service, path: str, *, seconds: float = 5.0) -> Reply:
        """GET from a pod through a Service's ClusterIP and first port; by the gateway where it must be."""
        port = service.spec.ports[0].port
        if not self._needs_gateway(port):
            return await self.get(source, service.spec.cluster_ip, port, path, seconds=seconds)
        url = f"http://{service.spec.cluster_ip}:{port}{path}"
        # The gateway gives up by itself, and says why.
        return await http_get_through(
            self.plane, self._gateway, identity(source), url, seconds=seconds + 10.0
        )

    async def connect_service(
        self, source: Pod, service: Service
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection from a pod through a Service's ClusterIP and first port."""
        port = service.spec.ports[0].port
        if self._needs_gateway(port):
            return await tunnel(self.plane, self._gateway, identity(source), service.spec.cluster_ip, port)
        sock = await self.plane.connect_tcp(source.ip, service.spec.cluster_ip, port, None)
        return await asyncio.open_connection(sock=sock)

    def _needs_gateway(self, port: int) -> bool:
        """Whether a virtual IP cannot have this port here; the gateway needs no bound virtual IP."""
        return port < 1024 and not self.low_ports

    @property
    def _gateway(self) -> tuple[str, int]:
        return "127.0.0.1", self.config.fixed_ports.gateway

    async def spread(self, count: int, request: Callable[[], Awaitable[Reply]]) -> Counter[str]:
        """How often each answer came back from `count` requests, one after the other."""
        answers: Counter[str] = Counter()
        for _ in range(count):
            reply = await request()
            self.expect(
                reply.status == 200, f"a request was answered with status {reply.status}: {reply.body}"
            )
            answers[reply.body] += 1
        return answers

    async def flow(self, source: Pod, destination: Pod) -> FlowRecord:
        """The newest flow from one pod to another, as the destination's node recorded it."""
        node = await self.node_of(destination)
        reply = await self.get("127.0.0.1", node.internal_ip, self.config.fixed_ports.kubelet, "/flows")
        records = [msgspec.json.decode(line, type=FlowRecord) for line in reply.body.splitlines()]
        for record in reversed(records):
            if record.source.startswith(f"{source.ip}:") and record.destination.startswith(
                f"{destination.ip}:"
            ):
                return record
        raise TourError(f"{node.name} has no flow record from {source.name} to {destination.name}")

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> float:
        """Wait for a condition. Returns the seconds that it took; raises TourError naming `what`."""
        started = time.monotonic()
        while not await condition():
            if time.monotonic() - started > _DEADLINE_SECONDS:
                raise TourError(f"after {_DEADLINE_SECONDS:.0f} s still not seen: {what}")
            await asyncio.sleep(_POLL_SECONDS)
        return time.monotonic() - started


Stop = Callable[[Visit], Awaitable[None]]


async def take(
    settings: Settings,
    plane: Plane,
    processes: Processes,
    stops: Iterable[tuple[str, Stop]],
    write: Callable[[str], None],
) -> None:
    """Take the tour. Raises TourError at the first outcome that is not as expected."""
    async with Client(read_kubeconfig(settings.state.kubeconfig), agent="emu-tour") as client:
        visit = Visit(settings, client, plane, processes, write)
        for number, (title, stop) in enumerate(stops, 1):
            write(f"\n{number}. {title}")
            await stop(visit)


def address_of(source: Pod | str) -> str:
    """The address that a request comes from."""
    return source if isinstance(source, str) else source.ip


def identity(pod: Pod) -> str:
    """The user name that stands for a pod at the gateway."""
    return f"{pod.namespace}.{pod.name}"
