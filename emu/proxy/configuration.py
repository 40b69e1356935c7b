"""KubeProxyConfiguration: what the ConfigMap kube-system/kube-proxy says in its key config.conf."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from emu.core.config import ProxyMode
from emu.proxy.modes.schedulers import SCHEDULERS

NAMESPACE = "kube-system"
NAME = "kube-proxy"
KEY = "config.conf"
DEFAULT_SCHEDULER = "rr"


class ProxyConfiguration(NamedTuple):
    """The fields of kubeproxy.config.k8s.io/v1alpha1 that change what is forwarded where."""

    mode: ProxyMode = ProxyMode.IPTABLES
    scheduler: str = DEFAULT_SCHEDULER
    """`ipvs.scheduler`."""
    masquerade_all: bool = False
    """`iptables.masqueradeAll`, or that of the section of the mode in force."""
    localhost_node_ports: bool = True
    """`iptables.localhostNodePorts`."""
    udp_idle_seconds: float = 0.25
    """`udpIdleTimeout`: how long the userspace mode keeps a UDP client's socket without traffic."""


class ConfigurationError(ValueError):
    """The configuration cannot be used. The message names the key."""


def parse_configuration(text: str) -> ProxyConfiguration:
    """The configuration in YAML text; unread fields are left alone. Raises ConfigurationError."""
    try:
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
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
    section = {ProxyMode.IPVS: "ipvs", ProxyMode.NFTABLES: "nftables"}.get(mode, "iptables")
    return ProxyConfiguration(
        mode=mode,
        scheduler=scheduler,
        masquerade_all=_field(document, section, "masqueradeAll", bool, False)
        or _field(document, "iptables", "masqueradeAll", bool, False),
        localhost_node_ports=_field(document, "iptables", "localhostNodePorts", bool, True),
        udp_idle_seconds=_udp_idle_seconds(document),
    )


def _udp_idle_seconds(document: dict[str, Any]) -> float:
    text = document.get("udpIdleTimeout")
    if text is None:
        return ProxyConfiguration().udp_idle_seconds
    seconds = _seconds(text) if isinstance(text, str) else None
    if not seconds:
        raise ConfigurationError(
            f'bad value for "udpIdleTimeout": {text!r} is no duration above 0, like 250ms'
        )
    return seconds


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "\u00b5s": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ms|us|\u00b5s|ns|h|m|s)")


def _seconds(text: str) -> float | None:
    """A duration as Go writes it (`1m30s`, `250ms`) in seconds, None when it is none."""
    if not text or _PART.sub("", text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


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
