"""Every connection that ipvs mode counts as begun ends, whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from random import Random

import pytest

from emu.planes.held import reset
from emu.proxy.dialer import Dialer, DialError, Identity
from emu.proxy.modes.ipvs import IpvsBalancer

from .conftest import Bench, until

NODE_PORT = 25000 + os.getpid() % 5000


def active(bench: Bench) -> int:
    """Connections that are open, over all virtual servers of all nodes."""
    balancers = [one for some in bench.proxy.planner._balancers.values() for one in some.values()]
    assert all(isinstance(balancer, IpvsBalancer) for balancer in balancers)
    return sum(destination.active for balancer in balancers for destination in balancer._known.values())


async def connect(bench: Bench, random: Random, ip: str, port: int) -> None:
    """A client that ends its connection in one way or another."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock, contextlib.suppress(OSError, TimeoutError):
        sock.setblocking(False)
        sock.bind((bench.ip(random.choice([9, 70])), 0))
        async with asyncio.timeout(0.5):
            await loop.sock_connect(sock, (ip, port))
            match random.choice(["ask", "half", "reset", "close"]):
                case "ask":
                    await loop.sock_recv(sock, 100)
                case "half":
                    sock.shutdown(socket.SHUT_WR)
                    await loop.sock_recv(sock, 100)
                case "reset":
                    reset(sock)


async def dial(bench: Bench, random: Random) -> None:
    dialer = Dialer(bench.proxy.plane, bench.proxy, None, 0.2)  # type: ignore[arg-type]
    with contextlib.suppress(DialError):
        dialled = await dialer.dial(Identity(bench.ip(9)), bench.vip, 8000)
        dialled.sock.close()
        dialled.ended()


@pytest.mark.parametrize("scheduler", ["lc", "sh"])
async def test_e3_no_connection_is_counted_for_ever(bench: Bench, scheduler: str) -> None:
    random = Random(1)
    bench.mode("ipvs", scheduler)
    bench.nodes["n2"].keep = True
    await bench.nodes["n2"].pod(bench.ip(66), 8080)
    bench.service(type="NodePort", sessionAffinity="ClientIP", ports=[{"port": 8000, "nodePort": NODE_PORT}])
    # On n1, on n2 where connections are kept open, on a node that is not there, and on none: nobody listens.
    nowhere = {"addresses": [bench.ip(150)]}
    bench.endpoints(2, 66, {"addresses": [bench.ip(151)], "nodeName": "n3"}, nowhere)
    ways = [(bench.vip, 8000), (bench.ip(240), NODE_PORT), (bench.ip(241), NODE_PORT)]
    for turn in range(6):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(12):
                tasks.create_task(connect(bench, random, *random.choice(ways)))
            tasks.create_task(dial(bench, random))
            await asyncio.sleep(0)
            match turn:
                case 1:
                    bench.endpoints(2, 66)
                case 2:
                    bench.endpoints(66, nowhere)
                case 3:
                    bench.mode("ipvs", "wlc")
                case 4:
                    bench.delete_service()
                    bench.service(ports=[{"port": 8000}])
                    bench.endpoints(2, 66)
    assert active(bench)
    bench.nodes["n2"].stop()
    await until(lambda: active(bench) == 0)
    assert not any(sender._in_flight for sender in bench.proxy.forwarder._senders.values())
    assert not len(bench.proxy.forwarder._relays)
