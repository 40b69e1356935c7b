"""The ipsets of ipvs mode and who is in them, as `ipset list` prints them.

Source: pkg/proxy/ipvs of Kubernetes 1.33. What only a kernel knows is left out: Revision, Size in memory,
bucketsize and initval.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from emu.core.addresses import contains
from emu.proxy.rules.view import ServicePort, View

LOOP_BACK = "KUBE-LOOP-BACK"
CLUSTER_IP = "KUBE-CLUSTER-IP"
EXTERNAL_IP = "KUBE-EXTERNAL-IP"
EXTERNAL_IP_LOCAL = "KUBE-EXTERNAL-IP-LOCAL"
LOAD_BALANCER = "KUBE-LOAD-BALANCER"
LOAD_BALANCER_FW = "KUBE-LOAD-BALANCER-FW"
LOAD_BALANCER_LOCAL = "KUBE-LOAD-BALANCER-LOCAL"
LOAD_BALANCER_SOURCE_IP = "KUBE-LOAD-BALANCER-SOURCE-IP"
LOAD_BALANCER_SOURCE_CIDR = "KUBE-LOAD-BALANCER-SOURCE-CIDR"
HEALTH_CHECK_NODE_PORT = "KUBE-HEALTH-CHECK-NODE-PORT"
IPVS_IPS = "KUBE-IPVS-IPS"

Sets = dict[str, set[str]]
"""The members of every set, by its name."""

_TYPES = {
    LOOP_BACK: "hash:ip,port,ip",
    CLUSTER_IP: "hash:ip,port",
    EXTERNAL_IP: "hash:ip,port",
    EXTERNAL_IP_LOCAL: "hash:ip,port",
    LOAD_BALANCER: "hash:ip,port",
    LOAD_BALANCER_FW: "hash:ip,port",
    LOAD_BALANCER_LOCAL: "hash:ip,port",
    LOAD_BALANCER_SOURCE_IP: "hash:ip,port,ip",
    LOAD_BALANCER_SOURCE_CIDR: "hash:ip,port,net",
    "KUBE-NODE-PORT-TCP": "bitmap:port",
    "KUBE-NODE-PORT-LOCAL-TCP": "bitmap:port",
    "KUBE-NODE-PORT-UDP": "bitmap:port",
    "KUBE-NODE-PORT-LOCAL-UDP": "bitmap:port",
    "KUBE-NODE-PORT-SCTP-HASH": "hash:ip,port",
    "KUBE-NODE-PORT-LOCAL-SCTP-HASH": "hash:ip,port",
    HEALTH_CHECK_NODE_PORT: "bitmap:port",
    IPVS_IPS: "hash:ip",
}

COMMENTS = {
    LOOP_BACK: "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
    CLUSTER_IP: "Kubernetes service cluster ip + port for masquerade purpose",
    EXTERNAL_IP: "Kubernetes service external ip + port for masquerade and filter purpose",
    EXTERNAL_IP_LOCAL: "Kubernetes service external ip + port with externalTrafficPolicy=local",
    LOAD_BALANCER: "Kubernetes service lb portal",
    LOAD_BALANCER_FW: "Kubernetes service load balancer ip + port for load balancer with sourceRange",
    LOAD_BALANCER_LOCAL: "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
    LOAD_BALANCER_SOURCE_IP: (
        "Kubernetes service load balancer ip + port + source IP for packet filter purpose"
    ),
    LOAD_BALANCER_SOURCE_CIDR: (
        "Kubernetes service load balancer ip + port + source cidr for packet filter purpose"
    ),
    "KUBE-NODE-PORT-TCP": "Kubernetes nodeport TCP port for masquerade purpose",
    "KUBE-NODE-PORT-LOCAL-TCP": "Kubernetes nodeport TCP port with externalTrafficPolicy=local",
    "KUBE-NODE-PORT-UDP": "Kubernetes nodeport UDP port for masquerade purpose",
    "KUBE-NODE-PORT-LOCAL-UDP": "Kubernetes nodeport UDP port with externalTrafficPolicy=local",
    "KUBE-NODE-PORT-SCTP-HASH": (
        "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'"
    ),
    "KUBE-NODE-PORT-LOCAL-SCTP-HASH": (
        "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'"
    ),
    HEALTH_CHECK_NODE_PORT: "Kubernetes health check node port",
}
"""What the iptables rules that match a set say of it."""


def members(view: View) -> Sets:
    """Who is in each set, for the ports of a view."""
    sets: Sets = {name: set() for name in _TYPES}
    for port in view.ports:
        for name, member in _entries(port, view):
            sets[name].add(member)
    return sets


def reachable_from_node(port: ServicePort, view: View) -> bool:
    """Whether loadBalancerSourceRanges let the node itself through to the load balancer's addresses."""
    return any(contains(cidr, view.node.address) for cidr in port.source_ranges)


