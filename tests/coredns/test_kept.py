"""Replies that are kept packed: used for every spelling, dropped by the change that concerns them."""

import socket

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from emu.coredns import codec
from emu.coredns.codec import AAAA, PTR, SOA, SRV, A
from emu.coredns.kept import MAX_KEPT, KeptReplies
from emu.coredns.metrics import Tally

from .test_kubernetes import COREFILE, D, populate
from .test_wire import exchange

CLIENT, LOCAL = ("127.0.0.1", 9), ("127.0.0.1", 53)


@pytest.fixture
async def served(cluster, start):
    populate(cluster)
    return await start(COREFILE.replace("ttl 30\n    }", "ttl 30\n    }\n    prometheus"))


def query(name, qtype=A, flags=codec.RD, edns=None):
    return codec.encode_query(7, codec.to_wire(name), qtype, flags=flags, edns=edns)


def reply_to(served, packet):
    """As the UDP socket answers: kept, respelt, or made."""
    responder = served.server.responder(53)
    found = responder.kept.by_query.get(packet[2:])
    if found is not None:
        return packet[:2] + found.bodies[0]
    return responder.respelt(packet, CLIENT[0]) or responder.handle(packet, CLIENT, LOCAL, "udp")


def kept_names(served):
    return {
        codec.to_text(codec.parse_request(b"\0\0" + item).name)
        for item in served.server.responder(53).kept.by_query
    }


@pytest.mark.parametrize(
    ("name", "qtype"),
    [
        pytest.param(f"web.{D}", A, id="addresses"),
        pytest.param(f"web.{D}", AAAA, id="NODATA"),
        pytest.param(f"nope.{D}", A, id="NXDOMAIN"),
        pytest.param("cluster.local.", SOA, id="SOA"),
        pytest.param(f"_http._tcp.head.{D}", SRV, id="targets in the spelling of the query"),
        pytest.param(f"alias.{D}", A, id="alias"),
        pytest.param("2.1.244.127.in-addr.arpa.", PTR, id="reverse"),
    ],
)
async def test_rule_3_a_reply_is_the_same_kept_or_made(served, name, qtype):
    responder = served.server.responder(53)
    spelt = "".join(char.upper() if n % 3 else char for n, char in enumerate(name))
    made = {packet: reply_to(served, packet) for packet in (query(spelt, qtype), query(name, qtype))}
    responder.kept.clear()
    for first in (query(name, qtype), query(spelt, qtype)):
        responder.kept.clear()
        reply_to(served, first)
        for packet, expected in made.items():
            again = dns.message.from_wire(reply_to(served, packet))
            whole = dns.message.from_wire(expected)
            assert again.question[0].name.labels == whole.question[0].name.labels
            assert {r.to_text() for s in again.sections for r in s} == {
                r.to_text() for s in whole.sections for r in s
            }
            assert again.flags == whole.flags


async def test_rule_3_mixed_case_is_answered_from_one_kept_reply(served):
    for spelt in (f"WEB.{D}", f"wEb.{D}", f"Web.{D.upper()}"):
        reply = dns.message.from_wire(reply_to(served, query(spelt)))
        assert reply.question[0].name.to_text() == spelt
        assert reply.answer[0].name.to_text() == spelt
    assert len(served.server.responder(53).kept.by_query) == 1


@pytest.mark.parametrize(
    "flags", [codec.AD, codec.TC, codec.AA, codec.RA, 0x40, 0x0F], ids=["AD", "TC", "AA", "RA", "Z", "rcode"]
)
async def test_rule_44_flags_without_effect_share_a_reply(served, flags):
    reply_to(served, query(f"web.{D}"))
    reply = dns.message.from_wire(reply_to(served, query(f"web.{D}", flags=codec.RD | flags)))
    assert reply.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD
    assert reply.rcode() == dns.rcode.NOERROR
    assert len(served.server.responder(53).kept.by_query) == 1


async def test_rule_44_rd_and_cd_are_copied_from_each_query(served):
    for flags in (0, codec.RD, codec.CD, codec.RD | codec.CD):
        for _ in range(2):
            reply = reply_to(served, query(f"web.{D}", flags=flags))
            assert int.from_bytes(reply[2:4]) & (codec.RD | codec.CD) == flags


async def test_rule_45_options_share_a_reply_and_are_not_echoed(served):
    for number in range(20):
        asked = dns.message.make_query(f"web.{D}", "A", use_edns=0, payload=1400, want_dnssec=True)
        cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, number.to_bytes(8))
        asked.use_edns(0, dns.flags.DO, 1400, options=[cookie])
        reply = dns.message.from_wire(reply_to(served, asked.to_wire()))
        assert (reply.options, reply.payload, reply.ednsflags) == ((), 1400, dns.flags.DO)
        assert reply.answer
    assert len(served.server.responder(53).kept.by_query) == 1


async def test_type_and_class_are_not_letters(served):
    """Type 65 (HTTPS) and type 97 differ in the bit that tells upper from lower case."""
    https, other = query(f"web.{D}", 65), query(f"web.{D}", 97)
    reply_to(served, other)
    assert dns.message.from_wire(reply_to(served, https)).question[0].rdtype == 65


async def test_an_octet_of_zero_in_a_label_is_not_the_end_of_the_name(served):
    """The label holds what could be the rest of a shorter query, with an OPT record and an option."""
    inner = codec.to_wire(f"web.{D}")[:-1]
    tail = b"\0\0\1\0\1"
    opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\x19"
    label = b"x" + tail + opt
    name = inner[:1] + inner[1:4] + bytes((len(label),)) + label + b"\0"
    packet = b"\0\7\1\0\0\1\0\0\0\0\0\1" + name + b"\0\1\0\1" + b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
    reply = reply_to(served, packet)
    assert reply[12 : 12 + len(name)] == name
    assert not served.server.responder(53).kept.by_query


