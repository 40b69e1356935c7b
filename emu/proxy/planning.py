"""From a frontend and a client to a plan: candidates, balancer, source address. Pure but for the clock.

Plans are kept for each frontend and kind of client until something that they rest on changes, so that a new
connection costs a few dictionary look-ups whatever the number of Services.
"""

from __future__ import annotations

from random import Random

from emu.core.addresses import cidr_bounds, to_int
from emu.core.config import ProxyMode
from emu.core.endpoints import Endpoints, cluster_endpoints, local_endpoints, ready_endpoints
from emu.core.ranges import EVERYONE, Ranges, complement, contains, intersection, union
from emu.proxy.configuration import ProxyConfiguration
from emu.proxy.modes import new_balancer
from emu.proxy.modes.base import Balancer, Candidates
from emu.proxy.paths import Client, ClientKind, Policies, Route, Way, route
from emu.proxy.tables import LOCALHOST, Address, Frontend, NodeInfo, PortState, Tables

_NO_NODE = NodeInfo("", "", "", "")


class Plan:
    """What happens to connections of one kind of client at one frontend."""

    __slots__ = ("balancer", "candidates", "masquerade", "node", "reason", "route")

    def __init__(
        self,
        route_: Route,
        node: NodeInfo,
        candidates: Candidates,
        balancer: Balancer,
        reason: str,
    ) -> None:
        self.route = route_
        self.node = node
        """Where the traffic enters."""
        self.candidates = candidates
        self.balancer = balancer
        self.masquerade = node.address if route_.masquerade else ""
        """The source address that the pod sees, "" for the client's own."""
        self.reason = reason
        """Why there is no candidate, "" when there are some."""


