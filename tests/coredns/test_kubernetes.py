"""The rules of Kubernetes DNS by their numbers, each asked over the wire and read by dnspython."""

import re
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.reversename
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
    cluster.endpoints("dual", ["127.244.1.8"], ports=[HTTP])
    cluster.endpoints("dual", ["fd00::8"], ports=[HTTP], address_type="IPv6")
    cluster.service("twins", clusterIP="None", ports=[{"name": "http", "port": 80}])
    cluster.endpoints(
        "twins",
        [{"addresses": [f"127.244.3.{number}"], "hostname": "castor"} for number in (1, 2)],
        ports=[HTTP],
    )
    cluster.service("named", clusterIP="None", ports=[{"name": "http", "port": 80}])
    cluster.endpoints(
        "named",
        [
            {"addresses": ["127.244.4.1"], "targetRef": {"kind": "Pod", "name": "pod-1"}},
            {"addresses": ["127.244.4.2"], "targetRef": {"kind": "Pod", "name": "p" * 64}},
            {"addresses": ["127.244.4.3"], "targetRef": {"kind": "Pod", "name": "with.dot"}},
        ],
        ports=[HTTP],
    )
    cluster.service("typed", clusterIP="None")
    cluster.endpoints("typed", ["db.example.org"], ports=[HTTP], address_type="FQDN")
    cluster.service("slices", clusterIP="None", ports=[{"name": "http", "port": 80}])
    cluster.endpoints("slices", ["127.244.5.1"], ports=[{"name": "http", "port": 8080}])
    cluster.endpoints("slices", ["127.244.5.2"], ports=[{"name": "http", "port": 9090}])
    cluster.endpoints("slices", ["fd00::5"], ports=[HTTP], address_type="IPv6")
    cluster.service("again", clusterIP="None", ports=[{"name": "http", "port": 80}])
    for _ in range(2):
        cluster.endpoints("again", ["127.244.6.1"], ports=[HTTP])
    cluster.service("node", type="NodePort", clusterIP="127.96.0.30", ports=[{"port": 80, "nodePort": 30080}])
    cluster.service("balanced", type="LoadBalancer", clusterIP="127.96.0.31", ports=[{"port": 80}])
    cluster.service("portless", clusterIP="None")
    cluster.endpoints("portless", ["127.244.1.7"])
    for name, target in {
        "alias": f"web.{D}", "chain": f"alias.{D}", "dangling": f"nope.{D}", "loop": f"loop.{D}",
        "address": "1.2.3.4", "outside": "example.org", "dotted": f"WEB.{D}", "six-alias": f"dual.{D}",
        "to-endpoint": f"db-0.head.{D}", "ping": f"pong.{D}", "pong": f"ping.{D}",
    }.items():  # fmt: skip
        cluster.service(name, type="ExternalName", externalName=target)
    for number in range(1, 13):
        target = f"last-{number - 1}.{D}" if number > 1 else f"web.{D}"
        cluster.service(f"last-{number}", type="ExternalName", externalName=target)
    cluster.index.set_synced()


@pytest.fixture
async def served(cluster, start):
    populate(cluster)
    return await start(COREFILE, dns_pods=["127.244.1.2"])


