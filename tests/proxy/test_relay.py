"""What a relay passes on: bytes both ways, half-close, resets, and the reader's pace."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable

import pytest

from emu.planes.held import HeldConnections
from emu.planes.relay import Relay

ADDRESS = "127.202.255.1"
RESET = struct.pack("ii", 1, 0)


class Ends:
    """A client and a server with a relay between them."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.client, near = tcp_pair()
        far, self.server = tcp_pair()
        self.sockets = (near, far)

    async def start(self) -> None:
        self.relay = Relay(self.ended.set)
        await self.relay.start(*self.sockets)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server((ADDRESS, 0)) as listener:
        client = socket.create_connection(listener.getsockname(), source_address=(ADDRESS, 0))
        server, _ = listener.accept()
    client.setblocking(False)
    server.setblocking(False)
    return client, server


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    ends = Ends()
    await ends.start()
    yield ends
    ends.relay.stop()
    ends.client.close()
    ends.server.close()


async def receive(sock: socket.socket) -> bytes:
    async with asyncio.timeout(2):
        return await asyncio.get_running_loop().sock_recv(sock, 1 << 20)


async def test_bytes_and_half_close(ends: Ends) -> None:
    ends.client.send(b"question")
    ends.client.shutdown(socket.SHUT_WR)
    assert await receive(ends.server) == b"question"
    assert await receive(ends.server) == b""
    ends.server.send(b"answer")
    assert await receive(ends.client) == b"answer"
    ends.server.close()
    assert await receive(ends.client) == b""
    async with asyncio.timeout(2):
        await ends.ended.wait()


@pytest.mark.parametrize("who", ["client", "server"])
async def test_a_reset_is_passed_on(ends: Ends, who: str) -> None:
    resetting, other = (ends.client, ends.server) if who == "client" else (ends.server, ends.client)
    resetting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    resetting.close()
    with pytest.raises(ConnectionResetError):
        await receive(other)


async def test_a_client_that_never_reads_stops_the_server(ends: Ends) -> None:
    sent = 0

    async def send_all() -> None:
        nonlocal sent
        while sent < 64 << 20:
            await asyncio.get_running_loop().sock_sendall(ends.server, b"x" * 65536)
            sent += 65536

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(send_all(), 0.5)
    received = 0
    async with asyncio.timeout(5):
        while received < sent:
            received += len(await receive(ends.client))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not condition():  # noqa: ASYNC110  the kernel tells nobody
            await asyncio.sleep(0.005)


async def test_a_held_connection_hears_nothing_and_is_let_go_after_its_client() -> None:
    held = HeldConnections(seconds=0.2)
    client, server = tcp_pair()
    held.hold(server)
    client.send(b"anybody there?")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await receive(client)
    client.close()
    await until(lambda: len(held) == 0)
    held.close()


async def test_the_oldest_held_connection_is_reset_when_there_are_too_many() -> None:
    held = HeldConnections(limit=2)
    pairs = [tcp_pair() for _ in range(3)]
    for _, server in pairs:
        held.hold(server)
    with pytest.raises(ConnectionResetError):
        await receive(pairs[0][0])
    assert len(held) == 2
    held.close()
    for client, _ in pairs:
        client.close()
