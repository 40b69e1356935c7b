"""Cluster DNS as its clients meet it: dnspython over UDP and TCP, from the host and from a pod's address."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.error
import urllib.request

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.reversename
import pytest
from as_a_client import Space, endpoint_slice, pod, service

from emu.cli import main
from emu.core.objects import EndpointSlice, Pod, Service
from emu.testing import running_cluster

Z = "cluster.local."
NS = "names"
SVC = f"{NS}.svc.{Z}"


@pytest.fixture(scope="module")
def cluster():
    with running_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def space(cluster):
    space = Space(cluster, NS)
    ports = [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "dns", "port": 53, "targetPort": 8081, "protocol": "UDP"},
    ]
    named = pod("member", labels={"app": "db"})
    named["spec"] |= {"hostname": "db-0", "subdomain": "db"}
    tuned = pod("tuned")
    tuned["spec"]["dnsConfig"] = {"searches": ["kube-system.svc.cluster.local"]}
    hand = [{"addresses": [f"127.220.7.{number}"]} for number in range(1, 61)]
    space.apply(
        pod("one", labels={"app": "web"}),
        pod("two", labels={"app": "web"}),
        named,
        tuned,
        service("web", "web", ports=ports),
        service("empty", "nobody"),
        service("pods", "web", clusterIP="None", ports=ports),
        service("db", "db", clusterIP="None", ports=[{"name": "sql", "port": 5432, "targetPort": 8080}]),
        service("nobody", "nobody", clusterIP="None"),
        service("noports", "web", clusterIP="None", ports=[]),
        service("alias", type="ExternalName", externalName=f"web.{SVC}", ports=[]),
        service("chain", type="ExternalName", externalName=f"alias.{SVC}", ports=[]),
        service("dangling", type="ExternalName", externalName=f"missing.{SVC}", ports=[]),
        service("loop", type="ExternalName", externalName=f"loop.{SVC}", ports=[]),
        service("number", type="ExternalName", externalName="10.1.2.3", ports=[]),
        service("many", clusterIP="None", ports=[{"name": "p", "port": 80}]),
        endpoint_slice("many-1", "many", [{"name": "p", "port": 80}], hand),
    )
    space.cluster.until(lambda: len(addresses(space, f"many.{SVC}", tcp=True)) == 60, what="all are known")
    space.cluster.until(lambda: len(addresses(space, f"pods.{SVC}")) == 2, what="all are known")
    space.cluster.until(lambda: len(addresses(space, f"db.{SVC}")) == 1, what="all are known")
    return space


def query(space, name, rdtype="A", *, at="", source="127.0.0.1", tcp=False, seconds=3.0, **options):
    """The reply to a question, asked of the cluster's DNS at 127.0.0.1 where no other address is given."""
    config = space.cluster.settings.config
    where, port = (at, 53) if at else ("127.0.0.1", config.fixed_ports.dns)
    message = (
        name if isinstance(name, dns.message.Message) else dns.message.make_query(name, rdtype, **options)
    )
    send = dns.query.tcp if tcp else dns.query.udp
    return send(message, where, timeout=seconds, port=port, source=source)


def addresses(space, name, rdtype="A", **options) -> set[str]:
    reply = query(space, name, rdtype, **options)
    return {
        item.address
        for rrset in reply.answer
        for item in rrset
        if rrset.rdtype == dns.rdatatype.from_text(rdtype)
    }


def texts(rrsets) -> list[str]:
    return sorted(f"{rrset.name} {item}" for rrset in rrsets for item in rrset)


def is_negative(reply, rcode=dns.rcode.NOERROR, zone=Z) -> bool:
    """NODATA or NXDOMAIN as RFC 2308 wants it: no answer, AA, and one SOA of the zone."""
    (soa,) = reply.authority
    return (
        reply.rcode() == rcode
        and not reply.answer
        and bool(reply.flags & dns.flags.AA)
        and soa.rdtype == dns.rdatatype.SOA
        and soa.name == dns.name.from_text(zone)
    )


# --- existence ---