RULES = [
    # rule, name, type, rcode, answers
    (1, Z, "A", "NOERROR", []),
    (1, f"foo.{Z}", "A", "NXDOMAIN", []),
    (1, f"web.default.{Z}", "A", "NXDOMAIN", []),
    (2, f"a._http._tcp.web.{D}", "SRV", "NXDOMAIN", []),
    (2, f"_http._tcp.x.web.{D}", "SRV", "NXDOMAIN", []),
    (2, f"a.b.c.d.e.web.{D}", "A", "NXDOMAIN", []),
    (3, "WEB.Default.sVc.Cluster.LOCAL.", "A", "NOERROR", ["A 127.96.0.20"]),
    (3, f"DB-0.head.{D}", "A", "NOERROR", ["A 127.244.1.4"]),
    (4, rf"web\.default.svc.{Z}", "A", "NXDOMAIN", []),
    (4, rf"web.default\.svc.{Z}", "A", "NXDOMAIN", []),
    (4, rf"w\000b.{D}", "A", "NXDOMAIN", []),
    (4, rf"\255\254.{D}", "A", "NXDOMAIN", []),
    (4, rf"--ffff-1\.2\.3\.4.default.pod.{Z}", "AAAA", "NXDOMAIN", []),
    (5, f"http.tcp.web.{D}", "SRV", "NXDOMAIN", []),
    (5, f"_._tcp.web.{D}", "SRV", "NXDOMAIN", []),
    (5, f"_http.tcp.web.{D}", "SRV", "NXDOMAIN", []),
    (6, f"*.{D}", "A", "NXDOMAIN", []),
    (6, f"any.{D}", "A", "NXDOMAIN", []),
    (6, f"web.*.svc.{Z}", "A", "NXDOMAIN", []),
    (6, f"*._tcp.web.{D}", "SRV", "NXDOMAIN", []),
    (7, f"_tcp.web.{D}", "A", "NOERROR", []),
    (7, f"_tcp.head.{D}", "SRV", "NOERROR", []),
    (7, f"_udp.web.{D}", "A", "NXDOMAIN", []),
    (7, f"_tcp.bare.{D}", "A", "NXDOMAIN", []),
    (8, f"web.{D}", "A", "NOERROR", ["A 127.96.0.20"]),
    (8, f"bare.{D}", "A", "NOERROR", ["A 127.96.0.22"]),
    (8, f"node.{D}", "A", "NOERROR", ["A 127.96.0.30"]),
    (8, f"balanced.{D}", "A", "NOERROR", ["A 127.96.0.31"]),
    (9, f"web.{D}", "AAAA", "NOERROR", []),
    (10, f"dual.{D}", "A", "NOERROR", ["A 127.96.0.21"]),
    (10, f"dual.{D}", "AAAA", "NOERROR", ["AAAA fd00::21"]),
    (10, f"_http._tcp.dual.{D}", "SRV", "NOERROR", [f"SRV 0 50 80 dual.{D}"]),
    (11, f"_http._tcp.web.{D}", "SRV", "NOERROR", [f"SRV 0 100 80 web.{D}"]),
    (11, f"_dns._udp.dns.{D}", "SRV", "NOERROR", [f"SRV 0 100 53 dns.{D}"]),
    (11, f"_http._udp.web.{D}", "SRV", "NXDOMAIN", []),
    (11, f"_https._tcp.web.{D}", "SRV", "NXDOMAIN", []),
    (11, f"_http._tcp.bare.{D}", "SRV", "NXDOMAIN", []),
    (12, f"bare.{D}", "SRV", "NOERROR", [f"SRV 0 100 80 bare.{D}"]),
    (13, f"_http._tcp.web.{D}", "A", "NOERROR", []),
    (13, f"_http._tcp.web.{D}", "AAAA", "NOERROR", []),
    (14, f"dns.{D}", "SRV", "NOERROR", [f"SRV 0 33 53 dns.{D}", f"SRV 0 33 9153 dns.{D}"]),
    (14, f"again.{D}", "SRV", "NOERROR", [f"SRV 0 50 8080 127-244-6-1.again.{D}"]),
    (17, f"again.{D}", "A", "NOERROR", ["A 127.244.6.1"]),
    (15, f"127-244-1-2.web.{D}", "A", "NOERROR", ["A 127.244.1.2"]),
    (15, f"127-244-1-2.web.{D}", "SRV", "NOERROR", [f"SRV 0 100 8080 127-244-1-2.web.{D}"]),
    (15, f"127-244-1-9.web.{D}", "A", "NXDOMAIN", []),
    (17, f"head.{D}", "A", "NOERROR", ["A 127.244.1.3", "A 127.244.1.4", "A 127.244.1.6"]),
    (17, f"unready.{D}", "A", "NXDOMAIN", []),
    (17, f"unready.{D}", "SRV", "NXDOMAIN", []),
    (17, f"unready.{D}", "TXT", "NXDOMAIN", []),
    (17, f"typed.{D}", "A", "NXDOMAIN", []),
    (17, f"six.{D}", "A", "NOERROR", []),
    (17, f"six.{D}", "AAAA", "NOERROR", ["AAAA fd00::"]),
    (17, f"slices.{D}", "A", "NOERROR", ["A 127.244.5.1", "A 127.244.5.2"]),
    (17, f"slices.{D}", "AAAA", "NOERROR", ["AAAA fd00::5"]),
    (18, f"127-244-1-6.head.{D}", "A", "NOERROR", ["A 127.244.1.6"]),
    (18, f"127-244-1-5.head.{D}", "A", "NXDOMAIN", []),
    (19, f"db-0.head.{D}", "A", "NOERROR", ["A 127.244.1.4"]),
    (19, f"127-244-1-4.head.{D}", "A", "NXDOMAIN", []),
    (19, f"fd00--0.six.{D}", "AAAA", "NOERROR", ["AAAA fd00::"]),
    (19, f"127-244-4-1.named.{D}", "A", "NOERROR", ["A 127.244.4.1"]),
    (20, f"castor.twins.{D}", "A", "NOERROR", ["A 127.244.3.1", "A 127.244.3.2"]),
    (20, f"_http._tcp.twins.{D}", "SRV", "NOERROR", [f"SRV 0 50 8080 castor.twins.{D}"]),
    (21, f"_https._tcp.head.{D}", "SRV", "NOERROR", [f"SRV 0 100 8443 127-244-1-3.head.{D}"]),
    (21, f"_http._tcp.slices.{D}", "SRV", "NOERROR", [
        f"SRV 0 33 8080 127-244-5-1.slices.{D}", f"SRV 0 33 8080 fd00--5.slices.{D}",
        f"SRV 0 33 9090 127-244-5-2.slices.{D}",
    ]),
    (22, f"portless.{D}", "A", "NOERROR", ["A 127.244.1.7"]),
    (22, f"portless.{D}", "SRV", "NOERROR", []),
    (22, f"_x._y.portless.{D}", "SRV", "NXDOMAIN", []),
    (22, f"_http._tcp.db-0.head.{D}", "SRV", "NXDOMAIN", []),
    (22, f"db-0.head.{D}", "SRV", "NOERROR", [f"SRV 0 100 8080 db-0.head.{D}"]),
    (24, f"alias.{D}", "A", "NOERROR", ["A 127.96.0.20", f"CNAME web.{D}"]),
    (24, f"dotted.{D}", "A", "NOERROR", ["A 127.96.0.20", f"CNAME WEB.{D}"]),
    (24, f"six-alias.{D}", "AAAA", "NOERROR", ["AAAA fd00::21", f"CNAME dual.{D}"]),
    (24, f"to-endpoint.{D}", "A", "NOERROR", ["A 127.244.1.4", f"CNAME db-0.head.{D}"]),
    (24, f"chain.{D}", "A", "NOERROR", ["A 127.96.0.20", f"CNAME alias.{D}", f"CNAME web.{D}"]),
    (24, f"chain.{D}", "CNAME", "NOERROR", [f"CNAME alias.{D}"]),
    (24, f"alias.{D}", "SRV", "NOERROR", [f"CNAME web.{D}", f"SRV 0 100 80 web.{D}"]),
    (25, f"loop.{D}", "A", "NOERROR", []),
    (25, f"ping.{D}", "AAAA", "NOERROR", []),
    (25, f"last-11.{D}", "A", "NOERROR",
     ["A 127.96.0.20", *sorted([f"CNAME last-{n}.{D}" for n in range(1, 11)] + [f"CNAME web.{D}"])]),
    (25, f"last-12.{D}", "A", "NOERROR", []),
    (26, f"dangling.{D}", "A", "NXDOMAIN", [f"CNAME nope.{D}"]),
    (26, f"alias.{D}", "AAAA", "NOERROR", [f"CNAME web.{D}"]),
    (27, f"outside.{D}", "A", "NOERROR", ["CNAME example.org."]),
    (28, f"alias.{D}", "TXT", "NOERROR", [f"CNAME web.{D}"]),
    (28, f"alias.{D}", "MX", "NOERROR", [f"CNAME web.{D}"]),
    (28, f"x.alias.{D}", "A", "NXDOMAIN", []),
    (28, f"_http._tcp.alias.{D}", "SRV", "NXDOMAIN", []),
    (29, f"address.{D}", "A", "NXDOMAIN", []),
    (29, f"address.{D}", "CNAME", "NXDOMAIN", []),
    (31, f"127-244-9-9.default.pod.{Z}", "A", "NOERROR", ["A 127.244.9.9"]),
    (31, f"127-244-9-9.default.pod.{Z}", "AAAA", "NOERROR", []),
    (31, f"fd00--1.default.pod.{Z}", "AAAA", "NOERROR", ["AAAA fd00::1"]),
    (31, f"1-2-3-4-5-6-7-8.default.pod.{Z}", "AAAA", "NOERROR", ["AAAA 1:2:3:4:5:6:7:8"]),
    (31, f"fe80--1%1.default.pod.{Z}", "AAAA", "NXDOMAIN", []),
    (31, f"1-2-3.default.pod.{Z}", "A", "NXDOMAIN", []),
    (31, f"1-2-3-256.default.pod.{Z}", "A", "NXDOMAIN", []),
    (31, f"web.default.pod.{Z}", "A", "NXDOMAIN", []),
    (31, f"127-244-9-9.nope.pod.{Z}", "A", "NXDOMAIN", []),
    (31, f"default.pod.{Z}", "A", "NOERROR", []),
    (32, f"x.127-244-9-9.default.pod.{Z}", "A", "NXDOMAIN", []),
    (33, "20.0.96.127.in-addr.arpa.", "PTR", "NOERROR", [f"PTR web.{D}"]),
    (33, "2.1.244.127.in-addr.arpa.", "PTR", "NOERROR", [f"PTR 127-244-1-2.web.{D}"]),
    (33, "3.1.244.127.in-addr.arpa.", "PTR", "NOERROR", [f"PTR 127-244-1-3.head.{D}"]),
    (33, "4.1.244.127.in-addr.arpa.", "PTR", "NOERROR", [f"PTR db-0.head.{D}"]),
    (33, "5.1.244.127.in-addr.arpa.", "PTR", "NXDOMAIN", []),
    (33, "9.9.244.127.in-addr.arpa.", "PTR", "NXDOMAIN", []),
    (33, dns.reversename.from_address("fd00::21").to_text(), "PTR", "NOERROR", [f"PTR dual.{D}"]),
    (33, dns.reversename.from_address("fd00::5").to_text(), "PTR", "NOERROR", [f"PTR fd00--5.slices.{D}"]),
    (33, dns.reversename.from_address("fd00::5").to_text().upper(), "PTR", "NOERROR",
     [f"PTR fd00--5.slices.{D}"]),
    (34, "020.0.96.127.in-addr.arpa.", "PTR", "NXDOMAIN", []),
    (34, "0.96.127.in-addr.arpa.", "PTR", "NXDOMAIN", []),
    (34, "1.20.0.96.127.in-addr.arpa.", "PTR", "NXDOMAIN", []),
    (34, "x.0.96.127.in-addr.arpa.", "PTR", "NXDOMAIN", []),
    (34, "1.0.0.0.d.f.ip6.arpa.", "PTR", "NXDOMAIN", []),
    (34, "20.0.96.127.in-addr.arpa.", "A", "NOERROR", []),
    (35, "in-addr.arpa.", "A", "NOERROR", []),
    (35, "ip6.arpa.", "TXT", "NOERROR", []),
    (38, f"svc.{Z}", "A", "NOERROR", []),
    (38, f"pod.{Z}", "A", "NOERROR", []),
    (38, f"empty.svc.{Z}", "A", "NOERROR", []),
    (38, f"nope.svc.{Z}", "A", "NXDOMAIN", []),
    (38, f"nope.{D}", "A", "NXDOMAIN", []),
    (38, f"svc.default.{Z}", "A", "NXDOMAIN", []),
    (39, f"web.{D}", "MX", "NOERROR", []),
    (39, f"web.{D}", "HTTPS", "NOERROR", []),
    (39, f"web.{D}", "TYPE65280", "NOERROR", []),
    (39, Z, "DS", "NOERROR", []),
    (39, f"nope.{D}", "MX", "NXDOMAIN", []),
    (39, f"nope.{D}", "TYPE65280", "NXDOMAIN", []),
    (40, Z, "TXT", "NOERROR", []),
    (40, f"svc.{Z}", "TXT", "NOERROR", []),
    (40, f"dns-version.{Z}", "A", "NOERROR", []),
    (40, f"web.{D}", "SOA", "NOERROR", []),
    (40, f"nope.{D}", "SOA", "NXDOMAIN", []),
    (41, f"dns-version.{Z}", "TXT", "NOERROR", ['TXT "1.1.0"']),
    (42, Z, "NS", "NOERROR", [f"NS web.{D}"]),
    (42, "in-addr.arpa.", "NS", "NOERROR", [f"NS web.{D}"]),
    (42, f"web.{D}", "NS", "NOERROR", []),
    (50, f"web.{D}", "ANY", "NOERROR", []),
    (50, Z, "AXFR", "REFUSED", []),
]  # fmt: skip

