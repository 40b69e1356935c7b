"""A change of an object is in the next answer, and costs no more than what it changes."""

import asyncio
import random
import socket
import time

import dns.rcode
import msgspec
import pytest

from emu.coredns import codec
from emu.coredns.chain import Query
from emu.coredns.families import Families
from emu.coredns.index import Index
from emu.coredns.plugins.kubernetes.latency import TRIGGER_TIME, ProgrammingLatency

from .conftest import PORT
from .test_kubernetes import COREFILE, HTTP, D, Z, populate


@pytest.fixture
async def served(cluster, start):
    populate(cluster)
    return await start(COREFILE)


async def answers(server, name, qtype="A"):
    reply = await server.ask(name, qtype)
    if reply.rcode() != dns.rcode.NOERROR:
        return dns.rcode.to_text(reply.rcode())
    return sorted(item.to_text() for rrset in reply.answer for item in rrset)


async def test_a_slice_comes_changes_and_goes(served, cluster):
    assert await answers(served, f"127-244-2-2.web.{D}") == "NXDOMAIN"
    first = cluster.endpoints("web", ["127.244.2.2"])
    assert await answers(served, f"127-244-2-2.web.{D}") == ["127.244.2.2"]
    cluster.index.set_slice(first.key, first, None)
    assert await answers(served, f"127-244-2-2.web.{D}") == "NXDOMAIN"
    assert await answers(served, f"web.{D}") == ["127.96.0.20"]


async def test_a_service_changes_its_address_and_goes(served, cluster):
    web = cluster.service("web", clusterIP="127.96.0.99")
    assert await answers(served, f"web.{D}") == ["127.96.0.99"]
    assert await answers(served, "20.0.96.127.in-addr.arpa.", "PTR") == "NXDOMAIN"
    assert await answers(served, "99.0.96.127.in-addr.arpa.", "PTR") == [f"web.{D}"]
    cluster.index.set_service(web.key, web, None)
    assert await answers(served, f"web.{D}") == "NXDOMAIN"
    assert await answers(served, "99.0.96.127.in-addr.arpa.", "PTR") == "NXDOMAIN"
    # Its endpoints are still there, and have no name without it.
    assert await answers(served, f"127-244-1-2.web.{D}") == "NXDOMAIN"
    assert await answers(served, "2.1.244.127.in-addr.arpa.", "PTR") == "NXDOMAIN"


async def test_a_service_changes_its_type(served, cluster):
    name = f"web.{D}"
    assert await answers(served, name) == ["127.96.0.20"]
    cluster.service("web", clusterIP="None", ports=[{"name": "http", "port": 80}])
    assert await answers(served, name) == ["127.244.1.2"]
    assert await answers(served, "20.0.96.127.in-addr.arpa.", "PTR") == "NXDOMAIN"
    cluster.service("web", type="ExternalName", externalName=f"dual.{D}")
    assert await answers(served, name) == ["127.96.0.21", f"dual.{D}"]
    assert await answers(served, f"127-244-1-2.web.{D}") == "NXDOMAIN"
    cluster.service("web", type="ExternalName", clusterIP="127.96.0.20", externalName=f"bare.{D}")
    assert await answers(served, "20.0.96.127.in-addr.arpa.", "PTR") == "NXDOMAIN"
    cluster.service("web", clusterIP="127.96.0.20", externalName=f"bare.{D}")
    assert await answers(served, name) == ["127.96.0.20"]
    assert await answers(served, f"127-244-1-2.web.{D}") == ["127.244.1.2"]


async def test_an_address_passes_from_one_service_to_another_in_either_order(served, cluster):
    web = cluster.service("web", clusterIP="127.96.0.20")
    cluster.service("heir", clusterIP="127.96.0.20")
    cluster.index.set_service(web.key, web, None)
    assert await answers(served, "20.0.96.127.in-addr.arpa.", "PTR") == [f"heir.{D}"]


async def test_several_slices_of_one_service_each_count(served, cluster):
    first = cluster.endpoints("head", ["127.244.7.1", "127.244.7.1"], ports=[HTTP])
    second = cluster.endpoints("head", ["127.244.7.1"], ports=[HTTP])
    for gone in (first, second):
        assert "127.244.7.1" in await answers(served, f"head.{D}")
        assert await answers(served, "1.7.244.127.in-addr.arpa.", "PTR") == [f"127-244-7-1.head.{D}"]
        cluster.index.set_slice(gone.key, gone, None)
    assert "127.244.7.1" not in await answers(served, f"head.{D}")
    assert await answers(served, "1.7.244.127.in-addr.arpa.", "PTR") == "NXDOMAIN"


async def test_a_slice_passes_to_another_service_by_its_label(served, cluster):
    before = cluster.endpoints("head", ["127.244.7.1"])
    now = cluster.slice_of("six", ["127.244.7.1"], name=before.metadata.name)
    cluster.index.set_slice(before.key, before, now)
    assert "127.244.7.1" not in await answers(served, f"head.{D}")
    assert await answers(served, f"six.{D}") == ["127.244.7.1"]
    cluster.index.set_slice(now.key, now, None)
    assert await answers(served, f"six.{D}") == []


