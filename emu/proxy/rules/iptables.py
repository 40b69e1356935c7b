"""What kube-proxy programs in iptables mode, as `iptables-save` prints it.

Source: pkg/proxy/iptables of Kubernetes 1.33, on a kernel without nfnetlink_acct (no nfacct matches), with
detectLocalMode NodeCIDR. kube-proxy writes Services in no order of its own; here they are ordered by name.
"""

from __future__ import annotations

from emu.core.addresses import contains
from emu.core.endpoints import Endpoints
from emu.proxy.rules.names import endpoint_chain, port_hash
from emu.proxy.rules.view import ServicePort, View
from emu.proxy.rules.xtables import (
    MARK_MASQ,
    Table,
    add_forwarding,
    add_masquerading,
    comment,
    probability,
    source,
    text_of,
)

CANARY = "KUBE-PROXY-CANARY"
_NEW = "-m conntrack --ctstate NEW"
_LOCALHOST = "127.0.0.0/8"


def iptables_rules(view: View) -> str:
    """The text of the tables."""
    mangle = Table("mangle")
    if view.whole:
        mangle.declare(CANARY)
    return text_of((mangle, filter_table(view), nat_table(view)), whole=view.whole)


def filter_table(view: View) -> Table:
    """Refusals, drops and what has to be let through."""
    table = Table("filter")
    table.declare(
        "KUBE-SERVICES",
        "KUBE-EXTERNAL-SERVICES",
        "KUBE-FORWARD",
        "KUBE-NODEPORTS",
        "KUBE-PROXY-FIREWALL",
    )
    if view.whole:
        _add_filter_base(table, view)
    for port in view.ports:
        _add_filter(table, port)
    return table


def nat_table(view: View) -> Table:
    """From addresses and node ports through a Service's chains to an endpoint."""
    table = Table("nat")
    table.declare("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", MARK_MASQ)
    if view.whole:
        table.declare(CANARY)
        portals = comment("kubernetes service portals")
        table.add("PREROUTING", portals, "KUBE-SERVICES")
        table.add("OUTPUT", portals, "KUBE-SERVICES")
        table.add("POSTROUTING", comment("kubernetes postrouting rules"), "KUBE-POSTROUTING")
        add_masquerading(table)
    for port in view.ports:
        _Chains(table, view, port).add()
    if view.whole or any(port.node_port for port in view.ports):
        _add_node_ports(table, view)
    return table


def _add_node_ports(table: Table, view: View) -> None:
    why = comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
    if view.node_port_ips is None:
        but = "" if view.localhost_node_ports else f"! -d {_LOCALHOST} "
        table.add("KUBE-SERVICES", f"{but}{why} -m addrtype --dst-type LOCAL", "KUBE-NODEPORTS")
        return
    for ip in view.node_port_ips if view.localhost_node_ports else view.outer_node_port_ips:
        table.add("KUBE-SERVICES", f"-d {ip}/32 {why}", "KUBE-NODEPORTS")


def _add_filter_base(table: Table, view: View) -> None:
    table.declare(CANARY, "KUBE-FIREWALL")
    # kube-proxy puts each jump before those that it has made already.
    firewall = f"{_NEW} {comment('kubernetes load balancer firewall')}"
    portals = f"{_NEW} {comment('kubernetes service portals')}"
    visible = f"{_NEW} {comment('kubernetes externally-visible service portals')}"
    table.add("INPUT", "", "KUBE-FIREWALL")
    table.add("INPUT", firewall, "KUBE-PROXY-FIREWALL")
    table.add("INPUT", comment("kubernetes health check service ports"), "KUBE-NODEPORTS")
    table.add("INPUT", visible, "KUBE-EXTERNAL-SERVICES")
    table.add("FORWARD", firewall, "KUBE-PROXY-FIREWALL")
    table.add("FORWARD", comment("kubernetes forwarding rules"), "KUBE-FORWARD")
    table.add("FORWARD", portals, "KUBE-SERVICES")
    table.add("FORWARD", visible, "KUBE-EXTERNAL-SERVICES")
    table.add("OUTPUT", "", "KUBE-FIREWALL")
    table.add("OUTPUT", firewall, "KUBE-PROXY-FIREWALL")
    table.add("OUTPUT", portals, "KUBE-SERVICES")
    if view.localhost_node_ports:
        # route_localnet lets the network reach 127.0.0.1: this keeps it out.
        table.add(
            "KUBE-FIREWALL",
            f"! -s {_LOCALHOST} -d {_LOCALHOST} {comment('block incoming localnet connections')} "
            "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT",
            "DROP",
        )
    table.add("KUBE-FORWARD", "-m conntrack --ctstate INVALID", "DROP")
    add_forwarding(table)


