"""Endpoints that are no pods, endpoints that come and go under load, and processes that die.

Rules C6, C7 and C8 of the data path, and what a client sees of a dead proxy and of a dead node.
"""

from __future__ import annotations

import contextlib
import threading

import pytest
from as_a_client import (
    OUTSIDE,
    Space,
    ask,
    at_once,
    client_seen,
    connect,
    http,
    node_ip,
    outcome,
    pod,
    program_at,
    service,
    spread,
)
from proxy_modes import ProxyInForce, every_mode

from emu.core.objects import Deployment, Pod, Service


def echo(replicas: int) -> dict[str, object]:
    """A Deployment of netexec."""
    labels = {"app": "echo"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "echo"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod("echo")["spec"]},
        },
    }


@pytest.fixture(scope="module")
def world(space: Space) -> Space:
    space.apply(
        echo(2),
        service("echo", "echo"),
        service("web", "web"),
        pod("host", "pause", node="node-2", labels={"app": "host"}),
        service("host", "host", ports=[{"port": 8080, "targetPort": 7000}]),
        pod("last", node="node-3", labels={"app": "last"}),
        service("last", "last", type="NodePort"),
    )
    address = space.vip("echo")
    space.cluster.until(lambda: len(spread(OUTSIDE, address)) == 2, what="the Services are in force")
    return space


@every_mode
def test_c8_an_endpoint_outside_the_cluster_sees_the_client(world: Space, mode: str):
    outside = world.outside("16.1")
    with program_at(outside) as port:
        subset = {"addresses": [{"ip": outside}], "ports": [{"port": port}]}
        world.apply(
            service("program", ports=[{"port": 8080, "targetPort": port}]),
            {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "program"}, "subsets": [subset]},
        )
        address, near = world.vip("program"), world.ip("near")
        world.cluster.until(lambda: spread(near, address, 1) == {"program"}, what="the program is served")
        seen = node_ip(world.cluster, "node-1") if mode == "userspace" else near
        assert client_seen(near, address) == seen


@every_mode
def test_c8_a_program_on_a_pods_address_is_an_endpoint_like_any_other(world: Space, mode: str):
    with program_at(world.ip("host"), 7000):
        near = world.ip("near")
        assert http(near, world.vip("host")) == "program"
        seen = node_ip(world.cluster, "node-1") if mode == "userspace" else near
        assert client_seen(near, world.vip("host")) == seen


@every_mode
def test_no_connection_is_refused_while_endpoints_come_and_go(world: Space, mode: str):
    address = world.vip("echo")
    failures: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                http(OUTSIDE, address)
            except OSError as error:
                failures.append(repr(error))

    def settled(replicas: int) -> bool:
        pods = world.cluster.objects(Pod, world.name, labels="app=echo")
        return len(pods) == replicas and all(item.ready and not item.terminating for item in pods)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for replicas in (4, 2):
            world.patch(Deployment, "echo", {"spec": {"replicas": replicas}})
            world.cluster.until(lambda replicas=replicas: settled(replicas), what=f"{replicas} replicas")
    finally:
        stop.set()
        thread.join()
    assert failures == []


@every_mode
def test_c7_a_connection_outlives_its_service_and_ends_with_its_pod(world: Space, mode: str):
    near, name = world.ip("near"), f"short-{mode}"
    world.apply(pod(name, node="node-2"), service(name, name))
    address = world.vip(name)
    world.cluster.until(lambda: outcome(near, address) == "ok", what="the Service is in force")
    with connect(near, address, 8080) as sock:
        assert ask(sock) == name
        world.delete(Service, name)
        world.cluster.until(lambda: outcome(near, address) == "refused", what="the Service is gone")
        assert ask(sock) == name
        world.delete(Pod, name, options={"gracePeriodSeconds": 0})
        with contextlib.suppress(ConnectionError):
            assert sock.recv(1) == b""


def test_c7_established_connections_survive_the_death_of_the_proxy(world: Space):
    near, address = world.ip("near"), world.vip("web")
    with connect(near, address, 8080) as sock:
        name = ask(sock)
        world.cluster.kill("proxy")
        assert ask(sock) == name
        world.cluster.until(lambda: outcome(near, address) == "ok", what="the virtual IP is back")
        assert ask(sock) == name


def test_an_endpoint_whose_node_is_dead_answers_nobody(world: Space, proxy: ProxyInForce):
    """A client of a dead host times out until the host is known to be dead; userspace mode closes it (G3)."""
    near, address = world.ip("near"), world.vip("last")
    node, number = node_ip(world.cluster, "node-1"), world.node_port("last")
    assert http(near, address) == "last"
    world.cluster.kill("node-3", hold=True)
    try:
        dials = [(near, address, 8080), (OUTSIDE, node, number)]
        assert at_once(outcome, dials) == ["dropped", "dropped"]
        proxy.use("userspace")
        assert at_once(outcome, dials) == ["reset", "reset"]
    finally:
        world.cluster.start("node-3")
    world.cluster.until(lambda: outcome(near, address) == "ok", what="the pod is back")
