"""The few iptables chains of ipvs mode: they match ipsets, and so do not grow with the number of Services.

Source: pkg/proxy/ipvs of Kubernetes 1.33, with detectLocalMode NodeCIDR.
"""

from __future__ import annotations

from emu.proxy.rules import ipsets
from emu.proxy.rules.ipsets import COMMENTS, Sets
from emu.proxy.rules.view import View
from emu.proxy.rules.xtables import MARK_MASQ, Table, add_forwarding, add_masquerading, comment, text_of

_NEW = "-m conntrack --ctstate NEW"
_PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}

# Set, chain, target, which addresses and ports of a packet are looked up, protocol.
_NAT_MATCHES = (
    (ipsets.LOOP_BACK, "KUBE-POSTROUTING", "MASQUERADE", "dst,dst,src", ""),
    (ipsets.LOAD_BALANCER, "KUBE-SERVICES", "KUBE-LOAD-BALANCER", "dst,dst", ""),
    (ipsets.LOAD_BALANCER_LOCAL, "KUBE-LOAD-BALANCER", "RETURN", "dst,dst", ""),
    ("KUBE-NODE-PORT-LOCAL-TCP", "KUBE-NODE-PORT", "RETURN", "dst", "tcp"),
    ("KUBE-NODE-PORT-TCP", "KUBE-NODE-PORT", MARK_MASQ, "dst", "tcp"),
    ("KUBE-NODE-PORT-LOCAL-UDP", "KUBE-NODE-PORT", "RETURN", "dst", "udp"),
    ("KUBE-NODE-PORT-UDP", "KUBE-NODE-PORT", MARK_MASQ, "dst", "udp"),
    ("KUBE-NODE-PORT-LOCAL-SCTP-HASH", "KUBE-NODE-PORT", "RETURN", "dst,dst", "sctp"),
    ("KUBE-NODE-PORT-SCTP-HASH", "KUBE-NODE-PORT", MARK_MASQ, "dst,dst", "sctp"),
)
_FILTER_MATCHES = (
    (ipsets.LOAD_BALANCER_FW, "KUBE-PROXY-FIREWALL", "KUBE-SOURCE-RANGES-FIREWALL", "dst,dst", ""),
    (ipsets.LOAD_BALANCER_SOURCE_CIDR, "KUBE-SOURCE-RANGES-FIREWALL", "RETURN", "dst,dst,src", ""),
    (ipsets.LOAD_BALANCER_SOURCE_IP, "KUBE-SOURCE-RANGES-FIREWALL", "RETURN", "dst,dst,src", ""),
)


def ipvs_iptables_rules(view: View) -> str:
    """The text of the tables."""
    sets = ipsets.members(view)
    return text_of((_filter_table(view, sets), _nat_table(view, sets)), whole=view.whole)


def _nat_table(view: View, sets: Sets) -> Table:
    table = Table("nat")
    table.declare("KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER", MARK_MASQ)
    if view.whole:
        portals = comment("kubernetes service portals")
        table.add("PREROUTING", portals, "KUBE-SERVICES")
        table.add("OUTPUT", portals, "KUBE-SERVICES")
        table.add("POSTROUTING", comment("kubernetes postrouting rules"), "KUBE-POSTROUTING")
        table.add("KUBE-SERVICES", "-s 127.0.0.0/8", "RETURN")
    for match in _NAT_MATCHES:
        _add_match(table, sets, *match)
    _add_cluster_ip(table, view, sets)
    _add_external_ips(table, sets)
    if view.whole or any(port.node_port for port in view.ports):
        table.add("KUBE-SERVICES", "-m addrtype --dst-type LOCAL", "KUBE-NODE-PORT")
    if view.whole or sets[ipsets.LOAD_BALANCER]:
        table.add("KUBE-LOAD-BALANCER", "", MARK_MASQ)
    for name in (ipsets.CLUSTER_IP, ipsets.LOAD_BALANCER):
        if sets[name]:
            table.add("KUBE-SERVICES", _match_set(name, "dst,dst"), "ACCEPT")
    if view.whole:
        add_masquerading(table)
    return table


