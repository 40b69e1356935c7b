"""What the node's tests share: a plane, servers on it, and small clients that bind their source."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from emu.core.objects import Container
from emu.core.ranges import EVERYONE, Ranges
from emu.nodes.dialler import Dialler
from emu.nodes.http import Address
from emu.nodes.runtimes.base import Exit, Plan, PodIdentity, Surroundings, TcpPort
from emu.nodes.runtimes.table import runtime_of
from emu.nodes.servers import Server, Shared, TcpServer, UdpServer
from emu.planes.held import HeldConnections
from emu.planes.loopback import LoopbackPlane
from emu.telemetry.flows import Path, Verdict

SERVER = "127.200.30.2"
CLIENT = "127.200.30.3"
OTHER = "127.200.30.4"


class NoFilters(LoopbackPlane):
    """A kernel that takes no filters."""

    def listen_tcp(self, address: str, port: int, allowed: Ranges = EVERYONE):  # type: ignore[no-untyped-def]
        return super().listen_tcp(address, port)

    def listen_udp(self, address: str, port: int, allowed: Ranges = EVERYONE):  # type: ignore[no-untyped-def]
        return super().listen_udp(address, port)

    def restrict(self, sock, allowed: Ranges) -> bool:  # type: ignore[no-untyped-def]
        return False


class Network:
    """Servers of one pod, and what was recorded about them."""

    def __init__(self, plane: LoopbackPlane) -> None:
        self.plane = plane
        self.held = HeldConnections()
        self.flows: list[tuple[str, Verdict, Path | None]] = []
        self.shared = Shared(plane, self.held, self._record)
        self.exits: list[Exit] = []
        self.servers: list[Server] = []

    def surroundings(self) -> Surroundings:
        identity = PodIdentity("web-1", "default", "web-1", SERVER, "node-1")
        return Surroundings(identity, Dialler(self.plane, SERVER), self.exits.append)

    def plan(self, image: str, *args: str, **fields: object) -> Plan:
        """What a container of that image would do."""
        container = Container(name="c", image=image, args=args, **fields)  # type: ignore[arg-type]
        return runtime_of(image)(container, self.surroundings())

    def serve(self, plan: Plan, allowed: Ranges = EVERYONE) -> list[tuple[str, int]]:
        """Listen as the plan says."""
        for port in plan.ports:
            server: Server
            if isinstance(port, TcpPort):
                server = TcpServer(self.shared, SERVER, port.port, allowed, port.serve)
            else:
                server = UdpServer(self.shared, SERVER, port.port, allowed, port.app)
            self.servers.append(server)
        return [(server.protocol, server.port) for server in self.servers]

    def close(self) -> None:
        for server in self.servers:
            server.abort()
        self.held.close()

    def _record(
        self, server: Server, client: Address, verdict: Verdict, path: Path | None, dialled: str, service: str
    ) -> None:
        self.flows.append((client[0], verdict, path))


@asynccontextmanager
async def network(plane: LoopbackPlane | None = None) -> AsyncIterator[Network]:
    made = Network(plane or LoopbackPlane())
    try:
        yield made
    finally:
        made.close()


async def get(port: int, target: str = "/", source: str = CLIENT, timeout: float = 5.0) -> tuple[int, str]:
    """Status and body of a GET to the pod."""
    answer = await Dialler(LoopbackPlane(), source).get(
        SERVER, port, target, f"{SERVER}:{port}", "t", timeout
    )
    return answer.status, answer.body.decode()


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  any condition, not only events
            await asyncio.sleep(0.005)


async def fails(awaitable: Awaitable[object], error: type[BaseException]) -> None:
    with pytest.raises(error):
        await awaitable
