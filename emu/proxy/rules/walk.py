"""How many rules of the nat table the first packet of a connection is compared with in iptables mode.

A pod of the node dials the cluster IP, a client outside the cluster every other address. Where an endpoint
is chosen at random it is the mean over all; clients with affinity are not remembered yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from emu.core.endpoints import Endpoints
from emu.proxy.rules.view import ServicePort, View

_JUMP_TO_SERVICES = 1
_JUMP_TO_NODE_PORTS = 1
_MARKING = 2
"""The jump to KUBE-MARK-MASQ and the rule there."""
_OF_ENDPOINT = 2
"""The mark for hairpins and the DNAT."""


class Walk(NamedTuple):
    """The rules walked for one address of a service port."""

    service: str
    """`namespace/name`."""
    port: str
    """`namespace/name:port`."""
    address: str
    """`ip:port/protocol`."""
    rules: float


def walks(view: View) -> Iterator[Walk]:
    """The walks to every address that leads to an endpoint; `view` is a whole one."""
    services = sum(_entries(port) for port in view.ports)
    position = node_port_position = 0
    for port in view.ports:
        if port.internal:
            position += 1
            rules = position + _through_policy_chain(port, port.internal, view, port.internal_local)
            yield _walk(port, port.cluster_ip, port.port, rules)
        if not port.has_endpoints:
            continue
        for ip in port.external_ips:
            position += 1
            yield from _external(port, ip, port.port, position, view)
        for ip in port.load_balancer_ips:
            position += 1
            # The client is in the first of the ranges.
            yield from _external(port, ip, port.port, position + int(port.guarded), view)
        if port.node_port:
            node_port_position += 1
            before = services + _JUMP_TO_NODE_PORTS + node_port_position
            yield from _external(port, view.node.address, port.node_port, before, view)


def walk_table(view: View, service: str = "") -> str:
    """The walks as a table, of all Services or of one (`namespace/name`), under a comment that says where."""
    rows = [("SERVICE PORT", "ADDRESS", "RULES")]
    rows += [(w.port, w.address, f"{w.rules:g}") for w in walks(view) if service in ("", w.service)]
    where = f"on {view.node.name} ({view.node.address}), iptables mode"
    if len(rows) == 1:
        return f"# no rule of the nat table leads to an endpoint of {service or 'any Service'} {where}\n"
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    return f"# rules that a new connection is compared with {where}\n" + "".join(
        f"{name:<{first}}   {address:<{second}}   {rules}\n" for name, address, rules in rows
    )


def _entries(port: ServicePort) -> int:
    """The rules of KUBE-SERVICES that lead to a service port."""
    others = len(port.external_ips) + len(port.load_balancer_ips) if port.has_endpoints else 0
    return int(bool(port.internal)) + others


def _external(port: ServicePort, ip: str, number: int, before: int, view: View) -> Iterator[Walk]:
    if not port.external:
        return
    short_cuts = _MARKING
    if port.external_local:
        short_cuts = 2 + int(bool(view.pod_cidr))
    through = _through_policy_chain(port, port.external, view, port.external_local)
    yield _walk(port, ip, number, before + short_cuts + 1 + through)


def _through_policy_chain(port: ServicePort, endpoints: Endpoints, view: View, local: bool) -> float:
    """From the first rule of KUBE-SVC or KUBE-SVL to the DNAT."""
    masquerade = bool(view.configuration.masquerade_all or view.pod_cidr)
    own_mark = int(masquerade and local == port.internal_local)
    remembered = len(endpoints) if port.affinity is not None else 0
    return own_mark + remembered + (len(endpoints) + 1) / 2 + _OF_ENDPOINT


def _walk(port: ServicePort, ip: str, number: int, rules: float) -> Walk:
    return Walk(port.service, port.name, f"{ip}:{number}/{port.protocol}", _JUMP_TO_SERVICES + rules)
