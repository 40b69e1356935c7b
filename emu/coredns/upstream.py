"""Asking another DNS server: over UDP by a socket for each query, over TCP by connections that are kept."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from typing import NamedTuple

import msgspec

from emu.coredns import codec
from emu.coredns.codec import CodecError, Message, Request

ERRORS = (OSError, TimeoutError, CodecError, EOFError)
"""What an exchange may fail with."""
_MAX_DATAGRAM = 65535


class _Idle(NamedTuple):
    """A connection that waits for its next query, and since when."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    since: float


class Upstream(msgspec.Struct):
    """A server to ask, whether it has answered lately, and the connections to it."""

    address: str
    port: int = 53
    fails: int = 0
    checking: bool = False
    idle: list[_Idle] = msgspec.field(default_factory=list)
    reused: int = 0
    """How many queries went over a connection that was there."""
    opened: int = 0

    def __str__(self) -> str:
        """Address and port, as metrics name it."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    async def ask(
        self, request: Request, *, tcp: bool, flags: int, expire: float = 0, most_idle: int = 0
    ) -> Message:
        """The reply to a question. Raises one of ERRORS.

        `expire`: seconds for which a TCP connection is kept without a query; `most_idle`: how many, 0 is any.
        """
        ident = random.getrandbits(16)
        packet = codec.encode_query(
            ident, request.name, request.type, qclass=request.cls, flags=flags, edns=request.edns
        )
        if not tcp:
            return await self._over_udp(packet, ident, request)
        while (idle := self._take(expire)) is not None:
            try:
                message = await self._over_tcp(idle, packet, ident, request)
            except (OSError, EOFError):
                continue  # the server has closed it meanwhile
            self.reused += 1
            self._keep(idle, expire, most_idle)
            return message
        self.opened += 1
        fresh = _Idle(*await asyncio.open_connection(self.address, self.port), 0)
        message = await self._over_tcp(fresh, packet, ident, request)
        self._keep(fresh, expire, most_idle)
        return message

    def close(self) -> None:
        """End the connections that are kept."""
        for idle in self.idle:
            idle.writer.close()
        self.idle.clear()

    def _take(self, expire: float) -> _Idle | None:
        """The connection that was used last, if it is fresh enough."""
        while self.idle:
            idle = self.idle.pop()
            if time.monotonic() - idle.since < expire and not idle.reader.at_eof():
                return idle
            idle.writer.close()
        return None

    def _keep(self, idle: _Idle, expire: float, most_idle: int) -> None:
        if not expire or (most_idle and len(self.idle) >= most_idle):
            idle.writer.close()
            return
        now = time.monotonic()
        while self.idle and now - self.idle[0].since >= expire:
            self.idle.pop(0).writer.close()
        self.idle.append(idle._replace(since=now))

    async def _over_udp(self, packet: bytes, ident: int, request: Request) -> Message:
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((self.address, self.port))
            await loop.sock_sendall(sock, packet)
            while True:
                message = codec.parse_message(await loop.sock_recv(sock, _MAX_DATAGRAM))
                if _matches(message, ident, request):
                    return message

    @staticmethod
    async def _over_tcp(idle: _Idle, packet: bytes, ident: int, request: Request) -> Message:
        reader, writer, _ = idle
        try:
            writer.write(len(packet).to_bytes(2) + packet)
            while True:
                length = int.from_bytes(await reader.readexactly(2))
                message = codec.parse_message(await reader.readexactly(length))
                if _matches(message, ident, request):
                    return message
        except BaseException:
            writer.close()  # a reply may still come, and must not be taken for the next query's
            raise


def _matches(message: Message, ident: int, request: Request) -> bool:
    """A reply with another id or question is somebody else's, or forged."""
    return (
        bool(message.flags & codec.QR)
        and message.id == ident
        and message.key == request.key
        and message.type == request.type
    )
