"""Upstream's table of flows (TestInternalExternalMasquerade): where each goes, and the source it has there.

The three Services of upstream's test: plain, externalTrafficPolicy Local, internalTrafficPolicy Local; each
has an endpoint on the node that traffic enters, n1, and one on n2. Upstream says masqueraded or not; here a
row says which address the endpoint sees, where a node that is masqueraded to itself is still that node.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from emu.core.config import ProxyMode

from .worlds import CLUSTER_IP, LOAD_BALANCER, NODE_PORT, OUTSIDE, SERVICE_PORT, World, node_ip, pod_ip

POD, NODE, LOCALHOST = pod_ip(1, 9), node_ip(1), "127.0.0.1"
SOURCES = {"pod": POD, "node": NODE, "localhost": LOCALHOST, "external": OUTSIDE}
WAYS = {
    "ClusterIP": (CLUSTER_IP, SERVICE_PORT),
    "NodePort": (NODE, NODE_PORT),
    "LB": (LOAD_BALANCER, SERVICE_PORT),
}
SPECS = {
    "": {},
    "eTP:Local": {"externalTrafficPolicy": "Local"},
    "iTP:Local": {"internalTrafficPolicy": "Local"},
}
LOCAL, REMOTE = pod_ip(1, 2), pod_ip(2, 2)


class Flow(NamedTuple):
    """`seen` is who the endpoints see: `pod`, `node` or `client` (an address of its own outside)."""

    name: str
    endpoints: str
    seen: str


# On the loopback plane a client from outside has a route to a ClusterIP, and upstream's masquerading there is
# not needed: these three rows differ from upstream's on purpose.
KEPT_HERE = {
    "external to ClusterIP",
    "external to ClusterIP with eTP:Local",
    "external to ClusterIP with iTP:Local",
}

BASE = [
    Flow("pod to ClusterIP", "all", "pod"),
    Flow("pod to NodePort", "all", "node"),
    Flow("pod to LB", "all", "node"),
    Flow("node to ClusterIP", "all", "node"),
    Flow("node to NodePort", "all", "node"),
    Flow("localhost to NodePort", "all", "node"),
    Flow("node to LB", "all", "node"),
    Flow("external to ClusterIP", "all", "client"),
    Flow("external to NodePort", "all", "node"),
    Flow("external to LB", "all", "node"),
    Flow("pod to ClusterIP with eTP:Local", "all", "pod"),
    Flow("pod to NodePort with eTP:Local", "all", "pod"),
    Flow("pod to LB with eTP:Local", "all", "pod"),
    Flow("node to ClusterIP with eTP:Local", "all", "node"),
    Flow("node to NodePort with eTP:Local", "all", "node"),
    Flow("localhost to NodePort with eTP:Local", "all", "node"),
    Flow("node to LB with eTP:Local", "all", "node"),
    Flow("external to ClusterIP with eTP:Local", "all", "client"),
    Flow("external to NodePort with eTP:Local", "local", "client"),
    Flow("external to LB with eTP:Local", "local", "client"),
    Flow("pod to ClusterIP with iTP:Local", "local", "pod"),
    Flow("pod to NodePort with iTP:Local", "all", "node"),
    Flow("pod to LB with iTP:Local", "all", "node"),
    Flow("node to ClusterIP with iTP:Local", "local", "node"),
    Flow("node to NodePort with iTP:Local", "all", "node"),
    Flow("localhost to NodePort with iTP:Local", "all", "node"),
    Flow("node to LB with iTP:Local", "all", "node"),
    Flow("external to ClusterIP with iTP:Local", "local", "client"),
    Flow("external to NodePort with iTP:Local", "all", "node"),
    Flow("external to LB with iTP:Local", "all", "node"),
]

NO_DETECTOR = [
    # Upstream no longer masquerades nodes and clients from outside at a ClusterIP, which shows nothing here:
    # a node is itself either way. What shows is that pods are not told apart from clients from outside.
    Flow("pod to NodePort with eTP:Local", "local", "pod"),
    Flow("pod to LB with eTP:Local", "local", "pod"),
]

MASQUERADE_ALL = [
    Flow("pod to ClusterIP", "all", "node"),
    Flow("pod to ClusterIP with eTP:Local", "all", "node"),
    Flow("pod to ClusterIP with iTP:Local", "local", "node"),
    # All means all, also where nothing needs it.
    Flow("external to ClusterIP", "all", "node"),
    Flow("external to ClusterIP with eTP:Local", "all", "node"),
    Flow("external to ClusterIP with iTP:Local", "local", "node"),
]

# C17: ipvs has no short-circuit, and masquerades nothing with policy Local.
IPVS = [
    Flow("pod to NodePort with eTP:Local", "local", "pod"),
    Flow("pod to LB with eTP:Local", "local", "pod"),
    Flow("node to NodePort with eTP:Local", "local", "node"),
    Flow("node to LB with eTP:Local", "local", "node"),
]

# G1, G5: no policies, and the node that took the connection is what the pod sees.
USERSPACE = [Flow(name, "all", "node") for name, _, _ in BASE]

VARIANTS: dict[str, tuple[list[Flow], dict[str, bool]]] = {
    "base": ([], {}),
    "no detector": (NO_DETECTOR, {"detects_local": False}),
    "masqueradeAll": (MASQUERADE_ALL, {"masquerade_all": True}),
    "masqueradeAll, no detector": (
        NO_DETECTOR + MASQUERADE_ALL,
        {"masquerade_all": True, "detects_local": False},
    ),
}
OF_MODE = {"iptables": [], "nftables": [], "ipvs": IPVS, "userspace": USERSPACE}


def rows() -> list[tuple[str, str, Flow]]:
    found = []
    for mode, deviations in OF_MODE.items():
        for variant, (overrides, _) in VARIANTS.items():
            flows = {flow.name: flow for flow in [*BASE, *overrides, *deviations]}
            found += [(mode, variant, flow) for flow in flows.values()]
    return found


def test_the_table_is_upstreams() -> None:
    """27 flows, and the three of a node to its own 127.0.0.1."""
    names = {flow.name for flow in BASE}
    assert len(names) == len(BASE) == 30
    assert sum(name.startswith("localhost") for name in names) == 3
    overridden = {flow.name for flows in (NO_DETECTOR, MASQUERADE_ALL, IPVS) for flow in flows}
    assert overridden | KEPT_HERE <= names


@pytest.mark.parametrize(
    ("mode", "variant", "flow"), rows(), ids=lambda value: str(getattr(value, "name", value))
)
def test_flows(mode: str, variant: str, flow: Flow) -> None:
    world = World(mode=ProxyMode(mode), **VARIANTS[variant][1])
    who, _, rest = flow.name.partition(" to ")
    way, _, policy = rest.partition(" with ")
    source, (ip, port) = SOURCES[who], WAYS[way]
    if who == "localhost":
        ip = LOCALHOST
    world.service(**SPECS[policy])
    world.endpoints(
        {"addresses": [LOCAL], "nodeName": "n1"},
        {"addresses": [REMOTE], "nodeName": "n2"},
    )
    listens = world.planner.listens(world.frontend(ip, port))
    if who == "localhost" and mode in ("ipvs", "nftables"):
        assert not listens
        return
    assert listens
    verdicts, endpoints, seen = world.flow(source, ip, port)
    assert verdicts == {"forwarded"}
    everyone = {LOCAL, REMOTE}
    if who == "external" and way == "LB":
        # A load balancer sends its clients to every node (with policy Local: that has endpoints) in turn.
        local, nodes = everyone, {node_ip(1), node_ip(2)}
    else:
        local, nodes = {LOCAL}, {NODE}
    assert endpoints == (everyone if flow.endpoints == "all" else local)
    assert seen == {"pod": {POD}, "node": nodes, "client": {OUTSIDE}}[flow.seen]
