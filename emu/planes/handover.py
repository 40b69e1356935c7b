"""Passing accepted sockets from kube-proxy to the node that hosts the chosen pod.

A Unix SOCK_SEQPACKET connection carries one message for each socket (SCM_RIGHTS); the node answers with the
numbers of connections that have ended, so that ipvs schedulers know true connection counts. After the
handover the proxy is not on the path: no copy, no extra hop, and the connection outlives the proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

_MAX_MESSAGE = 64 * 1024
_BATCH = 64


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
        self._next = 0

    def send(
        self, sock: socket.socket, endpoint: str, port: int, vip: tuple[str, int], service: str
    ) -> int | None:
        """Hand a socket over; this process's copy is closed. The number that `on_ended` will be called with.

        None when the node's process is not there: the socket is still open, and the caller's.
        """
        if self._sock is None and not self._connect():
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
        """Close the channel. Connections that were handed over go on."""
        if self._sock is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sock)
        loop.remove_writer(self._sock)
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
            sock.connect(str(self._path))
        except OSError:
            sock.close()
            return False
        self._sock = sock
        asyncio.get_running_loop().add_reader(sock, self._receive)
        return True

    def _transmit(self, message: Handover, sock: socket.socket) -> bool:
        """Send, or queue while the channel is full. False when the node is gone."""
        assert self._sock is not None
        try:
            socket.send_fds(self._sock, [_encode(message)], [sock.fileno()])
        except BlockingIOError:
            self._queue.append((message, sock))
            asyncio.get_running_loop().add_writer(self._sock, self._flush)
            return True
        except OSError:
            self.close()
            return False
        sock.close()
        return True

    def _flush(self) -> None:
        assert self._sock is not None
        while self._queue:
            message, sock = self._queue[0]
            try:
                socket.send_fds(self._sock, [_encode(message)], [sock.fileno()])
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            self._queue.popleft()
            sock.close()
        asyncio.get_running_loop().remove_writer(self._sock)

    def _receive(self) -> None:
        assert self._sock is not None
        for _ in range(_BATCH):
            try:
                data = self._sock.recv(_MAX_MESSAGE)
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
            listener.bind(str(self._path))
        finally:
            os.umask(previous)
        listener.listen(16)
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
        peer.setblocking(False)
        self._peers.add(peer)
        asyncio.get_running_loop().add_reader(peer, self._receive, peer)

    def _receive(self, peer: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                data, fds, _flags, _address = socket.recv_fds(peer, _MAX_MESSAGE, 1)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._drop(peer)
                return
            message = _decode_handover(data)
            for fd in fds:
                sock = socket.socket(fileno=fd)
                sock.setblocking(False)
                self._on_socket(sock, message, functools.partial(self._end, peer, message.number))

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
            peer.send(_encode(waiting[:5000]))
        except BlockingIOError:
            self._ended[peer] = waiting
            asyncio.get_running_loop().call_later(0.01, self._report, peer)
            return
        except OSError:
            self._drop(peer)
            return
        if rest := waiting[5000:]:
            self._ended[peer] = rest
            asyncio.get_running_loop().call_soon(self._report, peer)

    def _drop(self, peer: socket.socket) -> None:
        self._peers.discard(peer)
        self._ended.pop(peer, None)
        asyncio.get_running_loop().remove_reader(peer)
        peer.close()