OPTIONS = [
    # rule, lines of the directive, name, type, rcode, answers
    (16, "ignore empty_service", f"bare.{D}", "A", "NXDOMAIN", []),
    (16, "ignore empty_service", f"bare.{D}", "SRV", "NXDOMAIN", []),
    (16, "ignore empty_service", f"_http._tcp.dns.{D}", "SRV", "NXDOMAIN", []),
    (16, "ignore empty_service", f"web.{D}", "A", "NOERROR", ["A 127.96.0.20"]),
    (16, "ignore empty_service", f"alias.{D}", "A", "NOERROR", ["A 127.96.0.20", f"CNAME web.{D}"]),
    (19, "endpoint_pod_names", f"pod-1.named.{D}", "A", "NOERROR", ["A 127.244.4.1"]),
    (19, "endpoint_pod_names", f"127-244-4-1.named.{D}", "A", "NXDOMAIN", []),
    (19, "endpoint_pod_names", f"127-244-4-2.named.{D}", "A", "NOERROR", ["A 127.244.4.2"]),
    (19, "endpoint_pod_names", f"127-244-4-3.named.{D}", "A", "NOERROR", ["A 127.244.4.3"]),
    (19, "endpoint_pod_names", f"db-0.head.{D}", "A", "NOERROR", ["A 127.244.1.4"]),
    (33, "endpoint_pod_names", "1.4.244.127.in-addr.arpa.", "PTR", "NOERROR", [f"PTR pod-1.named.{D}"]),
    (17, "noendpoints", f"head.{D}", "A", "NXDOMAIN", []),
    (15, "noendpoints", f"127-244-1-2.web.{D}", "A", "NXDOMAIN", []),
    (33, "noendpoints", "2.1.244.127.in-addr.arpa.", "PTR", "NXDOMAIN", []),
    (8, "noendpoints", f"web.{D}", "A", "NOERROR", ["A 127.96.0.20"]),
    (31, "pods disabled", f"127-244-1-2.default.pod.{Z}", "A", "NXDOMAIN", []),
    (31, "pods disabled", f"default.pod.{Z}", "A", "NXDOMAIN", []),
    (31, "pods disabled", f"pod.{Z}", "A", "NOERROR", []),
    (31, "pods verified", f"127-244-1-2.default.pod.{Z}", "A", "NOERROR", ["A 127.244.1.2"]),
    (31, "pods verified", f"127-244-1-2.empty.pod.{Z}", "A", "NXDOMAIN", []),
    (31, "pods verified", f"127-244-1-3.default.pod.{Z}", "A", "NXDOMAIN", []),
    (36, "fallthrough in-addr.arpa", "9.9.9.9.in-addr.arpa.", "PTR", "SERVFAIL", []),
    (36, "fallthrough in-addr.arpa", "20.0.96.127.in-addr.arpa.", "A", "NOERROR", []),
    (36, "fallthrough in-addr.arpa", f"nope.{D}", "A", "NXDOMAIN", []),
    (36, "fallthrough", f"nope.{D}", "A", "SERVFAIL", []),
    (43, "namespaces empty", f"web.{D}", "A", "NXDOMAIN", []),
    (43, "namespaces empty", f"web.{D}", "TXT", "NXDOMAIN", []),
    (43, "namespaces empty", D, "A", "NXDOMAIN", []),
    (43, "namespaces empty", f"default.pod.{Z}", "A", "NXDOMAIN", []),
    (43, "namespaces empty", "20.0.96.127.in-addr.arpa.", "PTR", "NXDOMAIN", []),
    (43, "namespaces empty", "2.1.244.127.in-addr.arpa.", "PTR", "NXDOMAIN", []),
    (43, "namespaces empty default", f"web.{D}", "A", "NOERROR", ["A 127.96.0.20"]),
    (43, "namespace_labels team=blue", f"empty.svc.{Z}", "A", "NOERROR", []),
    (43, "namespace_labels team=blue", f"web.{D}", "A", "NXDOMAIN", []),
    (43, "labels app in (shop)", f"labelled.{D}", "A", "NOERROR", ["A 127.96.0.40"]),
    (43, "labels app in (shop)", f"web.{D}", "A", "NXDOMAIN", []),
    (43, "labels app in (shop)", "20.0.96.127.in-addr.arpa.", "PTR", "NXDOMAIN", []),
]


