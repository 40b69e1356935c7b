"""UDP through virtual addresses, as clients and pods see it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from emu.core.config import ProxyMode
from emu.planes.loopback import LoopbackPlane
from emu.proxy.conntrack import FlowTable

from .conftest import Bench, until

PORT = {"port": 8000, "protocol": "UDP"}
MODES = list(ProxyMode)
KERNEL_MODES = [mode for mode in MODES if mode is not ProxyMode.USERSPACE]
NODE_PORT = {"type": "NodePort", "ports": [{**PORT, "nodePort": 32700}]}


def client(source: str, address: str, port: int = 8000) -> socket.socket:
    """Connected, so that it hears answers of the address that it dialled only."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((source, 0))
    sock.connect((address, port))
    return sock


async def ask(sock: socket.socket, text: bytes = b"x", timeout: float = 1.0) -> list[str]:
    """`[pod, client that the pod saw, text]`."""
    sock.send(text)
    async with asyncio.timeout(timeout):
        return (await asyncio.get_running_loop().sock_recv(sock, 70000)).decode().split()


async def hears_nothing(sock: socket.socket) -> bool:
    try:
        await ask(sock, timeout=0.1)
    except TimeoutError:
        return True
    return False


@pytest.fixture
async def udp(bench: Bench) -> Bench:
    """A UDP Service with three pods that answer."""
    for last in (2, 3, 66):
        await bench.nodes["n1"].udp_pod(bench.ip(last), 8080)
    bench.service(ports=[PORT])
    bench.endpoints(2, 3, 66, protocol="UDP")
    return bench


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("mode", MODES)
async def test_h1_one_decision_for_each_flow(udp: Bench, mode: str) -> None:
    udp.mode(mode)
    answers = set()
    with ExitStack() as stack:
        for _ in range(24):
            sock = stack.enter_context(client(udp.ip(9), udp.vip))
            found = {(await ask(sock))[0] for _ in range(3)}
            assert len(found) == 1
            answers |= found
    assert len(answers) == 3


async def test_h3_a_flow_ends_when_its_endpoint_goes_or_no_longer_serves(udp: Bench) -> None:
    with client(udp.ip(9), udp.vip) as sock:
        first = (await ask(sock))[0]
        last = int(first.split(":")[0].rpartition(".")[2])
        others = [other for other in (2, 3, 66) if other != last]
        conditions: dict[str, Any] = {"ready": False, "serving": True, "terminating": True}
        leaving = {"addresses": [udp.ip(last)], "nodeName": "n1", "conditions": conditions}
        udp.endpoints(*others, leaving, protocol="UDP")
        assert (await ask(sock))[0] == first
        conditions["serving"] = False
        udp.endpoints(*others, leaving, protocol="UDP")
        second = (await ask(sock))[0]
        assert second != first
        udp.endpoints(last, protocol="UDP")
        assert (await ask(sock))[0] == first


async def test_h3_flows_of_other_services_go_on(udp: Bench) -> None:
    udp.service("other", clusterIP=udp.ip(201), ports=[PORT])
    udp.endpoints(2, protocol="UDP", name="other")
    with client(udp.ip(9), udp.vip) as sock, client(udp.ip(9), udp.ip(201)) as other:
        first = await ask(sock)
        await ask(other)
        udp.delete_service("other")
        assert len(udp.proxy.udp) == 1
        assert await ask(sock) == first


async def test_h4_nothing_remembers_that_there_was_no_endpoint(bench: Bench) -> None:
    await bench.nodes["n1"].udp_pod(bench.ip(2), 8080)
    bench.service(ports=[PORT])
    with client(bench.ip(9), bench.vip) as sock:
        with pytest.raises(ConnectionRefusedError):
            await ask(sock)
        bench.endpoints(2, protocol="UDP")
        assert (await ask(sock))[0] == f"{bench.ip(2)}:8080"
        bench.endpoints(protocol="UDP")
        bench.mode("userspace")
        assert await hears_nothing(sock)
        bench.endpoints(2, protocol="UDP")
        assert (await ask(sock))[0] == f"{bench.ip(2)}:8080"


async def test_h5_without_endpoints_a_connected_client_is_refused(bench: Bench) -> None:
    bench.service(ports=[PORT])
    with client(bench.ip(9), bench.vip) as sock, pytest.raises(ConnectionRefusedError):
        await ask(sock)


async def test_flows_outlive_a_change_of_mode_and_of_traffic_policy(udp: Bench) -> None:
    with client(udp.ip(9), udp.vip) as sock:
        first = (await ask(sock))[0]
        for mode in (*MODES, "iptables"):
            udp.mode(mode)
            assert (await ask(sock))[0] == first
        udp.service(ports=[PORT], internalTrafficPolicy="Local")
        udp.service(ports=[PORT], sessionAffinity="ClientIP")
        assert (await ask(sock))[0] == first


async def test_flows_end_with_the_port_and_leave_no_socket(udp: Bench) -> None:
    before = descriptors()
    with client(udp.ip(9), udp.vip) as sock:
        await ask(sock)
        udp.service(ports=[{**PORT, "port": 8001}])
        assert len(udp.proxy.udp) == 0
        with pytest.raises(ConnectionRefusedError):
            await ask(sock)
        udp.service(ports=[PORT])
        await ask(sock)
        udp.delete_service()
        assert len(udp.proxy.udp) == 0
    # The socket of the virtual address has gone, too.
    assert descriptors() == before - 1