@pytest.mark.parametrize("name", ["", "svc.", "pod.", f"{NS}.svc.", f"{NS}.pod.", "default.svc."])
@pytest.mark.parametrize("rdtype", ["A", "AAAA", "TXT", "SRV"])
def test_1_38_what_exists_without_records_is_nodata(space, name, rdtype):
    assert is_negative(query(space, name + Z, rdtype))


@pytest.mark.parametrize(
    "name",
    [
        "foo.",
        "missing.svc.",
        f"svc.{NS}.",
        f"missing.{NS}.svc.",
        f"a.b.c.web.{NS}.svc.",
        f"web\\.pods.{NS}.svc.",
        f"*.{NS}.svc.",
        f"any.{NS}.svc.",
        f"*.web.{NS}.svc.",
        f"_http._udp.web.{NS}.svc.",
        f"_none._tcp.web.{NS}.svc.",
        f"http.tcp.web.{NS}.svc.",
        f"nobody.{NS}.svc.",
        f"number.{NS}.svc.",
        f"below.alias.{NS}.svc.",
        "10-0-0-1.missing.pod.",
        f"not-an-address.{NS}.pod.",
        f"_http._tcp.10-0-0-1.pods.{NS}.svc.",
    ],
)
def test_1_to_7_and_others_what_does_not_exist_is_nxdomain_for_every_type(space, name):
    for rdtype in ("A", "AAAA", "SRV", "TXT"):
        assert is_negative(query(space, name + Z, rdtype), dns.rcode.NXDOMAIN), rdtype


def test_3_case_is_ignored_and_the_spelling_of_the_question_kept(space):
    asked = f"WeB.{NS.upper()}.SvC.ClusteR.LocaL."
    reply = query(space, asked)
    assert str(reply.question[0].name) == asked
    assert str(reply.answer[0].name) == asked
    reply = query(space, f"_HTTP._tcp.web.{NS}.svc.ClusteR.LocaL.", "SRV")
    assert str(reply.answer[0][0].target) == f"web.{NS}.svc.ClusteR.LocaL."


# --- ClusterIP ---


def test_8_9_a_cluster_ip_with_and_without_endpoints(space):
    for name in ("web", "empty"):
        assert addresses(space, f"{name}.{SVC}") == {space.vip(name)}
        assert is_negative(query(space, f"{name}.{SVC}", "AAAA"))
        assert is_negative(query(space, f"{name}.{SVC}", "MX"))


def test_11_srv_of_a_port_has_the_services_port_and_glue(space):
    for label, port in (("_http._tcp", 80), ("_dns._udp", 53)):
        reply = query(space, f"{label}.web.{SVC}", "SRV")
        assert texts(reply.answer) == [f"{label}.web.{SVC} 0 100 {port} web.{SVC}"]
        assert texts(reply.additional) == [f"web.{SVC} {space.vip('web')}"]
        assert reply.flags & dns.flags.AA


def test_12_14_srv_of_the_service_lists_every_port(space):
    reply = query(space, f"web.{SVC}", "SRV")
    assert texts(reply.answer) == [f"web.{SVC} 0 50 53 web.{SVC}", f"web.{SVC} 0 50 80 web.{SVC}"]
    reply = query(space, f"kube-dns.kube-system.svc.{Z}", "SRV")
    assert sorted(item.weight for item in reply.answer[0]) == [33, 33]


def test_15_endpoint_names_below_a_cluster_ip(space):
    ip = space.ip("one")
    assert addresses(space, f"{ip.replace('.', '-')}.web.{SVC}") == {ip}


# --- headless ---


def test_17_headless_has_every_ready_endpoint(space):
    expected = {space.ip("one"), space.ip("two")}
    assert addresses(space, f"pods.{SVC}") == expected
    assert addresses(space, f"noports.{SVC}") == expected
    assert is_negative(query(space, f"pods.{SVC}", "AAAA"))


def test_19_21_a_hostname_is_the_endpoints_name(space):
    ip = space.ip("member")
    assert addresses(space, f"db-0.db.{SVC}") == {ip}
    assert is_negative(query(space, f"{ip.replace('.', '-')}.db.{SVC}"), dns.rcode.NXDOMAIN)
    reply = query(space, f"_sql._tcp.db.{SVC}", "SRV")
    assert texts(reply.answer) == [f"_sql._tcp.db.{SVC} 0 100 8080 db-0.db.{SVC}"]
    assert texts(reply.additional) == [f"db-0.db.{SVC} {ip}"]


