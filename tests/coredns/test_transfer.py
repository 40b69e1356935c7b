"""transfer: zones as a secondary server would fetch them, by dnspython and dig."""

import asyncio
import ipaddress

import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.zone
import pytest

from emu.coredns.corefile import CorefileError
from emu.coredns.environment import Facts
from emu.coredns.index import Index
from emu.coredns.metrics import Metrics
from emu.coredns.server import configure

from .test_kubernetes import COREFILE, D, Z, populate

PORT = 5353


def transferring(to):
    return COREFILE.replace(".:53 {", f".:53 {{\n transfer {{\n to {to}\n }}\n prometheus")


async def fetch(server, qtype="AXFR"):
    """The messages of a transfer."""

    def run():
        query = dns.query.xfr(
            server.address, Z, qtype, port=PORT, timeout=5, lifetime=5, serial=1, relativize=False
        )
        return list(query)

    return await asyncio.to_thread(run)


def records(messages):
    return [
        (rrset.name.to_text(), dns.rdatatype.to_text(rrset.rdtype), item.to_text())
        for message in messages
        for rrset in message.answer
        for item in rrset
    ]


async def test_rule_50_a_transfer_has_soa_ns_services_and_soa(start, cluster):
    populate(cluster)
    server = await start(transferring("127.0.0.1"), dns_pods=("127.244.1.2",))
    found = records(await fetch(server))
    assert found[0][1] == found[-1][1] == "SOA"
    assert (Z, "NS", f"web.{D}") in found
    assert (f"web.{D}", "A", "127.96.0.20") in found
    assert (f"dual.{D}", "AAAA", "fd00::21") in found
    assert (f"_http._tcp.web.{D}", "SRV", f"0 100 80 web.{D}") in found
    assert (f"db-0.head.{D}", "A", "127.244.1.4") in found
    assert (f"alias.{D}", "CNAME", f"web.{D}") in found
    assert not any(name.startswith(f"unready.{D}") for name, _, _ in found)
    assert len(found) == len(set(found)) + 1  # the SOA is there twice
    assert dns.zone.from_xfr(iter(await fetch(server)), relativize=False).origin.to_text() == Z


async def test_rule_50_ixfr_is_answered_by_the_whole_zone(start, cluster):
    populate(cluster)
    server = await start(transferring("*"))
    assert {item[1] for item in records(await fetch(server, "IXFR"))} >= {"SOA", "A", "SRV"}


async def test_a_large_zone_takes_several_messages_and_others_go_on(start, cluster):
    populate(cluster)
    for number in range(1000):
        address = str(ipaddress.ip_address("127.97.0.0") + number)
        cluster.service(f"service-{number}", clusterIP=address, ports=[{"name": "http", "port": 80}])
    server = await start(transferring("127.0.0.0/8"))
    messages, reply = await asyncio.gather(fetch(server), server.ask(f"web.{D}"))
    assert len(messages) > 3
    assert sum(item[1] == "A" and item[0].startswith("service-") for item in records(messages)) == 1000
    assert reply.answer


@pytest.mark.parametrize(
    ("to", "name", "tcp"), [("127.0.0.1", Z, False), ("10.0.0.1 [::1]:53", Z, True), ("*", D, True)]
)
async def test_rule_50_other_transfers_are_refused(start, cluster, to, name, tcp):
    populate(cluster)
    server = await start(transferring(to))
    for qtype in ("AXFR", "IXFR"):
        query = dns.message.make_query(name, "A")
        query.question[0].rdtype = dns.rdatatype.from_text(qtype)
        assert (await server.ask(query, tcp=tcp)).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("", "it needs `to`"),
        ("to x", '"x" is neither an address nor a CIDR'),
        ("from *", '"from *" is not an option'),
    ],
)
def test_transfer_errors_name_file_and_line(block, message):
    with pytest.raises(CorefileError) as caught:
        configure(f". {{\n transfer {{\n {block}\n }}\n}}", "Corefile", Facts(Index(), Metrics()))
    assert message in str(caught.value)
