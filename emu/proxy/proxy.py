"""The proxy as a whole, without the API: objects in, listeners and forwarding out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from random import Random

from emu.core.config import ProxyMode
from emu.core.objects import Endpoints as EndpointsObject
from emu.core.objects import EndpointSlice, Node, Service
from emu.core.policy import PolicyEngine
from emu.core.ranges import EVERYONE, Ranges, intersection
from emu.planes.base import Plane
from emu.proxy.admission import admitted
from emu.proxy.configuration import ProxyConfiguration
from emu.proxy.counters import Counters
from emu.proxy.descriptors import Descriptors
from emu.proxy.forwarding import Forwarder, Judge
from emu.proxy.listeners import Listeners
from emu.proxy.planning import Planner
from emu.proxy.sync_health import SyncHealth
from emu.proxy.tables import Address, Changes, Frontend, Tables
from emu.proxy.udp import FLOWS_AT_MOST, UdpForwarder
from emu.telemetry.flows import FlowRing

log = logging.getLogger(__name__)

_SETTLE_SECONDS = 0.005


class Proxy:
    """Keeps listeners equal to what the tables say. Changes of one turn of the loop are taken together."""

    def __init__(
        self,
        plane: Plane,
        configuration: ProxyConfiguration,
        engine: PolicyEngine,
        node_socket: Callable[[str], Path],
        report: Callable[[Frontend, str], None],
        random: Random | None = None,
    ) -> None:
        """`report` is told of frontends that have no socket, and why."""
        self.plane = plane
        self.tables = Tables()
        self.planner = Planner(self.tables, configuration, random or Random())
        self.judge = Judge(engine)
        self.flows = FlowRing("proxy")
        self.counters = Counters(time.time())
        self.health = SyncHealth()
        self.forwarder = Forwarder(
            plane, self.tables, self.planner, self.judge, self.flows, self.counters, node_socket
        )
        self.descriptors = Descriptors(self.counters.descriptors_short)
        flows = min(FLOWS_AT_MOST, self.descriptors.flows_at_most)
        self.udp = UdpForwarder(plane, self.tables, self.planner, self.judge, self.forwarder, flows)
        self.listeners = Listeners(plane, self.forwarder, self.udp, report, self.descriptors)
        self.planner.has_socket = self.listeners.__contains__
        self.counters.without_descriptor = lambda: self.listeners.waiting
        self._report = report
        self._subscribers: list[Callable[[Changes], None]] = []
        self._scheduled: asyncio.Handle | None = None
        self._holding = False
        self._unsettled: OrderedDict[Address, None] = OrderedDict()
        self._settling: asyncio.Handle | None = None
        self._failed: set[Address] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._full = True
        self.tables.read_endpoints(configuration.mode is ProxyMode.USERSPACE)

    @property
    def configuration(self) -> ProxyConfiguration:
        """What is in force."""
        return self.planner.configuration

    def subscribe(self, listener: Callable[[Changes], None]) -> None:
        """Tell `listener` of changes once they are in force, and (with nothing changed) of another mode."""
        self._subscribers.append(listener)

    def healthy(self, now: float) -> bool:
        """Whether changes do not wait too long to be in force. `now` is in seconds since the epoch."""
        return self.health.healthy(now, self.configuration.health_timeout)

    def set_service(self, key: str, before: Service | None, now: Service | None) -> None:
        """A Service was added, changed or deleted."""
        self.counters.service_changed(key)
        self.tables.set_service(key, now)
        self._schedule()

    def set_slice(self, key: str, before: EndpointSlice | None, now: EndpointSlice | None) -> None:
        """An EndpointSlice was added, changed or deleted."""
        self.counters.slice_changed(before, now)
        self.tables.set_slice(key, before, now)
        self._schedule()

    def set_node(self, key: str, before: Node | None, now: Node | None) -> None:
        """A Node was added, changed or deleted."""
        if self.tables.set_node(key, now):
            self.planner.nodes_changed()
            self._full = True
            self._schedule()

    def set_endpoints(self, key: str, before: EndpointsObject | None, now: EndpointsObject | None) -> None:
        """An Endpoints object was added, changed or deleted. Only the userspace mode looks at them."""
        if self.tables.set_endpoints(key, now.subsets if now is not None else ()):
            self.counters.endpoints_changed()
            self._schedule()

    def forget_endpoints(self) -> None:
        """Endpoints objects are no longer watched."""
        self.tables.forget_endpoints()

    def configure(self, configuration: ProxyConfiguration) -> None:
        """Go over to another mode, scheduler or masquerading.

        The userspace mode takes its endpoints from Endpoints objects: they have to be known by now.
        """
        if configuration == self.planner.configuration:
            return
        self.planner.configure(configuration)
        log.info("mode is %s", configuration.mode, extra={"scheduler": configuration.scheduler})
        if not self.tables.read_endpoints(configuration.mode is ProxyMode.USERSPACE):
            self._settle_all()
            self._tell(Changes(set(), {}))
        elif not self._holding:
            self.synchronize()

    def policies_changed(self) -> None:
        """NetworkPolicies give other answers than before."""
        self._settle_all()

    @property
    def settled(self) -> bool:
        """Whether all listeners are in line with the mode and the policies."""
        return not self._unsettled and not self._failed

    def hold_back(self) -> None:
        """Take objects in without acting on them, until `synchronize`."""
        self._holding = True

    def synchronize(self) -> None:
        """Bring listeners in line with the tables, now. What fails is left to the next time, soon enough."""
        self._holding = False
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        full, self._full = self._full, False
        start, flows = time.perf_counter(), len(self.udp)
        changes = self.tables.take_changes()
        addresses, self._failed = changes.addresses | self._failed, set()
        self.planner.changed(addresses, changes.ports)
        for address in addresses:
            self._settle(address)
        if full and self.configuration.masquerade_all and not self.judge.engine.empty:
            # Whom a policy lets in by way of their node rests on the nodes at each address.
            self._settle_all()
        self._end_stale_flows(changes.addresses, flows)
        for waiting, holder in changes.conflicts:
            older = holder.port.service.key
            cause = (
                f"{waiting.address} belongs to the older Service {older}; there is nothing of this one there"
            )
            self._report(waiting, cause)
        self.counters.ports_changed(changes.ports, self.tables.nodes)
        if self._failed or self.tables.dirty:
            self._try_again()
        else:
            now = time.time()
            self.counters.synced(time.perf_counter() - start, now, full=full)
            self.health.update(now)
        self._tell(changes)

    def close(self) -> None:
        """Close all sockets, for good. Connections that were handed over go on."""
        self._holding = True
        for handle in (self._scheduled, self._settling, self._retry):
            if handle is not None:
                handle.cancel()
        self.listeners.close()
        self.udp.close()
        self.forwarder.close()

    def _schedule(self) -> None:
        if self._scheduled is None and not self._holding:
            self.counters.last_queued = now = time.time()
            self.health.queue(now)
            self._scheduled = asyncio.get_running_loop().call_soon(self.synchronize)

    def _end_stale_flows(self, addresses: set[Address], before: int) -> None:
        """End datagram flows whose endpoint is gone; `before` is how many there were before the changes."""
        start = time.perf_counter()
        self.udp.changed(addresses)
        if any(address.protocol == "UDP" for address in addresses):
            self.counters.flows_reconciled(time.perf_counter() - start, before - len(self.udp))

    def _tell(self, changes: Changes) -> None:
        for listener in self._subscribers:
            try:
                listener(changes)
            except Exception:
                log.exception("a change has been missed by %s", listener)

    def _settle_all(self) -> None:
        """Bring the listeners of all frontends in line.

        Clients are not kept waiting for thousands of them: the loop goes on in between. Those that an earlier
        call has left come first, so that changes one after the other keep none from its turn.
        """
        self._unsettled = OrderedDict.fromkeys((*self._unsettled, *self.tables.frontends))
        if self._settling is None:
            self._settle_some()

    def _settle_some(self) -> None:
        self._settling = None
        deadline = time.perf_counter() + _SETTLE_SECONDS
        while self._unsettled:
            address, _ = self._unsettled.popitem(last=False)
            self._settle(address)
            if time.perf_counter() > deadline and self._unsettled:
                self._settling = asyncio.get_running_loop().call_soon(self._settle_some)
                return

    def _settle(self, address: Address) -> None:
        """Open, change or close the socket at an address. No address keeps another from its turn."""
        frontend = self.tables.frontends.get(address)
        try:
            if frontend is not None and self.planner.listens(frontend):
                self.listeners.want(frontend, self._allowed(frontend))
            else:
                self.listeners.drop(address)
        except Exception:
            log.exception("what has changed for %s is not in force", address)
            self._failed.add(address)
            self._try_again()

    def _try_again(self) -> None:
        """Synchronize once more after syncPeriod, as upstream does, if no change comes before."""
        self.health.queue(time.time())
        if self._retry is not None:
            self._retry.cancel()
        loop = asyncio.get_running_loop()
        self._retry = loop.call_later(self.configuration.sync_period, self._schedule)

    def _allowed(self, frontend: Frontend) -> Ranges:
        """Whose packets the kernel lets through to a frontend.

        All of them where they are datagrams: a filter would cut flows that are established.
        """
        if frontend.address.protocol == "UDP":
            return EVERYONE
        allowed = self.planner.allowed_sources(frontend)
        if self.judge.engine.empty or self.configuration.mode is ProxyMode.USERSPACE:
            return allowed
        masqueraded = self.configuration.masquerade_all
        return intersection(allowed, admitted(frontend, self.tables, self.judge.engine, masqueraded))
