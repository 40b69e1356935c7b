"""The seam between emu and the operating system's network: what a plane provides.

Code outside a plane never assumes 127.x, and opens every pod-side socket through these functions.
Identity is the source address, so each outgoing socket is bound to the address that it acts for.
"""

from __future__ import annotations

import errno
import socket
from typing import Protocol

from emu.core.ranges import EVERYONE, Ranges

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""The errors of a process or a machine that can have no more sockets for now."""


class Plane(Protocol):
    """Addresses and sockets. All sockets are non-blocking; errors are OSError as the kernel gave them."""

    def listen_tcp(self, address: str, port: int, allowed: Ranges = EVERYONE) -> socket.socket:
        """A listening TCP socket, restricted before it listens where the kernel takes the filter."""

    def listen_udp(self, address: str, port: int, allowed: Ranges = EVERYONE) -> socket.socket:
        """A bound UDP socket, restricted before it is bound where the kernel takes the filter."""

    async def connect_tcp(self, source: str, address: str, port: int, timeout: float | None) -> socket.socket:
        """A TCP connection from `source`; TimeoutError after `timeout` seconds (None: the kernel's)."""

    def connect_udp(self, source: str, address: str, port: int) -> socket.socket:
        """A UDP socket from `source`, connected to its peer."""

    def restrict(self, sock: socket.socket, allowed: Ranges) -> bool:
        """Let only `allowed` sources reach a bound socket, dropping others in the kernel.

        Replaces an earlier restriction atomically. False where the kernel refuses filters or the set needs
        too long a program: nothing is restricted then, and the caller decides by itself for each
        connection or datagram.
        """

    def can_bind(self, address: str, port: int) -> bool:
        """Whether a TCP and a UDP socket can be bound there now: the port is permitted and free."""

    def can_filter(self) -> bool:
        """Whether the kernel lets this process filter TCP sockets, so that `restrict` can succeed.

        It may be more liberal with UDP sockets.
        """
