"""Passing accepted sockets from kube-proxy to the node that hosts the chosen pod.

A Unix SOCK_SEQPACKET connection carries one message for each socket (SCM_RIGHTS); the node answers with the
numbers of connections that have ended, so that ipvs schedulers know true connection counts. After the
handover the proxy is not on the path: no copy, no extra hop, and the connection outlives the proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

_MAX_MESSAGE = 64 * 1024
_BATCH = 64
_BACKLOG = 128
_MAX_QUEUED = 1024
_RETRY_SECONDS = 0.01
_ACCEPT_AGAIN_SECONDS = 0.2
_DESCRIPTOR = struct.Struct("i")
_MAX_ENDED_IN_MESSAGE = 5000
# Received descriptors must not leak into programs that the node starts.
_RECEIVE_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
# `sun_path` of Linux and macOS, less the terminating zero of the shorter one.
_LONGEST_PATH = 103


class Handover(msgspec.Struct, frozen=True, array_like=True):
    """What the proxy tells about an accepted TCP connection. The client is the socket's peer."""

    number: int
    """Chosen by the proxy, unique for the life of its connection to the node."""
    endpoint: str
    """The pod's address."""
    port: int
    """The pod's port."""
    virtual_ip: str
    virtual_port: int
    service: str
    """`namespace/name:port` as kube-proxy writes it."""


_encode = msgspec.msgpack.Encoder().encode
_decode_handover = msgspec.msgpack.Decoder(Handover).decode
_decode_ended = msgspec.msgpack.Decoder(list[int]).decode


