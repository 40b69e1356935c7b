"""Which way a connection comes in, from whom, and what follows: usable endpoints, the source a pod sees.

The table of masquerading in kube-proxy (KUBE-MARK-MASQ, KUBE-EXT). Clients outside the cluster have a route
to every address on this plane: one that dials a ClusterIP or an external IP enters at the first node, or at
the one whose own address it is, and keeps its address at a ClusterIP.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from emu.core.config import ProxyMode


class ClientKind(StrEnum):
    """Who a source address is."""

    POD = "pod"
    NODE = "node"
    """A node itself, or a pod in its host network."""
    OUTSIDE = "outside"


class Client(NamedTuple):
    """A source: what it is, and the node that it is on ("" outside the cluster)."""

    kind: ClientKind
    node: str


OUTSIDE = Client(ClientKind.OUTSIDE, "")


class Way(StrEnum):
    """The kind of address that was dialled."""

    CLUSTER_IP = "ClusterIP"
    EXTERNAL_IP = "externalIP"
    LOAD_BALANCER = "LoadBalancer"
    NODE_PORT = "NodePort"


class Policies(NamedTuple):
    """What a Service and the proxy's configuration say of traffic."""

    mode: ProxyMode
    internal_local: bool = False
    external_local: bool = False
    masquerade_all: bool = False
    detects_local: bool = True
    """The proxy can tell the pods of its node from other clients."""


class Route(NamedTuple):
    """What a node does with a connection that enters there."""

    local_only: bool
    """Only endpoints of the entry node may be used."""
    masquerade: bool
    """The pod sees the entry node instead of the client."""
    refuse: bool = False
    """Without a candidate the connection is refused; otherwise it is dropped."""
    spills: bool = False
    """Where no endpoint is local all may be used after all."""


def route(way: Way, client: Client, entry_node: str, policies: Policies) -> Route:
    """The route of a connection that enters at `entry_node`."""
    mode = policies.mode
    if mode is ProxyMode.USERSPACE:
        return Route(local_only=False, masquerade=True, refuse=True)
    if way is Way.CLUSTER_IP:
        # ipvs cannot drop: a virtual server without real servers refuses.
        return Route(policies.internal_local, policies.masquerade_all, refuse=mode is ProxyMode.IPVS)
    if not policies.external_local:
        return Route(local_only=False, masquerade=True)
    starts_here = bool(client.node) and client.node == entry_node
    if mode is ProxyMode.IPVS:
        # Without a local endpoint the virtual server gets all of them and nothing is masqueraded
        # (kubernetes/kubernetes#97081): replies find back to clients of this node only. With
        # internalTrafficPolicy Local too it gets none.
        refuse = policies.internal_local
        return Route(local_only=True, masquerade=False, refuse=refuse, spills=starts_here and not refuse)
    if starts_here and (client.kind is ClientKind.NODE or policies.detects_local):
        # Traffic that starts on the node did not come from outside: it may use every endpoint.
        return Route(local_only=False, masquerade=client.kind is ClientKind.NODE)
    return Route(local_only=True, masquerade=False)
