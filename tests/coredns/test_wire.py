"""What goes over the wire whatever the name: headers, EDNS, sizes, transports, and malformed packets."""

import asyncio
import shutil
import socket

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from test_kubernetes import COREFILE, D, populate

from emu.core.ranges import NOBODY
from emu.coredns import codec
from emu.coredns.kept import MAX_KEPT

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


@pytest.mark.parametrize(
    ("packet", "rcode"),
    [
        pytest.param(QUESTION[:11], None, id="shorter than a header"),
        pytest.param(QUESTION[:2] + b"\x81\x00" + QUESTION[4:], None, id="a reply"),
        pytest.param(with_counts(0, 0, 0, 0), codec.FORMERR, id="no question"),
        pytest.param(with_counts(2, 0, 0, 0), codec.FORMERR, id="two questions"),
        pytest.param(with_counts(1, 2, 0, 0), codec.FORMERR, id="two answers"),
        pytest.param(with_counts(1, 0, 0, 1), codec.FORMERR, id="additional record missing"),
        pytest.param(QUESTION[:12] + b"\x80" + QUESTION[13:], codec.FORMERR, id="reserved label type"),
        pytest.param(QUESTION[:12] + b"\xc0\x0c\0\1\0\1", codec.FORMERR, id="pointer to itself"),
        pytest.param(
            QUESTION[:12] + b"\x3f" + b"a" * 63 + b"\xc0\x0c\0\1\0\1", codec.FORMERR, id="pointer loop"
        ),
        pytest.param(
            QUESTION[:12] + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1", codec.FORMERR, id="name too long"
        ),
        pytest.param(QUESTION[:-4], codec.FORMERR, id="cut before the type"),
        pytest.param(QUESTION[:2] + b"\x20\x00" + QUESTION[4:], codec.NOTIMP, id="NOTIFY"),
        pytest.param(QUESTION[:-1] + b"\3", codec.REFUSED, id="class CH"),
        pytest.param(QUESTION + b"trailing", codec.NOERROR, id="trailing octets"),
    ],
)
async def test_malformed_packets(served, packet, rcode):
    reply = await exchange(served, packet)
    if rcode is None:
        assert reply is None
    else:
        assert reply[:2] == QUESTION[:2]
        assert reply[3] & 0xF == rcode
        assert reply[2] & 0x80


async def test_two_opt_records_are_refused(served):
    opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
    reply = await exchange(served, QUESTION[:10] + b"\0\2" + QUESTION[12:] + opt + opt)
    assert reply[3] & 0xF == codec.FORMERR


async def test_flags(served):
    query = dns.message.make_query(f"web.{D}", "A")
    query.flags |= dns.flags.CD | dns.flags.AD
    for _ in range(2):  # made, and kept
        reply = await served.ask(query)
        assert reply.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD | dns.flags.CD
        assert reply.edns == -1


async def test_edns_is_answered_in_kind(served):
    reply = await served.ask(f"web.{D}", use_edns=0, payload=1400, want_dnssec=True)
    assert (reply.edns, reply.payload, reply.ednsflags) == (0, 1400, dns.flags.DO)
    assert (await served.ask(f"web.{D}", use_edns=1)).rcode() == dns.rcode.BADVERS


async def test_truncation_and_tcp(served):
    small = await served.ask(f"many.{D}")
    assert small.flags & dns.flags.TC
    assert len(small.to_wire()) <= 512
    wide = await served.ask(f"many.{D}", use_edns=0, payload=1232)
    assert 60 <= len(wide.answer[0]) < 248
    whole = await served.ask(f"many.{D}", tcp=True)
    assert not whole.flags & dns.flags.TC
    assert len(whole.answer[0]) == 248


async def test_a_reply_beyond_16_kib_is_readable(served):
    reply = await served.ask(f"many.{D}", "SRV", tcp=True)
    assert len(reply.answer[0]) == 248
    assert len({rrset.name for rrset in reply.additional}) == 248


async def test_tcp_takes_queries_in_a_row(served):
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
