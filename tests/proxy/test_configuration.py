"""KubeProxyConfiguration as the proxy reads it."""

from __future__ import annotations

import pytest

from emu.core.config import ProxyMode
from emu.proxy.configuration import ConfigurationError, ProxyConfiguration, parse_configuration

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
    ],
)
def test_bad_configuration_names_the_key(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_configuration(text)