def _filter_table(view: View, sets: Sets) -> Table:
    table = Table("filter")
    table.declare(
        "KUBE-FORWARD",
        "KUBE-NODE-PORT",
        "KUBE-PROXY-FIREWALL",
        "KUBE-SOURCE-RANGES-FIREWALL",
        "KUBE-IPVS-FILTER",
        "KUBE-IPVS-OUT-FILTER",
    )
    if view.whole:
        # kube-proxy puts each jump before those that it has made already.
        access = comment("kubernetes ipvs access filter")
        firewall = comment("kube-proxy firewall rules")
        table.add("INPUT", access, "KUBE-IPVS-FILTER")
        table.add("INPUT", firewall, "KUBE-PROXY-FIREWALL")
        table.add("INPUT", comment("kubernetes health check rules"), "KUBE-NODE-PORT")
        table.add("FORWARD", firewall, "KUBE-PROXY-FIREWALL")
        table.add("FORWARD", comment("kubernetes forwarding rules"), "KUBE-FORWARD")
        table.add("OUTPUT", access, "KUBE-IPVS-OUT-FILTER")
    for match in _FILTER_MATCHES:
        _add_match(table, sets, *match)
    if view.whole or sets[ipsets.LOAD_BALANCER_FW]:
        table.add("KUBE-SOURCE-RANGES-FIREWALL", "", "DROP")
    for port in view.ports:
        if port.guarded and not ipsets.reachable_from_node(port, view):
            for ip in port.load_balancer_ips:
                vip = f"--vproto {_PROTOCOL_NUMBERS[port.protocol]} --vaddr {ip} --vport {port.port}"
                table.add("KUBE-IPVS-OUT-FILTER", f"-s {ip}/32 -m ipvs {vip}", "DROP")
    if view.whole:
        add_forwarding(table)
    health = ipsets.HEALTH_CHECK_NODE_PORT
    if view.whole or sets[health]:
        table.add("KUBE-NODE-PORT", f"{comment(COMMENTS[health])} {_match_set(health, 'dst')}", "ACCEPT")
    _add_access(table, view, sets)
    return table


def _add_match(table: Table, sets: Sets, name: str, chain: str, target: str, of: str, protocol: str) -> None:
    """kube-proxy writes a rule for a set only while somebody is in it."""
    if sets[name]:
        only = f"-p {protocol} " if protocol else ""
        table.add(chain, f"{only}{comment(COMMENTS[name])} {_match_set(name, of)}", target)


def _add_cluster_ip(table: Table, view: View, sets: Sets) -> None:
    name = ipsets.CLUSTER_IP
    if not sets[name]:
        return
    outside, of = "", "dst,dst"
    if not view.configuration.masquerade_all:
        if view.pod_cidr:
            outside = f"! -s {view.pod_cidr} "
        else:
            # Without a way to tell pods from others: what the node sends from a cluster IP.
            of = "src,dst"
    table.add("KUBE-SERVICES", f"{outside}{comment(COMMENTS[name])} {_match_set(name, of)}", MARK_MASQ)


def _add_external_ips(table: Table, sets: Sets) -> None:
    for name in (ipsets.EXTERNAL_IP, ipsets.EXTERNAL_IP_LOCAL):
        if sets[name]:
            match = f"{comment(COMMENTS[name])} {_match_set(name, 'dst,dst')}"
            if name == ipsets.EXTERNAL_IP:
                table.add("KUBE-SERVICES", match, MARK_MASQ)
            off_machine = "-m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL"
            table.add("KUBE-SERVICES", f"{match} {off_machine}", "ACCEPT")
            table.add("KUBE-SERVICES", f"{match} -m addrtype --dst-type LOCAL", "ACCEPT")


def _add_access(table: Table, view: View, sets: Sets) -> None:
    """Service addresses are on the node's kube-ipvs0: this keeps them from leading to its own ports."""
    for name, of in (
        (ipsets.LOAD_BALANCER, "dst,dst"),
        (ipsets.CLUSTER_IP, "dst,dst"),
        (ipsets.EXTERNAL_IP, "dst,dst"),
        (ipsets.EXTERNAL_IP_LOCAL, "dst,dst"),
        (ipsets.HEALTH_CHECK_NODE_PORT, "dst"),
    ):
        if view.whole or sets[name]:
            table.add("KUBE-IPVS-FILTER", _match_set(name, of), "RETURN")
    refused = f"{_NEW} {_match_set(ipsets.IPVS_IPS, 'dst')}"
    table.add("KUBE-IPVS-FILTER", refused, "REJECT --reject-with icmp-port-unreachable")


def _match_set(name: str, of: str) -> str:
    return f"-m set --match-set {name} {of}"