class HandoverSender:
    """The proxy's end for one node. Connects on first use and again after the node was away."""

    def __init__(self, path: Path, on_ended: Callable[[int], None]) -> None:
        self._path = path
        self._on_ended = on_ended
        self._sock: socket.socket | None = None
        self._in_flight: set[int] = set()
        self._queue: deque[tuple[Handover, socket.socket]] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._next = 0

    def send(
        self, sock: socket.socket, endpoint: str, port: int, vip: tuple[str, int], service: str
    ) -> int | None:
        """Hand a socket over; this process's copy is closed. The number that `on_ended` will be called with.

        None when the node's process is not there, or has not taken what waits for it already: the socket is
        still open, and the caller's.
        """
        if len(self._queue) >= _MAX_QUEUED:
            return None
        self._next += 1
        message = Handover(self._next, endpoint, port, vip[0], vip[1], service)
        if self._queue:
            self._queue.append((message, sock))
        elif not self._transmit(message, sock):
            return None
        self._in_flight.add(message.number)
        return message.number

    def close(self) -> None:
        """Close the channel. Connections that were handed over go on; those that still wait are closed.

        `on_ended` is called for all of them, for nothing more will be heard of them.
        """
        if self._sock is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sock)
        loop.remove_writer(self._sock)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._sock.close()
        self._sock = None
        while self._queue:
            self._queue.popleft()[1].close()
        ended, self._in_flight = self._in_flight, set()
        for number in ended:
            self._on_ended(number)

    def _connect(self) -> bool:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        try:
            with _short_path(self._path) as address:
                sock.connect(address)
        except OSError:
            sock.close()
            return False
        self._sock = sock
        asyncio.get_running_loop().add_reader(sock, self._receive)
        return True

    def _transmit(self, message: Handover, sock: socket.socket) -> bool:
        """Send, or queue while the channel is full. False when the node is gone."""
        # A node that was restarted is found out by the first message that it cannot take.
        for _ in range(2):
            if self._sock is None and not self._connect():
                return False
            try:
                self._pass_on(message, sock)
            except OSError as error:
                if _is_full(error):
                    self._queue.append((message, sock))
                    self._wait(error)
                    return True
                self.close()
            else:
                return True
        return False

    def _flush(self) -> None:
        self._retry = None
        while self._queue and self._sock is not None:
            try:
                self._pass_on(*self._queue[0])
            except OSError as error:
                if _is_full(error):
                    self._wait(error)
                else:
                    self.close()
                return
            self._queue.popleft()
        if self._sock is not None:
            asyncio.get_running_loop().remove_writer(self._sock)

    def _pass_on(self, message: Handover, sock: socket.socket) -> None:
        assert self._sock is not None
        socket.send_fds(self._sock, [_encode(message)], [sock.fileno()])
        sock.close()

    def _wait(self, error: OSError) -> None:
        """Flush when the channel has room, or soon where the kernel cannot tell when it will have."""
        assert self._sock is not None
        loop = asyncio.get_running_loop()
        if isinstance(error, BlockingIOError):
            loop.add_writer(self._sock, self._flush)
            return
        loop.remove_writer(self._sock)
        self._retry = loop.call_later(_RETRY_SECONDS, self._flush)

    def _receive(self) -> None:
        channel = self._sock
        for _ in range(_BATCH):
            if channel is None or channel is not self._sock:
                # `on_ended` closed it.
                return
            try:
                data = channel.recv(_MAX_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            for number in _decode_ended(data):
                if number in self._in_flight:
                    self._in_flight.discard(number)
                    self._on_ended(number)


class HandoverReceiver:
    """The node's end: a listening socket at `path`, readable by its owner only."""

    def __init__(
        self, path: Path, on_socket: Callable[[socket.socket, Handover, Callable[[], None]], None]
    ) -> None:
        """`on_socket` gets the connection, what is known of it, and what to call when it has ended."""
        self._path = path
        self._on_socket = on_socket
        self._listener: socket.socket | None = None
        self._peers: set[socket.socket] = set()
        self._ended: dict[socket.socket, list[int]] = {}

    def start(self) -> None:
        """Listen. A socket file that an earlier process left is replaced."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        previous = os.umask(0o177)
        try:
            with _short_path(self._path) as address:
                listener.bind(address)
        except OSError:
            listener.close()
            raise
        finally:
            os.umask(previous)
        listener.listen(_BACKLOG)
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept)

    def stop(self) -> None:
        """Close the channel and remove the socket file. Connections that were received go on."""
        loop = asyncio.get_running_loop()
        for peer in list(self._peers):
            self._drop(peer)
        if self._listener is not None:
            loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            peer, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Out of descriptors: the listener stays readable, so look again later rather than at once.
            log.warning("cannot accept kube-proxy at %s: %s", self._path, error)
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener)
            loop.call_later(_ACCEPT_AGAIN_SECONDS, self._accept_again)
            return
        peer.setblocking(False)
        self._peers.add(peer)
        asyncio.get_running_loop().add_reader(peer, self._receive, peer)

    def _accept_again(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _receive(self, peer: socket.socket) -> None:
        for _ in range(_BATCH):
            if peer not in self._peers:
                # `on_socket` stopped this receiver.
                return
            try:
                data, fds = _receive_message(peer)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._drop(peer)
                return
            message = _decode_handover(data)
            ended = functools.partial(self._end, peer, message.number)
            if not fds:
                log.warning(
                    "lost a connection to %s: this process is out of file descriptors", message.service
                )
                ended()
            for fd in fds:
                sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=fd)
                sock.setblocking(False)
                self._on_socket(sock, message, ended)

    def _end(self, peer: socket.socket, number: int) -> None:
        """Tell the proxy, several at a time: the message goes out at the end of this turn of the loop."""
        if peer not in self._peers:
            return
        waiting = self._ended.setdefault(peer, [])
        if not waiting:
            asyncio.get_running_loop().call_soon(self._report, peer)
        waiting.append(number)

    def _report(self, peer: socket.socket) -> None:
        waiting = self._ended.pop(peer, [])
        if peer not in self._peers or not waiting:
            return
        try:
            peer.send(_encode(waiting[:_MAX_ENDED_IN_MESSAGE]))
        except BlockingIOError:
            self._ended[peer] = waiting
            asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._report, peer)
            return
        except OSError:
            self._drop(peer)
            return
        if rest := waiting[_MAX_ENDED_IN_MESSAGE:]:
            self._ended[peer] = rest
            asyncio.get_running_loop().call_soon(self._report, peer)

    def _drop(self, peer: socket.socket) -> None:
        self._peers.discard(peer)
        self._ended.pop(peer, None)
        asyncio.get_running_loop().remove_reader(peer)
        peer.close()


def _receive_message(peer: socket.socket) -> tuple[bytes, list[int]]:
    # Python 3.11's `recv_fds` passes no flags on to the kernel.
    data, ancillary, _, _ = peer.recvmsg(_MAX_MESSAGE, socket.CMSG_SPACE(_DESCRIPTOR.size), _RECEIVE_FLAGS)
    fds = [
        fd
        for level, kind, content in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for (fd,) in _DESCRIPTOR.iter_unpack(content[: len(content) - len(content) % _DESCRIPTOR.size])
    ]
    return data, fds


def _is_full(error: OSError) -> bool:
    """Whether a channel cannot take a descriptor now: no room, or the kernel's limit of those in flight."""
    return isinstance(error, BlockingIOError) or error.errno in (errno.ETOOMANYREFS, errno.ENOBUFS)


@contextlib.contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """A name for a socket file that fits into a socket's address, however deep the state directory is."""
    if len(os.fsencode(path)) <= _LONGEST_PATH or not Path("/proc/self/fd").exists():
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