def _add_filter(table: Table, port: ServicePort) -> None:
    name, protocol = port.name, port.protocol
    verdict, why = "REJECT --reject-with icmp-port-unreachable", comment(f"{name} has no endpoints")
    if port.has_endpoints:
        verdict, why = "DROP", comment(f"{name} has no local endpoints")
    to_port = f"-p {protocol} {why} -m {protocol} --dport {port.port}"
    if not port.internal:
        table.add("KUBE-SERVICES", f"-d {port.cluster_ip}/32 {to_port}", verdict)
    if not port.external:
        for ip in (*port.external_ips, *port.load_balancer_ips):
            table.add("KUBE-EXTERNAL-SERVICES", f"-d {ip}/32 {to_port}", verdict)
        if port.node_port:
            table.add(
                "KUBE-EXTERNAL-SERVICES",
                f"-p {protocol} {why} -m addrtype --dst-type LOCAL -m {protocol} --dport {port.node_port}",
                verdict,
            )
    if port.guarded and port.has_endpoints:
        firewall = f"KUBE-FW-{port_hash(name, protocol)}"
        why = comment(f"{name} traffic not accepted by {firewall}")
        for ip in port.load_balancer_ips:
            to_ip = f"-d {ip}/32 -p {protocol} {why} -m {protocol} --dport {port.port}"
            table.add("KUBE-PROXY-FIREWALL", to_ip, "DROP")
    if port.health_check_node_port:
        why = comment(f"{name} health check node port")
        table.add("KUBE-NODEPORTS", f"-p tcp {why} -m tcp --dport {port.health_check_node_port}", "ACCEPT")