def test_21_srv_names_each_endpoint_by_its_dashed_address(space):
    reply = query(space, f"_http._tcp.pods.{SVC}", "SRV")
    expected = {f"{space.ip(name).replace('.', '-')}.pods.{SVC}" for name in ("one", "two")}
    assert {str(item.target) for item in reply.answer[0]} == expected
    assert {(item.port, item.weight) for item in reply.answer[0]} == {(8080, 50)}
    assert {item.address for rrset in reply.additional for item in rrset} == {
        space.ip("one"),
        space.ip("two"),
    }


def test_22_a_service_without_ports(space):
    assert is_negative(query(space, f"noports.{SVC}", "SRV"))
    assert is_negative(query(space, f"_x._y.noports.{SVC}", "SRV"), dns.rcode.NXDOMAIN)


# --- ExternalName ---


@pytest.mark.parametrize(("name", "links"), [("alias", ["alias"]), ("chain", ["chain", "alias"])])
def test_24_an_alias_comes_first_and_is_completed(space, name, links):
    reply = query(space, f"{name}.{SVC}")
    assert [str(rrset.name) for rrset in reply.answer] == [*(f"{link}.{SVC}" for link in links), f"web.{SVC}"]
    assert [rrset.rdtype for rrset in reply.answer][:-1] == [dns.rdatatype.CNAME] * len(links)
    assert reply.answer[-1][0].address == space.vip("web")
    assert texts(query(space, f"{name}.{SVC}", "CNAME").answer)[0].startswith(f"{name}.{SVC}")


def test_25_26_aliases_that_lead_nowhere(space):
    assert query(space, f"loop.{SVC}").rcode() == dns.rcode.NOERROR
    reply = query(space, f"dangling.{SVC}")
    assert [rrset.rdtype for rrset in reply.answer] == [dns.rdatatype.CNAME]


# --- pods, reverse ---


def test_31_pods_insecure_answers_any_dashed_address(space):
    assert addresses(space, f"10-1-2-3.{NS}.pod.{Z}") == {"10.1.2.3"}
    assert addresses(space, f"2001-db8--1.{NS}.pod.{Z}", "AAAA") == {"2001:db8::1"}


def test_33_ptr_of_services_and_endpoints(space):
    def names(address: str) -> set[str]:
        reply = query(space, dns.reversename.from_address(address), "PTR")
        return {str(item.target) for rrset in reply.answer for item in rrset}

    assert names(space.vip("web")) == {f"web.{SVC}"}
    dashed = space.ip("one").replace(".", "-")
    assert names(space.ip("one")) == {f"{dashed}.{name}.{SVC}" for name in ("web", "pods", "noports")}
    assert names(space.ip("member")) == {f"db-0.db.{SVC}"}


# --- apex ---


def test_41_42_apex_and_version(space):
    assert texts(query(space, f"dns-version.{Z}", "TXT").answer) == [f'dns-version.{Z} "1.1.0"']
    (soa,) = query(space, Z, "SOA").answer
    assert str(soa[0].mname) == f"ns.dns.{Z}"
    reply = query(space, Z, "NS")
    kube_dns = space.cluster.settings.config.ranges.dns_service
    assert texts(reply.answer) == [f"{Z} kube-dns.kube-system.svc.{Z}"]
    assert texts(reply.additional) == [f"kube-dns.kube-system.svc.{Z} {kube_dns}"]


def test_52_37_ttl_is_that_of_the_corefile(space):
    assert query(space, f"web.{SVC}").answer[0].ttl == 30
    (soa,) = query(space, f"missing.{SVC}").authority
    assert (soa.ttl, soa[0].minimum) == (30, 30)


# --- header, EDNS, size, transport ---


def test_44_header(space):
    message = dns.message.make_query(f"web.{SVC}", "A", flags=dns.flags.RD | dns.flags.AD | dns.flags.CD)
    flags = query(space, message).flags
    assert flags & dns.flags.AA
    assert flags & dns.flags.RD
    assert flags & dns.flags.CD
    assert not flags & (dns.flags.RA | dns.flags.AD | dns.flags.TC)


