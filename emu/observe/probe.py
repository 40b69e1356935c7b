"""Small clients that act as a pod, a node or the outside: they dial from the address they act for."""

from __future__ import annotations

import asyncio
import base64
from typing import NamedTuple

from emu.planes.base import Plane

_LIMIT = 1 << 20


class Reply(NamedTuple):
    """An HTTP response."""

    status: int
    body: str


async def http_get(
    plane: Plane, source: str, address: str, port: int, path: str = "/", *, seconds: float = 5.0
) -> Reply:
    """GET over a connection of its own. Raises TimeoutError, or OSError as the kernel gave it."""
    return await _exchange(plane, source, (address, port), path, f"{address}:{port}", "", seconds)


async def http_get_through(
    plane: Plane, gateway: tuple[str, int], pod: str, url: str, *, seconds: float = 10.0
) -> Reply:
    """GET a URL through the gateway as `namespace.pod` ("" for the outside)."""
    host = url.removeprefix("http://").partition("/")[0]
    return await _exchange(plane, "127.0.0.1", gateway, url, host, _authorization(pod), seconds)


async def tunnel(
    plane: Plane, gateway: tuple[str, int], pod: str, address: str, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection through the gateway (CONNECT) as `namespace.pod`. Raises ConnectionError when refused."""
    sock = await plane.connect_tcp("127.0.0.1", *gateway, None)
    reader, writer = await asyncio.open_connection(sock=sock)
    target = f"{address}:{port}"
    writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{_authorization(pod)}\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if head.split(None, 2)[1] != b"200":
        writer.close()
        raise ConnectionError(f"the gateway answered {head.splitlines()[0].decode()}")
    return reader, writer


def _authorization(pod: str) -> str:
    if not pod:
        return ""
    return f"Proxy-Authorization: Basic {base64.b64encode(f'{pod}:'.encode()).decode()}\r\n"


async def _exchange(
    plane: Plane, source: str, to: tuple[str, int], target: str, host: str, headers: str, seconds: float
) -> Reply:
    # HTTP/1.0: the answer ends with the connection and is never chunked.
    async with asyncio.timeout(seconds):
        sock = await plane.connect_tcp(source, *to, None)
        reader, writer = await asyncio.open_connection(sock=sock, limit=_LIMIT)
        try:
            writer.write(f"GET {target} HTTP/1.0\r\nHost: {host}\r\n{headers}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(None, 2)[1])
            body = await reader.read()
        except asyncio.IncompleteReadError:
            raise ConnectionResetError(f"{to[0]}:{to[1]} closed the connection without an answer") from None
        finally:
            writer.close()
    return Reply(status, body.decode(errors="replace"))
