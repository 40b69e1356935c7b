"""The modes of kube-proxy that a test runs in, and the configuration that is in force meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from as_a_client import set_proxy

from emu.core.objects import ConfigMap
from emu.testing import Cluster

KERNEL_MODES = ("iptables", "ipvs", "nftables")
MODES = (*KERNEL_MODES, "userspace")
"""In the order in which the tests of a module go through them."""
STARTS_IN = "nftables"
"""The mode that the cluster's command line asks for."""


def in_modes(*modes: str) -> pytest.MarkDecorator:
    """Run a test once in each of these modes; a test without this mark runs in iptables mode."""
    return pytest.mark.parametrize("mode", modes, indirect=True)


every_mode = in_modes(*MODES)
kernel_modes = in_modes(*KERNEL_MODES)


def proxy_mode(cluster: Cluster) -> str:
    """What kube-proxy says its mode is."""
    port = cluster.settings.config.fixed_ports.proxy_metrics
    return cluster.dial("127.0.0.1", "127.0.0.1", port, "/proxyMode").body


class ProxyInForce:
    """kube-proxy of a cluster, whose configuration is written only where it differs from what is in force."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.at_start = proxy_mode(cluster)
        self.written_at_start = cluster.object(ConfigMap, "kube-proxy", "kube-system").data["config.conf"]
        self._now: tuple[str, dict[str, Any]] = (self.at_start, {})

    def use(self, mode: str, **fields: Any) -> None:
        """Put a mode in force, and fields of KubeProxyConfiguration, until another is wanted."""
        if self._now != (mode, fields):
            set_proxy(self._cluster, mode, **fields)
            self._now = (mode, fields)
