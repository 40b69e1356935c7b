"""What goes over the wire whatever the name: headers, EDNS, sizes, transports, and malformed packets."""

import asyncio
import shutil
import socket

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from emu.core.ranges import NOBODY
from emu.coredns import codec
from emu.coredns.kept import MAX_KEPT
from emu.coredns.listeners import MAX_REQUEST

from .test_kubernetes import COREFILE, D, populate

PORT = 5353
QUESTION = codec.encode_query(0x1234, codec.to_wire(f"web.{D}"), codec.A)


@pytest.fixture
async def served(cluster, start):
    populate(cluster)
    cluster.service("many", clusterIP="None")
    cluster.endpoints("many", [f"127.245.0.{n}" for n in range(2, 250)], ports=[{"name": "http", "port": 80}])
    return await start(COREFILE.replace("ttl 30\n    }", "ttl 30\n    }\n    loadbalance\n    prometheus"))


async def exchange(server, packet, timeout=0.3):
    """The reply to raw octets, or None for silence."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((server.address, PORT))
        await loop.sock_sendall(sock, packet)
        try:
            async with asyncio.timeout(timeout):
                return await loop.sock_recv(sock, 65535)
        except TimeoutError:
            return None


def with_counts(*counts):
    return QUESTION[:4] + b"".join(count.to_bytes(2) for count in counts) + QUESTION[12:]


NAME = QUESTION[12:-4]
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
RECORD = b"\0\0\x10\0\1\0\0\0\0\0\2\1x"


def with_records(*records, counts=(1, 0, 0, None)):
    """The question and records behind it; None counts them all."""
    numbers = [len(records) if count is None else count for count in counts]
    return with_counts(*numbers) + b"".join(records)


def with_name(name, tail=b"\0\1\0\1"):
    return QUESTION[:12] + name + tail


MALFORMED = {
    "44 rcode and TC in the query": (QUESTION[:2] + b"\x03\x0f" + QUESTION[4:], codec.NOERROR),
    "45 OPT that is not at the root": (with_records(b"\1a" + OPT), codec.FORMERR),
    "45 OPT whose options overrun": (with_records(OPT[:-2] + b"\0\5\0\x0a\0\x08x"), codec.FORMERR),
    "45 OPT cut off": (with_records(OPT[:-1]), codec.FORMERR),
    "45 two OPT, RFC 6891": (with_records(OPT, OPT), codec.FORMERR),
    "45 OPT beside another record": (with_records(RECORD, OPT), codec.NOERROR),
    "47 4096 octets": ((QUESTION + bytes(4096))[:MAX_REQUEST], codec.NOERROR),
    "48 shorter than a header": (QUESTION[:11], None),
    "48 nothing": (b"", None),
    "48 a reply": (QUESTION[:2] + b"\x81\x00" + QUESTION[4:], None),
    "48 a malformed reply": (QUESTION[:2] + b"\x81\x00" + QUESTION[4:13], None),
    "48 no question": (with_counts(0, 0, 0, 0), codec.FORMERR),
    "48 two questions": (with_counts(2, 0, 0, 0) + NAME + b"\0\1\0\1", codec.FORMERR),
    "48 one answer": (with_records(RECORD, counts=(1, 1, 0, 0)), codec.NOERROR),
    "48 two answers": (with_records(RECORD, RECORD, counts=(1, 2, 0, 0)), codec.FORMERR),
    "48 two authorities": (with_records(RECORD, RECORD, counts=(1, 0, 2, 0)), codec.FORMERR),
    "48 three additional records": (with_records(RECORD, RECORD, RECORD), codec.FORMERR),
    "48 additional record missing": (with_counts(1, 0, 0, 1), codec.FORMERR),
    "48 reserved label type 10": (with_name(b"\x80" + NAME[1:]), codec.FORMERR),
    "48 reserved label type 01": (with_name(b"\x41" + NAME[1:]), codec.FORMERR),
    "48 pointer to itself": (with_name(b"\xc0\x0c"), codec.FORMERR),
    "48 pointer loop": (with_name(b"\x3f" + b"a" * 63 + b"\xc0\x0c"), codec.FORMERR),
    "48 pointer forward": (with_name(b"\xc0\x20" + NAME), codec.FORMERR),
    "48 pointer into the header": (with_name(b"\xc0\x04"), codec.FORMERR),
    "48 pointer beyond the packet": (with_name(b"\xff\xff"), codec.FORMERR),
    "48 label beyond the packet": (with_name(b"\x3fabc", b""), codec.FORMERR),
    "48 name of 255 octets": (
        with_name((b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0"),
        codec.SERVFAIL,
    ),
    "48 name of 256 octets": (
        with_name((b"\x3f" + b"a" * 63) * 3 + b"\x3e" + b"a" * 62 + b"\0"),
        codec.FORMERR,
    ),
    "48 rdata overrun": (with_records(RECORD[:-3] + b"\3\1x"), codec.FORMERR),
    "48 header only": (QUESTION[:12], codec.FORMERR),
    "48 cut before the type": (QUESTION[:-4], codec.FORMERR),
    "48 cut before the class": (QUESTION[:-2], codec.FORMERR),
    "48 trailing octets": (QUESTION + b"trailing", codec.NOERROR),
    "48 inverse query": (QUESTION[:2] + b"\x08\0" + QUESTION[4:], codec.NOTIMP),
    "48 STATUS": (QUESTION[:2] + b"\x11\0" + QUESTION[4:], codec.NOTIMP),
    "48 NOTIFY, RFC 1996": (QUESTION[:2] + b"\x21\0" + QUESTION[4:], codec.NOTIMP),
    "48 UPDATE": (QUESTION[:2] + b"\x28\0" + QUESTION[4:], codec.NOTIMP),
    "48 a label that is not UTF-8": (with_name(b"\2\xff\xfe" + NAME), codec.NXDOMAIN),
    "49 class CH": (QUESTION[:-1] + b"\3", codec.REFUSED),
    "49 class NONE": (QUESTION[:-2] + b"\0\xfe", codec.REFUSED),
    "49 class ANY": (QUESTION[:-2] + b"\0\xff", codec.REFUSED),
    "50 ANY": (QUESTION[:-4] + b"\0\xff\0\1", codec.NOERROR),
    "50 AXFR": (QUESTION[:-4] + b"\0\xfc\0\1", codec.REFUSED),
    "50 IXFR": (QUESTION[:-4] + b"\0\xfb\0\1", codec.REFUSED),
    "51 nothing handles it in a block for the root": (with_name(b"\3org\0"), codec.SERVFAIL),
}


@pytest.mark.parametrize(("packet", "rcode"), MALFORMED.values(), ids=MALFORMED)
async def test_rule_of_the_wire(served, packet, rcode):
    for _ in range(2):  # what is kept is no other
        reply = await exchange(served, packet)
        if rcode is None:
            assert reply is None
            continue
        assert reply[:2] == QUESTION[:2]
        assert reply[3] & 0xF == rcode
        assert reply[2] & 0x80
        assert reply[2] & 0x78 == packet[2] & 0x78
        assert not reply[3] & 0x60  # AD and Z
        dns.message.from_wire(reply)
    assert await exchange(served, QUESTION) is not None


@pytest.mark.parametrize(("packet", "rcode"), MALFORMED.values(), ids=MALFORMED)
async def test_rule_of_the_wire_over_tcp(served, packet, rcode):
    """The next query on the connection is answered, whatever the one before."""
    reader, writer = await asyncio.open_connection(served.address, PORT)
    for item in (packet, b"\x77" + QUESTION[1:]):
        writer.write(len(item).to_bytes(2) + item)
    replies = []
    while not replies or replies[-1][0] != 0x77:
        async with asyncio.timeout(5):
            replies.append(await reader.readexactly(int.from_bytes(await reader.readexactly(2))))
    assert [reply[3] & 0xF for reply in replies[:-1]] == ([] if rcode is None else [rcode])
    writer.close()


async def test_rule_50_any_is_minimal(served):
    for name in (f"web.{D}", f"many.{D}", f"dual.{D}"):
        reply = await served.ask(name, "ANY")
        assert not reply.answer
        assert not reply.additional
        assert reply.authority[0].rdtype == dns.rdatatype.SOA


async def test_rule_51_names_outside_all_zones_are_refused(start, cluster):
    populate(cluster)
    server = await start("cluster.local {\n kubernetes\n}")
    assert (await server.ask("example.org.")).rcode() == dns.rcode.REFUSED
    assert (await server.ask(f"web.{D}")).answer


async def test_rule_45_opt_is_in_the_reply_to_every_question_that_has_one(served):
    """Errors too, as far as the question can be read."""
    for name, qtype, rdclass in (
        ("nope." + D, "A", "IN"),
        ("example.org.", "A", "IN"),
        ("web." + D, "A", "CH"),
    ):
        for edns in (-1, 0):
            reply = await served.ask(dns.message.make_query(name, qtype, rdclass, use_edns=edns))
            assert reply.edns == edns


async def test_rule_44_flags(served):
    query = dns.message.make_query(f"web.{D}", "A")
    query.flags |= dns.flags.CD | dns.flags.AD
    for _ in range(2):  # made, and kept
        reply = await served.ask(query)
        assert reply.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD | dns.flags.CD
        assert reply.edns == -1


async def test_rule_45_edns_is_answered_in_kind(served):
    reply = await served.ask(f"web.{D}", use_edns=0, payload=1400, want_dnssec=True)
    assert (reply.edns, reply.payload, reply.ednsflags) == (0, 1400, dns.flags.DO)
    assert (await served.ask(f"web.{D}", use_edns=1)).rcode() == dns.rcode.BADVERS


async def test_rule_46_truncation_and_tcp(served):
    small = await served.ask(f"many.{D}")
    assert small.flags & dns.flags.TC
    assert len(small.to_wire()) <= 512
    wide = await served.ask(f"many.{D}", use_edns=0, payload=1232)
    assert 60 <= len(wide.answer[0]) < 248
    whole = await served.ask(f"many.{D}", tcp=True)
    assert not whole.flags & dns.flags.TC
    assert len(whole.answer[0]) == 248


async def test_rule_46_a_reply_beyond_16_kib_is_readable(served):
    reply = await served.ask(f"many.{D}", "SRV", tcp=True)
    assert len(reply.answer[0]) == 248
    assert len({rrset.name for rrset in reply.additional}) == 248


async def test_rule_46_tcp_takes_queries_in_a_row(served):
    reader, writer = await asyncio.open_connection(served.address, PORT)
    framed = len(QUESTION).to_bytes(2) + QUESTION
    writer.write(framed * 20 + framed[:5])
    writer.write(framed[5:])
    for _ in range(21):
        reply = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
        assert dns.message.from_wire(reply).answer
    writer.close()


async def test_each_address_comes_first_in_turn(served, cluster):
    firsts = set()
    for _ in range(60):
        reply = await exchange(served, codec.encode_query(1, codec.to_wire(f"head.{D}"), codec.A))
        firsts.add(dns.message.from_wire(reply).answer[0][0].address)
    assert firsts == {"127.244.1.3", "127.244.1.4", "127.244.1.6"}


async def test_kept_replies_are_counted(served):
    for _ in range(10):
        await exchange(served, QUESTION)
    _, _, page = served.server.facts.metrics.serve()
    labels = b'family="1",proto="udp",server="dns://:53",type="A",view="",zone="."'
    assert b"coredns_dns_requests_total{" + labels + b"} 10.0" in page


async def test_what_is_kept_is_bounded(served):
    responder = served.server.responder(53)
    for number in range(17000):
        responder.handle(
            codec.encode_query(1, codec.to_wire(f"n{number}.{D}"), codec.A), ("x", 1), ("y", 53), "udp"
        )
    assert len(responder.kept.by_query) == MAX_KEPT


async def test_a_denied_client_hears_nothing(cluster, start):
    populate(cluster)
    server = await start(COREFILE)
    for listener in server.listeners:
        listener.allowed = NOBODY
    assert await exchange(server, QUESTION) is None
    reader, writer = await asyncio.open_connection(server.address, PORT)
    writer.write(len(QUESTION).to_bytes(2) + QUESTION)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await reader.read(1)
    writer.close()


@pytest.mark.skipif(shutil.which("dig") is None, reason="dig is not installed")
async def test_dig(served):
    process = await asyncio.create_subprocess_exec(
        "dig", f"@{served.address}", "-p", str(PORT), "+short", f"web.{D}", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output.decode().split() == ["127.96.0.20"]
