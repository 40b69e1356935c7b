"""forward (rule 55) and cache, with a second server of ours as the upstream, or one that does as told."""

import asyncio

import dns.flags
import dns.message
import dns.rcode
import pytest

from emu.coredns.corefile import CorefileError
from emu.coredns.environment import Facts
from emu.coredns.index import Index
from emu.coredns.metrics import Metrics
from emu.coredns.server import configure

from .test_kubernetes import D, populate
from .upstreams import FakeServer

UPSTREAM = """
.:53 {
    kubernetes example.org in-addr.arpa {
        ttl 100
    }
}
"""


def forwarding(upstream, *more):
    return "\n".join(
        [
            ". {",
            f"  forward . {upstream.address}:5353",
            "  kubernetes cluster.local",
            *more,
            "}",
        ]
    )


@pytest.fixture
async def upstream(start, cluster):
    populate(cluster)
    return await start(UPSTREAM)


async def test_other_names_are_asked_for_upstream(start, upstream):
    server = await start(forwarding(upstream))
    reply = await server.ask("web.default.svc.example.org.")
    assert reply.answer[0][0].address == "127.96.0.20"
    assert (await server.ask("nope.default.svc.example.org.")).rcode() == dns.rcode.NXDOMAIN
    assert (await server.ask("web.default.svc.example.org.", tcp=True)).answer


async def test_rule_24_an_alias_to_the_outside_is_completed(start, upstream, cluster):
    cluster.service("far", type="ExternalName", externalName="web.default.svc.example.org")
    server = await start(forwarding(upstream))
    reply = await server.ask(f"far.{D}")
    assert [rrset[0].to_text() for rrset in reply.answer] == ["web.default.svc.example.org.", "127.96.0.20"]
    cluster.service("far", type="ExternalName", externalName="nope.default.svc.example.org")
    assert (await server.ask(f"far.{D}")).rcode() == dns.rcode.NXDOMAIN


async def test_cache_counts_ttls_within_its_limits_and_leaves_the_cluster_alone(start, upstream, cluster):
    server = await start(forwarding(upstream, "  cache 30"))
    first = await server.ask("web.default.svc.example.org.")
    assert first.answer[0].ttl == 30
    web = cluster.service("web", clusterIP="127.96.0.77")
    assert (await server.ask("web.default.svc.example.org.")).answer[0][0].address == "127.96.0.20"
    assert (await server.ask(f"web.{D}")).answer[0][0].address == web.spec.cluster_ip


async def test_rule_54_an_alias_to_the_outside_is_never_stale(start, upstream, cluster):
    server = await start(forwarding(upstream, "  cache 30"))
    for name in ("web", "dns", "nope"):
        target = f"{name}.default.svc.example.org"
        cluster.service("far", type="ExternalName", externalName=target)
        for _ in range(2):
            reply = await server.ask(f"far.{D}")
            assert reply.answer[0][0].target.to_text() == f"{target}."


async def test_rule_54_a_name_that_fell_through_is_never_stale(start, cluster):
    populate(cluster)
    elsewhere = await start(
        '. {\n template ANY ANY {\n rcode NXDOMAIN\n authority ". 60 IN SOA ns. mail. 1 60 60 60 60"\n }\n}'
    )
    server = await start(
        f". {{\n cache\n kubernetes cluster.local in-addr.arpa {{\n fallthrough in-addr.arpa\n }}\n"
        f" forward . {elsewhere.address}:5353\n}}"
    )
    name = "200.0.96.127.in-addr.arpa."
    assert (await server.ask(name, "PTR")).rcode() == dns.rcode.NXDOMAIN
    cluster.service("late", clusterIP="127.96.0.200")
    assert (await server.ask(name, "PTR")).answer[0][0].target.to_text() == f"late.{D}"


async def test_except_and_a_full_house(start, upstream):
    server = await start(f". {{\n forward . {upstream.address}:5353 {{\n except example.org\n }}\n}}")
    assert (await server.ask("web.default.svc.example.org.")).rcode() == dns.rcode.SERVFAIL


