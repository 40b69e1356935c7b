"""KubeProxyConfiguration: what the ConfigMap kube-system/kube-proxy says in its key config.conf."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any, NamedTuple

import yaml

from emu.core.config import ProxyMode
from emu.core.durations import parse_duration
from emu.proxy.modes.schedulers import SCHEDULER_FLAGS, SCHEDULERS

NAMESPACE = "kube-system"
NAME = "kube-proxy"
KEY = "config.conf"
DEFAULT_SCHEDULER = "rr"
PRIMARY = "primary"
_LOCAL_MODES = {
    "ClusterCIDR": "",
    "NodeCIDR": "",
    "BridgeInterface": "bridgeInterface",
    "InterfaceNamePrefix": "interfaceNamePrefix",
}
"""What `detectLocalMode` may be, and the field of `detectLocal` that it needs."""


class ProxyConfiguration(NamedTuple):
    """The fields of kubeproxy.config.k8s.io/v1alpha1 that change what is forwarded where."""

    mode: ProxyMode = ProxyMode.IPTABLES
    scheduler: str = DEFAULT_SCHEDULER
    """`ipvs.scheduler`."""
    masquerade_all: bool = False
    """`iptables.masqueradeAll`, or that of the section of the mode in force."""
    localhost_node_ports: bool = True
    """`iptables.localhostNodePorts`."""
    node_port_addresses: tuple[str, ...] = ()
    """`nodePortAddresses`: CIDRs of the node addresses that have node ports, or "primary" alone; all without.

    The nftables mode starts from "primary", which on nodes with one address leaves only 127.0.0.1 out.
    """
    detects_local: bool = True
    """Whether local traffic is detected, by `detectLocalMode` and what belongs to it.

    emu knows the pods of each node, so the detector works whatever `clusterCIDR` says or if nothing is
    said. It is off where upstream has none: `detectLocalMode` is ClusterCIDR or "", and `clusterCIDR` is "",
    both explicitly.
    """
    udp_idle_seconds: float = 0.25
    """`udpIdleTimeout`: how long the userspace mode keeps a UDP client's socket without traffic."""
    scheduler_flags: tuple[str, ...] = ()
    """`ipvs.schedulerFlags`, which is emu's own: what `ipvsadm --sched-flags` would set."""
    sync_period: float = 30.0
    """`syncPeriod` of the section of the mode in force, in seconds."""

    @property
    def health_timeout(self) -> float:
        """How many seconds a change may wait to be in force before the proxy is not healthy."""
        return 2 * self.sync_period


class ConfigurationError(ValueError):
    """The configuration cannot be used. The message names the key."""


# PyYAML has errors of its own, and lets through what its constructors stumble over, like the date 2024-13-01.
_NOT_YAML = (yaml.YAMLError, AttributeError, LookupError, RecursionError, ValueError)


