"""What clients and pods see when the other end breaks off in the middle of a connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from emu.planes.held import reset

from .conftest import Bench

NODE_PORT = 32701


class Pod:
    """A program at a pod's address, which takes one connection."""

    def __init__(self, address: str) -> None:
        self.listener = socket.create_server((address, 8080))
        self.listener.setblocking(False)

    async def take(self) -> socket.socket:
        sock, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        sock.setblocking(False)
        return sock


@contextlib.asynccontextmanager
async def relayed(bench: Bench, way: str) -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    """A client and its pod, with a relay between them, after a byte each way."""
    loop = asyncio.get_running_loop()
    bench.mode("userspace" if way == "userspace" else "iptables")
    bench.service(type="NodePort", ports=[{"port": 8000, "nodePort": NODE_PORT}])
    bench.endpoints(2)
    pod = Pod(bench.ip(2))
    dialled = (bench.vip, 8000) if way == "userspace" else (bench.ip(240), NODE_PORT)
    with pod.listener, socket.create_connection(dialled, source_address=(bench.ip(70), 0)) as client:
        client.setblocking(False)
        async with asyncio.timeout(5):
            with await pod.take() as served:
                for one, other in ((client, served), (served, client)):
                    await loop.sock_sendall(one, b"?")
                    assert await loop.sock_recv(other, 10) == b"?"
                yield client, served


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("way", ["userspace", "node port"])
@pytest.mark.parametrize("who", ["pod", "client"])
async def test_a_reset_goes_through_a_relay_and_nothing_is_left(bench: Bench, way: str, who: str) -> None:
    async with relayed(bench, way) as (client, served):
        before = open_descriptors()
        breaking, other = (served, client) if who == "pod" else (client, served)
        reset(breaking)
        with pytest.raises(ConnectionResetError):
            await asyncio.get_running_loop().sock_recv(other, 10)
        # Its own end, and the relay's two.
        assert open_descriptors() == before - 3


@pytest.mark.parametrize("way", ["userspace", "node port"])
async def test_a_pod_that_has_said_all_still_hears_its_client_through_a_relay(bench: Bench, way: str) -> None:
    loop = asyncio.get_running_loop()
    async with relayed(bench, way) as (client, served):
        served.shutdown(socket.SHUT_WR)
        assert await loop.sock_recv(client, 10) == b""
        await loop.sock_sendall(client, b"goes on")
        assert await loop.sock_recv(served, 10) == b"goes on"


@pytest.mark.parametrize("ends_with", ["a reset", "an end of stream"])
async def test_a_connection_that_was_handed_over_ends_as_its_pod_ends_it(
    bench: Bench, ends_with: str
) -> None:
    loop = asyncio.get_running_loop()
    bench.nodes["n1"].keep = True
    bench.service()
    bench.endpoints(2)
    before = open_descriptors()
    with socket.create_connection((bench.vip, 8000), source_address=(bench.ip(70), 0)) as client:
        client.setblocking(False)
        async with asyncio.timeout(5):
            await loop.sock_recv(client, 100)
            sock, ended = bench.nodes["n1"].kept.pop()
            if ends_with == "a reset":
                reset(sock)
                with pytest.raises(ConnectionResetError):
                    await loop.sock_recv(client, 100)
            else:
                sock.close()
                # The proxy keeps no copy, or this would not come.
                assert await loop.sock_recv(client, 100) == b""
            ended()
    # The proxy's channel to the node, at both ends.
    assert open_descriptors() == before + 2
