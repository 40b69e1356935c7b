"""iptables mode, rule by rule (D1 to D8)."""

import pytest

from emu.proxy.rules.iptables import iptables_rules
from emu.proxy.rules.view import LARGE_CLUSTER_ENDPOINTS
from emu.proxy.rules.xtables import probability

from .structure import check_iptables
from .world import HTTP, World, everything

NOTE = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"
WEB = "LOLE4ISW44XBNF3G"


def tables(world: World, node: str = "node-1"):
    return check_iptables(iptables_rules(world.view(node)), whole=True)


def nat(world: World, node: str = "node-1"):
    return tables(world, node)["nat"]


def filtered(world: World, node: str = "node-1"):
    return tables(world, node)["filter"]


@pytest.fixture
def world() -> World:
    """default/web at 10.96.0.9:80 with one endpoint on node-1 and two on node-2."""
    world = World()
    world.service("default/web", "10.96.0.9")
    world.endpoints("default/web", "10.244.1.2", "10.244.2.2", "10.244.2.3", port=8080)
    return world


def test_d7_the_nat_table_of_a_service_with_three_endpoints(world):
    chains = nat(world)
    to_web = '-p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80'
    assert chains["KUBE-SERVICES"] == [
        f"-d 10.96.0.9/32 {to_web} -j KUBE-SVC-{WEB}",
        f'-m comment --comment "{NOTE}" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
    ]
    mark, *choices = chains[f"KUBE-SVC-{WEB}"]
    assert mark == f"! -s 10.244.1.0/24 -d 10.96.0.9/32 {to_web} -j KUBE-MARK-MASQ"
    targets = [choice.rpartition(" ")[2] for choice in choices]
    assert [choice.rpartition(" -j ")[0] for choice in choices] == [
        '-m comment --comment "default/web -> 10.244.1.2:8080" '
        "-m statistic --mode random --probability 0.33333333349",
        '-m comment --comment "default/web -> 10.244.2.2:8080" '
        "-m statistic --mode random --probability 0.50000000000",
        '-m comment --comment "default/web -> 10.244.2.3:8080"',
    ]
    assert chains[targets[0]] == [
        '-s 10.244.1.2/32 -m comment --comment "default/web" -j KUBE-MARK-MASQ',
        '-p tcp -m comment --comment "default/web" -m tcp -j DNAT --to-destination 10.244.1.2:8080',
    ]
    assert not any(name.startswith("KUBE-EXT-") for name in chains)


def test_d1_where_the_nat_table_is_entered_and_how_it_masquerades(world):
    chains = nat(world)
    portals = '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
    assert chains["PREROUTING"] == chains["OUTPUT"] == [portals]
    assert chains["KUBE-MARK-MASQ"] == ["-j MARK --set-xmark 0x4000/0x4000"]
    assert chains["KUBE-POSTROUTING"] == [
        "-m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-j MARK --set-xmark 0x4000/0x0",
        '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
    ]


def test_d2_the_chains_of_the_filter_table(world):
    chains = filtered(world)
    jumps = {name: [rule.rpartition(" ")[2] for rule in chains[name]] for name in chains}
    assert jumps["INPUT"] == [
        "KUBE-FIREWALL",
        "KUBE-PROXY-FIREWALL",
        "KUBE-NODEPORTS",
        "KUBE-EXTERNAL-SERVICES",
    ]
    assert jumps["FORWARD"] == [
        "KUBE-PROXY-FIREWALL",
        "KUBE-FORWARD",
        "KUBE-SERVICES",
        "KUBE-EXTERNAL-SERVICES",
    ]
    assert jumps["OUTPUT"] == ["KUBE-FIREWALL", "KUBE-PROXY-FIREWALL", "KUBE-SERVICES"]
    assert jumps["KUBE-FORWARD"] == ["DROP", "ACCEPT", "ACCEPT"]
    assert chains["KUBE-FORWARD"][0] == "-m conntrack --ctstate INVALID -j DROP"


def test_d2_every_table_has_the_canary(world):
    assert all("KUBE-PROXY-CANARY" in chains for chains in tables(world).values())


@pytest.mark.parametrize(
    ("candidates", "printed"),
    [(2, "0.50000000000"), (3, "0.33333333349"), (4, "0.25000000000"), (7, "0.14285714272")],
)
def test_d4_probabilities_as_the_kernel_rounds_them(candidates, printed):
    assert probability(candidates).endswith(f" {printed}")


