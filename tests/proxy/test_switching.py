"""From one mode to another while connections go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from emu.core.config import ProxyMode
from emu.core.objects import Endpoints
from emu.proxy.switching import Switch

from .conftest import Bench


class Watch:
    """A reflector of Endpoints that a test feeds."""

    def __init__(self) -> None:
        self.synced = asyncio.Event()
        self.running = False
        self._listeners: list[Any] = []

    def subscribe(self, listener: Any) -> None:
        self._listeners.append(listener)

    def tell(self, name: str, *addresses: str) -> None:
        subset = {"addresses": [{"ip": ip} for ip in addresses], "ports": [{"port": 8080}]}
        document = {"metadata": {"name": name, "namespace": "default"}, "subsets": [subset]}
        for listener in self._listeners:
            listener(f"default/{name}", None, msgspec.convert(document, Endpoints))

    async def run(self) -> None:
        self.running = True
        try:
            await asyncio.Event().wait()
        finally:
            self.running = False


class Switched:
    """A bench whose configuration goes through a switch."""

    def __init__(self, bench: Bench, tasks: asyncio.TaskGroup) -> None:
        self.bench = bench
        self.watches: list[Watch] = []
        self.switch = Switch(bench.proxy, tasks, self._watch)  # type: ignore[arg-type]

    def _watch(self) -> Watch:
        self.watches.append(Watch())
        return self.watches[-1]

    def to(self, mode: str, **changes: Any) -> None:
        self.switch.to(self.bench.proxy.configuration._replace(mode=ProxyMode(mode), **changes))


@pytest.fixture
async def switched(bench: Bench) -> AsyncIterator[Switched]:
    async with asyncio.TaskGroup() as tasks:
        made = Switched(bench, tasks)
        yield made
        made.to("iptables")


async def settle() -> None:
    """Let what is scheduled run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_g5_the_userspace_mode_waits_for_endpoints_and_drops_them_after(switched: Switched) -> None:
    bench = switched.bench
    await bench.nodes["n1"].pod(bench.ip(2), 8080)
    await bench.nodes["n1"].pod(bench.ip(3), 8080)
    bench.service()
    bench.endpoints(2)
    bench.proxy.forget_endpoints()
    switched.to("userspace")
    await settle()
    # Nothing has changed before the Endpoints are known.
    assert bench.proxy.configuration.mode is ProxyMode.IPTABLES
    assert not switched.switch.settled.is_set()
    assert (await bench.ask(bench.ip(9), bench.vip, 8000))[0] == f"{bench.ip(2)}:8080"
    (watch,) = switched.watches
    assert watch.running
    watch.tell("web", bench.ip(3))
    watch.synced.set()
    await switched.switch.settled.wait()
    assert bench.proxy.configuration.mode is ProxyMode.USERSPACE
    assert (await bench.ask(bench.ip(9), bench.vip, 8000))[:2] == [f"{bench.ip(3)}:8080", bench.ip(240)]
    watch.tell("web", bench.ip(2), bench.ip(3))
    await settle()
    assert set(await bench.spread(bench.ip(9), 4)) == {f"{bench.ip(2)}:8080", f"{bench.ip(3)}:8080"}
    switched.to("ipvs")
    # What it was about to tell when it was ended.
    watch.tell("web", bench.ip(2), bench.ip(3))
    await settle()
    assert not watch.running
    assert set(await bench.spread(bench.ip(9), 4)) == {f"{bench.ip(2)}:8080"}
    # Next time it begins with nothing of what it knew.
    switched.to("userspace")
    await settle()
    switched.watches[-1].synced.set()
    await switched.switch.settled.wait()
    assert await bench.ask(bench.ip(9), bench.vip, 8000) == []


async def test_the_last_configuration_wins(switched: Switched) -> None:
    switched.to("userspace", masquerade_all=True)
    switched.to("userspace", masquerade_all=False)
    await settle()
    (first,) = switched.watches
    switched.to("nftables")
    first.synced.set()
    await settle()
    assert switched.bench.proxy.configuration.mode is ProxyMode.NFTABLES
    switched.to("userspace", udp_idle_seconds=1.0)
    await settle()
    second = switched.watches[-1]
    assert second is not first
    switched.to("userspace", udp_idle_seconds=2.0)
    second.synced.set()
    await settle()
    assert switched.bench.proxy.configuration.mode is ProxyMode.USERSPACE
    assert switched.bench.proxy.configuration.udp_idle_seconds == 2.0
    switched.to("userspace", udp_idle_seconds=3.0)
    assert switched.bench.proxy.configuration.udp_idle_seconds == 3.0


async def test_no_connection_is_refused_while_modes_change(switched: Switched) -> None:
    bench = switched.bench
    await bench.nodes["n1"].pod(bench.ip(2), 8080)
    bench.service()
    bench.endpoints(2)
    stop, answered = asyncio.Event(), asyncio.Event()
    answers: list[list[str]] = []

    async def ask_on_and_on() -> None:
        while not stop.is_set():
            try:
                answers.append(await bench.ask(bench.ip(9), bench.vip, 8000))
            finally:
                answered.set()

    asking = asyncio.create_task(ask_on_and_on())
    for mode in ("userspace", "ipvs", "userspace", "nftables") * 3:
        switched.to(mode)
        await settle()
        if mode == "userspace":
            switched.watches[-1].tell("web", bench.ip(2))
            switched.watches[-1].synced.set()
        await switched.switch.settled.wait()
        answered.clear()
        async with asyncio.timeout(5):
            await answered.wait()
    stop.set()
    await asking
    assert {answer[0] for answer in answers} == {f"{bench.ip(2)}:8080"}
