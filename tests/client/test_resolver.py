"""The stub resolver against small servers of its own, on addresses in 127.201.0.0/16."""

import asyncio
import itertools
import os

import pytest
from dnslib import AAAA, QTYPE, RCODE, RR, A, DNSRecord

from emu.client.resolver import ResolveError, Resolver
from emu.core.config import ClusterConfig
from emu.core.resolv_conf import ResolvConf
from emu.planes.loopback import LoopbackPlane

PORT = 5354
SOURCE = "127.201.254.7"
_hosts = itertools.count(2)


class Server(asyncio.DatagramProtocol):
    """Answers A queries from a table, and notes what was asked and by whom."""

    def __init__(self, table, silent=False, truncate=False):
        self.table, self.silent, self.truncate = table, silent, truncate
        self.asked = []
        self.address = f"127.201.253.{(os.getpid() + next(_hosts)) % 250 + 2}"

    def reply(self, data, over_udp):
        query = DNSRecord.parse(data)
        name = str(query.q.qname)
        self.asked.append(name)
        reply = query.reply()
        if name not in self.table:
            reply.header.rcode = RCODE.NXDOMAIN
        elif over_udp and self.truncate:
            reply.header.tc = 1
        else:
            for address in self.table[name]:
                kind = AAAA if ":" in address else A
                reply.add_answer(RR(name, getattr(QTYPE, kind.__name__), ttl=5, rdata=kind(address)))
        return reply.pack()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        self.peer = peer
        if not self.silent:
            self.transport.sendto(self.reply(data, over_udp=True), peer)

    async def stream(self, reader, writer):
        length = int.from_bytes(await reader.readexactly(2))
        answer = self.reply(await reader.readexactly(length), over_udp=False)
        writer.write(len(answer).to_bytes(2) + answer)
        writer.close()


@pytest.fixture
async def serve():
    closing = []

    async def start(table, **options):
        server = Server(table, **options)
        plane = LoopbackPlane()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: server, sock=plane.listen_udp(server.address, PORT)
        )
        stream = await asyncio.start_server(server.stream, sock=plane.listen_tcp(server.address, PORT))
        closing.extend((transport, stream))
        return server

    yield start
    for item in closing:
        item.close()


def resolver(*servers, timeout=0.15):
    ends = tuple((getattr(server, "address", server), PORT) for server in servers)
    return Resolver(LoopbackPlane(), ClusterConfig(), servers=ends, timeout=timeout)


async def test_the_search_path_is_walked_until_an_answer(serve):
    server = await serve({"web.svc.cluster.local.": ["127.96.0.9"]})
    assert await resolver(server).resolve("web", source=SOURCE, namespace="shop") == ["127.96.0.9"]
    assert server.asked == ["web.shop.svc.cluster.local.", "web.svc.cluster.local."]
    assert server.peer[0] == SOURCE


async def test_the_search_path_is_that_of_the_pods_own_resolv_conf(serve):
    server = await serve({"web.shop.": ["127.96.0.9"]})
    conf = ResolvConf((), ("corp.example",), (("ndots", "1"),))
    assert await resolver(server).resolve("web.shop", source=SOURCE, conf=conf) == ["127.96.0.9"]
    with pytest.raises(ResolveError, match=r"there is no address at web\.corp\.example\. or web\."):
        await resolver(server).resolve("web", source=SOURCE, conf=conf)
    assert server.asked == ["web.shop.", "web.corp.example.", "web."]


async def test_a_pods_own_nameservers_are_asked_instead_of_the_clusters(serve, monkeypatch):
    clusters, own = await serve({}), await serve({"web.": ["127.0.0.9"]})
    monkeypatch.setattr("emu.client.resolver.DNS_PORT", PORT)
    conf = ResolvConf((own.address,), (), ())
    assert await resolver(clusters).resolve("web", source=SOURCE, conf=conf) == ["127.0.0.9"]
    service = ResolvConf((ClusterConfig().ranges.dns_service, own.address), (), ())
    with pytest.raises(ResolveError):
        await resolver(clusters).resolve("web", source=SOURCE, conf=service)
    assert clusters.asked == ["web."]


async def test_a_name_without_addresses_is_passed_over(serve):
    server = await serve({"web.default.svc.cluster.local.": [], "web.": ["127.0.0.9"]})
    assert await resolver(server).resolve("web", source=SOURCE) == ["127.0.0.9"]


async def test_a_missing_name_names_what_was_tried(serve):
    server = await serve({})
    with pytest.raises(ResolveError, match=r"cannot resolve web: there is no address at web\.default\.svc"):
        await resolver(server).resolve("web", source=SOURCE)


async def test_a_truncated_reply_is_asked_for_over_tcp(serve):
    server = await serve({"web.": ["127.0.0.1", "127.0.0.2"]}, truncate=True)
    assert await resolver(server).resolve("web.", source=SOURCE) == ["127.0.0.1", "127.0.0.2"]


async def test_silence_is_a_timeout_that_names_the_server(serve):
    server = await serve({}, silent=True)
    with pytest.raises(ResolveError, match=f"the query to {server.address}:{PORT} timed out"):
        await resolver(server).resolve("web.", source=SOURCE)


async def test_after_a_refusal_the_next_server_is_asked(serve):
    server = await serve({"web.": ["127.0.0.1"]})
    assert await resolver("127.201.252.1", server).resolve("web.", source=SOURCE) == ["127.0.0.1"]


async def test_nobody_there():
    with pytest.raises(ResolveError, match=r"no DNS server answers at 127\.201\.252\.1:5354"):
        await resolver("127.201.252.1").resolve("web.", source=SOURCE)


async def test_query_gives_the_records(serve):
    server = await serve({"web.": ["127.0.0.1"]})
    (answer,) = await resolver(server).query("web.", "A", source=SOURCE)
    assert answer == ("web.", "A", 5, "127.0.0.1")


async def test_a_label_that_is_too_long_is_an_error():
    with pytest.raises(ResolveError):
        await resolver("127.201.252.1").resolve("a" * 64 + ".", source=SOURCE)