def test_d5_no_endpoints_refuse_every_way_in():
    world = World()
    world.service(
        "default/web",
        "10.96.0.9",
        {**HTTP, "nodePort": 30080},
        ingress=({"ip": "203.0.113.1"},),
        type="LoadBalancer",
        externalIPs=["198.51.100.7"],
    )
    chains = filtered(world)
    why = '-m comment --comment "default/web has no endpoints"'
    reject = "-j REJECT --reject-with icmp-port-unreachable"
    to_port = f"-p tcp {why} -m tcp --dport 80 {reject}"
    assert chains["KUBE-SERVICES"] == [f"-d 10.96.0.9/32 {to_port}"]
    assert chains["KUBE-EXTERNAL-SERVICES"] == [
        f"-d 198.51.100.7/32 {to_port}",
        f"-d 203.0.113.1/32 {to_port}",
        f"-p tcp {why} -m addrtype --dst-type LOCAL -m tcp --dport 30080 {reject}",
    ]
    assert len(nat(world)["KUBE-SERVICES"]) == 1


def test_d5_no_local_endpoints_drop_the_cluster_ip_under_internal_policy_local():
    world = World()
    world.service("default/web", "10.96.0.9", internalTrafficPolicy="Local")
    world.endpoints("default/web", "10.244.2.2")
    (rule,) = filtered(world)["KUBE-SERVICES"]
    assert '"default/web has no local endpoints"' in rule
    assert rule.endswith("-j DROP")
    assert f"KUBE-SVL-{WEB}" not in nat(world)
    assert filtered(world, "node-2")["KUBE-SERVICES"] == []
    chains = nat(world, "node-2")
    assert f"KUBE-SVC-{WEB}" not in chains
    assert chains["KUBE-SERVICES"][0].endswith(f"-j KUBE-SVL-{WEB}")
    assert [rule.split(" -j ")[1][:8] for rule in chains[f"KUBE-SVL-{WEB}"]] == ["KUBE-MAR", "KUBE-SEP"]


def test_d7_node_port_and_external_chain_under_policy_cluster(world):
    world.service("default/web", "10.96.0.9", {**HTTP, "nodePort": 30080}, type="NodePort")
    chains = nat(world)
    assert chains["KUBE-NODEPORTS"] == [
        f'-p tcp -m comment --comment "default/web" -m tcp --dport 30080 -j KUBE-EXT-{WEB}'
    ]
    assert chains[f"KUBE-EXT-{WEB}"] == [
        '-m comment --comment "masquerade traffic for default/web external destinations" -j KUBE-MARK-MASQ',
        f"-j KUBE-SVC-{WEB}",
    ]


@pytest.mark.parametrize("pod_cidrs", [True, False])
def test_d7_external_chain_under_policy_local(pod_cidrs):
    """Pods of the node and the node itself take a short cut to all endpoints, others stay on the node."""
    world = World(pod_cidrs=pod_cidrs)
    port = {**HTTP, "nodePort": 30080}
    world.service("default/web", "10.96.0.9", port, type="NodePort", externalTrafficPolicy="Local")
    world.endpoints("default/web", "10.244.2.2")
    of = "default/web external destinations"
    short_cuts = [
        f'-m comment --comment "masquerade LOCAL traffic for {of}" -m addrtype --src-type LOCAL '
        "-j KUBE-MARK-MASQ",
        f'-m comment --comment "route LOCAL traffic for {of}" -m addrtype --src-type LOCAL -j KUBE-SVC-{WEB}',
    ]
    pods = [f'-s 10.244.1.0/24 -m comment --comment "pod traffic for {of}" -j KUBE-SVC-{WEB}']
    assert nat(world)[f"KUBE-EXT-{WEB}"] == [*(pods if pod_cidrs else []), *short_cuts]
    assert filtered(world)["KUBE-EXTERNAL-SERVICES"] == [
        '-p tcp -m comment --comment "default/web has no local endpoints" '
        "-m addrtype --dst-type LOCAL -m tcp --dport 30080 -j DROP"
    ]
    assert nat(world, "node-2")[f"KUBE-EXT-{WEB}"][-1] == f"-j KUBE-SVL-{WEB}"
    assert filtered(world, "node-2")["KUBE-EXTERNAL-SERVICES"] == []


