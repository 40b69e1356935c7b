"""KubeProxyConfiguration as the proxy reads it."""

from __future__ import annotations

import pytest

from emu.core.config import ProxyMode
from emu.proxy.configuration import ConfigurationError, ProxyConfiguration, parse_configuration

OFF = ProxyConfiguration(detects_local=False)
IPVS = ProxyConfiguration(mode=ProxyMode.IPVS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ProxyConfiguration()),
        ('mode: ""', ProxyConfiguration()),
        ("mode: nftables", ProxyConfiguration(mode=ProxyMode.NFTABLES)),
        ("mode: ipvs\nipvs: {scheduler: lc}", IPVS._replace(scheduler="lc")),
        ("mode: ipvs\nipvs: {scheduler: ''}", IPVS),
        ("mode: ipvs\nipvs: {scheduler: mh}", IPVS._replace(scheduler="mh")),
        ("ipvs: {schedulerFlags: []}", ProxyConfiguration()),
        (
            "mode: ipvs\nipvs: {scheduler: sh, schedulerFlags: [sh-port, sh-fallback]}",
            IPVS._replace(scheduler="sh", scheduler_flags=("sh-fallback", "sh-port")),
        ),
        (
            "mode: ipvs\nipvs: {scheduler: mh, schedulerFlags: [mh-fallback]}",
            IPVS._replace(scheduler="mh", scheduler_flags=("mh-fallback",)),
        ),
        ("iptables: {masqueradeAll: true}", ProxyConfiguration(masquerade_all=True)),
        ("iptables: {localhostNodePorts: false}", ProxyConfiguration(localhost_node_ports=False)),
        ("udpIdleTimeout: 1m0.5s", ProxyConfiguration(udp_idle_seconds=60.5)),
        ("iptables: {syncPeriod: 1m30s}", ProxyConfiguration(sync_period=90.0)),
        ("iptables: {syncPeriod: 0s}", ProxyConfiguration()),
        ("mode: ipvs\niptables: {syncPeriod: 1m}", ProxyConfiguration(mode=ProxyMode.IPVS)),
        (
            "mode: ipvs\nipvs: {syncPeriod: 1m}",
            ProxyConfiguration(mode=ProxyMode.IPVS, sync_period=60.0),
        ),
        ("udpIdleTimeout: 750ms", ProxyConfiguration(udp_idle_seconds=0.75)),
        ("clusterCIDR: 127.244.0.0/14\nconntrack: {maxPerCore: null}", ProxyConfiguration()),
        # emu knows the pods of each node: nothing has to be said for the detector to be on.
        ("detectLocalMode: ClusterCIDR", ProxyConfiguration()),
        ("detectLocalMode: ''", ProxyConfiguration()),
        ("clusterCIDR: ''", ProxyConfiguration()),
        ("clusterCIDR: 127.244.0.0/14,fd00::/48", ProxyConfiguration()),
        ("detectLocalMode: ClusterCIDR\nclusterCIDR: 127.244.0.0/14", ProxyConfiguration()),
        ("detectLocalMode: NodeCIDR\nclusterCIDR: ''", ProxyConfiguration()),
        ("detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}", ProxyConfiguration()),
        (
            "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}",
            ProxyConfiguration(),
        ),
        # What kubeadm writes for a cluster without a pod range.
        ("detectLocalMode: ''\nclusterCIDR: ''", OFF),
        ("detectLocalMode: ClusterCIDR\nclusterCIDR: ''", OFF),
        ("nodePortAddresses: null", ProxyConfiguration()),
        ("nodePortAddresses: []", ProxyConfiguration()),
        ("nodePortAddresses: [primary]", ProxyConfiguration(node_port_addresses=("primary",))),
        (
            "mode: ipvs\nnodePortAddresses: [127.168.0.0/16, 'fd00::/8']",
            ProxyConfiguration(ProxyMode.IPVS, node_port_addresses=("127.168.0.0/16", "fd00::/8")),
        ),
    ],
)
def test_configuration(text: str, expected: ProxyConfiguration) -> None:
    assert parse_configuration(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mode: bpf", '"mode"'),
        ("mode: 7", '"mode"'),
        ("ipvs: {scheduler: fastest}", '"ipvs.scheduler"'),
        ("ipvs: lc", '"ipvs"'),
        ("ipvs: {scheduler: sh, schedulerFlags: sh-port}", '"ipvs.schedulerFlags".* is no list'),
        (
            "ipvs: {scheduler: sh, schedulerFlags: [sh-port, mh-port]}",
            "\"ipvs.schedulerFlags\": 'mh-port' is no flag of sh, which has sh-fallback, sh-port",
        ),
        ("ipvs: {schedulerFlags: [sh-port]}", "\"ipvs.schedulerFlags\": 'sh-port' is no flag of rr, .* none"),
        ("ipvs: {scheduler: sh, schedulerFlags: [[sh-port]]}", '"ipvs.schedulerFlags"'),
        ("iptables: {masqueradeAll: perhaps}", '"iptables.masqueradeAll"'),
        ("iptables: {syncPeriod: often}", '"iptables.syncPeriod"'),
        ("udpIdleTimeout: 0s", '"udpIdleTimeout"'),
        ("udpIdleTimeout: 250", '"udpIdleTimeout"'),
        ("udpIdleTimeout: 250 ms", '"udpIdleTimeout"'),
        ("udpIdleTimeout: soon", '"udpIdleTimeout"'),
        ("kind: Pod", '"kind"'),
        ("- mode", "config.conf"),
        ("mode: [", "config.conf"),
        ("since: 2024-13-01", "config.conf"),
        ("port: !!int ''", "config.conf"),
        ("since: !!timestamp now", "config.conf"),
        ("[" * 3000, "config.conf"),
        ("detectLocalMode: Guess", '"detectLocalMode"'),
        ("detectLocalMode: 1", '"detectLocalMode"'),
        ("detectLocalMode: BridgeInterface", '"detectLocal.bridgeInterface"'),
        ("detectLocalMode: InterfaceNamePrefix\ndetectLocal: {}", '"detectLocal.interfaceNamePrefix"'),
        ("clusterCIDR: 127.244.0.0", '"clusterCIDR"'),
        ("clusterCIDR: pods", '"clusterCIDR"'),
        ("clusterCIDR: 127.244.0.0/99", '"clusterCIDR"'),
        ("nodePortAddresses: primary", '"nodePortAddresses"'),
        ("nodePortAddresses: [primary, 127.0.0.0/8]", '"nodePortAddresses".*stands alone'),
        ("nodePortAddresses: [1]", '"nodePortAddresses"'),
    ],
)
def test_bad_configuration_names_the_key(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_configuration(text)
