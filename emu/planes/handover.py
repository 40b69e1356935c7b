"""Passing accepted sockets from kube-proxy to the node that hosts the chosen pod.

A Unix SOCK_SEQPACKET connection carries the sockets (SCM_RIGHTS), as many in a message as were accepted in
one turn of the proxy's loop. Where the proxy asked for it, since ipvs schedulers need true counts, the node
answers with the numbers of connections that have ended. After the handover the proxy is not on the path: no
copy, no extra hop, and the connection outlives the proxy.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from emu.planes.held import reset

log = logging.getLogger(__name__)

_MAX_MESSAGE = 64 * 1024
# The kernel takes 253 descriptors in a message (SCM_MAX_FD).
_MAX_SOCKETS_IN_MESSAGE = 64
_MESSAGES_PER_TURN = 64
_BACKLOG = 128
_MAX_QUEUED = 1024
_RETRY_SECONDS = 0.01
_ACCEPT_AGAIN_SECONDS = 0.2
_DESCRIPTOR = struct.Struct("i")
_ANCILLARY_SPACE = socket.CMSG_SPACE(_DESCRIPTOR.size * _MAX_SOCKETS_IN_MESSAGE)
_MAX_ENDED_IN_MESSAGE = 5000
# Received descriptors must not leak into programs that the node starts.
_RECEIVE_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
# `sun_path` of Linux and macOS, less the terminating zero of the shorter one.
_LONGEST_PATH = 103


class Handover(msgspec.Struct, frozen=True, array_like=True):
    """What the proxy tells about an accepted TCP connection."""

    number: int
    """Chosen by the proxy, unique for the life of its channel to the node; 0 when its end does not matter."""
    client: str
    """The socket's peer, told along to spare the node a system call."""
    client_port: int
    endpoint: str
    """The pod's address."""
    port: int
    """The pod's port."""
    virtual_ip: str
    virtual_port: int
    service: str
    """`namespace/name:port` as kube-proxy writes it."""


Account = TypeVar("Account")

_encode = msgspec.msgpack.Encoder().encode
_decode_handovers = msgspec.msgpack.Decoder(list[Handover]).decode
_decode_ended = msgspec.msgpack.Decoder(list[int]).decode


def accepted_socket(fd: int) -> socket.socket:
    """The socket object of an accepted TCP connection, to which the descriptor belongs from now on."""
    # Family, type and protocol are given, or the constructor would ask the kernel for each.
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)


