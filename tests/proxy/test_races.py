"""What changes while a connection is on its way: nothing may be decided on what was true before."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from emu.planes.loopback import LoopbackPlane
from emu.proxy.dialer import Dialer, DialError, Identity
from emu.proxy.tables import Address

from .conftest import Bench, until


class Meanwhile(LoopbackPlane):
    """A plane where something happens while the first connection is tried, which then fails."""

    def __init__(self, happens: Callable[[], None]) -> None:
        self._happens: Callable[[], None] | None = happens

    async def connect_tcp(self, source: str, address: str, port: int, timeout: float | None) -> socket.socket:
        happens, self._happens = self._happens, None
        if happens is not None:
            happens()
            raise ConnectionRefusedError
        return await super().connect_tcp(source, address, port, timeout)


async def ask(bench: Bench, plane: Meanwhile, way: str) -> str:
    """Which pod answers, "" for none."""
    if way == "socket":
        bench.proxy.forwarder._plane = plane
        answer = await bench.ask(bench.ip(9), bench.vip, 8000)
        return answer[0] if answer else ""
    try:
        dialled = await Dialer(plane, bench.proxy, None).dial(  # type: ignore[arg-type]
            Identity(bench.ip(9)), bench.vip, 8000
        )
    except DialError:
        return ""
    with dialled.sock:
        data = await asyncio.get_running_loop().sock_recv(dialled.sock, 1000)
    dialled.ended()
    return data.decode().split()[0]


@pytest.mark.parametrize("way", ["socket", "gateway"])
async def test_g3_the_next_attempt_goes_to_an_endpoint_that_has_come_meanwhile(
    bench: Bench, way: str
) -> None:
    bench.mode("userspace")
    await bench.nodes["n1"].pod(bench.ip(3), 8080)
    bench.service()
    bench.endpoints(2)
    answers = [await ask(bench, Meanwhile(lambda: bench.endpoints(3)), way)]
    answers += [(await bench.ask(bench.ip(9), bench.vip, 8000))[0] for _ in range(2)]
    assert answers == [f"{bench.ip(3)}:8080"] * 3


@pytest.mark.parametrize("way", ["socket", "gateway"])
async def test_g3_there_is_no_next_attempt_where_the_service_is_gone(bench: Bench, way: str) -> None:
    bench.mode("userspace")
    await bench.nodes["n1"].pod(bench.ip(2), 8080)
    bench.service()
    bench.endpoints(2)
    assert await ask(bench, Meanwhile(bench.delete_service), way) == ""
    planner: Any = bench.proxy.planner
    assert not planner._plans
    assert not planner._balancers


@pytest.mark.parametrize("mode", ["iptables", "ipvs", "nftables", "userspace"])
async def test_a_node_that_is_gone_takes_its_rules_along(bench: Bench, mode: str) -> None:
    """One that comes back under its name remembers no client."""
    bench.mode(mode)
    bench.service(sessionAffinity="ClientIP")
    bench.endpoints(2, 3, 66, 67)
    planner: Any = bench.proxy.planner
    frontend = bench.proxy.tables.frontends[Address(bench.vip, 8000, "TCP")]
    for source in (bench.ip(9), bench.ip(70)):
        assert planner.decide(frontend, (source, 40000), 0.0).endpoint
    entries = planner._balancers["default/web"]
    assert {entry for _, entry in entries} == {"n1", "n2"}
    bench.proxy.set_node("n2", None, None)
    bench.proxy.synchronize()
    assert {entry for _, entry in entries} == {"n1"}


async def test_a_virtual_server_goes_with_its_address_to_another_service(bench: Bench) -> None:
    bench.mode("ipvs")
    bench.service(created="2026-01-02T00:00:00Z", externalIPs=[bench.ip(201)])
    bench.endpoints(2)
    planner: Any = bench.proxy.planner
    address = Address(bench.ip(201), 8000, "TCP")
    assert planner.decide(bench.proxy.tables.frontends[address], (bench.ip(9), 40000), 0.0).endpoint
    bench.service("older", created="2026-01-01T00:00:00Z", clusterIP=bench.ip(201))
    bench.endpoints(3)
    assert not planner._balancers["default/web"]


async def test_whom_a_masquerading_node_lets_in_follows_the_nodes(bench: Bench) -> None:
    """A pod is always open to its own node, and with masqueradeAll to all who come through that."""
    bench.configure(masquerade_all=True)
    await bench.nodes["n2"].pod(bench.ip(66), 8080)
    bench.pod(66, app="backend")
    bench.service()
    bench.endpoints(66)
    bench.proxy.set_node("n2", None, None)
    bench.policy("closed", podSelector={"matchLabels": {"app": "backend"}}, ingress=[])
    await until(lambda: bench.proxy.settled)
    with pytest.raises(TimeoutError):
        await bench.ask(bench.ip(70), bench.vip, 8000, timeout=0.2)
    bench.proxy.set_node("n2", None, bench.node("n2"))
    bench.proxy.synchronize()
    await until(lambda: bench.proxy.settled)
    assert (await bench.ask(bench.ip(70), bench.vip, 8000))[1] == bench.ip(241)


async def test_a_proxy_that_is_closed_opens_nothing_for_what_came_at_the_last_moment(bench: Bench) -> None:
    bench.service()
    bench.endpoints(2)
    service = bench.proxy.tables.frontends[Address(bench.vip, 8000, "TCP")].port.service
    bench.proxy.set_service(service.key, service, service)
    bench.proxy.close()
    bench.proxy.set_service(service.key, service, service)
    for _ in range(3):
        await asyncio.sleep(0)
    assert Address(bench.vip, 8000, "TCP") not in bench.proxy.listeners


async def test_changes_that_are_in_force_are_not_put_in_force_again(bench: Bench) -> None:
    synchronized: list[object] = []
    bench.proxy.subscribe(synchronized.append)
    bench.service()
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(synchronized) == 1


async def test_a_flow_does_not_go_on_at_an_address_that_is_another_services_now(bench: Bench) -> None:
    port = {"port": 8000, "protocol": "UDP"}
    for last in (2, 3):
        await bench.nodes["n1"].udp_pod(bench.ip(last), 8080)
    bench.service(ports=[port])
    bench.endpoints(2, protocol="UDP")
    bench.endpoints(3, protocol="UDP", name="next")
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.bind((bench.ip(9), 0))
        client.connect((bench.vip, 8000))
        pods = []
        for _ in range(2):
            client.send(b"x")
            async with asyncio.timeout(2):
                pods.append((await loop.sock_recv(client, 100)).decode().split()[0])
            # Both in one turn: nobody has seen the address free.
            bench.proxy.set_service("default/web", None, None)
            bench.service("next", ports=[port])
    assert pods == [f"{bench.ip(2)}:8080", f"{bench.ip(3)}:8080"]
