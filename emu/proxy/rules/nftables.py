"""What kube-proxy programs in nftables mode, as `nft list ruleset` prints it.

Source: pkg/proxy/nftables of Kubernetes 1.34 (KEP-3866), with detectLocalMode NodeCIDR. Services are
ordered by name.
"""

from __future__ import annotations

from emu.core.addresses import contains
from emu.core.endpoints import Endpoints, PortEndpoint
from emu.proxy.rules.names import nft_endpoint_base, nft_port_base
from emu.proxy.rules.ruleset import Container, Ruleset, duration
from emu.proxy.rules.view import ServicePort, View, merged

_MARK = "0x00004000"
_TO_PORT = "ipv4_addr . inet_proto . inet_service : verdict"
_TO_NODE_PORT = "inet_proto . inet_service : verdict"
_MASQUERADE = "mark-for-masquerade"
_REJECT = "reject-chain"
_NEW = "ct state new"

_BASE_CHAINS = (
    ("filter-prerouting-pre-dnat", "filter hook prerouting priority dstnat - 10"),
    ("filter-output-pre-dnat", "filter hook output priority -110"),
    ("filter-forward", "filter hook forward priority filter"),
    ("filter-input", "filter hook input priority filter"),
    ("filter-output", "filter hook output priority filter"),
    ("nat-prerouting", "nat hook prerouting priority dstnat"),
    ("nat-output", "nat hook output priority -100"),
    ("nat-postrouting", "nat hook postrouting priority srcnat"),
)
_JUMPS = (
    ("filter-input", f"{_NEW} jump nodeport-endpoints-check"),
    ("filter-input", f"{_NEW} jump service-endpoints-check"),
    ("filter-forward", f"{_NEW} jump service-endpoints-check"),
    ("filter-output", f"{_NEW} jump service-endpoints-check"),
    ("filter-prerouting-pre-dnat", f"{_NEW} jump firewall-check"),
    ("filter-output-pre-dnat", f"{_NEW} jump firewall-check"),
    ("nat-output", "jump services"),
    ("nat-prerouting", "jump services"),
    ("nat-postrouting", "jump masquerading"),
    ("filter-forward", f"{_NEW} jump cluster-ips-check"),
    ("filter-output", f"{_NEW} jump cluster-ips-check"),
)
_HELPER_CHAINS = {
    "nodeport-endpoints-check": (),
    "service-endpoints-check": ("ip daddr . meta l4proto . th dport vmap @no-endpoint-services",),
    "firewall-check": ("ip daddr . meta l4proto . th dport vmap @firewall-ips",),
    "services": ("ip daddr . meta l4proto . th dport vmap @service-ips",),
    "masquerading": (
        f"meta mark & {_MARK} == 0x00000000 return",
        f"meta mark set meta mark ^ {_MARK}",
        "masquerade fully-random",
    ),
    "cluster-ips-check": (
        'ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"',
    ),
    _MASQUERADE: (f"meta mark set meta mark | {_MARK}",),
    _REJECT: ('comment "helper for @no-endpoint-services / @no-endpoint-nodeports"', "reject"),
}


def nftables_rules(view: View) -> str:
    """The text of table ip kube-proxy."""
    ruleset = _base(view)
    for port in view.ports:
        _Chains(ruleset, view, port).add()
    if not view.whole:
        ruleset.keep({chain for chain in ruleset.chains if "/" in chain})
    return ruleset.text()


