"""I3: healthCheckNodePort."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest

from emu.core.config import ProxyMode
from emu.core.endpoints import PortEndpoint
from emu.core.objects import Node, Service, ServicePort
from emu.planes.loopback import LoopbackPlane
from emu.proxy.health_checks import HealthChecks, health_check_port, local_endpoints, reply
from emu.proxy.tables import PortState

from .conftest import Bench

PORT = 31999
LOCAL = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
KERNEL_MODES = [mode for mode in ProxyMode if mode is not ProxyMode.USERSPACE]


def service_of(**spec: Any) -> Service:
    return msgspec.convert({"metadata": {"name": "web", "namespace": "default"}, "spec": spec}, Service)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({**LOCAL, "healthCheckNodePort": PORT}, PORT, id="load_balancer_and_policy_local"),
        pytest.param({**LOCAL}, 0, id="not_without_an_allocated_port"),
        pytest.param({"type": "LoadBalancer", "healthCheckNodePort": PORT}, 0, id="not_for_policy_cluster"),
        pytest.param(
            {"type": "NodePort", "externalTrafficPolicy": "Local", "healthCheckNodePort": PORT},
            0,
            id="not_for_node_ports",
        ),
    ],
)
def test_i3_which_services_have_one(spec: dict[str, Any], expected: int) -> None:
    assert health_check_port(service_of(**spec)) == expected


def endpoint(address: str, port: int = 80, node: str = "n1", **conditions: bool) -> PortEndpoint:
    return PortEndpoint(f"{address}:{port}", address, port, node, **conditions)


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        pytest.param([[]], 0, id="none"),
        pytest.param([[endpoint("127.1.1.1"), endpoint("127.1.1.2")]], 2, id="each_address"),
        pytest.param([[endpoint("127.1.1.1", node="n2")]], 0, id="not_those_of_other_nodes"),
        pytest.param([[endpoint("127.1.1.1", node="")]], 0, id="not_those_of_no_node"),
        pytest.param(
            [[endpoint("127.1.1.1", 80)], [endpoint("127.1.1.1", 443)]], 1, id="once_for_several_ports"
        ),
        pytest.param(
            [[endpoint("127.1.1.1", 80)], [endpoint("127.1.1.2", 443)]], 2, id="whichever_port_it_has"
        ),
        pytest.param([[endpoint("127.1.1.1", ready=False, serving=False)]], 0, id="not_unready_ones"),
        pytest.param(
            [[endpoint("127.1.1.1", ready=False, serving=True, terminating=True)]],
            0,
            id="not_terminating_ones_though_they_serve",
        ),
        pytest.param(
            [[endpoint("127.1.1.1", ready=True, serving=False, terminating=True)]],
            1,
            id="ready_counts_whatever_else",
        ),
    ],
)
def test_i3_local_endpoints(ports: list[list[PortEndpoint]], expected: int) -> None:
    states = [PortState(service_of(), ServicePort(port=80), tuple(endpoints)) for endpoints in ports]
    assert local_endpoints(states, "n1") == expected


@pytest.mark.parametrize(
    ("count", "healthy", "status"), [(1, True, 200), (3, True, 200), (0, True, 503), (2, False, 503)]
)
def test_i3_answer(count: int, healthy: bool, status: int) -> None:
    response = reply(service_of(), count, healthy)
    assert response.status == status
    assert response.headers["X-Load-Balancing-Endpoint-Weight"] == str(count)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Type"] == "application/json"
    assert response.body == (
        b'{\n\t"service": {\n\t\t"namespace": "default",\n\t\t"name": "web"\n\t},\n'
        b'\t"localEndpoints": %d,\n\t"serviceProxyHealthy": %s\n}' % (count, b"true" if healthy else b"false")
    )


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    document: dict[str, Any]


class Checks:
    """The health checks of a bench's proxy, and a load balancer that asks."""

    def __init__(self, bench: Bench, session: aiohttp.ClientSession) -> None:
        self.bench = bench
        self.session = session
        self.reports: list[tuple[str, str]] = []
        self.checks = HealthChecks(LoopbackPlane(), bench.proxy, self._report)

    def _report(self, service: Service, message: str) -> None:
        self.reports.append((service.key, message))

    def service(self, name: str = "web", port: int = PORT, **spec: Any) -> None:
        self.bench.service(name, **{**LOCAL, "healthCheckNodePort": port, **spec})

    async def ask(self, last: int, port: int = PORT, path: str = "/", method: str = "GET") -> Reply:
        url = f"http://{self.bench.ip(last)}:{port}{path}"
        async with self.session.request(method, url) as response:
            return Reply(response.status, response.headers, json.loads(await response.read()))

    async def counts(self, port: int = PORT) -> list[int | None]:
        """What the two nodes say; None for a node that is not listening."""
        found: list[int | None] = []
        for last in (240, 241):
            try:
                found.append((await self.ask(last, port)).document["localEndpoints"])
            except aiohttp.ClientConnectionError:
                found.append(None)
        return found

    async def until(self, port: int, expected: list[int | None]) -> None:
        async with asyncio.timeout(5):
            while await self.counts(port) != expected:  # noqa: ASYNC110  what listens tells nobody
                await asyncio.sleep(0.01)


