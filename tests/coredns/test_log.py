"""The lines of plugin `log`: formats, placeholders, classes, and the pod that asks."""

import asyncio
import logging
import re

import msgspec
import pytest

from emu.coredns import codec
from emu.coredns.chain import Query, Reply
from emu.coredns.clients import ClientPod, Clients
from emu.coredns.codec import NOERROR, NS, NXDOMAIN, REFUSED, SERVFAIL, SOA, A, Record
from emu.coredns.corefile import CorefileError
from emu.coredns.plugins.log import Entry, Format, response_class

from .test_kubernetes import D, populate

POD = msgspec.convert(
    {
        "metadata": {"name": "client", "namespace": "shop"},
        "status": {"phase": "Running", "podIPs": [{"ip": "127.0.0.1"}]},
    },
    ClientPod,
)
NAME = codec.to_wire("web.example")


def entry(client="127.244.1.5", edns=None):
    packet = codec.encode_query(29008, NAME, A, flags=codec.RD | codec.CD, edns=edns)
    request = codec.parse_request(packet)
    query = Query(request, (client, 50759), "udp", ("127.96.0.10", 53))
    reply = Reply(NXDOMAIN, authoritative=True)
    return Entry(query, reply, 68, 0.037990251, Clients())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "{common}",
            '127.244.1.5:50759 - 29008 "A IN web.example. udp 29 false 512" '
            "NXDOMAIN qr,aa,rd,cd 68 0.037990251s",
            id="common",
        ),
        pytest.param(
            "{combined}",
            '127.244.1.5:50759 - 29008 "A IN web.example. udp 29 false 512" '
            'NXDOMAIN qr,aa,rd,cd 68 0.037990251s "0"',
            id="combined",
        ),
        pytest.param("{proto} Request: {name} {type} {>ID}", "udp Request: web.example. A 29008", id="own"),
        pytest.param("{local}", "127.96.0.10", id="local"),
        pytest.param("{/kubernetes/client-pod-name}", "-", id="no pod"),
        pytest.param("no placeholder", "no placeholder", id="text alone"),
    ],
)
def test_formats(text, expected):
    assert Format(text).line(entry()) == expected


def test_the_client_as_ipv6_and_its_edns():
    line = Format("{remote} {>do} {>bufsize}").line(entry("fd00::5", codec.Edns(1232, 0, do=True)))
    assert line == "[fd00::5] true 1232"


@pytest.mark.parametrize(
    ("rcode", "answer", "authority", "expected"),
    [
        (NOERROR, A, None, "success"),
        (NOERROR, None, SOA, "denial"),
        (NOERROR, None, NS, "success"),
        (NOERROR, None, None, "success"),
        (NXDOMAIN, None, SOA, "denial"),
        (NXDOMAIN, A, SOA, "denial"),
        (NXDOMAIN, None, None, "error"),
        (SERVFAIL, None, None, "error"),
        (REFUSED, None, None, "error"),
    ],
)
def test_classes_of_responses(rcode, answer, authority, expected):
    def section(kind):
        return [] if kind is None else [Record(NAME, kind, 5, b"")]

    assert response_class(Reply(rcode, section(answer), section(authority))) == expected


def corefile(*log):
    return "\n".join([". {", *log, "kubernetes cluster.local", "}"])


@pytest.fixture
async def lines(caplog):
    caplog.set_level(logging.INFO, "emu.coredns.plugins.log")
    return lambda: [item.getMessage() for item in caplog.records if item.name == "emu.coredns.plugins.log"]


async def test_the_default_is_the_common_format(cluster, start, lines):
    populate(cluster)
    server = await start(corefile("log"))
    for _ in range(2):
        await server.ask(f"web.{D}")
    assert len(lines()) == 2
    assert re.fullmatch(
        rf'127\.0\.0\.1:\d+ - \d+ "A IN {re.escape(f"web.{D}")} udp 47 false 512" '
        r"NOERROR qr,aa,rd 63 0\.\d{9}s",
        lines()[0],
    )


async def test_the_pod_that_asks_is_named(cluster, start, lines):
    populate(cluster)
    server = await start(
        corefile('log . "{/kubernetes/client-namespace}/{/kubernetes/client-pod-name} {name} {rcode}"')
    )
    clients = server.server.facts.clients
    async with asyncio.timeout(1):
        await clients.wanted.wait()
    clients.set_pod(POD.key, None, POD)
    await server.ask(f"nope.{D}")
    assert lines() == [f"shop/client nope.{D} NXDOMAIN"]


async def test_pods_are_only_asked_for_where_they_are_named(start):
    server = await start(corefile("log"))
    assert not server.server.facts.clients.wanted.is_set()


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("class denial", ["NXDOMAIN", "NOERROR"]),
        ("class success", ["NOERROR"]),
        ("class denial\nclass success", ["NOERROR", "NXDOMAIN", "NOERROR"]),
        ("class error", []),
        ("class all", ["NOERROR", "NXDOMAIN", "NOERROR"]),
        ("class error\nminDuration 0s", ["NOERROR", "NXDOMAIN", "NOERROR"]),
        ("class error\nminDuration 1h", []),
    ],
)
async def test_classes_and_slow_responses(cluster, start, lines, block, expected):
    populate(cluster)
    server = await start(corefile(f"log . {{rcode}} {{\n{block}\n}}"))
    for name, kind in ((f"web.{D}", "A"), (f"nope.{D}", "A"), (f"web.{D}", "AAAA")):
        await server.ask(name, kind)
    assert lines() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('log . "{nmae}"', r"Corefile:2: plugin/log: \{nmae\} is no placeholder"),
        ("log . {/kubernetes/pod}", r"Corefile:2: plugin/log: \{/kubernetes/pod\} is no placeholder"),
        ("log {\nclass denials\n}", 'Corefile:3: plugin/log: "denials" is not one of success, denial'),
        ("log {\nclass\n}", 'Corefile:3: plugin/log: "class" is not an option'),
        ("log {\nminDuration soon\n}", 'Corefile:3: plugin/log: "soon" is not a duration'),
        ("log {\nclas all\n}", 'Corefile:3: plugin/log: "clas all" is not an option'),
    ],
)
async def test_what_is_misspelt_is_refused(start, text, message):
    with pytest.raises(CorefileError, match=message):
        await start(corefile(text))
