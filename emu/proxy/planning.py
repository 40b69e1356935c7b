"""From a frontend and a client to a decision: endpoint, source address, or why there is none. No I/O.

The one place where this is decided: accepted sockets, datagrams and the gateway all come here. Plans are kept
for each frontend and kind of client until something that they rest on changes, so that a new connection
costs a few dictionary look-ups whatever the number of Services.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from emu.core.addresses import cidr_bounds, to_int
from emu.core.config import ProxyMode
from emu.core.endpoints import Endpoints, PortEndpoint, cluster_endpoints, local_endpoints
from emu.core.ranges import EVERYONE, NOBODY, Ranges, complement, contains, intersection, union
from emu.proxy.configuration import PRIMARY, ProxyConfiguration
from emu.proxy.modes import new_balancer, reschedule
from emu.proxy.modes.base import Balancer, Candidates
from emu.proxy.paths import OUTSIDE, Client, ClientKind, Policies, Route, Way, route
from emu.proxy.tables import LOCALHOST, Address, Frontend, NodeInfo, PortState, Tables
from emu.telemetry.flows import Verdict

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


class Choice(NamedTuple):
    """What becomes of one connection or flow."""

    verdict: Verdict
    plan: Plan
    reason: str = ""
    """Why it is not forwarded."""
    endpoint: PortEndpoint | None = None
    """Where it goes: there is one exactly when it is forwarded."""
    source: str = ""
    """The address that the endpoint shall see, "" for the client's own."""


