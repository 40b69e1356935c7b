"""nftables mode, rule by rule (F1 to F7)."""

import pytest

from emu.proxy.rules.nftables import nftables_rules
from emu.proxy.rules.ruleset import duration

from .structure import check_nftables
from .world import HTTP, World, everything

WEB = "PFISGYVC-default/web/tcp/"


def bodies(world: World, node: str = "node-1") -> dict[str, str]:
    return check_nftables(nftables_rules(world.view(node)))


def rules(world: World, chain: str, node: str = "node-1") -> list[str]:
    return [line.strip() for line in bodies(world, node)[chain].splitlines()]


def elements(world: World, name: str, node: str = "node-1") -> list[str]:
    _, _, found = bodies(world, node)[name].partition("elements = {")
    return [element.strip() for element in found.strip().removesuffix("}").split(",") if element.strip()]


@pytest.fixture
def world() -> World:
    """default/web at 10.96.0.9:80 with one endpoint on node-1 and one on node-2."""
    world = World()
    world.service("default/web", "10.96.0.9")
    world.endpoints("default/web", "10.244.1.2", "10.244.2.2", port=8080)
    return world


def test_f1_the_table_as_a_whole():
    """The text of a cluster with one Service and one endpoint."""
    world = World()
    world.service("ns1/svc1", "10.96.0.41", {"name": "p80", "port": 80, "protocol": "TCP"})
    world.endpoints("ns1/svc1", "10.180.0.1", name="p80")
    text = nftables_rules(world.view())
    assert text.startswith(
        "table ip kube-proxy {\n"
        '\tcomment "rules for kube-proxy"\n'
        "\tset cluster-ips {\n"
        "\t\ttype ipv4_addr\n"
        '\t\tcomment "Active ClusterIPs"\n'
        "\t\telements = { 10.96.0.41 }\n"
        "\t}\n\n"
    )
    assert text.endswith(
        "\tchain endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80 {\n"
        "\t\tip saddr 10.180.0.1 jump mark-for-masquerade\n"
        "\t\tmeta l4proto tcp dnat to 10.180.0.1:80\n"
        "\t}\n\n"
        "\tchain service-ULMVA6XW-ns1/svc1/tcp/p80 {\n"
        "\t\tip daddr 10.96.0.41 ip saddr != 10.244.1.0/24 jump mark-for-masquerade\n"
        "\t\tnumgen random mod 1 vmap { 0 : goto endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80 }\n"
        "\t}\n}\n"
    )


def test_f1_maps_and_sets(world):
    assert {name for name in bodies(world) if "chain" not in name and "type ipv4" in bodies(world)[name]} == {
        "cluster-ips",
        "nodeport-ips",
        "no-endpoint-services",
        "firewall-ips",
        "service-ips",
    }
    assert elements(world, "service-ips") == [f"10.96.0.9 . tcp . 80 : goto service-{WEB}"]
    assert elements(world, "nodeport-ips") == ["192.168.1.10"]
    assert elements(world, "nodeport-ips", "node-2") == ["192.168.1.11"]


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ("services", ["service-ips", "service-nodeports"]),
        ("service-endpoints-check", ["no-endpoint-services"]),
        ("nodeport-endpoints-check", ["no-endpoint-nodeports"]),
        ("firewall-check", ["firewall-ips"]),
    ],
)
def test_f2_helper_chains_look_up_one_map_each(world, chain, expected):
    assert [rule.rpartition("vmap @")[2] for rule in rules(world, chain)] == expected


def test_f2_base_chains_lead_to_the_helpers(world):
    leads = {
        name: [line.partition("jump ")[2] for line in rules(world, name)[1:]]
        for name, body in bodies(world).items()
        if "hook" in body
    }
    assert leads == {
        "filter-prerouting-pre-dnat": ["firewall-check"],
        "filter-output-pre-dnat": ["firewall-check"],
        "filter-forward": ["service-endpoints-check", "cluster-ips-check"],
        "filter-input": ["nodeport-endpoints-check", "service-endpoints-check"],
        "filter-output": ["service-endpoints-check", "cluster-ips-check"],
        "nat-prerouting": ["services"],
        "nat-output": ["services"],
        "nat-postrouting": ["masquerading"],
    }


def test_f3_uniform_choice(world):
    choice = rules(world, f"service-{WEB}")[-1]
    assert choice.startswith("numgen random mod 2 vmap { 0 : goto endpoint-")
    assert choice.count("goto endpoint-") == 2


@pytest.mark.parametrize(
    ("seconds", "printed"), [(10800, "3h"), (86400, "1d"), (90061, "1d1h1m1s"), (30, "30s"), (1, "1s")]
)
def test_f1_timeouts(seconds, printed):
    assert duration(seconds) == printed


def test_f1_affinity_sets(world):
    world.service("default/web", "10.96.0.9", sessionAffinity="ClientIP")
    found = bodies(world)
    sets = [name for name in found if name.startswith("affinity-")]
    assert len(sets) == 2
    for name in sets:
        assert "flags dynamic,timeout\n\t\ttimeout 3h" in found[name]
        chain = name.replace("affinity-", "endpoint-")
        assert f"update @{name} {{ ip saddr }}" in found[chain]
        assert f"ip saddr @{name} goto {chain}" in found[f"service-{WEB}"]
    remembered, chosen = (found[f"service-{WEB}"].index(word) for word in ("@affinity", "numgen"))
    assert remembered < chosen


