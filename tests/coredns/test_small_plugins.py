"""any, chaos, whoami: over the wire."""

import dns.rcode
import dns.rdataclass
import dns.rdatatype
from test_kubernetes import COREFILE, D, populate


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
