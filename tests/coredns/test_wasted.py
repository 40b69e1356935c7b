"""Search queries that were in vain, counted by the pod that sent them."""

import asyncio
import re
import socket

import msgspec
import pytest

from emu.coredns import codec
from emu.coredns.clients import ClientPod, Clients
from emu.coredns.codec import A
from emu.coredns.wasted import MAX_ADDRESSES, MAX_PODS, WastedQueries

from .test_kubernetes import D, Z, populate

COREFILE = ". {\nprometheus\nkubernetes cluster.local in-addr.arpa\n}"
PORT = 5353
_SERIES = re.compile(r'emu_dns_search_queries_wasted_total\{namespace="(.*?)",pod="(.*?)"\} (\d+)\.0')


def pod(name, address, namespace="shop"):
    document = {
        "metadata": {"name": name, "namespace": namespace},
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    }
    return msgspec.convert(document, ClientPod)


def series(server):
    page = server.server.facts.metrics.serve()[2].decode()
    return {f"{namespace}/{name}": int(count) for namespace, name, count in _SERIES.findall(page)}


async def ask(server, source, *names, times=1):
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((source, 0))
        sock.connect((server.address, PORT))
        for name in names:
            for _ in range(times):
                await loop.sock_sendall(sock, codec.encode_query(7, codec.to_wire(name), A))
                async with asyncio.timeout(3):
                    await loop.sock_recv(sock, 600)


@pytest.fixture
async def served(cluster, start):
    populate(cluster)
    server = await start(COREFILE)
    clients = server.server.facts.clients
    assert clients.wanted.is_set()
    clients.set_pod("", None, pod("one", "127.201.254.1"))
    clients.set_pod("", None, pod("two", "127.201.254.2"))
    clients.synced = True
    return server


async def test_each_client_of_a_kept_reply_is_counted(served):
    await ask(served, "127.201.254.1", f"example.org.{D}", f"example.org.{Z}", times=3)
    await ask(served, "127.201.254.2", f"example.org.{D}", times=2)
    await ask(served, "127.201.254.9", f"example.org.{D}")
    assert series(served) == {"shop/one": 6, "shop/two": 2}
    await ask(served, "127.201.254.1", f"example.org.{D}")
    assert series(served) == {"shop/one": 7, "shop/two": 2}


async def test_over_tcp(served):
    served.server.facts.clients.set_pod("", None, pod("host", "127.0.0.1"))
    await served.ask(f"nope.{D}", tcp=True)
    assert series(served) == {"shop/host": 1}


async def test_what_was_not_in_vain_is_not_counted(served):
    await ask(served, "127.201.254.1", f"web.{D}", f"default.svc.{Z}", "1.1.1.1.in-addr.arpa", "example.org")
    assert series(served) == {}


async def test_an_address_that_passes_on_leaves_its_number_to_the_pod_before(served):
    clients = served.server.facts.clients
    await ask(served, "127.201.254.1", f"nope.{D}")
    clients.set_pod("", pod("one", "127.201.254.1"), None)
    await ask(served, "127.201.254.1", f"nope.{D}")
    clients.set_pod("", None, pod("three", "127.201.254.1"))
    await ask(served, "127.201.254.1", f"nope.{D}")
    assert series(served) == {"shop/one": 1, "shop/three": 1}


def test_addresses_and_pods_are_bounded():
    clients = Clients()
    wasted = WastedQueries(clients)
    for number in range(3 * MAX_ADDRESSES):
        address = f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        clients.set_pod("", None, pod(f"pod-{number}", address))
        wasted.counts[address] += 1
        assert len(wasted.counts) <= MAX_ADDRESSES
    clients.synced = True
    (family,) = wasted.collect()
    names = [sample.labels["pod"] for sample in family.samples]
    assert len(names) == MAX_PODS
    assert names[-1] == f"pod-{3 * MAX_ADDRESSES - 1}"


def test_nobodys_queries_are_forgotten_once_all_pods_are_known():
    clients = Clients()
    wasted = WastedQueries(clients)
    wasted.counts["127.244.1.5"] += 1
    wasted.counts["127.0.0.1"] += 1
    assert [len(family.samples) for family in wasted.collect()] == [0]
    clients.set_pod("", None, pod("late", "127.244.1.5"))
    clients.synced = True
    (family,) = wasted.collect()
    assert [(sample.labels["pod"], sample.value) for sample in family.samples] == [("late", 1)]
    assert not wasted.counts


def test_addresses_are_bounded_before_the_pods_are_known_too():
    wasted = WastedQueries(Clients())
    for number in range(2 * MAX_ADDRESSES):
        wasted.counts[str(number)] += 1
    assert len(wasted.counts) <= MAX_ADDRESSES
