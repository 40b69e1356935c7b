"""any, chaos, whoami, loop, errors, health, reload: over the wire."""

import asyncio
import logging

import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest

from emu.coredns.corefile import CorefileError
from emu.coredns.environment import Facts
from emu.coredns.index import Index
from emu.coredns.metrics import Metrics
from emu.coredns.server import configure

from .test_kubernetes import COREFILE, D, populate


def with_plugins(*lines):
    return COREFILE.replace(".:53 {", "\n".join([".:53 {", *lines]))


async def test_rule_50_any_is_one_hinfo_record(cluster, start):
    populate(cluster)
    server = await start(with_plugins("any"))
    for name in (f"web.{D}", "example.org."):
        (rrset,) = (await server.ask(name, "ANY")).answer
        assert rrset.to_text() == f'{name} 8482 IN HINFO "ANY obsoleted" "See RFC 8482"'
    assert (await server.ask(f"web.{D}")).answer[0][0].address == "127.96.0.20"


async def test_rule_49_chaos_answers_in_class_ch(cluster, start):
    populate(cluster)
    server = await start(with_plugins("chaos 1.2.3 one two"))
    reply = await server.ask("version.bind.", "TXT", rdclass="CH")
    assert reply.answer[0].to_text() == 'version.bind. 0 CH TXT "1.2.3"'
    reply = await server.ask("authors.bind.", "TXT", rdclass="CH")
    assert {item.to_text() for item in reply.answer[0]} == {'"one"', '"two"'}
    for name in ("hostname.bind.", "id.server."):
        assert (await server.ask(name, "TXT", rdclass="CH")).answer[0].rdclass == dns.rdataclass.CH


async def test_rule_49_other_classes_are_refused_or_have_no_cluster(cluster, start):
    populate(cluster)
    server = await start(COREFILE)
    assert (await server.ask(f"web.{D}", rdclass="CH")).rcode() == dns.rcode.REFUSED
    server = await start(with_plugins("chaos"))
    reply = await server.ask(f"web.{D}", rdclass="CH")
    assert (reply.rcode(), reply.answer) == (dns.rcode.SERVFAIL, [])


async def test_whoami_tells_address_port_and_protocol(cluster, start):
    server = await start(with_plugins("whoami", "cache"))
    ports = set()
    for tcp in (False, True, False):
        reply = await server.ask("example.org.", tcp=tcp)
        address, service = reply.additional
        assert address.to_text() == "example.org. 0 IN A 127.0.0.1"
        assert service.name.to_text() == ("_tcp" if tcp else "_udp") + ".example.org."
        ports.add(service[0].port)
    assert len(ports) == 3


# --- loop ---


async def looping(start, *more):
    """A server that forwards to another one, which forwards back."""
    other = await start(". {\n forward . 127.201.252.9:9\n}")
    server = await start(with_plugins(f"forward . {other.address}:5353", "loop", "errors", *more))
    await other.server.apply(f". {{\n forward . {server.address}:5353\n}}", "Corefile")
    return server


async def test_rule_57_a_loop_is_found_and_forwarding_ends(cluster, start, caplog):
    populate(cluster)
    server = await looping(start)
    deadline = asyncio.get_running_loop().time() + 5
    while "detected for zone '.'" not in caplog.text:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
    assert (await server.ask("example.org.")).rcode() == dns.rcode.SERVFAIL
    assert "forwarding leads back here" in caplog.text
    assert (await server.ask(f"web.{D}")).answer


async def test_rule_57_no_loop_is_no_matter(cluster, start):
    populate(cluster)
    other = await start('. {\n template ANY ANY {\n answer "{{ .Name }} 1 IN A 10.0.0.1"\n }\n}')
    server = await start(with_plugins(f"forward . {other.address}:5353", "loop"))
    for _ in range(5):
        assert (await server.ask("example.org.")).answer


# --- errors ---


async def test_errors_are_logged_one_by_one_or_together(start, caplog):
    server = await start(
        ". {\n errors {\n consolidate 10m ^no.next warning\n consolidate 10m ^broken\n }\n log\n}\n"
        "b.org {\n errors\n}\n"
    )
    for _ in range(3):
        await server.ask("a.org.")
    await server.ask("b.org.", "TXT")
    assert "2 b.org. TXT: no next plugin found" in caplog.text
    assert "2 a.org. A" not in caplog.text
    await server.server.apply(". {\n errors {\n consolidate 10m no show_first info\n }\n}", "Corefile")
    assert ("WARNING", "3 errors like '^no.next' occurred in last 10m") in [
        (record.levelname, record.message) for record in caplog.records
    ]
    caplog.clear()
    caplog.set_level(logging.INFO)
    for _ in range(2):
        await server.ask("a.org.")
    assert [record.message for record in caplog.records if "no next" in record.message] == [
        "2 a.org. A: no next plugin found"
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("consolidate 5m (", '"(" is no regular expression'),
        ("consolidate 5m a loud", '"loud" is no level'),
        ("consolidate soon a", '"soon" is not a duration'),
        ("bogus", '"bogus" is not an option'),
    ],
)
def test_errors_options_are_checked(line, message):
    with pytest.raises(CorefileError) as caught:
        configure(f". {{\n errors {{\n {line}\n }}\n}}", "Corefile", Facts(Index(), Metrics()))
    assert str(caught.value).startswith("Corefile:3: plugin/errors: ")
    assert message in str(caught.value)


# --- health, reload ---


async def test_rule_59_health_measures_itself(start):
    server = await start(". {\n health\n}")
    await server.ask("a.org.")
    _, _, page = server.server.facts.metrics.serve()
    assert b"coredns_health_request_duration_seconds_count 1.0" in page


async def test_a_broken_corefile_is_refused_and_the_old_one_goes_on(cluster, start):
    populate(cluster)
    server = await start(COREFILE)
    with pytest.raises(CorefileError, match=r"^New:2: plugin/bogus: there is no such plugin"):
        await server.server.apply(". {\n bogus\n}", "New")
    assert (await server.ask(f"web.{D}")).answer
    await server.server.apply(". {\n whoami\n}", "New")
    assert (await server.ask(f"web.{D}")).additional
