"""The I/O of accepted connections: one small object each, on the event loop's readiness callbacks.

asyncio's transports cost more for each new connection than all the rest of a short request, and a socket
that kube-proxy hands over must be taken up without waiting; hence add_reader and add_writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from emu.nodes.http import Address, HttpApp, HttpSession, Response
from emu.planes.held import reset_on_close

_CHUNK = 64 * 1024
_MORE = getattr(socket, "MSG_MORE", 0)
_LINGER_SECONDS = 2.0
# A new client of a pod that ends may have its request on the way.
_FIRST_REQUEST_SECONDS = 1.0


class Connection(Protocol):
    """A connection that is being served."""

    def begin(self, *, at_once: bool) -> None:
        """Take up what the client sends; `at_once` when something is likely to be there already.

        May call back that it has ended.
        """

    def abort(self) -> None:
        """Reset it."""

    def drain(self) -> None:
        """End it, after the request that is under way, if any."""


Serve = Callable[[socket.socket, Address, Callable[[Connection], None]], Connection]
"""Prepares an accepted socket whose peer is the given address; calls back when it has ended."""


def serve_http(app: HttpApp) -> Serve:
    """Serve HTTP on each connection."""

    def take(sock: socket.socket, client: Address, on_end: Callable[[Connection], None]) -> Connection:
        return HttpConnection(sock, HttpSession(app, client), on_end)

    return take


def serve_greeting(greeting: bytes) -> Serve:
    """Send the same bytes on each connection and close it."""

    def take(sock: socket.socket, client: Address, on_end: Callable[[Connection], None]) -> Connection:
        return _Greeting(sock, greeting, on_end)

    return take


class _Greeting:
    def __init__(self, sock: socket.socket, greeting: bytes, on_end: Callable[[Connection], None]) -> None:
        self._sock = sock
        self._greeting = greeting
        self._on_end = on_end

    def begin(self, *, at_once: bool) -> None:
        """See Connection."""
        with contextlib.suppress(OSError):
            self._sock.send(self._greeting)
        self._sock.close()
        self._on_end(self)

    def abort(self) -> None:
        """There is nothing left to reset."""

    def drain(self) -> None:
        """There is nothing left to end."""


class HttpConnection:
    """Moves bytes between a socket and its HttpSession. Reads nothing while an answer is under way."""

    __slots__ = ("_fd", "_linger", "_loop", "_on_end", "_out", "_reading", "_session", "_sock", "_task")

    def __init__(
        self, sock: socket.socket, session: HttpSession, on_end: Callable[[Connection], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._fd = sock.fileno()
        self._session = session
        self._on_end = on_end
        self._out: memoryview | None = None
        self._task: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._reading = False

    def begin(self, *, at_once: bool) -> None:
        """See Connection."""
        if at_once:
            self._readable()
        if self._fd >= 0 and self._out is None and self._task is None:
            self._read_on()

    def _read_on(self) -> None:
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self._fd, self._readable)

    def _read_off(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def abort(self) -> None:
        """See Connection."""
        if self._fd >= 0:
            reset_on_close(self._sock)
            self._end()

    def drain(self) -> None:
        """See Connection."""
        self._session.draining = True
        if self._out is None and self._session.idle:
            self._readable()
            if self._session.fresh:
                self._loop.call_later(_FIRST_REQUEST_SECONDS, self._end_idle)
            else:
                self._end_idle()

    def _end_idle(self) -> None:
        if self._fd >= 0 and self._out is None and self._session.idle:
            self._end()

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end()
            return
        if not data:
            self._end()
        elif self._linger is None:
            session = self._session
            out = session.receive(data)
            if out or session.finished or session.waiting is not None:
                self._send(out)

    def _send(self, data: bytes) -> None:
        """Send, then what follows: chunks, an awaited answer, the end, or reading again."""
        if data:
            try:
                # The end of the connection travels in the last segment of the last answer.
                sent = self._sock.send(data, _MORE if self._session.finished else 0)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self._end()
                return
            if sent < len(data):
                self._out = memoryview(data)[sent:]
                self._read_off()
                self._loop.add_writer(self._fd, self._writable)
                return
        session = self._session
        if session.stream is not None or session.waiting is not None or session.finished:
            self._go_on()

    def _writable(self) -> None:
        assert self._out is not None
        try:
            sent = self._sock.send(self._out)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end()
            return
        self._out = self._out[sent:]
        if self._out:
            return
        self._out = None
        session = self._session
        if session.stream is not None:
            chunk = next(session.stream, None)
            if chunk is not None:
                self._out = memoryview(chunk)
                return
        self._loop.remove_writer(self._fd)
        self._read_on()
        if session.stream is not None:
            self._send(session.resume())
        else:
            self._go_on()

    def _go_on(self) -> None:
        session = self._session
        if session.stream is not None:
            self._out = memoryview(next(session.stream, b""))
            self._read_off()
            self._loop.add_writer(self._fd, self._writable)
        elif session.waiting is not None:
            self._read_off()
            self._task = self._loop.create_task(self._await(session.waiting))
        elif session.failed:
            self._linger_until_eof()
        elif session.finished:
            self._end()

    async def _await(self, waiting: Awaitable[Response]) -> None:
        try:
            response = await waiting
        except BaseException:
            self._task = None
            self.abort()
            raise
        self._task = None
        if self._fd >= 0:
            self._read_on()
            self._send(self._session.resume(response))

    def _linger_until_eof(self) -> None:
        """Read and discard for a while: closing with unread data would reset, and the answer be lost."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._end()
            return
        self._linger = self._loop.call_later(_LINGER_SECONDS, self.abort)

    def _end(self) -> None:
        if self._fd < 0:
            return
        self._read_off()
        if self._out is not None:
            self._loop.remove_writer(self._fd)
            self._out = None
        if self._linger is not None:
            self._linger.cancel()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._fd = -1
        self._sock.close()
        self._session.close()
        self._on_end(self)