def _base(view: View) -> Ruleset:
    ruleset = Ruleset("ip kube-proxy", "rules for kube-proxy")
    ruleset.containers = {
        "cluster-ips": Container("set", "ipv4_addr", "Active ClusterIPs"),
        "nodeport-ips": Container("set", "ipv4_addr", "IPs that accept NodePort traffic"),
        "no-endpoint-services": Container(
            "map", _TO_PORT, "vmap to drop or reject packets to services with no endpoints"
        ),
        "no-endpoint-nodeports": Container(
            "map", _TO_NODE_PORT, "vmap to drop or reject packets to service nodeports with no endpoints"
        ),
        "firewall-ips": Container(
            "map", _TO_PORT, "destinations that are subject to LoadBalancerSourceRanges"
        ),
        "service-ips": Container("map", _TO_PORT, "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
        "service-nodeports": Container("map", _TO_NODE_PORT, "NodePort traffic"),
    }
    for chain, hook in _BASE_CHAINS:
        ruleset.declare(chain, f"type {hook}; policy accept;")
    for chain, rules in _HELPER_CHAINS.items():
        ruleset.declare(chain, *rules)
    _add_node_ports(ruleset, view)
    if view.service_cidrs:
        allocatable = _one_of(merged(view.service_cidrs))
        ruleset.add(
            "cluster-ips-check",
            f'ip daddr {allocatable} drop comment "Drop traffic to unallocated ClusterIPs"',
        )
    for chain, rule in _JUMPS:
        ruleset.add(chain, rule)
    return ruleset


def _add_node_ports(ruleset: Ruleset, view: View) -> None:
    # Without nodePortAddresses this mode takes the node's primary address, not all.
    if view.configuration.node_port_addresses and view.node_port_ips is None:
        del ruleset.containers["nodeport-ips"]
        local = "ip daddr != 127.0.0.0/8"
        to_node = f"fib daddr type local {local}"
    else:
        local = to_node = "ip daddr @nodeport-ips"
        if view.whole or any(port.node_port for port in view.ports):
            for ip in view.outer_node_port_ips:
                ruleset.containers["nodeport-ips"].elements[ip,] = ""
    ruleset.add("nodeport-endpoints-check", f"{local} meta l4proto . th dport vmap @no-endpoint-nodeports")
    ruleset.add("services", f"{to_node} meta l4proto . th dport vmap @service-nodeports")


def _one_of(networks: tuple[str, ...]) -> str:
    return networks[0] if len(networks) == 1 else f"{{ {', '.join(networks)} }}"


class _Chains:
    """The chains of one service port, and the elements that lead to them."""

    def __init__(self, ruleset: Ruleset, view: View, port: ServicePort) -> None:
        self._ruleset = ruleset
        self._view = view
        self._port = port
        self._namespace, _, self._service = port.service.partition("/")
        base = nft_port_base(self._namespace, self._service, port.protocol, port.port_name)
        self._cluster = f"service-{base}"
        self._local = f"local-{base}"
        self._external = f"external-{base}"
        self._firewall = f"firewall-{base}"

    def add(self) -> None:
        port, ruleset = self._port, self._ruleset
        for endpoint in port.reachable:
            ruleset.declare(self._endpoint("endpoint", endpoint))
        if port.cluster_used:
            ruleset.declare(self._cluster)
        if port.local_used:
            ruleset.declare(self._local)
        self._add_internal()
        if port.externally_accessible:
            self._add_entries()
            if port.has_endpoints:
                self._add_external()
        if port.guarded:
            self._add_firewall()
        self._add_balancing(self._cluster, port.cluster_used)
        self._add_balancing(self._local, port.local_used)
        for endpoint in port.reachable:
            self._add_endpoint(endpoint)

    def _element(self, container: str, key: tuple[str | int, ...], follows: str) -> None:
        self._ruleset.containers[container].elements[key] = follows

    def _add_internal(self) -> None:
        port, view = self._port, self._view
        self._element("cluster-ips", (port.cluster_ip,), "")
        key = (port.cluster_ip, port.protocol, port.port)
        if not port.internal:
            self._element("no-endpoint-services", key, self._verdict())
            return
        chain = self._local if port.internal_local else self._cluster
        self._element("service-ips", key, f" : goto {chain}")
        if view.configuration.masquerade_all:
            self._ruleset.add(chain, f"ip daddr {port.cluster_ip} jump {_MASQUERADE}")
        elif view.pod_cidr:
            outside = f"ip saddr != {view.pod_cidr}"
            self._ruleset.add(chain, f"ip daddr {port.cluster_ip} {outside} jump {_MASQUERADE}")

    def _verdict(self) -> str:
        verdict = "drop" if self._port.has_endpoints else f"goto {_REJECT}"
        return f' comment "{self._port.name}" : {verdict}'

    def _add_entries(self) -> None:
        port = self._port
        keys: list[tuple[str, tuple[str | int, ...]]] = [
            ("services", (ip, port.protocol, port.port))
            for ip in (*port.external_ips, *port.load_balancer_ips)
        ]
        if port.node_port:
            keys.append(("nodeports", (port.protocol, port.node_port)))
        for kind, key in keys:
            if port.has_endpoints:
                container = "service-ips" if kind == "services" else "service-nodeports"
                self._element(container, key, f" : goto {self._external}")
            if not port.external:
                self._element(f"no-endpoint-{kind}", key, self._verdict())

    def _add_external(self) -> None:
        port, pod_cidr = self._port, self._view.pod_cidr
        rules = []
        if not port.external_local:
            rules.append(f"jump {_MASQUERADE}")
        else:
            if pod_cidr:
                rules.append(f'ip saddr {pod_cidr} goto {self._cluster} comment "short-circuit pod traffic"')
            rules += [
                f'fib saddr type local jump {_MASQUERADE} comment "masquerade local traffic"',
                f'fib saddr type local goto {self._cluster} comment "short-circuit local traffic"',
            ]
        if port.external:
            rules.append(f"goto {self._local if port.external_local else self._cluster}")
        self._ruleset.declare(self._external, *rules)

    def _add_firewall(self) -> None:
        port = self._port
        for ip in port.load_balancer_ips:
            self._element("firewall-ips", (ip, port.protocol, port.port), f" : goto {self._firewall}")
        allowed = port.source_ranges
        if any(contains(cidr, self._view.node.address) for cidr in port.source_ranges):
            # A node that dials the address has it as its source too.
            allowed += port.load_balancer_ips
        self._ruleset.declare(self._firewall, f"ip saddr != {_one_of(merged(allowed))} drop")

    def _add_balancing(self, chain: str, endpoints: Endpoints) -> None:
        if not endpoints:
            return
        targets = [f"goto {self._endpoint('endpoint', endpoint)}" for endpoint in endpoints]
        if self._port.affinity is not None:
            for endpoint, target in zip(endpoints, targets, strict=True):
                self._ruleset.add(chain, f"ip saddr @{self._endpoint('affinity', endpoint)} {target}")
        choices = ", ".join(f"{index} : {target}" for index, target in enumerate(targets))
        self._ruleset.add(chain, f"numgen random mod {len(targets)} vmap {{ {choices} }}")

    def _add_endpoint(self, endpoint: PortEndpoint) -> None:
        port, ruleset = self._port, self._ruleset
        chain = self._endpoint("endpoint", endpoint)
        ruleset.add(chain, f"ip saddr {endpoint.address} jump {_MASQUERADE}")
        if port.affinity is not None:
            remembered = self._endpoint("affinity", endpoint)
            options = ("size 65535", "flags dynamic,timeout", f"timeout {duration(port.affinity)}")
            ruleset.containers[remembered] = Container("set", "ipv4_addr", options=options)
            ruleset.add(chain, f"update @{remembered} {{ ip saddr }}")
        ruleset.add(chain, f"meta l4proto {port.protocol} dnat to {endpoint.key}")

    def _endpoint(self, kind: str, endpoint: PortEndpoint) -> str:
        port = self._port
        base = nft_endpoint_base(self._namespace, self._service, port.protocol, port.port_name, endpoint.key)
        return f"{kind}-{base}"