def test_d1_source_ranges_have_a_firewall_chain():
    world = World()
    world.service(
        "default/web",
        "10.96.0.9",
        ingress=({"ip": "203.0.113.1"},),
        type="LoadBalancer",
        loadBalancerSourceRanges=["172.16.0.0/12", " 192.168.0.0/16", "0.0.0.0/0"],
    )
    world.endpoints("default/web", "10.244.1.2")
    why = '-m comment --comment "default/web loadbalancer IP"'
    assert nat(world)["KUBE-SERVICES"][1] == (
        f"-d 203.0.113.1/32 -p tcp {why} -m tcp --dport 80 -j KUBE-FW-{WEB}"
    )
    assert nat(world)[f"KUBE-FW-{WEB}"] == [
        f"-s 172.16.0.0/12 {why} -j KUBE-EXT-{WEB}",
        f"-s 192.168.0.0/16 {why} -j KUBE-EXT-{WEB}",
        f"{why} -j KUBE-EXT-{WEB}",
        # The node is in a range, so what it sends from the address itself is let through.
        f"-s 203.0.113.1/32 {why} -j KUBE-EXT-{WEB}",
        '-m comment --comment "other traffic to default/web will be dropped by KUBE-PROXY-FIREWALL"',
    ]
    assert filtered(world)["KUBE-PROXY-FIREWALL"] == [
        f'-d 203.0.113.1/32 -p tcp -m comment --comment "default/web traffic not accepted by KUBE-FW-{WEB}" '
        "-m tcp --dport 80 -j DROP"
    ]


def test_c19_an_ingress_of_ip_mode_proxy_has_no_rule(world):
    ingress = ({"ip": "203.0.113.1", "ipMode": "Proxy"}, {"hostname": "lb.example"})
    world.service("default/web", "10.96.0.9", ingress=ingress, type="LoadBalancer")
    assert "203.0.113.1" not in iptables_rules(world.view())


def test_addresses_of_the_other_family_have_no_rule(world):
    world.service(
        "default/web",
        "10.96.0.9",
        ingress=({"ip": "fd00::1"}, {"ip": "203.0.113.1"}),
        type="LoadBalancer",
        externalIPs=["fd00::2", "198.51.100.7"],
    )
    found = [rule.split()[1] for rule in nat(world)["KUBE-SERVICES"][:-1]]
    assert found == ["10.96.0.9/32", "198.51.100.7/32", "203.0.113.1/32"]


def test_d2_health_check_node_port_is_let_in(world):
    ingress = ({"ip": "203.0.113.1"},)
    local = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 32000}
    world.service("default/web", "10.96.0.9", ingress=ingress, type="LoadBalancer", **local)
    assert filtered(world)["KUBE-NODEPORTS"] == [
        '-p tcp -m comment --comment "default/web health check node port" -m tcp --dport 32000 -j ACCEPT'
    ]


def test_d6_affinity_comes_before_chance(world):
    world.service("default/web", "10.96.0.9", sessionAffinity="ClientIP")
    chains = nat(world)
    rules = chains[f"KUBE-SVC-{WEB}"][1:]
    assert ["statistic" in rule or "recent" not in rule for rule in rules] == [False] * 3 + [True] * 3
    first = rules[0].rpartition(" ")[2]
    assert (
        f"-m recent --rcheck --seconds 10800 --reap --name {first} --mask 255.255.255.255 --rsource"
        in rules[0]
    )
    assert f"-m recent --set --name {first} --mask 255.255.255.255 --rsource -m tcp" in chains[first][1]


def test_c9_masquerade_all_marks_everything_for_the_cluster_ip(world):
    world.configure(masquerade_all=True)
    assert nat(world)[f"KUBE-SVC-{WEB}"][0].startswith("-d 10.96.0.9/32 -p tcp")


@pytest.mark.parametrize("pod_cidrs", [True, False])
def test_c9_without_a_detector_nothing_is_marked_at_the_cluster_ip(pod_cidrs):
    world = World(pod_cidrs=pod_cidrs)
    world.configure(detects_local=not pod_cidrs)
    world.service("default/web", "10.96.0.9")
    world.endpoints("default/web", "10.244.1.2")
    assert len(nat(world)[f"KUBE-SVC-{WEB}"]) == 1


