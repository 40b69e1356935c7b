"""The small HTTP/1.1 server behind /health, /ready and /metrics."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from http import HTTPStatus

from emu.core.addresses import to_int
from emu.core.ranges import Ranges, contains
from emu.coredns.chain import Endpoint

_REQUEST_SECONDS = 5.0
_MAX_HEADERS = 100
_MAX_IGNORED = 4096

Pages = Callable[[], list[Endpoint]]


class HttpListener:
    """Serves the endpoints of one port on one address."""

    def __init__(self, sock: socket.socket, pages: Pages) -> None:
        self.sock = sock
        self.allowed: Ranges | None = None
        """Who may reach it, where the kernel does not decide."""
        self._pages = pages
        self._port = sock.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._starting = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self.sock)

    def close(self) -> None:
        """Stop accepting."""
        self._starting.cancel()
        if self._server is not None:
            self._server.close()
        self.sock.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError, EOFError):
            if self.allowed is not None and not contains(
                self.allowed, to_int(writer.get_extra_info("peername")[0])
            ):
                while await reader.read(_MAX_IGNORED):  # held without an octet, until the client gives up
                    pass
                return
            async with asyncio.timeout(_REQUEST_SECONDS):
                line = (await reader.readline()).decode("latin-1").split()
                for _ in range(_MAX_HEADERS):
                    if (await reader.readline()) in (b"\r\n", b"\n", b""):
                        break
                writer.write(self._page(line))
                await writer.drain()

    def _page(self, request: list[str]) -> bytes:
        status, kind, body = 404, "text/plain; charset=utf-8", b"404 page not found\n"
        if len(request) < 2 or request[0] not in ("GET", "HEAD"):
            status, body = 405, b""
        else:
            path = request[1].partition("?")[0]
            for endpoint in self._pages():
                if (endpoint.port, endpoint.path) == (self._port, path):
                    status, kind, body = endpoint.handler()
                    break
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (b"" if request[:1] == ["HEAD"] else body)
