"""The rules of Kubernetes DNS by their numbers, each asked over the wire and read by dnspython."""

import dns.flags
import dns.message
import dns.rcode
import pytest

COREFILE = """
.:53 {
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        ttl 30
    }
}
"""
HTTP = {"name": "http", "port": 8080}
Z = "cluster.local."
D = f"default.svc.{Z}"


def populate(cluster):
    cluster.namespace("default")
    cluster.namespace("empty")
    cluster.namespace("kube-system")
    cluster.service("web", clusterIP="127.96.0.20", ports=[{"name": "http", "port": 80}])
    cluster.endpoints("web", ["127.244.1.2"], ports=[HTTP])
    cluster.service(
        "dual",
        clusterIP="127.96.0.21",
        clusterIPs=["127.96.0.21", "fd00::21"],
        ports=[{"name": "http", "port": 80}],
    )
    cluster.service("bare", clusterIP="127.96.0.22", ports=[{"port": 80}])
    cluster.service(
        "dns", clusterIP="127.96.0.10",
        ports=[
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53},
            {"name": "metrics", "port": 9153},
        ],
    )  # fmt: skip
    cluster.service("head", clusterIP="None", ports=[{"name": "http", "port": 80}])
    cluster.endpoints(
        "head",
        [
            "127.244.1.3",
            {"addresses": ["127.244.1.4"], "hostname": "db-0"},
            {"addresses": ["127.244.1.5"], "conditions": {"ready": False}},
            {"addresses": ["127.244.1.6"], "conditions": {"ready": True, "terminating": True}},
        ],
        ports=[HTTP],
    )
    cluster.endpoints("head", ["127.244.1.3"], ports=[{"name": "https", "port": 8443}])
    cluster.service("unready", clusterIP="None")
    cluster.endpoints(
        "unready", [{"addresses": ["127.244.1.9"], "conditions": {"ready": False}}], ports=[HTTP]
    )
    cluster.service("six", clusterIP="None")
    cluster.endpoints("six", ["fd00::"], ports=[HTTP], address_type="IPv6")
    cluster.service("portless", clusterIP="None")
    cluster.endpoints("portless", ["127.244.1.7"])
    for name, target in {
        "alias": f"web.{D}", "chain": f"alias.{D}", "dangling": f"nope.{D}", "loop": f"loop.{D}",
        "address": "1.2.3.4", "outside": "example.org",
    }.items():  # fmt: skip
        cluster.service(name, type="ExternalName", externalName=target)
    cluster.index.set_synced()


@pytest.fixture
async def served(cluster, start):
    populate(cluster)
    return await start(COREFILE, dns_pods=["127.244.1.2"])


