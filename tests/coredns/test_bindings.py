"""Which sockets there are, as pods, ports and policies change."""

import asyncio
import errno
import os
import socket

import msgspec
import pytest

from emu.core.addresses import Networks, to_int
from emu.core.config import ClusterConfig, Ports
from emu.core.objects import Pod
from emu.core.ranges import EVERYONE, NOBODY
from emu.coredns.bindings import Bindings
from emu.coredns.corefile import kubeadm_corefile
from emu.coredns.environment import Facts
from emu.coredns.index import Index
from emu.coredns.metrics import Metrics
from emu.coredns.server import Server
from emu.planes.loopback import LoopbackPlane

BASE = 20000 + os.getpid() % 10000
POD = "127.201.251.2"


class Plane(LoopbackPlane):
    """Ports below 1024 need a privilege that is not there; `filters`: whether the kernel takes filters."""

    filters = True

    def listen_udp(self, address, port, allowed=EVERYONE):
        if port < 1024:
            raise PermissionError(errno.EACCES, "Permission denied")
        return super().listen_udp(address, port, allowed)

    def restrict(self, sock, allowed):
        return super().restrict(sock, allowed) if self.filters else allowed == EVERYONE


def dns_pod(address=POD, port=BASE + 1):
    ports = [
        {"name": "dns", "containerPort": port, "protocol": "UDP"},
        {"name": "dns-tcp", "containerPort": port},
    ]
    return msgspec.convert(
        {
            "metadata": {"name": "coredns-1", "namespace": "kube-system"},
            "spec": {"containers": [{"name": "coredns", "ports": ports}]},
            "status": {"podIP": address, "phase": "Running"},
        },
        Pod,
    )


@pytest.fixture
async def bound():
    config = ClusterConfig(
        networks=Networks(services="127.201.250.0/24", pods="127.202.0.0/16", nodes="127.203.0.0/16"),
        ports=Ports(dns=BASE, dns_fallback=BASE + 2),
    )
    server = Server(Facts(Index(), Metrics()))
    text = kubeadm_corefile("cluster.local").replace("loop\n", "\n").replace(":9153", f":{BASE + 3}")
    await server.apply(text.replace("ready\n", f"ready :{BASE + 4}\n"), "Corefile")
    plane = Plane()
    warnings = []
    bindings = Bindings(
        plane,
        config,
        server.responder,
        server.endpoints,
        lambda about, text: warnings.append((about.key, text)),
    )
    bindings.plane, bindings.warnings, bindings.server = plane, warnings, server
    bindings.apply()
    yield bindings
    bindings.close()
    await server.stop()


def listens(address, port):
    with socket.socket() as sock:
        return sock.connect_ex((address, port)) == 0


async def test_what_needs_a_privilege_falls_back_and_says_so_once(bound):
    assert listens("127.201.250.10", BASE + 2)
    assert listens("127.0.0.1", BASE)
    bound.apply()
    ((about, text),) = bound.warnings
    assert about == "kube-system/kube-dns"
    assert "127.201.250.10:53" in text
    assert "sysctl net.ipv4.ip_unprivileged_port_start=0" in text


async def test_pods_come_and_go(bound):
    bound.set_pods([dns_pod()])
    assert listens(POD, BASE + 1)
    assert bound.pods == (POD,)
    bound.set_pods([])
    assert not listens(POD, BASE + 1)
    assert listens("127.201.250.10", BASE + 2)


async def test_ready_says_503_until_all_is_known(bound):
    bound.set_pods([dns_pod()])

    async def status():
        reader, writer = await asyncio.open_connection(POD, BASE + 4)
        writer.write(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
        page = await reader.read()
        writer.close()
        return page.split()[1], page.rpartition(b"\r\n")[2]

    assert await status() == (b"503", b"kubernetes")
    bound.server.facts.index.set_synced()
    assert await status() == (b"200", b"OK")


@pytest.mark.parametrize("filters", [True, False], ids=["kernel filter", "judged by the server"])
async def test_a_virtual_ip_drops_whom_every_pod_denies(bound, filters):
    bound.plane.filters = filters
    bound.set_pods([dns_pod()])
    friend = to_int("127.201.249.1")
    # The engine keeps nobody but isolated pods from an address outside the cluster.
    bound.set_sources(
        lambda address, port, protocol: EVERYONE if address == "127.0.0.1" else ((friend, friend),)
    )
    query = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\7cluster\5local\0\0\6\0\1"

    async def hears(source, address, port):
        with bound.plane.connect_udp(source, address, port) as sock:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, query)
            try:
                async with asyncio.timeout(0.2):
                    return bool(await loop.sock_recv(sock, 512))
            except TimeoutError:
                return False

    for address, port in ((POD, BASE + 1), ("127.201.250.10", BASE + 2)):
        assert await hears("127.201.249.1", address, port)
        assert not await hears("127.201.249.2", address, port)
    assert await hears("127.201.249.2", "127.0.0.1", BASE)
    bound.set_sources(lambda address, port, protocol: NOBODY)
    assert not await hears("127.201.249.1", POD, BASE + 1)
    bound.set_sources(None)
    assert await hears("127.201.249.2", POD, BASE + 1)