def test_c18_localhost_node_ports(world):
    assert "block incoming localnet connections" in filtered(world)["KUBE-FIREWALL"][0]
    world.configure(localhost_node_ports=False)
    assert filtered(world)["KUBE-FIREWALL"] == []
    assert nat(world)["KUBE-SERVICES"][-1].startswith("! -d 127.0.0.0/8 -m comment")


@pytest.mark.parametrize(
    ("addresses", "localhost", "last"),
    [
        ((), True, [" -m addrtype --dst-type LOCAL"]),
        (("0.0.0.0/0",), True, [" -m addrtype --dst-type LOCAL"]),
        (("fd00::/8",), False, ["! -d 127.0.0.0/8  -m addrtype --dst-type LOCAL"]),
        (("primary",), True, ["-d 192.168.1.10/32 "]),
        (("192.168.0.0/16", "127.0.0.0/8"), True, ["-d 127.0.0.1/32 ", "-d 192.168.1.10/32 "]),
        (("192.168.0.0/16", "127.0.0.0/8"), False, ["-d 192.168.1.10/32 "]),
        (("172.16.0.0/12",), True, []),
    ],
)
def test_c18_node_port_addresses(world, addresses, localhost, last):
    world.configure(node_port_addresses=addresses, localhost_node_ports=localhost)
    rules = nat(world)["KUBE-SERVICES"][1:]
    note = f'-m comment --comment "{NOTE}"'
    assert [rule.replace(note, "").removesuffix(" -j KUBE-NODEPORTS") for rule in rules] == last
    reached = localhost and (addresses in ((), ("0.0.0.0/0",)) or "127.0.0.0/8" in addresses)
    assert bool(filtered(world)["KUBE-FIREWALL"]) == reached


def test_d5_a_large_cluster_drops_the_comments_that_repeat():
    world = World()
    world.service("default/web", "10.96.0.9")
    world.endpoints("default/web", "10.244.1.2")
    world.service("default/big", "10.96.0.10")
    addresses = [f"10.244.{1 + n // 250}.{n % 250 + 2}" for n in range(LARGE_CLUSTER_ENDPOINTS)]
    world.endpoints("default/big", *({"addresses": [address]} for address in addresses))
    text = iptables_rules(world.view())
    check_iptables(text, whole=True)
    assert " -> " not in text
    assert f"-A KUBE-SVC-{WEB} -j KUBE-SEP-" in text
    assert '"default/web cluster IP"' in text
    one = iptables_rules(world.view().of_service("default/web"))
    assert " -> " not in one


def test_c13_a_service_whose_endpoints_all_terminate_goes_on_with_them(world):
    terminating = {"ready": False, "serving": True, "terminating": True}
    world.endpoints("default/web", {"addresses": ["10.244.1.2"], "conditions": terminating}, port=8080)
    assert sum("DNAT" in rule for rules in nat(world).values() for rule in rules) == 1


def test_c21_topology_hints_choose_the_endpoints_of_the_chain(world):
    near, far = ({"addresses": [f"10.244.{n}.2"], "hints": {"forZones": [{"name": f"z{n}"}]}} for n in (1, 2))
    world.endpoints("default/web", near, far, port=8080)
    for number in (1, 2):
        (rule,) = nat(world, f"node-{number}")[f"KUBE-SVC-{WEB}"][1:]
        assert f"-> 10.244.{number}.2:8080" in rule


def test_one_service_alone():
    view = everything().view()
    for service in {port.service for port in view.ports}:
        text = iptables_rules(view.of_service(service))
        tables = check_iptables(text, whole=False)
        comments = [line for line in text.splitlines() if "--comment" in line and NOTE not in line]
        assert comments
        assert all(service in line for line in comments)
        assert "KUBE-POSTROUTING" not in tables.get("nat", {})


def test_every_kind_of_service_is_sound():
    view = everything().view()
    tables = check_iptables(iptables_rules(view), whole=True)
    assert list(tables) == ["mangle", "filter", "nat"]
    assert tables["nat"]["KUBE-SERVICES"][-1].endswith("-j KUBE-NODEPORTS")
