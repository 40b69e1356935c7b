"""Listeners through changes, and when file descriptors run out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from emu.core.config import ProxyMode
from emu.core.objects import Node
from emu.proxy import descriptors

from .conftest import Bench

SHORT = "open files is reached"


def highest_descriptor() -> int:
    return max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())


@contextlib.contextmanager
def few_descriptors(more: int) -> Iterator[None]:
    """This process may open so many more than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        # Gaps below are filled, since the kernel gives the lowest number first.
        highest = highest_descriptor()
        while (filler := stack.enter_context(socket.socket())).fileno() < highest:
            pass
        resource.setrlimit(resource.RLIMIT_NOFILE, (filler.fileno() + 1 + more, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        yield


def metric(bench: Bench, name: str) -> float:
    families = bench.proxy.counters.families(ProxyMode.IPTABLES)
    return next(value for family in families if family.name == name for _, _, value in family.samples)


def shortages(bench: Bench) -> float:
    return metric(bench, "emu_proxy_descriptor_shortages_total")


def waiting(bench: Bench) -> float:
    return metric(bench, "emu_proxy_frontends_without_descriptor")


async def answered(sock: socket.socket, seconds: float) -> bool:
    """Whether a connection gets its answer within some time."""
    try:
        async with asyncio.timeout(seconds):
            return bool(await asyncio.get_running_loop().sock_recv(sock, 100))
    except TimeoutError:
        return False


def connected(bench: Bench, address: str) -> socket.socket:
    """Connected by the kernel, whether the proxy accepts or not."""
    sock = socket.create_connection((address, 8000), source_address=(bench.ip(9), 0))
    sock.setblocking(False)
    return sock


async def test_without_descriptors_clients_wait_and_it_is_said_once(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "QUIET_SECONDS", 0.2)
    monkeypatch.setattr("emu.proxy.listeners.QUIET_SECONDS", 0.2)
    caplog.set_level(logging.INFO)
    bench.service()
    bench.service("other", clusterIP=bench.ip(201))
    bench.endpoints(2)
    bench.endpoints(66, name="other")
    await bench.ask(bench.ip(9), bench.vip, 8000)
    await bench.ask(bench.ip(9), bench.ip(201), 8000)
    for node in bench.nodes.values():
        node.keep = True
    with ExitStack() as stack, few_descriptors(8):
        # Of each connection this one process has both ends.
        served = [stack.enter_context(connected(bench, bench.vip)) for _ in range(3)]
        assert [await answered(sock, 1) for sock in served] == [True] * 3
        late = [stack.enter_context(connected(bench, address)) for address in (bench.vip, bench.ip(201))]
        assert [await answered(sock, 0.3) for sock in late] == [False, False]
        # What was open goes on, and what comes back is given to those that wait.
        kept = bench.nodes["n1"].kept
        for ours, _ in kept[:2]:
            ours.close()
        served[0].close()
        served[1].close()
        assert [await answered(sock, 1) for sock in late] == [True, True]
        kept[2][0].send(b"still here")
        assert await answered(served[2], 1)
    assert len([record for record in caplog.records if SHORT in record.message]) == 1
    assert shortages(bench) == 1
    async with asyncio.timeout(2):
        while bench.proxy.descriptors.short:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert "enough file descriptors again" in caplog.text


async def test_without_a_descriptor_for_its_endpoint_a_connection_is_refused(bench: Bench) -> None:
    bench.configure(masquerade_all=True)
    bench.service()
    bench.endpoints(2)
    with few_descriptors(2), connected(bench, bench.vip) as sock, pytest.raises(ConnectionResetError):
        await answered(sock, 1)
    assert b"Too many open files" in bench.proxy.flows.lines()


async def test_a_shortage_wakes_the_proxy_a_few_times_a_second(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.service()
    bench.endpoints(2)
    bench.proxy.descriptors.set_limit(10)
    looks = 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        return False

    monkeypatch.setattr(bench.proxy.descriptors, "any_for_connections", look)
    with ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connected(bench, bench.vip))
        await asyncio.sleep(0.3)
    assert 1 <= looks <= 7


async def test_frontends_beyond_the_limit_are_told_of_once_and_opened_when_there_is_room(
    bench: Bench,
) -> None:
    with few_descriptors(100):
        bench.proxy.descriptors.frontends_below = highest_descriptor() + 6
        for number in range(10):
            bench.service(f"s{number}", clusterIP=bench.ip(130 + number))
            bench.endpoints(2, name=f"s{number}")
        bound = [number for number in range(10) if await serves(bench, number)]
        assert 3 <= len(bound) <= 6
        assert bound == list(range(len(bound)))
        assert len(bench.unbound) == 1
        assert SHORT in bench.unbound[0][1]
        assert waiting(bench) == 10 - len(bound)
        bench.delete_service("s0")
        bench.delete_service("s1")
        async with asyncio.timeout(2):
            while waiting(bench) != 8 - len(bound):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await serves(bench, bound[-1] + 2)
        assert len(bench.unbound) == 1
        assert shortages(bench) == 1


async def serves(bench: Bench, number: int) -> bool:
    try:
        await bench.ask(bench.ip(9), bench.ip(130 + number), 8000)
    except ConnectionRefusedError:
        return False
    return True


async def test_no_connection_is_refused_while_everything_else_changes(bench: Bench) -> None:
    for last in (2, 3, 66):
        await bench.nodes["n1"].pod(bench.ip(last), 8080)
    bench.service()
    bench.endpoints(2, 3)
    stop = asyncio.Event()
    served = 0

    async def hammer() -> None:
        nonlocal served
        while not stop.is_set():
            assert (await bench.ask(bench.ip(9), bench.vip, 8000))[0].endswith(":8080")
            served += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(hammer())
        for mode in (*ProxyMode, ProxyMode.IPTABLES):
            before = served
            for number in range(50):
                bench.service(f"s{number}", clusterIP=bench.ip(130 + number))
                bench.endpoints(2, name=f"s{number}")
            bench.endpoints(3, 66)
            bench.service(type="NodePort", ports=[{"port": 8000, "nodePort": 32700}])
            bench.service(ports=[{"port": 8000}, {"port": 8001, "name": "metrics"}])
            bench.mode(mode)
            bench.service(sessionAffinity="ClientIP", externalIPs=[bench.ip(220)])
            bench.endpoints(2)
            for number in range(50):
                bench.delete_service(f"s{number}")
            while served < before + 20:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        stop.set()


async def test_clients_do_not_wait_while_all_frontends_change(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emu.proxy.proxy._SETTLE_SECONDS", 0)
    for number in range(20):
        bench.service(f"s{number}", clusterIP=bench.ip(130 + number))
        bench.endpoints(2, name=f"s{number}")
    settled: list[str] = []
    want = bench.proxy.listeners.want
    monkeypatch.setattr(
        bench.proxy.listeners,
        "want",
        lambda frontend, allowed: (settled.append(frontend.port.name), want(frontend, allowed)),
    )
    bench.proxy.policies_changed()
    assert len(settled) == 1
    await asyncio.sleep(0)
    # A second change while the first is carried out: those that wait come first, and none twice in vain.
    bench.proxy.policies_changed()
    bench.delete_service("s19")
    while len(settled) < 21:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert settled == [f"default/s{number}" for number in (0, 1, *range(2, 19), 0, 1)]
    assert await serves(bench, 5)
    bench.mode("ipvs")
    assert len(settled) == 22


def node(bench: Bench, name: str, last: int, pods: int, zone: str) -> Node:
    document = {
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {"podCIDR": f"{bench.base}.{pods}/26"},
        "status": {"addresses": [{"type": "InternalIP", "address": bench.ip(last)}]},
    }
    return msgspec.convert(document, Node)


async def test_a_node_that_changes_touches_only_services_that_nodes_have_a_part_in(bench: Bench) -> None:
    bench.service()
    bench.service("ports", clusterIP=bench.ip(201), type="NodePort", ports=[{"port": 1, "nodePort": 32700}])
    bench.service("local", clusterIP=bench.ip(202), internalTrafficPolicy="Local")
    bench.service("external", clusterIP=bench.ip(203), externalIPs=[bench.ip(220)])
    bench.proxy.tables.take_changes()
    bench.proxy.set_node("n3", None, node(bench, "n3", 242, 128, "z3"))
    touched = {name for name, port in bench.proxy.tables.take_changes().ports.items() if port}
    assert touched == {"default/ports", "default/local", "default/external"}


async def test_a_node_that_moves_to_another_zone_is_told_other_endpoints(bench: Bench) -> None:
    bench.service()
    bench.endpoints(
        *(
            {"addresses": [bench.ip(2 + at)], "nodeName": "n1", "hints": {"forZones": [{"name": f"z{at}"}]}}
            for at in (1, 2)
        )
    )
    for zone, last in (("z1", 3), ("z2", 4)):
        bench.proxy.set_node("n1", None, node(bench, "n1", 240, 0, zone))
        assert set(await bench.spread(bench.ip(9), 8)) == {f"{bench.ip(last)}:8080"}
