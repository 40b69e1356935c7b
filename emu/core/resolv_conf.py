"""The resolv.conf of a pod, as the kubelet writes it from `dnsPolicy` and `dnsConfig`.

Source: the Kubernetes page "DNS for Services and Pods", and the kubelet's merge of `dnsConfig`: servers and
search domains are added at the end without doubles, options replace those of the same name. Search domains
of the host are left out: what a pod of emu resolves does not depend on the machine.
"""

from __future__ import annotations

from typing import NamedTuple

from emu.core.names import NDOTS, search_path
from emu.core.objects import PodSpec

MAX_NAMESERVERS = 3
MAX_NDOTS = 15
"""RES_MAXNDOTS of glibc; more count as so many."""
_DEFAULT_NDOTS = 1


class ResolvConf(NamedTuple):
    """What a resolver reads in it."""

    nameservers: tuple[str, ...]
    """Empty where they are those of the machine."""
    search: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    """Names and values; an option without a value has an empty one."""

    @property
    def ndots(self) -> int:
        """With fewer dots a name goes through the search path first."""
        value = dict(self.options).get("ndots", "")
        return min(int(value), MAX_NDOTS) if value.isdigit() else _DEFAULT_NDOTS


def resolv_conf(spec: PodSpec, namespace: str, zone: str, dns_service: str) -> ResolvConf:
    """The resolv.conf of a pod of a namespace; `zone` is the cluster's, without a dot at the end."""
    policy = spec.dns_policy
    if policy == "ClusterFirst" and spec.host_network:
        policy = "Default"
    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: dict[str, str] = {}
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet"):
        servers, search, options = (dns_service,), search_path(namespace, zone), {"ndots": str(NDOTS)}
    config = spec.dns_config
    if config is not None:
        servers = tuple(dict.fromkeys(servers + config.nameservers))
        search = tuple(dict.fromkeys(search + config.searches))
        options |= {option.name: option.value or "" for option in config.options}
    return ResolvConf(servers[:MAX_NAMESERVERS], search, tuple(options.items()))
