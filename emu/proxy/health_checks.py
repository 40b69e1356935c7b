"""healthCheckNodePort: each node tells load balancers whether it has endpoints of a Service.

Source: upstream's pkg/proxy/healthcheck/service_health.go. Services of type LoadBalancer with
externalTrafficPolicy Local have such a port, on each node's address that `nodePortAddresses` covers. The
userspace mode never served it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from aiohttp import web

from emu.core.config import ProxyMode
from emu.core.objects import Service
from emu.planes.base import Plane
from emu.proxy.http_ports import At, HttpPorts, local_address
from emu.proxy.proxy import Proxy
from emu.proxy.tables import Changes, NodeInfo, PortState

UNBOUND = "FailedToStartServiceHealthcheck"
"""The reason of the Event about a port that cannot be bound."""

_HEADERS = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}
_WEIGHT = "X-Load-Balancing-Endpoint-Weight"


class _Check(NamedTuple):
    """A Service's health check on one node."""

    service: Service
    ports: list[PortState]
    node: str


class HealthChecks:
    """Serves the health check ports of all Services on all nodes. Needs a running loop."""

    def __init__(self, plane: Plane, proxy: Proxy, report: Callable[[Service, str], None]) -> None:
        """`report` is told of Services whose port cannot be bound, and why."""
        self._proxy = proxy
        self._report = report
        self._http = HttpPorts(plane, web.Server(self._answer, access_log=None), self._unbound)
        self._services: dict[str, list[PortState]] = {}
        self._checks: dict[At, _Check] = {}
        self._addresses: dict[str, set[At]] = {}
        self._configuration = proxy.configuration
        proxy.subscribe(self.changed)

    def changed(self, changes: Changes) -> None:
        """The proxy has put changes in force, or another mode."""
        touched: dict[str, list[PortState]] = {}
        for name, port in changes.ports.items():
            key = name.partition(":")[0]
            if port is not None and health_check_port(port.service):
                touched.setdefault(key, []).append(port)
            elif key in self._services:
                touched.setdefault(key, [])
        for key, ports in touched.items():
            if ports:
                self._services[key] = ports
            else:
                del self._services[key]
        if self._configuration != self._proxy.configuration:
            self._configuration = self._proxy.configuration
            self._settle(self._services.keys() | touched.keys())
        else:
            self._settle(touched)

    async def stop(self) -> None:
        """Close all ports."""
        await self._http.stop()

    def _settle(self, keys: Iterable[str]) -> None:
        """Bring the ports of some Services in line. One that goes over to another Service stays open."""
        nodes: list[NodeInfo] = []
        if self._configuration.mode is not ProxyMode.USERSPACE:
            listed = self._proxy.tables.nodes.values()
            nodes = [node for node in listed if self._proxy.planner.has_node_ports(node.address)]
        before: set[At] = set()
        now: dict[At, _Check] = {}
        for key in keys:
            before |= self._addresses.pop(key, set())
            ports = self._services.get(key)
            if ports:
                service = ports[0].service
                port = health_check_port(service)
                checks = {(node.address, port): _Check(service, ports, node.name) for node in nodes}
                self._addresses[key] = set(checks)
                now.update(checks)
        gone = before - now.keys()
        for at in gone:
            self._checks.pop(at, None)
        self._checks.update(now)
        self._http.close(gone)
        self._http.open(now.keys() - before)

    def _unbound(self, at: At, error: OSError) -> None:
        check = self._checks[at]
        text = error.strerror or str(error)
        self._report(
            check.service,
            f'node {check.node} failed to start healthcheck "{check.service.key}" on port {at[1]}: '
            f"listen tcp {at[0]}:{at[1]}: bind: {text[0].lower()}{text[1:]}",
        )

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        check = self._checks.get(local_address(request))
        if check is None:
            # It came in while the port was closed.
            late = web.Response(status=503)
            late.force_close()
            return late
        return reply(
            check.service, local_endpoints(check.ports, check.node), self._proxy.healthy(time.time())
        )


def health_check_port(service: Service) -> int:
    """The port at which a Service's health is served, 0 for none."""
    spec = service.spec
    local = spec.type == "LoadBalancer" and spec.external_traffic_policy == "Local"
    return spec.health_check_node_port if local else 0


def local_endpoints(ports: Iterable[PortState], node: str) -> int:
    """How many addresses on a node are ready endpoints of a Service; one of several ports counts once.

    Terminating endpoints may still get traffic, but are no reason to send more.
    """
    return len({e.address for port in ports for e in port.endpoints if e.ready and e.node == node})


def reply(service: Service, count: int, healthy: bool) -> web.Response:
    """The answer to a load balancer, by the number of local endpoints and the health of the proxy."""
    document = {
        "service": {"namespace": service.namespace, "name": service.name},
        "localEndpoints": count,
        "serviceProxyHealthy": healthy,
    }
    return web.Response(
        status=200 if count and healthy else 503,
        body=json.dumps(document, indent="\t").encode(),
        headers={**_HEADERS, _WEIGHT: str(count)},
    )
