"""How many iptables rules the first node would have, kept up to date as Services change.

Changes only mark what has to be counted again, and cost nothing more while nobody asks. Who asks counts
first, a millisecond at a time: after a start or another configuration that is every service port.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from emu.core.config import ProxyMode
from emu.proxy.configuration import ProxyConfiguration
from emu.proxy.counters import RuleCounts
from emu.proxy.paths import Way
from emu.proxy.rules.counts import RuleCount, base_count, port_count
from emu.proxy.rules.view import View, service_port
from emu.proxy.tables import Address, Changes, Tables

_TURN_SECONDS = 0.001


class RuleTally:
    """The rules of the iptables mode on the first node, as upstream's metrics count them."""

    def __init__(self, tables: Tables, configuration: Callable[[], ProxyConfiguration]) -> None:
        self._tables = tables
        self._configuration = configuration
        self._view: View | None = None
        self._counted: dict[Address, RuleCount] = {}
        """By the service ports' cluster IPs."""
        self._total = RuleCount()
        self._uncounted: set[Address] = set()
        self._written: set[Address] | None = None
        """Whose chains the last synchronization wrote; None for all."""
        self._written_rules = 0
        """The rules of those chains, as far as they are counted."""
        self.changed(Changes(set(), {}))

    def changed(self, changes: Changes) -> None:
        """Changes are in force, or (with nothing changed) another configuration."""
        view = self._view_now()
        if view is None or view != self._view:
            # The real one would have started anew, or its own node has changed: it writes everything.
            self._view, self._written = view, None
            self._counted.clear()
            self._total = RuleCount()
            self._uncounted = set(self._tables.frontends) if view is not None else set()
        elif changes.addresses:
            self._written, self._written_rules = set(), 0
            for address in changes.addresses:
                self._forget(address)
                if self._is_port(address):
                    self._written.add(address)
                    self._uncounted.add(address)

    def catch_up(self) -> Iterator[None]:
        """Count what has changed; yields after each millisecond, so that connections go on in between."""
        deadline = time.perf_counter() + _TURN_SECONDS
        while self._uncounted and self._view is not None:
            self._count(self._uncounted.pop(), self._view)
            if time.perf_counter() > deadline:
                yield
                deadline = time.perf_counter() + _TURN_SECONDS

    def counts(self) -> RuleCounts:
        """What has been counted; without tables before a node is known, and in other modes."""
        if self._view is None:
            return RuleCounts({}, {})
        filter_, entries, chains = self._total.plus(base_count(self._view))
        written = chains if self._written is None else self._written_rules
        return RuleCounts(
            total={"filter": filter_, "nat": entries + chains},
            last={"filter": filter_, "nat": entries + written},
        )

    def _view_now(self) -> View | None:
        configuration, nodes = self._configuration(), self._tables.node_order
        if configuration.mode is not ProxyMode.IPTABLES or not nodes:
            return None
        return View(nodes[0], (), configuration)

    def _is_port(self, address: Address) -> bool:
        """Each service port has one cluster IP, and stands for its other addresses, too."""
        frontend = self._tables.frontends.get(address)
        return frontend is not None and frontend.way is Way.CLUSTER_IP

    def _count(self, address: Address, view: View) -> None:
        if self._is_port(address):
            port = service_port(self._tables.frontends[address], view.node)
            count = self._counted[address] = port_count(port, view)
            self._total = self._total.plus(count)
            if self._written is not None and address in self._written:
                self._written_rules += count.chains

    def _forget(self, address: Address) -> None:
        self._uncounted.discard(address)
        count = self._counted.pop(address, None)
        if count is not None:
            self._total = self._total.plus(count, -1)