def test_c3_no_endpoints_refuse_every_way_in():
    world = World()
    port = {**HTTP, "nodePort": 30080}
    ingress = ({"ip": "203.0.113.1"},)
    world.service("default/web", "10.96.0.9", port, ingress=ingress, type="LoadBalancer")
    refused = 'comment "default/web" : goto reject-chain'
    assert elements(world, "no-endpoint-services") == [
        f"203.0.113.1 . tcp . 80 {refused}",
        f"10.96.0.9 . tcp . 80 {refused}",
    ]
    assert elements(world, "no-endpoint-nodeports") == [f"tcp . 30080 {refused}"]
    assert elements(world, "service-ips") == elements(world, "service-nodeports") == []
    assert elements(world, "cluster-ips") == ["10.96.0.9"]


def test_c4_no_local_endpoints_drop():
    world = World()
    world.service("default/web", "10.96.0.9", internalTrafficPolicy="Local")
    world.endpoints("default/web", "10.244.2.2")
    assert elements(world, "no-endpoint-services") == ['10.96.0.9 . tcp . 80 comment "default/web" : drop']
    assert elements(world, "service-ips", "node-2") == [f"10.96.0.9 . tcp . 80 : goto local-{WEB}"]


@pytest.mark.parametrize("node", ["node-1", "node-2"])
def test_c17_policy_local_has_short_cuts(node):
    world = World()
    port = {**HTTP, "nodePort": 30080}
    world.service("default/web", "10.96.0.9", port, type="NodePort", externalTrafficPolicy="Local")
    world.endpoints("default/web", "10.244.2.2")
    number = node[-1]
    expected = [
        f'ip saddr 10.244.{number}.0/24 goto service-{WEB} comment "short-circuit pod traffic"',
        'fib saddr type local jump mark-for-masquerade comment "masquerade local traffic"',
        f'fib saddr type local goto service-{WEB} comment "short-circuit local traffic"',
    ]
    local = [f"goto local-{WEB}"] if node == "node-2" else []
    assert rules(world, f"external-{WEB}", node) == [*expected, *local]
    dropped = [] if node == "node-2" else ['tcp . 30080 comment "default/web" : drop']
    assert elements(world, "no-endpoint-nodeports", node) == dropped
    assert elements(world, "service-nodeports", node) == [f"tcp . 30080 : goto external-{WEB}"]


def test_c14_policy_cluster_is_always_masqueraded(world):
    world.service("default/web", "10.96.0.9", {**HTTP, "nodePort": 30080}, type="NodePort")
    assert rules(world, f"external-{WEB}") == ["jump mark-for-masquerade", f"goto service-{WEB}"]


@pytest.mark.parametrize(
    ("ranges", "allowed"),
    [
        (["172.16.0.0/12"], "172.16.0.0/12"),
        ([" 172.16.5.5/12"], "172.16.0.0/12"),
        (["172.16.0.0/12", "10.0.0.0/8"], "{ 10.0.0.0/8, 172.16.0.0/12 }"),
        (["192.168.0.0/16"], "{ 192.168.0.0/16, 203.0.113.1 }"),
        (["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"], "10.0.0.0/8"),
    ],
)
def test_c20_source_ranges(world, ranges, allowed):
    ingress = ({"ip": "203.0.113.1"},)
    guarded = {"type": "LoadBalancer", "loadBalancerSourceRanges": ranges}
    world.service("default/web", "10.96.0.9", ingress=ingress, **guarded)
    assert rules(world, f"firewall-{WEB}") == [f"ip saddr != {allowed} drop"]
    assert elements(world, "firewall-ips") == [f"203.0.113.1 . tcp . 80 : goto firewall-{WEB}"]


def test_f5_f6_what_no_service_has(world):
    assert rules(world, "cluster-ips-check") == [
        'ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"',
        'ip daddr 10.96.0.0/12 drop comment "Drop traffic to unallocated ClusterIPs"',
    ]


def test_f7_no_localhost_node_ports(world):
    world.service("default/web", "10.96.0.9", {**HTTP, "nodePort": 30080}, type="NodePort")
    assert "127.0.0" not in nftables_rules(world.view())


@pytest.mark.parametrize(
    ("addresses", "ips"),
    [
        ((), ["192.168.1.10"]),
        (("primary",), ["192.168.1.10"]),
        (("192.168.0.0/16", "127.0.0.0/8"), ["192.168.1.10"]),
        (("172.16.0.0/12",), []),
    ],
)
def test_c18_node_port_addresses(world, addresses, ips):
    world.configure(node_port_addresses=addresses)
    assert elements(world, "nodeport-ips") == ips


def test_c18_node_ports_at_every_address(world):
    world.configure(node_port_addresses=("0.0.0.0/0",))
    to_any = "ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap"
    assert "nodeport-ips" not in bodies(world)
    assert rules(world, "nodeport-endpoints-check") == [f"{to_any} @no-endpoint-nodeports"]
    assert rules(world, "services")[1] == f"fib daddr type local {to_any} @service-nodeports"


def test_c8_masquerade_all(world):
    world.configure(masquerade_all=True)
    assert rules(world, f"service-{WEB}")[0] == "ip daddr 10.96.0.9 jump mark-for-masquerade"


def test_one_service_alone():
    view = everything().view()
    for service in {port.service for port in view.ports}:
        found = check_nftables(nftables_rules(view.of_service(service)))
        assert all(service in name for name in found if "/" in name)
        assert "cluster-ips" in found
        assert "masquerading" not in found


def test_every_kind_of_service_is_sound():
    found = check_nftables(nftables_rules(everything().view()))
    assert {name.partition("-")[0] for name in found if "/" in name} == {
        "service",
        "local",
        "external",
        "firewall",
        "endpoint",
        "affinity",
    }
