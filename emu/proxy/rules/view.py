"""What the rules of one node are made from, as plain values, and how to get them from the proxy's tables."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from ipaddress import IPv4Network, collapse_addresses
from typing import NamedTuple

import msgspec

from emu.core.addresses import contains
from emu.core.endpoints import Endpoints, cluster_endpoints, local_endpoints
from emu.core.objects import Service
from emu.proxy.configuration import PRIMARY, ProxyConfiguration
from emu.proxy.modes.ipvs import IpvsBalancer, RealServer
from emu.proxy.paths import Client, ClientKind, Way
from emu.proxy.planning import Planner
from emu.proxy.tables import LOCALHOST, Address, Frontend, NodeInfo

LARGE_CLUSTER_ENDPOINTS = 1000
"""With more endpoints than this iptables rules lose the comments that are repeated for each endpoint."""

_FIRST_PROXY_PORT, _LAST_PROXY_PORT = 32768, 60999


class ServicePort(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One port of one Service with a cluster IP, as a node sees it."""

    service: str
    """`namespace/name`."""
    port_name: str
    protocol: str
    """tcp, udp or sctp."""
    cluster_ip: str
    port: int
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    """Those that the node short-cuts: ipMode VIP."""
    source_ranges: tuple[str, ...] = ()
    internal_local: bool = False
    external_local: bool = False
    affinity: int | None = None
    """Seconds of ClientIP affinity."""
    health_check_node_port: int = 0
    proxy_port: int = 0
    """Where the userspace mode would listen for it."""
    endpoints: Endpoints = ()
    """All of them, usable or not."""
    cluster: Endpoints = ()
    """Those that policy Cluster may use on the node."""
    local: Endpoints = ()
    """Those that policy Local may use on the node."""

    @cached_property
    def name(self) -> str:
        """`namespace/name:port`, without the colon when the port has no name."""
        return f"{self.service}:{self.port_name}" if self.port_name else self.service

    @property
    def externally_accessible(self) -> bool:
        """Whether it is reached by anything but its cluster IP."""
        return bool(self.node_port or self.external_ips or self.load_balancer_ips)

    @property
    def has_endpoints(self) -> bool:
        """Whether any endpoint on any node is usable; without one clients are refused, not dropped."""
        return bool(self.cluster)

    @property
    def cluster_used(self) -> Endpoints:
        """The endpoints of the chain for policy Cluster. Short-cuts need it where all policies are Local."""
        return self.cluster if not self.internal_local or self.externally_accessible else ()

    @property
    def local_used(self) -> Endpoints:
        """The endpoints of the chain for policy Local."""
        local = self.internal_local or (self.external_local and self.externally_accessible)
        return self.local if local else ()

    @property
    def reachable(self) -> Endpoints:
        """All endpoints that some chain leads to."""
        found = {endpoint.key: endpoint for endpoint in (*self.cluster_used, *self.local_used)}
        return tuple(found[key] for key in sorted(found))

    @property
    def internal(self) -> Endpoints:
        """Those for the cluster IP."""
        return self.local if self.internal_local else self.cluster

    @property
    def external(self) -> Endpoints:
        """Those for clients from outside at the other addresses."""
        return self.local if self.external_local else self.cluster

    @property
    def guarded(self) -> bool:
        """Whether loadBalancerSourceRanges apply to an address."""
        return bool(self.load_balancer_ips and self.source_ranges)


class View(NamedTuple):
    """A node and the service ports whose rules are asked for."""

    node: NodeInfo
    ports: tuple[ServicePort, ...]
    configuration: ProxyConfiguration
    real_servers: Mapping[Address, Sequence[RealServer]] = {}
    """Of those virtual servers of ipvs that had something to balance."""
    service_cidrs: tuple[str, ...] = ()
    large: bool = False
    """The whole cluster is large, see LARGE_CLUSTER_ENDPOINTS."""
    whole: bool = True
    """All rules; otherwise those only that concern `ports`."""

    @property
    def pod_cidr(self) -> str:
        """The pods of the node, by which local traffic is told from other; "" where nothing tells it."""
        return self.node.pod_cidr if self.configuration.detects_local else ""

    @property
    def node_port_ips(self) -> tuple[str, ...] | None:
        """The addresses of the node that nodePortAddresses picks; None for all that are local there."""
        cidrs = [cidr for cidr in self.configuration.node_port_addresses if ":" not in cidr]
        if PRIMARY in cidrs:
            return (self.node.address,)
        if not cidrs or "0.0.0.0/0" in cidrs:
            return None
        own = (LOCALHOST, self.node.address)
        return tuple(ip for ip in own if any(contains(cidr, ip) for cidr in cidrs))

    @property
    def outer_node_port_ips(self) -> tuple[str, ...]:
        """The addresses with node ports in modes that have none at 127.0.0.1."""
        ips = (self.node.address,) if self.node_port_ips is None else self.node_port_ips
        return tuple(ip for ip in ips if ip != LOCALHOST)

    @property
    def localhost_node_ports(self) -> bool:
        """Whether the iptables mode has node ports at 127.0.0.1."""
        ips = self.node_port_ips
        return self.configuration.localhost_node_ports and (ips is None or LOCALHOST in ips)

    def of_service(self, service: str) -> View:
        """The same node, and one Service (`namespace/name`)."""
        return self._replace(ports=tuple(p for p in self.ports if p.service == service), whole=False)


