"""What changes while a connection is on its way: nothing may be decided on what was true before."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from emu.planes.loopback import LoopbackPlane
from emu.proxy.dialer import Dialer, DialError, Identity

from .conftest import Bench


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