class HandoverSender(Generic[Account]):
    """The proxy's end for one node. Connects on first use and again after the node was away."""

    def __init__(self, path: Path, on_ended: Callable[[Account], None]) -> None:
        self._path = path
        self._on_ended = on_ended
        self._channel: socket.socket | None = None
        self._in_flight: dict[int, Account] = {}
        self._waiting: list[Handover] = []
        self._descriptors: list[int] = []
        """Of those that wait, in the same order."""
        self._retry: asyncio.TimerHandle | None = None
        self._awaits_room = False
        self._next = 0

    def send(
        self,
        fd: int,
        client: tuple[str, int],
        endpoint: str,
        port: int,
        vip: tuple[str, int],
        service: str,
        account: Account | None = None,
    ) -> bool:
        """Hand over a connection by its descriptor, with the next `flush`. It is this object's from now on.

        `on_ended` is called with its `account`, if it has one, when it is over. False when the node's process
        is not there, or has not taken what waits for it already: the descriptor is still the caller's. A node
        that dies before it has taken the connection resets it.
        """
        if len(self._waiting) >= _MAX_QUEUED or not self.reachable():
            return False
        number = 0
        if account is not None:
            self._next += 1
            number = self._next
            self._in_flight[number] = account
        self._waiting.append(Handover(number, *client, endpoint, port, *vip, service))
        self._descriptors.append(fd)
        return True

    def flush(self) -> None:
        """Send off what waits, as many as go into one message together."""
        if self._retry is None and not self._awaits_room:
            self._flush()

    def close(self) -> None:
        """Close the channel. Connections that were handed over go on; those that still wait are reset.

        `on_ended` is called for all of them, for nothing more will be heard of them.
        """
        for fd in self._descriptors:
            reset(accepted_socket(fd))
        self._waiting.clear()
        self._descriptors.clear()
        self._disconnect()
        self._ended(list(self._in_flight))

    def reachable(self) -> bool:
        """Whether the node's process is there."""
        return self._channel is not None or self._connect()

    def _connect(self) -> bool:
        try:
            channel = _channel_to(self._path)
        except OSError:
            return False
        self._channel = channel
        asyncio.get_running_loop().add_reader(channel, self._receive)
        return True

    def _disconnect(self) -> None:
        """Close the channel; what it has carried has ended as far as this process will know."""
        if self._channel is None:
            return
        self._await_room(self._channel, False)
        asyncio.get_running_loop().remove_reader(self._channel)
        self._channel.close()
        self._channel = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        waiting = {handover.number for handover in self._waiting}
        self._ended([number for number in self._in_flight if number not in waiting])

    def _ended(self, numbers: list[int]) -> None:
        for number in numbers:
            account = self._in_flight.pop(number, None)
            if account is not None:
                self._on_ended(account)

    def _flush(self) -> None:
        self._retry = None
        while self._waiting and self._channel is not None:
            handovers = self._waiting[:_MAX_SOCKETS_IN_MESSAGE]
            descriptors = self._descriptors[:_MAX_SOCKETS_IN_MESSAGE]
            try:
                socket.send_fds(self._channel, [_encode(handovers)], descriptors)
            except OSError as error:
                if _is_full(error):
                    self._wait(self._channel, error)
                    return
                # A node that was restarted is found out by the first message that it cannot take.
                self._disconnect()
                if not self._connect():
                    self.close()
                continue
            del self._waiting[: len(handovers)], self._descriptors[: len(handovers)]
            for fd in descriptors:
                os.close(fd)
        if self._awaits_room and self._channel is not None:
            self._await_room(self._channel, False)

    def _wait(self, channel: socket.socket, error: OSError) -> None:
        """Flush when the channel has room, or soon where the kernel cannot tell when it will have."""
        kernel_tells = isinstance(error, BlockingIOError)
        self._await_room(channel, kernel_tells)
        if not kernel_tells:
            self._retry = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._flush)

    def _await_room(self, channel: socket.socket, wanted: bool) -> None:
        if wanted is not self._awaits_room:
            self._awaits_room = wanted
            loop = asyncio.get_running_loop()
            if wanted:
                loop.add_writer(channel, self._flush)
            else:
                loop.remove_writer(channel)

    def _receive(self) -> None:
        assert self._channel is not None
        try:
            data = self._channel.recv(_MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._ended(_decode_ended(data))


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
        self._taking_from: socket.socket | None = None

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
        self._taking_from = peer
        try:
            self._take_all(peer)
        finally:
            self._taking_from = None
            self._report(peer)

    def _take_all(self, peer: socket.socket) -> None:
        for _ in range(_MESSAGES_PER_TURN):
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
            self._take(peer, _decode_handovers(data), fds)

    def _take(self, peer: socket.socket, handovers: list[Handover], fds: list[int]) -> None:
        if len(fds) < len(handovers):
            log.warning(
                "lost %d connections: this process is out of file descriptors", len(handovers) - len(fds)
            )
        for at, handover in enumerate(handovers):
            ended = functools.partial(self._end, peer, handover.number) if handover.number else _nobody_waits
            if at >= len(fds):
                ended()
                continue
            sock = accepted_socket(fds[at])
            sock.setblocking(False)
            try:
                self._on_socket(sock, handover, ended)
            except Exception:
                # The others of the message are nobody's yet.
                log.exception("a connection to %s:%d is lost", handover.endpoint, handover.port)
                reset(sock)
                ended()

    def _end(self, peer: socket.socket, number: int) -> None:
        """Tell the proxy, several at a time: the message goes out when all is taken, or this turn is over."""
        if peer not in self._peers:
            return
        waiting = self._ended.setdefault(peer, [])
        if not waiting and peer is not self._taking_from:
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


def _nobody_waits() -> None:
    """The end of a connection that the proxy does not count."""


def _channel_to(path: Path) -> socket.socket:
    """A channel to the node that listens at a socket file. Raises OSError."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        channel.setblocking(False)
        with _short_path(path) as address:
            channel.connect(address)
    except OSError:
        channel.close()
        raise
    return channel


def _receive_message(peer: socket.socket) -> tuple[bytes, list[int]]:
    # Python 3.11's `recv_fds` passes no flags on to the kernel.
    data, ancillary, _, _ = peer.recvmsg(_MAX_MESSAGE, _ANCILLARY_SPACE, _RECEIVE_FLAGS)
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
