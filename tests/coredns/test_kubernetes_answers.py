"""Rules of Kubernetes DNS that are more than a row of the table: sections, spelling, chains, walks."""

import asyncio

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from emu.core.names import candidates, search_path
from emu.coredns import codec

from .conftest import PORT, own_address
from .test_kubernetes import COREFILE, RULES, D, Z, populate

TWO_BLOCKS = (
    COREFILE
    + """
example.org:53 {
    kubernetes example.org
}
"""
)


@pytest.fixture
async def served(cluster, start):
    populate(cluster)
    return await start(COREFILE, dns_pods=["127.244.1.2"])


def texts(section):
    return [
        f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)} {item}" for rrset in section for item in rrset
    ]


async def test_rule_3_case_of_the_query_is_kept(served):
    reply = await served.ask("_HTTP._tcp.WEB.Default.svc.Cluster.LOCAL", "SRV")
    assert reply.question[0].name.to_text() == "_HTTP._tcp.WEB.Default.svc.Cluster.LOCAL."
    assert reply.answer[0].name.to_text() == "_HTTP._tcp.WEB.Default.svc.Cluster.LOCAL."
    assert reply.answer[0][0].target.to_text() == "web.default.svc.Cluster.LOCAL."


async def test_rule_10_both_addresses_come_with_the_one_srv_record(served):
    reply = await served.ask(f"_http._tcp.dual.{D}", "SRV")
    assert texts(reply.additional) == [f"dual.{D} A 127.96.0.21", f"dual.{D} AAAA fd00::21"]


async def test_rule_14_a_weight_is_at_least_1(served, cluster):
    cluster.service("wide", clusterIP="None")
    cluster.endpoints("wide", [f"127.245.0.{n}" for n in range(1, 121)], ports=[{"name": "p", "port": 1}])
    reply = await served.ask(f"wide.{D}", "SRV", tcp=True)
    assert {item.weight for item in reply.answer[0]} == {1}
    assert len(reply.answer[0]) == len(reply.additional) == 120


async def test_rule_20_all_addresses_of_a_hostname_are_in_additional(served):
    reply = await served.ask(f"_http._tcp.twins.{D}", "SRV")
    assert texts(reply.additional) == [f"castor.twins.{D} A 127.244.3.{n}" for n in (1, 2)]


async def test_rule_23_targets_of_srv_records_are_not_compressed(served):
    packet = codec.encode_query(7, codec.to_wire(f"_http._tcp.head.{D}"), codec.SRV)
    reply = await asyncio.to_thread(exchange, served.address, packet)
    for label in ("127-244-1-3", "db-0", "127-244-1-6"):
        assert codec.to_wire(f"{label}.head.{D}") in reply


def exchange(address, packet):
    with dns.query.make_socket(dns.query.socket.AF_INET, dns.query.socket.SOCK_DGRAM) as sock:
        sock.setblocking(True)
        sock.settimeout(3)
        sock.sendto(packet, (address, PORT))
        return sock.recv(65535)


async def test_rule_24_an_alias_comes_before_its_target(served):
    reply = await served.ask(f"chain.{D}", "A")
    assert [rrset.name.to_text() for rrset in reply.answer] == [f"chain.{D}", f"alias.{D}", f"web.{D}"]


async def test_rule_24_an_alias_into_another_server_block_goes_through_the_server(cluster, start):
    populate(cluster)
    cluster.service("far", type="ExternalName", externalName="Alias.default.svc.Example.org.")
    server = await start(TWO_BLOCKS)
    reply = await server.ask(f"far.{D}")
    # The alias there leads back here, where web is.
    assert texts(reply.answer) == [
        f"far.{D} CNAME Alias.default.svc.Example.org.",
        f"Alias.default.svc.Example.org. CNAME web.{D}",
        f"web.{D} A 127.96.0.20",
    ]