def soa_owner(name):
    return next(zone for zone in ("in-addr.arpa.", "ip6.arpa.", Z) if name.lower().endswith(zone))


async def check(server, name, qtype, rcode, answers):
    query = dns.message.make_query(name, "A", use_edns=0, payload=4096)
    query.question[0].rdtype = dns.rdatatype.from_text(qtype)
    reply = await server.ask(query)
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert (
        sorted(f"{dns.rdatatype.to_text(s.rdtype)} {r.to_text()}" for s in reply.answer for r in s) == answers
    )
    found = [item for item in answers if not item.startswith("CNAME")]
    if rcode == "NXDOMAIN" or (
        rcode == "NOERROR" and not found and qtype != "CNAME" and "org." not in str(answers)
    ):
        (soa,) = reply.authority  # 35, 37
        assert soa.rdtype == dns.rdatatype.SOA
        assert soa.name.to_text().lower() == soa_owner(name)
        assert reply.flags & dns.flags.AA


@pytest.mark.parametrize(
    ("name", "qtype", "rcode", "answers"),
    [pytest.param(*row, id=f"rule {number}: {row[0]} {row[1]}") for number, *row in RULES],
)
async def test_rule(served, name, qtype, rcode, answers):
    await check(served, name, qtype, rcode, answers)


@pytest.mark.parametrize(
    ("lines", "name", "qtype", "rcode", "answers"),
    [pytest.param(*row, id=f"rule {number}: {row[0]}: {row[1]} {row[2]}") for number, *row in OPTIONS],
)
async def test_rule_with_options(cluster, start, lines, name, qtype, rcode, answers):
    populate(cluster)
    cluster.namespace("empty", {"team": "blue"})
    cluster.service("labelled", labels={"app": "shop"}, clusterIP="127.96.0.40")
    cluster.pod("a", "127.244.1.2")
    cluster.index.set_pods_synced()
    await check(await start(COREFILE.replace("ttl 30", lines)), name, qtype, rcode, answers)


def test_every_rule_has_a_row():
    covered = {row[0] for row in (*RULES, *OPTIONS)}
    for path in Path(__file__).parent.glob("test_kubernetes*.py"):
        names = re.findall(r"^async def test_rule_(\d+)_", path.read_text(), re.MULTILINE)
        covered |= {int(number) for number in names}
    assert {*range(1, 44), 52, 60} - covered == set()
