"""Plugin `erratic`: each fault as a client meets it, whom it meets, the five-second delay in miniature."""

import asyncio
import logging
import socket
import time

import dns.exception
import dns.flags
import dns.rcode
import msgspec
import pytest

from emu.coredns import codec
from emu.coredns.clients import ClientPod
from emu.coredns.codec import AAAA, A
from emu.coredns.corefile import CorefileError
from emu.coredns.explain import Inquiry, report, walk

from .test_kubernetes import D, populate

PORT = 5353
SHORT = 0.15
"""What stands for the resolver's 5 seconds."""


def corefile(*erratic):
    return "\n".join([". {", "loadbalance", "prometheus", *erratic, "kubernetes cluster.local", "}"])


def pod(name, address):
    document = {
        "metadata": {"name": name, "namespace": "shop"},
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    }
    return msgspec.convert(document, ClientPod)


@pytest.fixture
async def erratic(cluster, start):
    populate(cluster)

    async def run(*lines):
        return await start(corefile("erratic {", *lines, "}"))

    return run


async def outcomes(server, count, name=f"web.{D}", **options):
    """What becomes of some queries in a row: `-` for silence, the rcode, or TC."""
    found = []
    for _ in range(count):
        try:
            reply = await server.ask(name, timeout=SHORT, **options)
        except dns.exception.Timeout:
            found.append("-")
        else:
            truncated = reply.flags & dns.flags.TC
            found.append("TC" if truncated else dns.rcode.to_text(reply.rcode()))
    return found


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ["-", "NOERROR", "-", "NOERROR"]),
        (["drop"], ["-", "NOERROR", "-", "NOERROR"]),
        (["drop 3"], ["-", "NOERROR", "NOERROR", "-"]),
        (["drop 0"], ["NOERROR"] * 4),
        (["truncate"], ["TC", "NOERROR", "TC", "NOERROR"]),
        (["servfail 1"], ["SERVFAIL"] * 4),
        (["servfail 2", "drop 4"], ["-", "NOERROR", "SERVFAIL", "NOERROR"]),
        (["delay 1 1ms"], ["NOERROR"] * 4),
    ],
)
async def test_one_of_so_many_queries_suffers(erratic, lines, expected):
    assert await outcomes(await erratic(*lines), 4) == expected


async def test_over_tcp(erratic):
    server = await erratic("truncate 1")
    assert await outcomes(server, 2, tcp=True) == ["NOERROR", "NOERROR"]
    assert await outcomes(server, 1) == ["TC"]
    server = await erratic("drop")
    assert await outcomes(server, 2, tcp=True) == ["-", "NOERROR"]


async def test_a_delay_is_as_long_as_it_says(erratic):
    server = await erratic("delay 2 60ms")
    taken = []
    for _ in range(6):
        began = time.monotonic()
        await server.ask(f"web.{D}")
        taken.append(time.monotonic() - began)
    assert min(taken[::2]) >= 0.06 > min(taken[1::2])


async def test_names_that_are_not_meant_are_spared_and_kept(cluster, start):
    populate(cluster)
    server = await start(corefile(f"erratic web.{D} {{", "drop 1", "}"))
    assert await outcomes(server, 1) == ["-"]
    assert await outcomes(server, 2, name=f"dual.{D}") == ["NOERROR", "NOERROR"]


@pytest.mark.parametrize("who", ["shop/client", "shop/*"])
async def test_only_the_pods_that_are_meant_suffer(erratic, who):
    server = await erratic(f"pods {who}", "drop 1")
    clients = server.server.facts.clients
    assert clients.wanted.is_set()
    assert await outcomes(server, 2) == ["NOERROR", "NOERROR"]
    clients.set_pod("", None, pod("client", "127.0.0.1"))
    assert await outcomes(server, 1) == ["-"]
    clients.set_pod("", pod("client", "127.0.0.1"), pod("client", "127.0.0.2"))
    assert await outcomes(server, 1) == ["NOERROR"]


async def test_another_pod_of_the_namespace_is_spared(erratic):
    server = await erratic("pods shop/client other/*", "drop 1")
    server.server.facts.clients.set_pod("", None, pod("server", "127.0.0.1"))
    assert await outcomes(server, 2) == ["NOERROR", "NOERROR"]


async def test_several_in_one_server_block(cluster, start):
    populate(cluster)
    server = await start(
        corefile(f"erratic web.{D} {{\nservfail 1\n}}", f"erratic dual.{D} {{\ntruncate 1\n}}")
    )
    assert await outcomes(server, 1) == ["SERVFAIL"]
    assert await outcomes(server, 1, name=f"dual.{D}") == ["TC"]


async def test_each_fault_is_logged(erratic, caplog):
    caplog.set_level(logging.INFO, "emu.coredns.plugins.erratic")
    server = await erratic("servfail 1")
    server.server.facts.clients.set_pod("", None, pod("client", "127.0.0.1"))
    await server.ask(f"web.{D}")
    assert f"answers SERVFAIL to A web.{D} from shop/client" in caplog.text


