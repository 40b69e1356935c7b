"""The loopback plane: every address lies in 127.0.0.0/8, which Linux accepts without any set-up."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator

from emu.core.ranges import EVERYONE, NOBODY, Ranges
from emu.planes import bpf

# The kernel cuts the backlog at net.core.somaxconn.
BACKLOG = 4096
# A burst from many clients must find room until the process has its turn. The kernel cuts it at
# net.core.rmem_max.
DATAGRAM_BUFFER = 4 << 20
_IP_BIND_ADDRESS_NO_PORT = 24


class LoopbackPlane:
    """A Plane of loopback addresses, shared by all processes of the machine."""

    def listen_tcp(self, address: str, port: int, allowed: Ranges = EVERYONE) -> socket.socket:
        """See Plane."""
        with _new_socket(socket.SOCK_STREAM) as sock:
            # Without it a restarted process could not bind while old connections are in TIME_WAIT.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if allowed != EVERYONE:
                bpf.attach(sock, allowed)
            sock.bind((address, port))
            sock.listen(BACKLOG)
            return sock

    def listen_udp(self, address: str, port: int, allowed: Ranges = EVERYONE) -> socket.socket:
        """See Plane."""
        with _new_socket(socket.SOCK_DGRAM) as sock:
            # Systems that do not cut it refuse it.
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DATAGRAM_BUFFER)
            if allowed != EVERYONE:
                bpf.attach(sock, allowed)
            sock.bind((address, port))
            return sock

    async def connect_tcp(self, source: str, address: str, port: int, timeout: float | None) -> socket.socket:
        """See Plane."""
        with _new_socket(socket.SOCK_STREAM) as sock:
            _bind_source(sock, source)
            error = sock.connect_ex((address, port))
            if error == errno.EINPROGRESS:
                # The answer has mostly come by now, and asking again costs less than waiting for it.
                error = sock.connect_ex((address, port))
            if error == errno.EALREADY:
                async with asyncio.timeout(timeout):
                    await asyncio.get_running_loop().sock_connect(sock, (address, port))
            elif error:
                raise OSError(error, os.strerror(error))
            return sock

    def connect_udp(self, source: str, address: str, port: int) -> socket.socket:
        """See Plane."""
        with _new_socket(socket.SOCK_DGRAM) as sock:
            _bind_source(sock, source)
            sock.connect((address, port))
            return sock

    def restrict(self, sock: socket.socket, allowed: Ranges) -> bool:
        """See Plane. Uses a classic BPF program (SO_ATTACH_FILTER)."""
        if allowed == EVERYONE:
            return bpf.detach(sock)
        if bpf.attach(sock, allowed):
            return True
        # An earlier filter would go on dropping whom the caller may let in by now.
        bpf.detach(sock)
        return False

    def can_bind(self, address: str, port: int) -> bool:
        """See Plane."""
        try:
            self.listen_tcp(address, port).close()
            self.listen_udp(address, port).close()
        except OSError:
            return False
        return True

    def can_filter(self) -> bool:
        """See Plane. Some kernels want CAP_NET_ADMIN for TCP sockets, and nothing for UDP."""
        with _new_socket(socket.SOCK_STREAM) as sock, sock:
            return bpf.attach(sock, NOBODY)


@contextlib.contextmanager
def _new_socket(kind: socket.SocketKind) -> Iterator[socket.socket]:
    """A non-blocking IPv4 socket that is closed when the block raises."""
    sock = socket.socket(socket.AF_INET, kind)
    try:
        sock.setblocking(False)
        yield sock
    except BaseException:
        sock.close()
        raise


def _bind_source(sock: socket.socket, source: str) -> None:
    if sys.platform == "linux":
        # The port is chosen at connect, so that one source may have more connections than ports.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind((source, 0))
