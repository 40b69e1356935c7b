import asyncio
import socket

import pytest

from emu.core.addresses import to_int
from emu.core.ranges import EVERYONE, NOBODY, union
from emu.nodes.connections import serve_http
from emu.nodes.http import Request, Response
from emu.nodes.servers import TcpServer
from emu.planes.held import HeldConnections, reset
from emu.planes.loopback import LoopbackPlane
from emu.telemetry.flows import Path, Verdict

from .network import CLIENT, OTHER, SERVER, NoFilters, get, network, until

ONLY_CLIENT = union([(to_int(CLIENT), to_int(CLIENT))])
PLANES = pytest.mark.parametrize("plane", [LoopbackPlane(), NoFilters()], ids=["kernel", "at accept"])


async def connected(source: str, port: int) -> socket.socket:
    return await LoopbackPlane().connect_tcp(source, SERVER, port, 2)


async def received(sock: socket.socket) -> bytes:
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(sock, 1000)


@PLANES
async def test_a_denied_client_gets_no_byte_and_no_refusal(plane: LoopbackPlane) -> None:
    async with network(plane) as net:
        net.serve(net.plan("agnhost", "netexec", "--http-port=18101", "--udp-port=-1"), ONLY_CLIENT)
        assert await get(18101, "/hostname") == (200, "web-1")
        with pytest.raises(TimeoutError):
            await get(18101, "/hostname", source=OTHER, timeout=0.2)


@PLANES
async def test_a_denied_datagram_is_discarded(plane: LoopbackPlane) -> None:
    async with network(plane) as net:
        net.serve(net.plan("agnhost", "netexec", "--http-port=18102", "--udp-port=18103"), ONLY_CLIENT)
        loop = asyncio.get_running_loop()
        for source, reply in ((OTHER, None), (CLIENT, b"web-1")):
            with LoopbackPlane().connect_udp(source, SERVER, 18103) as sock:
                sock.send(b"hostname\n")
                if reply is None:
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.1):
                            await loop.sock_recv(sock, 100)
                else:
                    assert await received(sock) == reply


@PLANES
async def test_an_established_connection_survives_a_new_policy(plane: LoopbackPlane) -> None:
    async with network(plane) as net:
        net.serve(net.plan("agnhost", "netexec", "--http-port=18104", "--udp-port=-1"))
        with await connected(CLIENT, 18104) as sock:
            sock.send(b"GET /hostname HTTP/1.1\r\n\r\n")
            assert b"web-1" in await received(sock)
            net.servers[0].restrict(NOBODY)
            sock.send(b"GET /hostname HTTP/1.1\r\n\r\n")
            assert b"web-1" in await received(sock)
        with pytest.raises(TimeoutError):
            await get(18104, timeout=0.2)
        net.servers[0].restrict(EVERYONE)
        assert (await get(18104, "/hostname"))[0] == 200


async def test_handed_over_connections_are_judged_like_own_ones() -> None:
    async with network() as net:
        net.serve(net.plan("agnhost", "netexec", "--http-port=18105", "--udp-port=-1"), ONLY_CLIENT)
        server = net.servers[0]
        assert isinstance(server, TcpServer)
        ended: list[str] = []
        with LoopbackPlane().listen_tcp("127.200.31.1", 80) as vip:
            for source in (CLIENT, OTHER):
                with await LoopbackPlane().connect_tcp(source, "127.200.31.1", 80, 2) as client:
                    accepted, peer = vip.accept()
                    accepted.setblocking(False)
                    server.take(
                        accepted, peer, "127.200.31.1:80", "default/web:http", lambda: ended.append("x")
                    )
                    client.send(b"GET /clientip HTTP/1.1\r\n\r\n")
                    if source == CLIENT:
                        assert f"{CLIENT}:".encode() in await received(client)
                    else:
                        with pytest.raises(BlockingIOError):
                            client.recv(1)
        assert net.flows == [
            (CLIENT, Verdict.FORWARDED, Path.HANDOVER),
            (OTHER, Verdict.DROPPED, Path.HANDOVER),
        ]
        await until(lambda: server.active == 0)
        net.held.close()
        assert ended == ["x", "x"]


async def test_draining_ends_idle_connections_and_waits_for_busy_ones() -> None:
    answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    async def slow() -> Response:
        return await answer

    def app(request: Request) -> object:
        return slow() if request.path == "/slow" else Response(b"quick")

    async with network() as net:
        server = TcpServer(net.shared, SERVER, 18106, EVERYONE, serve_http(app))  # type: ignore[arg-type]
        net.servers.append(server)
        with await connected(CLIENT, 18106) as idle, await connected(CLIENT, 18106) as busy:
            idle.send(b"GET / HTTP/1.1\r\n\r\n")
            assert b"quick" in await received(idle)
            busy.send(b"GET /slow HTTP/1.1\r\n\r\n")
            await until(lambda: server.active == 2)
            over: list[bool] = []
            server.drain(lambda: over.append(True))
            assert await received(idle) == b""
            assert over == []
            with pytest.raises(ConnectionRefusedError):
                await connected(CLIENT, 18106)
            answer.set_result(Response(b"done"))
            data = await received(busy)
            assert b"Connection: close" in data
            assert data.endswith(b"done")
            await until(lambda: over == [True])


async def test_a_large_answer_waits_for_a_slow_reader() -> None:
    async with network() as net:
        net.serve(net.plan("traefik/whoami", "--port=18107"))
        with await connected(CLIENT, 18107) as sock:
            sock.send(b"GET /data?size=8&unit=MB HTTP/1.1\r\nConnection: close\r\n\r\n")
            total, data = 0, await received(sock)
            assert b"Content-Length: 8388608\r\n" in data
            total = len(data) - data.index(b"\r\n\r\n") - 4
            while data := await received(sock):
                total += len(data)
            assert total == 8 << 20


async def test_held_connections_are_bounded_and_expire() -> None:
    held = HeldConnections(limit=2, seconds=0.05)
    ended: list[int] = []
    pairs = [socket.socketpair() for _ in range(3)]
    for number, (kept, _) in enumerate(pairs):
        kept.setblocking(False)
        held.hold(kept, lambda number=number: ended.append(number))  # type: ignore[misc]
    assert ended == [0]
    await until(lambda: len(held) == 0)
    assert ended == [0, 1, 2]
    for _, peer in pairs:
        peer.close()


async def test_reset_is_seen_as_a_reset() -> None:
    with LoopbackPlane().listen_tcp(SERVER, 18108) as listener, await connected(CLIENT, 18108) as client:
        reset(listener.accept()[0])
        with pytest.raises(ConnectionResetError):
            await received(client)
