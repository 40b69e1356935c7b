"""A planner over nodes, Services and slices, without sockets."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from emu.core.objects import Endpoints, EndpointSlice, Node, Service
from emu.proxy.configuration import ProxyConfiguration
from emu.proxy.planning import Choice, Planner
from emu.proxy.tables import Address, Frontend, Tables

CLUSTER_IP = "127.96.0.41"
EXTERNAL_IP = "127.0.112.1"
LOAD_BALANCER = "127.0.113.1"
OUTSIDE = "127.220.0.1"
SERVICE_PORT = 80
NODE_PORT = 30001


def node_ip(number: int) -> str:
    return f"127.168.1.{9 + number}"


def pod_ip(node: int, last: int) -> str:
    return f"127.244.{node}.{last}"


class World:
    """Nodes n1, n2, ... in zones z1, z2, ..., and one Service with every way in."""

    def __init__(self, nodes: int = 2, **configuration: Any) -> None:
        self.tables = Tables()
        self.conflicts: tuple[tuple[Frontend, Frontend], ...] = ()
        self.planner = Planner(self.tables, ProxyConfiguration()._replace(**configuration), Random(1))
        for number in range(1, nodes + 1):
            document = {
                "metadata": {"name": f"n{number}", "labels": {"topology.kubernetes.io/zone": f"z{number}"}},
                "spec": {"podCIDR": f"127.244.{number}.0/24"},
                "status": {"addresses": [{"type": "InternalIP", "address": node_ip(number)}]},
            }
            self.tables.set_node(f"n{number}", msgspec.convert(document, Node))

    def service(
        self,
        name: str = "web",
        created: str = "",
        ip_mode: str = "VIP",
        ingress: str = LOAD_BALANCER,
        **spec: Any,
    ) -> None:
        port = {"port": SERVICE_PORT, "nodePort": NODE_PORT}
        document = {
            "metadata": {"name": name, "namespace": "default", "creationTimestamp": created},
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": CLUSTER_IP,
                "externalIPs": [EXTERNAL_IP],
                "ports": [port],
                **spec,
            },
            "status": {"loadBalancer": {"ingress": [{"ip": ingress, "ipMode": ip_mode}]}},
        }
        self.tables.set_service(f"default/{name}", msgspec.convert(document, Service))
        self.take()

    def endpoints(self, *endpoints: dict[str, Any], name: str = "web", port: int = 8080) -> None:
        document = {
            "metadata": {
                "name": name,
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": name},
            },
            "ports": [{"port": port}],
            "endpoints": list(endpoints),
        }
        self.tables.set_slice(f"default/{name}", None, msgspec.convert(document, EndpointSlice))
        self.take()

    def subsets(self, *subsets: dict[str, Any], name: str = "web") -> None:
        found = msgspec.convert({"subsets": list(subsets)}, Endpoints).subsets
        self.tables.set_endpoints(f"default/{name}", found)
        self.take()

    def configure(self, **changes: Any) -> None:
        self.planner.configure(self.planner.configuration._replace(**changes))

    def take(self) -> None:
        changes = self.tables.take_changes()
        self.conflicts = changes.conflicts
        self.planner.changed(changes.addresses, changes.ports)

    def frontend(self, ip: str, port: int = SERVICE_PORT) -> Frontend:
        return self.tables.frontends[Address(ip, port, "TCP")]

    def decide(self, source: str, ip: str, port: int = SERVICE_PORT, now: float = 0.0) -> Choice:
        return self.planner.decide(self.frontend(ip, port), (source, 40000), now)

    def flow(self, source: str, ip: str, port: int, tries: int = 24) -> tuple[set[str], set[str], set[str]]:
        """Verdicts, endpoints and the sources that these see, of a number of connections."""
        choices = [self.decide(source, ip, port) for _ in range(tries)]
        return (
            {choice.verdict.value for choice in choices},
            {choice.endpoint.address for choice in choices if choice.endpoint},
            {choice.source or source for choice in choices if choice.endpoint},
        )