class Planner:
    """Makes plans, and keeps the balancers of all service ports."""

    def __init__(self, tables: Tables, configuration: ProxyConfiguration, random: Random) -> None:
        self.configuration = configuration
        self._tables = tables
        self._random = random
        self._plans: dict[Address, dict[tuple[Client, str], Plan]] = {}
        self._balancers: dict[str, dict[tuple[str, str], Balancer]] = {}
        self._turns: dict[Address, int] = {}

    def configure(self, configuration: ProxyConfiguration) -> None:
        """Go over to another configuration. Connections that are established are not touched."""
        before, self.configuration = self.configuration, configuration
        self._plans.clear()
        if (before.mode, before.scheduler) != (configuration.mode, configuration.scheduler):
            self._balancers.clear()

    def changed(self, addresses: set[Address], ports: dict[str, PortState | None]) -> None:
        """Take over what has changed in the tables."""
        for address in addresses:
            self._plans.pop(address, None)
            if address not in self._tables.frontends:
                self._turns.pop(address, None)
        for name, port in ports.items():
            if port is None:
                self._balancers.pop(name, None)
            for balancer in self._balancers.get(name, {}).values():
                if port is not None:
                    balancer.update(port.endpoints, port.affinity)

    def listens(self, frontend: Frontend) -> bool:
        """Whether there is a socket for a frontend: without one the kernel refuses."""
        mode = self.configuration.mode
        if frontend.bound_elsewhere or frontend.port.protocol not in ("TCP", "UDP"):
            return False
        if frontend.address.ip == LOCALHOST and not (
            mode is ProxyMode.USERSPACE
            or (mode is ProxyMode.IPTABLES and self.configuration.localhost_node_ports)
        ):
            return False
        return mode is ProxyMode.USERSPACE or frontend.port.usable

    def plan(self, frontend: Frontend, client: Client, client_ip: str) -> Plan:
        """The plan for a client's connection."""
        if frontend.address.ip == LOCALHOST and not client.node:
            client = Client(ClientKind.NODE, frontend.node)
        entry = frontend.node or client.node or self._entry_from_outside(frontend, client_ip)
        plans = self._plans.get(frontend.address)
        if plans is None:
            plans = self._plans[frontend.address] = {}
        found = plans.get((client, entry))
        if found is None:
            found = plans[client, entry] = self._make(frontend, client, entry)
        return found

    def allowed_sources(self, frontend: Frontend) -> Ranges:
        """Whose SYNs a frontend's socket lets through, by source ranges and local endpoints."""
        allowed = EVERYONE
        port, tables = frontend.port, self._tables
        if self.configuration.mode is ProxyMode.USERSPACE:
            return allowed
        if frontend.way is Way.LOAD_BALANCER and port.source_ranges:
            allowed = union(_bounds(cidr) for cidr in port.source_ranges)
        if (
            frontend.way is Way.CLUSTER_IP
            and port.internal_local
            and self.configuration.mode is not ProxyMode.IPVS
        ):
            without = [n for n in tables.node_order if not local_endpoints(port.endpoints, n.name)]
            kept_out = tables.sources_of(without)
            if without and without[0] == tables.node_order[0]:
                # Clients from outside enter at the first node.
                inside = tables.sources_of(tables.node_order)
                kept_out = union((*kept_out, *complement(inside)))
            allowed = intersection(allowed, complement(kept_out))
        at_node = frontend.way is Way.NODE_PORT and frontend.address.ip != LOCALHOST
        if at_node and port.external_local and not local_endpoints(port.endpoints, frontend.node):
            own = [node for node in tables.node_order if node.name == frontend.node]
            short_cut = self.configuration.mode is not ProxyMode.IPVS
            allowed = intersection(allowed, tables.sources_of(own) if short_cut else ())
        return allowed

    def _entry_from_outside(self, frontend: Frontend, client_ip: str) -> str:
        nodes = self._tables.node_order
        if frontend.way is not Way.LOAD_BALANCER:
            return nodes[0].name if nodes else ""
        if frontend.port.external_local:
            # Health checks keep a load balancer from nodes without local endpoints.
            nodes = tuple(n for n in nodes if local_endpoints(frontend.port.endpoints, n.name))
        if not nodes:
            return ""
        if frontend.port.affinity is not None:
            return nodes[to_int(client_ip) % len(nodes)].name
        turn = self._turns.get(frontend.address, 0)
        self._turns[frontend.address] = turn + 1
        return nodes[turn % len(nodes)].name

    def _make(self, frontend: Frontend, client: Client, entry: str) -> Plan:
        port = frontend.port
        node = self._tables.nodes.get(entry, _NO_NODE)
        policies = Policies(
            self.configuration.mode,
            port.internal_local,
            port.external_local,
            self.configuration.masquerade_all,
        )
        route_ = route(frontend.way, client, entry, policies)
        endpoints: Endpoints
        if self.configuration.mode is ProxyMode.USERSPACE:
            endpoints = ready_endpoints(port.endpoints)
        elif route_.local_only:
            endpoints = local_endpoints(port.endpoints, entry)
        else:
            endpoints = cluster_endpoints(port.endpoints, entry, node.zone)
        reason = ""
        if not endpoints:
            reason = f"{port.name} has no endpoints"
            if route_.local_only:
                kind = "internal" if frontend.way is Way.CLUSTER_IP else "external"
                reason = f"{port.name} has no local endpoints on {entry} ({kind}TrafficPolicy Local)"
        return Plan(route_, node, Candidates(endpoints), self._balancer(frontend, entry), reason)

    def _balancer(self, frontend: Frontend, entry: str) -> Balancer:
        """Each node has rules of its own; in ipvs so has each virtual server."""
        configuration, port = self.configuration, frontend.port
        scope = str(frontend.address) if configuration.mode is ProxyMode.IPVS else ""
        balancers = self._balancers.setdefault(port.name, {})
        balancer = balancers.get((scope, entry))
        if balancer is None:
            balancer = new_balancer(
                configuration.mode, configuration.scheduler, frontend.address.ip, self._random
            )
            balancer.update(port.endpoints, port.affinity)
            balancers[scope, entry] = balancer
        return balancer


def source_permitted(frontend: Frontend, client_ip: str) -> bool:
    """Whether loadBalancerSourceRanges let a client through; only the load balancer's address is guarded."""
    ranges = frontend.port.source_ranges
    if frontend.way is not Way.LOAD_BALANCER or not ranges:
        return True
    return contains(union(_bounds(cidr) for cidr in ranges), to_int(client_ip))


def _bounds(cidr: str) -> tuple[int, int]:
    return cidr_bounds(cidr.strip())
