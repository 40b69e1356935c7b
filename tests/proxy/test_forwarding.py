"""What clients and pods see, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from emu.planes.loopback import LoopbackPlane

from .conftest import Bench

KERNEL_MODES = ("iptables", "ipvs", "nftables")


@pytest.mark.parametrize("mode", KERNEL_MODES)
async def test_pod_to_cluster_ip_is_handed_over_and_keeps_its_source(bench: Bench, mode: str) -> None:
    bench.mode(mode)
    bench.service()
    bench.endpoints(2, 66)
    answers = [await bench.ask(bench.ip(9), bench.vip, 8000) for _ in range(12)]
    assert {answer[0] for answer in answers} == {f"{bench.ip(2)}:8080", f"{bench.ip(66)}:8080"}
    assert {tuple(answer[1:]) for answer in answers} == {(bench.ip(9), "handover")}
    handover = bench.nodes["n1"].received[0]
    assert (handover.virtual_ip, handover.virtual_port, handover.service) == (bench.vip, 8000, "default/web")


async def test_outside_and_node_clients_of_a_cluster_ip_keep_their_address(bench: Bench) -> None:
    bench.service()
    bench.endpoints(2)
    assert (await bench.ask("127.0.0.1", bench.vip, 8000))[1:] == ["127.0.0.1", "handover"]
    assert (await bench.ask(bench.ip(240), bench.vip, 8000))[1:] == [bench.ip(240), "handover"]


@pytest.mark.parametrize("mode", KERNEL_MODES)
async def test_without_endpoints_refused_at_once(bench: Bench, mode: str) -> None:
    bench.mode(mode)
    bench.service()
    bench.endpoints({"addresses": [bench.ip(2)], "conditions": {"ready": False}})
    with pytest.raises(ConnectionRefusedError):
        await bench.ask(bench.ip(9), bench.vip, 8000)
    bench.endpoints(2)
    assert (await bench.ask(bench.ip(9), bench.vip, 8000))[0] == f"{bench.ip(2)}:8080"
    bench.endpoints()
    with pytest.raises(ConnectionRefusedError):
        await bench.ask(bench.ip(9), bench.vip, 8000)


async def test_userspace_without_endpoints_accepts_and_closes(bench: Bench) -> None:
    bench.mode("userspace")
    bench.service()
    assert await bench.ask(bench.ip(9), bench.vip, 8000) == []


async def test_userspace_goes_round_robin_and_the_pod_sees_the_node(bench: Bench) -> None:
    bench.mode("userspace")
    for last in (2, 3, 66):
        await bench.nodes["n1"].pod(bench.ip(last), 8080)
    bench.service()
    bench.endpoints(2, 3, 66)
    answers = [await bench.ask(bench.ip(70), bench.vip, 8000) for _ in range(6)]
    assert [answer[0] for answer in answers[:3]] == [answer[0] for answer in answers[3:]]
    assert len({answer[0] for answer in answers}) == 3
    assert {tuple(answer[1:]) for answer in answers} == {(bench.ip(241), "direct")}


async def test_userspace_tries_the_next_endpoint(bench: Bench) -> None:
    bench.mode("userspace")
    await bench.nodes["n1"].pod(bench.ip(2), 8080)
    bench.service()
    bench.endpoints(2, 3)
    assert set(await bench.spread(bench.ip(9), 4)) == {f"{bench.ip(2)}:8080"}


async def test_ipvs_round_robin(bench: Bench) -> None:
    bench.mode("ipvs")
    bench.service()
    bench.endpoints(2, 3, 66)
    # The real server that was added last is the first in the list.
    expected = [f"{bench.ip(last)}:8080" for last in (66, 3, 2, 66, 3, 2)]
    assert await bench.spread(bench.ip(9), 6) == expected


async def test_ipvs_least_connection_counts_connections_that_are_open(bench: Bench) -> None:
    bench.mode("ipvs", "lc")
    bench.nodes["n1"].keep = True
    bench.service()
    bench.endpoints(2, 3, 66)
    spread = Counter(await bench.spread(bench.ip(9), 7))
    # n1 keeps its connections open, n2 ends them: the pod on n2 gets what follows.
    assert spread[f"{bench.ip(2)}:8080"] == spread[f"{bench.ip(3)}:8080"] == 1


async def test_client_ip_affinity_in_every_kernel_mode(bench: Bench) -> None:
    bench.service(sessionAffinity="ClientIP")
    bench.endpoints(2, 3, 4, 66, 67)
    for mode in KERNEL_MODES:
        bench.mode(mode)
        assert len(set(await bench.spread(bench.ip(9), 8))) == 1, mode


async def test_the_mode_changes_without_closing_listeners_or_connections(bench: Bench) -> None:
    bench.nodes["n1"].keep = True
    bench.service()
    bench.endpoints(2)
    with socket.create_connection((bench.vip, 8000), source_address=(bench.ip(9), 0)) as sock:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_recv(sock, 100)
        bench.mode("ipvs")
        bench.delete_service()
        bench.nodes["n1"].kept[0][0].send(b"still here")
        assert await loop.sock_recv(sock, 100) == b"still here"


async def test_a_dead_node_looks_like_a_dead_host(bench: Bench) -> None:
    bench.service()
    bench.endpoints(2)
    bench.nodes["n1"].stop()
    with pytest.raises(TimeoutError):
        await bench.ask(bench.ip(70), bench.vip, 8000, timeout=0.2)


async def test_a_dead_node_is_told_from_a_dead_pod_however_deep_the_state_directory_is(
    tmp_path: Path,
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    bench = Bench(deep)
    await bench.start()
    try:
        bench.configure(masquerade_all=True)
        bench.service()
        bench.endpoints(2)
        with pytest.raises(ConnectionResetError):
            await bench.ask(bench.ip(70), bench.vip, 8000)
        bench.nodes["n1"].stop()
        with pytest.raises(TimeoutError):
            await bench.ask(bench.ip(70), bench.vip, 8000, timeout=0.2)
    finally:
        bench.stop()


async def test_an_endpoint_of_no_node_is_relayed_with_the_clients_address(bench: Bench) -> None:
    await bench.nodes["n1"].pod(bench.ip(150), 8080)
    bench.service()
    bench.endpoints({"addresses": [bench.ip(150)]})
    assert await bench.ask(bench.ip(9), bench.vip, 8000) == [f"{bench.ip(150)}:8080", bench.ip(9), "direct"]


async def test_an_endpoint_that_does_not_listen_resets(bench: Bench) -> None:
    bench.service()
    bench.endpoints({"addresses": [bench.ip(150)]})
    with pytest.raises(ConnectionResetError):
        await bench.ask(bench.ip(9), bench.vip, 8000)


async def test_hairpin_sees_the_bridge(bench: Bench) -> None:
    await bench.nodes["n1"].pod(bench.ip(2), 8080)
    bench.service()
    bench.endpoints(2)
    assert (await bench.ask(bench.ip(2), bench.vip, 8000))[1:] == [bench.ip(1), "direct"]


async def test_masquerade_all(bench: Bench) -> None:
    bench.configure(masquerade_all=True)
    await bench.nodes["n1"].pod(bench.ip(2), 8080)
    bench.service()
    bench.endpoints(2)
    assert (await bench.ask(bench.ip(70), bench.vip, 8000))[1:] == [bench.ip(241), "direct"]


NODE_PORT = {"type": "NodePort", "ports": [{"port": 8000, "nodePort": 32700}]}


async def test_node_port_with_policy_cluster_is_masqueraded_to_the_receiving_node(bench: Bench) -> None:
    await bench.nodes["n1"].pod(bench.ip(2), 8080)
    bench.service(**NODE_PORT)
    bench.endpoints(2)
    assert (await bench.ask("127.0.0.1", bench.ip(241), 32700))[1:] == [bench.ip(241), "direct"]


async def test_node_port_with_policy_local(bench: Bench) -> None:
    bench.service(externalTrafficPolicy="Local", **NODE_PORT)
    bench.endpoints(2)
    assert (await bench.ask("127.0.0.1", bench.ip(240), 32700))[1:] == ["127.0.0.1", "handover"]
    with pytest.raises(TimeoutError):
        await bench.ask("127.0.0.1", bench.ip(241), 32700, timeout=0.2)
    # A pod of the node without an endpoint takes the short-cut.
    assert (await bench.ask(bench.ip(70), bench.ip(241), 32700))[1:] == [bench.ip(70), "handover"]


async def test_internal_traffic_policy_local_drops_where_no_endpoint_is(bench: Bench) -> None:
    bench.service(internalTrafficPolicy="Local")
    bench.endpoints(66)
    assert (await bench.ask(bench.ip(70), bench.vip, 8000))[0] == f"{bench.ip(66)}:8080"
    with pytest.raises(TimeoutError):
        await bench.ask(bench.ip(9), bench.vip, 8000, timeout=0.2)


async def test_load_balancer_source_ranges_drop(bench: Bench) -> None:
    await bench.nodes["n1"].pod(bench.ip(2), 8080)
    bench.service(
        type="LoadBalancer",
        loadBalancerSourceRanges=["127.0.0.1/32"],
        status={"loadBalancer": {"ingress": [{"ip": bench.ip(220)}]}},
    )
    bench.endpoints(2)
    assert (await bench.ask("127.0.0.1", bench.ip(220), 8000))[1] in (bench.ip(240), bench.ip(241))
    with pytest.raises(TimeoutError):
        await bench.ask("127.0.0.2", bench.ip(220), 8000, timeout=0.2)
    assert (await bench.ask("127.0.0.2", bench.vip, 8000))[1] == "127.0.0.2"


async def test_load_balancer_of_ip_mode_proxy_is_not_touched(bench: Bench) -> None:
    bench.service(
        type="LoadBalancer",
        status={"loadBalancer": {"ingress": [{"ip": bench.ip(220), "ipMode": "Proxy"}]}},
    )
    bench.endpoints(2)
    with pytest.raises(ConnectionRefusedError):
        await bench.ask("127.0.0.1", bench.ip(220), 8000)


async def test_an_address_that_is_taken_is_reported_once_and_bound_when_free(bench: Bench) -> None:
    with socket.create_server((bench.vip, 8000)):
        bench.service()
        bench.endpoints(2)
        bench.endpoints(2, 3)
        assert len(bench.unbound) == 1
        assert "another program listens there" in bench.unbound[0][1]
    bench.endpoints(2)
    assert (await bench.ask(bench.ip(9), bench.vip, 8000))[0] == f"{bench.ip(2)}:8080"


async def test_an_annotated_service_is_left_to_its_binder(bench: Bench) -> None:
    bench.service(annotations={"emu.network/bound-by": "coredns"}, **NODE_PORT)
    bench.endpoints(2)
    with socket.create_server((bench.vip, 8000)):
        assert not bench.unbound


async def test_a_vip_drops_whom_every_endpoint_denies(bench: Bench) -> None:
    for last, app in ((2, "backend"), (9, "frontend"), (10, "other")):
        bench.pod(last, app=app)
    bench.service()
    bench.endpoints(2)
    bench.policy(
        "allow-frontend",
        podSelector={"matchLabels": {"app": "backend"}},
        ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "frontend"}}}]}],
    )
    assert (await bench.ask(bench.ip(9), bench.vip, 8000))[1] == bench.ip(9)
    with pytest.raises(TimeoutError):
        await bench.ask(bench.ip(10), bench.vip, 8000, timeout=0.2)


@pytest.mark.parametrize("filters", [True, False], ids=["in the kernel", "once accepted"])
async def test_egress_of_the_client_counts_on_masqueraded_paths(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, filters: bool
) -> None:
    if not filters:
        monkeypatch.setattr(LoopbackPlane, "restrict", lambda self, sock, allowed: False)
    await bench.nodes["n1"].pod(bench.ip(2), 8080)
    for last, app in ((2, "backend"), (9, "frontend"), (10, "closed")):
        bench.pod(last, app=app)
    bench.service(**NODE_PORT)
    bench.endpoints(2)
    bench.policy("no-egress", podSelector={"matchLabels": {"app": "closed"}}, policyTypes=["Egress"])
    assert (await bench.ask(bench.ip(9), bench.ip(240), 32700))[1] == bench.ip(240)
    with pytest.raises(TimeoutError):
        await bench.ask(bench.ip(10), bench.ip(240), 32700, timeout=0.2)
    assert (b"no-egress" in bench.proxy.flows.lines()) is not filters


CLOSED = {"podSelector": {"matchLabels": {"app": "backend"}}, "ingress": []}


@pytest.mark.parametrize(
    ("spec", "dialled", "connects"),
    [
        # The node's address is what the pod sees, and its own node is always let in.
        (NODE_PORT, (240, 32700), {9, 70, 127}),
        (NODE_PORT, (241, 32700), set()),
        (NODE_PORT | {"externalTrafficPolicy": "Local"}, (240, 32700), set()),
        ({"externalIPs": 220}, (220, 8000), {9, 127}),
    ],
    ids=["own node", "other node", "Local keeps the source", "external IP enters at the client's node"],
)
async def test_the_kernel_drops_whom_every_endpoint_denies_on_masqueraded_paths(
    bench: Bench, spec: dict[str, Any], dialled: tuple[int, int], connects: set[int]
) -> None:
    """Connecting is enough to tell: a client that no endpoint admits gets no answer to its SYN."""
    await bench.nodes["n1"].pod(bench.ip(2), 8080)
    bench.pod(2, app="backend")
    fields = {key: [bench.ip(value)] if key == "externalIPs" else value for key, value in spec.items()}
    bench.service(**fields)
    bench.endpoints(2)
    bench.policy("closed", **CLOSED)
    found = set()
    for last in (9, 70, 127):
        source = "127.0.0.1" if last == 127 else bench.ip(last)
        with contextlib.suppress(TimeoutError):
            (await bench.proxy.plane.connect_tcp(source, bench.ip(dialled[0]), dialled[1], 0.2)).close()
            found.add(last)
    assert found == connects


async def test_terminating_endpoints_serve_when_nothing_else_does(bench: Bench) -> None:
    bench.service()
    conditions = {"ready": False, "serving": True, "terminating": True}
    bench.endpoints({"addresses": [bench.ip(2)], "nodeName": "n1", "conditions": conditions})
    assert (await bench.ask(bench.ip(9), bench.vip, 8000))[0] == f"{bench.ip(2)}:8080"


UDP = {"ports": [{"port": 8000, "protocol": "UDP"}]}


async def udp_ask(sock: socket.socket, text: bytes) -> list[str]:
    loop = asyncio.get_running_loop()
    sock.send(text)
    async with asyncio.timeout(10):
        return (await loop.sock_recv(sock, 100)).decode().split()


def udp_client(source: str, address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((source, 0))
    sock.connect((address, 8000))
    return sock


async def test_udp_decides_once_for_each_flow(bench: Bench) -> None:
    for last in (2, 3, 66):
        await bench.nodes["n1"].udp_pod(bench.ip(last), 8080)
    bench.mode("ipvs")
    bench.service(**UDP)
    bench.endpoints(2, 3, 66, protocol="UDP")
    with udp_client(bench.ip(9), bench.vip) as first, udp_client(bench.ip(9), bench.vip) as second:
        answers = [await udp_ask(first, b"%d" % number) for number in range(3)]
        assert answers == [[f"{bench.ip(66)}:8080", bench.ip(9), str(number)] for number in range(3)]
        assert (await udp_ask(second, b"x"))[0] == f"{bench.ip(3)}:8080"
        # The flow ends with its endpoint, and the next datagram starts another.
        bench.endpoints(2, 3, protocol="UDP")
        assert (await udp_ask(first, b"y"))[0] != f"{bench.ip(66)}:8080"


async def test_udp_without_endpoints_is_refused(bench: Bench) -> None:
    bench.service(**UDP)
    with udp_client(bench.ip(9), bench.vip) as sock, pytest.raises(ConnectionRefusedError):
        await udp_ask(sock, b"x")


class _NoLowPorts(LoopbackPlane):
    """A machine that refuses ports below 1024 to an ordinary user."""

    allowed = False

    def listen_tcp(self, address: str, port: int) -> socket.socket:
        if port < 1024 and not self.allowed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return super().listen_tcp(address, port)


async def test_a_port_that_needs_a_privilege_is_reported_with_the_remedy_and_tried_on_changes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = _NoLowPorts()
    monkeypatch.setattr(bench.proxy.listeners, "_plane", plane)
    bench.service(ports=[{"port": 80}])
    bench.endpoints(2)
    bench.endpoints(2, 3)
    assert [name for name, _ in bench.unbound] == ["default/web"]
    assert "sysctl net.ipv4.ip_unprivileged_port_start=0" in bench.unbound[0][1]
    plane.allowed = True
    bench.endpoints(2)
    assert (await bench.ask(bench.ip(9), bench.vip, 80))[0] == f"{bench.ip(2)}:8080"


async def test_where_the_kernel_takes_no_filter_a_dropped_client_is_held(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoopbackPlane, "restrict", lambda self, sock, allowed: False)
    bench.service(internalTrafficPolicy="Local")
    bench.endpoints(66)
    with pytest.raises(TimeoutError):
        await bench.ask(bench.ip(9), bench.vip, 8000, timeout=0.2)
    assert b"internalTrafficPolicy Local" in bench.proxy.flows.lines()


async def test_of_two_services_with_one_address_the_older_has_it(bench: Bench) -> None:
    """Whichever came to the proxy first; the other one is told by whom it is kept out."""
    for name, last, created in (("rival", 66, "2026-01-02T00:00:00Z"), ("web", 2, "2026-01-01T00:00:00Z")):
        vip = bench.ip(200 + len(name))
        bench.service(name, clusterIP=vip, externalIPs=[bench.ip(220)], created=created)
        bench.endpoints(last, name=name)
        await bench.nodes["n1"].pod(bench.ip(last), 8080)
    assert (await bench.ask("127.0.0.1", bench.ip(220), 8000))[0] == f"{bench.ip(2)}:8080"
    assert [name for name, _ in bench.unbound] == ["default/rival"]
    assert "belongs to the older Service default/web" in bench.unbound[0][1]
    bench.delete_service("web")
    assert (await bench.ask("127.0.0.1", bench.ip(220), 8000))[0] == f"{bench.ip(66)}:8080"
    assert len(bench.unbound) == 1
