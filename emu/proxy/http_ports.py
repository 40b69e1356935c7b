"""HTTP at addresses that come and go: one server for all of them, each opened and closed by itself.

A port costs a listening socket and nothing more, so there may be hundreds. What cannot be bound is reported
once for each cause and tried again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable

from aiohttp import web

from emu.planes.base import Plane

log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 30.0
_PAUSE_SECONDS = 0.1
_STOP_SECONDS = 0.5

At = tuple[str, int]
"""A local address and port."""


class HttpPorts:
    """The addresses of one server; `local_address` tells its handler where a request came in."""

    def __init__(self, plane: Plane, server: web.Server, report: Callable[[At, OSError], None]) -> None:
        """`report` is told why a wanted address cannot be bound."""
        self._plane = plane
        self._server = server
        self._report = report
        self._listeners: dict[At, socket.socket] = {}
        self._accepted: set[asyncio.Task[object]] = set()
        self._failures: dict[At, int | None] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._delay = _FIRST_RETRY_SECONDS

    def open(self, addresses: Iterable[At]) -> None:
        """Serve at addresses that are not served yet."""
        for at in addresses:
            self._open(at)

    def close(self, addresses: Iterable[At]) -> None:
        """Serve no longer at some addresses; kept connections there end."""
        closed = set()
        for at in addresses:
            self._failures.pop(at, None)
            listener = self._listeners.pop(at, None)
            if listener is not None:
                closed.add(at)
                asyncio.get_running_loop().remove_reader(listener.fileno())
                listener.close()
        if closed:
            for connection in self._server.connections:
                transport = connection.transport
                if transport is not None and _local(transport) in closed:
                    transport.close()

    async def stop(self) -> None:
        """Close everything."""
        if self._retry is not None:
            self._retry.cancel()
        self.close([*self._failures, *self._listeners])
        await asyncio.gather(*self._accepted)
        await self._server.shutdown(_STOP_SECONDS)

    def _open(self, at: At) -> None:
        try:
            sock = self._plane.listen_tcp(*at)
        except OSError as error:
            self._failed(at, error)
            return
        self._failures.pop(at, None)
        self._listeners[at] = sock
        asyncio.get_running_loop().add_reader(sock.fileno(), self._accept, at, sock)

    def _accept(self, at: At, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            # Out of descriptors: the client waits in the backlog for some to come back.
            log.debug("cannot accept at %s:%s: %s", *at, error.strerror)
            loop.remove_reader(listener.fileno())
            loop.call_later(_PAUSE_SECONDS, self._resume, at, listener)
            return
        sock.setblocking(False)
        task = loop.create_task(loop.connect_accepted_socket(self._server, sock))
        self._accepted.add(task)
        task.add_done_callback(self._accepted.discard)

    def _resume(self, at: At, listener: socket.socket) -> None:
        if self._listeners.get(at) is listener:
            asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, at, listener)

    def _failed(self, at: At, error: OSError) -> None:
        if self._failures.get(at) != error.errno:
            self._failures[at] = error.errno
            self._report(at, error)
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(self._delay, self._try_again)
            self._delay = min(self._delay * 2, _LAST_RETRY_SECONDS)

    def _try_again(self) -> None:
        self._retry = None
        self.open(list(self._failures))
        if not self._failures:
            self._delay = _FIRST_RETRY_SECONDS


def local_address(request: web.BaseRequest) -> At:
    """The address and port that a client has dialled."""
    transport = request.transport
    # A client that is gone already hears no answer.
    return ("", 0) if transport is None else _local(transport)


def _local(transport: asyncio.BaseTransport) -> At:
    ip, port = transport.get_extra_info("sockname")[:2]
    return ip, port
