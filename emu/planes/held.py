"""Connections that are kept without a byte, and connections that are reset.

What a dropped packet looks like once the kernel has accepted: a client that was let in before the decision
sees silence until it gives up.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable

_CHUNK = 64 * 1024
_NO_LINGER = struct.pack("ii", 1, 0)


def reset_on_close(sock: socket.socket) -> None:
    """Let the end of a connection be a RST instead of a FIN."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


def reset(sock: socket.socket) -> None:
    """Close with a RST, as the kernel does where nothing listens."""
    reset_on_close(sock)
    sock.close()


def _nothing() -> None:
    """Nobody waits for the end."""


class HeldConnections:
    """Denied connections: kept open without a byte, as a dropped SYN leaves its sender waiting.

    Used where the kernel does not filter. A connection ends when its client resets it, or `seconds` after
    its last data or end of stream; beyond `limit` the oldest is reset.
    """

    def __init__(self, limit: int = 2048, seconds: float = 130.0) -> None:
        self._limit = limit
        self._seconds = seconds
        self._held: OrderedDict[socket.socket, tuple[float, Callable[[], None]]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, sock: socket.socket, on_end: Callable[[], None] = _nothing) -> None:
        """Take over a connection. `on_end` is called when it is gone."""
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self._held[sock] = (loop.time() + self._seconds, on_end)
        loop.add_reader(sock.fileno(), self._readable, sock)
        if len(self._held) > self._limit:
            self._drop(next(iter(self._held)))
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._expire)

    def close(self) -> None:
        """Reset all of them."""
        for sock in list(self._held):
            self._drop(sock)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _readable(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._drop(sock)
            return
        loop = asyncio.get_running_loop()
        if not data:
            # A client that has said all may still be waiting for its answer.
            loop.remove_reader(sock.fileno())
        _, on_end = self._held.pop(sock)
        self._held[sock] = (loop.time() + self._seconds, on_end)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        while self._held:
            sock, (deadline, _) = next(iter(self._held.items()))
            if deadline > now:
                self._timer = loop.call_at(deadline, self._expire)
                return
            self._drop(sock)

    def _drop(self, sock: socket.socket) -> None:
        _, on_end = self._held.pop(sock)
        asyncio.get_running_loop().remove_reader(sock.fileno())
        reset(sock)
        on_end()