async def test_addresses_that_are_none_are_left_out(served, cluster):
    cluster.endpoints("odd", ["nonsense", "fe80::1%eth0", "127.244.7.9"])
    cluster.service("odd", clusterIP="None")
    assert await answers(served, f"odd.{D}") == ["127.244.7.9"]
    assert await answers(served, f"odd.{D}", "AAAA") == []


async def test_a_hostname_that_is_no_label_is_none(served, cluster):
    names = ["a" * 64, "a.b"]
    cluster.endpoints("odd", [{"addresses": [f"127.244.7.{n}"], "hostname": h} for n, h in enumerate(names)])
    cluster.service("odd", clusterIP="None")
    for number in range(len(names)):
        assert await answers(served, f"127-244-7-{number}.odd.{D}") == [f"127.244.7.{number}"]


async def test_names_that_are_too_long_are_in_no_answer(cluster, start):
    populate(cluster)
    zone = ".".join(["z" * 60] * 3) + "."
    server = await start(COREFILE.replace("cluster.local", zone))
    cluster.service("s" * 50, clusterIP="None")
    cluster.endpoints("s" * 50, [{"addresses": ["127.244.7.1"], "hostname": "h" * 40}], ports=[HTTP])
    assert await answers(server, f"{'s' * 50}.default.svc.{zone}") == ["127.244.7.1"]
    assert await answers(server, f"{'s' * 50}.default.svc.{zone}", "SRV") == []
    assert await answers(server, "1.7.244.127.in-addr.arpa.", "PTR") == "NXDOMAIN"


async def test_a_namespace_goes_and_comes_back(served, cluster):
    default = cluster.namespace("default")
    cluster.index.set_namespace("default", default, None)
    for name in (f"web.{D}", D, f"127-0-0-1.default.pod.{Z}"):
        assert await answers(served, name) == "NXDOMAIN"
    assert await answers(served, "20.0.96.127.in-addr.arpa.", "PTR") == "NXDOMAIN"
    cluster.namespace("default")
    assert await answers(served, f"web.{D}") == ["127.96.0.20"]


async def test_labels_show_and_hide(cluster, start):
    populate(cluster)
    server = await start(COREFILE.replace("ttl 30", "labels app=shop\n namespace_labels team=blue"))
    assert await answers(server, f"web.{D}") == "NXDOMAIN"
    cluster.namespace("default", {"team": "blue"})
    assert await answers(server, f"web.{D}") == "NXDOMAIN"
    cluster.service("web", labels={"app": "shop"}, clusterIP="127.96.0.20")
    assert await answers(server, f"web.{D}") == ["127.96.0.20"]
    cluster.namespace("default", {"team": "red"})
    assert await answers(server, f"web.{D}") == "NXDOMAIN"


async def test_a_verified_pod_is_gone_once_it_terminates(cluster, start):
    populate(cluster)
    cluster.index.set_pods_synced()
    server = await start(COREFILE.replace("insecure", "verified"))
    name = f"127-244-9-1.default.pod.{Z}"
    pod = cluster.pod("a", "127.244.9.1")
    other = cluster.pod("b", "127.244.9.1")  # of the host's network, say
    assert await answers(server, name) == ["127.244.9.1"]
    cluster.index.set_pod(pod.key, pod, None)
    assert await answers(server, name) == ["127.244.9.1"]
    ending = cluster.pod_of("b", "127.244.9.1", deletionTimestamp="2024-01-01T00:00:00Z")
    cluster.index.set_pod(other.key, other, ending)
    assert await answers(server, name) == "NXDOMAIN"


async def test_the_serial_is_the_time_of_the_last_change(served, cluster, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1234567890.7)
    cluster.service("new", clusterIP="127.96.0.77")
    (soa,) = (await served.ask(Z, "SOA")).answer
    assert soa[0].serial == 1234567890
    monkeypatch.setattr(time, "time", lambda: 1234567899.0)
    cluster.service("new", clusterIP="127.96.0.77")  # the same again is no change
    (soa,) = (await served.ask(f"nope.{D}")).authority
    assert soa[0].serial == 1234567890
    cluster.service("new", clusterIP="127.96.0.78")
    (soa,) = (await served.ask(f"nope.{D}")).authority
    assert soa[0].serial == 1234567899