class _Chains:
    """The nat chains of one service port, and the rules that lead to them."""

    def __init__(self, table: Table, view: View, port: ServicePort) -> None:
        self._table = table
        self._view = view
        self._port = port
        hashed = port_hash(port.name, port.protocol)
        self._cluster = f"KUBE-SVC-{hashed}"
        self._local = f"KUBE-SVL-{hashed}"
        self._external = f"KUBE-EXT-{hashed}"
        self._firewall = f"KUBE-FW-{hashed}"

    def add(self) -> None:
        port, table = self._port, self._table
        if port.cluster_used:
            table.declare(self._cluster)
        if port.local_used:
            table.declare(self._local)
        if port.internal:
            self._add_internal()
        if port.has_endpoints and port.externally_accessible:
            self._add_entries()
            self._add_external()
        if port.guarded and port.has_endpoints:
            self._add_firewall()
        self._add_balancing(self._cluster, port.cluster_used)
        self._add_balancing(self._local, port.local_used)
        self._add_endpoints()

    def _to(self, ip: str, what: str) -> str:
        port = self._port
        why = comment(f"{port.name} {what}")
        return f"-d {ip}/32 -p {port.protocol} {why} -m {port.protocol} --dport {port.port}"

    def _add_internal(self) -> None:
        port, view = self._port, self._view
        chain = self._local if port.internal_local else self._cluster
        matches = self._to(port.cluster_ip, "cluster IP")
        self._table.add("KUBE-SERVICES", matches, chain)
        if view.configuration.masquerade_all:
            self._table.add(chain, matches, MARK_MASQ)
        elif view.pod_cidr:
            self._table.add(chain, f"! -s {view.pod_cidr} {matches}", MARK_MASQ)

    def _add_entries(self) -> None:
        port, table = self._port, self._table
        for ip in port.external_ips:
            table.add("KUBE-SERVICES", self._to(ip, "external IP"), self._external)
        balanced = self._firewall if port.guarded else self._external
        if port.guarded:
            table.declare(self._firewall)
        for ip in port.load_balancer_ips:
            table.add("KUBE-SERVICES", self._to(ip, "loadbalancer IP"), balanced)
        if port.node_port:
            matches = f"-p {port.protocol} {comment(port.name)} -m {port.protocol} --dport {port.node_port}"
            table.add("KUBE-NODEPORTS", matches, self._external)

    def _add_external(self) -> None:
        port, table, pod_cidr = self._port, self._table, self._view.pod_cidr
        table.declare(self._external)
        where = f"{port.name} external destinations"
        if not port.external_local:
            table.add(self._external, comment(f"masquerade traffic for {where}"), MARK_MASQ)
        else:
            if pod_cidr:
                why = comment(f"pod traffic for {where}")
                table.add(self._external, f"-s {pod_cidr} {why}", self._cluster)
            local = "-m addrtype --src-type LOCAL"
            table.add(
                self._external, f"{comment(f'masquerade LOCAL traffic for {where}')} {local}", MARK_MASQ
            )
            why = comment(f"route LOCAL traffic for {where}")
            table.add(self._external, f"{why} {local}", self._cluster)
        if port.external:
            table.add(self._external, "", self._local if port.external_local else self._cluster)

    def _add_firewall(self) -> None:
        port, table = self._port, self._table
        table.declare(self._firewall)
        why = comment(f"{port.name} loadbalancer IP")
        allowed = list(port.source_ranges)
        if any(contains(cidr, self._view.node.address) for cidr in port.source_ranges):
            # A node that dials the address has it as its source too.
            allowed += port.load_balancer_ips
        for network in allowed:
            table.add(self._firewall, f"{source(network)} {why}".strip(), self._external)
        why = comment(f"other traffic to {port.name} will be dropped by KUBE-PROXY-FIREWALL")
        table.add(self._firewall, why)

    def _add_balancing(self, chain: str, endpoints: Endpoints) -> None:
        port, table = self._port, self._table
        chains = [endpoint_chain(port.name, port.protocol, endpoint.key) for endpoint in endpoints]
        whys = [self._unless_large(f"{port.name} -> {endpoint.key}") for endpoint in endpoints]
        if port.affinity is not None:
            for why, target in zip(whys, chains, strict=True):
                recent = (
                    f"-m recent --rcheck --seconds {port.affinity} --reap --name {target} "
                    "--mask 255.255.255.255 --rsource"
                )
                table.add(chain, f"{why}{recent}", target)
        for index, (why, target) in enumerate(zip(whys, chains, strict=True)):
            left = len(chains) - index
            table.add(chain, f"{why}{probability(left) if left > 1 else ''}".strip(), target)
            table.declare(target)

    def _add_endpoints(self) -> None:
        port, table = self._port, self._table
        why = self._unless_large(port.name)
        for endpoint in port.reachable:
            chain = endpoint_chain(port.name, port.protocol, endpoint.key)
            table.declare(chain)
            table.add(chain, f"-s {endpoint.address}/32 {why}".strip(), MARK_MASQ)
            remember = ""
            if port.affinity is not None:
                remember = f"-m recent --set --name {chain} --mask 255.255.255.255 --rsource "
            table.add(
                chain,
                f"-p {port.protocol} {why}{remember}-m {port.protocol}",
                f"DNAT --to-destination {endpoint.key}",
            )

    def _unless_large(self, text: str) -> str:
        return "" if self._view.large else f"{comment(text)} "
