"""ipvs mode, rule by rule (E1 to E9)."""

import pytest

from emu.core.config import ProxyMode
from emu.core.endpoints import PortEndpoint
from emu.proxy.planning import Plan
from emu.proxy.rules.ipsets import ipset_list, members
from emu.proxy.rules.ipvs import ipvsadm_list
from emu.proxy.rules.ipvs_iptables import ipvs_iptables_rules
from emu.proxy.tables import Address

from .structure import check_iptables
from .world import HTTP, World, everything

WEB = "TCP 10.96.0.9:80 rr"


def choose(world: World) -> tuple[PortEndpoint, Plan]:
    """The endpoint of a connection that a pod of node-1 begins at default/web."""
    world.view()
    frontend = world.tables.frontends[Address("10.96.0.9", 80, "TCP")]
    choice = world.planner.decide(frontend, ("10.244.1.9", 1), world.now)
    assert choice.endpoint is not None
    return choice.endpoint, choice.plan


@pytest.fixture
def world() -> World:
    """default/web at 10.96.0.9:80 with one endpoint on node-1 and one on node-2."""
    world = World()
    world.configure(mode=ProxyMode.IPVS)
    world.service("default/web", "10.96.0.9")
    world.endpoints("default/web", "10.244.1.2", "10.244.2.2", port=8080)
    return world


def servers(world: World, node: str = "node-1") -> dict[str, list[list[str]]]:
    """Real servers by virtual server: address, weight, active, inactive."""
    found: dict[str, list[list[str]]] = {}
    for line in ipvsadm_list(world.view(node)).splitlines()[3:]:
        words = line.split()
        if words[0] == "->":
            assert words[2] == "Masq"
            found[list(found)[-1]].append([words[1], *words[3:]])
        else:
            found[" ".join(words)] = []
    return found


def test_e5_ipvsadm_to_the_letter(world):
    world.service("default/web", "10.96.0.9", sessionAffinity="ClientIP")
    assert ipvsadm_list(world.view()) == (
        "IP Virtual Server version 1.2.1 (size=4096)\n"
        "Prot LocalAddress:Port Scheduler Flags\n"
        "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
        "TCP  10.96.0.9:80 rr persistent 10800\n"
        "  -> 10.244.2.2:8080              Masq    1      0          0         \n"
        "  -> 10.244.1.2:8080              Masq    1      0          0         \n"
    )


def test_e1_a_virtual_server_for_each_address(world):
    ports = {**HTTP, "nodePort": 30080}, {"name": "dns", "port": 53, "protocol": "UDP"}
    world.service(
        "default/web",
        "10.96.0.9",
        *ports,
        ingress=({"ip": "203.0.113.1"},),
        type="LoadBalancer",
        externalIPs=["198.51.100.7"],
    )
    assert list(servers(world)) == [
        "TCP 10.96.0.9:80 rr",
        "TCP 192.168.1.10:30080 rr",
        "TCP 198.51.100.7:80 rr",
        "TCP 203.0.113.1:80 rr",
        "UDP 10.96.0.9:53 rr",
        "UDP 198.51.100.7:53 rr",
        "UDP 203.0.113.1:53 rr",
    ]
    assert "TCP 192.168.1.11:30080 rr" in servers(world, "node-2")


@pytest.mark.parametrize(
    ("scheduler", "flags", "printed"),
    [
        ("lc", (), "lc"),
        ("sh", (), "sh"),
        ("sh", ("sh-port",), "sh (sh-port)"),
        ("mh", (), "mh (mh-port)"),
        ("mh", ("mh-fallback",), "mh (mh-fallback,mh-port)"),
    ],
)
def test_e1_one_scheduler_for_all(world, scheduler, flags, printed):
    world.configure(scheduler=scheduler, scheduler_flags=flags)
    assert list(servers(world)) == [f"TCP 10.96.0.9:80 {printed}"]


def test_e5_counts_are_those_of_the_balancer(world):
    chosen, plan = choose(world)
    plan.balancer.begun(chosen, ("10.244.1.9", 1), 0.0)
    plan.balancer.begun(chosen, ("10.244.1.9", 2), 0.0)
    plan.balancer.ended(chosen, ("10.244.1.9", 2), 1.0)
    listed = servers(world)[WEB]
    assert [server[0] for server in listed] == ["10.244.2.2:8080", "10.244.1.2:8080"]
    counts = {chosen.key: ["1", "1", "1"]}
    assert all(server[1:] == counts.get(server[0], ["1", "0", "0"]) for server in listed)
    # Another node has rules and counts of its own.
    assert all(server[1:] == ["1", "0", "0"] for server in servers(world, "node-2")[WEB])
    world.now = 130.0
    counts = {chosen.key: ["1", "1", "0"]}
    assert all(server[1:] == counts.get(server[0], ["1", "0", "0"]) for server in servers(world)[WEB])