async def test_nobody_upstream(start, cluster):
    server = await start(". {\n forward . 127.201.252.9:9\n errors\n}")
    assert (await server.ask("example.org.")).rcode() == dns.rcode.SERVFAIL


@pytest.fixture
async def fakes(new_address):
    servers = [FakeServer(new_address()) for _ in range(3)]
    for server in servers:
        await server.start()
    yield servers
    for server in servers:
        server.close()


async def serve(start, fakes, *options):
    servers = " ".join(f"{fake.address}:5353" for fake in fakes)
    block = "\n".join(options)
    return await start(f". {{\n prometheus\n forward . {servers} {{\n {block}\n }}\n}}")


async def ask(server, name="example.org.", **options):
    return await server.ask(name, "TXT", **options)


def who(reply):
    return reply.answer[0][0].strings[0].decode().split()


def metrics(server):
    return server.server.facts.metrics.serve()[2].decode()


async def until(condition):
    """Wait for what the server does by itself."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 10
    while not condition():
        assert loop.time() < deadline, "it did not come to pass"
        await asyncio.sleep(0.005)


async def test_rule_55_policies(start, fakes):
    server = await serve(start, fakes, "policy sequential")
    assert {who(await ask(server))[0] for _ in range(6)} == {fakes[0].address}
    server = await serve(start, fakes, "policy round_robin")
    assert [who(await ask(server))[0] for _ in range(3)] == [fakes[number].address for number in (1, 2, 0)]
    server = await serve(start, fakes)
    assert {who(await ask(server))[0] for _ in range(60)} == {fake.address for fake in fakes}


async def test_rule_55_the_protocol_of_the_query_or_the_one_wanted(start, fakes):
    server = await serve(start, fakes[:1])
    assert who(await ask(server))[1] == "udp"
    assert who(await ask(server, tcp=True))[1] == "tcp"
    server = await serve(start, fakes[:1], "force_tcp")
    assert who(await ask(server))[1] == "tcp"
    server = await serve(start, fakes[:1], "prefer_udp")
    assert who(await ask(server, tcp=True))[1] == "udp"
    fakes[0].truncated = True
    assert who(await ask(server, tcp=True))[1] == "tcp"


async def test_rule_55_rcode_ra_and_tc_are_passed_on(start, fakes):
    server = await serve(start, fakes[:1])
    reply = await ask(server)
    assert reply.flags & dns.flags.RA
    for rcode in (dns.rcode.NXDOMAIN, dns.rcode.REFUSED, dns.rcode.SERVFAIL, dns.rcode.NOTIMP):
        fakes[0].rcode = rcode
        assert (await ask(server)).rcode() == rcode
    fakes[0].rcode, fakes[0].truncated = dns.rcode.NOERROR, True
    assert (await ask(server)).flags & dns.flags.TC


async def test_rule_55_wrong_ids_and_questions_are_ignored(start, fakes):
    def forge(query):
        wrong_id = dns.message.make_response(query)
        wrong_id.id ^= 1
        other = dns.message.make_query("forged.org.", "TXT", id=query.id)
        no_reply = query
        return [wrong_id.to_wire(), dns.message.make_response(other).to_wire(), no_reply.to_wire()]

    fakes[0].forge = forge
    server = await serve(start, fakes[:1])
    for tcp in (False, True):
        assert who(await ask(server, tcp=tcp))[0] == fakes[0].address


async def test_rule_55_a_server_that_is_gone_is_checked_left_out_and_taken_back(start, fakes):
    gone, other = fakes[:2]
    gone.close()
    server = await serve(start, fakes[:2], "policy sequential", "health_check 10ms domain check.org")
    assert who(await ask(server))[0] == other.address
    await until(lambda: failures(server) >= 2)
    assert who(await ask(server))[0] == other.address
    await gone.start()
    await until(lambda: "check.org." in gone.questions)
    await until_answered_by(server, gone)
    labels = f'{{proxy_name="forward",rcode="NOERROR",to="{other.address}:5353"}}'
    assert f"coredns_proxy_request_duration_seconds_count{labels}" in metrics(server)


async def until_answered_by(server, fake):
    async with asyncio.timeout(10):
        while who(await ask(server))[0] != fake.address:
            pass


async def test_rule_55_when_all_are_down_one_is_asked_anyway(start, fakes):
    fakes[0].close()
    for options, broken in ((["health_check 10ms"], True), (["health_check 10ms", "max_fails 0"], False)):
        server = await serve(start, fakes[:1], *options)
        assert (await ask(server)).rcode() == dns.rcode.SERVFAIL
        if broken:
            await until(lambda server=server: failures(server) >= 2)
        assert (await ask(server)).rcode() == dns.rcode.SERVFAIL
        assert ("coredns_forward_healthcheck_broken_total 1.0" in metrics(server)) is broken


def failures(server):
    lines = [line for line in metrics(server).splitlines() if "healthcheck_failures_total{" in line]
    return float(lines[0].split()[-1]) if lines else 0


async def test_rule_55_more_than_max_concurrent_is_refused(start, fakes):
    fakes[0].hold = asyncio.Event()
    server = await serve(start, fakes[:1], "max_concurrent 1")
    first = asyncio.create_task(ask(server))
    await until(lambda: fakes[0].asked)
    assert (await ask(server)).rcode() == dns.rcode.REFUSED
    fakes[0].hold.set()
    assert (await first).answer
    assert (await ask(server)).answer
    assert "coredns_forward_max_concurrent_rejects_total 1.0" in metrics(server)


async def test_connections_are_kept_until_they_expire(start, fakes):
    server = await serve(start, fakes[:1], "force_tcp")
    for _ in range(5):
        assert (await ask(server)).answer
    assert fakes[0].connections == 1
    to = f'proto="tcp",proxy_name="forward",to="{fakes[0].address}:5353"'
    assert f"coredns_proxy_conn_cache_hits_total{{{to}}} 4.0" in metrics(server)
    server = await serve(start, fakes[:1], "force_tcp", "expire 0s")
    for _ in range(3):
        assert (await ask(server)).answer
    assert fakes[0].connections == 4


async def test_next_and_failover(start, fakes):
    one, two, three = fakes
    one.rcode = dns.rcode.NXDOMAIN
    server = await start(
        f". {{\n forward . {one.address}:5353 {{\n next NXDOMAIN\n }}\n"
        f" forward . {two.address}:5353 {{\n next REFUSED\n }}\n}}"
    )
    assert who(await ask(server))[0] == two.address
    two.rcode = dns.rcode.REFUSED
    assert (await ask(server)).rcode() == dns.rcode.REFUSED  # no forward comes after it
    server = await serve(start, fakes, "policy sequential", "failover NXDOMAIN REFUSED")
    assert who(await ask(server))[0] == three.address
    three.rcode = dns.rcode.REFUSED
    assert (await ask(server)).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tls", "servers are asked over plain DNS only, not over TLS"),
        ("policy best", '"policy best" is not an option'),
        ("health_check 1s never", '"never" is neither no_rec nor domain'),
        ("failover NOERROR", "failover cannot be on NOERROR"),
        ("next NOPE", '"NOPE" are not response codes'),
        ("max_fails x", '"x" is not a number'),
    ],
)
def test_forward_errors_name_file_and_line(line, message):
    with pytest.raises(CorefileError) as caught:
        configure(f". {{\n forward . 10.0.0.1 {{\n {line}\n }}\n}}", "Corefile", Facts(Index(), Metrics()))
    assert str(caught.value).startswith("Corefile:3: plugin/forward: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("servers", "message"),
    [
        ("tls://9.9.9.9", "only plain DNS is spoken"),
        ("dns.example", "is neither an address nor a file"),
        (" ".join(f"10.0.0.{number}" for number in range(16)), "at most 15 servers"),
    ],
)
def test_forward_refuses_servers(servers, message):
    with pytest.raises(CorefileError) as caught:
        configure(f". {{\n forward . {servers}\n}}", "Corefile", Facts(Index(), Metrics()))
    assert message in str(caught.value)
