"""The gateway, spoken to by curl and by hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from emu.client.resolver import ResolveError
from emu.proxy.dialer import Dialer, DialError, Identity
from emu.proxy.gateway import Gateway

from .conftest import Bench


class Names:
    """DNS, as far as these tests need it."""

    def __init__(self, vip: str) -> None:
        self.vip = vip

    async def resolve(self, name: str, *, source: str, namespace: str = "default") -> list[str]:
        if name in ("web", "web.default"):
            return [self.vip]
        raise ResolveError(f"cannot resolve {name}: there is no address at {name}.{namespace}.svc or {name}")


class Users:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    async def identity(self, user: str) -> Identity:
        if not user:
            return Identity()
        if user in ("frontend", "default.frontend"):
            return Identity(self.bench.ip(9), "default")
        raise DialError(403, f"there is no running pod {user}")


class HttpPod:
    """Answers with its client's address, the request's line and headers, and its body."""

    def __init__(self) -> None:
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        body = b""
        if "content-length: " in head.lower():
            length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
            body = await reader.readexactly(length)
        elif "transfer-encoding: chunked" in head.lower():
            body = await reader.readuntil(b"0\r\n\r\n")
        answer = f"{writer.get_extra_info('peername')[0]} {head.splitlines()[0]} {len(body)}\n".encode()
        if head.startswith("GET /chunked"):
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(answer), answer))
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
        writer.close()


class Running:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.pod = HttpPod()
        self.address = bench.ip(230)

    @property
    def url(self) -> str:
        return f"http://{self.address}:3128"

    async def start(self) -> None:
        bench = self.bench
        self.server = await asyncio.start_server(self.pod.serve, bench.ip(2), 8080)
        bench.service(ports=[{"port": 80}])
        bench.endpoints(2)
        dialer = Dialer(bench.proxy.plane, bench.proxy, Names(bench.vip), seconds=0.2)  # type: ignore[arg-type]
        self.gateway = Gateway(dialer, Users(bench))  # type: ignore[arg-type]
        await self.gateway.start(bench.proxy.plane.listen_tcp(self.address, 3128))

    async def stop(self) -> None:
        await self.gateway.stop()
        self.server.close()

    async def raw(self, request: bytes) -> str:
        reader, writer = await asyncio.open_connection(self.address, 3128)
        writer.write(request)
        async with asyncio.timeout(2):
            answer = await reader.read()
        writer.close()
        return answer.decode()


@pytest.fixture
async def gateway(bench: Bench) -> AsyncIterator[Running]:
    running = Running(bench)
    await running.start()
    yield running
    await running.stop()


async def curl(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        "curl",
        "-s",
        "-m",
        "5",
        "--noproxy",
        "",
        "-w",
        "%{http_code}",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    text = out.decode()
    return int(text[-3:]), text[:-3]


async def test_a_service_by_name_needs_no_bound_address(gateway: Running) -> None:
    code, body = await curl("-x", gateway.url, "http://web.default/hostname?a=b")
    assert (code, body) == (200, "127.0.0.1 GET /hostname?a=b HTTP/1.1 0\n")
    head = gateway.pod.heads[0].lower()
    assert "host: web.default" in head
    assert "proxy-connection" not in head


async def test_as_a_pod(gateway: Running) -> None:
    url = gateway.url.replace("http://", "http://default.frontend@")
    assert (await curl("-x", url, "http://web/"))[1].startswith(f"{gateway.bench.ip(9)} GET /")
    assert "proxy-authorization" not in gateway.pod.heads[0].lower()


async def test_bodies_of_either_framing(gateway: Running) -> None:
    code, body = await curl("-x", gateway.url, "-d", "x" * 100000, "http://web/")
    assert (code, body.split()[-1]) == (200, "100000")
    code, body = await curl(
        "-x", gateway.url, "-H", "Transfer-Encoding: chunked", "-d", "12345", "http://web/"
    )
    assert code == 200
    assert (await curl("-x", gateway.url, "http://web/chunked"))[1].endswith("GET /chunked HTTP/1.1 0\n")
    assert (await curl("-0", "-x", gateway.url, "http://web/chunked"))[0] == 200


async def test_a_connection_is_kept_between_requests(gateway: Running) -> None:
    reader, writer = await asyncio.open_connection(gateway.address, 3128)
    for path in ("1", "2"):
        writer.write(f"GET http://web/{path} HTTP/1.1\r\nHost: web\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Connection: keep-alive" in head
        assert f"GET /{path}".encode() in await reader.readline()
    writer.close()


async def test_connect(gateway: Running) -> None:
    code, body = await curl("-p", "-x", gateway.url, "http://web:80/tunnelled")
    assert (code, body.split()[2]) == (200, "/tunnelled")


@pytest.mark.parametrize(
    ("request_", "status", "sentence"),
    [
        (b"GET http://nowhere/ HTTP/1.1\r\n\r\n", "502", "nowhere.default.svc"),
        (b"GET / HTTP/1.1\r\nHost: web\r\n\r\n", "400", "this is a proxy"),
        (b"CONNECT web HTTP/1.1\r\n\r\n", "400", "this is a proxy"),
        (b"GET http://web/ HTTP/1.1\r\nbroken\r\n\r\n", "400", "header field"),
        (
            b"GET http://web/ HTTP/1.1\r\nProxy-Authorization: Basic bm9ib2R5Og==\r\n\r\n",
            "403",
            "no running pod",
        ),
        (b"GET http://web/ HTTP/1.1\r\nProxy-Authorization: Bearer x\r\n\r\n", "407", "user name"),
        (b"GET http://web:81/ HTTP/1.1\r\n\r\n", "502", "Connection refused"),
    ],
)
async def test_what_cannot_be_done(gateway: Running, request_: bytes, status: str, sentence: str) -> None:
    answer = await gateway.raw(request_)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert sentence in answer


async def test_a_service_without_endpoints(gateway: Running) -> None:
    gateway.bench.endpoints()
    answer = await gateway.raw(b"GET http://web/ HTTP/1.1\r\n\r\n")
    assert answer.startswith("HTTP/1.1 502 ")
    assert "default/web has no endpoints" in answer


async def test_a_policy_is_a_timeout_that_names_it(gateway: Running) -> None:
    gateway.bench.pod(2, app="backend")
    gateway.bench.pod(9, app="frontend")
    gateway.bench.policy("deny-all", podSelector={})
    url = gateway.url.replace("http://", "http://frontend@")
    code, body = await curl("-x", url, "http://web/")
    assert code == 504
    assert "deny-all" in body


async def test_a_client_that_leaves_early_does_no_harm(gateway: Running) -> None:
    with socket.create_connection((gateway.address, 3128)) as sock:
        sock.send(b"POST http://web/ HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")
    assert (await curl("-x", gateway.url, "http://web/"))[0] == 200
