"""Pods and their nodes, as far as the proxy can tell: HTTP-ish servers and a receiver of sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

from emu.planes.handover import Handover, HandoverReceiver


class TestNode:
    """Answers each connection with `pod client-ip how` and closes; keeps it open when told to."""

    __test__ = False

    def __init__(self, path: Path) -> None:
        self.received: list[Handover] = []
        self.keep = False
        self.kept: list[tuple[socket.socket, Callable[[], None]]] = []
        self._receiver = HandoverReceiver(path, self._on_socket)
        self._servers: list[asyncio.Server] = []
        self._transports: list[asyncio.DatagramTransport] = []

    async def start(self) -> None:
        self._receiver.start()

    async def pod(self, address: str, port: int) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            client = writer.get_extra_info("peername")[0]
            writer.write(f"{address}:{port} {client} direct\n".encode())
            writer.close()

        self._servers.append(await asyncio.start_server(serve, address, port, reuse_address=True))

    async def udp_pod(self, address: str, port: int) -> None:
        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport: asyncio.DatagramTransport) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                self.transport.sendto(f"{address}:{port} {addr[0]} ".encode() + data, addr)

        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            Echo, local_addr=(address, port)
        )
        self._transports.append(transport)

    def stop(self) -> None:
        self._receiver.stop()
        for server in self._servers:
            server.close()
        for transport in self._transports:
            transport.close()
        for sock, _ in self.kept:
            sock.close()

    def _on_socket(self, sock: socket.socket, handover: Handover, ended: Callable[[], None]) -> None:
        self.received.append(handover)
        # A client may be gone by now.
        with contextlib.suppress(OSError):
            text = f"{handover.endpoint}:{handover.port} {sock.getpeername()[0]} handover\n"
            sock.send(text.encode())
        if self.keep:
            self.kept.append((sock, ended))
        else:
            sock.close()
            ended()
