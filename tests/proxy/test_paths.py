"""The table of ways in: which endpoints may be used, and whose address the pod sees."""

from __future__ import annotations

import pytest

from emu.core.config import ProxyMode
from emu.proxy.paths import OUTSIDE, Client, ClientKind, Policies, Route, Way, route

POD = Client(ClientKind.POD, "n1")
NODE = Client(ClientKind.NODE, "n1")
REMOTE_POD = Client(ClientKind.POD, "n2")
REMOTE_NODE = Client(ClientKind.NODE, "n2")
ALL, LOCAL = False, True
KEPT, MASQUERADED = False, True


@pytest.mark.parametrize("mode", [ProxyMode.IPTABLES, ProxyMode.NFTABLES])
@pytest.mark.parametrize(
    ("way", "client", "internal_local", "external_local", "expected"),
    [
        (Way.CLUSTER_IP, POD, False, False, (ALL, KEPT)),
        (Way.CLUSTER_IP, POD, True, False, (LOCAL, KEPT)),
        (Way.CLUSTER_IP, POD, False, True, (ALL, KEPT)),
        (Way.CLUSTER_IP, NODE, False, False, (ALL, KEPT)),
        (Way.CLUSTER_IP, NODE, True, False, (LOCAL, KEPT)),
        (Way.CLUSTER_IP, OUTSIDE, False, False, (ALL, KEPT)),
        *(
            row
            for way in (Way.NODE_PORT, Way.LOAD_BALANCER, Way.EXTERNAL_IP)
            for row in (
                (way, OUTSIDE, False, False, (ALL, MASQUERADED)),
                (way, OUTSIDE, True, False, (ALL, MASQUERADED)),
                (way, OUTSIDE, False, True, (LOCAL, KEPT)),
                (way, POD, False, False, (ALL, MASQUERADED)),
                (way, POD, False, True, (ALL, KEPT)),
                (way, NODE, False, False, (ALL, MASQUERADED)),
                (way, NODE, False, True, (ALL, MASQUERADED)),
            )
        ),
        (Way.NODE_PORT, REMOTE_POD, False, True, (LOCAL, KEPT)),
        (Way.NODE_PORT, REMOTE_NODE, False, True, (LOCAL, KEPT)),
    ],
)
def test_ways_in(
    mode: ProxyMode,
    way: Way,
    client: Client,
    internal_local: bool,
    external_local: bool,
    expected: tuple[bool, bool],
) -> None:
    policies = Policies(mode, internal_local, external_local)
    assert route(way, client, "n1", policies)[:2] == expected


def test_masquerade_all_is_for_cluster_ips() -> None:
    policies = Policies(ProxyMode.IPTABLES, masquerade_all=True)
    assert route(Way.CLUSTER_IP, POD, "n1", policies).masquerade


def test_c16_ipvs_has_no_drop_at_a_cluster_ip() -> None:
    policies = Policies(ProxyMode.IPVS, internal_local=True)
    assert route(Way.CLUSTER_IP, POD, "n1", policies) == Route(LOCAL, KEPT, refuse=True)


@pytest.mark.parametrize("way", [Way.NODE_PORT, Way.LOAD_BALANCER, Way.EXTERNAL_IP])
def test_e9_ipvs_has_no_short_cut_but_spills_for_clients_of_the_node(way: Way) -> None:
    policies = Policies(ProxyMode.IPVS, external_local=True)
    for client in (POD, NODE):
        assert route(way, client, "n1", policies) == Route(LOCAL, KEPT, spills=True)
    for client in (REMOTE_POD, REMOTE_NODE, OUTSIDE):
        assert route(way, client, "n1", policies) == Route(LOCAL, KEPT)
    both = Policies(ProxyMode.IPVS, internal_local=True, external_local=True)
    assert route(way, POD, "n1", both) == Route(LOCAL, KEPT, refuse=True)


@pytest.mark.parametrize("way", list(Way))
def test_userspace_knows_no_policies_and_shows_the_node(way: Way) -> None:
    policies = Policies(ProxyMode.USERSPACE, internal_local=True, external_local=True)
    assert route(way, POD, "n1", policies) == Route(ALL, MASQUERADED, refuse=True)
