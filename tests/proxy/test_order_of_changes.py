"""Whatever the order in which objects come and go, what is left is as if only the last of each had come."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from emu.core.config import ProxyMode
from emu.core.objects import Endpoints, EndpointSlice, Node, Service
from emu.proxy.configuration import ProxyConfiguration
from emu.proxy.planning import Planner
from emu.proxy.tables import Address, Frontend, Tables

from .worlds import LOAD_BALANCER, OUTSIDE, node_ip, pod_ip

STEPS = 150
NODES = ("n1", "n2", "n3")
SERVICES = ("default/a", "default/b", "default/c")
SLICES = ("default/s1", "default/s2", "default/s3", "default/s4")
CLUSTER_IPS = ("127.96.0.1", "127.96.0.2")
CLIENTS = (pod_ip(1, 9), pod_ip(2, 9), node_ip(1), node_ip(3), OUTSIDE)


def a_node(random: Random, name: str) -> Node:
    number = int(name[1:])
    document = {
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": random.choice(["z1", "z2"])}},
        "spec": {"podCIDR": random.choice(["", f"127.244.{number}.0/24"])},
        "status": {"addresses": [{"type": "InternalIP", "address": node_ip(number)}]},
    }
    return msgspec.convert(document, Node)


def a_service(random: Random, key: str) -> Service:
    namespace, name = key.split("/")
    policies = ("Cluster", "Local")
    document = {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": f"2026-01-0{random.randint(1, 3)}",
        },
        "spec": {
            "type": random.choice(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
            "clusterIP": random.choice([*CLUSTER_IPS, "None"]),
            "externalIPs": random.choice([[], ["127.0.112.1"], [CLUSTER_IPS[0]]]),
            "internalTrafficPolicy": random.choice(policies),
            "externalTrafficPolicy": random.choice(policies),
            "sessionAffinity": random.choice(["None", "ClientIP"]),
            "ports": [
                {"name": "http", "port": random.choice([80, 81]), "nodePort": random.choice([0, 30001])},
                {"name": "other", "port": 82, "nodePort": random.choice([0, 30001, 30002])},
            ][: random.randint(1, 2)],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": LOAD_BALANCER}]}},
    }
    return msgspec.convert(document, Service)


def some_endpoints(random: Random) -> list[dict[str, Any]]:
    return [
        {
            "addresses": [pod_ip(random.randint(1, 2), last)],
            "nodeName": random.choice(NODES),
            "conditions": {"ready": random.random() < 0.7, "serving": True, "terminating": True},
        }
        for last in random.sample(range(2, 6), random.randint(0, 3))
    ]


def a_slice(random: Random, key: str) -> EndpointSlice:
    document = {
        "metadata": {
            "name": key.split("/")[1],
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": random.choice(SERVICES).split("/")[1]},
        },
        "ports": [{"name": name, "port": 8080} for name in ("http", "other")],
        "endpoints": some_endpoints(random),
    }
    return msgspec.convert(document, EndpointSlice)


def some_subsets(random: Random) -> Any:
    addresses = [{"ip": e["addresses"][0], "nodeName": e["nodeName"]} for e in some_endpoints(random)]
    subset = {"addresses": addresses, "ports": [{"name": "http", "port": 8080}]}
    return msgspec.convert({"subsets": [subset]}, Endpoints).subsets


class Changing:
    """Tables and a planner that are told of changes, and what they were told last."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.configuration = ProxyConfiguration()
        self.tables, self.planner = self.new()
        self.nodes: dict[str, Node] = {}
        self.services: dict[str, Service] = {}
        self.slices: dict[str, EndpointSlice] = {}
        self.subsets: dict[str, Any] = {}

    def new(self) -> tuple[Tables, Planner]:
        tables = Tables()
        tables.read_endpoints(self.configuration.mode is ProxyMode.USERSPACE)
        return tables, Planner(tables, self.configuration, Random(1))

    def fresh(self) -> tuple[Tables, Planner]:
        """Others that have come to know of everything at once."""
        tables, planner = self.new()
        for name, node in self.nodes.items():
            tables.set_node(name, node)
        for key, service in self.services.items():
            tables.set_service(key, service)
        for key, slice_ in self.slices.items():
            tables.set_slice(key, None, slice_)
        for key, subsets in self.subsets.items():
            tables.set_endpoints(key, subsets)
        changes = tables.take_changes()
        planner.changed(changes.addresses, changes.ports)
        return tables, planner

    def step(self) -> None:
        random, gone = self.random, self.random.random() < 0.3
        match random.choice(["node", "service", "service", "slice", "slice", "subsets", "configuration"]):
            case "node":
                name = random.choice(NODES)
                self.keep(self.nodes, name, None if gone else a_node(random, name))
                if self.tables.set_node(name, self.nodes.get(name)):
                    self.planner.nodes_changed()
            case "service":
                key = random.choice(SERVICES)
                self.keep(self.services, key, None if gone else a_service(random, key))
                self.tables.set_service(key, self.services.get(key))
            case "slice":
                key = random.choice(SLICES)
                before = self.slices.get(key)
                self.keep(self.slices, key, None if gone else a_slice(random, key))
                self.tables.set_slice(key, before, self.slices.get(key))
            case "subsets":
                key = random.choice(SERVICES)
                self.keep(self.subsets, key, None if gone else some_subsets(random))
                self.tables.set_endpoints(key, self.subsets.get(key, ()))
            case "configuration":
                self.configuration = self.configuration._replace(mode=random.choice(list(ProxyMode)))
                self.planner.configure(self.configuration)
                self.tables.read_endpoints(self.configuration.mode is ProxyMode.USERSPACE)

    @staticmethod
    def keep(known: dict[str, Any], key: str, now: Any) -> None:
        known.pop(key, None)
        if now is not None:
            known[key] = now

    def take(self) -> None:
        changes = self.tables.take_changes()
        self.planner.changed(changes.addresses, changes.ports)

    def connect(self) -> None:
        """Connections leave plans and balancers."""
        for frontend in self.tables.frontends.values():
            for client in self.random.sample(CLIENTS, 2):
                self.planner.decide(frontend, (client, self.random.randrange(65536)), 1.0)


def seen(tables: Tables, planner: Planner) -> dict[Address, Any]:
    """What clients meet at each address."""
    planner._turns.clear()
    return {address: behaviour(tables, planner, frontend) for address, frontend in tables.frontends.items()}


def behaviour(tables: Tables, planner: Planner, frontend: Frontend) -> Any:
    plans = [planner.plan(frontend, tables.client(client), client) for client in CLIENTS]
    return (
        frontend.port.name,
        frontend.port.service,
        frontend.port.endpoints,
        frontend.way,
        frontend.node,
        planner.listens(frontend),
        planner.allowed_sources(frontend),
        [(plan.route, plan.candidates.endpoints, plan.masquerade, plan.reason) for plan in plans],
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_tables_are_as_if_all_had_come_at_once(seed: int) -> None:
    world = Changing(seed)
    for _ in range(STEPS):
        for _ in range(world.random.randint(1, 4)):
            world.step()
        world.connect()
        world.take()
        world.connect()
        assert seen(world.tables, world.planner) == seen(*world.fresh())
        ports = {name for ports in world.tables._ports.values() for name in ports}
        balancers: dict[str, dict[tuple[Address | None, str], Any]] = world.planner._balancers
        assert {name for name, some in balancers.items() if some} <= ports
        entries = {entry for some in balancers.values() for _, entry in some}
        assert entries - {""} <= world.tables.nodes.keys()
