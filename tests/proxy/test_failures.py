"""An exception while changes are put in force: the others are in force all the same, and nothing is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from emu.core.ranges import Ranges
from emu.proxy.modes.chains import ChainBalancer
from emu.proxy.planning import Planner
from emu.proxy.tables import Address, Changes, Frontend
from emu.telemetry.flows import Verdict

from .conftest import Bench, until


async def test_a_service_that_cannot_be_read_keeps_no_other_from_its_changes(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    other = bench.ip(201)
    bench.endpoints(2)
    bench.endpoints(2, name="other")
    bench.proxy.hold_back()
    bench.service(type="LoadBalancer", loadBalancerSourceRanges=["nonsense"])
    bench.service("other", clusterIP=other)
    assert (await bench.ask(bench.ip(9), other, 8000))[0] == f"{bench.ip(2)}:8080"
    assert "default/web" in caplog.text
    assert not bench.proxy.healthy(time.time() + bench.proxy.configuration.health_timeout)
    bench.service()
    assert (await bench.ask(bench.ip(9), bench.vip, 8000))[0] == f"{bench.ip(2)}:8080"
    assert bench.proxy.healthy(time.time() + bench.proxy.configuration.health_timeout)


@pytest.mark.parametrize("by_itself", [True, False])
async def test_an_address_that_fails_is_tried_again(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, by_itself: bool
) -> None:
    other, allowed_sources = bench.ip(201), Planner.allowed_sources

    def broken(planner: Planner, frontend: Frontend) -> Ranges:
        if frontend.address.ip == bench.vip:
            raise RuntimeError("broken")
        return allowed_sources(planner, frontend)

    bench.configure(sync_period=0.01 if by_itself else 60.0)
    for name, ip in (("web", bench.vip), ("other", other)):
        bench.service(name, clusterIP=ip)
        bench.endpoints(2, name=name)
    monkeypatch.setattr(Planner, "allowed_sources", broken)
    # With policy Local only the clients of one node may come in.
    for name, ip in (("web", bench.vip), ("other", other)):
        bench.service(name, clusterIP=ip, internalTrafficPolicy="Local")
    assert "broken" in caplog.text
    assert not bench.proxy.settled
    assert await bench.ask(bench.ip(9), other, 8000)
    # What goes on as it was is not remembered when it is over.
    assert await bench.ask(bench.ip(70), bench.vip, 8000)
    monkeypatch.undo()
    if by_itself:
        await until(lambda: bench.proxy.settled)
    else:
        bench.delete_service("other")
    assert bench.proxy.settled
    with pytest.raises(TimeoutError):
        await bench.ask(bench.ip(70), bench.vip, 8000, timeout=0.2)
    frontend = bench.proxy.tables.frontends[Address(bench.vip, 8000, "TCP")]
    assert bench.proxy.planner.decide(frontend, (bench.ip(70), 40000), 0.0).verdict is Verdict.DROPPED


async def test_one_who_fails_to_hear_of_a_change_keeps_no_other_from_hearing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Changes] = []

    def deaf(changes: Changes) -> None:
        raise RuntimeError("deaf")

    bench.proxy.subscribe(deaf)
    bench.proxy.subscribe(heard.append)
    bench.service()
    assert [list(changes.ports) for changes in heard] == [["default/web"]]
    assert "RuntimeError: deaf" in caplog.text


async def test_a_fault_in_a_mode_costs_one_connection_and_no_descriptor(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.service()
    bench.endpoints(2)
    assert await bench.ask(bench.ip(9), bench.vip, 8000)
    before = open_descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(ChainBalancer, "choose", lambda *_: {}["endpoint"])
        with pytest.raises(ConnectionResetError):
            await bench.ask(bench.ip(9), bench.vip, 8000)
    assert "KeyError" in caplog.text
    await until(lambda: open_descriptors() == before)
    assert await bench.ask(bench.ip(9), bench.vip, 8000)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