def test_e7_a_real_server_on_its_way_out_has_weight_0(world):
    chosen, plan = choose(world)
    plan.balancer.begun(chosen, ("10.244.1.9", 1), 0.0)
    others = {"10.244.1.2", "10.244.2.2"} - {chosen.address}
    world.endpoints("default/web", *others, port=8080)
    assert sorted(servers(world)[WEB]) == sorted(
        [[chosen.key, "0", "1", "0"], [f"{next(iter(others))}:8080", "1", "0", "0"]]
    )


def test_another_mode_in_force_has_no_counts(world):
    chosen, plan = choose(world)
    plan.balancer.begun(chosen, ("10.244.1.9", 1), 0.0)
    world.configure(mode=ProxyMode.IPTABLES)
    assert all(server[1:] == ["1", "0", "0"] for server in servers(world)[WEB])


@pytest.mark.parametrize(
    ("addresses", "node_ports"),
    [
        ((), ["192.168.1.10"]),
        (("primary",), ["192.168.1.10"]),
        (("0.0.0.0/0",), ["192.168.1.10"]),
        (("192.168.0.0/16", "127.0.0.0/8"), ["192.168.1.10"]),
        (("172.16.0.0/12",), []),
    ],
)
def test_c18_node_port_addresses(world, addresses, node_ports):
    world.configure(node_port_addresses=addresses)
    world.service("default/web", "10.96.0.9", {**HTTP, "nodePort": 30080}, type="NodePort")
    assert list(servers(world)) == [WEB, *(f"TCP {ip}:30080 rr" for ip in node_ports)]
    assert members(world.view())["KUBE-NODE-PORT-TCP"] == ({"30080"} if node_ports else set())


def test_e9_policy_local_without_local_endpoint_has_all_as_real_servers(world):
    port = {**HTTP, "nodePort": 30080}
    world.service("default/web", "10.96.0.9", port, type="NodePort", externalTrafficPolicy="Local")
    world.endpoints("default/web", "10.244.2.2", "10.244.2.3")
    assert len(servers(world)["TCP 192.168.1.10:30080 rr"]) == 2
    world.endpoints("default/web", "10.244.1.2", "10.244.2.3")
    assert [server[0] for server in servers(world)["TCP 192.168.1.10:30080 rr"]] == ["10.244.1.2:80"]