async def test_rule_25_a_loop_over_two_server_blocks_ends(cluster, start):
    populate(cluster)
    cluster.service("to", type="ExternalName", externalName="fro.default.svc.example.org")
    cluster.service("fro", type="ExternalName", externalName=f"to.{D}")
    server = await start(TWO_BLOCKS)
    reply = await server.ask(f"to.{D}", tcp=True)
    assert {rrset.rdtype for rrset in reply.answer} == {dns.rdatatype.CNAME}
    assert (await server.ask(f"web.{D}")).answer


async def test_rule_27_the_rcode_is_that_of_the_last_name(cluster, start):
    populate(cluster)
    cluster.service("far", type="ExternalName", externalName="nope.default.svc.example.org")
    server = await start(TWO_BLOCKS)
    reply = await server.ask(f"far.{D}")
    assert reply.rcode() == dns.rcode.NXDOMAIN
    assert texts(reply.answer) == [f"far.{D} CNAME nope.default.svc.example.org."]
    assert [rrset.name.to_text() for rrset in reply.authority] == ["example.org."]


class Upstream(asyncio.DatagramProtocol):
    """Answers every query with what `change` makes of an empty reply."""

    def __init__(self, change):
        self._change = change

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        reply = dns.message.make_response(dns.message.from_wire(data))
        self._change(reply)
        self.transport.sendto(reply.to_wire(), address)


@pytest.fixture
async def behind(cluster, start):
    """Start a server that forwards to an Upstream."""
    transports = []

    async def run(change, lines="fallthrough in-addr.arpa"):
        populate(cluster)
        address = own_address()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: Upstream(change), (address, PORT))
        transports.append(transport)
        return await start(
            COREFILE.replace("ttl 30", lines).replace(
                "    kubernetes", f"    forward . {address}:{PORT}\n    kubernetes"
            )
        )

    yield run
    for transport in transports:
        transport.close()


async def test_rule_30_truncation_upstream_is_passed_on(behind):
    def truncate(reply):
        reply.flags |= dns.flags.TC

    reply = await (await behind(truncate)).ask(f"outside.{D}")
    assert reply.flags & dns.flags.TC
    assert texts(reply.answer) == [f"outside.{D} CNAME example.org."]


async def test_rule_30_failure_upstream_is_passed_on(behind):
    reply = await (await behind(lambda reply: reply.set_rcode(dns.rcode.SERVFAIL))).ask(f"outside.{D}")
    assert reply.rcode() == dns.rcode.SERVFAIL


async def test_what_comes_from_outside_is_asked_for_each_time(behind):
    found = ["10.9.9.1"]

    def answer(reply):
        reply.answer.append(dns.rrset.from_text(reply.question[0].name, 60, "IN", "A", found[0]))

    server = await behind(answer)
    for found[0] in ("10.9.9.1", "10.9.9.2"):
        reply = await server.ask(f"outside.{D}")
        assert texts(reply.answer) == [f"outside.{D} CNAME example.org.", f"example.org. A {found[0]}"]


async def test_the_missing_target_of_an_alias_falls_through(behind):
    def answer(reply):
        reply.answer.append(dns.rrset.from_text(reply.question[0].name, 60, "IN", "A", "10.9.9.1"))

    server = await behind(answer, "fallthrough")
    reply = await server.ask(f"dangling.{D}")
    assert texts(reply.answer) == [f"dangling.{D} CNAME nope.{D}", f"nope.{D} A 10.9.9.1"]


async def test_rule_43_nothing_falls_through_before_the_first_sync(behind, cluster):
    server = await behind(lambda reply: None, "fallthrough")
    assert (await server.ask(f"nope.{D}")).rcode() == dns.rcode.NOERROR
    cluster.index.synced = False
    assert (await server.ask(f"other.{D}")).rcode() == dns.rcode.SERVFAIL


