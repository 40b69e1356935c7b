"""UDP through virtual addresses: one decision for each client address and port, kept as conntrack keeps it.

A flow lives 30 s after its last datagram, 120 s once it is older than 2 s and has seen a reply
(nf_conntrack_udp_timeout, _stream). It ends when its endpoint goes. Datagrams are relayed through a socket
with the client's address, and replies leave from the virtual address.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time

from emu.core.endpoints import PortEndpoint
from emu.planes.base import Plane
from emu.proxy.forwarding import Forwarder, Judge, Peer
from emu.proxy.modes.base import Balancer
from emu.proxy.planning import Planner
from emu.proxy.tables import Address, Frontend, Tables
from emu.telemetry.flows import Path, Verdict

log = logging.getLogger(__name__)

IDLE_SECONDS = 30.0
STREAM_SECONDS = 120.0
STREAM_AFTER_SECONDS = 2.0
FLOWS_AT_MOST = 8192
_SWEEP_SECONDS = 5.0
_BATCH = 64
_MAX_DATAGRAM = 65535


class _Flow:
    __slots__ = (
        "address",
        "balancer",
        "client",
        "endpoint",
        "last",
        "listener",
        "replied",
        "sock",
        "started",
    )

    def __init__(
        self,
        listener: socket.socket,
        address: Address,
        client: Peer,
        endpoint: PortEndpoint,
        balancer: Balancer,
        sock: socket.socket,
        now: float,
    ) -> None:
        self.listener = listener
        self.address = address
        self.client = client
        self.endpoint = endpoint
        self.balancer = balancer
        self.sock = sock
        self.started = self.last = now
        self.replied = False

    def expired(self, now: float) -> bool:
        stream = self.replied and self.last - self.started > STREAM_AFTER_SECONDS
        return now - self.last > (STREAM_SECONDS if stream else IDLE_SECONDS)


class UdpForwarder:
    """The flow table of all UDP frontends."""

    def __init__(
        self, plane: Plane, tables: Tables, planner: Planner, judge: Judge, forwarder: Forwarder
    ) -> None:
        self._plane = plane
        self._tables = tables
        self._planner = planner
        self._judge = judge
        self._record = forwarder.record
        self._flows: dict[tuple[Address, Peer], _Flow] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._flows)

    def receive(self, listener: socket.socket, frontend: Frontend) -> None:
        """Datagrams have arrived at a frontend's socket."""
        for _ in range(_BATCH):
            try:
                data, client = listener.recvfrom(_MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                log.debug("%s: %s", frontend.address, error)
                return
            flow = self._flows.get((frontend.address, client))
            if flow is None:
                flow = self._begin(listener, client, frontend)
                if flow is None:
                    continue
            flow.last = time.monotonic()
            try:
                flow.sock.send(data)
            except BlockingIOError:
                continue
            except OSError:
                self._end(flow)

    def changed(self, addresses: set[Address]) -> None:
        """End the flows whose endpoint is no longer there, or whose frontend is gone."""
        for flow in [flow for flow in self._flows.values() if flow.address in addresses]:
            frontend = self._tables.frontends.get(flow.address)
            serving = {e.key for e in frontend.port.endpoints if e.usable} if frontend else set()
            if flow.endpoint.key not in serving:
                self._end(flow)

    def closed(self, address: Address) -> None:
        """A frontend's socket is about to be closed: nothing can be answered any more."""
        for flow in [flow for flow in self._flows.values() if flow.address == address]:
            self._end(flow)

    def close(self) -> None:
        """End all flows."""
        for flow in list(self._flows.values()):
            self._end(flow)
        if self._sweep is not None:
            self._sweep.cancel()

    def _begin(self, listener: socket.socket, client: Peer, frontend: Frontend) -> _Flow | None:
        now = time.monotonic()
        choice = self._planner.decide(frontend, client, now)
        plan, endpoint, source = choice.plan, choice.endpoint, choice.source or client[0]
        if endpoint is None:
            self._record(Verdict.DROPPED, client, frontend, None, None, choice.reason)
            return None
        denied = self._judge.denial(client[0], source, endpoint, "UDP")
        if denied is not None:
            self._record(Verdict.DROPPED, client, frontend, endpoint, None, denied.reason)
            return None
        try:
            sock = self._plane.connect_udp(source, endpoint.address, endpoint.port)
        except OSError as error:
            self._record(Verdict.DROPPED, client, frontend, endpoint, None, str(error))
            return None
        if len(self._flows) >= FLOWS_AT_MOST:
            self._end(min(self._flows.values(), key=lambda flow: flow.last))
        flow = _Flow(listener, frontend.address, client, endpoint, plan.balancer, sock, now)
        self._flows[frontend.address, client] = flow
        plan.balancer.begun(endpoint, client, now)
        loop = asyncio.get_running_loop()
        loop.add_reader(sock, self._reply, flow)
        if self._sweep is None:
            self._sweep = loop.call_later(_SWEEP_SECONDS, self._sweep_expired)
        self._record(Verdict.FORWARDED, client, frontend, endpoint, Path.RELAY)
        return flow

    def _reply(self, flow: _Flow) -> None:
        for _ in range(_BATCH):
            try:
                data = flow.sock.recv(_MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                self._end(flow)
                return
            flow.last = time.monotonic()
            flow.replied = True
            try:
                flow.listener.sendto(data, flow.client)
            except OSError as error:
                log.debug("cannot answer %s: %s", flow.client[0], error)
                return

    def _sweep_expired(self) -> None:
        now = time.monotonic()
        for flow in [flow for flow in self._flows.values() if flow.expired(now)]:
            self._end(flow)
        self._sweep = None
        if self._flows:
            self._sweep = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep_expired)

    def _end(self, flow: _Flow) -> None:
        self._flows.pop((flow.address, flow.client), None)
        asyncio.get_running_loop().remove_reader(flow.sock)
        flow.sock.close()
        flow.balancer.ended(flow.endpoint, flow.client, time.monotonic())