RULES = [
    # rule, name, type, rcode, answers
    (1, Z, "A", "NOERROR", []),
    (1, f"foo.{Z}", "A", "NXDOMAIN", []),
    (2, f"a._http._tcp.web.{D}", "SRV", "NXDOMAIN", []),
    (4, rf"web\.default.svc.{Z}", "A", "NXDOMAIN", []),
    (5, f"http.tcp.web.{D}", "SRV", "NXDOMAIN", []),
    (5, f"_._tcp.web.{D}", "SRV", "NXDOMAIN", []),
    (6, f"*.{D}", "A", "NXDOMAIN", []),
    (7, f"_tcp.web.{D}", "A", "NOERROR", []),
    (7, f"_udp.web.{D}", "A", "NXDOMAIN", []),
    (8, f"web.{D}", "A", "NOERROR", ["A 127.96.0.20"]),
    (9, f"web.{D}", "AAAA", "NOERROR", []),
    (10, f"dual.{D}", "AAAA", "NOERROR", ["AAAA fd00::21"]),
    (10, f"_http._tcp.dual.{D}", "SRV", "NOERROR", [f"SRV 0 50 80 dual.{D}"]),
    (11, f"_http._tcp.web.{D}", "SRV", "NOERROR", [f"SRV 0 100 80 web.{D}"]),
    (11, f"_http._udp.web.{D}", "SRV", "NXDOMAIN", []),
    (11, f"_https._tcp.web.{D}", "SRV", "NXDOMAIN", []),
    (12, f"bare.{D}", "SRV", "NOERROR", [f"SRV 0 100 80 bare.{D}"]),
    (13, f"_http._tcp.web.{D}", "A", "NOERROR", []),
    (14, f"dns.{D}", "SRV", "NOERROR", [f"SRV 0 33 53 dns.{D}", f"SRV 0 33 9153 dns.{D}"]),
    (15, f"127-244-1-2.web.{D}", "A", "NOERROR", ["A 127.244.1.2"]),
    (17, f"head.{D}", "A", "NOERROR", ["A 127.244.1.3", "A 127.244.1.4", "A 127.244.1.6"]),
    (17, f"unready.{D}", "A", "NXDOMAIN", []),
    (17, f"six.{D}", "A", "NOERROR", []),
    (18, f"127-244-1-6.head.{D}", "A", "NOERROR", ["A 127.244.1.6"]),
    (18, f"127-244-1-5.head.{D}", "A", "NXDOMAIN", []),
    (19, f"db-0.head.{D}", "A", "NOERROR", ["A 127.244.1.4"]),
    (19, f"127-244-1-4.head.{D}", "A", "NXDOMAIN", []),
    (19, f"fd00--0.six.{D}", "AAAA", "NOERROR", ["AAAA fd00::"]),
    (21, f"_https._tcp.head.{D}", "SRV", "NOERROR", [f"SRV 0 100 8443 127-244-1-3.head.{D}"]),
    (22, f"portless.{D}", "A", "NOERROR", ["A 127.244.1.7"]),
    (22, f"portless.{D}", "SRV", "NOERROR", []),
    (22, f"_x._y.portless.{D}", "SRV", "NXDOMAIN", []),
    (22, f"_http._tcp.db-0.head.{D}", "SRV", "NXDOMAIN", []),
    (22, f"db-0.head.{D}", "SRV", "NOERROR", [f"SRV 0 100 8080 db-0.head.{D}"]),
    (24, f"alias.{D}", "A", "NOERROR", ["A 127.96.0.20", f"CNAME web.{D}"]),
    (24, f"chain.{D}", "A", "NOERROR", ["A 127.96.0.20", f"CNAME alias.{D}", f"CNAME web.{D}"]),
    (25, f"loop.{D}", "A", "NOERROR", []),
    (26, f"dangling.{D}", "A", "NXDOMAIN", [f"CNAME nope.{D}"]),
    (26, f"alias.{D}", "AAAA", "NOERROR", [f"CNAME web.{D}"]),
    (27, f"outside.{D}", "A", "NOERROR", ["CNAME example.org."]),
    (28, f"alias.{D}", "TXT", "NOERROR", [f"CNAME web.{D}"]),
    (28, f"x.alias.{D}", "A", "NXDOMAIN", []),
    (29, f"address.{D}", "A", "NXDOMAIN", []),
    (31, f"127-244-9-9.default.pod.{Z}", "A", "NOERROR", ["A 127.244.9.9"]),
    (31, f"fd00--1.default.pod.{Z}", "AAAA", "NOERROR", ["AAAA fd00::1"]),
    (31, f"web.default.pod.{Z}", "A", "NXDOMAIN", []),
    (31, f"127-244-9-9.nope.pod.{Z}", "A", "NXDOMAIN", []),
    (31, f"default.pod.{Z}", "A", "NOERROR", []),
    (32, f"x.127-244-9-9.default.pod.{Z}", "A", "NXDOMAIN", []),
    (33, "20.0.96.127.in-addr.arpa.", "PTR", "NOERROR", [f"PTR web.{D}"]),
    (33, "2.1.244.127.in-addr.arpa.", "PTR", "NOERROR", [f"PTR 127-244-1-2.web.{D}"]),
    (33, "4.1.244.127.in-addr.arpa.", "PTR", "NOERROR", [f"PTR db-0.head.{D}"]),
    (33, "5.1.244.127.in-addr.arpa.", "PTR", "NXDOMAIN", []),
    (34, "020.0.96.127.in-addr.arpa.", "PTR", "NXDOMAIN", []),
    (34, "0.96.127.in-addr.arpa.", "PTR", "NXDOMAIN", []),
    (34, "20.0.96.127.in-addr.arpa.", "A", "NOERROR", []),
    (38, f"svc.{Z}", "A", "NOERROR", []),
    (38, f"pod.{Z}", "A", "NOERROR", []),
    (38, f"empty.svc.{Z}", "A", "NOERROR", []),
    (38, f"nope.svc.{Z}", "A", "NXDOMAIN", []),
    (38, f"nope.{D}", "A", "NXDOMAIN", []),
    (38, f"svc.default.{Z}", "A", "NXDOMAIN", []),
    (39, f"web.{D}", "MX", "NOERROR", []),
    (39, f"nope.{D}", "MX", "NXDOMAIN", []),
    (40, Z, "TXT", "NOERROR", []),
    (40, f"dns-version.{Z}", "A", "NOERROR", []),
    (40, f"nope.{D}", "SOA", "NXDOMAIN", []),
    (41, f"dns-version.{Z}", "TXT", "NOERROR", ['TXT "1.1.0"']),
    (42, Z, "NS", "NOERROR", [f"NS web.{D}"]),
    (50, f"web.{D}", "ANY", "NOERROR", []),
    (50, Z, "AXFR", "REFUSED", []),
]


