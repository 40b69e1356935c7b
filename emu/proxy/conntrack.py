"""The table of UDP flows, kept as Linux' connection tracking keeps its own. Pure: time is passed in.

A flow lives 30 s after its last datagram. One that comes once a reply was seen and the flow is older than 2 s
makes it a stream, which lives 120 s (nf_conntrack_proto_udp.c; net.netfilter.nf_conntrack_udp_timeout and
_stream). In a full table the flow that is no stream and idle the longest gives way to a new one; where all
are streams the new one is dropped (nf_conntrack_core.c, early_drop).
"""

from __future__ import annotations

import math
import operator
import socket
from collections import OrderedDict

from emu.core.endpoints import PortEndpoint
from emu.proxy.modes.base import Balancer
from emu.proxy.tables import Address

IDLE_SECONDS = 30.0
STREAM_SECONDS = 120.0
STREAM_AFTER_SECONDS = 2.0

Peer = tuple[str, int]


class Flow:
    """One client address and port at one virtual address and port, and where its datagrams go."""

    __slots__ = (
        "address",
        "answering",
        "assured",
        "balancer",
        "client",
        "endpoint",
        "idle",
        "last",
        "listener",
        "replied",
        "sock",
        "stream_at",
    )

    def __init__(
        self,
        address: Address,
        client: Peer,
        endpoint: PortEndpoint,
        balancer: Balancer,
        listener: socket.socket,
        sock: socket.socket,
    ) -> None:
        self.address = address
        self.client = client
        self.endpoint = endpoint
        self.balancer = balancer
        self.listener = listener
        """The socket of the virtual address, which replies leave from."""
        self.sock = sock
        """The socket that is connected to the endpoint."""
        self.answering = False
        """Whether the last datagram was the endpoint's."""
        self.replied = False
        self.assured = False
        self.idle = IDLE_SECONDS
        self.last = 0.0
        self.stream_at = math.inf
        """From when on a datagram makes a stream of it; infinite for what is one, or can be none."""


class FlowTable:
    """Flows by virtual address and client, and in the order in which they expire.

    Every step costs the same however many flows there are.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._count = 0
        self._flows: dict[Address, dict[Peer, Flow]] = {}
        self._by_timeout: dict[float, OrderedDict[Flow, None]] = {STREAM_SECONDS: OrderedDict()}

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        """Whether another flow needs one to give way."""
        return self._count >= self._capacity

    def at(self, address: Address) -> dict[Peer, Flow]:
        """The flows of a virtual address by client, in a dictionary that stays until `forget`; read-only."""
        flows = self._flows.get(address)
        if flows is None:
            flows = self._flows[address] = {}
        return flows

    def among(self, addresses: set[Address]) -> list[Flow]:
        """The flows of some virtual addresses."""
        return [flow for address in self._flows.keys() & addresses for flow in self._flows[address].values()]

    def forget(self, address: Address) -> None:
        """There will be no flows at an address, and there are none."""
        self._flows.pop(address, None)

    def add(self, flow: Flow, now: float, cached: float | None = None) -> None:
        """A flow begins with its first datagram.

        `cached` is for flows of the userspace mode, which knows no streams: the seconds that it keeps one
        after its last datagram.
        """
        if cached is None:
            flow.stream_at = now + STREAM_AFTER_SECONDS
        else:
            flow.idle = cached
        flow.last = now
        self.at(flow.address)[flow.client] = flow
        self._by_timeout.setdefault(flow.idle, OrderedDict())[flow] = None
        self._count += 1

    def sent(self, flow: Flow, now: float) -> None:
        """A datagram of the client passes."""
        flow.last = now
        if flow.replied and now > flow.stream_at:
            del self._by_timeout[flow.idle][flow]
            flow.assured, flow.idle, flow.stream_at = True, STREAM_SECONDS, math.inf
            self._by_timeout[STREAM_SECONDS][flow] = None
        else:
            self._by_timeout[flow.idle].move_to_end(flow)

    def answered(self, flow: Flow, now: float) -> None:
        """A datagram of the endpoint passes. The first one makes nothing of the flow by itself."""
        self.sent(flow, now)
        flow.replied = True

    def remove(self, flow: Flow) -> bool:
        """Forget a flow. False when it was not there any more."""
        flows = self.at(flow.address)
        if flows.get(flow.client) is not flow:
            return False
        del flows[flow.client]
        del self._by_timeout[flow.idle][flow]
        self._count -= 1
        return True

    def expired(self, now: float) -> list[Flow]:
        """The flows whose time is over, still in the table."""
        found = []
        for seconds, queue in self._by_timeout.items():
            for flow in queue:
                if flow.last + seconds > now:
                    break
                found.append(flow)
        return found

    def next_deadline(self) -> float | None:
        """When the next flow expires if no datagram passes, None without flows."""
        fronts = ((seconds, next(iter(queue), None)) for seconds, queue in self._by_timeout.items())
        return min((flow.last + seconds for seconds, flow in fronts if flow is not None), default=None)

    def expendable(self) -> Flow | None:
        """The flow that gives way to a new one: of those that are not assured the one idle the longest."""
        fronts = (next(iter(queue), None) for queue in self._by_timeout.values())
        unassured = (flow for flow in fronts if flow is not None and not flow.assured)
        return min(unassured, key=operator.attrgetter("last"), default=None)
