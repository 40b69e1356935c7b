"""What the proxy knows: nodes, service ports with their endpoints, and the frontends that lead to them.

Pure tables. Objects go in as they change; `take_changes` then recomputes only the Services that are touched.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from emu.core.addresses import bridge_address, cidr_bounds, to_int
from emu.core.endpoints import (
    Endpoints,
    endpoints_of_port,
    endpoints_of_subsets,
    has_usable,
    nodes_with_local,
)
from emu.core.objects import EndpointSlice, EndpointSubset, Node, Service, ServicePort
from emu.core.ranges import EVERYONE, Ranges, complement, intersection, union
from emu.proxy.paths import OUTSIDE, Client, ClientKind, Way

log = logging.getLogger(__name__)

BOUND_BY_ANNOTATION = "emu.network/bound-by"
LOCALHOST = "127.0.0.1"
_REMEMBERED_CLIENTS = 65536


class Address(NamedTuple):
    """What a client dials."""

    ip: str
    port: int
    protocol: str

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}/{self.protocol}"


class NodeInfo(NamedTuple):
    """What matters of a Node."""

    name: str
    address: str
    pod_cidr: str
    zone: str

    @property
    def bridge(self) -> str:
        """The address of its bridge; its own before it has a pod range."""
        return bridge_address(self.pod_cidr) if self.pod_cidr else self.address

    @property
    def own_sources(self) -> Ranges:
        """The addresses of the node itself."""
        return union((to_int(ip), to_int(ip)) for ip in (self.address, self.bridge))

    @property
    def pod_sources(self) -> Ranges:
        """The addresses that its pods may have."""
        pods = union([cidr_bounds(self.pod_cidr)] if self.pod_cidr else [])
        return intersection(pods, complement(self.own_sources))


class PortState:
    """One port of one Service, with its endpoints."""

    __slots__ = (
        "affinity",
        "endpoints",
        "external_local",
        "internal_local",
        "local_nodes",
        "name",
        "permitted",
        "protocol",
        "service",
        "source_ranges",
        "usable",
    )

    def __init__(self, service: Service, port: ServicePort, endpoints: Endpoints) -> None:
        spec = service.spec
        self.service = service
        self.name = f"{service.key}:{port.name}" if port.name else service.key
        self.protocol = port.protocol
        self.endpoints = endpoints
        self.internal_local = spec.internal_traffic_policy == "Local"
        self.external_local = spec.external_traffic_policy == "Local"
        self.affinity: float | None = None
        if spec.session_affinity == "ClientIP":
            config = spec.session_affinity_config
            self.affinity = float(config.client_ip.timeout_seconds) if config else 10800.0
        self.source_ranges = spec.load_balancer_source_ranges if spec.type == "LoadBalancer" else ()
        self.permitted = _permitted(self.source_ranges)
        """Whom `source_ranges` let through to the load balancer's address."""
        self.usable = has_usable(endpoints)
        """Whether any endpoint may be used by anyone."""
        by_node = self.internal_local or self.external_local
        self.local_nodes = nodes_with_local(endpoints) if by_node else frozenset[str]()
        """The nodes that have usable endpoints; without a policy Local nobody asks, and it is empty."""


def _permitted(source_ranges: Iterable[str]) -> Ranges:
    """Ranges of the other family guard the other family's addresses."""
    own_family = [cidr_bounds(cidr.strip()) for cidr in source_ranges if ":" not in cidr]
    return union(own_family) if own_family else EVERYONE


class Frontend:
    """An address that leads to a service port."""

    __slots__ = ("address", "bound_elsewhere", "node", "port", "way")

    def __init__(
        self, address: Address, way: Way, port: PortState, node: str = "", bound_elsewhere: bool = False
    ) -> None:
        self.address = address
        self.way = way
        self.port = port
        self.node = node
        """The node of a node port's address, "" for other ways."""
        self.bound_elsewhere = bound_elsewhere
        """Another component listens there; the proxy only knows of it."""


class Changes(NamedTuple):
    """What a recomputation has touched."""

    addresses: set[Address]
    """Frontends that are new, gone or changed."""
    ports: dict[str, PortState | None]
    """Service ports by name; None for one that is gone."""
    conflicts: tuple[tuple[Frontend, Frontend], ...] = ()
    """Frontends whose address another Service holds, with the other's: told once."""