@pytest.mark.parametrize(
    ("name", "qtype", "rcode", "answers"),
    [pytest.param(*row, id=f"rule {number}: {row[0]} {row[1]}") for number, *row in RULES],
)
async def test_rule(served, name, qtype, rcode, answers):
    query = dns.message.make_query(name, "A")
    query.question[0].rdtype = dns.rdatatype.from_text(qtype)
    reply = await served.ask(query)
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert (
        sorted(f"{dns.rdatatype.to_text(s.rdtype)} {r.to_text()}" for s in reply.answer for r in s) == answers
    )
    if rcode == "NXDOMAIN" or (rcode == "NOERROR" and (not answers or set(answers) <= {f"CNAME web.{D}"})):
        (soa,) = reply.authority  # 37
        assert soa.rdtype == dns.rdatatype.SOA


async def test_rule_3_case_of_the_query_is_kept(served):
    reply = await served.ask("_HTTP._tcp.WEB.Default.svc.Cluster.LOCAL", "SRV")
    assert reply.question[0].name.to_text() == "_HTTP._tcp.WEB.Default.svc.Cluster.LOCAL."
    assert reply.answer[0].name.to_text() == "_HTTP._tcp.WEB.Default.svc.Cluster.LOCAL."
    assert reply.answer[0][0].target.to_text() == "web.default.svc.Cluster.LOCAL."


async def test_rule_24_an_alias_comes_before_its_target(served):
    reply = await served.ask(f"chain.{D}", "A")
    assert [rrset.name.to_text() for rrset in reply.answer] == [f"chain.{D}", f"alias.{D}", f"web.{D}"]


async def test_rule_37_negative_answers_carry_the_soa(served):
    reply = await served.ask(f"nope.{D}", "A")
    soa = reply.authority[0][0]
    assert reply.flags & dns.flags.AA
    assert reply.authority[0].name.to_text() == Z
    assert (soa.mname.to_text(), soa.rname.to_text()) == (f"ns.dns.{Z}", f"hostmaster.{Z}")
    assert (soa.refresh, soa.retry, soa.expire, soa.minimum) == (7200, 1800, 86400, 30)


async def test_rule_43_before_the_first_sync_nothing_is_denied(cluster, start):
    cluster.namespace("default")
    cluster.service("web", clusterIP="127.96.0.20")
    dns_server = await start(COREFILE)
    assert (await dns_server.ask(f"nope.{D}")).rcode() == dns.rcode.SERVFAIL
    assert (await dns_server.ask(f"web.{D}")).answer
    cluster.index.set_synced()
    assert (await dns_server.ask(f"nope.{D}")).rcode() == dns.rcode.NXDOMAIN


async def test_changes_are_in_the_next_answer(served, cluster):
    first = cluster.endpoints("web", ["127.244.2.2"])
    assert (await served.ask(f"127-244-2-2.web.{D}")).answer
    cluster.index.set_slice(first.key, first, None)
    assert (await served.ask(f"127-244-2-2.web.{D}")).rcode() == dns.rcode.NXDOMAIN
    assert (await served.ask(f"web.{D}")).answer
    web = cluster.service("web", clusterIP="127.96.0.99")
    assert (await served.ask(f"web.{D}")).answer[0][0].address == "127.96.0.99"
    cluster.index.set_service(web.key, web, None)
    assert (await served.ask(f"web.{D}")).rcode() == dns.rcode.NXDOMAIN


async def test_pods_verified_needs_the_pod(cluster, start):
    populate(cluster)
    cluster.pod("a", "127.244.1.2")
    server = await start(COREFILE.replace("insecure", "verified"))
    assert (await server.ask(f"127-244-1-2.default.pod.{Z}")).answer
    assert (await server.ask(f"127-244-9-9.default.pod.{Z}")).rcode() == dns.rcode.SERVFAIL
    cluster.index.set_pods_synced()
    assert (await server.ask(f"127-244-9-9.default.pod.{Z}")).rcode() == dns.rcode.NXDOMAIN


async def test_namespaces_hides_the_others(cluster, start):
    populate(cluster)
    server = await start(COREFILE.replace("ttl 30", "namespaces empty"))
    for name in (f"web.{D}", "20.0.96.127.in-addr.arpa."):
        assert (await server.ask(name, "PTR")).rcode() == dns.rcode.NXDOMAIN
