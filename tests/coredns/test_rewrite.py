"""rewrite, over the wire: the name that is asked for, and the names that come back."""

import dns.rcode
import dns.rdatatype
import pytest

from emu.coredns.corefile import CorefileError
from emu.coredns.environment import Facts
from emu.coredns.index import Index
from emu.coredns.metrics import Metrics
from emu.coredns.server import configure

from .test_kubernetes import D, Z, populate


def corefile(*rules):
    return "\n".join([". {", *rules, "kubernetes cluster.local {", "ttl 30", "}", "}"])


@pytest.fixture
async def ask(cluster, start):
    populate(cluster)

    async def once(rules, name, qtype="A", **options):
        server = await start(corefile(*rules))
        return await server.ask(name, qtype, **options)

    return once


NAMES = [
    ("name shop.org web.default.svc.cluster.local", "shop.org.", "shop.org."),
    ("name exact shop.org web.default.svc.cluster.local.", "SHOP.org.", "SHOP.org."),
    ("name prefix shop- web.", "shop-default.svc.cluster.local.", f"web.{D}"),
    ("name prefix shop- web. answer auto", "shop-default.svc.cluster.local.", f"shop-{D}"),
    ("name suffix .shop.org .default.svc.cluster.local", "web.shop.org.", f"web.{D}"),
    ("name suffix .shop.org .default.svc.cluster.local answer auto", "web.shop.org.", "web.shop.org."),
    ("name substring shop default", "web.shop.svc.cluster.local.", f"web.{D}"),
    (r"name regex (.*)-(.*)\.shop\.org {1}.{2}.svc.cluster.local", "web-default.shop.org.", f"web.{D}"),
    (
        r"name regex (.*)-(.*)\.shop\.org {1}.{2}.svc.cluster.local "
        r"answer name (.*)\.default\.svc\.cluster\.local {1}-default.shop.org",
        "web-default.shop.org.",
        "web-default.shop.org.",
    ),
    ("stop {\nname exact shop.org web.default.svc.cluster.local\n}", "shop.org.", "shop.org."),
]


@pytest.mark.parametrize(("rule", "asked", "owner"), NAMES, ids=[row[0] for row in NAMES])
async def test_rewrite_name(ask, rule, asked, owner):
    reply = await ask([f"rewrite {rule}"], asked)
    assert reply.question[0].name.to_text() == asked
    assert [(rrset.name.to_text(), rrset[0].address) for rrset in reply.answer] == [(owner, "127.96.0.20")]


async def test_a_rewritten_reply_follows_its_service_and_every_spelling(cluster, start):
    populate(cluster)
    server = await start(corefile("rewrite name suffix .shop.org .default.svc.cluster.local answer auto"))
    for address in ("127.96.0.20", "127.96.0.77"):
        cluster.service("web", clusterIP=address)
        for name in ("web.shop.org.", "WEB.Shop.ORG.", "web.shop.org."):
            (rrset,) = (await server.ask(name)).answer
            assert (rrset.name.to_text(), rrset[0].address) == (name, address)
    assert (await server.ask("new.shop.org.")).rcode() == dns.rcode.NXDOMAIN
    cluster.service("new", clusterIP="127.96.0.78")
    assert (await server.ask("new.shop.org.")).answer


async def test_rewrite_name_leaves_other_names_alone(ask):
    reply = await ask(["rewrite name exact shop.org web.default.svc.cluster.local"], f"dns.{D}")
    assert reply.answer[0][0].address == "127.96.0.10"


