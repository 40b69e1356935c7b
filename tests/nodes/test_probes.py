import asyncio

import pytest

from emu.core.objects import Container, ContainerPort, HTTPGetAction, Probe, TCPSocketAction
from emu.nodes.dialler import Dialler
from emu.nodes.probes import Readiness, Target, probe_once, target_of, watch_readiness
from emu.planes.loopback import LoopbackPlane

from .network import CLIENT, SERVER, network, until

CONTAINER = Container(name="c", ports=(ContainerPort(container_port=18301, name="web"),))


@pytest.mark.parametrize(
    ("rule", "outcomes", "success", "failure", "ready"),
    [
        ("not ready before the first outcome", [], 1, 3, False),
        ("ready after one success", [True], 1, 3, True),
        ("successThreshold counts successes in a row", [True, False, True], 2, 3, False),
        ("ready when it is reached", [False, True, True], 2, 3, True),
        ("stays ready below failureThreshold", [True, False, False], 1, 3, True),
        ("not ready when it is reached", [True, False, False, False], 1, 3, False),
        ("a success between starts the count again", [True, False, False, True, False], 1, 3, True),
    ],
)
def test_thresholds(rule: str, outcomes: list[bool], success: int, failure: int, ready: bool) -> None:
    readiness = Readiness(Probe(success_threshold=success, failure_threshold=failure))
    for outcome in outcomes:
        readiness.observe(outcome)
    assert readiness.ready is ready, rule


@pytest.mark.parametrize(
    ("rule", "probe", "target"),
    [
        (
            "port by number",
            Probe(http_get=HTTPGetAction(port=80, path="/ready")),
            Target(SERVER, 80, "/ready", f"{SERVER}:80"),
        ),
        (
            "port by name",
            Probe(http_get=HTTPGetAction(port="web")),
            Target(SERVER, 18301, "/", f"{SERVER}:18301"),
        ),
        ("number as text", Probe(tcp_socket=TCPSocketAction(port="80")), Target(SERVER, 80)),
        ("another host", Probe(tcp_socket=TCPSocketAction(port=80, host=CLIENT)), Target(CLIENT, 80)),
        (
            "path without slash",
            Probe(http_get=HTTPGetAction(port=80, path="x")),
            Target(SERVER, 80, "/x", f"{SERVER}:80"),
        ),
        (
            "unknown name",
            Probe(tcp_socket=TCPSocketAction(port="dns")),
            'container c has no port named "dns"',
        ),
        ("no port", Probe(tcp_socket=TCPSocketAction()), "invalid port number 0"),
        ("another kind", Probe(), "only httpGet and tcpSocket probes are available"),
    ],
)
def test_target(rule: str, probe: Probe, target: Target | str) -> None:
    assert target_of(probe, CONTAINER, SERVER) == target, rule


async def test_outcomes_over_real_sockets() -> None:
    async with network() as net:
        net.serve(net.plan("agnhost", "netexec", "--http-port=18301", "--udp-port=-1"))
        dialler = Dialler(LoopbackPlane(), CLIENT)
        rows = [
            (Target(SERVER, 18301, "/hostname"), True, ""),
            (Target(SERVER, 18301, "/echo?code=399"), True, ""),
            (Target(SERVER, 18301, "/echo?code=500"), False, "statuscode: 500"),
            (Target(SERVER, 18301), True, ""),
            (Target(SERVER, 18398), False, "18398"),
            (Target(SERVER, 18398, "/"), False, "18398"),
        ]
        for target, success, message in rows:
            result = await probe_once(target, dialler, 1.0)
            assert result.success is success, target
            assert message in result.message
        net.servers[0].restrict(())
        result = await probe_once(Target(SERVER, 18301, "/"), dialler, 0.1)
        assert result.message == f"no answer from {SERVER}:18301 within 0.1 s"


async def test_readiness_follows_the_server() -> None:
    changes: list[bool] = []
    failures: list[str] = []
    probe = Probe(period_seconds=0, failure_threshold=2)  # type: ignore[arg-type]
    watch = watch_readiness(
        probe,
        Target(SERVER, 18302),
        Dialler(LoopbackPlane(), CLIENT),
        changes.append,
        failures.append,
        eager=True,
    )
    task = asyncio.ensure_future(watch)
    async with network() as net:
        net.serve(net.plan("agnhost", "netexec", "--http-port=18302", "--udp-port=-1"))
        await until(lambda: changes == [True])
    await until(lambda: changes == [True, False])
    assert failures
    task.cancel()
