"""The numbers of rules against the text: what is counted is what is printed, in every world."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from emu.core.config import ProxyMode
from emu.proxy.configuration import PRIMARY
from emu.proxy.counters import RuleCounts
from emu.proxy.rule_tally import RuleTally
from emu.proxy.rules.iptables import iptables_rules
from emu.proxy.rules.view import View
from emu.proxy.tables import Changes

from .structure import check_iptables
from .world import World, everything

SHARED = {"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"}
POLICIES = ("Cluster", "Local")


def printed(view: View) -> tuple[int, int, int]:
    """Rules of the filter table, of the shared chains of the nat table, and of the Services' own there.

    The jumps from built-in chains do not count: upstream makes them by themselves.
    """
    tables = check_iptables(iptables_rules(view), whole=True)
    sizes = {
        name: {chain: len(rules) for chain, rules in chains.items() if chain.startswith("KUBE-")}
        for name, chains in tables.items()
    }
    shared = sum(size for chain, size in sizes["nat"].items() if chain in SHARED)
    return sum(sizes["filter"].values()), shared, sum(sizes["nat"].values()) - shared


class Follower:
    """A world and the tally that follows it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tally = RuleTally(world.tables, lambda: world.planner.configuration)

    def counts(self) -> RuleCounts:
        """After a synchronization."""
        changes = self.world.tables.take_changes()
        self.world.planner.changed(changes.addresses, changes.ports)
        self.tally.changed(changes)
        return self.counted()

    def configured(self, **changes: Any) -> RuleCounts:
        """After another configuration."""
        self.world.configure(**changes)
        self.tally.changed(Changes(set(), {}))
        return self.counted()

    def counted(self) -> RuleCounts:
        for _ in self.tally.catch_up():
            pass
        return self.tally.counts()


def expected(world: World) -> dict[str, int]:
    filter_, shared, own = printed(world.view())
    return {"filter": filter_, "nat": shared + own}


def random_configuration(random: Random) -> dict[str, Any]:
    return {
        "masquerade_all": random.random() < 0.3,
        "detects_local": random.random() < 0.7,
        "localhost_node_ports": random.random() < 0.7,
        "node_port_addresses": random.choice(
            [(), (PRIMARY,), ("192.168.0.0/16", "127.0.0.0/8"), ("fd00::/8",)]
        ),
    }


def random_service(world: World, random: Random, number: int) -> None:
    kind = random.choice(["ClusterIP", "NodePort", "LoadBalancer"])
    spec: dict[str, Any] = {"type": kind, "internalTrafficPolicy": random.choice(POLICIES)}
    ports = [{"name": name, "port": port, "protocol": "TCP"} for name, port in (("a", 80), ("b", 81))]
    if kind != "ClusterIP":
        spec["externalTrafficPolicy"] = random.choice(POLICIES)
        for index, port in enumerate(ports):
            port["nodePort"] = random.choice([0, 30000 + 2 * number + index])
    if kind == "LoadBalancer":
        spec["healthCheckNodePort"] = random.choice([0, 31000 + number])
        spec["loadBalancerSourceRanges"] = random.choice(
            [[], ["192.168.0.0/16", "fd00::/8"], ["10.0.0.0/8", "0.0.0.0/0"], ["172.16.0.0/12"]]
        )
    spec["externalIPs"] = random.choice([[], [f"198.51.100.{number}", "fd00::1"]])
    spec["sessionAffinity"] = random.choice(["None", "ClientIP"])
    ingress = [{"ip": f"203.0.113.{number}"}, {"ip": f"203.0.114.{number}", "ipMode": "Proxy"}]
    # One cluster IP in a while is another Service's, too: it has rules for one of them.
    ip = f"10.96.1.{number if random.random() < 0.9 else 1}"
    world.service(f"default/s{number}", ip, *ports, ingress=tuple(ingress[: random.randint(0, 2)]), **spec)