def parse_configuration(text: str) -> ProxyConfiguration:
    """The configuration in YAML text; unread fields are left alone. Raises ConfigurationError."""
    try:
        document = yaml.safe_load(text) or {}
    except _NOT_YAML as error:
        raise ConfigurationError(f"{KEY} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise ConfigurationError(f"{KEY} is not a KubeProxyConfiguration: it is no mapping")
    if document.get("kind", "KubeProxyConfiguration") != "KubeProxyConfiguration":
        raise ConfigurationError(f'bad value for "kind": {document["kind"]!r} is not KubeProxyConfiguration')
    mode = document.get("mode") or ProxyMode.IPTABLES
    if mode not in list(ProxyMode):
        raise ConfigurationError(
            f'bad value for "mode": {mode!r} is not one of {", ".join(ProxyMode)}, or "" for iptables'
        )
    mode = ProxyMode(mode)
    scheduler = _field(document, "ipvs", "scheduler", str, "") or DEFAULT_SCHEDULER
    if scheduler not in SCHEDULERS:
        raise ConfigurationError(
            f'bad value for "ipvs.scheduler": {scheduler!r} is not one of {", ".join(SCHEDULERS)}'
        )
    section = section_of(mode)
    return ProxyConfiguration(
        mode=mode,
        scheduler=scheduler,
        masquerade_all=_field(document, section, "masqueradeAll", bool, False)
        or _field(document, "iptables", "masqueradeAll", bool, False),
        localhost_node_ports=_field(document, "iptables", "localhostNodePorts", bool, True),
        node_port_addresses=_node_port_addresses(document),
        detects_local=_detects_local(document),
        udp_idle_seconds=_udp_idle_seconds(document),
        scheduler_flags=_scheduler_flags(document, scheduler),
        sync_period=_sync_period(document, section),
    )


def section_of(mode: ProxyMode) -> str:
    """The section of a KubeProxyConfiguration that a mode reads; the userspace mode shares one."""
    return {ProxyMode.IPVS: "ipvs", ProxyMode.NFTABLES: "nftables"}.get(mode, "iptables")


def _node_port_addresses(document: dict[str, Any]) -> tuple[str, ...]:
    listed = document.get("nodePortAddresses") or []
    if not isinstance(listed, list):
        raise ConfigurationError(f'bad value for "nodePortAddresses": {listed!r} is no list')
    if listed != [PRIMARY]:
        for cidr in listed:
            _check_cidr("nodePortAddresses", cidr, f', and "{PRIMARY}" stands alone')
    return tuple(listed)


def _detects_local(document: dict[str, Any]) -> bool:
    mode = document.get("detectLocalMode")
    if mode is not None and mode not in ("", *_LOCAL_MODES):
        raise ConfigurationError(
            f'bad value for "detectLocalMode": {mode!r} is not one of {", ".join(_LOCAL_MODES)}'
        )
    if (needed := _LOCAL_MODES.get(mode or "")) and not _field(document, "detectLocal", needed, str, ""):
        raise ConfigurationError(f'bad value for "detectLocal.{needed}": {mode} needs one')
    cidr = document.get("clusterCIDR")
    if cidr:
        for part in str(cidr).split(","):
            _check_cidr("clusterCIDR", part)
    return not (mode in ("", "ClusterCIDR") and cidr == "")


def _check_cidr(key: str, cidr: Any, hint: str = "") -> None:
    try:
        good = isinstance(cidr, str) and "/" in cidr and bool(ip_network(cidr, strict=False))
    except ValueError:
        good = False
    if not good:
        raise ConfigurationError(f'bad value for "{key}": {cidr!r} is no CIDR{hint}')


def _udp_idle_seconds(document: dict[str, Any]) -> float:
    text = document.get("udpIdleTimeout")
    if text is None:
        return ProxyConfiguration().udp_idle_seconds
    try:
        seconds = parse_duration(text) if isinstance(text, str) else 0.0
    except ValueError:
        seconds = 0.0
    if not seconds:
        raise ConfigurationError(
            f'bad value for "udpIdleTimeout": {text!r} is no duration above 0, like 250ms'
        )
    return seconds


def _sync_period(document: dict[str, Any], section: str) -> float:
    text = _field(document, section, "syncPeriod", str, "0s") or "0s"
    try:
        return parse_duration(text) or ProxyConfiguration().sync_period
    except ValueError:
        raise ConfigurationError(
            f'bad value for "{section}.syncPeriod": {text!r} is no duration, like 30s'
        ) from None


def _scheduler_flags(document: dict[str, Any], scheduler: str) -> tuple[str, ...]:
    flags = _field(document, "ipvs", "schedulerFlags", list, [])
    known = SCHEDULER_FLAGS.get(scheduler, ())
    for flag in flags:
        if flag not in known:
            raise ConfigurationError(
                f'bad value for "ipvs.schedulerFlags": {flag!r} is no flag of {scheduler}, which has '
                f"{', '.join(known) or 'none'}"
            )
    return tuple(flag for flag in known if flag in flags)


def _field(document: dict[str, Any], section: str, name: str, kind: type, default: Any) -> Any:
    fields = document.get(section)
    if fields is None:
        return default
    if not isinstance(fields, dict):
        raise ConfigurationError(f'bad value for "{section}": it is no mapping')
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise ConfigurationError(f'bad value for "{section}.{name}": {value!r} is no {kind.__name__}')
    return value
