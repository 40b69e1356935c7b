"""A DNS server over hand-made objects, on addresses and ports of its own."""

import asyncio
import dataclasses
import itertools
import os

import dns.message
import dns.query
import msgspec
import pytest

from emu.core.objects import EndpointSlice, Namespace, Pod, Service
from emu.coredns.corefile import kubeadm_corefile
from emu.coredns.environment import Facts
from emu.coredns.index import Index
from emu.coredns.listeners import TcpListener, UdpListener
from emu.coredns.metrics import Metrics
from emu.coredns.server import Server
from emu.planes.loopback import LoopbackPlane

PORT = 5353
ZONE = "cluster.local"
_hosts = itertools.count(2)


def own_address():
    """An address of the corner 127.201.0.0/16 that no other test process and no other test uses."""
    return f"127.201.{os.getpid() % 250 + 1}.{next(_hosts) % 250 + 2}"


class Cluster:
    """Objects, as the reflectors would deliver them."""

    def __init__(self):
        self.index = Index()
        self._numbers = itertools.count()

    def namespace(self, name, labels=None):
        namespace = _view(Namespace, name, "", labels)
        self.index.set_namespace(name, None, namespace)
        return namespace

    def service(self, name, namespace="default", labels=None, **spec):
        service = _view(Service, name, namespace, labels, spec=spec)
        self.index.set_service(service.key, None, service)
        return service

    def endpoints(self, service, addresses, namespace="default", ports=(), address_type="IPv4"):
        name = f"{service}-{next(self._numbers)}"
        item = self.slice_of(service, addresses, namespace, ports, address_type, name)
        self.index.set_slice(item.key, None, item)
        return item

    def slice_of(self, service, addresses, namespace="default", ports=(), address_type="IPv4", name="slice"):
        """An EndpointSlice that is not fed yet. Endpoints may be mere addresses."""
        return _view(
            EndpointSlice,
            name,
            namespace,
            {"kubernetes.io/service-name": service},
            addressType=address_type,
            endpoints=[{"addresses": [a]} if isinstance(a, str) else a for a in addresses],
            ports=list(ports),
        )

    def pod(self, name, address, namespace="default"):
        pod = self.pod_of(name, address, namespace)
        self.index.set_pod(pod.key, None, pod)
        return pod

    def pod_of(self, name, address, namespace="default", **metadata):
        """A running pod that is not fed yet."""
        document = {
            "metadata": {"name": name, "namespace": namespace, **metadata},
            "status": {"podIP": address, "phase": "Running"},
        }
        return msgspec.convert(document, Pod)


def _view(kind, name, namespace="", labels=None, **fields):
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return msgspec.convert({"metadata": metadata, **fields}, kind)


@dataclasses.dataclass
class Dns:
    """A running server and a client of it that reads with dnspython."""

    server: Server
    cluster: Cluster
    address: str
    listeners: list

    async def ask(self, name, qtype="A", *, tcp=False, source=None, timeout=3, **options):

        query = (
            name if isinstance(name, dns.message.Message) else dns.message.make_query(name, qtype, **options)
        )
        send = dns.query.tcp if tcp else dns.query.udp
        return await asyncio.to_thread(send, query, self.address, timeout=timeout, port=PORT, source=source)


@pytest.fixture
def new_address():
    return own_address


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
async def start(cluster):
    """Start a server over `cluster`; returns a Dns."""
    listeners, servers = [], []

    async def run(corefile=None, dns_pods=()):
        facts = Facts(cluster.index, Metrics(), dns_pods=lambda: tuple(dns_pods))
        server = Server(facts)
        text = corefile or kubeadm_corefile(ZONE).replace("/etc/resolv.conf", "127.201.0.1:9")
        await server.apply(text, "Corefile")
        servers.append(server)
        address = own_address()
        plane = LoopbackPlane()
        own = [
            UdpListener(plane.listen_udp(address, PORT), server.responder(53)),
            TcpListener(plane.listen_tcp(address, PORT), server.responder(53)),
        ]
        listeners.extend(own)
        return Dns(server, cluster, address, own)

    yield run
    for listener in listeners:
        listener.close()
    for server in servers:
        await server.stop()
