"""The networks of a cluster and the arithmetic of their addresses.

Addresses are strings in API objects and on the command line, and unsigned 32-bit integers where they are
compared or kept in ranges. Numbering follows the textbooks: nodes from .1.10, node N's pods in the N-th /24
with the bridge at .1, `kubernetes` at the first and `kube-dns` at the tenth Service address.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Any

import msgspec

FIRST_NODE_OFFSET = 256 + 10
POD_PREFIX_LENGTH = 24


def to_int(address: str) -> int:
    """An IPv4 address as an unsigned 32-bit integer. Raises ValueError when it is not one."""
    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET, address), "big")
    except OSError:
        # It is no address: this says why.
        return int(IPv4Address(address))


def to_str(number: int) -> str:
    """The dotted form of an unsigned 32-bit integer."""
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


class Networks(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The node, pod, Service and load-balancer networks, each in CIDR notation.

    On the loopback plane all lie in 127.0.0.0/8; slot 0 keeps the last three octets of the textbook
    numbers (10.244.1.2 is 127.244.1.2), the other slots take smaller ranges of their own.
    """

    nodes: str = "127.168.0.0/16"
    pods: str = "127.244.0.0/14"
    services: str = "127.96.0.0/12"
    load_balancers: str = "127.0.113.0/24"

    @staticmethod
    def of_slot(slot: int) -> Networks:
        """The ranges of a slot. Slots 0 to 31 are pairwise disjoint."""
        if slot == 0:
            return Networks()
        return Networks(
            services=f"127.{slot}.0.0/16",
            pods=f"127.{32 + slot}.0.0/16",
            nodes=f"127.{64 + slot}.0.0/16",
            load_balancers=f"127.0.{113 + slot}.0/24",
        )

    def check(self) -> None:
        """Raise ValueError when a range is not a network, is too small, or overlaps another."""
        ranges: list[tuple[str, IPv4Network]] = []
        for key, least in (("nodes", 16), ("pods", 23), ("services", 28), ("load_balancers", 30)):
            text = getattr(self, key)
            try:
                network = IPv4Network(text)
            except ValueError as error:
                raise ValueError(f'bad value for "networks.{key}": {error}') from None
            if network.prefixlen > least:
                raise ValueError(f'bad value for "networks.{key}": {text} is smaller than a /{least}')
            for other, taken in ranges:
                if network.overlaps(taken):
                    raise ValueError(
                        f'bad value for "networks.{key}": {text} overlaps networks.{other} {taken}'
                    )
            ranges.append((key, network))

    def node_address(self, number: int) -> str:
        """The address of node `number`, counted from 1. Raises ValueError beyond the node network."""
        return _offset(IPv4Network(self.nodes), FIRST_NODE_OFFSET + number - 1)

    def node_number(self, address: str) -> int | None:
        """The number of the node that `node_address` gives `address`, or None when it is none."""
        number = to_int(address) - int(IPv4Network(self.nodes).network_address) - FIRST_NODE_OFFSET + 1
        return number if number >= 1 else None

    def pod_cidr(self, number: int) -> str:
        """The pod range of node `number`, counted from 1. Raises ValueError beyond the pod network."""
        network = IPv4Network(self.pods)
        return f"{_offset(network, number << (32 - POD_PREFIX_LENGTH))}/{POD_PREFIX_LENGTH}"

    @property
    def kubernetes_service(self) -> str:
        """The ClusterIP of the Service `default/kubernetes`."""
        return _offset(IPv4Network(self.services), 1)

    @property
    def dns_service(self) -> str:
        """The ClusterIP of the Service `kube-system/kube-dns`."""
        return _offset(IPv4Network(self.services), 10)

    def counterpart(self, address: str) -> str | None:
        """The address of the Service range with the same last octets as one written for another cluster.

        Used to tell a user which address would work instead of, say, 10.96.0.100.
        """
        network = IPv4Network(self.services)
        candidate = int(network.network_address) | (to_int(address) & int(network.hostmask))
        usable = int(network.network_address) < candidate < int(network.broadcast_address)
        return to_str(candidate) if usable else None


def bridge_address(pod_cidr: str) -> str:
    """The address of the bridge `cni0` in a node's pod range: its first one."""
    return _offset(IPv4Network(pod_cidr), 1)


def pod_addresses(pod_cidr: str) -> range:
    """The addresses that pods of a node may have, as integers: all but network, bridge and broadcast."""
    network = IPv4Network(pod_cidr)
    return range(int(network.network_address) + 2, int(network.broadcast_address))


def cidr_bounds(cidr: str) -> tuple[int, int]:
    """First and last address of a CIDR; host bits do not count. Raises ValueError when it is none."""
    network = IPv4Network(cidr, strict=False)
    return int(network.network_address), int(network.broadcast_address)


def contains(cidr: str, address: str) -> bool:
    """Whether an address lies in a CIDR."""
    low, high = cidr_bounds(cidr)
    return low <= to_int(address) <= high


def is_ip(text: str) -> bool:
    """Whether text is an address of either family."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_ipv4(text: Any) -> bool:
    """Whether text is an IPv4 address in canonical dotted form."""
    try:
        return bool(str(IPv4Address(text)) == text)
    except ValueError:
        return False


def _offset(network: IPv4Network, offset: int) -> str:
    number = int(network.network_address) + offset
    if number >= int(network.broadcast_address):
        raise ValueError(f"{network} has no address number {offset}: it is too small")
    return to_str(number)