def ipset_list(view: View, iptables: str) -> str:
    """The text of the sets; `iptables` is the text that refers to them."""
    blocks = []
    for name, found in members(view).items():
        if not found and not view.whole:
            continue
        type_ = _TYPES[name]
        header = "range 0-65535" if type_ == "bitmap:port" else "family inet hashsize 1024 maxelem 65536"
        lines = [
            f"Name: {name}",
            f"Type: {type_}",
            f"Header: {header}",
            f"References: {iptables.count(f'--match-set {name} ')}",
            f"Number of entries: {len(found)}",
            "Members:",
            *sorted(found, key=_by_numbers),
        ]
        blocks.append("".join(f"{line}\n" for line in lines))
    return "\n".join(blocks)


def _by_numbers(member: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", member)]


def _entries(port: ServicePort, view: View) -> Iterator[tuple[str, str]]:
    """Sets and members for one service port."""
    for endpoint in port.endpoints:
        if endpoint.node == view.node.name:
            address = endpoint.address
            yield LOOP_BACK, f"{address},{port.protocol}:{endpoint.port},{address}"
    to_port = f",{port.protocol}:{port.port}"
    yield CLUSTER_IP, f"{port.cluster_ip}{to_port}"
    for ip in port.external_ips:
        yield EXTERNAL_IP_LOCAL if port.external_local else EXTERNAL_IP, f"{ip}{to_port}"
    for ip in port.load_balancer_ips:
        yield from _load_balancer_entries(port, view, ip, f"{ip}{to_port}")
    for ip in (port.cluster_ip, *port.external_ips, *port.load_balancer_ips):
        if ip != view.node.address:
            yield IPVS_IPS, ip
    if port.node_port:
        yield from _node_port_entries(port, view)
    if port.health_check_node_port:
        yield HEALTH_CHECK_NODE_PORT, str(port.health_check_node_port)


def _load_balancer_entries(port: ServicePort, view: View, ip: str, member: str) -> Iterator[tuple[str, str]]:
    yield LOAD_BALANCER, member
    if port.external_local:
        yield LOAD_BALANCER_LOCAL, member
    if port.source_ranges:
        yield LOAD_BALANCER_FW, member
    # A set cannot hold a network of length 0: kube-proxy tries, and logs that it failed.
    for cidr in (cidr for cidr in port.source_ranges if not cidr.endswith("/0")):
        yield LOAD_BALANCER_SOURCE_CIDR, f"{member},{cidr.removesuffix('/32')}"
    if reachable_from_node(port, view):
        yield LOAD_BALANCER_SOURCE_IP, f"{member},{ip}"


def _node_port_entries(port: ServicePort, view: View) -> Iterator[tuple[str, str]]:
    ips = view.outer_node_port_ips
    suffix, taken = port.protocol.upper(), [str(port.node_port)] if ips else []
    if port.protocol == "sctp":
        suffix, taken = "SCTP-HASH", [f"{ip},sctp:{port.node_port}" for ip in ips]
    for member in taken:
        yield f"KUBE-NODE-PORT-{suffix}", member
        if port.external_local:
            yield f"KUBE-NODE-PORT-LOCAL-{suffix}", member