async def test_rule_33_one_ptr_for_each_service_and_none_twice(served, cluster):
    cluster.endpoints("web", ["127.244.1.2"], ports=[{"name": "more", "port": 9000}])
    cluster.service("other", clusterIP="None")
    cluster.endpoints("other", ["127.244.1.2"])
    cluster.endpoints("alias", ["127.244.1.2"])  # an ExternalName has no names below it
    cluster.endpoints("nobody", ["127.244.1.2"])  # there is no such Service
    reply = await served.ask("2.1.244.127.in-addr.arpa.", "PTR")
    assert {item.target.to_text() for item in reply.answer[0]} == {
        f"127-244-1-2.web.{D}",
        f"127-244-1-2.other.{D}",
    }


async def test_rule_36_reverse_names_of_others_are_asked_upstream(behind):
    def point(reply):
        name = reply.question[0].name
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "PTR", "one.example.org."))

    server = await behind(point)
    assert texts((await server.ask("9.9.9.9.in-addr.arpa.", "PTR")).answer) == [
        "9.9.9.9.in-addr.arpa. PTR one.example.org."
    ]
    assert texts((await server.ask("20.0.96.127.in-addr.arpa.", "PTR")).answer) == [
        f"20.0.96.127.in-addr.arpa. PTR web.{D}"
    ]


async def test_rule_37_negative_answers_carry_the_soa(served):
    reply = await served.ask(f"nope.{D}", "A")
    soa = reply.authority[0][0]
    assert reply.flags & dns.flags.AA
    assert reply.authority[0].name.to_text() == Z
    assert (soa.mname.to_text(), soa.rname.to_text()) == (f"ns.dns.{Z}", f"hostmaster.{Z}")
    assert (soa.refresh, soa.retry, soa.expire, soa.minimum) == (7200, 1800, 86400, 30)


async def test_rule_37_the_ttl_of_the_soa_is_300_at_most(cluster, start):
    populate(cluster)
    server = await start(COREFILE.replace("ttl 30", "ttl 3600"))
    (soa,) = (await server.ask(f"nope.{D}")).authority
    assert (soa.ttl, soa[0].minimum) == (300, 3600)


async def test_rule_42_name_servers_are_the_services_of_the_dns_pods(served, cluster):
    reply = await served.ask("Cluster.Local.", "NS")
    assert texts(reply.answer) == ["Cluster.Local. NS web.default.svc.Cluster.Local."]
    assert texts(reply.additional) == ["web.default.svc.Cluster.Local. A 127.96.0.20"]
    assert texts((await served.ask(f"ns.dns.{Z}")).answer) == [f"ns.dns.{Z} A 127.96.0.20"]


async def test_rule_42_name_servers_behind_a_headless_service_are_its_endpoints(cluster, start):
    populate(cluster)
    server = await start(COREFILE, dns_pods=["127.244.3.1"])
    reply = await server.ask(Z, "NS")
    assert texts(reply.answer) == [f"{Z} NS castor.twins.{D}"]
    assert texts(reply.additional) == [f"castor.twins.{D} A 127.244.3.{n}" for n in (1, 2)]


async def test_rule_42_without_a_service_the_pods_are_the_name_servers(cluster, start):
    populate(cluster)
    server = await start(COREFILE, dns_pods=["127.244.9.9"])
    reply = await server.ask(Z, "NS")
    assert texts(reply.answer) == [f"{Z} NS ns.dns.{Z}"]
    assert texts(reply.additional) == [f"ns.dns.{Z} A 127.244.9.9"]
    assert texts((await server.ask(f"ns.dns.{Z}")).answer) == [f"ns.dns.{Z} A 127.244.9.9"]


async def test_rule_42_without_pods_there_are_no_name_servers(cluster, start):
    populate(cluster)
    server = await start(COREFILE)
    reply = await server.ask(Z, "NS")
    assert reply.rcode() == dns.rcode.NOERROR
    assert not reply.answer
    assert reply.authority[0].rdtype == dns.rdatatype.SOA