def test_e9_c16_both_policies_local_without_local_endpoint_have_no_real_server(world):
    both = {"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}
    world.service("default/web", "10.96.0.9", {**HTTP, "nodePort": 30080}, type="NodePort", **both)
    world.endpoints("default/web", "10.244.2.2")
    assert servers(world) == {WEB: [], "TCP 192.168.1.10:30080 rr": []}


def test_c16_internal_policy_local_without_local_endpoint_has_no_real_server(world):
    world.service("default/web", "10.96.0.9", internalTrafficPolicy="Local")
    world.endpoints("default/web", "10.244.2.2")
    assert servers(world) == {WEB: []}


def test_e2_who_is_in_which_set():
    found = members(everything().view())
    assert found["KUBE-LOOP-BACK"] >= {"10.244.1.2,tcp:8080,10.244.1.2", "10.244.1.3,udp:53,10.244.1.3"}
    assert not any("10.244.2." in member for member in found["KUBE-LOOP-BACK"])
    assert {"10.96.0.9,tcp:80", "10.96.0.10,udp:53", "10.96.0.13,sctp:80"} < found["KUBE-CLUSTER-IP"]
    assert found["KUBE-EXTERNAL-IP"] == {"198.51.100.8,tcp:80"}
    assert found["KUBE-EXTERNAL-IP-LOCAL"] == {"198.51.100.7,tcp:80", "198.51.100.7,udp:53"}
    assert found["KUBE-LOAD-BALANCER-LOCAL"] == {"203.0.113.1,tcp:80", "203.0.113.1,udp:53"}
    assert found["KUBE-LOAD-BALANCER-FW"] == found["KUBE-LOAD-BALANCER-LOCAL"] | {"203.0.113.2,tcp:80"}
    assert "203.0.113.1,tcp:80,198.51.100.77" in found["KUBE-LOAD-BALANCER-SOURCE-CIDR"]
    assert "203.0.113.1,tcp:80,203.0.113.1" in found["KUBE-LOAD-BALANCER-SOURCE-IP"]
    assert found["KUBE-NODE-PORT-TCP"] == {"30080", "30081", "30090"}
    assert found["KUBE-NODE-PORT-LOCAL-TCP"] == {"30081"}
    assert found["KUBE-NODE-PORT-UDP"] == found["KUBE-NODE-PORT-LOCAL-UDP"] == {"30053"}
    assert found["KUBE-NODE-PORT-SCTP-HASH"] == {"192.168.1.10,sctp:30099"}
    assert found["KUBE-HEALTH-CHECK-NODE-PORT"] == {"32000"}
    assert {"10.96.0.9", "198.51.100.7", "203.0.113.1"} < found["KUBE-IPVS-IPS"]


def test_e1_an_address_of_the_node_is_not_added_to_the_dummy_interface(world):
    world.service("default/web", "10.96.0.9", externalIPs=["192.168.1.10", "192.168.1.11"])
    assert members(world.view())["KUBE-IPVS-IPS"] == {"10.96.0.9", "192.168.1.11"}


def test_e2_ipset_list(world):
    view = world.view()
    text = ipset_list(view, ipvs_iptables_rules(view))
    assert (
        "Name: KUBE-CLUSTER-IP\n"
        "Type: hash:ip,port\n"
        "Header: family inet hashsize 1024 maxelem 65536\n"
        "References: 3\n"
        "Number of entries: 1\n"
        "Members:\n"
        "10.96.0.9,tcp:80\n"
    ) in text
    assert text.count("Name: ") == 17


def test_e8_undefined_ports_are_rejected_by_the_filter_chain(world):
    chains = check_iptables(ipvs_iptables_rules(world.view()), whole=True)["filter"]
    assert [rule.rpartition(" -j ")[2].split()[0] for rule in chains["KUBE-IPVS-FILTER"]] == [
        *["RETURN"] * 5,
        "REJECT",
    ]
    assert "--ctstate NEW -m set --match-set KUBE-IPVS-IPS dst" in chains["KUBE-IPVS-FILTER"][-1]


def test_e2_a_rule_for_a_set_only_while_somebody_is_in_it(world):
    def chain(name: str) -> list[str]:
        return check_iptables(ipvs_iptables_rules(world.view()), whole=True)["nat"][name]

    assert chain("KUBE-NODE-PORT") == []
    world.service("default/web", "10.96.0.9", {**HTTP, "nodePort": 30080}, type="NodePort")
    assert chain("KUBE-NODE-PORT") == [
        '-p tcp -m comment --comment "Kubernetes nodeport TCP port for masquerade purpose" '
        "-m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ"
    ]


@pytest.mark.parametrize(
    ("pod_cidrs", "masquerade_all", "start", "looked_up"),
    [
        (True, False, "! -s 10.244.1.0/24 -m comment", "dst,dst"),
        (True, True, "-m comment", "dst,dst"),
        (False, False, "-m comment", "src,dst"),
    ],
)
def test_c9_what_is_masqueraded_at_cluster_ips(pod_cidrs, masquerade_all, start, looked_up):
    world = World(pod_cidrs=pod_cidrs)
    world.configure(masquerade_all=masquerade_all)
    world.service("default/web", "10.96.0.9")
    rule = check_iptables(ipvs_iptables_rules(world.view()), whole=True)["nat"]["KUBE-SERVICES"][1]
    assert rule.startswith(start)
    assert rule.endswith(f"--match-set KUBE-CLUSTER-IP {looked_up} -j KUBE-MARK-MASQ")


def test_c20_a_node_outside_the_source_ranges_is_kept_from_the_address(world):
    guarded = {"type": "LoadBalancer", "loadBalancerSourceRanges": ["172.16.0.0/12"]}
    world.service("default/web", "10.96.0.9", ingress=({"ip": "203.0.113.1"},), **guarded)
    chains = check_iptables(ipvs_iptables_rules(world.view()), whole=True)["filter"]
    assert chains["KUBE-IPVS-OUT-FILTER"] == [
        "-s 203.0.113.1/32 -m ipvs --vproto 6 --vaddr 203.0.113.1 --vport 80 -j DROP"
    ]


def test_one_service_alone():
    view = everything().view()
    for service in {port.service for port in view.ports}:
        one = view.of_service(service)
        check_iptables(ipvs_iptables_rules(one), whole=False)
        assert "Number of entries: 0" not in ipset_list(one, "")
