"""`emu dns explain`: why a name is what it is, the walk over a search path, and the socket that tells it."""

import asyncio

import msgspec
import pytest

from emu.core.names import search_path
from emu.coredns import codec
from emu.coredns.clients import ClientPod
from emu.coredns.corefile import DEFAULT_PORT
from emu.coredns.explain import Inquiry, InquiryError, report, type_number, walk
from emu.coredns.inquiries import explained, serve_inquiries
from emu.coredns.plugins.kubernetes.explain import why
from emu.coredns.plugins.kubernetes.options import Options

from .test_kubernetes import COREFILE, D, Z, populate

ZONE = codec.to_wire(Z)
SEARCH = search_path("default", "cluster.local")


def reason(cluster, name, qtype="A", zone=ZONE, **options):
    found = Options(**{"pods": "insecure", **options})
    return why(cluster.index, found, codec.to_wire(name).lower(), zone, type_number(qtype))


REASONS = [
    (Z, "A", "cluster.local. is the zone itself, which has SOA and NS records"),
    (f"www.example.com.{Z}", "A", 'below cluster.local. there are only svc and pod, not "com"'),
    (f"web.other.svc.{Z}", "A", 'there is no namespace "other"'),
    (f"default.svc.{Z}", "A", 'the namespace "default" exists and has no records itself'),
    (f"nope.{D}", "A", 'there is no Service "nope" in namespace "default"'),
    (
        f"web.empty.svc.{Z}",
        "A",
        'there is no Service "web" in namespace "empty"; there is one in default',
    ),
    (f"web.{D}", "A", "the Service default/web has the ClusterIP 127.96.0.20"),
    (
        f"web.{D}",
        "AAAA",
        "the Service default/web has no IPv6 address, only the ClusterIP 127.96.0.20",
    ),
    (f"dual.{D}", "AAAA", "the Service default/dual has the ClusterIP 127.96.0.21, fd00::21"),
    (f"web.{D}", "MX", "the Service default/web exists, and has no MX records"),
    (f"web.{D}", "SRV", "the Service default/web has the ports http (80/TCP)"),
    (f"bare.{D}", "SRV", "the Service default/bare has the ports unnamed (80/TCP)"),
    (
        f"_https._tcp.web.{D}",
        "SRV",
        'the Service default/web has no port "_https._tcp"; it has http (80/TCP)',
    ),
    (
        f"_http._tcp.bare.{D}",
        "SRV",
        'the Service default/bare has no port "_http._tcp"; it has none named',
    ),
    (
        f"_http._tcp.web.{D}",
        "A",
        "the Service default/web has the port _http._tcp, which has SRV records only",
    ),
    (f"_udp.web.{D}", "SRV", 'the Service default/web has no named port of "_udp"'),
    (
        f"head.{D}",
        "A",
        "the headless Service default/head has the ready endpoints 127.244.1.3, 127.244.1.4, 127.244.1.6",
    ),
    (f"head.{D}", "AAAA", "the headless Service default/head has no IPv6 address, only the ready"),
    (f"unready.{D}", "A", "the headless Service default/unready has no ready endpoint"),
    (f"db-0.head.{D}", "A", "the headless Service default/head has this ready endpoint at 127.244.1.4"),
    (
        f"db-1.head.{D}",
        "A",
        'the headless Service default/head has no ready endpoint named "db-1"; ready are 127-244-1-3, ',
    ),
    (
        f"a.b.c.head.{D}",
        "A",
        "the headless Service default/head is there, but nothing is so far below it",
    ),
    (f"outside.{D}", "A", "the Service default/outside is an ExternalName for example.org"),
    (
        f"x.outside.{D}",
        "A",
        "the Service default/outside is an ExternalName for example.org, and nothing",
    ),
    (
        f"address.{D}",
        "A",
        "the Service default/address is an ExternalName for 1.2.3.4, which is an address",
    ),
    (f"10-1-2-3.default.pod.{Z}", "A", "the name of a pod at 10.1.2.3; by `pods insecure` nobody checks"),
    (f"ten.default.pod.{Z}", "A", '"ten" is no address with dashes'),
    (f"10-1-2-3.nope.pod.{Z}", "A", 'there is no namespace "nope"'),
]


@pytest.mark.parametrize(("name", "qtype", "expected"), REASONS)
def test_reasons(cluster, name, qtype, expected):
    populate(cluster)
    assert reason(cluster, name, qtype).text.startswith(expected)


