"""The gateway goes where a socket of the same client would go, and is turned away where that would be."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from emu.core.config import ProxyMode
from emu.planes.loopback import LoopbackPlane
from emu.proxy.dialer import Dialer, DialError, Identity

from .conftest import Bench

PATIENCE = 0.3
# Not of the range of node ports: those of clusters on this machine are at 127.0.0.1, too.
NODE_PORT = 20000 + os.getpid() % 5000


class PatientPlane(LoopbackPlane):
    """Connections may take their time on a busy machine; only what is dropped is given up soon."""

    async def connect_tcp(self, source: str, address: str, port: int, timeout: float | None) -> socket.socket:
        return await super().connect_tcp(source, address, port, 5.0)


async def by_socket(bench: Bench, patience: float, source: str, ip: str, port: int) -> str:
    try:
        answer = await bench.ask(source, ip, port, timeout=patience)
    except TimeoutError:
        return "dropped"
    except (ConnectionRefusedError, ConnectionResetError):
        return "refused"
    return " ".join(answer[:2]) if answer else "refused"


async def by_gateway(bench: Bench, source: str, ip: str, port: int) -> str:
    dialer = Dialer(PatientPlane(), bench.proxy, None, PATIENCE)  # type: ignore[arg-type]
    try:
        dialled = await dialer.dial(Identity(source), ip, port)
    except DialError as error:
        return {502: "refused", 504: "dropped"}[error.status]
    with dialled.sock:
        data = await asyncio.get_running_loop().sock_recv(dialled.sock, 1000)
    dialled.ended()
    return " ".join(data.decode().split()[:2])


@pytest.mark.parametrize("mode", list(ProxyMode))
@pytest.mark.parametrize(
    ("internal", "external"), [("Cluster", "Cluster"), ("Cluster", "Local"), ("Local", "Local")]
)
async def test_it_agrees_with_the_data_path(
    bench: Bench, mode: ProxyMode, internal: str, external: str
) -> None:
    """With one endpoint, on n2: clients of both nodes and from outside, by every way in."""
    bench.mode(mode)
    await bench.nodes["n2"].pod(bench.ip(66), 8080)
    bench.service(
        type="LoadBalancer",
        # Then a load balancer sends a client always to the same node, not to all in turn.
        sessionAffinity="ClientIP",
        internalTrafficPolicy=internal,
        externalTrafficPolicy=external,
        externalIPs=[bench.ip(210)],
        loadBalancerSourceRanges=[f"{bench.ip(240)}/32", f"{bench.ip(70)}/32", "127.0.0.0/24"],
        ports=[{"port": 8000, "nodePort": NODE_PORT}],
        status={"loadBalancer": {"ingress": [{"ip": bench.ip(220)}]}},
    )
    bench.endpoints(66)
    flows = [
        (source, ip, port)
        for source in (bench.ip(9), bench.ip(70), bench.ip(66), bench.ip(240), bench.ip(241), "127.0.0.1")
        for ip, port in (
            (bench.vip, 8000),
            (bench.vip, 8001),
            (bench.ip(210), 8000),
            (bench.ip(220), 8000),
            (bench.ip(240), NODE_PORT),
            (bench.ip(241), NODE_PORT),
            ("127.0.0.1", NODE_PORT),
        )
    ]
    gateway = await asyncio.gather(*(by_gateway(bench, *flow) for flow in flows))
    asked = [
        (PATIENCE if outcome == "dropped" else 5.0, *flow)
        for flow, outcome in zip(flows, gateway, strict=True)
    ]
    sockets = await asyncio.gather(*(by_socket(bench, *one) for one in asked))
    assert dict(zip(flows, gateway, strict=True)) == dict(zip(flows, sockets, strict=True))
    assert {"dropped", "refused"} & set(sockets)
    assert not bench.unbound


async def test_g3_in_userspace_mode_it_tries_the_next_endpoint(bench: Bench) -> None:
    bench.mode("userspace")
    await bench.nodes["n1"].pod(bench.ip(2), 8080)
    bench.service()
    bench.endpoints(2, 3)
    answers = {await by_gateway(bench, bench.ip(9), bench.vip, 8000) for _ in range(4)}
    assert answers == {f"{bench.ip(2)}:8080 {bench.ip(240)}"}


async def test_e3_schedulers_that_look_at_the_port_see_another_one_each_time(bench: Bench) -> None:
    bench.mode("ipvs", "mh")
    for last in (2, 3):
        await bench.nodes["n1"].pod(bench.ip(last), 8080)
    bench.service()
    bench.endpoints(2, 3)
    answers = {(await by_gateway(bench, bench.ip(9), bench.vip, 8000)).split()[0] for _ in range(24)}
    assert answers == {f"{bench.ip(2)}:8080", f"{bench.ip(3)}:8080"}