class Planner:
    """Makes plans, and keeps the balancers of all service ports."""

    def __init__(self, tables: Tables, configuration: ProxyConfiguration, random: Random) -> None:
        self.configuration = configuration
        self.has_socket: Callable[[Address], bool] = lambda address: False
        """Whether the proxy itself answers at an address."""
        self._tables = tables
        self._random = random
        self._plans: dict[Address, dict[tuple[Client, str], Plan]] = {}
        self._balancers: dict[str, dict[tuple[Address | None, str], Balancer]] = {}
        self._entries: dict[Address, tuple[tuple[NodeInfo, ...], tuple[NodeInfo, ...]]] = {}
        self._turns: dict[Address, int] = {}
        self._nodes_changed = False
        self._node_ports_at = _node_ports_at(configuration)

    def configure(self, configuration: ProxyConfiguration) -> None:
        """Go over to another configuration. Connections that are established are not touched."""
        before, self.configuration = self.configuration, configuration
        self._node_ports_at = _node_ports_at(configuration)
        self._plans.clear()
        self._entries.clear()
        scheduling = (configuration.scheduler, configuration.scheduler_flags)
        if before.mode is not configuration.mode:
            self._balancers.clear()
        elif (before.scheduler, before.scheduler_flags) != scheduling:
            for balancers in self._balancers.values():
                for balancer in balancers.values():
                    reschedule(balancer, *scheduling)

    def nodes_changed(self) -> None:
        """Plans rest on where clients are, and in which zone."""
        self._plans.clear()
        self._entries.clear()
        self._nodes_changed = True

    def changed(self, addresses: set[Address], ports: dict[str, PortState | None]) -> None:
        """Take over what has changed in the tables."""
        for address in addresses:
            self._plans.pop(address, None)
            self._entries.pop(address, None)
            if address not in self._tables.frontends:
                self._turns.pop(address, None)
        if self._nodes_changed:
            self._nodes_changed = False
            self._forget_gone_nodes()
        for name, port in ports.items():
            if port is None:
                self._balancers.pop(name, None)
                continue
            balancers = self._balancers.get(name, {})
            for scope, entry in list(balancers):
                if scope is not None and self._port_at(scope) != name:
                    del balancers[scope, entry]
                else:
                    balancers[scope, entry].update(port.endpoints, port.affinity)

    def knows(self, frontend: Frontend) -> bool:
        """Whether the mode in force has the address at all: a node port is not everywhere."""
        if frontend.way is not Way.NODE_PORT or self.configuration.mode is ProxyMode.USERSPACE:
            return True
        if frontend.address.ip == LOCALHOST and not (
            self.configuration.mode is ProxyMode.IPTABLES
            and self.configuration.localhost_node_ports
            and self.configuration.node_port_addresses != (PRIMARY,)
        ):
            return False
        return self.has_node_ports(frontend.address.ip)

    def has_node_ports(self, ip: str) -> bool:
        """Whether `nodePortAddresses` covers an address."""
        return contains(self._node_ports_at, to_int(ip))

    def listens(self, frontend: Frontend) -> bool:
        """Whether there is a socket for a frontend: without one the kernel refuses."""
        if frontend.bound_elsewhere or frontend.port.protocol not in ("TCP", "UDP"):
            return False
        if not self.knows(frontend):
            return False
        if self.configuration.mode is ProxyMode.USERSPACE:
            return True
        return frontend.port.usable and not self._refuses_everyone(frontend)

    def plan(self, frontend: Frontend, client: Client, client_ip: str) -> Plan:
        """The plan for a client's connection."""
        if frontend.address.ip == LOCALHOST:
            # A host has one 127.0.0.1: who dials it is on the host.
            client = Client(ClientKind.NODE, frontend.node)
        entry = frontend.node or client.node or self._entry_from_outside(frontend, client_ip)
        plans = self._plans.get(frontend.address)
        found = plans.get((client, entry)) if plans is not None else None
        if found is None:
            found = self._make(frontend, client, entry)
            # What was true before must not decide for those who come after.
            if self._tables.frontends.get(frontend.address) is frontend:
                self._plans.setdefault(frontend.address, {})[client, entry] = found
        return found

    def decide(self, frontend: Frontend, client: tuple[str, int], now: float) -> Choice:
        """What becomes of a connection or flow that a client begins at a frontend.

        `client` is address and port, `now` the time of the balancers' clock. NetworkPolicy comes after it.
        """
        port = frontend.port
        plan = self.plan(frontend, self._tables.client(client[0]), client[0])
        if not port.usable:
            return Choice(Verdict.REFUSED, plan, f"{port.name} has no endpoints")
        if not self._permits(frontend, client[0]):
            return Choice(Verdict.DROPPED, plan, "the client is in none of loadBalancerSourceRanges")
        if not plan.candidates.endpoints:
            return Choice(Verdict.REFUSED if plan.route.refuse else Verdict.DROPPED, plan, plan.reason)
        endpoint = plan.balancer.choose(plan.candidates, client, now)
        if endpoint is None:
            return Choice(Verdict.REFUSED, plan, f"the scheduler has no destination for {client[0]}")
        if (endpoint.address, endpoint.port, port.protocol) in self._tables.frontends:
            again = Address(endpoint.address, endpoint.port, port.protocol)
            if self.has_socket(again):
                # NAT looks at the first packet once; to accept it again might go on for ever.
                verdict = Verdict.REFUSED if plan.route.refuse else Verdict.DROPPED
                return Choice(verdict, plan, f"the endpoint {endpoint.key} is a Service's address")
        source = plan.masquerade
        if not source and endpoint.address == client[0] != plan.node.address:
            # A pod must not see its own address as its client's; one in the host network sees the node.
            source = plan.node.bridge
        return Choice(Verdict.FORWARDED, plan, "", endpoint, source)

    def balancer_at(self, frontend: Frontend, node: str) -> Balancer | None:
        """What balances connections to a frontend that enter at a node; None before the first one."""
        return self._balancers.get(frontend.port.name, {}).get((self._scope(frontend), node))

    def allowed_sources(self, frontend: Frontend) -> Ranges:
        """Whose SYNs a frontend's socket lets through: all that `decide` does not drop."""
        port = frontend.port
        if self.configuration.mode is ProxyMode.USERSPACE:
            return EVERYONE
        allowed = port.permitted if frontend.way is Way.LOAD_BALANCER else EVERYONE
        if port.internal_local if frontend.way is Way.CLUSTER_IP else port.external_local:
            allowed = intersection(allowed, complement(self._kept_out(frontend)))
        return allowed

    def _permits(self, frontend: Frontend, client_ip: str) -> bool:
        """loadBalancerSourceRanges guard the load balancer's address, in all modes but userspace."""
        permitted = frontend.port.permitted
        return (
            permitted == EVERYONE
            or frontend.way is not Way.LOAD_BALANCER
            or self.configuration.mode is ProxyMode.USERSPACE
            or contains(permitted, to_int(client_ip))
        )

    def _kept_out(self, frontend: Frontend) -> Ranges:
        """Those who find no local endpoint where their connections enter, and may use no other."""
        if frontend.address.ip == LOCALHOST:
            return NOBODY if self._serves(frontend, Client(ClientKind.NODE, frontend.node)) else EVERYONE
        nodes = self._tables.node_order
        if frontend.node:
            # At a node's own address the other nodes are as far away as everybody else.
            nodes = tuple(node for node in nodes if node.name == frontend.node)
        kept_out: list[tuple[int, int]] = []
        for node in nodes:
            if not self._serves(frontend, Client(ClientKind.POD, node.name)):
                kept_out.extend(node.pod_sources)
            if not self._serves(frontend, Client(ClientKind.NODE, node.name)):
                kept_out.extend(node.own_sources)
        if not self._serves(frontend, OUTSIDE):
            kept_out.extend(complement(self._tables.sources_of(nodes)))
        return union(kept_out)

    def _serves(self, frontend: Frontend, client: Client) -> bool:
        """Whether a client of a Service with usable endpoints gets one, or is refused rather than dropped."""
        entry = frontend.node or client.node
        if not entry:
            entry = next((node.name for node in self._entries_from_outside(frontend)), "")
        route_ = self._route(frontend, client, entry)
        return not route_.local_only or route_.refuse or route_.spills or entry in frontend.port.local_nodes

    def _refuses_everyone(self, frontend: Frontend) -> bool:
        """In ipvs: virtual servers that policy Local leaves without a real server wherever one may enter."""
        port = frontend.port
        if self.configuration.mode is not ProxyMode.IPVS or not port.internal_local:
            return False
        if frontend.way is not Way.CLUSTER_IP and not port.external_local:
            return False
        if frontend.way is Way.LOAD_BALANCER and port.permitted != EVERYONE:
            # Those who are not in the ranges are dropped before ipvs sees them.
            return False
        entries = (frontend.node,) if frontend.node else self._tables.nodes
        return port.local_nodes.isdisjoint(entries)

    def _entry_from_outside(self, frontend: Frontend, client_ip: str) -> str:
        nodes = self._entries_from_outside(frontend)
        if not nodes:
            return ""
        if len(nodes) == 1:
            return nodes[0].name
        if frontend.port.affinity is not None:
            return nodes[to_int(client_ip) % len(nodes)].name
        turn = self._turns.get(frontend.address, 0)
        self._turns[frontend.address] = turn + 1
        return nodes[turn % len(nodes)].name

    def _entries_from_outside(self, frontend: Frontend) -> tuple[NodeInfo, ...]:
        """The nodes where clients from outside enter: those a load balancer sends to, else the first.

        An address that is a node's own leads to that node.
        """
        nodes = self._tables.node_order
        if frontend.way is Way.CLUSTER_IP:
            return nodes[:1]
        of_nodes, entries = self._entries.get(frontend.address, ((), ()))
        if of_nodes is not nodes:
            entries = self._find_entries(frontend, nodes)
            self._entries[frontend.address] = nodes, entries
        return entries

    def _find_entries(self, frontend: Frontend, nodes: tuple[NodeInfo, ...]) -> tuple[NodeInfo, ...]:
        port = frontend.port
        if own := tuple(node for node in nodes if node.address == frontend.address.ip):
            return own
        if frontend.way is not Way.LOAD_BALANCER:
            return nodes[:1]
        if not port.external_local or self.configuration.mode is ProxyMode.USERSPACE:
            return nodes
        # Health checks keep a load balancer from nodes without ready local endpoints. Where no node has one,
        # terminating ones may still serve (KEP-1669).
        ready = {endpoint.node for endpoint in port.endpoints if endpoint.ready}
        return tuple(node for node in nodes if node.name in ready) or tuple(
            node for node in nodes if node.name in port.local_nodes
        )

    def _route(self, frontend: Frontend, client: Client, entry: str) -> Route:
        configuration, port = self.configuration, frontend.port
        policies = Policies(
            configuration.mode,
            port.internal_local,
            port.external_local,
            configuration.masquerade_all,
            configuration.detects_local,
        )
        return route(frontend.way, client, entry, policies)

    def _make(self, frontend: Frontend, client: Client, entry: str) -> Plan:
        port = frontend.port
        node = self._tables.nodes.get(entry, _NO_NODE)
        route_ = self._route(frontend, client, entry)
        endpoints: Endpoints = ()
        if route_.local_only:
            endpoints = local_endpoints(port.endpoints, entry)
        if not endpoints and (route_.spills or not route_.local_only):
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
        configuration, port, scope = self.configuration, frontend.port, self._scope(frontend)
        balancers = self._balancers.setdefault(port.name, {})
        balancer = balancers.get((scope, entry))
        if balancer is None:
            balancer = new_balancer(
                configuration.mode,
                configuration.scheduler,
                configuration.scheduler_flags,
                frontend.address.ip,
                frontend.address.protocol,
                self._random,
            )
            balancer.update(port.endpoints, port.affinity)
            balancers[scope, entry] = balancer
        return balancer

    def _forget_gone_nodes(self) -> None:
        """The rules of a node are gone with it."""
        nodes = self._tables.nodes
        for balancers in self._balancers.values():
            for scope, entry in list(balancers):
                if entry and entry not in nodes:
                    del balancers[scope, entry]

    def _port_at(self, address: Address) -> str:
        frontend = self._tables.frontends.get(address)
        return frontend.port.name if frontend is not None else ""

    def _scope(self, frontend: Frontend) -> Address | None:
        return frontend.address if self.configuration.mode is ProxyMode.IPVS else None


def _node_ports_at(configuration: ProxyConfiguration) -> Ranges:
    """The addresses that `nodePortAddresses` covers; CIDRs of the other family leave this one as it is."""
    own_family = [cidr for cidr in configuration.node_port_addresses if cidr != PRIMARY and ":" not in cidr]
    return union(cidr_bounds(cidr) for cidr in own_family) if own_family else EVERYONE
