"""Whatever the order in which objects come and go, what is left is as if only the last of each had come."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import msgspec
import pytest

from emu.core.config import ProxyMode
from emu.core.objects import Endpoints, EndpointSlice, NetworkPolicy, Node, Pod, Service
from emu.core.policy import PolicyEngine
from emu.core.ranges import EVERYONE, Ranges
from emu.planes.loopback import LoopbackPlane
from emu.proxy.configuration import ProxyConfiguration
from emu.proxy.proxy import Proxy
from emu.proxy.tables import Address, Frontend

from .conftest import until
from .worlds import LOAD_BALANCER, OUTSIDE, node_ip, pod_ip

T = TypeVar("T")

STEPS = 100
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
            "type": random.choice(["ClusterIP", "ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
            "clusterIP": random.choice([*CLUSTER_IPS, *CLUSTER_IPS, "None"]),
            "externalIPs": random.choice([[], [], ["127.0.112.1"], [CLUSTER_IPS[0]], [node_ip(1)]]),
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


def some_objects(random: Random, key: str) -> Endpoints:
    addresses = [{"ip": e["addresses"][0], "nodeName": e["nodeName"]} for e in some_endpoints(random)]
    subset = {"addresses": addresses, "ports": [{"name": "http", "port": 8080}]}
    metadata = {"name": key.split("/")[1], "namespace": "default"}
    return msgspec.convert({"metadata": metadata, "subsets": [subset]}, Endpoints)


def a_policy(random: Random) -> NetworkPolicy:
    """A policy for some of the pods: nobody, other pods, or a node may come in."""
    block = {"ipBlock": {"cidr": f"{node_ip(random.randint(1, 3))}/32"}}
    pods = {"podSelector": {"matchLabels": {"app": str(random.randint(2, 5))}}}
    document = {
        "metadata": {"name": "some", "namespace": "default"},
        "spec": {
            "podSelector": random.choice([{}, {"matchLabels": {"app": str(random.randint(2, 5))}}]),
            "policyTypes": ["Ingress"],
            "ingress": random.choice([[], [{"from": [block]}], [{"from": [pods]}]]),
        },
    }
    return msgspec.convert(document, NetworkPolicy)


class Sockets(LoopbackPlane):
    """Sockets that nobody can reach, and whom each of them would let in."""

    def __init__(self) -> None:
        self.allowed: dict[int, Ranges] = {}

    def listen_tcp(self, address: str, port: int, allowed: Ranges = EVERYONE) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.allowed[sock.fileno()] = allowed
        return sock

    def restrict(self, sock: socket.socket, allowed: Ranges) -> bool:
        self.allowed[sock.fileno()] = allowed
        return True


class Changing:
    """A proxy that is told of changes, and what it was told last."""

    def __init__(self, seed: int, directory: Path) -> None:
        self.random = Random(seed)
        self.directory = directory
        self.configuration = ProxyConfiguration()
        self.engine = PolicyEngine()
        for node, last in itertools.product((1, 2), range(2, 6)):
            document = {
                "metadata": {"name": f"p{node}-{last}", "namespace": "default", "labels": {"app": str(last)}},
                "spec": {"nodeName": f"n{node}"},
                "status": {"phase": "Running", "podIP": pod_ip(node, last)},
            }
            self.engine.set_pod(msgspec.convert(document, Pod))
        self.proxy = self.new()
        self.nodes: dict[str, Node] = {}
        self.services: dict[str, Service] = {}
        self.slices: dict[str, EndpointSlice] = {}
        self.endpoints: dict[str, Endpoints] = {}

    def new(self) -> Proxy:
        def report(frontend: Frontend, cause: str) -> None:
            """Services claim one another's addresses all the time."""

        directory = self.directory
        return Proxy(
            Sockets(), self.configuration, self.engine, lambda node: directory / node, report, Random(1)
        )

    def fresh(self) -> Proxy:
        """Another one that has come to know of everything at once."""
        proxy = self.new()
        proxy.hold_back()
        for name, node in self.nodes.items():
            proxy.set_node(name, None, node)
        for key, service in self.services.items():
            proxy.set_service(key, None, service)
        for key, slice_ in self.slices.items():
            proxy.set_slice(key, None, slice_)
        for key, endpoints in self.endpoints.items():
            proxy.set_endpoints(key, None, endpoints)
        proxy.synchronize()
        return proxy

    def step(self) -> None:
        match self.random.choice(["node", "service", "slice", "endpoints", "policy", "configuration"]):
            case "node":
                self.change_node()
            case "service":
                self.proxy.set_service(*self.change(self.services, SERVICES, a_service))
            case "slice":
                self.proxy.set_slice(*self.change(self.slices, SLICES, a_slice))
            case "endpoints":
                self.proxy.set_endpoints(*self.change(self.endpoints, SERVICES, some_objects))
            case "policy":
                self.engine.remove_policy("default/some")
                if self.random.random() < 0.7:
                    self.engine.set_policy(a_policy(self.random))
                self.proxy.policies_changed()
            case "configuration":
                self.configuration = self.configuration._replace(
                    mode=self.random.choice(list(ProxyMode)),
                    masquerade_all=self.random.random() < 0.5,
                    detects_local=self.random.random() < 0.7,
                    node_port_addresses=self.random.choice([(), ("primary",), (f"{node_ip(1)}/32",)]),
                )
                self.proxy.configure(self.configuration)

    def change_node(self) -> None:
        name, before, now = self.change(self.nodes, NODES, a_node)
        changed = self.engine.remove_node(name) if now is None else self.engine.set_node(now)
        tell = [lambda: self.proxy.set_node(name, before, now)]
        if changed:
            tell.append(self.proxy.policies_changed)
        # Nodes are watched twice, and each watch may be the first.
        self.random.shuffle(tell)
        for each in tell:
            each()

    def change(
        self, known: dict[str, T], keys: Sequence[str], new: Callable[[Random, str], T]
    ) -> tuple[str, T | None, T | None]:
        """Key, object before, object now: None where there is none."""
        key = self.random.choice(keys)
        before, now = known.pop(key, None), None
        if self.random.random() < 0.7:
            now = known[key] = new(self.random, key)
        return key, before, now

    def connect(self) -> None:
        """Connections leave plans and balancers."""
        planner = self.proxy.planner
        for frontend in self.proxy.tables.frontends.values():
            for client in self.random.sample(CLIENTS, 2):
                planner.decide(frontend, (client, self.random.randrange(65536)), 1.0)


