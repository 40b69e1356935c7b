"""autopath (rule 56): the walk on the server, and that no client gets what is another's. Over the wire."""

import dns.flags
import dns.message
import dns.rcode
import pytest

from emu.coredns.corefile import CorefileError
from emu.coredns.environment import Facts
from emu.coredns.index import Index
from emu.coredns.metrics import Metrics
from emu.coredns.server import configure

from .test_clients import pod
from .test_kubernetes import D, Z, populate

COREFILE = """
. {
    prometheus
    cache
    autopath @kubernetes
    kubernetes cluster.local {
        pods verified
    }
    hosts /nonexistent org {
        10.0.0.1 example.org
        fallthrough
    }
    template ANY ANY {
        rcode NXDOMAIN
        authority ". 60 IN SOA ns. hostmaster. 1 60 60 60 60"
        match ^nope[.]org[.]$
        fallthrough
    }
}
"""
POD, OTHER = "127.201.252.1", "127.201.252.2"


@pytest.fixture
async def served(start, cluster):
    populate(cluster)
    cluster.namespace("shop")
    server = await start(COREFILE)
    item = pod("client", POD, "shop")
    server.server.facts.clients.set_pod(item.key, None, item)
    return server


async def ask(server, name, source, qtype="A"):
    return await server.ask(name, qtype, source=source)


def shape(reply):
    return reply.rcode(), [rrset.to_text() for rrset in reply.answer]


async def test_rule_56_the_path_is_walked_for_the_pod_and_nobody_else(served):
    asked = f"example.org.shop.svc.{Z}"
    found = (
        dns.rcode.NOERROR,
        [f"{asked} 3600 IN CNAME example.org.", "example.org. 3600 IN A 10.0.0.1"],
    )
    for _ in range(2):  # made and kept, in either order
        assert shape(await ask(served, asked, OTHER)) == (dns.rcode.NXDOMAIN, [])
        assert shape(await ask(served, asked, POD)) == found
    assert (await ask(served, asked, OTHER)).authority[0].name.to_text() == Z
    _, _, page = served.server.facts.metrics.serve()
    assert b'coredns_autopath_success_total{server="dns://:53"} 2.0' in page


async def test_rule_56_earlier_names_of_the_path_come_first(served, cluster):
    reply = await ask(served, f"web.default.shop.svc.{Z}", POD)
    assert shape(reply)[1] == [
        f"web.default.shop.svc.{Z} 5 IN CNAME web.{D}",
        f"web.{D} 5 IN A 127.96.0.20",
    ]
    cluster.service("own", namespace="shop", clusterIP="127.96.0.55")
    reply = await ask(served, f"own.shop.svc.{Z}", POD)
    assert shape(reply)[1] == [f"own.shop.svc.{Z} 5 IN A 127.96.0.55"]
    reply = await ask(served, f"own.shop.svc.{Z}", POD, "AAAA")
    assert (shape(reply), len(reply.authority)) == ((dns.rcode.NOERROR, []), 1)


async def test_rule_56_other_names_and_other_paths_are_left_alone(served):
    for name in (f"example.org.default.svc.{Z}", f"example.org.svc.{Z}", f"example.org.{Z}", f"shop.svc.{Z}"):
        assert not (await ask(served, name, POD)).answer


async def test_rule_56_all_missing_is_the_first_reply(served):
    reply = await ask(served, f"nope.org.shop.svc.{Z}", POD)
    assert shape(reply) == (dns.rcode.NXDOMAIN, [])
    assert reply.authority[0].name.to_text() == Z


async def test_rule_56_an_address_that_changes_hands_changes_the_path(served):
    asked = f"example.org.shop.svc.{Z}"
    assert (await ask(served, asked, POD)).answer
    old = pod("client", POD, "shop")
    served.server.facts.clients.set_pod(old.key, old, None)
    assert not (await ask(served, asked, POD)).answer


async def test_autopath_by_a_file_is_for_every_client(start, cluster, tmp_path):
    populate(cluster)
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.1\nsearch a.org b.org\n")
    server = await start(
        f". {{\n autopath org {path}\n"
        ' template IN A b.org {\n answer "{{ .Name }} 9 IN A 10.0.0.2"\n }\n'
        " template ANY ANY {\n rcode NXDOMAIN\n }\n}"
    )
    reply = await ask(server, "web.a.org.", OTHER)
    assert shape(reply)[1] == ["web.a.org. 9 IN CNAME web.b.org.", "web.b.org. 9 IN A 10.0.0.2"]


@pytest.mark.parametrize(
    ("args", "message"),
    [("", "it takes zones and a file"), ("@file", "only @kubernetes"), ("/nonexistent", "No such file")],
)
def test_autopath_errors_name_file_and_line(args, message):
    with pytest.raises(CorefileError) as caught:
        configure(f". {{\n autopath {args}\n}}", "Corefile", Facts(Index(), Metrics()))
    assert str(caught.value).startswith("Corefile:2: plugin/autopath: ")
    assert message in str(caught.value)