def view_of(
    frontends: Iterable[Frontend],
    real_servers: Mapping[Address, Sequence[RealServer]],
    configuration: ProxyConfiguration,
    node: NodeInfo,
    service_cidrs: tuple[str, ...],
) -> View:
    """What a node's kube-proxy would know of frontends. Service ports are ordered by name."""
    of_ports = [frontend for frontend in frontends if frontend.way is Way.CLUSTER_IP]
    of_ports.sort(key=lambda frontend: (frontend.port.name, frontend.port.protocol))
    proxy_ports = _proxy_ports(f"{f.port.name}/{f.port.protocol}" for f in of_ports)
    ports = tuple(
        service_port(frontend, node, proxy_port)
        for frontend, proxy_port in zip(of_ports, proxy_ports, strict=True)
    )
    return View(
        node=node,
        ports=ports,
        configuration=configuration,
        real_servers=real_servers,
        service_cidrs=service_cidrs,
        large=sum(len(port.endpoints) for port in ports) > LARGE_CLUSTER_ENDPOINTS,
    )


def real_servers_of(
    frontends: Iterable[Frontend], planner: Planner, node: NodeInfo, now: float
) -> dict[Address, list[RealServer]]:
    """The real servers of virtual servers of ipvs on a node, at a time of the balancers' clock."""
    client = Client(ClientKind.NODE, node.name)
    found: dict[Address, list[RealServer]] = {}
    for frontend in frontends:
        balancer = planner.balancer_at(frontend, node.name)
        if isinstance(balancer, IpvsBalancer):
            candidates = planner.plan(frontend, client, node.address).candidates
            found[frontend.address] = balancer.real_servers(candidates, now)
    return found


def service_port(frontend: Frontend, node: NodeInfo, proxy_port: int = 0) -> ServicePort:
    """The service port behind the frontend of its cluster IP, as a node sees it."""
    service, state, address = frontend.port.service, frontend.port, frontend.address
    spec = service.spec
    found = next(p for p in spec.ports if (p.port, p.protocol) == (address.port, address.protocol))
    balanced = spec.type == "LoadBalancer"
    return ServicePort(
        service=service.key,
        port_name=found.name,
        protocol=state.protocol.lower(),
        cluster_ip=address.ip,
        port=address.port,
        node_port=found.node_port if balanced or spec.type == "NodePort" else 0,
        external_ips=_of_family(spec.external_ips),
        load_balancer_ips=_of_family(_virtual_ips(service)) if balanced else (),
        source_ranges=_networks(state.source_ranges),
        internal_local=state.internal_local,
        external_local=state.external_local,
        affinity=None if state.affinity is None else int(state.affinity),
        health_check_node_port=spec.health_check_node_port if balanced and state.external_local else 0,
        proxy_port=proxy_port,
        endpoints=state.endpoints,
        cluster=cluster_endpoints(state.endpoints, node.name, node.zone),
        local=local_endpoints(state.endpoints, node.name),
    )


def _virtual_ips(service: Service) -> Iterator[str]:
    return (i.ip for i in service.status.load_balancer.ingress if i.ip and i.ip_mode == "VIP")


def _of_family(ips: Iterable[str]) -> tuple[str, ...]:
    """kube-proxy of IPv4 leaves those of IPv6 to the other one."""
    return tuple(ip for ip in ips if ":" not in ip)


def _networks(cidrs: Iterable[str]) -> tuple[str, ...]:
    """IPv4 ranges without host bits; those of the other family do not count."""
    return tuple(str(IPv4Network(cidr.strip(), strict=False)) for cidr in cidrs if ":" not in cidr)


def merged(cidrs: Iterable[str]) -> tuple[str, ...]:
    """Ranges in order of their addresses, without overlaps; single addresses have no length."""
    networks = sorted(collapse_addresses(IPv4Network(cidr) for cidr in cidrs))
    return tuple(str(n) if n.prefixlen < 32 else str(n.network_address) for n in networks)


def _proxy_ports(names: Iterable[str]) -> Iterator[int]:
    """A port for each name, that stays when others come and go. The real one had any that was free."""
    taken: set[int] = set()
    size = _LAST_PROXY_PORT - _FIRST_PROXY_PORT + 1
    for name in names:
        offset = zlib.crc32(name.encode()) % size
        while offset in taken and len(taken) < size:
            offset = (offset + 1) % size
        taken.add(offset)
        yield _FIRST_PROXY_PORT + offset