def seen(proxy: Proxy) -> dict[Address, Any]:
    """What clients meet at each address."""
    proxy.planner._turns.clear()
    return {address: behaviour(proxy, frontend) for address, frontend in proxy.tables.frontends.items()}


def behaviour(proxy: Proxy, frontend: Frontend) -> Any:
    tables, planner, plane = proxy.tables, proxy.planner, proxy.plane
    assert isinstance(plane, Sockets)
    plans = [planner.plan(frontend, tables.client(client), client) for client in CLIENTS]
    listener = proxy.listeners._listeners.get(frontend.address)
    return (
        frontend.port.name,
        frontend.port.service,
        frontend.port.endpoints,
        frontend.way,
        frontend.node,
        plane.allowed[listener.sock.fileno()] if listener else "no socket",
        [(plan.route, plan.candidates.endpoints, plan.masquerade, plan.reason) for plan in plans],
    )


@pytest.mark.parametrize("seed", range(6))
async def test_what_is_in_force_is_as_if_all_had_come_at_once(seed: int, tmp_path: Path) -> None:
    world = Changing(seed, tmp_path)
    proxy = world.proxy
    for _ in range(STEPS):
        for _ in range(world.random.randint(1, 4)):
            world.step()
        world.connect()
        proxy.synchronize()
        await until(lambda: proxy.settled)
        world.connect()
        fresh = world.fresh()
        assert seen(proxy) == seen(fresh)
        fresh.close()
        assert proxy.listeners._listeners.keys() <= proxy.tables.frontends.keys()
        ports = {name for ports in proxy.tables._ports.values() for name in ports}
        assert {name for name, some in proxy.planner._balancers.items() if some} <= ports
        entries = {entry for some in proxy.planner._balancers.values() for _, entry in some}
        assert entries - {""} <= proxy.tables.nodes.keys()
    proxy.close()