async def test_rewrite_answer_value_changes_the_names_within_records(ask):
    rule = r"rewrite name suffix .shop.org .default.svc.cluster.local answer auto"
    reply = await ask([rule], "_http._tcp.web.shop.org.", "SRV")
    assert reply.answer[0][0].target.to_text() == "web.shop.org."
    assert reply.additional[0].name.to_text() == "web.shop.org."
    rule = (
        r"rewrite name suffix .shop.org .default.svc.cluster.local "
        r"answer name (.*)\.default\.svc\.cluster\.local {1}.a.org value (.*)\.default\.svc.* {1}.b.org"
    )
    reply = await ask([rule], "_http._tcp.web.shop.org.", "SRV")
    assert reply.answer[0].name.to_text() == "_http._tcp.web.a.org."
    assert reply.answer[0][0].target.to_text() == "web.b.org."
    assert reply.additional[0].name.to_text() == "web.a.org."


async def test_rewrite_answers_of_a_missing_name(ask):
    reply = await ask(["rewrite name exact shop.org nope.default.svc.cluster.local"], "shop.org.")
    assert reply.rcode() == dns.rcode.NXDOMAIN
    assert reply.authority[0].name.to_text() == Z


async def test_rewrite_stop_is_the_last_rule_and_continue_is_not(ask):
    second = "rewrite name exact b.org web.default.svc.cluster.local"
    reply = await ask(["rewrite continue name exact a.org b.org", second], "a.org.")
    assert [rrset.name.to_text() for rrset in reply.answer] == ["a.org."]
    for mode in ("stop ", ""):
        reply = await ask([f"rewrite {mode}name exact a.org b.org", second], "a.org.")
        assert reply.rcode() == dns.rcode.SERVFAIL  # nobody answers for b.org
    reply = await ask(["rewrite stop name exact c.org b.org", second], "b.org.")
    assert reply.answer


async def test_rewrite_to_what_is_no_name_is_a_failure(ask):
    reply = await ask([f"rewrite name substring web {'x' * 64}"], f"web.{D}")
    assert reply.rcode() == dns.rcode.SERVFAIL


async def test_rewrite_type_class_ttl_and_rcode(ask):
    reply = await ask(["rewrite type ANY SRV"], f"web.{D}", "ANY")
    assert reply.answer[0].rdtype == dns.rdatatype.SRV
    reply = await ask(["chaos", "rewrite class CH IN"], f"web.{D}", rdclass="CH")
    assert reply.answer
    for bounds, ttl in (("7", 7), ("40-50", 40), ("-20", 20), ("31-", 31), ("10-50", 30)):
        reply = await ask([f"rewrite ttl suffix .cluster.local {bounds}"], f"web.{D}")
        assert reply.answer[0].ttl == ttl, bounds
    reply = await ask(["rewrite rcode regex nope.* NXDOMAIN NOERROR"], f"nope.{D}")
    assert reply.rcode() == dns.rcode.NOERROR
    reply = await ask([f"rewrite rcode nope.{D} NXDOMAIN REFUSED"], f"nope.{D}")
    assert reply.rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("", "it needs a field"),
        ("name a", "name takes at least two arguments"),
        ("name fuzzy a b", '"fuzzy" is no way to match'),
        ("name regex ( b", '"(" is no regular expression'),
        ("name regex (a) {2}", '"{2}" has more groups than "(a)"'),
        ("name exact a b c", '"c" is not expected'),
        ("name exact a b answer", '"answer " is not auto'),
        ("name prefix a b answer auto name c d", "answer auto and answer name exclude each other"),
        ("type A NOPE", "are not two values of the DNS type"),
        ("class A B", "are not two values of the DNS class"),
        ("ttl a.org x", '"x" is not a TTL'),
        ("rcode a.org NXDOMAIN NOPE", "are not two response codes"),
        ("edns0 local set 0xffee abcd", "rewriting edns0 is not supported here"),
        ("header set a", "is no rule"),
    ],
)
def test_rewrite_errors_name_file_and_line(rule, message):
    with pytest.raises(CorefileError) as caught:
        configure(f". {{\n rewrite {rule}\n}}", "Corefile", Facts(Index(), Metrics()))
    assert str(caught.value).startswith("Corefile:2: plugin/rewrite: ")
    assert message in str(caught.value)