class Tables:
    """Services, slices and nodes, and what follows from them."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeInfo] = {}
        self.frontends: dict[Address, Frontend] = {}
        self._services: dict[str, Service] = {}
        self._slices: dict[str, dict[str, EndpointSlice]] = {}
        self._subsets: dict[str, tuple[EndpointSubset, ...]] = {}
        self._reads_endpoints = False
        self._claims: dict[str, dict[Address, Frontend]] = {}
        self._ports: dict[str, dict[str, PortState]] = {}
        self._claimants: dict[Address, dict[str, Frontend]] = {}
        self._told: dict[tuple[Address, str], str] = {}
        self._dirty: set[str] = set()
        self._clients: dict[str, Client] = {}
        self._hosts: dict[str, Client] = {}
        self._pod_ranges: list[tuple[int, int, Client]] = []
        self._node_order: tuple[NodeInfo, ...] | None = ()

    def set_service(self, key: str, service: Service | None) -> None:
        """A Service was added, changed or (None) deleted."""
        if service is None:
            self._services.pop(key, None)
        else:
            self._services[key] = service
        self._dirty.add(key)

    def set_slice(self, key: str, before: EndpointSlice | None, now: EndpointSlice | None) -> None:
        """An EndpointSlice was added, changed or (None) deleted."""
        if before is not None and before.service_key:
            slices = self._slices.get(before.service_key, {})
            slices.pop(key, None)
            if not slices:
                self._slices.pop(before.service_key, None)
            self._dirty.add(before.service_key)
        if now is not None and now.service_key:
            self._slices.setdefault(now.service_key, {})[key] = now
            self._dirty.add(now.service_key)

    def set_endpoints(self, key: str, subsets: tuple[EndpointSubset, ...]) -> bool:
        """The Endpoints object of a Service was added or changed; without subsets: deleted.

        True when that is what endpoints are taken from.
        """
        if subsets:
            self._subsets[key] = subsets
        else:
            self._subsets.pop(key, None)
        if self._reads_endpoints:
            self._dirty.add(key)
        return self._reads_endpoints

    def forget_endpoints(self) -> None:
        """Drop all Endpoints objects: nothing reads them, and what is kept would grow old."""
        self._subsets.clear()

    def read_endpoints(self, reads: bool) -> bool:
        """Take endpoints from Endpoints objects, as the userspace mode did, or from EndpointSlices.

        True when that is a change: every Service is to be recomputed.
        """
        changed = reads != self._reads_endpoints
        if changed:
            self._reads_endpoints = reads
            self._dirty.update(self._services)
        return changed

    def set_node(self, name: str, node: Node | None) -> bool:
        """A Node was added, changed or (None) deleted. True when something that matters here differs."""
        before = self.nodes.get(name)
        now = None if node is None else _node_info(name, node)
        if now == before:
            return False
        if now is None:
            del self.nodes[name]
        else:
            self.nodes[name] = now
        self._node_order = None
        self._clients.clear()
        self._hosts.clear()
        self._dirty.update(key for key, service in self._services.items() if _depends_on_nodes(service))
        return True

    @property
    def dirty(self) -> bool:
        """Whether `take_changes` has something to do."""
        return bool(self._dirty)

    @property
    def node_order(self) -> tuple[NodeInfo, ...]:
        """All nodes by address; the first is where clients from outside enter."""
        if self._node_order is None:
            self._node_order = tuple(sorted(self.nodes.values(), key=lambda info: to_int(info.address)))
        return self._node_order

    def client(self, ip: str) -> Client:
        """Who a source address is."""
        found = self._clients.get(ip)
        if found is None:
            if len(self._clients) >= _REMEMBERED_CLIENTS:
                self._clients.clear()
            found = self._clients[ip] = self._classify(ip)
        return found

    def take_changes(self) -> Changes:
        """Recompute what is dirty. A Service that fails stays dirty, and keeps no other from its changes."""
        changes = Changes(set(), {})
        dirty, self._dirty = self._dirty, set()
        for key in dirty:
            try:
                self._recompute(key, changes)
            except Exception:
                log.exception("Service %s goes on as it was: what it says now cannot be understood", key)
                self._dirty.add(key)
        conflicts = (conflict for address in changes.addresses for conflict in self._conflicts(address))
        return changes._replace(conflicts=tuple(conflicts))

    def sources_of(self, nodes: Iterable[NodeInfo]) -> Ranges:
        """All addresses on some nodes: their own and those of their pods."""
        pairs = []
        for node in nodes:
            pairs.append((to_int(node.address), to_int(node.address)))
            if node.pod_cidr:
                pairs.append(cidr_bounds(node.pod_cidr))
        return union(pairs)

    def _place_clients(self) -> None:
        """Once for all changes of nodes before the next client, so that many nodes may come at once."""
        self._hosts = {
            ip: Client(ClientKind.NODE, node.name)
            for node in reversed(self.node_order)
            for ip in (node.address, node.bridge)
        }
        self._pod_ranges = sorted(
            (*cidr_bounds(node.pod_cidr), Client(ClientKind.POD, node.name))
            for node in self.node_order
            if node.pod_cidr
        )

    def _classify(self, ip: str) -> Client:
        if not self._hosts:
            self._place_clients()
        host = self._hosts.get(ip)
        if host is not None:
            return host
        number = to_int(ip)
        at = bisect_right(self._pod_ranges, number, key=lambda pods: pods[0]) - 1
        if at >= 0 and number <= self._pod_ranges[at][1]:
            return self._pod_ranges[at][2]
        return OUTSIDE

    def _recompute(self, key: str, changes: Changes) -> None:
        service = self._services.get(key)
        ports: dict[str, PortState] = {}
        claims: dict[Address, Frontend] = {}
        if service is not None and service.spec.type != "ExternalName" and service.has_cluster_ip:
            for service_port in service.spec.ports:
                port = PortState(service, service_port, self._endpoints(key, service_port))
                ports[port.name] = port
                for frontend in self._frontends(service, service_port, port):
                    claims.setdefault(frontend.address, frontend)
        for name in self._ports.get(key, {}).keys() - ports.keys():
            changes.ports[name] = None
        changes.ports.update(ports)
        before = self._claims.pop(key, {})
        if service is not None:
            self._ports[key], self._claims[key] = ports, claims
        else:
            self._ports.pop(key, None)
        for address in before.keys() | claims.keys():
            changes.addresses.add(address)
            self._settle(address, key, claims.get(address))

    def _endpoints(self, key: str, port: ServicePort) -> Endpoints:
        if self._reads_endpoints:
            return endpoints_of_subsets(self._subsets.get(key, ()), port.name)
        return endpoints_of_port(self._slices.get(key, {}).values(), port.name, port.protocol)

    def _settle(self, address: Address, key: str, frontend: Frontend | None) -> None:
        """Give an address to the oldest Service that claims it; others wait for it to be free."""
        claimants = self._claimants.setdefault(address, {})
        if frontend is None:
            claimants.pop(key, None)
            self._told.pop((address, key), None)
        else:
            claimants[key] = frontend
        if claimants:
            self.frontends[address] = min(claimants.values(), key=_age)
        else:
            del self._claimants[address]
            self.frontends.pop(address, None)

    def _conflicts(self, address: Address) -> Iterator[tuple[Frontend, Frontend]]:
        """Who waits for an address and has not been told who holds it."""
        claimants = self._claimants.get(address, {})
        if len(claimants) > 1:
            holder = self.frontends[address]
            for key, waiting in claimants.items():
                now = holder.port.service.key if waiting is not holder else ""
                if self._told.get((address, key), "") != now:
                    self._told[address, key] = now
                    if now:
                        yield waiting, holder

    def _frontends(self, service: Service, service_port: ServicePort, port: PortState) -> Iterator[Frontend]:
        spec, protocol = service.spec, service_port.protocol
        bound_elsewhere = BOUND_BY_ANNOTATION in service.metadata.annotations
        yield Frontend(
            Address(spec.cluster_ip, service_port.port, protocol), Way.CLUSTER_IP, port, "", bound_elsewhere
        )
        for ip in spec.external_ips:
            if ":" not in ip:
                yield Frontend(Address(ip, service_port.port, protocol), Way.EXTERNAL_IP, port)
        if spec.type == "LoadBalancer":
            for ingress in service.status.load_balancer.ingress:
                if ingress.ip and ":" not in ingress.ip and ingress.ip_mode == "VIP":
                    yield Frontend(Address(ingress.ip, service_port.port, protocol), Way.LOAD_BALANCER, port)
        if service_port.node_port and spec.type in ("NodePort", "LoadBalancer"):
            for node in self.node_order:
                yield Frontend(
                    Address(node.address, service_port.node_port, protocol), Way.NODE_PORT, port, node.name
                )
            if self.node_order:
                # A host has one 127.0.0.1; here it is the first node's.
                yield Frontend(
                    Address(LOCALHOST, service_port.node_port, protocol),
                    Way.NODE_PORT,
                    port,
                    self.node_order[0].name,
                )


def _node_info(name: str, node: Node) -> NodeInfo | None:
    """What matters of a Node, None before it has an address. A pod range may be of the other family."""
    address, pod_cidr = node.internal_ip, node.spec.pod_cidr
    if not address:
        return None
    try:
        bridge_address(pod_cidr)
    except ValueError:
        pod_cidr = ""
    return NodeInfo(name, address, pod_cidr, node.zone)


def _age(frontend: Frontend) -> tuple[str, str]:
    """What orders Services by age: the name decides between those of one second."""
    service = frontend.port.service
    return service.metadata.creation_timestamp, service.key


def _depends_on_nodes(service: Service) -> bool:
    """Whether the nodes have a part in its addresses, or in who may reach them."""
    spec = service.spec
    return (
        spec.type in ("NodePort", "LoadBalancer")
        or bool(spec.external_ips)
        or spec.internal_traffic_policy == "Local"
    )
