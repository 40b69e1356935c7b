"""What a relay passes on: bytes both ways, half-close, resets, and the reader's pace."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from emu.planes.held import HeldConnections, reset_on_close
from emu.planes.relay import HIGH_WATER, Relays

from .conftest import until

ADDRESS = "127.202.255.1"
RESET = struct.pack("ii", 1, 0)


class Ends:
    """A client and a server with a relay between them."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.client, near = tcp_pair()
        far, self.server = tcp_pair()
        self.sockets = (near, far)

    def start(self) -> None:
        self.relays = Relays()
        self.relays.start(*self.sockets, self.ended.set)


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
    ends.start()
    yield ends
    ends.relays.close()
    ends.client.close()
    ends.server.close()


async def receive_all(sock: socket.socket) -> bytes:
    received = bytearray()
    while data := await asyncio.get_running_loop().sock_recv(sock, 1 << 20):
        received += data
    return bytes(received)


async def receive(sock: socket.socket) -> bytes:
    async with asyncio.timeout(2):
        return await asyncio.get_running_loop().sock_recv(sock, 1 << 20)


@pytest.mark.parametrize("first", ["client", "server"])
async def test_half_close_is_passed_on_and_the_other_way_goes_on(ends: Ends, first: str) -> None:
    one, other = (ends.client, ends.server) if first == "client" else (ends.server, ends.client)
    one.send(b"question")
    one.shutdown(socket.SHUT_WR)
    assert await receive(other) == b"question"
    assert await receive(other) == b""
    other.send(b"answer")
    assert await receive(one) == b"answer"
    assert not ends.ended.is_set()
    other.close()
    assert await receive(one) == b""
    async with asyncio.timeout(2):
        await ends.ended.wait()
    assert len(ends.relays) == 0


@pytest.mark.parametrize("who", ["client", "server"])
async def test_a_reset_is_passed_on(ends: Ends, who: str) -> None:
    resetting, other = (ends.client, ends.server) if who == "client" else (ends.server, ends.client)
    resetting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    resetting.close()
    with pytest.raises(ConnectionResetError):
        await receive(other)
    assert ends.ended.is_set()


async def test_much_goes_both_ways_at_once_unchanged(ends: Ends) -> None:
    up, down = Random(1).randbytes(12 << 20), Random(2).randbytes(9 << 20)

    async def send_all(sock: socket.socket, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(sock, data)
        sock.shutdown(socket.SHUT_WR)

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(send_all(ends.client, up))
        tasks.create_task(send_all(ends.server, down))
        received_up = tasks.create_task(receive_all(ends.server))
        received_down = tasks.create_task(receive_all(ends.client))
    assert received_up.result() == up
    assert received_down.result() == down
    assert ends.ended.is_set()


async def test_many_small_messages_arrive_in_order(ends: Ends) -> None:
    lines = [b"%d\n" % number for number in range(5000)]
    for at in range(0, len(lines), 10):
        ends.client.send(b"".join(lines[at : at + 10]))
        await asyncio.sleep(0)
    ends.client.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(5):
        assert await receive_all(ends.server) == b"".join(lines)


async def fill(ends: Ends) -> int:
    """Bytes that the server could send to a client that never reads."""
    sent = 0
    idle = 0
    while idle < 50:
        try:
            sent += ends.server.send(b"x" * 65536)
            idle = 0
        except BlockingIOError:
            idle += 1
            await asyncio.sleep(0.002)
    return sent


async def test_a_client_that_never_reads_stops_the_server_and_costs_little_memory(ends: Ends) -> None:
    sent = await fill(ends)
    held = [len(end.held) for end in ends.relays._ends.values() if end.held]
    assert len(held) == 1
    assert 0 < held[0] <= HIGH_WATER
    ends.server.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(5):
        assert len(await receive_all(ends.client)) == sent


async def test_a_slow_reader_that_has_said_all_gets_all_and_the_relay_sleeps_meanwhile(ends: Ends) -> None:
    ends.client.shutdown(socket.SHUT_WR)
    assert await receive(ends.server) == b""
    sent = await fill(ends)
    ends.server.close()
    began = time.process_time()
    await asyncio.sleep(0.2)
    assert time.process_time() - began < 0.05
    async with asyncio.timeout(5):
        assert len(await receive_all(ends.client)) == sent
        await ends.ended.wait()


async def test_the_reset_of_a_client_that_never_reads_reaches_the_server(ends: Ends) -> None:
    await fill(ends)
    ends.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    ends.client.close()
    with pytest.raises(ConnectionResetError):
        await receive(ends.server)


async def test_bytes_go_through_without_pipes_when_descriptors_run_out(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def none_left(_flags: int) -> tuple[int, int]:
        nonlocal asked
        asked += 1
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pipe2", none_left)
    data = Random(3).randbytes(4 << 20)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        received = tasks.create_task(receive_all(ends.server))
        await asyncio.get_running_loop().sock_sendall(ends.client, data)
        ends.client.shutdown(socket.SHUT_WR)
    assert received.result() == data
    assert asked > 0


@pytest.mark.parametrize("end", ["close", "reset", "stop"])
async def test_no_descriptor_is_left_behind(end: str) -> None:
    before = open_descriptors()
    ends = Ends()
    ends.start()
    await fill(ends)
    if end == "reset":
        reset_on_close(ends.client)
    if end == "stop":
        ends.relays.close()
    ends.client.close()
    ends.server.close()
    async with asyncio.timeout(2):
        await ends.ended.wait()
    # The epoll stays for the next ones.
    assert open_descriptors() == before + (end != "stop")
    ends.relays.close()
    assert open_descriptors() == before


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


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