# --- the five-second delay ---


class Stub:
    """Asks as glibc does: A and AAAA at once from one socket, and then again what is missing."""

    def __init__(self, address, *, one_by_one=False):
        self._address = address
        self._one_by_one = one_by_one

    async def resolve(self, name):
        """Seconds until both types were answered, and how many queries it took."""
        began = time.monotonic()
        self._sent = 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((self._address, PORT))
            missing = {1: A, 2: AAAA}
            while missing:
                groups = [[ident] for ident in missing] if self._one_by_one or self._sent else [list(missing)]
                for group in groups:
                    await self._ask(sock, name, {ident: missing[ident] for ident in group}, missing)
        return time.monotonic() - began, self._sent

    async def _ask(self, sock, name, wanted, missing):
        loop = asyncio.get_running_loop()
        for ident, qtype in wanted.items():
            await loop.sock_sendall(sock, codec.encode_query(ident, codec.to_wire(name), qtype))
            self._sent += 1
        try:
            async with asyncio.timeout(SHORT):
                while wanted.keys() & missing.keys():
                    reply = await loop.sock_recv(sock, 600)
                    missing.pop(int.from_bytes(reply[:2]), None)
        except TimeoutError:
            pass


async def test_the_five_second_delay(erratic):
    server = await erratic("drop_parallel")
    seconds, sent = await Stub(server.address).resolve(f"dual.{D}")
    assert seconds >= SHORT
    assert sent == 3


async def test_the_delay_is_cured_by_asking_one_after_the_other(erratic):
    server = await erratic("drop_parallel")
    seconds, sent = await Stub(server.address, one_by_one=True).resolve(f"dual.{D}")
    assert seconds < SHORT
    assert sent == 2


async def test_one_of_so_many_pairs(erratic):
    server = await erratic("drop_parallel 2")
    stub = Stub(server.address)
    assert [(await stub.resolve(f"dual.{D}"))[1] for _ in range(4)] == [3, 2, 3, 2]


async def test_without_the_fault_there_is_no_delay(erratic):
    server = await erratic("drop_parallel 0")
    seconds, sent = await Stub(server.address).resolve(f"dual.{D}")
    assert seconds < SHORT
    assert sent == 2


async def test_flows_that_are_remembered_are_bounded_and_nothing_is_left_waiting(erratic):
    server = await erratic("drop_parallel")
    responder = server.server.responder(53)
    packet = codec.encode_query(1, codec.to_wire(f"web.{D}"), A)
    held = [responder.handle(packet, ("127.0.0.1", port), ("127.0.0.2", 53), "udp") for port in range(5000)]
    await asyncio.gather(*held)
    (plugin,) = (item for item in server.server.configuration.plugins if item.name == "erratic")
    assert len(plugin._known) == 4096
    assert not plugin._waiting


async def test_explaining_says_which_faults_there_are(erratic):
    server = await erratic("drop 1", "delay 3 1s", "drop_parallel")
    responder, chains = server.server.responder(53), server.server.configuration.chains[53]
    inquiry = Inquiry(f"web.{D}")
    assert report(inquiry, await walk(inquiry, responder, chains)).splitlines()[:4] == [
        f"1. web.{D} A: no reply",
        "   the plugin erratic meets these queries: it drops every one, delays by 1 s 1 of 3, "
        "drops the second of a parallel pair, every one",
        "   every resolver waits here, 5 seconds by default, and asks again",
        "",
    ]


async def test_what_is_truncated_is_explained_by_what_tcp_gives(erratic):
    server = await erratic("truncate 1")
    responder, chains = server.server.responder(53), server.server.configuration.chains[53]
    inquiry = Inquiry(f"web.{D}")
    text = report(inquiry, await walk(inquiry, responder, chains))
    assert "it truncates every one\n" in text
    assert f"web.{D} 5 IN A 127.96.0.20" in text


# --- what is misspelt ---


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dropp 2", 'Corefile:5: plugin/erratic: "dropp 2" is not an option'),
        ("drop two", 'Corefile:5: plugin/erratic: "two" is not a number'),
        ("drop -1", 'Corefile:5: plugin/erratic: "-1" is not a number'),
        ("drop 1 2", 'Corefile:5: plugin/erratic: "drop 1 2" is not an option'),
        ("delay 1 soon", 'Corefile:5: plugin/erratic: "soon" is not a duration'),
        ("delay 1 1s 2s", 'Corefile:5: plugin/erratic: "delay 1 1s 2s" is not an option'),
        ("pods", 'Corefile:5: plugin/erratic: "pods" is not an option'),
        ("pods client", 'Corefile:5: plugin/erratic: "client" is no pod, such as default/web-0'),
        ("pods */client", 'Corefile:5: plugin/erratic: "\\*/client" is no pod'),
        ("drop_paralel", 'Corefile:5: plugin/erratic: "drop_paralel" is not an option'),
    ],
)
async def test_what_is_misspelt_is_refused(erratic, line, message):
    with pytest.raises(CorefileError, match=message):
        await erratic(line)
