"""Connections that a pod, or the node itself, makes: from its own address, through the plane."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import NamedTuple

import httptools

from emu.client.resolver import ResolveError, Resolver
from emu.core.addresses import is_ipv4
from emu.core.resolv_conf import ResolvConf
from emu.planes.base import Plane

_CHUNK = 64 * 1024
_MAX_ANSWER = 4 * 1024 * 1024


class ResolutionError(Exception):
    """A name has no address. The message is that of Go's resolver, which the emulated programs use."""


class Answer(NamedTuple):
    """Status code and body of an HTTP answer."""

    status: int
    body: bytes


class Dialler:
    """Dials from one address, and looks names up by `conf`.

    `permits` judges the policies of the way out; refused means dropped.
    """

    def __init__(
        self,
        plane: Plane,
        source: str,
        conf: ResolvConf | None = None,
        resolver: Resolver | None = None,
        permits: Callable[[str, str, int, str], bool] | None = None,
    ) -> None:
        self.source = source
        self._plane = plane
        self._conf = conf
        self._resolver = resolver
        self._permits = permits

    async def resolve(self, host: str) -> str:
        """The address of a name. Raises ResolutionError."""
        if is_ipv4(host):
            return host
        if self._resolver is None:
            raise ResolutionError(f"lookup {host}: no such host")
        try:
            found = await self._resolver.resolve(host, source=self.source, conf=self._conf)
        except (ResolveError, OSError) as error:
            raise ResolutionError(f"lookup {host}: {error or 'i/o timeout'}") from None
        return found[0]

    async def connect(self, address: str, port: int, timeout: float | None) -> socket.socket:
        """A TCP connection. Raises OSError; TimeoutError also where a policy drops it."""
        await self._pass(address, port, "TCP", timeout)
        return await self._plane.connect_tcp(self.source, address, port, timeout)

    async def get(
        self, address: str, port: int, target: str, host: str, agent: str, timeout: float
    ) -> Answer:
        """The answer to GET. Raises OSError, TimeoutError, ValueError when it is not HTTP."""
        async with asyncio.timeout(timeout):
            sock = await self.connect(address, port, None)
            with sock:
                loop = asyncio.get_running_loop()
                head = (
                    f"GET {target} HTTP/1.1",
                    f"Host: {host}",
                    f"User-Agent: {agent}",
                    "Connection: close",
                )
                await loop.sock_sendall(sock, "\r\n".join((*head, "\r\n")).encode("latin-1", "replace"))
                answer = _AnswerReader()
                while not answer.complete:
                    data = await loop.sock_recv(sock, _CHUNK)
                    answer.feed(data)
                return Answer(answer.status, b"".join(answer.body))

    async def exchange(self, address: str, port: int, data: bytes, timeout: float) -> bytes:
        """The reply to one datagram. Raises OSError, TimeoutError."""
        async with asyncio.timeout(timeout):
            await self._pass(address, port, "UDP", None)
            with self._plane.connect_udp(self.source, address, port) as sock:
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(sock, data)
                return await loop.sock_recv(sock, _CHUNK)

    async def _pass(self, address: str, port: int, protocol: str, timeout: float | None) -> None:
        if self._permits is not None and not self._permits(self.source, address, port, protocol):
            # What the kernel takes to give a SYN up, where the caller sets no limit of its own.
            await asyncio.sleep(127.0 if timeout is None else timeout)
            raise TimeoutError


class _AnswerReader:
    def __init__(self) -> None:
        self.status = 0
        self.body: list[bytes] = []
        self.complete = False
        self._size = 0
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        if not data:
            # The end of the stream ends a body without a length; before the head it is a broken answer.
            if self.status == 0:
                raise ConnectionResetError("the connection was closed before an answer came")
            self.complete = True
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise ValueError(f"malformed HTTP response: {error}") from None

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > _MAX_ANSWER:
            raise ValueError("the answer is too long")
        self.body.append(body)

    def on_message_complete(self) -> None:
        # 100 Continue and the like come before the answer proper.
        self.complete = self.status >= 200