def random_endpoints(world: World, random: Random, number: int) -> None:
    for name, port in (("a", 8080), ("b", 8081)):
        listed = [
            {
                "addresses": [f"10.244.{node}.{last}"],
                "nodeName": f"node-{node}",
                "conditions": {
                    "ready": random.random() < 0.6,
                    "serving": random.random() < 0.7,
                    "terminating": random.random() < 0.5,
                },
                "hints": {"forZones": [{"name": f"z{random.randint(1, 2)}"}]} if hinted else {},
            }
            for hinted in [random.random() < 0.3]
            for node, last in {
                (random.randint(1, 2), random.randint(2, 20)) for _ in range(random.randint(0, 4))
            }
        ]
        world.endpoints(f"default/s{number}", *listed, name=name, port=port)


@pytest.mark.parametrize("seed", range(40))
def test_i5_the_count_is_that_of_the_printed_rules(seed: int) -> None:
    random = Random(seed)
    world = World(pod_cidrs=random.random() < 0.8)
    follower = Follower(world)
    for _ in range(6):
        for number in random.sample(range(1, 9), 3):
            if random.random() < 0.2:
                world.tables.set_service(f"default/s{number}", None)
            else:
                random_service(world, random, number)
            random_endpoints(world, random, number)
        assert follower.counts().total == expected(world)
        if random.random() < 0.3:
            before = world.planner.configuration
            found = follower.configured(**random_configuration(random))
            assert found.total == expected(world)
            assert world.planner.configuration == before or found.last == found.total


def test_i5_one_service_of_every_kind() -> None:
    world = everything()
    assert Follower(world).counts().total == expected(world)


def test_i5_no_service_at_all() -> None:
    world = World()
    found = Follower(world).counts()
    assert found.total == found.last == expected(world) == {"filter": 4, "nat": 5}


def test_i5_the_first_synchronization_writes_all() -> None:
    found = Follower(everything()).counts()
    assert found.last == found.total


def test_d8_a_partial_synchronization_writes_shared_chains_and_those_of_changed_services() -> None:
    world = everything()
    follower = Follower(world)
    follower.counts()
    world.endpoints("default/outer", "10.244.1.2", "10.244.2.9")
    found = follower.counts()
    filter_, shared, _ = printed(world.view())
    # KUBE-SVC: a mark and two choices; KUBE-EXT: a mark and the way on; two rules for each endpoint.
    assert found.last == {"filter": filter_, "nat": shared + 3 + 2 + 4}
    assert found.total == expected(world)


def test_d8_a_service_that_is_gone_leaves_nothing_to_write() -> None:
    world = everything()
    follower = Follower(world)
    follower.counts()
    world.tables.set_service("default/web", None)
    found = follower.counts()
    filter_, shared, _ = printed(world.view())
    assert found.last == {"filter": filter_, "nat": shared}
    assert found.total == expected(world)


def test_i5_only_what_the_first_node_would_have() -> None:
    """node-2 has no rule for what is local on node-1, and its coming and going changes nothing here."""
    world = everything()
    follower = Follower(world)
    before = follower.counts()
    world.tables.set_node("node-2", None)
    assert follower.counts().total == before.total == expected(world)
    assert printed(world.view()) != printed(everything().view("node-2"))


@pytest.mark.parametrize("mode", [mode for mode in ProxyMode if mode is not ProxyMode.IPTABLES])
def test_i5_nothing_is_counted_in_other_modes(mode: ProxyMode) -> None:
    world = everything()
    follower = Follower(world)
    before = follower.counts()
    assert follower.configured(mode=mode) == RuleCounts({}, {})
    assert follower.configured(mode=ProxyMode.IPTABLES) == before


def test_i5_nothing_is_counted_before_a_node_is_known() -> None:
    world = World()
    for name in ("node-1", "node-2"):
        world.tables.set_node(name, None)
    assert Follower(world).counts() == RuleCounts({}, {})