async def test_g5_the_userspace_mode_forgets_a_client_after_its_own_time(udp: Bench) -> None:
    udp.configure(mode=ProxyMode.USERSPACE, udp_idle_seconds=0.06)
    before = descriptors()
    with client(udp.ip(9), udp.vip) as sock:
        order = []
        for _ in range(4):
            answer = await ask(sock)
            assert answer[1] == udp.ip(240)
            order.append(answer[0])
            await until(lambda: len(udp.proxy.udp) == 0)
        assert len(set(order[:3])) == 3
        assert order[3] == order[0]
    assert descriptors() == before


async def test_a_denied_flow_is_not_remembered_and_an_established_one_is_not_cut(udp: Bench) -> None:
    for last, app in ((2, "backend"), (3, "backend"), (66, "backend"), (9, "frontend")):
        udp.pod(last, app=app)
    backend = {"podSelector": {"matchLabels": {"app": "backend"}}}
    with client(udp.ip(9), udp.vip) as first, client(udp.ip(9), udp.vip) as second:
        answer = await ask(first)
        udp.policy("closed", **backend, ingress=[])
        assert await ask(first) == answer
        assert await hears_nothing(second)
        assert len(udp.proxy.udp) == 1
        assert b"closed" in udp.proxy.flows.lines()
        udp.policy("open", **backend, ingress=[{}])
        await ask(second)


async def test_a_node_port_answers_from_the_address_dialled(bench: Bench) -> None:
    await bench.nodes["n1"].udp_pod(bench.ip(2), 8080)
    bench.service(**NODE_PORT)
    bench.endpoints(2, protocol="UDP")
    for address, seen in ((bench.ip(240), 240), (bench.ip(241), 241), ("127.0.0.1", 240)):
        with client("127.0.0.1", address, 32700) as sock:
            assert await ask(sock) == [f"{bench.ip(2)}:8080", bench.ip(seen), "x"]


async def test_c20_source_ranges_and_c15_local_policy_drop_datagrams(bench: Bench) -> None:
    await bench.nodes["n1"].udp_pod(bench.ip(2), 8080)
    bench.service(
        **{**NODE_PORT, "type": "LoadBalancer"},
        loadBalancerSourceRanges=["127.0.0.1/32"],
        externalTrafficPolicy="Local",
        status={"loadBalancer": {"ingress": [{"ip": bench.ip(220)}]}},
    )
    bench.endpoints(2, protocol="UDP")
    for source, address, port, passes in (
        ("127.0.0.1", bench.ip(220), 8000, True),
        ("127.0.0.2", bench.ip(220), 8000, False),
        ("127.0.0.2", bench.ip(240), 32700, True),
        ("127.0.0.2", bench.ip(241), 32700, False),
    ):
        with client(source, address, port) as sock:
            assert await hears_nothing(sock) is not passes, (source, address)


async def test_a_closed_port_ends_the_flow_and_the_client_hears_nothing(bench: Bench) -> None:
    bench.service(ports=[PORT])
    bench.endpoints(2, protocol="UDP")
    with client(bench.ip(9), bench.vip) as sock:
        sock.send(b"x")
        await until(lambda: b"forwarded" in bench.proxy.flows.lines())
        await until(lambda: len(bench.proxy.udp) == 0)
        await bench.nodes["n1"].udp_pod(bench.ip(2), 8080)
        assert (await ask(sock))[0] == f"{bench.ip(2)}:8080"


async def test_several_answers_to_one_datagram_all_arrive(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    bench.service(ports=[PORT])
    bench.endpoints(2, protocol="UDP")
    with LoopbackPlane().listen_udp(bench.ip(2), 8080) as pod, client(bench.ip(9), bench.vip) as sock:
        for size in (100, 1, 60_000, 0):
            sock.send(b"q" * size)
            question, seen = await loop.sock_recvfrom(pod, 70_000)
            assert question == b"q" * size
            for number in range(5):
                pod.sendto(b"a" * number, seen)
            async with asyncio.timeout(1):
                assert [len(await loop.sock_recv(sock, 100)) for _ in range(5)] == [0, 1, 2, 3, 4]


async def test_a_full_table_gives_up_the_flow_that_is_idle_longest(
    udp: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp.proxy.udp, "_table", FlowTable(2))
    before = descriptors()
    with ExitStack() as stack:
        socks = [stack.enter_context(client(udp.ip(9), udp.vip)) for _ in range(5)]
        for sock in socks:
            await ask(sock)
        assert len(udp.proxy.udp) == 2
        assert descriptors() == before + len(socks) + 2


async def test_a_flow_that_finds_no_descriptor_takes_that_of_another(
    udp: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client(udp.ip(9), udp.vip) as first, client(udp.ip(9), udp.vip) as second:
        await ask(first)
        connect = udp.proxy.plane.connect_udp

        def limited(source: str, address: str, port: int) -> socket.socket:
            if len(udp.proxy.udp):
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return connect(source, address, port)

        monkeypatch.setattr(LoopbackPlane, "connect_udp", staticmethod(limited))
        await ask(second)
        assert len(udp.proxy.udp) == 1