@pytest.mark.parametrize(
    ("options", "name", "expected"),
    [
        ({"pods": "disabled"}, f"10-1-2-3.default.pod.{Z}", "the Corefile's `pods disabled` means"),
        ({"pods": "verified"}, f"10-1-2-3.default.pod.{Z}", 'no pod in namespace "default" has the address'),
        (
            {"namespaces": frozenset({b"empty"})},
            f"web.{D}",
            "the Corefile's `namespaces` hides the namespace",
        ),
        (
            {"labels": lambda labels: "shown" in labels},
            f"web.{D}",
            "the Corefile's `labels` hides the Service",
        ),
        (
            {"endpoints": False},
            f"head.{D}",
            "the Corefile's `noendpoints` hides the endpoints of the headless",
        ),
        (
            {"ignore_empty_service": True},
            f"bare.{D}",
            "the Service default/bare has no ready endpoint, and the Corefile says `ignore empty_service`",
        ),
    ],
)
def test_reasons_that_are_options_of_the_corefile(cluster, options, name, expected):
    populate(cluster)
    found = reason(cluster, name, **options)
    assert not found.exists
    assert found.text.startswith(expected)


def test_a_verified_pod(cluster):
    populate(cluster)
    cluster.pod("one", "10.1.2.3")
    found = reason(cluster, f"10-1-2-3.default.pod.{Z}", pods="verified")
    assert found == (True, 'a pod in namespace "default" has the address 10.1.2.3')


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("20.0.96.127.in-addr.arpa", (True, "127.96.0.20 is the ClusterIP of the Service default/web")),
        ("4.1.244.127.in-addr.arpa", (True, "127.244.1.4 is a ready endpoint of default/head")),
        ("9.9.9.9.in-addr.arpa", (False, "no Service and no ready endpoint of one has the address 9.9.9.9")),
        ("9.9.in-addr.arpa", (False, "this is no reverse name of a whole address")),
        ("in-addr.arpa", (True, "the reverse zone itself")),
    ],
)
def test_reasons_of_reverse_names(cluster, name, expected):
    populate(cluster)
    assert reason(cluster, name, "PTR", codec.to_wire("in-addr.arpa")) == expected


@pytest.mark.parametrize(("name", "qtype", "_expected"), REASONS)
async def test_the_reason_agrees_with_the_answer(cluster, start, name, qtype, _expected):
    populate(cluster)
    cluster.service("outside", type="ExternalName", externalName=f"web.{D}")
    server = (await start(COREFILE)).server
    chains = server.configuration.chains[DEFAULT_PORT]
    (step,) = await walk(Inquiry(name, qtype), server.responder(DEFAULT_PORT), chains)
    rcode = codec.NOERROR if reason(cluster, name, qtype).exists else codec.NXDOMAIN
    assert step.reply.rcode == rcode


@pytest.fixture
async def explains(cluster, start):
    populate(cluster)
    running = await start(COREFILE)

    async def explain(name, qtype="A", **more):
        inquiry = Inquiry(name, qtype, **{"search": SEARCH, **more})
        server = running.server
        chains = server.configuration.chains[DEFAULT_PORT]
        return report(inquiry, await walk(inquiry, server.responder(DEFAULT_PORT), chains))

    return explain


async def test_a_name_that_is_found_at_once(explains):
    assert await explains("web") == (
        "1. web.default.svc.cluster.local. A: NOERROR\n"
        "   the Service default/web has the ClusterIP 127.96.0.20\n"
        "   web.default.svc.cluster.local. 30 IN A 127.96.0.20\n"
        "\n"
        "web is found as web.default.svc.cluster.local.: 1 query, none wasted.\n"
    )


async def test_a_name_outside_is_searched_for_in_the_cluster_first(explains):
    text = await explains("www.example.com")
    steps = [line for line in text.splitlines() if line[:1].isdigit()]
    assert steps == [
        "1. www.example.com.default.svc.cluster.local. A: NXDOMAIN",
        "2. www.example.com.svc.cluster.local. A: NXDOMAIN",
        "3. www.example.com.cluster.local. A: NXDOMAIN",
        "4. www.example.com. A: SERVFAIL",
    ]
    assert "no next plugin found" in text
    assert "www.example.com has no A record: 4 queries, in vain." in text


async def test_a_full_name_without_the_final_dot_costs_three_more(explains):
    name = "web.default.svc.cluster.local"
    text = await explains(name)
    assert text.endswith(
        f"{name} is found as {name}.: 4 queries, 3 of them wasted.\n"
        "Clients that ask for both A and AAAA send twice as many.\n"
        f"With a final dot ({name}.), or ndots:4 in the pod's dnsConfig, it takes one.\n"
    )
    assert (await explains(f"{name}.")).endswith(f"{name}. is found as {name}.: 1 query, none wasted.\n")
    assert (await explains(name, ndots=4)).startswith(f"1. {name}. A: NOERROR")


async def test_musl_stops_where_the_type_is_absent(explains):
    first, second, *_ = (await explains("web", "AAAA")).split("\n\n")
    assert first.splitlines() == [
        "1. web.default.svc.cluster.local. AAAA: NODATA (NOERROR without such a record)",
        "   the Service default/web has no IPv6 address, only the ClusterIP 127.96.0.20",
        "   musl stops here and has no answer; glibc goes on",
    ]
    assert second.startswith('2. web.svc.cluster.local. AAAA: NXDOMAIN\n   there is no namespace "web"')


async def test_musl_does_not_search_for_a_name_with_many_dots(explains):
    assert "musl asks for the first name only." in await explains("a.b.c.d.e.f")


