"""Copying bytes between connections: back-pressure, half-close, and resets are passed on.

All relays of a process share an epoll of their own inside the event loop's: to register a socket with asyncio
costs several times as much, and a short connection does little else. Small messages are copied through one
buffer that all share. A sender that fills it is bulk, and its bytes go from socket to socket through a pipe
without coming here (splice(2)).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import socket
from collections.abc import Callable

from emu.planes.held import reset

HIGH_WATER = 1 << 20
"""Bytes that are held at most for an end that does not read, beyond what its socket takes."""

_CHUNK = 64 * 1024
# A pipe is needed while an end does not take its bytes; between two turns the others need none.
_SPARE_PIPES = 4
_READ, _WRITE = select.EPOLLIN | select.EPOLLRDHUP, select.EPOLLOUT


class _Pipe:
    """Where bytes wait that were taken from one socket and not yet given to the other."""

    __slots__ = ("_into", "_out", "_size")

    def __init__(self) -> None:
        self._out, self._into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._size = 0
        # Users have a limit for pipes that are larger than usual.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._into, fcntl.F_SETPIPE_SZ, HIGH_WATER)

    def __len__(self) -> int:
        return self._size

    def fill(self, source: int) -> None:
        """Take what a socket has; nothing at its end. Raises BlockingIOError when it has nothing."""
        self._size = os.splice(source, self._into, HIGH_WATER, flags=os.SPLICE_F_NONBLOCK)

    def pour(self, sink: int) -> None:
        """Give a socket as much as it takes."""
        with contextlib.suppress(BlockingIOError):
            self._size -= os.splice(self._out, sink, self._size, flags=os.SPLICE_F_NONBLOCK)

    def close(self) -> None:
        os.close(self._out)
        os.close(self._into)


class _End:
    """One of the two connections of a relay. Nothing is read from it while the other one holds its bytes."""

    __slots__ = ("at_end", "bulk", "events", "fd", "held", "on_ended", "other", "sock")

    def __init__(self, sock: socket.socket, on_ended: Callable[[], None]) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.on_ended = on_ended
        self.events = 0
        self.held: memoryview | _Pipe | None = None
        """What it has not taken yet."""
        self.at_end = False
        """It has said all that it will say."""
        self.bulk = False
        """It sends so much that its bytes are worth a pipe."""
        self.other: _End


class Relays:
    """The running copies of a process."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._ends: dict[int, _End] = {}
        self._buffer = memoryview(bytearray(_CHUNK))
        self._pipes: list[_Pipe] = []

    def __len__(self) -> int:
        return len(self._ends) // 2

    def start(self, client: socket.socket, server: socket.socket, on_ended: Callable[[], None]) -> None:
        """Copy both directions between two non-blocking sockets, which are this object's from now on.

        `on_ended` is called once, when both connections are closed; that may be at once.
        """
        one, other = _End(client, on_ended), _End(server, on_ended)
        one.other, other.other = other, one
        if self._epoll is None:
            self._open()
        for end in (one, other):
            # Who sends knows best what belongs together.
            end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends[end.fd] = end
            self._watch(end, _READ)
        # By the time that a server has been dialled its client's request is there.
        self._pass_on(one)

    def close(self) -> None:
        """Reset all connections."""
        for end in list(self._ends.values()):
            self._reset(end)
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _open(self) -> None:
        self._epoll = select.epoll()
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._ready, self._epoll)

    def _ready(self, epoll: select.epoll) -> None:
        ends = self._ends
        for fd, events in epoll.poll(0):
            end = ends.get(fd)
            if end is not None and end.held is not None:
                self._hand_on(end, end.held)
                events &= ~_WRITE
                end = ends.get(fd)
            if end is not None and events and end.events & _READ:
                self._pass_on(end, bool(events & select.EPOLLRDHUP))

    def _pass_on(self, end: _End, hung_up: bool = False) -> None:
        """An end can be read; `hung_up` when its end of stream has come already."""
        other = end.other
        try:
            if end.bulk and (pipe := self._take_pipe()) is not None:
                self._splice(end, other, pipe)
            else:
                self._copy(end, other, hung_up)
        except BlockingIOError:
            return
        except OSError:
            self._reset(end)

    def _copy(self, end: _End, other: _End, hung_up: bool) -> None:
        size = end.sock.recv_into(self._buffer)
        if not size:
            self._half_close(end, other)
            return
        end.bulk = size == _CHUNK
        last = hung_up and not end.bulk and not end.sock.recv(1, socket.MSG_PEEK)
        try:
            # The last bytes and the end go in one segment, as they have come.
            sent = other.sock.send(self._buffer[:size], socket.MSG_MORE if last else 0)
        except BlockingIOError:
            sent = 0
        if sent < size:
            self._hold(other, memoryview(bytes(self._buffer[sent:size])))
        elif last:
            self._half_close(end, other)

    def _splice(self, end: _End, other: _End, pipe: _Pipe) -> None:
        try:
            pipe.fill(end.fd)
            end.bulk = len(pipe) >= _CHUNK
            if not pipe:
                self._half_close(end, other)
                return
            pipe.pour(other.fd)
            if pipe:
                self._hold(other, pipe)
        finally:
            if other.held is not pipe:
                self._give_back(pipe)

    def _hold(self, end: _End, what: memoryview | _Pipe) -> None:
        end.held = what
        self._watch(end, end.events | _WRITE)
        self._watch(end.other, end.other.events & ~_READ)

    def _hand_on(self, end: _End, held: memoryview | _Pipe) -> None:
        """An end takes bytes again."""
        rest: memoryview | _Pipe
        try:
            if isinstance(held, _Pipe):
                held.pour(end.fd)
                rest = held
            else:
                rest = held[end.sock.send(held) :]
        except BlockingIOError:
            return
        except OSError:
            self._reset(end)
            return
        if rest:
            end.held = rest
            return
        end.held = None
        if isinstance(held, _Pipe):
            self._give_back(held)
        self._watch(end, end.events & ~_WRITE)
        self._watch(end.other, end.other.events | _READ)

    def _half_close(self, end: _End, other: _End) -> None:
        end.at_end = True
        if not other.at_end:
            self._watch(end, end.events & ~_READ)
            other.sock.shutdown(socket.SHUT_WR)
            return
        self._release(end)
        for each in (end, other):
            each.sock.close()
        end.on_ended()

    def _reset(self, end: _End) -> None:
        if end.fd in self._ends:
            self._release(end)
            for each in (end, end.other):
                reset(each.sock)
            end.on_ended()

    def _release(self, end: _End) -> None:
        """Forget both ends, which are about to be closed."""
        for each in (end, end.other):
            self._watch(each, 0)
            del self._ends[each.fd]
            if isinstance(each.held, _Pipe):
                each.held.close()
            each.held = None
        if not self._ends:
            self._close_pipes()

    def _watch(self, end: _End, events: int) -> None:
        """Ask for events of an end. One of which none are wanted is taken out: hang-ups are always told."""
        assert self._epoll is not None
        if not events:
            if end.events:
                self._epoll.unregister(end.fd)
        elif end.events:
            self._epoll.modify(end.fd, events)
        else:
            self._epoll.register(end.fd, events)
        end.events = events

    def _take_pipe(self) -> _Pipe | None:
        if self._pipes:
            return self._pipes.pop()
        try:
            return _Pipe()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return None
            raise

    def _close_pipes(self) -> None:
        while self._pipes:
            self._pipes.pop().close()

    def _give_back(self, pipe: _Pipe) -> None:
        if pipe or not self._ends or len(self._pipes) >= _SPARE_PIPES:
            pipe.close()
        else:
            self._pipes.append(pipe)