@pytest.fixture
async def checks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Checks]:
    monkeypatch.setattr("emu.proxy.http_ports._FIRST_RETRY_SECONDS", 0.01)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
        checks = Checks(bench, session)
        try:
            yield checks
        finally:
            await checks.checks.stop()


@pytest.mark.parametrize("mode", KERNEL_MODES)
async def test_i3_each_node_answers_for_itself(checks: Checks, mode: ProxyMode) -> None:
    checks.bench.mode(mode)
    checks.service()
    assert await checks.counts() == [0, 0]
    checks.bench.endpoints(2, 3, 66)
    assert await checks.counts() == [2, 1]
    answer = await checks.ask(240)
    assert (answer.status, answer.headers["X-Load-Balancing-Endpoint-Weight"]) == (200, "2")
    assert answer.document["service"] == {"namespace": "default", "name": "web"}
    checks.bench.endpoints(66)
    assert (await checks.ask(240)).status == 503


@pytest.mark.parametrize(("path", "method"), [("/healthz", "GET"), ("/any/path?q=1", "GET"), ("/", "POST")])
async def test_i3_any_path_and_method(checks: Checks, path: str, method: str) -> None:
    checks.service()
    checks.bench.endpoints(2)
    assert (await checks.ask(240, path=path, method=method)).status == 200


async def test_i3_not_at_localhost(checks: Checks) -> None:
    checks.service()
    await checks.ask(240)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", PORT), 1)


async def test_i3_a_proxy_that_is_not_healthy(checks: Checks) -> None:
    checks.service()
    checks.bench.endpoints(2)
    assert await checks.counts() == [1, 0]
    checks.bench.proxy.health.queue(time.time() - 60)
    answer = await checks.ask(240)
    assert answer.status == 503
    assert (answer.document["localEndpoints"], answer.document["serviceProxyHealthy"]) == (1, False)


async def test_i3_userspace_mode_does_not_serve_it(checks: Checks) -> None:
    checks.service()
    checks.bench.mode("userspace")
    assert await checks.counts() == [None, None]
    checks.bench.endpoints(2)
    assert await checks.counts() == [None, None]
    checks.bench.mode("nftables")
    assert await checks.counts() == [1, 0]


async def test_i3_only_where_node_ports_are(checks: Checks) -> None:
    checks.service()
    assert await checks.counts() == [0, 0]
    checks.bench.configure(node_port_addresses=(f"{checks.bench.ip(241)}/32",))
    assert await checks.counts() == [None, 0]
    checks.bench.configure(node_port_addresses=("primary",))
    assert await checks.counts() == [0, 0]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda checks: checks.bench.delete_service(), id="deleted"),
        pytest.param(lambda checks: checks.service(externalTrafficPolicy="Cluster"), id="policy_cluster"),
        pytest.param(lambda checks: checks.service(type="NodePort"), id="another_type"),
        pytest.param(lambda checks: checks.service(port=PORT - 1), id="another_port"),
    ],
)
async def test_i3_closed_by_a_change_of_the_service(checks: Checks, change: Any) -> None:
    """With the connections that load balancers have kept."""
    checks.service()
    assert await checks.counts() == [0, 0]
    reader, writer = await asyncio.open_connection(checks.bench.ip(240), PORT)
    change(checks)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    assert await checks.counts() == [None, None]


