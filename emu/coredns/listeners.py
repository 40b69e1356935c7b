"""Sockets that carry DNS: UDP drained many datagrams per wake-up, TCP with pipelined queries.

One socket for each address, so that a reply comes from the address that was asked.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Coroutine
from typing import Any, cast

from emu.core.addresses import to_int
from emu.core.ranges import Ranges, contains
from emu.coredns.codec import Stream
from emu.coredns.responder import Responder
from emu.planes.held import HeldConnections

log = logging.getLogger(__name__)

BATCH = 64
MAX_REQUEST = 4096
IDLE_SECONDS = 10.0
MAX_CONNECTIONS = 1024
MAX_WAITING = 4096
"""Queries of one socket that wait for an upstream; more are dropped."""
_MAX_PIPELINED = 128
_TCP_BATCH = 16
"""Queries of one connection in a row; each reply may have 64 KiB."""
_RETRY_SECONDS = 1.0
_HEADER = 12


class UdpListener:
    """Answers on one UDP socket. `allowed` is checked for each datagram where it is not None."""

    def __init__(self, sock: socket.socket, responder: Responder) -> None:
        self.sock = sock
        self.allowed: Ranges | None = None
        self._responder = responder
        self._local = sock.getsockname()
        self._waiting: set[asyncio.Task[None]] = set()
        asyncio.get_running_loop().add_reader(sock, self._drain)

    def close(self) -> None:
        """Stop answering."""
        asyncio.get_running_loop().remove_reader(self.sock)
        for task in self._waiting:
            task.cancel()
        self.sock.close()

    def _drain(self) -> None:
        sock = self.sock
        receive, send = sock.recvfrom, sock.sendto
        kept = self._responder.kept.by_query.get
        respelt = self._responder.respelt
        for _ in range(BATCH):
            try:
                packet, client = receive(MAX_REQUEST)
            except BlockingIOError:
                return
            except OSError as error:
                log.debug("cannot receive at %s:%d: %s", *self._local, error)
                return
            if self.allowed is not None and not contains(self.allowed, to_int(client[0])):
                continue
            found = kept(packet[2:])
            if found is not None:
                found.tally.times += 1
                if found.clients is not None:
                    found.clients[client[0]] += 1
                bodies = found.bodies
                body = bodies[0] if len(bodies) == 1 else bodies[int(random.random() * len(bodies))]
                reply = packet[:2] + body
            else:
                respelling = respelt(packet, client[0]) if len(packet) > _HEADER else None
                if respelling is None:
                    self._answer(packet, client)
                    continue
                reply = respelling
            try:
                send(reply, client)
            except OSError as error:
                log.debug("cannot reply to %s:%d: %s", *client, error)

    def _answer(self, packet: bytes, client: tuple[str, int]) -> None:
        reply = self._responder.handle(packet, client, self._local, "udp")
        if reply is None:
            return
        if isinstance(reply, bytes):
            self._send(reply, client)
        elif len(self._waiting) >= MAX_WAITING:
            reply.close()
        else:
            task = asyncio.get_running_loop().create_task(self._later(reply, client))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _later(self, reply: Coroutine[Any, Any, bytes], client: tuple[str, int]) -> None:
        self._send(await reply, client)

    def _send(self, reply: bytes, client: tuple[str, int]) -> None:
        try:
            self.sock.sendto(reply, client)
        except OSError as error:
            # A full buffer loses the datagram, as a network does.
            log.debug("cannot reply to %s:%d: %s", *client, error)


class TcpListener:
    """Accepts on one TCP socket. A client outside `allowed` is held without an octet.

    Where there are too many connections, the one that has been idle the longest makes room.
    """

    def __init__(self, sock: socket.socket, responder: Responder) -> None:
        self.sock = sock
        self.allowed: Ranges | None = None
        self._responder = responder
        self._connections: dict[_Connection, None] = {}
        """The one that has been idle the longest comes first."""
        self._held = HeldConnections(MAX_CONNECTIONS)
        self._retry: asyncio.TimerHandle | None = None
        self._listen()

    def close(self) -> None:
        """Stop accepting, and end all connections."""
        if self._retry is not None:
            self._retry.cancel()
        asyncio.get_running_loop().remove_reader(self.sock)
        self.sock.close()
        for connection in list(self._connections):
            connection.abort()
        self._held.close()

    def _listen(self) -> None:
        self._retry = None
        asyncio.get_running_loop().add_reader(self.sock, self._accept)

    def _accept(self) -> None:
        for _ in range(BATCH):
            try:
                sock, client = self.sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Without files to spare, the connection stays in the queue, and would call again at once.
                log.warning("cannot accept at %s: %s", self.sock.getsockname(), error)
                loop = asyncio.get_running_loop()
                loop.remove_reader(self.sock)
                self._retry = loop.call_later(_RETRY_SECONDS, self._listen)
                self._make_room()
                return
            sock.setblocking(False)
            if self.allowed is not None and not contains(self.allowed, to_int(client[0])):
                self._held.hold(sock)
                continue
            if len(self._connections) >= MAX_CONNECTIONS:
                self._make_room()
            connection = _Connection(self._responder, client, self._connections)
            connection.task = asyncio.get_running_loop().create_task(connection.serve(sock))

    def _make_room(self) -> None:
        if self._connections:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.abort()


class _Connection(asyncio.Protocol):
    def __init__(
        self, responder: Responder, client: tuple[str, int], registry: dict[_Connection, None]
    ) -> None:
        self._responder = responder
        self._client = client
        self._registry = registry
        self._buffer = bytearray()
        self._waiting: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport | None = None
        self._local = ("", 0)
        self._active = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._next: asyncio.Handle | None = None
        self._full = False
        self.task: asyncio.Task[None] | None = None
        registry[self] = None

    async def serve(self, sock: socket.socket) -> None:
        self._local = sock.getsockname()
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: self, sock)
        except OSError as error:
            log.debug("a connection ended before it began: %s", error)
            self._registry.pop(self, None)
            sock.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        elif self.task is not None:
            self.task.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._rest()
        self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._idle)

    def connection_lost(self, error: Exception | None) -> None:
        self._registry.pop(self, None)
        for handle in (self._timer, self._next):
            if handle is not None:
                handle.cancel()
        for task in self._waiting:
            task.cancel()

    def pause_writing(self) -> None:
        self._full = True
        self._throttle()

    def resume_writing(self) -> None:
        self._full = False
        self._parse()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._next is None:
            self._parse()

    def _parse(self) -> None:
        """Answer what is complete, but let other clients have their turn after some queries."""
        self._next = None
        buffer = self._buffer
        at = 0
        for _ in range(_TCP_BATCH):
            end = at + 2 + int.from_bytes(buffer[at : at + 2])
            if len(buffer) < max(end, at + 2) or self._full or len(self._waiting) >= _MAX_PIPELINED:
                break
            self._answer(bytes(buffer[at + 2 : end]))
            at = end
        else:
            self._next = asyncio.get_running_loop().call_soon(self._parse)
        del buffer[:at]
        self._throttle()

    def _answer(self, packet: bytes) -> None:
        self._rest()
        reply = self._responder.handle(packet, self._client, self._local, "tcp")
        if isinstance(reply, bytes):
            self._send(reply)
        elif reply is not None:
            task = asyncio.get_running_loop().create_task(self._later(reply))
            self._waiting.add(task)
            task.add_done_callback(self._done)

    async def _later(self, reply: Coroutine[Any, Any, bytes]) -> None:
        self._send(await reply)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._waiting.discard(task)
        if self._transport is not None and not self._transport.is_closing() and self._next is None:
            self._parse()

    def _send(self, reply: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            framed = reply if isinstance(reply, Stream) else len(reply).to_bytes(2) + reply
            self._transport.write(framed)
            self._rest()

    def _throttle(self) -> None:
        """Read no more while queries or replies pile up, in the client or here."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._full or self._next is not None or len(self._waiting) >= _MAX_PIPELINED:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def _rest(self) -> None:
        """Begin the time that a client may be idle for anew (RFC 7766, section 6.2.3)."""
        self._active = asyncio.get_running_loop().time()
        if self._registry.pop(self, self) is None:
            self._registry[self] = None

    def _idle(self) -> None:
        loop = asyncio.get_running_loop()
        if self._waiting:
            self._rest()
        left = self._active + IDLE_SECONDS - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._idle)
        elif self._transport is not None:
            if self._transport.get_write_buffer_size():
                self._transport.abort()  # what the client has not read by now it does not get
            else:
                self._transport.close()