# --- what a change drops ---


async def test_a_change_drops_only_what_it_concerns(served, cluster):
    cluster.service("other", clusterIP="127.96.0.99")
    names = [f"web.{D}", f"head.{D}", f"other.{D}", f"x.other.{D}"]
    for name in names:
        reply_to(served, query(name))
    reply_to(served, query("2.1.244.127.in-addr.arpa.", PTR))
    served.server._serial = cluster.index.serial
    cluster.endpoints("head", ["127.244.1.9"])
    assert f"head.{D}" not in kept_names(served)
    assert "2.1.244.127.in-addr.arpa." not in kept_names(served)
    assert {f"web.{D}", f"other.{D}"} <= kept_names(served)


CHANGES = {
    "a Service comes": (f"new.{D}", A, lambda c: c.service("new", clusterIP="127.96.0.98")),
    "below a Service that comes": (f"a.new.{D}", A, lambda c: c.endpoints("new", ["127.244.1.9"])),
    "a search path's dead end": (
        "web.default.svc.cluster.local.svc.cluster.local.",
        A,
        lambda c: (c.namespace("local"), c.service("cluster", "local", clusterIP="127.96.0.98")),
    ),
    "an address changes": (f"web.{D}", A, lambda c: c.service("web", clusterIP="127.96.0.98")),
    "an endpoint comes": (f"head.{D}", A, lambda c: c.endpoints("head", ["127.244.1.9"])),
    "an endpoint's reverse name": (
        "9.1.244.127.in-addr.arpa.",
        PTR,
        lambda c: c.endpoints("head", ["127.244.1.9"]),
    ),
    "the target of an alias": (f"alias.{D}", A, lambda c: c.service("web", clusterIP="127.96.0.98")),
    "a namespace comes": ("new.svc.cluster.local.", A, lambda c: c.namespace("new")),
}


@pytest.mark.parametrize(("name", "qtype", "change"), CHANGES.values(), ids=CHANGES)
async def test_a_change_is_in_the_next_answer(served, cluster, monkeypatch, name, qtype, change):
    packet = query(name, qtype)
    monkeypatch.setattr("emu.coredns.index.time.time", lambda: cluster.index.serial)
    before = reply_to(served, packet)
    assert reply_to(served, packet) == before
    change(cluster)
    now = reply_to(served, packet)
    served.server.forget()
    assert now == reply_to(served, packet)


async def test_rule_37_a_change_is_in_the_serial_of_all_negative_answers(served, cluster, monkeypatch):
    packet = query(f"nope.{D}")
    before = dns.message.from_wire(reply_to(served, packet)).authority[0][0].serial
    monkeypatch.setattr("emu.coredns.index.time.time", lambda: before + 10)
    cluster.service("elsewhere", clusterIP="127.96.0.97")
    assert dns.message.from_wire(reply_to(served, packet)).authority[0][0].serial == before + 10


async def test_many_changes_cost_no_more_than_what_they_concern(served, cluster):
    for number in range(50):
        cluster.service(f"s{number}", clusterIP=f"127.96.1.{number + 1}")
    for number in range(50):
        reply_to(served, query(f"s{number}.{D}"))
    kept = dict(served.server.responder(53).kept.by_query)
    for number in range(100):
        cluster.service("busy", clusterIP=f"127.96.2.{number + 1}")
    assert served.server.responder(53).kept.by_query == kept


# --- bounds ---


def test_the_table_and_its_lists_are_bounded():
    table = KeptReplies()
    for number in range(2 * MAX_KEPT):
        table.keep(
            number.to_bytes(4),
            (b"",),
            Tally(),
            any_spelling=True,
            services=((b"ns", str(number).encode()),),
            serial=number % 2 == 0,
        )
    assert len(table.by_query) == MAX_KEPT
    assert len(table._by_reason) <= MAX_KEPT + 2
    table.forget([(b"ns", str(number).encode()) for number in range(2 * MAX_KEPT)], serial=True)
    assert not table.by_query
    assert not table._by_reason


async def test_queries_that_never_repeat_are_kept_up_to_the_limit(served):
    packet = bytearray(query(f"aaaaaaaa.{D}"))
    for number in range(MAX_KEPT + 500):
        packet[13:21] = f"{number:08d}".encode()
        reply_to(served, bytes(packet))
    assert len(served.server.responder(53).kept.by_query) == MAX_KEPT


async def test_the_reply_is_for_the_socket_that_asked(served):
    """The whole way, with a mixed-case query that is answered from the reply to another client."""
    await exchange(served, query(f"web.{D}"))
    reply = await exchange(served, query(f"WeB.{D}"))
    assert dns.message.from_wire(reply).answer[0][0].address == "127.96.0.20"
    assert socket.inet_aton("127.96.0.20") in reply


async def test_options_of_every_size_are_not_counted_apart(served):
    """A client must not be able to make endless counters either."""
    for size in range(0, 3000, 50):
        asked = dns.message.make_query(f"web.{D}", "A", use_edns=0)
        asked.use_edns(0, 0, 1232, options=[dns.edns.GenericOption(65001, bytes(size))])
        served.server.forget()
        assert dns.message.from_wire(reply_to(served, asked.to_wire(max_size=4096))).answer
    assert len(served.server.facts.metrics._tallies) == 1
