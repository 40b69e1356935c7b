"""The virtual and real servers of ipvs mode, as `ipvsadm -Ln` prints them, with counts of this moment.

Node ports have a virtual server at the node's address. Real servers are in the order in which the scheduler
goes through them.
"""

from __future__ import annotations

from collections.abc import Iterator

from emu.core.addresses import to_int
from emu.core.endpoints import Endpoints
from emu.proxy.modes.ipvs import RealServer
from emu.proxy.modes.schedulers import flags_in_force
from emu.proxy.rules.view import ServicePort, View
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
        # kube-proxy adds them by their keys, and each goes to the head of the list.
        added = [RealServer(endpoint.key, 1, 0, 0) for endpoint in reversed(usable)]
        for key, weight, active, inactive in view.real_servers.get(address, added):
            lines.append(f"  -> {key:<28} {'Masq':<7} {weight:<6} {active:<10} {inactive:<10}")
    return "".join(f"{line}\n" for line in lines)


def _addresses(port: ServicePort, view: View) -> Iterator[tuple[Address, Endpoints]]:
    protocol = port.protocol.upper()
    yield Address(port.cluster_ip, port.port, protocol), port.internal
    # ipvs has no drop: without local endpoints all are real servers, and the reply never comes back.
    spilt = () if port.internal_local else port.cluster
    external = port.external or spilt
    for ip in (*port.external_ips, *port.load_balancer_ips):
        yield Address(ip, port.port, protocol), external
    if port.node_port:
        for ip in view.outer_node_port_ips:
            yield Address(ip, port.node_port, protocol), external


def _scheduler(port: ServicePort, view: View) -> str:
    scheduler = view.configuration.scheduler
    in_force = flags_in_force(scheduler, view.configuration.scheduler_flags)
    flags = f" ({','.join(in_force)})" if in_force else ""
    persistent = "" if port.affinity is None else f" persistent {port.affinity}"
    return f"{scheduler}{flags}{persistent}"
