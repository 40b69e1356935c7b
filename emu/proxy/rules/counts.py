"""How many iptables rules kube-proxy owns on a node, without making their text.

Source: `syncProxyRules` of pkg/proxy/iptables in Kubernetes 1.33, which counts the lines that it gives to
iptables-restore. The jumps from built-in chains are not among them: they are made one by one.
"""

from __future__ import annotations

from typing import NamedTuple

from emu.core.addresses import contains
from emu.proxy.rules.view import ServicePort, View

_MASQUERADING = 4
"""Three rules of KUBE-POSTROUTING and the one of KUBE-MARK-MASQ."""
_FORWARDING = 3
"""The rules of KUBE-FORWARD."""
_OF_ENDPOINT = 2
"""The mark for hairpins and the DNAT."""


class RuleCount(NamedTuple):
    """Numbers of rules, told apart by when a synchronization writes them."""

    filter: int = 0
    """In the filter table; written each time."""
    entries: int = 0
    """In the chains of the nat table that all Services share; written each time."""
    chains: int = 0
    """In the chains of the nat table that belong to one service port; written when its Service changes."""

    def plus(self, other: RuleCount, times: int = 1) -> RuleCount:
        """The sum with so many of another; -1 takes it away."""
        return RuleCount(
            self.filter + times * other.filter,
            self.entries + times * other.entries,
            self.chains + times * other.chains,
        )


def base_count(view: View) -> RuleCount:
    """The rules that are there without any Service."""
    to_node_ports = 1
    if view.node_port_ips is not None:
        ips = view.node_port_ips if view.localhost_node_ports else view.outer_node_port_ips
        to_node_ports = len(ips)
    return RuleCount(_FORWARDING + int(view.localhost_node_ports), _MASQUERADING + to_node_ports)


def port_count(port: ServicePort, view: View) -> RuleCount:
    """The rules of one service port. Of `view` the node and the configuration count, not its ports."""
    balanced = len(port.load_balancer_ips)
    outer = len(port.external_ips) + balanced + int(bool(port.node_port))
    return RuleCount(
        filter=int(not port.internal)
        + (0 if port.external else outer)
        + (balanced if port.guarded and port.has_endpoints else 0)
        + int(bool(port.health_check_node_port)),
        entries=int(bool(port.internal)) + (outer if port.has_endpoints else 0),
        chains=_in_chains(port, view) if port.has_endpoints else 0,
    )


def _in_chains(port: ServicePort, view: View) -> int:
    marked = bool(port.internal) and (view.configuration.masquerade_all or bool(view.pod_cidr))
    count = int(marked)
    if port.externally_accessible:
        short_cuts = 2 + int(bool(view.pod_cidr)) if port.external_local else 1
        count += short_cuts + int(bool(port.external))
    if port.guarded:
        from_node = any(contains(cidr, view.node.address) for cidr in port.source_ranges)
        count += len(port.source_ranges) + (len(port.load_balancer_ips) if from_node else 0) + 1
    choices = len(port.cluster_used) + len(port.local_used)
    count += choices if port.affinity is None else 2 * choices
    return count + _OF_ENDPOINT * len(port.reachable)
