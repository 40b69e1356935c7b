"""kube-proxy's own endpoints over real sockets."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from emu.core.config import Ports, ProxyMode
from emu.core.objects import Node
from emu.planes.loopback import LoopbackPlane
from emu.proxy.configuration import ProxyConfiguration, parse_configuration
from emu.proxy.status import Status

from .conftest import Bench


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Server:
    """A Status at ports of its own, and a client."""

    def __init__(self, bench: Bench, session: aiohttp.ClientSession) -> None:
        self.bench = bench
        self.session = session
        with (
            LoopbackPlane().listen_tcp("127.0.0.1", 0) as one,
            LoopbackPlane().listen_tcp("127.0.0.1", 0) as two,
        ):
            self.ports = Ports(proxy_healthz=one.getsockname()[1], proxy_metrics=two.getsockname()[1])
        self.status = Status(LoopbackPlane(), bench.proxy, self.ports)
        self._nodes: dict[str, Node] = {}

    def node(self, name: str, last: int | None, **fields: Any) -> None:
        """A Node at an address of the bench; None deletes it."""
        before, now = self._nodes.pop(name, None), None
        if last is not None:
            addresses = [{"type": "InternalIP", "address": self.bench.ip(last)}]
            document = {"metadata": {"name": name}, "status": {"addresses": addresses}, **fields}
            self._nodes[name] = now = msgspec.convert(document, Node)
        self.status.set_node(name, before, now)

    async def get(self, path: str, address: str = "127.0.0.1", method: str = "GET") -> Reply:
        probe = address != "127.0.0.1" or path == "/livez"
        port = self.ports.proxy_healthz if probe else self.ports.proxy_metrics
        return await self.ask(f"http://{address}:{port}{path}", method)

    async def ask(self, url: str, method: str = "GET") -> Reply:
        async with self.session.request(method, url) as response:
            return Reply(response.status, response.headers, await response.read())


@pytest.fixture
async def server(bench: Bench) -> AsyncIterator[Server]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
        server = Server(bench, session)
        await server.status.start()
        try:
            yield server
        finally:
            await server.status.stop()


async def test_i1_healthz_of_each_node(server: Server) -> None:
    server.node("n1", 240)
    server.node(
        "n2", 241, spec={"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}
    )
    server.bench.proxy.synchronize()
    good = await server.get("/healthz", server.bench.ip(240))
    assert (good.status, good.headers["Content-Type"]) == (200, "application/json")
    assert good.headers["X-Content-Type-Options"] == "nosniff"
    assert good.document["nodeEligible"] is True
    bad = await server.get("/healthz", server.bench.ip(241))
    assert (bad.status, bad.document["nodeEligible"]) == (503, False)
    own = await server.ask(f"http://127.0.0.1:{server.ports.proxy_healthz}/healthz")
    assert (own.status, own.document["nodeEligible"]) == (200, True)
    alive = await server.get("/livez", server.bench.ip(241))
    assert (alive.status, "nodeEligible" in alive.document) == (200, False)
    assert server.bench.proxy.counters.healthz == {200: 2, 503: 1}
    assert server.bench.proxy.counters.livez == {200: 1}


async def test_i1_healthz_stays_with_the_node_that_has_taken_an_address_over(server: Server) -> None:
    server.node("old", 240, spec={"taints": [{"key": "ToBeDeletedByClusterAutoscaler"}]})
    assert (await server.get("/healthz", server.bench.ip(240))).status == 503
    server.node("new", 240)
    assert (await server.get("/healthz", server.bench.ip(240))).status == 200
    server.node("old", None)
    assert (await server.get("/healthz", server.bench.ip(240))).status == 200


async def test_i1_healthz_follows_a_nodes_address(server: Server) -> None:
    server.node("n1", 240)
    assert (await server.get("/healthz", server.bench.ip(240))).status == 200
    server.node("n1", 242)
    assert (await server.get("/healthz", server.bench.ip(242))).status == 200
    for last in (240, 242):
        if last == 242:
            server.node("n1", None)
        with pytest.raises(aiohttp.ClientConnectionError):
            await server.get("/healthz", server.bench.ip(last))


async def test_i1_a_node_is_on_its_way_out_at_the_same_address(server: Server) -> None:
    server.node("n1", 240)
    assert (await server.get("/healthz", server.bench.ip(240))).status == 200
    server.node("n1", 240, metadata={"name": "n1", "deletionTimestamp": "2023-11-14T22:13:20Z"})
    assert (await server.get("/healthz", server.bench.ip(240))).status == 503


async def test_i1_unhealthy_while_a_change_waits_too_long(server: Server) -> None:
    """A synchronization that fails leaves its changes waiting."""
    proxy = server.bench.proxy
    proxy.synchronize()
    proxy.health.queue(1.0)
    for path in ("/healthz", "/livez"):
        response = await server.ask(f"http://127.0.0.1:{server.ports.proxy_healthz}{path}")
        assert (response.status, response.document["healthy"]) == (503, False)
    proxy.synchronize()
    assert (await server.get("/livez")).status == 200


async def test_i1_a_change_is_queued_until_it_is_in_force(server: Server) -> None:
    proxy = server.bench.proxy
    proxy.synchronize()
    before = proxy.health.updated
    proxy.set_service("default/none", None, None)
    queued = proxy.counters.last_queued
    assert queued is not None
    assert not proxy.health.healthy(queued + 60, 60)
    assert (await server.get("/livez")).status == 200
    assert proxy.health.updated > before
    assert proxy.health.healthy(queued + 60, 60)


async def test_i1_a_synchronization_that_fails_leaves_its_changes_queued(server: Server, monkeypatch) -> None:
    proxy = server.bench.proxy
    proxy.synchronize()

    def fail() -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(proxy.tables, "take_changes", fail)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    proxy.set_service("default/none", None, None)
    assert (await server.get("/livez")).status == 200
    assert not proxy.healthy(time.time() + 60)


async def test_i1_nothing_is_queued_while_the_proxy_is_told_what_there_is(server: Server) -> None:
    proxy = server.bench.proxy
    proxy.synchronize()
    queued = proxy.counters.last_queued
    proxy.hold_back()
    proxy.set_service("default/none", None, None)
    assert proxy.counters.last_queued == queued
    assert proxy.health.healthy(time.time() + 60, 60)


@pytest.mark.parametrize("mode", ProxyMode)
async def test_i4_proxy_mode(server: Server, mode: ProxyMode) -> None:
    server.bench.mode(mode)
    response = await server.get("/proxyMode")
    assert response.body == mode.encode()
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_i4_configz(server: Server) -> None:
    """The answer is what a ConfigMap would say to have the same in force."""
    configuration = ProxyConfiguration(
        mode=ProxyMode.IPVS,
        scheduler="lc",
        masquerade_all=True,
        node_port_addresses=("127.0.0.0/8",),
        sync_period=90.0,
    )
    server.bench.proxy.configure(configuration)
    response = await server.get("/configz")
    assert response.document == {
        "kubeproxy.config.k8s.io": {
            "mode": "ipvs",
            "iptables": {"masqueradeAll": True, "localhostNodePorts": True},
            "ipvs": {
                "masqueradeAll": True,
                "scheduler": "lc",
                "schedulerFlags": [],
                "syncPeriod": "90s",
            },
            "nftables": {"masqueradeAll": True},
            "nodePortAddresses": ["127.0.0.0/8"],
            "udpIdleTimeout": "0.25s",
        }
    }
    (document,) = response.document.values()
    assert parse_configuration(json.dumps(document)) == configuration


async def test_i4_healthz_of_the_metrics_server(server: Server) -> None:
    response = await server.get("/healthz")
    assert (response.status, response.body) == (200, b"ok")


@pytest.mark.parametrize("path", ["/", "/metric", "/healthz/"])
async def test_i4_no_other_path(server: Server, path: str) -> None:
    for port in (server.ports.proxy_healthz, server.ports.proxy_metrics):
        assert (await server.ask(f"http://127.0.0.1:{port}{path}")).status == 404


async def test_i4_head_has_no_body(server: Server) -> None:
    response = await server.get("/livez", method="HEAD")
    assert (response.status, response.body) == (200, b"")


async def test_i5_metrics_as_a_scraper_reads_them(server: Server) -> None:
    server.bench.service()
    server.bench.endpoints(2, 66)
    await server.bench.ask(server.bench.ip(70), server.bench.vip, 8000)
    response = await server.get("/metrics")
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {f.name: f for f in text_string_to_metric_families(response.body.decode())}
    (connections,) = families["emu_proxy_connections"].samples
    assert connections.labels == {"service_port": "default/web", "verdict": "forwarded"}
    assert connections.value == 1
    full, partial = (
        next(
            s.value
            for s in families[f"kubeproxy_sync_{kind}_proxy_rules_duration_seconds"].samples
            if s.name.endswith("_count")
        )
        for kind in ("full", "partial")
    )
    assert full == 1
    assert partial >= 1


async def test_i5_iptables_rules_of_the_first_node(server: Server) -> None:
    """As many as are printed, apart from the jumps of built-in chains, and none in another mode."""
    bench = server.bench

    async def counted() -> dict[tuple[str, str], float]:
        text = (await server.get("/metrics")).body.decode()
        prefix = "kubeproxy_sync_proxy_rules_iptables_"
        return {
            (sample.name.removeprefix(prefix), sample.labels["table"]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if "table" in sample.labels
        }

    bench.service()
    bench.endpoints(2, 66)
    bench.service("other", clusterIP=bench.ip(201))
    first = await counted()
    _, filter_, nat = (await server.get("/rules")).body.decode().split("\n*")[1:]
    assert first["total", "filter"] == first["last", "filter"] == filter_.count("\n-A KUBE-")
    assert first["total", "nat"] == nat.count("\n-A KUBE-")
    bench.endpoints(2)
    then = await counted()
    assert first["total", "nat"] - then["total", "nat"] == 3
    # Those of default/web: two in its own chain, and two in that of its endpoint.
    shared = nat.count("\n-A KUBE-") - nat.count("\n-A KUBE-SVC") - nat.count("\n-A KUBE-SEP")
    assert then["last", "nat"] == shared + 4
    bench.mode("nftables")
    assert await counted() == {}
    bench.mode("iptables")
    assert (await counted())["total", "nat"] == then["total", "nat"]


async def test_i5_no_local_endpoints(server: Server) -> None:
    """Of each node, as each has a proxy of its own."""
    bench = server.bench

    async def without() -> dict[str, float]:
        text = (await server.get("/metrics")).body.decode()
        name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total"
        (found,) = [f for f in text_string_to_metric_families(text) if f.name == name]
        return {sample.labels["traffic_policy"]: sample.value for sample in found.samples}

    bench.service(internalTrafficPolicy="Local")
    assert await without() == {"internal": 0, "external": 0}
    bench.endpoints(2)
    assert await without() == {"internal": 1, "external": 0}
    bench.endpoints(2, 66)
    assert await without() == {"internal": 0, "external": 0}
    bench.service(type="NodePort", externalTrafficPolicy="Local", internalTrafficPolicy="Local")
    serving = {"serving": True, "terminating": True, "ready": False}
    lost = {"serving": False, "terminating": True, "ready": False}
    bench.endpoints(2, {"addresses": [bench.ip(66)], "nodeName": "n2", "conditions": serving})
    assert await without() == {"internal": 0, "external": 0}
    bench.endpoints(2, {"addresses": [bench.ip(66)], "nodeName": "n2", "conditions": lost})
    assert await without() == {"internal": 1, "external": 1}
    bench.delete_service()
    assert await without() == {"internal": 0, "external": 0}


async def test_i5_node_ports_at_localhost_are_counted(server: Server) -> None:
    """Flows, as upstream does by the first packet of each; not those to a node's address."""
    bench = server.bench
    with LoopbackPlane().listen_tcp("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    await bench.nodes["n1"].pod(bench.ip(2), 8080)
    bench.service(type="NodePort", ports=[{"port": 8000, "nodePort": port}])
    bench.endpoints(2)
    for address in ("127.0.0.1", "127.0.0.1", bench.ip(240)):
        await bench.ask(bench.ip(70), address, port)
    text = (await server.get("/metrics")).body.decode()
    assert "\nkubeproxy_iptables_localhost_nodeports_accepted_packets_total 2\n" in text


async def test_i5_stale_datagram_flows_are_counted(server: Server) -> None:
    bench = server.bench
    await bench.nodes["n1"].udp_pod(bench.ip(2), 8080)
    bench.service(ports=[{"port": 8000, "protocol": "UDP"}])
    bench.endpoints(2, protocol="UDP")

    async def found() -> tuple[float, float]:
        text = (await server.get("/metrics")).body.decode()
        families = {f.name: f for f in text_string_to_metric_families(text)}
        name = "kubeproxy_conntrack_reconciler"
        (deleted,) = families[f"{name}_deleted_entries"].samples
        (count,) = (s for s in families[f"{name}_sync_duration_seconds"].samples if s.name.endswith("_count"))
        return deleted.value, count.value

    _, count = await found()
    clients = []
    for _ in range(4):
        clients.append(socket.socket(type=socket.SOCK_DGRAM))
        clients[-1].bind((bench.ip(70), 0))
        clients[-1].sendto(b"x", (bench.vip, 8000))
    async with asyncio.timeout(5):
        while len(bench.proxy.udp) < 4:  # noqa: ASYNC110  the kernel tells nobody
            await asyncio.sleep(0.01)
    bench.endpoints(2, 66, protocol="UDP")
    assert (await found())[0] == 0
    bench.endpoints(66, protocol="UDP")
    deleted, later = await found()
    assert deleted == 4
    assert later > count
    for client in clients:
        client.close()


async def test_i5_counts_of_a_deleted_service_are_forgotten(server: Server) -> None:
    bench = server.bench
    bench.service()
    bench.endpoints(2)
    await bench.ask(bench.ip(70), bench.vip, 8000)
    assert bench.proxy.counters.connections
    bench.delete_service()
    assert not bench.proxy.counters.connections


async def test_a_port_that_is_taken_is_served_once_it_is_free(bench: Bench, monkeypatch, caplog) -> None:
    monkeypatch.setattr("emu.proxy.http_ports._FIRST_RETRY_SECONDS", 0.01)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
        taken = LoopbackPlane().listen_tcp("127.0.0.1", 0)
        status = Status(
            LoopbackPlane(), bench.proxy, Ports(proxy_healthz=taken.getsockname()[1], proxy_metrics=0)
        )
        await status.start()
        try:
            assert "Address already in use" in caplog.text
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/livez"
            taken.close()
            async with asyncio.timeout(5):
                while await refused(session, url):  # noqa: ASYNC110  what listens tells nobody
                    await asyncio.sleep(0.01)
        finally:
            await status.stop()


class Starved(socket.socket):
    """A listening socket of a process that has no descriptor left for a moment."""

    tries = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.tries += 1
        if self.tries == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


async def test_out_of_descriptors_a_client_waits(bench: Bench) -> None:
    class StarvedPlane(LoopbackPlane):
        def listen_tcp(self, *args: Any, **kwargs: Any) -> Starved:
            return Starved(fileno=super().listen_tcp(*args, **kwargs).detach())

    with LoopbackPlane().listen_tcp("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    status = Status(StarvedPlane(), bench.proxy, Ports(proxy_healthz=port, proxy_metrics=0))
    await status.start()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
        try:
            assert not await refused(session, f"http://127.0.0.1:{port}/livez")
        finally:
            await status.stop()


async def refused(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            assert response.status == 200
    except aiohttp.ClientConnectorError:
        return True
    return False
