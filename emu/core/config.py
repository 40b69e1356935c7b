"""The configuration of a cluster: what `emu.yaml` may say, its defaults, and what each slot moves.

Pure values. Reading files, flags and the environment is the business of `emu.cluster.config`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from emu.core.addresses import Networks
from emu.core.errors import UserError

MAX_SLOT = 31
IPVS_SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sed", "nq", "sh", "dh", "lblc", "lblcr", "mh", "fo", "ovf")
"""The schedulers of ipvs mode that emu has."""

_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class ConfigError(UserError, ValueError):
    """The configuration is wrong. The message names the key and the remedy."""


class ProxyMode(StrEnum):
    """kube-proxy's modes. `userspace` left Kubernetes in 1.26 and is kept here for study."""

    IPTABLES = "iptables"
    IPVS = "ipvs"
    NFTABLES = "nftables"
    USERSPACE = "userspace"


class _Section(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    pass


class NodeConfig(_Section, frozen=True):
    """One node: its name, the labels it registers with, and its zone (`topology.kubernetes.io/zone`)."""

    name: str
    labels: dict[str, str] = {}
    zone: str | None = None


class Ports(_Section, frozen=True):
    """Fixed TCP/UDP ports on 127.0.0.1 and the node addresses. A slot adds 100 times its number to each.

    `dns` alone keeps its number 53 in slot 0 only; elsewhere, and where 53 cannot be bound,
    DNS on 127.0.0.1 answers at `dns_fallback`.
    """

    apiserver: int = 6443
    dns: int = 53
    dns_fallback: int = 1053
    gateway: int = 3128
    kubelet: int = 10250
    proxy_healthz: int = 10256
    proxy_metrics: int = 10249

    def moved(self, slot: int) -> Ports:
        """The ports of a slot. The kubelet port stays: it is bound on addresses that the slot has moved."""
        if slot == 0:
            return self
        by = 100 * slot
        return Ports(
            apiserver=self.apiserver + by,
            dns=self.dns_fallback + by,
            dns_fallback=self.dns_fallback + by,
            gateway=self.gateway + by,
            kubelet=self.kubelet,
            proxy_healthz=self.proxy_healthz + by,
            proxy_metrics=self.proxy_metrics + by,
        )


class NodeLifecycle(_Section, frozen=True):
    """How fast the death of a node is seen. Kubernetes takes 40 s; emu is quicker by default.

    A node renews its Lease every quarter of `lease_duration_seconds`; a Lease that was not renewed for
    that duration makes the node's Ready condition Unknown and its pods not ready.
    """

    lease_duration_seconds: float = 6.0

    @property
    def renew_interval_seconds(self) -> float:
        """Seconds between two renewals of a node's Lease."""
        return self.lease_duration_seconds / 4


class ClusterConfig(_Section, frozen=True):
    """A whole cluster. Field names are the camelCase keys of `emu.yaml`."""

    nodes: tuple[NodeConfig, ...] = (NodeConfig(name="node-1"), NodeConfig(name="node-2"))
    proxy_mode: ProxyMode | None = None
    ipvs_scheduler: str | None = None
    cluster_domain: str = "cluster.local"
    corefile: str | None = None
    """A file to serve DNS by, instead of the ConfigMap kube-system/coredns."""
    slot: int = 0
    plane: str = "loopback"
    networks: Networks | None = None
    ports: Ports = Ports()
    node_lifecycle: NodeLifecycle = NodeLifecycle()
    log_level: str = "info"
    log_format: str = "text"

    @property
    def ranges(self) -> Networks:
        """The address ranges in force: those configured, else those of the slot."""
        return self.networks or Networks.of_slot(self.slot)

    @property
    def fixed_ports(self) -> Ports:
        """The fixed ports in force, moved by the slot."""
        return self.ports.moved(self.slot)

    def node(self, name: str) -> NodeConfig | None:
        """The configuration of a node by name, or None when `emu.yaml` does not list it."""
        return next((node for node in self.nodes if node.name == name), None)

    def node_address(self, name: str) -> str:
        """The InternalIP of a node: by its place in `nodes`, else by the number that its name ends with.

        Raises ConfigError for a name that has neither.
        """
        names = [node.name for node in self.nodes]
        if name in names:
            return self.ranges.node_address(names.index(name) + 1)
        number = re.search(r"-(\d+)$", name)
        if number is None or int(number[1]) <= len(names):
            raise ConfigError(
                f'node "{name}" has no address: list it under `nodes` in emu.yaml, or give it a name that '
                f"ends in a number above {len(names)}, such as node-{len(names) + 1}"
            )
        return self.ranges.node_address(int(number[1]))

    def with_node_count(self, count: int) -> ClusterConfig:
        """The same cluster with `count` nodes: configured ones first, then `node-N`."""
        if count < 1:
            raise ConfigError(f"a cluster needs at least one node, not {count}")
        nodes = list(self.nodes[:count])
        taken = {node.name for node in nodes}
        for number in range(len(nodes) + 1, count + 1):
            name = f"node-{number}"
            if name in taken:
                raise ConfigError(f'cannot add a node "{name}": `nodes` in emu.yaml has that name already')
            nodes.append(NodeConfig(name=name))
        return msgspec.structs.replace(self, nodes=tuple(nodes))


_T = TypeVar("_T")


def parse_config(data: dict[str, Any]) -> ClusterConfig:
    """A validated ClusterConfig from decoded YAML. Raises ConfigError that names the key and the remedy."""
    config = _convert(data, ClusterConfig)
    _validate(config)
    return config


def _convert(data: dict[str, Any], into: type[_T]) -> _T:
    try:
        return msgspec.convert(data, into)
    except msgspec.ValidationError as error:
        message = str(error)
        unknown = re.match(r"Object contains unknown field `(.+?)`(?: - at `\$\.?(.*)`)?", message)
        if unknown:
            where = f"{unknown[2]}.{unknown[1]}" if unknown[2] else unknown[1]
            raise ConfigError(
                f'unknown field "{where}" in the configuration; remove it or correct its spelling'
            ) from None
        message = re.sub(
            r"^Invalid enum value '(.+?)'", rf'"\1" is not one of {", ".join(ProxyMode)}', message
        )
        path = re.search(r" - at `\$\.?(.*)`$", message)
        key = path[1] if path else ""
        text = message[: path.start()] if path else message
        raise ConfigError(
            f'bad value for "{key}" in the configuration: {text[:1].lower()}{text[1:]}'
        ) from None


def _validate(config: ClusterConfig) -> None:
    """Raise ConfigError for values that have the right type and make no sense."""
    if not 0 <= config.slot <= MAX_SLOT:
        raise ConfigError(f'bad value for "slot": {config.slot} is not between 0 and {MAX_SLOT}')
    if config.node_lifecycle.lease_duration_seconds < 1:
        raise ConfigError('bad value for "nodeLifecycle.leaseDurationSeconds": it is at least 1')
    for key, value, known in (
        ("plane", config.plane, ("loopback",)),
        ("logLevel", config.log_level, ("debug", "info", "warning", "error")),
        ("logFormat", config.log_format, ("text", "json")),
    ):
        if value not in known:
            raise ConfigError(f'bad value for "{key}": "{value}" is not one of {", ".join(known)}')
    if config.ipvs_scheduler is not None and config.ipvs_scheduler not in IPVS_SCHEDULERS:
        raise ConfigError(
            f'bad value for "ipvsScheduler": "{config.ipvs_scheduler}" is not one of '
            f"{', '.join(IPVS_SCHEDULERS)}"
        )
    if not all(_DNS_LABEL.fullmatch(label) for label in config.cluster_domain.split(".")):
        raise ConfigError(
            f'bad value for "clusterDomain": "{config.cluster_domain}" is not a DNS name, as cluster.local is'
        )
    _validate_nodes(config.nodes)
    _validate_ports(config)
    try:
        config.ranges.check()
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _validate_ports(config: ClusterConfig) -> None:
    taken: dict[int, str] = {}
    for name in Ports.__struct_fields__:
        port = getattr(config.fixed_ports, name)
        if not 1 <= port <= 65535:
            raise ConfigError(f'bad value for "ports.{name}": {port} is not a port number')
        # Bound at other addresses, or instead of the port for DNS.
        if name in ("kubelet", "dns_fallback"):
            continue
        if port in taken:
            raise ConfigError(
                f'bad value for "ports.{name}": {port} is the port of ports.{taken[port]} already'
            )
        taken[port] = name


def _validate_nodes(nodes: tuple[NodeConfig, ...]) -> None:
    if not nodes:
        raise ConfigError('bad value for "nodes": a cluster needs at least one node')
    seen: set[str] = set()
    for node in nodes:
        if not _DNS_LABEL.fullmatch(node.name):
            raise ConfigError(
                f'bad value for "nodes": "{node.name}" is not a node name; use lower-case letters, '
                "digits and '-', at most 63 of them"
            )
        if node.name in seen:
            raise ConfigError(f'bad value for "nodes": the name "{node.name}" is there twice')
        seen.add(node.name)
        for key, value in {**node.labels, "topology.kubernetes.io/zone": node.zone or ""}.items():
            if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
                raise ConfigError(
                    f'bad value for "nodes": node "{node.name}" cannot have the label {key}={value}; use '
                    "letters, digits, '-', '_' and '.', at most 63 of them"
                )