def test_45_edns_in_the_reply_if_and_only_if_in_the_request(space):
    assert query(space, f"web.{SVC}").edns == -1
    assert query(space, f"web.{SVC}", use_edns=0, payload=1232).edns == 0
    message = dns.message.make_query(f"web.{SVC}", "A", use_edns=1)
    assert query(space, message).rcode() == dns.rcode.BADVERS


def test_46_truncation_and_tcp(space):
    assert query(space, f"many.{SVC}").flags & dns.flags.TC
    whole = query(space, f"many.{SVC}", use_edns=0, payload=1232)
    assert not whole.flags & dns.flags.TC
    assert len(whole.answer[0]) == 60
    assert len(query(space, f"many.{SVC}", tcp=True).answer[0]) == 60
    assert len(query(space, f"_p._tcp.many.{SVC}", "SRV", tcp=True).additional) == 60


def test_46_several_queries_on_one_tcp_connection(space):
    port = space.cluster.settings.config.fixed_ports.dns
    with socket.create_connection(("127.0.0.1", port), 3) as sock:
        sock.settimeout(3)
        for name in ("web", "empty"):
            dns.query.send_tcp(sock, dns.message.make_query(f"{name}.{SVC}", "A"))
        found = set()
        for _ in range(2):
            reply, _ = dns.query.receive_tcp(sock)
            found.add(reply.answer[0][0].address)
    assert found == {space.vip("web"), space.vip("empty")}


