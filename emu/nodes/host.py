"""What the pods of one node share: addresses, the network, the way to the API server."""

from __future__ import annotations

import asyncio
from typing import Any

from emu.client.events import EventRecorder
from emu.client.policies import PolicyWatch
from emu.client.resolver import Resolver
from emu.client.rest import Client
from emu.core.addresses import contains
from emu.core.config import ClusterConfig
from emu.core.objects import Pod
from emu.core.resolv_conf import resolv_conf
from emu.nodes.dialler import Dialler
from emu.nodes.flows import FlowLog
from emu.nodes.ipam import AddressPool
from emu.nodes.servers import Server, Shared, TcpServer
from emu.planes.base import Plane
from emu.planes.held import HeldConnections
from emu.telemetry.flows import FlowRing

# TLS handshakes cost more than requests: a burst of status writes shares a few connections.
_WRITERS = 4


class Host:
    """A node, as its pods see it."""

    def __init__(
        self,
        name: str,
        config: ClusterConfig,
        plane: Plane,
        client: Client,
        policies: PolicyWatch,
    ) -> None:
        self.name = name
        self.address = config.node_address(name)
        self.config = config
        self.plane = plane
        self.client = client
        self.policies = policies
        self.resolver = Resolver(plane, config)
        self.events = EventRecorder(client, "kubelet", name)
        self.writers = asyncio.Semaphore(_WRITERS)
        self.flows = FlowRing(f"node/{name}")
        self.flow_log = FlowLog(self.flows, policies.engine, config.ranges.pods)
        self.held = HeldConnections()
        self.shared = Shared(plane, self.held, self.flow_log.record)
        self.dialler = Dialler(plane, self.address)
        self.pool: AddressPool | None = None
        self._servers: dict[tuple[str, int, str], tuple[Server, str]] = {}
        policies.subscribe(self._policies_changed)

    def use(self, pod_cidr: str) -> None:
        """Give out pods' addresses from this range from now on."""
        if self.pool is None or self.pool.pod_cidr != pod_cidr:
            self.pool = AddressPool(pod_cidr)
            self.flow_log.local(pod_cidr, self.address)

    def pod_dialler(self, pod: Pod, address: str) -> Dialler:
        """How a pod dials, from the address that it was given."""
        config = self.config
        service = config.ranges.dns_service
        conf = resolv_conf(pod.spec, pod.namespace, config.cluster_domain.rstrip("."), service)
        return Dialler(self.plane, address, conf, self.resolver, self._permits)

    def register(self, server: Server, owner: str) -> None:
        """Keep a server's restriction up to date, and find it for sockets handed over."""
        self._servers[server.address, server.port, server.protocol] = (server, owner)

    def unregister(self, server: Server) -> None:
        """Forget a server."""
        self._servers.pop((server.address, server.port, server.protocol), None)

    def tcp_server(self, address: str, port: int) -> TcpServer | None:
        """The server at a pod's TCP port."""
        found = self._servers.get((address, port, "TCP"))
        return found[0] if found is not None and isinstance(found[0], TcpServer) else None

    def owner(self, address: str, port: int, protocol: str) -> str | None:
        """Who holds a port: `container NAME of pod NAMESPACE/NAME`."""
        found = self._servers.get((address, port, protocol))
        return None if found is None else found[1]

    def counts(self) -> dict[str, Any]:
        """Figures for the metrics."""
        servers = [server for server, _ in self._servers.values()]
        return {
            "servers": len(servers),
            "connections": sum(server.active for server in servers),
            "held": len(self.held),
        }

    def _permits(self, source: str, destination: str, port: int, protocol: str) -> bool:
        """Whether the policies let a pod's own connection out.

        A pod's node judges what arrives for it, and kube-proxy what goes to a virtual IP, once the endpoint
        is chosen; only what leaves the cluster is judged here.
        """
        ranges = self.config.ranges
        inside = (ranges.pods, ranges.services, ranges.load_balancers, ranges.nodes)
        if any(contains(network, destination) for network in inside):
            return True
        return self.policies.engine.decide(source, destination, port, protocol).allowed

    def _policies_changed(self) -> None:
        self.flow_log.forget()
        sources = self.policies.engine.sources
        for (address, port, protocol), (server, _) in self._servers.items():
            server.restrict(sources(address, port, protocol))
