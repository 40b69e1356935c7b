"""What the proxy knows: nodes, service ports with their endpoints, and the frontends that lead to them.

Pure tables. Objects go in as they change; `take_changes` then recomputes only the Services that are touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from emu.core.addresses import bridge_address, cidr_bounds, contains, to_int
from emu.core.endpoints import Endpoints, endpoints_of_port, has_usable
from emu.core.objects import EndpointSlice, Node, Service, ServicePort
from emu.core.ranges import Ranges, union
from emu.proxy.paths import OUTSIDE, Client, ClientKind, Way

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


class PortState:
    """One port of one Service, with its endpoints."""

    __slots__ = (
        "affinity",
        "endpoints",
        "external_local",
        "internal_local",
        "name",
        "protocol",
        "service",
        "source_ranges",
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

    @property
    def usable(self) -> bool:
        """Whether any endpoint may be used by anyone."""
        return has_usable(self.endpoints)


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


class Tables:
    """Services, slices and nodes, and what follows from them."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeInfo] = {}
        self.frontends: dict[Address, Frontend] = {}
        self._services: dict[str, Service] = {}
        self._slices: dict[str, dict[str, EndpointSlice]] = {}
        self._claims: dict[str, dict[Address, Frontend]] = {}
        self._ports: dict[str, dict[str, PortState]] = {}
        self._waiting: dict[Address, dict[str, Frontend]] = {}
        self._dirty: set[str] = set()
        self._clients: dict[str, Client] = {}
        self._node_order: tuple[NodeInfo, ...] = ()

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

    def set_node(self, name: str, node: Node | None) -> bool:
        """A Node was added, changed or (None) deleted. True when something that matters here differs."""
        before = self.nodes.get(name)
        now = None
        if node is not None and node.internal_ip:
            now = NodeInfo(name, node.internal_ip, node.spec.pod_cidr, node.zone)
        if now == before:
            return False
        if now is None:
            del self.nodes[name]
        else:
            self.nodes[name] = now
        self._node_order = tuple(sorted(self.nodes.values(), key=lambda info: to_int(info.address)))
        self._clients.clear()
        self._dirty.update(self._services)
        return True

    @property
    def dirty(self) -> bool:
        """Whether `take_changes` has something to do."""
        return bool(self._dirty)

    @property
    def node_order(self) -> tuple[NodeInfo, ...]:
        """All nodes by address; the first is where clients from outside enter."""
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
        """Recompute what is dirty."""
        changes = Changes(set(), {})
        dirty, self._dirty = self._dirty, set()
        for key in dirty:
            self._recompute(key, changes)
        return changes

    def sources_of(self, nodes: Iterable[NodeInfo]) -> Ranges:
        """All addresses on some nodes: their own and those of their pods."""
        pairs = []
        for node in nodes:
            pairs.append((to_int(node.address), to_int(node.address)))
            if node.pod_cidr:
                pairs.append(cidr_bounds(node.pod_cidr))
        return union(pairs)

    def _classify(self, ip: str) -> Client:
        for node in self._node_order:
            if ip == node.address:
                return Client(ClientKind.NODE, node.name)
            if node.pod_cidr and contains(node.pod_cidr, ip):
                kind = ClientKind.NODE if ip == node.bridge else ClientKind.POD
                return Client(kind, node.name)
        return OUTSIDE

    def _recompute(self, key: str, changes: Changes) -> None:
        service = self._services.get(key)
        ports: dict[str, PortState] = {}
        claims: dict[Address, Frontend] = {}
        if service is not None and service.spec.type != "ExternalName" and service.has_cluster_ip:
            slices = self._slices.get(key, {}).values()
            for service_port in service.spec.ports:
                endpoints = endpoints_of_port(slices, service_port.name, service_port.protocol)
                port = PortState(service, service_port, endpoints)
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
            self._settle(address, key, claims.get(address))
            changes.addresses.add(address)

    def _settle(self, address: Address, key: str, frontend: Frontend | None) -> None:
        """Give an address to the Service that has claimed it first; others wait for it to be free."""
        claimants = self._waiting.setdefault(address, {})
        if frontend is None:
            claimants.pop(key, None)
        else:
            claimants[key] = frontend
        if claimants:
            self.frontends[address] = next(iter(claimants.values()))
        else:
            del self._waiting[address]
            self.frontends.pop(address, None)

    def _frontends(self, service: Service, service_port: ServicePort, port: PortState) -> Iterator[Frontend]:
        spec, protocol = service.spec, service_port.protocol
        bound_elsewhere = BOUND_BY_ANNOTATION in service.metadata.annotations
        yield Frontend(
            Address(spec.cluster_ip, service_port.port, protocol), Way.CLUSTER_IP, port, "", bound_elsewhere
        )
        for ip in spec.external_ips:
            yield Frontend(Address(ip, service_port.port, protocol), Way.EXTERNAL_IP, port)
        if spec.type == "LoadBalancer":
            for ingress in service.status.load_balancer.ingress:
                if ingress.ip and ingress.ip_mode == "VIP":
                    yield Frontend(Address(ingress.ip, service_port.port, protocol), Way.LOAD_BALANCER, port)
        if service_port.node_port and spec.type in ("NodePort", "LoadBalancer"):
            for node in self._node_order:
                yield Frontend(
                    Address(node.address, service_port.node_port, protocol), Way.NODE_PORT, port, node.name
                )
            if self._node_order:
                # A host has one 127.0.0.1; here it is the first node's.
                yield Frontend(
                    Address(LOCALHOST, service_port.node_port, protocol),
                    Way.NODE_PORT,
                    port,
                    self._node_order[0].name,
                )
