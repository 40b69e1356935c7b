"""ipvs mode over real sockets: its counts are those of connections that are open, wherever they go on."""

from __future__ import annotations

from time import monotonic
from typing import Any

import pytest

from emu.proxy.modes.ipvs import IpvsBalancer
from emu.proxy.paths import Client, ClientKind
from emu.proxy.tables import Address

from .conftest import Bench

PERSISTENT = {
    "sessionAffinity": "ClientIP",
    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
}


def shown(bench: Bench) -> str:
    """What `ipvsadm -Ln` would show of the virtual server on n1: `octet:weight/active/inactive`."""
    planner = bench.proxy.planner
    frontend = bench.proxy.tables.frontends[Address(bench.vip, 8000, "TCP")]
    candidates = planner.plan(frontend, Client(ClientKind.NODE, "n1"), bench.ip(240)).candidates
    balancer = planner.balancer_at(frontend, "n1")
    assert isinstance(balancer, IpvsBalancer)
    servers = balancer.real_servers(candidates, monotonic())
    return " ".join(
        f"{s.key.removesuffix(':8080').rpartition('.')[2]}:{s.weight}/{s.active}/{s.inactive}"
        for s in servers
    )


async def ask(bench: Bench, count: int = 1, client: int = 9) -> list[int]:
    """The last octets of the pods that answer a pod of n1."""
    answers = [await bench.ask(bench.ip(client), bench.vip, 8000) for _ in range(count)]
    return [int(answer[0].removesuffix(":8080").rpartition(".")[2]) for answer in answers]


async def serve(bench: Bench, scheduler: str = "rr", **spec: Any) -> None:
    bench.mode("ipvs", scheduler)
    bench.service(**spec)
    bench.endpoints(2, 3, 4)


async def test_e7_a_removed_endpoint_keeps_its_connections_and_gets_no_more(bench: Bench) -> None:
    bench.nodes["n1"].keep = True
    await serve(bench)
    assert await ask(bench) == [4]
    bench.endpoints(2, 3)
    assert await ask(bench, 4) == [3, 2, 3, 2]
    assert shown(bench) == "4:0/1/0 3:1/2/0 2:1/2/0"
    bench.endpoints(2, 3, 4)
    assert shown(bench) == "4:1/1/0 3:1/2/0 2:1/2/0"


async def test_e3_another_scheduler_knows_the_connections_that_are_open(bench: Bench) -> None:
    bench.nodes["n1"].keep = True
    await serve(bench)
    assert await ask(bench, 2) == [4, 3]
    bench.mode("ipvs", "lc")
    assert await ask(bench, 4) == [2, 4, 3, 2]
    assert shown(bench) == "4:1/2/0 3:1/2/0 2:1/2/0"


async def test_e3_scheduler_flags_take_effect_on_a_running_proxy(bench: Bench) -> None:
    await serve(bench, "sh")
    assert len(set(await ask(bench, 8))) == 1
    bench.configure(scheduler_flags=("sh-port",))
    # The kernel's source ports of 16 connections are not all in one of three residue classes.
    assert len(set(await ask(bench, 16))) > 1


@pytest.mark.parametrize("scheduler", ["lblc", "lblcr", "mh", "fo", "ovf", "dh", "nq", "sed", "wlc", "wrr"])
async def test_e3_every_scheduler_serves(bench: Bench, scheduler: str) -> None:
    await serve(bench, scheduler)
    assert set(await ask(bench, 3)) <= {2, 3, 4}


async def test_e3_ovf_refuses_when_each_has_more_connections_than_its_weight(bench: Bench) -> None:
    bench.nodes["n1"].keep = True
    await serve(bench, "ovf")
    assert await ask(bench, 6) == [4, 4, 3, 3, 2, 2]
    with pytest.raises(ConnectionResetError):
        await ask(bench)


async def test_e4_persistence_outlives_its_endpoints_change_and_ends_with_weight_0(bench: Bench) -> None:
    bench.nodes["n1"].keep = True
    await serve(bench, **PERSISTENT)
    assert await ask(bench, 2) == [4, 4]
    bench.endpoints(2, 3, 4, 5)
    assert await ask(bench, 2) == [4, 4]
    bench.endpoints(2, 3, 5)
    moved = await ask(bench, 2)
    assert len(set(moved)) == 1
    assert 4 not in moved
    bench.endpoints(2, 3, 4, 5)
    assert await ask(bench, 2) == moved
