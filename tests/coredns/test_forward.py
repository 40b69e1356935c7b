"""forward and cache, with a second server of ours as the upstream."""

import dns.rcode
import pytest
from test_kubernetes import D, populate

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


async def test_except_and_a_full_house(start, upstream):
    server = await start(f". {{\n forward . {upstream.address}:5353 {{\n except example.org\n }}\n}}")
    assert (await server.ask("web.default.svc.example.org.")).rcode() == dns.rcode.SERVFAIL


async def test_nobody_upstream(start, cluster):
    server = await start(". {\n forward . 127.201.252.9:9\n errors\n}")
    assert (await server.ask("example.org.")).rcode() == dns.rcode.SERVFAIL
