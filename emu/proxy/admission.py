"""Whose packets NetworkPolicy lets through to a frontend's socket, before any endpoint is chosen.

A client that every endpoint denies is dropped by the kernel, as on the way to a pod. The set may be too
large, never too small: each connection is judged again once its endpoint is known.
"""

from __future__ import annotations

from collections.abc import Iterable

from emu.core.addresses import to_int
from emu.core.endpoints import PortEndpoint
from emu.core.policy import PolicyEngine
from emu.core.ranges import EVERYONE, Ranges, complement, contains, including, intersection, union
from emu.proxy.paths import Way
from emu.proxy.tables import Frontend, NodeInfo, Tables


def admitted(frontend: Frontend, tables: Tables, engine: PolicyEngine, masquerade_all: bool) -> Ranges:
    """The sources that some usable endpoint admits, in a mode of the kernel."""
    port = frontend.port
    judged: list[tuple[PortEndpoint, Ranges]] = []
    for endpoint in port.endpoints:
        if not endpoint.usable:
            continue
        sources = engine.sources(endpoint.address, endpoint.port, port.protocol)
        if sources == EVERYONE:
            return EVERYONE
        judged.append((endpoint, sources))
    keeps_sources = not masquerade_all if frontend.way is Way.CLUSTER_IP else port.external_local
    if keeps_sources:
        found = _union(sources for _, sources in judged)
    else:
        found = _masked(frontend, tables, engine, judged)
    if frontend.way is not Way.CLUSTER_IP and port.external_local:
        # The short-cut of a node's own clients masquerades the node itself.
        found = including(
            found, [to_int(ip) for node in tables.node_order for ip in (node.address, node.bridge)]
        )
    # A pod's way back to itself is open.
    return including(found, [to_int(endpoint.address) for endpoint, _ in judged])


def _masked(
    frontend: Frontend, tables: Tables, engine: PolicyEngine, judged: list[tuple[PortEndpoint, Ranges]]
) -> Ranges:
    """Clients whom an endpoint admits when they come with the address of the node where they enter."""
    protocol = frontend.port.protocol
    open_to = [
        (sources, engine.senders(endpoint.address, endpoint.port, protocol)) for endpoint, sources in judged
    ]

    def through(node: NodeInfo) -> Ranges:
        at = to_int(node.address)
        return _union(senders for sources, senders in open_to if contains(sources, at))

    if frontend.way is Way.NODE_PORT:
        node = tables.nodes.get(frontend.node)
        return EVERYONE if node is None else through(node)
    by_node = [(node, through(node)) for node in tables.node_order]
    inside = [intersection(clients, tables.sources_of([node])) for node, clients in by_node]
    # From outside a load balancer's address may be entered at any node, a node's own at that node, others
    # at the first.
    entries = [pair for pair in by_node if pair[0].address == frontend.address.ip] or (
        by_node if frontend.way is Way.LOAD_BALANCER else by_node[:1]
    )
    outside = complement(tables.sources_of(tables.node_order))
    return _union((*inside, intersection(outside, _union(clients for _, clients in entries))))


def _union(sets: Iterable[Ranges]) -> Ranges:
    return union(pair for ranges in sets for pair in ranges)
