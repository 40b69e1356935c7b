"""Nodes, Services and slices as a proxy knows them, and the view of one node."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from emu.core.objects import EndpointSlice, Node, Service
from emu.proxy.configuration import ProxyConfiguration
from emu.proxy.planning import Planner
from emu.proxy.rules.view import View, real_servers_of, view_of
from emu.proxy.tables import Tables

HTTP = {"port": 80, "protocol": "TCP"}


class World:
    """node-1 has 192.168.1.10 and 10.244.1.0/24, node-2 has 192.168.1.11 and 10.244.2.0/24."""

    def __init__(self, *, pod_cidrs: bool = True) -> None:
        self.now = 0.0
        self.tables = Tables()
        self.planner = Planner(self.tables, ProxyConfiguration(), Random(1))
        for number in (1, 2):
            document = {
                "metadata": {
                    "name": f"node-{number}",
                    "labels": {"topology.kubernetes.io/zone": f"z{number}"},
                },
                "spec": {"podCIDR": f"10.244.{number}.0/24"} if pod_cidrs else {},
                "status": {"addresses": [{"type": "InternalIP", "address": f"192.168.1.{9 + number}"}]},
            }
            self.tables.set_node(f"node-{number}", msgspec.convert(document, Node))

    def service(
        self, key: str, ip: str, *ports: dict[str, Any], ingress: tuple[Any, ...] = (), **spec: Any
    ) -> None:
        namespace, _, name = key.partition("/")
        document = {
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "ports": list(ports) or [HTTP], **spec},
            "status": {"loadBalancer": {"ingress": list(ingress)}},
        }
        self.tables.set_service(key, msgspec.convert(document, Service))

    def endpoints(self, key: str, *addresses: str | dict[str, Any], **port: Any) -> None:
        """Endpoints by address, which tells the node; one slice for each port that is called with."""
        namespace, _, name = key.partition("/")
        port = {"name": "", "port": 80, "protocol": "TCP", **port}
        slice_name = f"{name}-{port['name']}"
        document = {
            "metadata": {
                "namespace": namespace,
                "name": slice_name,
                "labels": {"kubernetes.io/service-name": name},
            },
            "ports": [port],
            "endpoints": [
                {"addresses": [a], "nodeName": f"node-{a.split('.')[2]}"} if isinstance(a, str) else a
                for a in addresses
            ],
        }
        slice_ = msgspec.convert(document, EndpointSlice)
        self.tables.set_slice(f"{namespace}/{slice_name}", None, slice_)

    def configure(self, **changes: Any) -> None:
        self.planner.configure(self.planner.configuration._replace(**changes))

    def view(self, node: str = "node-1") -> View:
        changes = self.tables.take_changes()
        self.planner.changed(changes.addresses, changes.ports)
        frontends = tuple(self.tables.frontends.values())
        where = self.tables.nodes[node]
        real_servers = real_servers_of(frontends, self.planner, where, self.now)
        return view_of(frontends, real_servers, self.planner.configuration, where, ("10.96.0.0/12",))


def everything() -> World:
    """One Service of every kind: each rule of every mode appears."""
    world = World()
    affinity = {
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 90061}},
    }
    world.service("default/web", "10.96.0.9", {**HTTP, "nodePort": 30080}, type="NodePort", **affinity)
    world.endpoints("default/web", "10.244.1.2", "10.244.2.2", "10.244.2.3", port=8080)
    world.service(
        "default/balanced",
        "10.96.0.10",
        {"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30081},
        {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
        ingress=({"ip": "203.0.113.1"}, {"ip": "203.0.113.9", "ipMode": "Proxy"}),
        type="LoadBalancer",
        externalTrafficPolicy="Local",
        loadBalancerSourceRanges=["172.16.0.0/12", " 192.168.0.0/16", "198.51.100.77/32", "fd00::/8"],
        healthCheckNodePort=32000,
        externalIPs=["198.51.100.7"],
    )
    world.endpoints("default/balanced", "10.244.2.2", name="http", port=8080)
    world.endpoints("default/balanced", "10.244.1.3", "10.244.2.2", name="dns", port=53, protocol="UDP")
    world.service(
        "default/guarded",
        "10.96.0.14",
        ingress=({"ip": "203.0.113.2"},),
        type="LoadBalancer",
        loadBalancerSourceRanges=["0.0.0.0/0", "10.0.0.0/8"],
        allocateLoadBalancerNodePorts=False,
    )
    world.endpoints("default/guarded", "10.244.2.2")
    world.service("default/closed", "10.96.0.15", ingress=({"ip": "203.0.113.3"},), type="LoadBalancer")
    world.service("default/empty", "10.96.0.11", {**HTTP, "nodePort": 30090}, type="NodePort")
    world.service("default/outer", "10.96.0.16", externalIPs=["198.51.100.8"])
    world.endpoints("default/outer", "10.244.1.2")
    world.service("default/near", "10.96.0.12", internalTrafficPolicy="Local")
    world.endpoints("default/near", "10.244.2.2")
    world.service("default/here", "10.96.0.17", internalTrafficPolicy="Local")
    world.endpoints("default/here", "10.244.1.2")
    sctp = {"port": 80, "protocol": "SCTP", "nodePort": 30099}
    world.service("default/sctp", "10.96.0.13", sctp, type="NodePort", externalTrafficPolicy="Local")
    world.endpoints("default/sctp", "10.244.1.2", protocol="SCTP")
    return world