async def test_i3_a_port_goes_over_to_another_service(checks: Checks) -> None:
    """In one change: nobody is refused in between."""
    bench = checks.bench
    checks.service("one")
    bench.endpoints(2, name="one")
    assert await checks.counts() == [1, 0]
    bench.proxy.set_service("default/one", bench._services.pop("default/one"), None)
    checks.service("two")
    assert (await checks.ask(240)).document["service"]["name"] == "two"
    assert checks.reports == []
    bench.delete_service("two")
    assert await checks.counts() == [None, None]


async def test_i3_two_services_on_one_set_of_nodes(checks: Checks) -> None:
    checks.service("one", PORT)
    checks.service("two", PORT - 1)
    checks.bench.endpoints(2, name="one")
    checks.bench.endpoints(66, 67, name="two")
    assert await checks.counts(PORT) == [1, 0]
    assert await checks.counts(PORT - 1) == [0, 2]
    checks.bench.delete_service("one")
    assert await checks.counts(PORT) == [None, None]
    assert await checks.counts(PORT - 1) == [0, 2]


async def test_i3_follows_the_nodes(checks: Checks) -> None:
    checks.service()
    assert await checks.counts() == [0, 0]
    checks.bench.proxy.set_node("n2", None, None)
    checks.bench.proxy.synchronize()
    assert await checks.counts() == [0, None]
    document = {
        "metadata": {"name": "n3"},
        "status": {"addresses": [{"type": "InternalIP", "address": checks.bench.ip(241)}]},
    }
    checks.bench.proxy.set_node("n3", None, msgspec.convert(document, Node))
    checks.bench.proxy.synchronize()
    assert await checks.counts() == [0, 0]


async def test_i3_a_port_that_is_taken_is_reported_once_and_served_later(checks: Checks) -> None:
    taken = LoopbackPlane().listen_tcp(checks.bench.ip(240), PORT)
    checks.service()
    checks.bench.endpoints(2)
    address = checks.bench.ip(240)
    with taken:
        assert (await checks.ask(241)).document["localEndpoints"] == 0
        message = (
            f'node n1 failed to start healthcheck "default/web" on port {PORT}: '
            f"listen tcp {address}:{PORT}: bind: address already in use"
        )
        assert checks.reports == [("default/web", message)]
    await checks.until(PORT, [1, 0])
    assert len(checks.reports) == 1


async def test_i3_a_service_that_goes_is_not_tried_again(checks: Checks) -> None:
    with LoopbackPlane().listen_tcp(checks.bench.ip(240), PORT):
        checks.service()
        checks.bench.delete_service()
        checks.service("other", PORT - 1)
        assert await checks.counts(PORT - 1) == [0, 0]
    assert await checks.counts(PORT) == [None, None]


async def test_i3_hundreds_of_services(checks: Checks) -> None:
    """A service costs its sockets: one server answers for all."""
    first, count = 31000, 400
    for number in range(count):
        document = {
            "metadata": {"name": f"s{number}", "namespace": "default"},
            "spec": {
                **LOCAL,
                "clusterIP": checks.bench.ip(199),
                "healthCheckNodePort": first + number,
                "ports": [{"port": 10000 + number}],
            },
        }
        service = msgspec.convert(document, Service)
        checks.bench.proxy.set_service(service.key, None, service)
    checks.bench.proxy.synchronize()
    for number in (0, count // 2, count - 1):
        answer = await checks.ask(241, first + number)
        assert answer.document["service"]["name"] == f"s{number}"