@pytest.mark.parametrize(
    ("packet", "rcode"),
    [
        (b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www", dns.rcode.FORMERR),
        (b"\x12\x34\x10\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01", dns.rcode.NOTIMP),
        (b"\x12\x34\x01\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01", dns.rcode.FORMERR),
        (b"\x12\x34\x81\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01", None),
        (b"\x12\x34\x01", None),
    ],
    ids=["cut", "opcode STATUS", "two questions", "a reply", "short"],
)
def test_48_broken_packets(space, packet, rcode):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(3 if rcode is not None else 0.3)
        sock.sendto(packet, ("127.0.0.1", space.cluster.settings.config.fixed_ports.dns))
        if rcode is None:
            with pytest.raises(TimeoutError):
                sock.recv(600)
        else:
            reply = sock.recv(600)
            assert reply[:2] == packet[:2]
            assert reply[3] & 15 == rcode


def test_50_zone_transfers_are_refused(space):
    for tcp in (False, True):
        assert query(space, Z, "AXFR" if tcp else "IXFR", tcp=tcp).rcode() == dns.rcode.REFUSED


# --- addresses that answer, and freshness ---


def test_the_dns_service_answers_a_pod_from_its_own_address(space):
    server = space.cluster.settings.config.ranges.dns_service
    if not space.cluster.plane.can_bind(space.ip("one").rpartition(".")[0] + ".250", 53):
        pytest.skip("ports below 1024 may not be bound: DNS answers at 1053")
    pods = space.cluster.objects(Pod, "kube-system", labels="k8s-app=kube-dns")
    for at in (server, *(item.ip for item in pods)):
        for tcp in (False, True):
            assert addresses(space, f"web.{SVC}", at=at, source=space.ip("one"), tcp=tcp) == {
                space.vip("web")
            }


def test_dig_from_a_pods_address(space, dig):
    server = space.cluster.settings.config.ranges.dns_service
    if not space.cluster.plane.can_bind(space.ip("one").rpartition(".")[0] + ".250", 53):
        pytest.skip("ports below 1024 may not be bound: DNS answers at 1053")
    done = subprocess.run(
        [dig, f"@{server}", "-b", space.ip("one"), "+search", "+short", "+domain=" + SVC, "web"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.split() == [space.vip("web")]


def test_53_addresses_come_in_random_order(space):
    first = {query(space, f"pods.{SVC}").answer[0][0].address for _ in range(40)}
    assert first == {space.ip("one"), space.ip("two")}


def test_43_without_the_api_server_the_last_answers_go_on_and_nothing_is_denied_before_the_first(space):
    cluster = space.cluster
    vip = space.vip("web")
    cluster.kill("apiserver", hold=True)
    try:
        assert addresses(space, f"web.{SVC}") == {vip}
        assert query(space, f"missing.{SVC}").rcode() == dns.rcode.NXDOMAIN
        cluster.kill("coredns")
        cluster.until(lambda: rcode(space, f"web.{SVC}") == dns.rcode.SERVFAIL, what="DNS is back")
        assert rcode(space, f"missing.{SVC}") == dns.rcode.SERVFAIL
    finally:
        cluster.start("apiserver")
    cluster.until(lambda: addresses(space, f"web.{SVC}") == {vip}, what="the objects are in")
    cluster.until(lambda: rcode(space, f"missing.{SVC}") == dns.rcode.NXDOMAIN, what="the objects are in")


def rcode(space, name) -> dns.rcode.Rcode | None:
    """The rcode for a name, None while nobody answers."""
    try:
        return query(space, name, seconds=0.2).rcode()
    except (dns.exception.Timeout, ConnectionError):
        return None


def test_54_answers_are_never_staler_than_the_api(space):
    """No negative or positive caching of the cluster's own zone: a few milliseconds after each change."""
    name = f"fresh.{SVC}"
    assert query(space, name).rcode() == dns.rcode.NXDOMAIN
    space.apply(service("fresh", "web"))
    until_fast(lambda: addresses(space, name) == {space.vip("fresh")})
    space.delete(Service, "fresh")
    until_fast(lambda: query(space, name).rcode() == dns.rcode.NXDOMAIN)
    space.apply(service("fresh", clusterIP="None", ports=[]))
    for ready, expected in ((True, {"127.220.8.1"}), (False, set()), (None, {"127.220.8.1"})):
        endpoint = {"addresses": ["127.220.8.1"], "conditions": {"ready": ready} if ready is not None else {}}
        space.delete(EndpointSlice, "fresh-1")
        space.apply(endpoint_slice("fresh-1", "fresh", [], [endpoint]))
        until_fast(lambda expected=expected: addresses(space, name) == expected)
    space.patch(Service, "fresh", {"metadata": {"labels": {"a": "b"}}})
    assert addresses(space, name) == {"127.220.8.1"}


def until_fast(condition) -> None:
    deadline = time.monotonic() + 1.0
    while not condition():
        assert time.monotonic() < deadline, "still stale after 1 s"


# --- explained and counted ---


def test_emu_dns_explain_tells_what_a_pods_query_meets(space, capsys):
    where = ["--from", f"{NS}/one", "--state-dir", str(space.cluster.settings.state.root)]
    assert main(["dns", "explain", "web", *where]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{NS}/one ({space.ip('one')}), dnsPolicy ClusterFirst:\n")
    assert f"  search {NS}.svc.cluster.local svc.cluster.local cluster.local\n" in said
    assert f"1. web.{SVC} A: NOERROR\n   the Service {NS}/web has the ClusterIP {space.vip('web')}\n" in said
    assert main(["dns", "explain", "nobody", *where]) == 0
    assert f"the headless Service {NS}/nobody has no ready endpoint" in capsys.readouterr().out
    assert main(["dns", "explain", "web", "--from", f"{NS}/none", *where[2:]]) == 2
    assert capsys.readouterr().err == f'emu: there is no pod "none" in namespace "{NS}"\n'


def test_search_queries_in_vain_are_counted_by_pod(space):
    (dns_pod, *_) = space.cluster.objects(Pod, "kube-system", labels="k8s-app=kube-dns")
    series = f'emu_dns_search_queries_wasted_total{{namespace="{NS}",pod="two"}}'
    for name in (f"www.example.org.{SVC}", f"www.example.org.svc.{Z}", f"web.{SVC}"):
        query(space, name, source=space.ip("two"))

    def counted() -> bool:
        with urllib.request.urlopen(f"http://{dns_pod.ip}:9153/metrics", timeout=3) as page:
            return f"{series} 2.0\n" in page.read().decode()

    space.cluster.until(counted, what="the queries are counted")


@pytest.mark.parametrize(("name", "code"), [("tuned", 200), ("one", 400)])
def test_a_pod_walks_the_search_path_of_its_own_dns_config(space, name, code):
    url = f"http://{space.ip(name)}:8080/dial?request=x&protocol=http&host=kube-dns&port=9153"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    assert status == code
