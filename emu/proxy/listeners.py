"""The sockets of all frontends: opened, kept and closed by difference.

A listener that is still wanted is never closed, whatever changes behind it, so that no client is refused in
between. What cannot be bound is reported once for each cause and tried again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from emu.core.ranges import EVERYONE, Ranges
from emu.planes.base import Plane
from emu.proxy.forwarding import Forwarder
from emu.proxy.tables import Address, Frontend
from emu.proxy.udp import UdpForwarder

log = logging.getLogger(__name__)

ACCEPTS_PER_TURN = 64
_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 30.0
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_SECONDS = 0.1

REMEDIES = {
    errno.EACCES: "ports below 1024 need a privilege here: sysctl net.ipv4.ip_unprivileged_port_start=0",
    errno.EADDRINUSE: "another program listens there: stop it, or give the Service another port",
    errno.EADDRNOTAVAIL: "the address is not configured on this machine: `emu doctor` tells how to add it",
    errno.EMFILE: "the limit of open files is reached: raise it with `ulimit -n`",
}


class _Listener:
    __slots__ = ("allowed", "frontend", "sock")

    def __init__(self, sock: socket.socket, frontend: Frontend) -> None:
        self.sock = sock
        self.frontend = frontend
        self.allowed: Ranges = EVERYONE


class Listeners:
    """One socket for each frontend that is wanted."""

    def __init__(
        self,
        plane: Plane,
        forwarder: Forwarder,
        udp: UdpForwarder,
        report: Callable[[Frontend, str], None],
    ) -> None:
        """`report` is told why a frontend has no socket, once for each cause."""
        self._plane = plane
        self._forwarder = forwarder
        self._udp = udp
        self._report = report
        self._listeners: dict[Address, _Listener] = {}
        self._wanted: dict[Address, tuple[Frontend, Ranges]] = {}
        self._failures: dict[Address, str] = {}
        self._retries: dict[Address, tuple[float, asyncio.TimerHandle]] = {}
        self._starved = False

    def __contains__(self, address: Address) -> bool:
        return address in self._listeners

    def want(self, frontend: Frontend, allowed: Ranges) -> None:
        """There shall be a socket for a frontend, reachable from some sources only."""
        self._wanted[frontend.address] = (frontend, allowed)
        listener = self._listeners.get(frontend.address)
        if listener is None:
            listener = self._open(frontend)
            if listener is None:
                return
        listener.frontend = frontend
        if listener.allowed != allowed:
            # Where the kernel takes no filter, each connection is judged after it was accepted.
            self._plane.restrict(listener.sock, allowed)
            listener.allowed = allowed

    def drop(self, address: Address) -> None:
        """There shall be no socket at an address."""
        self._wanted.pop(address, None)
        self._failures.pop(address, None)
        retry = self._retries.pop(address, None)
        if retry is not None:
            retry[1].cancel()
        listener = self._listeners.pop(address, None)
        if listener is not None:
            if address.protocol == "UDP":
                self._udp.closed(address)
            asyncio.get_running_loop().remove_reader(listener.sock)
            listener.sock.close()

    def close(self) -> None:
        """Close all sockets."""
        for address in list(self._wanted):
            self.drop(address)

    def _open(self, frontend: Frontend) -> _Listener | None:
        address = frontend.address
        udp = address.protocol == "UDP"
        try:
            if udp:
                sock = self._plane.listen_udp(address.ip, address.port)
            else:
                sock = self._plane.listen_tcp(address.ip, address.port)
        except OSError as error:
            self._failed(frontend, error)
            return None
        listener = self._listeners[address] = _Listener(sock, frontend)
        self._failures.pop(address, None)
        retry = self._retries.pop(address, None)
        if retry is not None:
            retry[1].cancel()
        asyncio.get_running_loop().add_reader(sock, self._receive if udp else self._accept, listener)
        return listener

    def _failed(self, frontend: Frontend, error: OSError) -> None:
        address = frontend.address
        remedy = REMEDIES.get(error.errno or 0, "")
        cause = f"cannot listen at {address}: {error.strerror}" + (f"; {remedy}" if remedy else "")
        if self._failures.get(address) != cause:
            self._failures[address] = cause
            self._report(frontend, cause)
        if error.errno == errno.EACCES:
            return
        delay, handle = self._retries.pop(address, (_FIRST_RETRY_SECONDS / 2, None))
        if handle is not None:
            handle.cancel()
        delay = min(delay * 2, _LAST_RETRY_SECONDS)
        loop = asyncio.get_running_loop()
        self._retries[address] = (delay, loop.call_later(delay, self._try_again, address))

    def _try_again(self, address: Address) -> None:
        if address in self._wanted:
            self.want(*self._wanted[address])

    def _receive(self, listener: _Listener) -> None:
        self._udp.receive(listener.sock, listener.frontend)

    def _accept(self, listener: _Listener) -> None:
        accept = listener.sock.accept
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, client = accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._pause(listener, error)
                    return
                raise
            self._forwarder.forward(sock, client, listener.frontend)

    def _pause(self, listener: _Listener, error: OSError) -> None:
        """Leave clients in the backlog for a moment: descriptors come back when connections end."""
        if not self._starved:
            self._starved = True
            log.warning("cannot accept: %s; %s", error.strerror, REMEDIES[errno.EMFILE])
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener.sock)
        loop.call_later(_PAUSE_SECONDS, self._resume, listener)

    def _resume(self, listener: _Listener) -> None:
        self._starved = False
        if self._listeners.get(listener.frontend.address) is listener:
            asyncio.get_running_loop().add_reader(listener.sock, self._accept, listener)
