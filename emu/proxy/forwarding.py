"""What happens to an accepted connection: choose an endpoint, then hand over, relay, hold or reset.

In the kernel modes an endpoint whose node belongs to the cluster gets the very socket (see `handover`);
the node judges it by policy. Masqueraded paths, the userspace mode and endpoints that no node hosts are
relayed, judged here: egress by the client's own address, ingress by the address that the pod will see.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path as FilePath

from emu.core.config import ProxyMode
from emu.core.endpoints import PortEndpoint
from emu.core.policy import Decision, PolicyEngine
from emu.planes.base import Plane
from emu.planes.handover import HandoverSender, accepted_socket
from emu.planes.held import HeldConnections, reset
from emu.planes.relay import Relays
from emu.proxy.counters import Counters
from emu.proxy.modes.base import Balancer
from emu.proxy.modes.userspace import DIAL_TIMEOUTS
from emu.proxy.pace import Pace
from emu.proxy.planning import Plan, Planner
from emu.proxy.tables import LOCALHOST, Frontend, Tables
from emu.telemetry.flows import FlowRecord, FlowRing, Path, Verdict

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 127.0
"""Seconds that Linux tries to connect by default (tcp_syn_retries = 6)."""

Peer = tuple[str, int]
_Counted = tuple[Balancer, PortEndpoint, Peer]


class Judge:
    """NetworkPolicy for connections that the proxy itself makes."""

    def __init__(self, engine: PolicyEngine) -> None:
        self.engine = engine

    def denial(self, client: str, source: str, endpoint: PortEndpoint, protocol: str) -> Decision | None:
        """Why `client`, seen by the pod as `source`, may not reach an endpoint; None when it may."""
        if self.engine.empty or client == endpoint.address:
            return None
        if source == client:
            decision = self.engine.decide(client, endpoint.address, endpoint.port, protocol)
            return None if decision.allowed else decision
        decision = self.engine.decide_egress(client, endpoint.address, endpoint.port, protocol)
        if decision.allowed:
            decision = self.engine.decide(source, endpoint.address, endpoint.port, protocol)
        return None if decision.allowed else decision


class Forwarder:
    """Decides and carries out what becomes of accepted TCP connections."""

    def __init__(
        self,
        plane: Plane,
        tables: Tables,
        planner: Planner,
        judge: Judge,
        flows: FlowRing,
        counters: Counters,
        node_socket: Callable[[str], FilePath],
    ) -> None:
        self._plane = plane
        self._tables = tables
        self._planner = planner
        self._judge = judge
        self._flows = flows
        self._counters = counters
        self._node_socket = node_socket
        self._held = HeldConnections()
        self._senders: dict[str, HandoverSender[_Counted]] = {}
        self._pace = Pace()
        self._accepted = 0
        self._filled: set[HandoverSender[_Counted]] = set()
        self._relays = Relays()
        self._dials: set[asyncio.Task[None]] = set()

    def forward(self, fd: int, client: Peer, frontend: Frontend) -> None:
        """Take over a connection that was accepted at a frontend, by its descriptor.

        Those that are handed over go out with the next `flush`.
        """
        self._accepted += 1
        if self._planner.configuration.mode is ProxyMode.USERSPACE:
            self._start_dial(self._dial_in_turn(_socket(fd), client, frontend))
            return
        now = time.monotonic()
        try:
            verdict, plan, reason, endpoint, source = self._planner.decide(frontend, client, now)
        except Exception:
            # A fault in a mode costs its connection, but no descriptor, and nothing to those behind it.
            log.exception("no decision for %s at %s", client[0], frontend.address)
            self._refuse(_socket(fd), client, frontend, "no decision")
            return
        if endpoint is None:
            if verdict is Verdict.REFUSED:
                self._refuse(_socket(fd), client, frontend, reason)
            else:
                self._drop(_socket(fd), client, frontend, None, reason)
        elif source or endpoint.node not in self._tables.nodes:
            dial = self._dial(_socket(fd), client, frontend, plan, endpoint, source or client[0])
            self._start_dial(dial)
        else:
            self._hand_over(fd, client, frontend, plan, endpoint, now)

    def flush(self) -> None:
        """Hand over what was accepted in this turn: what goes to one node shares its messages."""
        self._pace.accepted(self._accepted, time.monotonic())
        self._accepted = 0
        for sender in self._filled:
            sender.flush()
        self._filled.clear()

    def close(self) -> None:
        """Stop. Connections that were handed over go on; relayed and held ones are reset."""
        for task in self._dials:
            task.cancel()
        self._relays.close()
        for sender in self._senders.values():
            sender.close()
        self._held.close()

    def record(
        self,
        verdict: Verdict,
        client: Peer,
        frontend: Frontend,
        endpoint: PortEndpoint | None,
        path: Path | None,
        reason: str = "",
    ) -> None:
        """Leave a flow record and count."""
        self._counters.connections[frontend.port.name, verdict] += 1
        if frontend.address.ip == LOCALHOST:
            self._counters.localhost_node_ports += 1
        self._flows.add(_flow, verdict, client, frontend, endpoint, path, reason)

    def _hand_over(
        self,
        fd: int,
        client: Peer,
        frontend: Frontend,
        plan: Plan,
        endpoint: PortEndpoint,
        now: float,
    ) -> None:
        node = endpoint.node
        sender, address = self._sender(node), frontend.address
        account = (plan.balancer, endpoint, client) if plan.balancer.counts else None
        if not sender.send(
            fd,
            client,
            endpoint.address,
            endpoint.port,
            (address.ip, address.port),
            frontend.port.name,
            account,
        ):
            self._drop(_socket(fd), client, frontend, endpoint, f"the process of node {node} is not there")
            return
        self._filled.add(sender)
        if account is not None:
            plan.balancer.begun(endpoint, client, now)
        self.record(Verdict.FORWARDED, client, frontend, endpoint, Path.HANDOVER)

    def _sender(self, node: str) -> HandoverSender[_Counted]:
        sender = self._senders.get(node)
        if sender is None:
            sender = self._senders[node] = HandoverSender(self._node_socket(node), _ended)
        return sender

    def _start_dial(self, dial: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(dial)
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(
        self,
        sock: socket.socket,
        client: Peer,
        frontend: Frontend,
        plan: Plan,
        endpoint: PortEndpoint,
        source: str,
    ) -> None:
        denied = self._judge.denial(client[0], source, endpoint, "TCP")
        if denied is not None:
            self._drop(sock, client, frontend, endpoint, denied.reason)
            return
        try:
            server = await self._plane.connect_tcp(source, endpoint.address, endpoint.port, CONNECT_TIMEOUT)
        except TimeoutError:
            self._drop(sock, client, frontend, endpoint, "the endpoint does not answer")
            return
        except OSError as error:
            if isinstance(error, ConnectionRefusedError) and self._node_is_dead(endpoint.node):
                reason = f"the process of node {endpoint.node} is not there"
                self._drop(sock, client, frontend, endpoint, reason)
            else:
                self._refuse(
                    sock, client, frontend, f"{endpoint.key}: {os.strerror(error.errno or 0)}", endpoint
                )
            return
        except asyncio.CancelledError:
            reset(sock)
            raise
        self._relay(sock, server, client, frontend, plan, endpoint)

    async def _dial_in_turn(self, sock: socket.socket, client: Peer, frontend: Frontend) -> None:
        """The userspace mode's way: each attempt goes to the next endpoint and may take longer."""
        reason = "no endpoint could be reached"
        for timeout in DIAL_TIMEOUTS:
            # Each attempt is decided on what is true by then.
            current = self._tables.frontends.get(frontend.address)
            if current is None:
                reason = f"{frontend.port.name} is gone"
                break
            choice = self._planner.decide(current, client, time.monotonic())
            plan, endpoint, source = choice.plan, choice.endpoint, choice.source or client[0]
            if endpoint is None:
                reason = choice.reason
                break
            denied = self._judge.denial(client[0], source, endpoint, "TCP")
            try:
                if denied is not None:
                    await asyncio.sleep(timeout)
                    raise TimeoutError(denied.reason)
                server = await self._plane.connect_tcp(source, endpoint.address, endpoint.port, timeout)
            except OSError as error:
                plan.balancer.failed(client)
                log.debug("%s: cannot reach %s: %s", frontend.port.name, endpoint.key, error)
                continue
            except asyncio.CancelledError:
                reset(sock)
                raise
            self._relay(sock, server, client, frontend, plan, endpoint)
            return
        sock.close()
        self.record(Verdict.REFUSED, client, frontend, None, Path.RELAY, reason)

    def _relay(
        self,
        sock: socket.socket,
        server: socket.socket,
        client: Peer,
        frontend: Frontend,
        plan: Plan,
        endpoint: PortEndpoint,
    ) -> None:
        def ended() -> None:
            plan.balancer.ended(endpoint, client, time.monotonic())

        plan.balancer.begun(endpoint, client, time.monotonic())
        self.record(Verdict.FORWARDED, client, frontend, endpoint, Path.RELAY)
        self._relays.start(sock, server, ended)

    def _node_is_dead(self, node: str) -> bool:
        """Whether an endpoint's node is part of the cluster while its process is not there."""
        return node in self._tables.nodes and not self._sender(node).reachable()

    def _drop(
        self,
        sock: socket.socket,
        client: Peer,
        frontend: Frontend,
        endpoint: PortEndpoint | None,
        reason: str,
    ) -> None:
        self._held.hold(sock)
        self.record(Verdict.DROPPED, client, frontend, endpoint, None, reason)

    def _refuse(
        self,
        sock: socket.socket,
        client: Peer,
        frontend: Frontend,
        reason: str,
        endpoint: PortEndpoint | None = None,
    ) -> None:
        reset(sock)
        self.record(Verdict.REFUSED, client, frontend, endpoint, None, reason)


def _ended(counted: _Counted) -> None:
    balancer, endpoint, client = counted
    balancer.ended(endpoint, client, time.monotonic())


def _socket(fd: int) -> socket.socket:
    sock = accepted_socket(fd)
    sock.setblocking(False)
    return sock


def _flow(
    verdict: Verdict,
    client: Peer,
    frontend: Frontend,
    endpoint: PortEndpoint | None,
    path: Path | None,
    reason: str,
) -> FlowRecord:
    return FlowRecord(
        protocol=frontend.address.protocol,
        source=f"{client[0]}:{client[1]}",
        destination=f"{frontend.address.ip}:{frontend.address.port}",
        endpoint=endpoint.key if endpoint else "",
        service=frontend.port.name,
        path=path,
        verdict=verdict,
        reason=reason,
    )