async def test_an_alias_that_leads_nowhere_says_where_to(explains):
    assert (await explains("dangling")).split("\n\n")[0].splitlines() == [
        "1. dangling.default.svc.cluster.local. A: NXDOMAIN",
        f"   the Service default/dangling is an ExternalName for nope.{D}",
        f'   nope.{D}: there is no Service "nope" in namespace "default"',
        f"   dangling.{D} 30 IN CNAME nope.{D}",
    ]


async def test_other_zones_are_forwarded_and_reverse_ones_fall_through(cluster, start):
    populate(cluster)
    server = (await start()).server
    line = msgspec.json.encode({"name": "example.org.", "type": "a"})
    assert "outside the cluster: forwarded to 127.201.0.1:9" in (await explained(line, server))["text"]
    line = msgspec.json.encode({"name": "9.9.9.9.in-addr.arpa.", "type": "PTR"})
    text = (await explained(line, server))["text"]
    assert "has the address 9.9.9.9, so the query falls through to the next plugin\n" in text
    assert "outside the cluster: forwarded to 127.201.0.1:9" in text


async def test_what_a_plugin_asks_under_another_name_is_told(cluster, start):
    populate(cluster)
    corefile = COREFILE.replace(
        "kubernetes", "rewrite name old.example web.default.svc.cluster.local\nkubernetes", 1
    )
    server = (await start(corefile)).server
    text = (await explained(msgspec.json.encode({"name": "old.example."}), server))["text"]
    assert text.splitlines()[:3] == [
        "1. old.example. A: NOERROR",
        f"   the plugin rewrite asks for web.{D} A: the Service default/web has the ClusterIP 127.96.0.20",
        "   old.example. 30 IN A 127.96.0.20",
    ]


async def test_autopath_walks_the_rest_of_the_search_path(cluster, start):
    populate(cluster)
    corefile = ". {\nautopath @kubernetes\nkubernetes cluster.local {\npods verified\n}\n}"
    server = (await start(corefile)).server
    document = {
        "metadata": {"name": "client", "namespace": "default"},
        "status": {"phase": "Running", "podIPs": [{"ip": "127.244.1.9"}]},
    }
    server.facts.clients.set_pod("", None, msgspec.convert(document, ClientPod))
    inquiry = {"name": "web.default", "client": "127.244.1.9", "search": SEARCH}
    text = (await explained(msgspec.json.encode(inquiry), server))["text"]
    assert text.splitlines()[:3] == [
        f"1. web.default.{D} A: NOERROR",
        '   there is no Service "default" in namespace "default"',
        f"   the plugin autopath asks for web.{D} A: the Service default/web has the ClusterIP 127.96.0.20",
    ]
    assert text.endswith("1 query, none wasted.\n")


async def test_a_name_that_no_server_block_is_for(start):
    server = (await start("cluster.local {\nkubernetes\n}")).server
    text = (await explained(msgspec.json.encode({"name": "example.org."}), server))["text"]
    assert text.startswith("1. example.org. A: REFUSED\n   no plugin answers for it\n")


async def test_explaining_counts_no_queries(cluster, start):
    populate(cluster)
    server = (await start(COREFILE.replace("kubernetes", "prometheus\nkubernetes", 1))).server
    await explained(msgspec.json.encode({"name": f"web.{D}"}), server)
    assert b"coredns_dns_requests_total{" not in server.facts.metrics.serve()[2]


@pytest.mark.parametrize(
    ("inquiry", "error"),
    [
        ({"name": "web", "type": "B"}, '"B" is not a type of records to ask for, such as A, AAAA or SRV'),
        ({"name": "web", "type": "AXFR"}, '"AXFR" is not a type of records to ask for'),
        ({"name": ""}, "a name is needed"),
        ({"name": "a..b."}, '"a..b." cannot be asked for: a name has an empty label, or is too long'),
        ({"name": "x" * 64}, "cannot be asked for: a name has an empty label, or is too long"),
        ({"name": "web", "ndot": 1}, "unknown field `ndot`"),
    ],
)
async def test_what_cannot_be_asked(start, inquiry, error):
    answer = await explained(msgspec.json.encode(inquiry), (await start()).server)
    assert error in answer["error"]


def test_types_by_number():
    assert type_number("TYPE65280") == 65280
    with pytest.raises(InquiryError):
        type_number("TYPE65536")


async def test_the_socket_is_its_owners_and_takes_what_is_left_of_a_former_one(cluster, start, tmp_path):
    populate(cluster)
    path = tmp_path / "coredns.sock"
    path.touch()
    async with await serve_inquiries(path, (await start()).server):
        assert path.stat().st_mode & 0o077 == 0
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(msgspec.json.encode({"name": f"web.{D}"}) + b"\n")
        assert "127.96.0.20" in msgspec.json.decode(await reader.readline())["text"]
        writer.close()
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"nonsense\n")
        assert "error" in msgspec.json.decode(await reader.readline())
        writer.close()