def test_a_change_names_the_services_that_it_concerns(cluster):
    told = []
    cluster.index.subscribe(told.append)
    cluster.namespace("default")
    cluster.namespace("default")
    web = cluster.service("web", clusterIP="127.96.0.20")
    cluster.service("web", clusterIP="127.96.0.20")
    item = cluster.endpoints("web", ["127.244.1.2"])
    cluster.index.set_slice(item.key, item, item)
    cluster.index.set_slice(item.key, item, cluster.slice_of("other", ["127.244.1.2"]))
    cluster.pod("a", "127.244.1.2")
    cluster.index.set_service(web.key, web, None)
    key, other = (b"default", b"web"), (b"default", b"other")
    assert [set(keys) if keys is not None else None for keys in told] == [
        None, {key}, {key}, {key, other}, set(), {key},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "services"),
    [
        (f"web.{D}", {"web"}),
        (f"_http._tcp.web.{D}", {"web"}),
        (f"x.y.z.web.{D}", {"web"}),
        (f"nope.{D}", {"nope"}),
        (f"chain.{D}", {"chain", "alias", "web"}),
        (f"dangling.{D}", {"dangling", "nope"}),
        (f"ping.{D}", {"ping", "pong"}),
        (D, set()),
        (f"nope.{Z}", set()),
        (f"1-2-3-4.default.pod.{Z}", set()),
        ("2.1.244.127.in-addr.arpa.", None),
        ("9.9.9.9.in-addr.arpa.", None),
        (f"ns.dns.{Z}", None),
    ],
)
async def test_a_reply_names_the_services_that_can_change_it(served, name, services):
    (plugin,) = served.server.configuration.plugins
    request = codec.parse_request(codec.encode_query(1, codec.to_wire(name), codec.A))
    reply = plugin.answer(Query(request, ("127.0.0.1", 1), "udp", ("127.0.0.1", 53)))
    assert reply.constant
    found = None if reply.services is None else {service.decode() for _, service in reply.services}
    assert found == services


def test_whatever_comes_and_goes_the_index_is_that_of_what_is_left(cluster):
    """Random changes, undone in random order, leave nothing behind."""
    rng = random.Random(5)
    index = cluster.index
    live = []
    for _ in range(400):
        if live and rng.random() < 0.5:
            undo = live.pop(rng.randrange(len(live)))
            undo()
            continue
        service = f"s{rng.randrange(5)}"
        addresses = [f"127.244.1.{rng.randrange(9)}" for _ in range(rng.randrange(4))]
        kind = rng.choice(["slice", "service", "pod"])
        if kind == "slice":
            item = cluster.endpoints(service, addresses)
            live.append(lambda item=item: index.set_slice(item.key, item, None))
        elif kind == "pod":
            pod = cluster.pod("p", "127.244.1.1", namespace=service)
            live.append(lambda pod=pod: index.set_pod(pod.key, pod, None))
        else:
            item = cluster.service(service, clusterIP=f"127.96.0.{rng.randrange(9)}")
            live.append(lambda item=item: index.set_service(item.key, item, None))
    for undo in live:
        undo()
    empty = Index()
    for name in ("services", "by_name", "by_cluster_ip", "_slices", "_endpoints", "_by_address", "_pods"):
        assert getattr(index, name) == getattr(empty, name), name


def test_how_long_a_change_took_is_measured_where_it_is_known(cluster):
    families = Families()
    now = 1700000000.0
    latency = ProgrammingLatency(cluster.index, families, lambda: now)
    cluster.service("head", clusterIP="None")
    cluster.service("web", clusterIP="127.96.0.20")

    def change(service, text, before=None):
        item = cluster.slice_of(service, ["127.244.1.2"])
        metadata = msgspec.structs.replace(item.metadata, annotations={TRIGGER_TIME: text})
        item = msgspec.structs.replace(item, metadata=metadata)
        latency.set_slice(item.key, before, item)
        return item

    def counted():
        return [
            (sample.labels["service_kind"], sample.value)
            for metric in families.collect()
            for sample in metric.samples
            if sample.name.endswith(("_count", "_sum"))
        ]

    now = 1700000003.0
    change("head", "2023-11-14T22:13:19Z")  # before the start
    change("head", "nonsense")
    change("web", "2023-11-14T22:13:21Z")  # no answer depends on it
    change("nobody", "2023-11-14T22:13:21Z")
    assert counted() == []
    first = change("head", "2023-11-14T22:13:21Z")
    change("head", "2023-11-14T22:13:21Z", first)  # another change of the slice, not of its cause
    assert counted() == [("headless_with_selector", 1.0), ("headless_with_selector", 2.0)]


async def test_no_query_after_a_change_gets_the_old_answer_among_10000_services(cluster, start):
    cluster.namespace("default")
    for number in range(10_000):
        address = f"127.{96 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
        cluster.service(f"s{number}", clusterIP=address, ports=[{"name": "http", "port": 80}])
        cluster.endpoints(f"s{number}", [f"127.244.{number // 250}.{number % 250 + 1}"], ports=[HTTP])
    cluster.service("head", clusterIP="None")
    cluster.index.set_synced()
    server = await start(COREFILE)
    packet = codec.encode_query(1, codec.to_wire(f"head.{D}"), codec.A)
    loop = asyncio.get_running_loop()
    before = None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((server.address, PORT))
        for number in range(300):
            address = f"127.244.{number // 250 + 100}.{number % 250 + 1}"
            now = cluster.slice_of("head", [address], ports=[HTTP])
            cluster.index.set_slice(now.key, before, now)
            await loop.sock_sendall(sock, packet)
            reply = await loop.sock_recv(sock, 4096)
            assert reply.endswith(socket.inet_aton(address))
            before = now
