"""The sockets of all frontends: opened, kept and closed by difference.

A listener that is still wanted is never closed, whatever changes behind it, so that no client is refused in
between. What cannot be bound is reported once for each cause and tried again.

When descriptors run out, clients wait in the backlog and frontends without a socket refuse theirs; all that
is open goes on. As descriptors come back, clients are accepted in the order in which their listeners had to
stop, then frontends are opened.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable

from emu.core.ranges import EVERYONE, Ranges
from emu.planes.base import OUT_OF_DESCRIPTORS, Plane
from emu.proxy.descriptors import QUIET_SECONDS, Descriptors
from emu.proxy.forwarding import Forwarder, Peer
from emu.proxy.tables import Address, Frontend
from emu.proxy.udp import UdpForwarder

log = logging.getLogger(__name__)

ACCEPTS_PER_TURN = 64
_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 30.0
_PAUSE_SECONDS = 0.05

REMEDIES = {
    errno.EACCES: "ports below 1024 need a privilege here: sysctl net.ipv4.ip_unprivileged_port_start=0",
    errno.EADDRINUSE: "another program listens there: stop it, or give the Service another port",
    errno.EADDRNOTAVAIL: "the address is not configured on this machine: `emu doctor` tells how to add it",
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
        descriptors: Descriptors,
    ) -> None:
        """`report` is told why a frontend has no socket, once for each cause.

        Where that is a shortage of descriptors it is told of one frontend for all.
        """
        self._plane = plane
        self._forwarder = forwarder
        self._udp = udp
        self._report = report
        self._listeners: dict[Address, _Listener] = {}
        self._wanted: dict[Address, tuple[Frontend, Ranges]] = {}
        self._failures: dict[Address, str] = {}
        self._retries: dict[Address, tuple[float, asyncio.TimerHandle]] = {}
        self._descriptors = descriptors
        self._paused: OrderedDict[_Listener, None] = OrderedDict()
        self._waiting: OrderedDict[Address, None] = OrderedDict()
        self._relief: asyncio.TimerHandle | None = None
        self._patience = _FIRST_RETRY_SECONDS

    @property
    def waiting(self) -> int:
        """How many frontends have no socket for lack of descriptors."""
        return len(self._waiting)

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
        self._forgive(address)
        listener = self._listeners.pop(address, None)
        if listener is not None:
            if address.protocol == "UDP":
                self._udp.closed(address)
            asyncio.get_running_loop().remove_reader(listener.sock.fileno())
            listener.sock.close()
            self._paused.pop(listener, None)
            if self._waiting:
                self._relieve_in(0)

    def close(self) -> None:
        """Close all sockets."""
        self._waiting.clear()
        for address in list(self._wanted):
            self.drop(address)
        if self._relief is not None:
            self._relief.cancel()

    def _open(self, frontend: Frontend) -> _Listener | None:
        address = frontend.address
        udp = address.protocol == "UDP"
        try:
            if udp:
                sock = self._plane.listen_udp(address.ip, address.port)
            else:
                sock = self._plane.listen_tcp(address.ip, address.port)
        except OSError as error:
            if error.errno in OUT_OF_DESCRIPTORS:
                self._wait(frontend)
            else:
                self._failed(frontend, error)
            return None
        if sock.fileno() >= self._descriptors.frontends_below:
            sock.close()
            self._wait(frontend)
            return None
        listener = self._listeners[address] = _Listener(sock, frontend)
        self._forgive(address)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._receive if udp else self._accept, listener)
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

    def _forgive(self, address: Address) -> None:
        """Forget that an address could not be bound."""
        self._waiting.pop(address, None)
        self._failures.pop(address, None)
        retry = self._retries.pop(address, None)
        if retry is not None:
            retry[1].cancel()

    def _try_again(self, address: Address) -> None:
        if address in self._wanted:
            self.want(*self._wanted[address])

    def _receive(self, listener: _Listener) -> None:
        self._udp.receive(listener.sock, listener.frontend)

    def _accept(self, listener: _Listener) -> None:
        if not self._accept_some(listener):
            # Clients are left in the backlog: descriptors come back when connections end.
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener.sock.fileno())
            self._paused[listener] = None
            if self._descriptors.missing(loop.time()):
                log.warning("new connections wait: %s", self._descriptors)
            self._relieve_in(_PAUSE_SECONDS)

    def _accept_some(self, listener: _Listener) -> bool:
        """Accept what has arrived. False when descriptors have run out."""
        try:
            return self._accept_each(listener)
        finally:
            self._forwarder.flush()

    def _accept_each(self, listener: _Listener) -> bool:
        # The method behind `accept`, which makes a socket object in as much time as all the rest takes.
        accept: Callable[[], tuple[int, Peer]] = listener.sock._accept  # type: ignore[attr-defined]
        last = self._descriptors.connections_below
        for _ in range(ACCEPTS_PER_TURN):
            try:
                fd, client = accept()
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno in OUT_OF_DESCRIPTORS:
                    return False
                # accept(2) also tells what has become of a connection that waited.
                continue
            self._forwarder.forward(fd, client, listener.frontend)
            if fd >= last:
                return False
        return True

    def _wait(self, frontend: Frontend) -> None:
        """A frontend has to wait for a descriptor."""
        self._waiting[frontend.address] = None
        loop = asyncio.get_running_loop()
        if self._descriptors.missing(loop.time()):
            # By the end of this turn it is known how many have to.
            loop.call_soon(self._tell_of_waiting, frontend)
        self._relieve_in(self._patience)

    def _tell_of_waiting(self, frontend: Frontend) -> None:
        self._report(
            frontend,
            f"cannot listen at {frontend.address}: {self._descriptors}; {self.waiting} addresses wait so far "
            "(the metric emu_proxy_frontends_without_descriptor goes on counting)",
        )

    def _relieve_in(self, seconds: float) -> None:
        """Look soon whether there are descriptors, by one timer for all that wait."""
        loop = asyncio.get_running_loop()
        if self._relief is not None:
            if self._relief.when() <= loop.time() + seconds:
                return
            self._relief.cancel()
        self._relief = loop.call_later(seconds, self._relieve)

    def _relieve(self) -> None:
        """Give what descriptors there are to those that wait."""
        self._relief = None
        loop = asyncio.get_running_loop()
        for _ in range(len(self._paused)):
            if not self._descriptors.any_for_connections():
                break
            listener, _ = self._paused.popitem(last=False)
            if self._accept_some(listener):
                loop.add_reader(listener.sock.fileno(), self._accept, listener)
            else:
                # The next descriptors are for clients of the others.
                self._paused[listener] = None
        waiting = self.waiting
        while self._waiting and not self._paused:
            address = next(iter(self._waiting))
            self._try_again(address)
            if address in self._waiting:
                break
        self._patience = _FIRST_RETRY_SECONDS if self.waiting < waiting else self._patience * 2
        self._patience = min(self._patience, _LAST_RETRY_SECONDS)
        if self._paused:
            self._relieve_in(_PAUSE_SECONDS)
        elif self._waiting:
            self._relieve_in(self._patience)
        elif not self._descriptors.enough(loop.time()):
            self._relieve_in(QUIET_SECONDS)
