"""What kube-proxy says of itself: rules I1 to I4."""

from __future__ import annotations

import contextlib
import json
from http.client import HTTPConnection
from typing import Any

import pytest
from as_a_client import Space, node_ip, service
from proxy_modes import every_mode, kernel_modes

from emu.core.objects import Node, Service
from emu.testing import Reply

NODES = ("node-1", "node-2", "node-3")


class Health:
    def __init__(self, space: Space) -> None:
        self.space = space
        self.ports = space.cluster.settings.config.fixed_ports

    def get(self, address: str, port: int, path: str) -> Reply:
        return self.space.cluster.dial("127.0.0.1", address, port, path)

    def at(self, address: str, path: str = "/healthz") -> tuple[int, Any]:
        """Status and document of kube-proxy's health at an address."""
        reply = self.get(address, self.ports.proxy_healthz, path)
        return reply.status, json.loads(reply.body)

    def own(self, path: str) -> str:
        reply = self.get("127.0.0.1", self.ports.proxy_metrics, path)
        assert reply.status == 200, reply
        return reply.body

    def eligible(self, address: str) -> tuple[int, bool]:
        status, document = self.at(address)
        return status, document["nodeEligible"]


@pytest.fixture(scope="module")
def health(space: Space) -> Health:
    return Health(space)


@every_mode
def test_i1_i2_every_node_is_healthy(health: Health, mode: str):
    for name in NODES:
        address = node_ip(health.space.cluster, name)
        status, document = health.at(address)
        assert (status, document["nodeEligible"]) == (200, True)
        assert {"lastUpdated", "currentTime"} <= set(document)
        status, document = health.at(address, "/livez")
        assert status == 200
        assert {"lastUpdated", "currentTime"} <= set(document)


def test_i1_a_node_that_is_being_deleted_is_not_eligible(health: Health):
    cluster, address = health.space.cluster, health.space.outside("17.1")
    metadata = {"name": "leaving", "finalizers": ["example.com/wait"]}
    status = {"addresses": [{"type": "InternalIP", "address": address}]}

    def eligible() -> tuple[int, bool] | None:
        try:
            return health.eligible(address)
        except OSError:
            return None

    node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata}
    cluster.call(lambda client: client.create(Node.resource, node))
    try:
        patch = {"status": status}
        cluster.call(lambda client: client.patch(Node.resource, "", "leaving", patch, subresource="status"))
        cluster.until(lambda: eligible() == (200, True), what="the node's health is served")
        cluster.call(lambda client: client.delete(Node.resource, "", "leaving"))
        cluster.until(lambda: eligible() == (503, False), what="the node is not eligible")
    finally:
        health.space.patch(Node, "leaving", {"metadata": {"finalizers": None}})
    cluster.until(lambda: eligible() is None, what="nothing is served any more")


@kernel_modes
def test_i3_health_check_node_ports_tell_where_endpoints_are(health: Health, mode: str):
    space = health.space
    space.apply(service("checked", "web", type="LoadBalancer", externalTrafficPolicy="Local"))
    port = space.cluster.object(Service, "checked", space.name).spec.health_check_node_port

    def check(name: str) -> tuple[int, int, str | None] | None:
        connection = HTTPConnection(node_ip(space.cluster, name), port, timeout=5)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/any/path")
            except OSError:
                return None
            reply = connection.getresponse()
            document = json.load(reply)
        assert document["service"] == {"namespace": space.name, "name": "checked"}
        assert document["serviceProxyHealthy"] is True
        weight = reply.getheader("X-Load-Balancing-Endpoint-Weight")
        return reply.status, document["localEndpoints"], weight

    found = {"node-1": (200, 1, "1"), "node-2": (200, 1, "1"), "node-3": (503, 0, "0")}
    space.cluster.until(
        lambda: {name: check(name) for name in NODES} == found, what=f"health checks say {found}"
    )


@every_mode
def test_i4_mode_configuration_and_metrics(health: Health, mode: str):
    assert health.own("/proxyMode") == mode
    assert health.own("/healthz") == "ok"
    assert json.loads(health.own("/configz"))["kubeproxy.config.k8s.io"]["mode"] == mode
    assert "kubeproxy_sync_proxy_rules_duration_seconds_count" in health.own("/metrics")
