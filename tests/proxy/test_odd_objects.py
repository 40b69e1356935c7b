"""Objects that nobody checks, or that are for another address family: kube-proxy goes on with the others."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from emu.core.objects import Node
from emu.proxy.tables import Address

from .worlds import CLUSTER_IP, OUTSIDE, World, node_ip, pod_ip


def node(addresses: list[str], pod_cidr: str = "127.244.3.0/24") -> Node:
    document = {
        "metadata": {"name": "odd"},
        "spec": {"podCIDR": pod_cidr},
        "status": {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]},
    }
    return msgspec.convert(document, Node)


def world_with(odd: Node) -> World:
    world = World()
    world.tables.set_node("odd", odd)
    world.service()
    world.endpoints({"addresses": [pod_ip(1, 2)], "nodeName": "n1"})
    return world


@pytest.mark.parametrize("addresses", [["fd00::3"], ["not-an-address"], [""], ["127.168.1.999"]])
def test_a_node_without_an_ipv4_address_is_none(addresses: list[str]) -> None:
    world = world_with(node(addresses))
    assert set(world.tables.nodes) == {"n1", "n2"}
    assert world.decide(OUTSIDE, CLUSTER_IP).endpoint


def test_a_node_of_both_families_has_its_ipv4_address() -> None:
    world = world_with(node(["fd00::3", node_ip(3)]))
    assert world.tables.nodes["odd"].address == node_ip(3)


@pytest.mark.parametrize("pod_cidr", ["fd00:3::/64", "nonsense", "127.244.3.0/33", "127.244.3.1/32"])
def test_a_pod_range_that_is_none_leaves_a_node_without_pods(pod_cidr: str) -> None:
    world = world_with(node([node_ip(3)], pod_cidr))
    found = world.tables.nodes["odd"]
    assert (found.pod_cidr, found.bridge) == ("", node_ip(3))
    assert world.tables.client(pod_ip(3, 2)).node == ""


@pytest.mark.parametrize(
    ("spec", "status"),
    [({"externalIPs": ["2001:db8::1"]}, "127.0.113.1"), ({}, "2001:db8::1")],
    ids=["externalIP", "load balancer"],
)
def test_addresses_of_ipv6_are_another_proxys(spec: dict[str, Any], status: str) -> None:
    world = World()
    world.service(ingress=status, **spec)
    assert Address(CLUSTER_IP, 80, "TCP") in world.tables.frontends
    assert not [address for address in world.tables.frontends if ":" in address.ip]


def test_g5_addresses_of_ipv6_in_endpoints_are_another_proxys() -> None:
    world = World()
    world.service()
    world.tables.read_endpoints(True)
    world.subsets({"addresses": [{"ip": "2001:db8::1"}, {"ip": pod_ip(1, 2)}], "ports": [{"port": 8080}]})
    endpoints = world.tables.frontends[Address(CLUSTER_IP, 80, "TCP")].port.endpoints
    assert [endpoint.address for endpoint in endpoints] == [pod_ip(1, 2)]
