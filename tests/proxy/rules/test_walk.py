"""How many rules a new connection is compared with in iptables mode: counted here along the printed text."""

import re
from itertools import pairwise

import pytest

from emu.proxy.rules.iptables import iptables_rules
from emu.proxy.rules.view import View
from emu.proxy.rules.walk import walk_table, walks

from .structure import check_iptables
from .world import HTTP, World, everything


def count(view: View, ip: str, port: int, protocol: str, source: str) -> float:
    """Follow a packet through the text; where chance decides, take the mean of all ways."""
    chains = check_iptables(iptables_rules(view), whole=True)["nat"]
    walked = 1
    chain = "KUBE-SERVICES"
    while chain:
        following = ""
        for number, rule in enumerate(chains[chain], 1):
            if "--probability" in rule or (" -> " in rule and "recent" not in rule):
                choices = len(chains[chain]) - number + 1
                return walked + number - 1 + (choices + 1) / 2 + 2
            if matches(rule, ip, port, protocol, source, view):
                target = re.findall(r"-j (\S+)", rule)[-1]
                if target == "KUBE-MARK-MASQ":
                    walked += 1
                    continue
                following, walked = target, walked + number
                break
        chain = following
    raise AssertionError(f"{ip}:{port}/{protocol} leads nowhere")


def matches(rule: str, ip: str, port: int, protocol: str, source: str, view: View) -> bool:
    if "recent" in rule or "--src-type LOCAL" in rule:
        return False
    if "--dst-type LOCAL" in rule:
        return ip == view.node.address
    checks = [
        (r"(?:^| )-d (\S+)/32", ip),
        (r"-p (\S+)", protocol),
        (r"--dport (\d+)", str(port)),
    ]
    for pattern, value in checks:
        found = re.search(pattern, rule)
        if found and found[1] != value:
            return False
    sources = re.search(r"(! )?-s ([\d.]+)\.0/24", rule)
    if sources is None:
        return True
    return source.startswith(f"{sources[2]}.") != bool(sources[1])


@pytest.mark.parametrize("node", ["node-1", "node-2"])
@pytest.mark.parametrize("pod_cidrs", [True, False])
def test_the_counts_are_those_of_the_text(node, pod_cidrs):
    world = World(pod_cidrs=pod_cidrs)
    affinity = {"type": "NodePort", "sessionAffinity": "ClientIP"}
    world.service("default/a", "10.96.0.9", {**HTTP, "nodePort": 30080}, **affinity)
    world.endpoints("default/a", "10.244.1.2", "10.244.2.2", "10.244.2.3")
    world.service("default/b", "10.96.0.10", externalIPs=["198.51.100.7"], externalTrafficPolicy="Local")
    world.endpoints("default/b", "10.244.1.2", "10.244.1.3", "10.244.2.2")
    world.service("default/c", "10.96.0.11", internalTrafficPolicy="Local")
    world.endpoints("default/c", "10.244.1.2", "10.244.2.2")
    port = {"port": 53, "protocol": "UDP", "nodePort": 30053}
    world.service("default/d", "10.96.0.12", port, ingress=({"ip": "203.0.113.1"},), type="LoadBalancer")
    world.endpoints("default/d", "10.244.1.2", "10.244.2.2", protocol="UDP")
    guarded = {"type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24"]}
    world.service("default/e", "10.96.0.13", ingress=({"ip": "203.0.113.2"},), **guarded)
    world.endpoints("default/e", "10.244.1.2")
    view = world.view(node)
    found = list(walks(view))
    assert len(found) == 10
    for walk in found:
        address, _, protocol = walk.address.partition("/")
        ip, _, number = address.partition(":")
        source = f"10.244.{node[-1]}.9" if ip.startswith("10.96.") else "198.51.100.99"
        assert count(view, ip, int(number), protocol, source) == walk.rules, walk


def test_the_cost_grows_with_the_services_before_it():
    world = World()
    for number in range(100):
        world.service(f"default/s{number:03}", f"10.96.1.{number}")
        world.endpoints(f"default/s{number:03}", "10.244.1.2")
    rules = [walk.rules for walk in walks(world.view())]
    assert [after - before for before, after in pairwise(rules)] == [1.0] * 99


def test_addresses_that_lead_to_no_endpoint_have_no_walk():
    found = {walk.address for walk in walks(everything().view())}
    assert not any(address.startswith(("10.96.0.11:", "10.96.0.12:", "203.0.113.3:")) for address in found)
    assert "192.168.1.10:30081/tcp" not in found
    assert "192.168.1.10:30053/udp" in found


def test_table_of_one_service():
    where, header, *rows = walk_table(everything().view(), "default/web").splitlines()
    assert where == ("# rules that a new connection is compared with on node-1 (192.168.1.10), iptables mode")
    assert header.split() == ["SERVICE", "PORT", "ADDRESS", "RULES"]
    assert [row.split()[0] for row in rows] == ["default/web"] * 2


def test_table_without_a_walk():
    where = "on node-1 (192.168.1.10), iptables mode\n"
    of_empty = walk_table(everything().view(), "default/empty")
    assert of_empty == f"# no rule of the nat table leads to an endpoint of default/empty {where}"
    assert walk_table(World().view()) == (
        f"# no rule of the nat table leads to an endpoint of any Service {where}"
    )
