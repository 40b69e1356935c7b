"""Which endpoints a service port may use: EndpointSlices in, ordered endpoints out.

Source of the rules: the discovery.k8s.io/v1 types, KEP-752 (slices), KEP-1669 (terminating endpoints),
KEP-2086 (internalTrafficPolicy), KEP-2433 and KEP-3015 (topology hints), as kube-proxy carries them out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from emu.core.objects import Endpoint, EndpointSlice, EndpointSubset


class PortEndpoint(NamedTuple):
    """One endpoint of one service port."""

    key: str
    """`ip:port`, its identity."""
    address: str
    port: int
    node: str = ""
    """The node that hosts it, "" where the slice names none."""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zone_hints: frozenset[str] = frozenset()
    node_hints: frozenset[str] = frozenset()

    @property
    def usable(self) -> bool:
        """Whether any traffic may reach it: it is ready, or it still serves while it terminates."""
        return self.ready or (self.serving and self.terminating)


Endpoints = tuple[PortEndpoint, ...]
"""Sorted by key, without duplicates."""


def endpoints_of_port(slices: Iterable[EndpointSlice], port_name: str, protocol: str) -> Endpoints:
    """All endpoints, usable or not, that the slices of a Service hold for one of its ports.

    A slice's port belongs to a service port by name and protocol, and its number counts. Only the first
    address of an endpoint counts; an `ip:port` that several slices name counts once, from the slice that
    comes first by name among those that say which node it is on.
    """
    found: dict[str, PortEndpoint] = {}
    for slice_ in sorted(slices, key=lambda item: item.key):
        if slice_.address_type != "IPv4":
            continue
        for port in slice_.ports:
            if port.name != port_name or port.protocol != protocol or not port.port:
                continue
            for endpoint in slice_.endpoints:
                if endpoint.addresses:
                    key = f"{endpoint.addresses[0]}:{port.port}"
                    if key not in found or (endpoint.node_name and not found[key].node):
                        found[key] = _port_endpoint(key, endpoint, port.port)
    return tuple(found[key] for key in sorted(found))


def endpoints_of_subsets(subsets: Iterable[EndpointSubset], port_name: str) -> Endpoints:
    """The endpoints that an Endpoints object holds for a service port, as the userspace mode read them.

    Ports belong together by name alone, and addresses that are not ready do not exist. Those of the other
    family are another proxy's.
    """
    found: dict[str, PortEndpoint] = {}
    for subset in subsets:
        for port in subset.ports:
            if port.name == port_name:
                for address in subset.addresses:
                    if ":" in address.ip:
                        continue
                    key = f"{address.ip}:{port.port}"
                    found.setdefault(key, PortEndpoint(key, address.ip, port.port, address.node_name or ""))
    return tuple(found[key] for key in sorted(found))


def _port_endpoint(key: str, endpoint: Endpoint, port: int) -> PortEndpoint:
    hints = endpoint.hints
    return PortEndpoint(
        key=key,
        address=endpoint.addresses[0],
        port=port,
        node=endpoint.node_name or "",
        ready=endpoint.ready,
        serving=endpoint.serving,
        terminating=endpoint.terminating,
        zone_hints=frozenset(hint.name for hint in hints.for_zones) if hints else frozenset(),
        node_hints=frozenset(hint.name for hint in hints.for_nodes) if hints else frozenset(),
    )


def cluster_endpoints(endpoints: Endpoints, node: str = "", zone: str = "") -> Endpoints:
    """What policy Cluster may use on a node: ready ones by topology, else terminating ones that serve.

    The fallback to terminating endpoints does not look at topology.
    """
    ready = tuple(endpoint for endpoint in endpoints if endpoint.ready)
    return _by_topology(ready, node, zone) if ready else _terminating(endpoints)


def local_endpoints(endpoints: Endpoints, node: str) -> Endpoints:
    """What traffic policy Local may use on a node. Ready and terminating are told apart among these alone.

    An endpoint without a node is local nowhere.
    """
    local = tuple(endpoint for endpoint in endpoints if endpoint.node and endpoint.node == node)
    return tuple(endpoint for endpoint in local if endpoint.ready) or _terminating(local)


def nodes_with_local(endpoints: Endpoints) -> frozenset[str]:
    """The nodes for which `local_endpoints` finds any."""
    return frozenset(endpoint.node for endpoint in endpoints if endpoint.node and endpoint.usable)


def has_usable(endpoints: Sequence[PortEndpoint]) -> bool:
    """Whether there is a usable endpoint anywhere. Without one a connection is refused, else dropped."""
    return any(endpoint.usable for endpoint in endpoints)


def _terminating(endpoints: Endpoints) -> Endpoints:
    return tuple(endpoint for endpoint in endpoints if endpoint.serving and endpoint.terminating)


def _by_topology(ready: Endpoints, node: str, zone: str) -> Endpoints:
    """Hints count only when every ready endpoint has them; node hints come before zone hints."""
    if node and all(endpoint.node_hints for endpoint in ready):
        near = tuple(endpoint for endpoint in ready if node in endpoint.node_hints)
        if near:
            return near
    if zone and all(endpoint.zone_hints for endpoint in ready):
        near = tuple(endpoint for endpoint in ready if zone in endpoint.zone_hints)
        if near:
            return near
    return ready
