"""Connections that are held without a byte: what a dropped packet looks like once the kernel has accepted.

A client that was let in before the decision sees silence until it gives up. Nothing is read from it; where
the system has epoll its leaving is noticed, elsewhere the oldest connections make room for new ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct

HELD_AT_MOST = 4096
_RESET = struct.pack("ii", 1, 0)


def reset(sock: socket.socket) -> None:
    """Close a connection with a RST."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


class HeldConnections:
    """A bounded set of silent connections. When it is full the oldest is reset."""

    def __init__(self, at_most: int = HELD_AT_MOST) -> None:
        self._at_most = at_most
        self._held: dict[int, socket.socket] = {}
        self._epoll: select.epoll | None = None

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, sock: socket.socket) -> None:
        """Take over a connection."""
        if len(self._held) >= self._at_most:
            self._release(next(iter(self._held)))
        self._held[sock.fileno()] = sock
        if hasattr(select, "epoll"):
            if self._epoll is None:
                self._epoll = select.epoll()
                asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._clients_left)
            # Not for input: what a client sends shall not wake the proxy.
            self._epoll.register(sock.fileno(), select.EPOLLRDHUP)

    def close(self) -> None:
        """Reset all of them."""
        for fd in list(self._held):
            self._release(fd)
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _clients_left(self) -> None:
        assert self._epoll is not None
        for fd, _ in self._epoll.poll(0, 256):
            self._release(fd)

    def _release(self, fd: int) -> None:
        sock = self._held.pop(fd)
        if self._epoll is not None:
            self._epoll.unregister(fd)
        reset(sock)
