"""What kube-proxy programmed in userspace mode, before Kubernetes 1.26, as `iptables-save` prints it.

Source: pkg/proxy/userspace. Every service port has one listener on the node, at 0.0.0.0 and a port that the
kernel gave; the rules lead all its addresses there. Policies, topology and source ranges were unknown to it.
"""

from __future__ import annotations

from emu.proxy.rules.view import ServicePort, View
from emu.proxy.rules.xtables import Table, comment, text_of

_CONTAINER_PORTALS = "KUBE-PORTALS-CONTAINER"
_HOST_PORTALS = "KUBE-PORTALS-HOST"
_CONTAINER_NODE_PORTS = "KUBE-NODEPORT-CONTAINER"
_HOST_NODE_PORTS = "KUBE-NODEPORT-HOST"
_NON_LOCAL = "KUBE-NODEPORT-NON-LOCAL"
_LOCAL = "-m addrtype --dst-type LOCAL"


def userspace_rules(view: View) -> str:
    """The text of the tables."""
    nat, filter_ = Table("nat"), Table("filter")
    nat.declare(_CONTAINER_PORTALS, _HOST_PORTALS, _CONTAINER_NODE_PORTS, _HOST_NODE_PORTS)
    filter_.declare(_NON_LOCAL)
    if view.whole:
        portals = comment("handle ClusterIPs; NOTE: this must be before the NodePort rules")
        last = comment("handle service NodePorts; NOTE: this must be the last rule in the chain")
        for built_in, portal_chain, node_port_chain in (
            ("PREROUTING", _CONTAINER_PORTALS, _CONTAINER_NODE_PORTS),
            ("OUTPUT", _HOST_PORTALS, _HOST_NODE_PORTS),
        ):
            nat.add(built_in, portals, portal_chain)
            nat.add(built_in, f"{_LOCAL} {last}", node_port_chain)
        filter_.add("INPUT", comment("Ensure that non-local NodePort traffic can flow"), _NON_LOCAL)
    for port in view.ports:
        _add_port(nat, filter_, port, view.node.address)
    return text_of((filter_, nat), whole=view.whole)


def _add_port(nat: Table, filter_: Table, port: ServicePort, host: str) -> None:
    # From a pod REDIRECT keeps the address of the bridge; from the node itself it would be 127.0.0.1.
    redirect = f"REDIRECT --to-ports {port.proxy_port}"
    forward = f"DNAT --to-destination {host}:{port.proxy_port}"
    why = comment(port.name)
    for ip in (port.cluster_ip, *port.load_balancer_ips):
        matches = f"-d {ip}/32 {_to(port, port.port)}"
        nat.add(_CONTAINER_PORTALS, matches, redirect)
        nat.add(_HOST_PORTALS, matches, forward)
    for ip in port.external_ips:
        matches = f"-d {ip}/32 {_to(port, port.port)}"
        nat.add(_CONTAINER_PORTALS, f"{matches} -m physdev ! --physdev-is-in", redirect)
        nat.add(_CONTAINER_PORTALS, f"{matches} {_LOCAL}", redirect)
        nat.add(_HOST_PORTALS, f"{matches} {_LOCAL}", forward)
    if port.node_port:
        nat.add(_CONTAINER_NODE_PORTS, _to(port, port.node_port), redirect)
        nat.add(_HOST_NODE_PORTS, _to(port, port.node_port), forward)
        filter_.add(_NON_LOCAL, f"{_to(port, port.proxy_port)} {why} -m state --state NEW", "ACCEPT")


def _to(port: ServicePort, number: int) -> str:
    return f"-p {port.protocol} {comment(port.name)} -m {port.protocol} --dport {number}"
