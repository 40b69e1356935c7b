"""Endpoints that are virtual addresses: what was translated once is not again, or it might go on for ever."""

from __future__ import annotations

import asyncio
import socket

import pytest

from emu.core.config import ProxyMode
from emu.planes.loopback import LoopbackPlane
from emu.proxy.dialer import Dialer, DialError, Identity
from emu.telemetry.flows import Verdict

from .conftest import Bench

MODES = [mode.value for mode in ProxyMode]


def verdicts(bench: Bench, name: str) -> dict[str, int]:
    counted = bench.proxy.counters.connections
    return {verdict.value: count for (port, verdict), count in counted.items() if port == name}


@pytest.mark.parametrize("mode", MODES)
async def test_an_endpoint_that_is_the_services_own_address_gets_nothing(bench: Bench, mode: str) -> None:
    bench.mode(mode)
    bench.service()
    bench.endpoints({"addresses": [bench.vip]}, port=8000)
    if mode == "userspace":
        assert await bench.ask(bench.ip(9), bench.vip, 8000) == []
    else:
        with pytest.raises(ConnectionResetError if mode == "ipvs" else TimeoutError):
            await bench.ask(bench.ip(9), bench.vip, 8000, timeout=0.3)
    assert sum(verdicts(bench, "default/web").values()) == 1
    with pytest.raises(DialError):
        await Dialer(LoopbackPlane(), bench.proxy, None, 0.1).dial(  # type: ignore[arg-type]
            Identity(bench.ip(9)), bench.vip, 8000
        )


async def test_two_services_that_point_at_each_other_get_nothing(bench: Bench) -> None:
    other = bench.ip(201)
    bench.service()
    bench.service("other", clusterIP=other)
    bench.endpoints({"addresses": [other], "nodeName": "n1"}, port=8000)
    bench.endpoints({"addresses": [bench.vip], "nodeName": "n1"}, port=8000, name="other")
    with pytest.raises(TimeoutError):
        await bench.ask(bench.ip(9), bench.vip, 8000, timeout=0.3)
    assert verdicts(bench, "default/web") == {Verdict.DROPPED.value: 1}
    assert not verdicts(bench, "default/other")


async def test_datagrams_do_not_go_in_circles(bench: Bench) -> None:
    bench.service(ports=[{"port": 8000, "protocol": "UDP"}])
    bench.endpoints({"addresses": [bench.vip]}, port=8000, protocol="UDP")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.bind((bench.ip(9), 0))
        client.sendto(b"x", (bench.vip, 8000))
        for _ in range(5):
            await asyncio.sleep(0)
    assert verdicts(bench, "default/web") == {Verdict.DROPPED.value: 1}
    assert not len(bench.proxy.udp)


async def test_an_address_that_another_program_serves_is_an_endpoint_like_any_other(bench: Bench) -> None:
    """The port of a Service that is bound by its pod itself, as a pod in the host network may."""
    await bench.nodes["n1"].pod(bench.ip(201), 8000)
    bench.service("taken", clusterIP=bench.ip(201))
    bench.service()
    bench.endpoints(2, name="taken")
    bench.endpoints({"addresses": [bench.ip(201)]}, port=8000)
    assert (await bench.ask(bench.ip(9), bench.vip, 8000))[0] == f"{bench.ip(201)}:8000"
