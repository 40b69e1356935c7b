"""hosts, over the wire."""

import asyncio

import dns.rcode
import dns.reversename
import pytest

from emu.coredns.corefile import CorefileError
from emu.coredns.environment import Facts
from emu.coredns.index import Index
from emu.coredns.metrics import Metrics
from emu.coredns.server import configure

FILE = """
127.0.0.1  localhost
10.0.0.1   web.example.org WEB2.example.org  # a comment
10.0.0.2   web.example.org
fd00::1    web.example.org
10.0.0.9   *.wild.example.org
10.0.0.8   own.wild.example.org
nonsense
300.1.1.1  bad.example.org
10.0.0.7   elsewhere.net
"""


@pytest.fixture
def hosts(tmp_path):
    path = tmp_path / "hosts"
    path.write_text(FILE)
    return path


async def served(start, hosts, *options, zones="example.org in-addr.arpa ip6.arpa"):
    block = "\n".join(options)
    return await start(f". {{\n hosts {hosts} {zones} {{\n {block}\n }}\n whoami\n prometheus\n}}")


def answers(reply):
    return sorted(item.to_text() for rrset in reply.answer for item in rrset)


async def test_hosts_answers_addresses_and_names(start, hosts):
    server = await served(start, hosts)
    assert answers(await server.ask("web.example.org.")) == ["10.0.0.1", "10.0.0.2"]
    assert answers(await server.ask("Web2.Example.org.")) == ["10.0.0.1"]
    assert answers(await server.ask("web.example.org.", "AAAA")) == ["fd00::1"]
    reply = await server.ask(dns.reversename.from_address("10.0.0.1"), "PTR")
    assert answers(reply) == ["web.example.org.", "web2.example.org."]
    assert reply.answer[0].ttl == 3600


async def test_hosts_nodata_missing_and_fallthrough(start, hosts):
    server = await served(start, hosts)
    reply = await server.ask("web.example.org.", "TXT")
    assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])
    assert (await server.ask("nope.example.org.")).rcode() == dns.rcode.SERVFAIL
    assert (await server.ask("elsewhere.net.")).additional  # outside its zones: whoami
    assert (await server.ask(dns.reversename.from_address("10.9.9.9"), "PTR")).additional
    server = await served(start, hosts, "fallthrough")
    assert (await server.ask("nope.example.org.")).additional
    server = await served(start, hosts, "fallthrough other.org")
    assert (await server.ask("nope.example.org.")).rcode() == dns.rcode.SERVFAIL


async def test_hosts_wildcards_stand_for_one_label(start, hosts):
    server = await served(start, hosts)
    assert answers(await server.ask("a.wild.example.org.")) == ["10.0.0.9"]
    assert answers(await server.ask("own.wild.example.org.")) == ["10.0.0.8"]
    for name in ("wild.example.org.", "a.b.wild.example.org."):
        assert (await server.ask(name)).rcode() == dns.rcode.SERVFAIL
    assert (await server.ask(dns.reversename.from_address("10.0.0.9"), "PTR")).additional


async def test_hosts_options(start, hosts):
    server = await served(start, hosts, "10.1.1.1 inline.example.org web.example.org", "ttl 7", "no_reverse")
    reply = await server.ask("inline.example.org.")
    assert (answers(reply), reply.answer[0].ttl) == (["10.1.1.1"], 7)
    assert answers(await server.ask("web.example.org.")) == ["10.0.0.1", "10.0.0.2", "10.1.1.1"]
    assert (await server.ask(dns.reversename.from_address("10.0.0.1"), "PTR")).additional
    _, _, page = server.server.facts.metrics.serve()
    assert b"coredns_hosts_entries 8.0" in page


async def until(condition, server):
    async with asyncio.timeout(5):
        while not condition(await server.ask("web.example.org.")):
            pass


async def test_hosts_follows_its_file(start, hosts):
    server = await served(start, hosts, "10.1.1.1 inline.example.org", "reload 10ms")
    hosts.write_text("10.0.0.77 web.example.org\n")
    await until(lambda reply: answers(reply) == ["10.0.0.77"], server)
    hosts.unlink()
    await until(lambda reply: reply.rcode() == dns.rcode.SERVFAIL, server)
    assert answers(await server.ask("inline.example.org.")) == ["10.1.1.1"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ttl 0", "a TTL is between 1 and 65535"),
        ("bogus", "neither an option"),
        ("10.0.0.1", "neither an option"),
    ],
)
def test_hosts_errors_name_file_and_line(line, message):
    with pytest.raises(CorefileError) as caught:
        configure(f". {{\n hosts {{\n {line}\n }}\n}}", "Corefile", Facts(Index(), Metrics()))
    assert str(caught.value).startswith("Corefile:3: plugin/hosts: ")
    assert message in str(caught.value)
