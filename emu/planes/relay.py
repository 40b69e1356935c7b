"""Copying bytes between two connections: back-pressure, half-close, and resets are passed on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from emu.planes.held import reset_on_close

_HIGH_WATER = 256 * 1024


class _Side(asyncio.Protocol):
    """One of the two connections."""

    def __init__(self, on_closed: Callable[[], None]) -> None:
        self._on_closed = on_closed
        self._at_end = False
        self._early: list[bytes] = []
        self.peer: _Side | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(_HIGH_WATER)
        self.transport = transport
        transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        assert self.peer is not None
        if self.peer.transport is None:
            # Before Python 3.11.4 a transport reads on when it was paused as early as connection_made.
            self._early.append(data)
        else:
            self.peer.transport.write(data)

    def begin(self) -> None:
        """Both sides are connected: pass on what came early, and read."""
        assert self.peer is not None
        assert self.peer.transport is not None
        for data in self._early:
            self.peer.transport.write(data)
        self._early.clear()
        if self._at_end and not self.peer.transport.is_closing():
            self.peer.transport.write_eof()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def eof_received(self) -> bool:
        assert self.peer is not None
        self._at_end = True
        if self.peer._at_end:
            self.peer.close()
            return False
        if self.peer.transport is not None and not self.peer.transport.is_closing():
            self.peer.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close with a RST."""
        if self.transport is not None and not self.transport.is_closing():
            reset_on_close(self.transport.get_extra_info("socket"))
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer is not None:
            if exc is not None:
                self.peer.abort()
            else:
                self.peer.close()
        self._on_closed()


class Relay:
    """A running copy of both directions between two connected sockets, which it owns."""

    def __init__(self, on_ended: Callable[[], None]) -> None:
        """`on_ended` is called once, when both connections are closed."""
        self._on_ended = on_ended
        self._open = 0
        self._sides: tuple[_Side, _Side] | None = None

    async def start(self, client: socket.socket, server: socket.socket) -> None:
        """Begin to copy between two non-blocking sockets."""
        loop = asyncio.get_running_loop()
        sides = (_Side(self._closed), _Side(self._closed))
        sides[0].peer, sides[1].peer = sides[1], sides[0]
        self._open = 2
        self._sides = sides
        for side, sock in zip(sides, (client, server), strict=True):
            await loop.connect_accepted_socket(lambda side=side: side, sock)  # type: ignore[misc]
        for side in sides:
            side.begin()

    def stop(self) -> None:
        """Reset both connections."""
        for side in self._sides or ():
            side.abort()

    def _closed(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._on_ended()
