"""The virtual and real servers of ipvs mode, as `ipvsadm -Ln` prints them, with counts of this moment.

Node ports have a virtual server at the node's address. Real servers are in the order in which the scheduler
goes through them.
"""

from __future__ import annotations

from collections.abc import Iterator

from emu.core.addresses import to_int
from emu.core.endpoints import Endpoints
from emu.proxy.rules.view import Connections, ServicePort, View
from emu.proxy.tables import Address

_HEADER = (
    "IP Virtual Server version 1.2.1 (size=4096)",
    "Prot LocalAddress:Port Scheduler Flags",
    "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
)
_PROTOCOL_NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}


def ipvsadm_list(view: View) -> str:
    """The text of all virtual servers, by protocol, address and port."""
    found = [(address, port, usable) for port in view.ports for address, usable in _addresses(port, view)]
    found.sort(key=lambda item: (_PROTOCOL_NUMBERS[item[0].protocol], to_int(item[0].ip), item[0].port))
    lines = list(_HEADER)
    for address, port, usable in found:
        lines.append(f"{address.protocol:<4} {address.ip}:{address.port} {_scheduler(port, view)}")
        for key, weight, active, inactive in _real_servers(usable, view.connections.get(address, {})):
            lines.append(f"  -> {key:<28} {'Masq':<7} {weight:<6} {active:<10} {inactive:<10}")
    return "".join(f"{line}\n" for line in lines)


def _addresses(port: ServicePort, view: View) -> Iterator[tuple[Address, Endpoints]]:
    protocol = port.protocol.upper()
    yield Address(port.cluster_ip, port.port, protocol), port.internal
    # ipvs has no drop: without local endpoints all are real servers, and the reply never comes back.
    external = port.external or port.cluster
    for ip in (*port.external_ips, *port.load_balancer_ips):
        yield Address(ip, port.port, protocol), external
    if port.node_port:
        yield Address(view.node.address, port.node_port, protocol), external


def _real_servers(usable: Endpoints, connections: Connections) -> Iterator[tuple[str, int, int, int]]:
    """`ip:port`, weight, active and inactive connections; what is on its way out has weight 0."""
    weights = {endpoint.key: 1 for endpoint in usable}
    for key in dict.fromkeys((*connections, *weights)):
        active, inactive = connections.get(key, (0, 0))
        if key in weights or active or inactive:
            yield key, weights.get(key, 0), active, inactive


def _scheduler(port: ServicePort, view: View) -> str:
    scheduler = view.configuration.scheduler
    flags = " (mh-port)" if scheduler == "mh" else ""
    persistent = "" if port.affinity is None else f" persistent {port.affinity}"
    return f"{scheduler}{flags}{persistent}"
