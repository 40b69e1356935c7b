"""Listening sockets of pods, and who may reach them.

A server judges every connection and datagram by the ranges that the policies yield for its port. Mostly the
kernel does it (Plane.restrict); where it cannot, and for sockets that kube-proxy hands over, it is done here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Protocol

from emu.core.addresses import to_int
from emu.core.ranges import EVERYONE, Ranges, contains
from emu.nodes.connections import Connection, Serve
from emu.nodes.http import Address
from emu.planes.base import OUT_OF_DESCRIPTORS, Plane
from emu.planes.held import HeldConnections
from emu.telemetry.flows import Path, Verdict

log = logging.getLogger(__name__)

DatagramApp = Callable[[bytes, Address], bytes | None]
"""The reply to a datagram from a client, or None for none."""

_BATCH = 64
_DESCRIPTORS_PAUSE_SECONDS = 0.1
_MAX_DATAGRAM = 65536


class Recorder(Protocol):
    """Told of each flow that a server decides about."""

    def __call__(
        self, server: Server, client: Address, verdict: Verdict, path: Path | None, dialled: str, service: str
    ) -> None:
        """`dialled` is the `ip:port` of a virtual IP and `service` its Service; "" where there is none."""


class Shared:
    """What all servers of a node have in common."""

    def __init__(self, plane: Plane, held: HeldConnections, record: Recorder) -> None:
        self.plane = plane
        self.held = held
        self.record = record


class Server:
    """A port of a pod. Bound and restricted at construction; raises OSError when it cannot be."""

    protocol = "TCP"

    def __init__(self, shared: Shared, address: str, port: int, allowed: Ranges) -> None:
        self.address = address
        self.port = port
        self.allowed = allowed
        self._shared = shared
        self._in_kernel = False
        self._sock: socket.socket | None = None

    @property
    def active(self) -> int:
        """Connections that are open."""
        return 0

    def restrict(self, allowed: Ranges) -> None:
        """Judge by new ranges from now on. What was let in stays."""
        if allowed == self.allowed:
            return
        self.allowed = allowed
        self._apply()

    def admits(self, source: str) -> bool:
        """Whether the policies let a source address in."""
        return self.allowed is EVERYONE or contains(self.allowed, to_int(source))

    def close(self) -> None:
        """Stop listening. Open connections go on."""
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()
            self._sock = None

    def drain(self, on_idle: Callable[[], None]) -> None:
        """Stop listening and end connections as soon as their requests are answered; then call back."""
        self.close()
        on_idle()

    def abort(self) -> None:
        """Stop listening and reset what is open."""
        self.close()

    def _apply(self) -> None:
        if self._sock is not None:
            self._in_kernel = self._shared.plane.restrict(self._sock, self.allowed)

    def _judge_here(self) -> bool:
        return not self._in_kernel and self.allowed is not EVERYONE


class TcpServer(Server):
    """A listening TCP socket whose connections are taken up by `serve`."""

    def __init__(self, shared: Shared, address: str, port: int, allowed: Ranges, serve: Serve) -> None:
        super().__init__(shared, address, port, allowed)
        self._serve = serve
        self._connections: dict[Connection, Callable[[], None] | None] = {}
        self._on_idle: Callable[[], None] | None = None
        self._sock = shared.plane.listen_tcp(address, port, allowed)
        # Accepted sockets inherit it; answers to pipelined requests would wait for each other otherwise.
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if allowed is not EVERYONE:
            self._apply()
        asyncio.get_running_loop().add_reader(self._sock, self._accept)

    @property
    def active(self) -> int:
        """See Server."""
        return len(self._connections)

    def take(
        self, sock: socket.socket, client: Address, dialled: str, service: str, on_end: Callable[[], None]
    ) -> None:
        """Take up a connection that kube-proxy has accepted for a virtual IP."""
        if not self.admits(client[0]):
            self._shared.record(self, client, Verdict.DROPPED, Path.HANDOVER, dialled, service)
            self._shared.held.hold(sock, on_end)
            return
        self._shared.record(self, client, Verdict.FORWARDED, Path.HANDOVER, dialled, service)
        self._take_up(sock, client, on_end)

    def drain(self, on_idle: Callable[[], None]) -> None:
        """See Server."""
        self.close()
        for connection in list(self._connections):
            connection.drain()
        if self._connections:
            self._on_idle = on_idle
        else:
            on_idle()

    def abort(self) -> None:
        """See Server."""
        self.close()
        for connection in list(self._connections):
            connection.abort()

    def close(self) -> None:
        """See Server. What the kernel has accepted already is still served."""
        if self._sock is not None:
            self._accept()
        super().close()

    def _accept(self) -> None:
        listener = self._sock
        assert listener is not None
        accept, record = listener.accept, self._shared.record
        judge_here = self._judge_here()
        for _ in range(_BATCH):
            try:
                sock, client = accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._accept_failed(listener, error)
                return
            sock.setblocking(False)
            if judge_here and not self.admits(client[0]):
                record(self, client, Verdict.DROPPED, None, "", "")
                self._shared.held.hold(sock)
            else:
                record(self, client, Verdict.FORWARDED, None, "", "")
                self._take_up(sock, client, None)

    def _accept_failed(self, listener: socket.socket, error: OSError) -> None:
        if error.errno not in OUT_OF_DESCRIPTORS:
            # The client has gone again (ECONNABORTED and the like, accept(2)).
            return
        log.error(
            "cannot accept a connection to %s:%d: %s; raise the limit of open files (ulimit -n)",
            self.address,
            self.port,
            error.strerror,
        )
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(_DESCRIPTORS_PAUSE_SECONDS, self._listen_again, listener)

    def _listen_again(self, listener: socket.socket) -> None:
        if self._sock is listener:
            asyncio.get_running_loop().add_reader(listener, self._accept)

    def _take_up(self, sock: socket.socket, client: Address, on_end: Callable[[], None] | None) -> None:
        connection = self._serve(sock, client, self._ended)
        self._connections[connection] = on_end
        # What was handed over is older, and its client's request has mostly arrived.
        connection.begin(at_once=on_end is not None)

    def _ended(self, connection: Connection) -> None:
        on_end = self._connections.pop(connection, None)
        if on_end is not None:
            on_end()
        if self._on_idle is not None and not self._connections:
            on_idle, self._on_idle = self._on_idle, None
            on_idle()


class UdpServer(Server):
    """A UDP socket that answers each datagram at once."""

    protocol = "UDP"

    def __init__(self, shared: Shared, address: str, port: int, allowed: Ranges, app: DatagramApp) -> None:
        super().__init__(shared, address, port, allowed)
        self._app = app
        self._sock = shared.plane.listen_udp(address, port, allowed)
        if allowed is not EVERYONE:
            self._apply()
        asyncio.get_running_loop().add_reader(self._sock, self._receive)

    def _receive(self) -> None:
        sock = self._sock
        assert sock is not None
        judge_here = self._judge_here()
        for _ in range(_BATCH):
            try:
                data, client = sock.recvfrom(_MAX_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # An ICMP error that belongs to an earlier reply.
                continue
            if judge_here and not self.admits(client[0]):
                self._shared.record(self, client, Verdict.DROPPED, None, "", "")
                continue
            self._shared.record(self, client, Verdict.FORWARDED, None, "", "")
            reply = self._app(data, client)
            if reply is not None:
                # A full buffer loses the reply, as UDP may.
                with contextlib.suppress(OSError):
                    sock.sendto(reply, client)
