"""UDP through virtual addresses: one decision for each client address and port, kept in a table of flows.

Datagrams are relayed through a socket with the client's address, and replies leave from the virtual address.
A flow ends when its time is over (see `conntrack`), when its endpoint goes or no longer serves, when its
virtual address goes, and when the endpoint's port turns out to be closed. It outlives changes of policy, of
traffic policies and of the mode, as a TCP connection does. What is dropped is not remembered: the next
datagram is decided anew.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time

from emu.core.config import ProxyMode
from emu.core.endpoints import PortEndpoint
from emu.planes.base import OUT_OF_DESCRIPTORS, Plane
from emu.proxy.conntrack import Flow, FlowTable, Peer
from emu.proxy.forwarding import Forwarder, Judge
from emu.proxy.planning import Planner
from emu.proxy.tables import Address, Frontend, Tables
from emu.telemetry.flows import Path, Verdict

log = logging.getLogger(__name__)

FLOWS_AT_MOST = 8192
_BATCH = 64
_MAX_DATAGRAM = 65535
_LEAST_WAIT_SECONDS = 0.05


class UdpForwarder:
    """The flows of all UDP frontends."""

    def __init__(
        self,
        plane: Plane,
        tables: Tables,
        planner: Planner,
        judge: Judge,
        forwarder: Forwarder,
        capacity: int,
    ) -> None:
        """`capacity` bounds the number of flows; each has a socket."""
        self._plane = plane
        self._tables = tables
        self._planner = planner
        self._judge = judge
        self._record = forwarder.record
        self._table = FlowTable(capacity)
        self._buffer = bytearray(_MAX_DATAGRAM)
        self._view = memoryview(self._buffer)
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._table)

    def receive(self, listener: socket.socket, frontend: Frontend) -> None:
        """Datagrams have arrived at a frontend's socket."""
        buffer, view = self._buffer, self._view
        flows, sent = self._table.at(frontend.address), self._table.sent
        now = time.monotonic()
        for _ in range(_BATCH):
            try:
                size, client = listener.recvfrom_into(buffer)
            except BlockingIOError:
                return
            except OSError as error:
                log.debug("%s: %s", frontend.address, error)
                return
            flow = flows.get(client)
            if flow is None:
                flow = self._begin(listener, client, frontend, now)
                if flow is None:
                    continue
            else:
                flow.answering = False
                sent(flow, now)
            try:
                flow.sock.send(view[:size])
            except BlockingIOError:
                continue
            except OSError:
                # The endpoint has no such port: an earlier datagram came back as "port unreachable".
                self._end(flow)

    def changed(self, addresses: set[Address]) -> None:
        """End the flows whose endpoint is gone or no longer serves. Traffic policies do not count here."""
        serving: dict[Address, set[str]] = {}
        for flow in self._table.among(addresses):
            keys = serving.get(flow.address)
            if keys is None:
                frontend = self._tables.frontends.get(flow.address)
                endpoints = frontend.port.endpoints if frontend else ()
                keys = serving[flow.address] = {e.key for e in endpoints if e.serving}
            if flow.endpoint.key not in keys:
                self._end(flow)

    def closed(self, address: Address) -> None:
        """A frontend's socket is about to be closed: nothing can be answered any more."""
        for flow in self._table.among({address}):
            self._end(flow)
        self._table.forget(address)

    def close(self) -> None:
        """Stop. Every frontend's socket has been closed."""
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self, listener: socket.socket, client: Peer, frontend: Frontend, now: float) -> Flow | None:
        choice = self._planner.decide(frontend, client, now)
        plan, endpoint, source = choice.plan, choice.endpoint, choice.source or client[0]
        sock, reason = (
            (None, choice.reason) if endpoint is None else self._connect(client[0], source, endpoint)
        )
        if endpoint is None or sock is None:
            self._record(Verdict.DROPPED, client, frontend, endpoint, None, reason)
            return None
        flow = Flow(frontend.address, client, endpoint, plan.balancer, listener, sock)
        configuration = self._planner.configuration
        userspace = configuration.mode is ProxyMode.USERSPACE
        self._table.add(flow, now, configuration.udp_idle_seconds if userspace else None)
        self._expire_in_time(now)
        plan.balancer.begun(endpoint, client, now)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._reply, flow)
        self._record(Verdict.FORWARDED, client, frontend, endpoint, Path.RELAY)
        return flow

    def _connect(self, client: str, source: str, endpoint: PortEndpoint) -> tuple[socket.socket | None, str]:
        """A socket for a new flow, or why there is none."""
        denied = self._judge.denial(client, source, endpoint, "UDP")
        if denied is not None:
            return None, denied.reason
        while True:
            if self._table.full and not self._make_room():
                return None, "the table of UDP flows is full"
            try:
                return self._plane.connect_udp(source, endpoint.address, endpoint.port), ""
            except OSError as error:
                if error.errno not in OUT_OF_DESCRIPTORS or not self._make_room():
                    return None, str(error)

    def _make_room(self) -> bool:
        flow = self._table.expendable()
        if flow is None:
            return False
        self._end(flow)
        return True

    def _reply(self, flow: Flow) -> None:
        """Datagrams of the endpoint have arrived.

        As a rule there is one for each of the client's, and asking for another would only fail. Where they
        come one after the other several are taken at once.
        """
        now = time.monotonic()
        for _ in range(_BATCH if flow.answering else 1):
            try:
                size = flow.sock.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError:
                self._end(flow)
                return
            flow.answering = True
            self._table.answered(flow, now)
            try:
                flow.listener.sendto(self._view[:size], flow.client)
            except OSError as error:
                log.debug("cannot answer %s: %s", flow.client[0], error)

    def _expire_in_time(self, now: float) -> None:
        """See to it that flows end when their time is over; many at once rather than one by one."""
        deadline = self._table.next_deadline()
        if deadline is None:
            return
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(
            max(deadline, now + _LEAST_WAIT_SECONDS), self._expire
        )

    def _expire(self) -> None:
        self._timer = None
        now = time.monotonic()
        for flow in self._table.expired(now):
            self._end(flow)
        self._expire_in_time(now)

    def _end(self, flow: Flow) -> None:
        if self._table.remove(flow):
            asyncio.get_running_loop().remove_reader(flow.sock.fileno())
            flow.sock.close()
            flow.balancer.ended(flow.endpoint, flow.client, time.monotonic())
