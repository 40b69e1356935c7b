"""What a client meets at the addresses of a Service, over real sockets, mode by mode."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Bench

KERNEL_MODES = ("iptables", "ipvs", "nftables")
NODE_PORT: dict[str, Any] = {"type": "NodePort", "ports": [{"port": 8000, "nodePort": 23701}]}


@pytest.mark.parametrize("mode", [*KERNEL_MODES, "userspace"])
async def test_c5_e8_an_undefined_port_of_a_cluster_ip_refuses(bench: Bench, mode: str) -> None:
    bench.mode(mode)
    bench.service()
    bench.endpoints(2)
    with pytest.raises(ConnectionRefusedError):
        await bench.ask(bench.ip(9), bench.vip, 8001)


@pytest.mark.parametrize("mode", KERNEL_MODES)
async def test_c3_every_port_of_a_service_without_endpoints_refuses(bench: Bench, mode: str) -> None:
    bench.mode(mode)
    bench.service(
        ports=[{"name": "a", "port": 8000}, {"name": "b", "port": 8001}], externalIPs=[bench.ip(210)]
    )
    bench.endpoints()
    for address in (bench.vip, bench.ip(210)):
        for port in (8000, 8001):
            with pytest.raises(ConnectionRefusedError):
                await bench.ask(bench.ip(9), address, port)


async def test_e9_ipvs_without_a_local_endpoint_serves_the_clients_of_the_node(bench: Bench) -> None:
    bench.mode("ipvs")
    bench.service(externalTrafficPolicy="Local", **NODE_PORT)
    bench.endpoints(66)
    for source in (bench.ip(9), bench.ip(240)):
        assert await bench.ask(source, bench.ip(240), 23701) == [f"{bench.ip(66)}:8080", source, "handover"]
    for source in ("127.0.0.1", bench.ip(70)):
        with pytest.raises(TimeoutError):
            await bench.ask(source, bench.ip(240), 23701, timeout=0.2)
    # C17: where one is local, nobody is led past it.
    bench.endpoints(2, 66)
    assert {(await bench.ask(bench.ip(9), bench.ip(240), 23701))[0] for _ in range(6)} == {
        f"{bench.ip(2)}:8080"
    }


async def test_c16_ipvs_resets_clients_of_a_node_without_a_local_endpoint(bench: Bench) -> None:
    bench.mode("ipvs")
    bench.service(internalTrafficPolicy="Local")
    bench.endpoints(66)
    # The socket is shared with clients of n2, so that this one is accepted before it is turned away.
    with pytest.raises(ConnectionResetError):
        await bench.ask(bench.ip(9), bench.vip, 8000)
    assert (await bench.ask(bench.ip(70), bench.vip, 8000))[0] == f"{bench.ip(66)}:8080"
    # An endpoint of no node is local nowhere, and then there is no socket for anybody.
    bench.endpoints({"addresses": [bench.ip(150)]})
    with pytest.raises(ConnectionRefusedError):
        await bench.ask(bench.ip(9), bench.vip, 8000)


async def test_c17_without_a_detector_the_kernel_drops_pods_too(bench: Bench) -> None:
    await bench.nodes["n2"].pod(bench.ip(66), 8080)
    bench.configure(detects_local=False)
    bench.service(externalTrafficPolicy="Local", **NODE_PORT)
    bench.endpoints(66)
    with pytest.raises(TimeoutError):
        await bench.ask(bench.ip(9), bench.ip(240), 23701, timeout=0.2)
    assert not bench.proxy.flows.lines()
    assert (await bench.ask(bench.ip(240), bench.ip(240), 23701))[1] == bench.ip(240)


async def test_c18_node_ports_move_with_the_configuration(bench: Bench) -> None:
    await bench.nodes["n1"].pod(bench.ip(2), 8080)
    bench.service(**NODE_PORT)
    bench.endpoints(2)
    bench.configure(node_port_addresses=(f"{bench.ip(241)}/32",))
    assert (await bench.ask("127.0.0.2", bench.ip(241), 23701))[0] == f"{bench.ip(2)}:8080"
    with pytest.raises(ConnectionRefusedError):
        await bench.ask("127.0.0.2", bench.ip(240), 23701)
    bench.configure(node_port_addresses=())
    assert (await bench.ask("127.0.0.2", bench.ip(240), 23701))[0] == f"{bench.ip(2)}:8080"


async def test_g5_the_userspace_mode_enforces_no_source_ranges(bench: Bench) -> None:
    await bench.nodes["n1"].pod(bench.ip(2), 8080)
    bench.service(
        type="LoadBalancer",
        loadBalancerSourceRanges=["10.0.0.0/8"],
        status={"loadBalancer": {"ingress": [{"ip": bench.ip(220)}]}},
    )
    bench.endpoints(2)
    with pytest.raises(TimeoutError):
        await bench.ask("127.0.0.2", bench.ip(220), 8000, timeout=0.2)
    bench.mode("userspace")
    assert (await bench.ask("127.0.0.2", bench.ip(220), 8000))[0] == f"{bench.ip(2)}:8080"