@pytest.mark.parametrize("name", [Z, "in-addr.arpa."])
async def test_rule_42_soa_at_the_apex(served, name):
    reply = await served.ask(name, "SOA")
    assert [(rrset.name.to_text(), rrset.rdtype) for rrset in reply.answer] == [(name, dns.rdatatype.SOA)]
    assert not reply.authority


async def test_rule_43_before_the_first_sync_nothing_is_denied(cluster, start):
    cluster.namespace("default")
    cluster.service("web", clusterIP="127.96.0.20")
    dns_server = await start(COREFILE)
    assert (await dns_server.ask(f"nope.{D}")).rcode() == dns.rcode.SERVFAIL
    assert (await dns_server.ask(f"web.{D}", "AAAA")).rcode() == dns.rcode.SERVFAIL
    assert (await dns_server.ask("9.9.9.9.in-addr.arpa.", "PTR")).rcode() == dns.rcode.SERVFAIL
    assert (await dns_server.ask(f"web.{D}")).answer
    cluster.index.set_synced()
    assert (await dns_server.ask(f"nope.{D}")).rcode() == dns.rcode.NXDOMAIN


async def test_rule_43_before_all_pods_are_known_none_is_denied(cluster, start):
    populate(cluster)
    cluster.pod("a", "127.244.1.2")
    server = await start(COREFILE.replace("insecure", "verified"))
    assert (await server.ask(f"127-244-1-2.default.pod.{Z}")).answer
    assert (await server.ask(f"127-244-9-9.default.pod.{Z}")).rcode() == dns.rcode.SERVFAIL
    (plugin,) = server.server.configuration.plugins
    assert not plugin.ready
    cluster.index.set_pods_synced()
    assert plugin.ready
    assert (await server.ask(f"127-244-9-9.default.pod.{Z}")).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(("lines", "ttl"), [("", 5), ("ttl 0", 0), ("ttl 3600", 3600)])
async def test_rule_52_ttl(cluster, start, lines, ttl):
    populate(cluster)
    server = await start(COREFILE.replace("ttl 30", lines))
    for name, qtype in ((f"web.{D}", "A"), (f"head.{D}", "SRV"), ("20.0.96.127.in-addr.arpa.", "PTR")):
        reply = await server.ask(name, qtype)
        assert {rrset.ttl for rrset in reply.answer + reply.additional} == {ttl}


async def walk(server, name, namespace="default"):
    """The addresses of a name as musl's resolver finds them: A and AAAA at once, and NODATA is the end."""
    for step in candidates(name, search_path(namespace, Z.rstrip("."))):
        replies = await asyncio.gather(server.ask(step, "A"), server.ask(step, "AAAA"))
        found = [item.to_text() for reply in replies for rrset in reply.answer for item in rrset]
        if found:
            return found
        rcodes = {reply.rcode() for reply in replies}
        if rcodes != {dns.rcode.NXDOMAIN}:
            return sorted(dns.rcode.to_text(rcode) for rcode in rcodes)
    return ["NXDOMAIN"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("web", ["127.96.0.20"]),
        ("dual", ["127.96.0.21", "fd00::21"]),
        ("six", ["fd00::"]),
        ("web.default", ["127.96.0.20"]),
        ("web.default.svc", ["127.96.0.20"]),
        (f"web.{D}", ["127.96.0.20"]),
        ("db-0.head", ["127.244.1.4"]),
        ("web.default.svc.example.org", ["127.96.0.20"]),
        ("nope.default.svc.example.org", ["NXDOMAIN"]),
    ],
)
async def test_rule_60_a_walk_that_ends_at_nodata_finds_what_there_is(cluster, start, name, found):
    populate(cluster)
    server = await start(TWO_BLOCKS)
    assert await walk(server, name) == found


async def test_rule_60_a_and_aaaa_agree_on_existence(served):
    for name in sorted({row[1] for row in RULES}):
        a, aaaa = await served.ask(name, "A"), await served.ask(name, "AAAA")
        assert a.rcode() == aaaa.rcode(), name
