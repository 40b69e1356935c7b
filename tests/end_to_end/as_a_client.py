"""What a test does to a cluster from outside: objects as YAML, and plain sockets bound to an address."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import yaml

from emu.client.applying import apply
from emu.client.manifests import Manifest
from emu.client.rest import ApiError
from emu.core.objects import ConfigMap, NetworkPolicy, Node, Object, Pod, ResourceName, Service
from emu.testing import Cluster

AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.53"
DROPPED_SECONDS = 0.6
"""How long silence has to last before it counts as a dropped connection."""
OUTSIDE = "127.220.0.9"
"""An address outside the cluster."""

T = TypeVar("T")


class Answer(NamedTuple):
    """A datagram and who sent it."""

    text: str
    sender: tuple[str, int]


def pod(name: str, *args: str, node: str = "", labels: dict[str, str] | None = None, **container: Any) -> Any:
    """A pod of one agnhost container; netexec at 8080 (TCP) and 8081 (UDP) where nothing else is said."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels if labels is not None else {"app": name}},
        "spec": {
            **({"nodeName": node} if node else {}),
            "containers": [
                {"name": "c", "image": AGNHOST, "args": list(args) or ["netexec"], **container},
            ],
        },
    }


def service(name: str, selector: str | dict[str, str] = "", **spec: Any) -> Any:
    """A Service for pods labelled `app=selector`; port 8080 where nothing else is said."""
    labels = {"app": selector} if isinstance(selector, str) else selector
    chosen = {"selector": labels} if selector else {}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"port": 8080}], **chosen, **spec},
    }


def endpoint_slice(name: str, of: str, ports: list[Any], endpoints: list[Any]) -> Any:
    """A slice as a user writes it."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    }


class Visit(NamedTuple):
    """A request that was answered: which pod it was, and the client's address as the pod saw it."""

    pod: str
    client: str


class Space:
    """A namespace of a running cluster."""

    def __init__(self, cluster: Cluster, name: str, labels: dict[str, str] | None = None) -> None:
        self.cluster = cluster
        self.name = name
        self._ips: dict[str, str] = {}
        self._vips: dict[str, str] = {}
        namespace = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels or {}},
        }
        self.apply(namespace)

    def apply(self, *documents: Any, ready: bool = True) -> None:
        """Apply objects, given as YAML text or as documents; wait for pods unless they shall not be Ready."""
        parsed = [
            item
            for document in documents
            for item in (yaml.safe_load_all(document) if isinstance(document, str) else [document])
        ]
        manifests = [Manifest(item, "test") for item in parsed]
        self._forget()
        self.cluster.call(lambda client: apply(client, manifests, namespace=self.name))
        pods = [item["metadata"]["name"] for item in parsed if item["kind"] == "Pod"]
        if pods and ready:
            self.until_ready(*pods)

    def until_ready(self, *names: str) -> None:
        """Wait for pods."""

        def ready() -> bool:
            found = {item.name for item in self.cluster.objects(Pod, self.name) if item.ready}
            return found >= set(names)

        self.cluster.until(ready, what=f"pods {', '.join(names)} are Ready")

    def patch(self, view: type[Object] | ResourceName, name: str, patch: Any) -> None:
        """A merge patch."""
        resource = view if isinstance(view, ResourceName) else view.resource
        namespace = self.name if resource.namespaced else ""
        self._forget()
        self.cluster.call(lambda client: client.patch(resource, namespace, name, patch))

    def delete(self, view: type[Object], name: str, **options: Any) -> None:
        """Delete an object, if it is there."""
        self._forget()

        async def use(client: Any) -> None:
            with contextlib.suppress(ApiError):
                await client.delete(view.resource, self.name, name, **options)

        self.cluster.call(use)

    def ip(self, name: str) -> str:
        """A pod's address, asked for once as long as the test changes nothing."""
        if not self._ips.get(name):
            self._ips = {item.name: item.ip for item in self.cluster.objects(Pod, self.name)}
        return self._ips[name]

    def vip(self, name: str) -> str:
        """A Service's ClusterIP, asked for once as long as the test changes nothing."""
        if name not in self._vips:
            found = self.cluster.objects(Service, self.name)
            self._vips = {item.name: item.spec.cluster_ip for item in found}
        return self._vips[name]

    def _forget(self) -> None:
        self._ips, self._vips = {}, {}

    def node_port(self, name: str, port: str = "") -> int:
        """The node port of a Service's port by name, or of its first one."""
        ports = self.cluster.object(Service, name, self.name).spec.ports
        return next(item.node_port for item in ports if port in ("", item.name))

    def outside(self, corner: str) -> str:
        """An address outside the cluster for servers, that no cluster beside it has: `corner` is its end."""
        return f"127.{112 + self.cluster.settings.config.slot}.{corner}"

    def external_ip(self, name: str) -> str:
        """A load balancer's address, once it is there."""

        def ingress() -> Any:
            return self.cluster.object(Service, name, self.name).status.load_balancer.ingress

        self.cluster.until(ingress, what=f"{name} has an external IP")
        return ingress()[0].ip

    def lift_policies(self) -> None:
        """Delete all NetworkPolicies of the namespace."""
        for policy in self.cluster.objects(NetworkPolicy, self.name):
            self.delete(NetworkPolicy, policy.name)


def node_ip(cluster: Cluster, name: str) -> str:
    """A node's InternalIP."""
    return cluster.object(Node, name, "").internal_ip


def set_proxy(cluster: Cluster, mode: str, **fields: Any) -> None:
    """Put a KubeProxyConfiguration in force; what is not given is as without configuration."""
    text = yaml.safe_dump({"kind": "KubeProxyConfiguration", "mode": mode, **fields})
    patch = {"data": {"config.conf": text}}
    cluster.call(lambda client: client.patch(ConfigMap.resource, "kube-system", "kube-proxy", patch))
    port = cluster.settings.config.fixed_ports.proxy_metrics

    def in_force() -> bool:
        shown = yaml.safe_load(cluster.dial("127.0.0.1", "127.0.0.1", port, "/configz").body)
        (found,) = shown.values()
        return _settings_of(found) == _settings_of({"mode": mode, **fields})

    cluster.until(in_force, what=f"mode {mode} is in force")


def _settings_of(configuration: Any) -> tuple[Any, ...]:
    """The fields that tests set and /configz shows."""
    sections = [configuration.get(key) or {} for key in ("iptables", "ipvs", "nftables")]
    ipvs = configuration.get("ipvs") or {}
    return (
        configuration["mode"],
        ipvs.get("scheduler") or "rr",
        ipvs.get("schedulerFlags") or [],
        any(section.get("masqueradeAll") for section in sections),
        configuration.get("nodePortAddresses") or [],
    )


def connect(source: str, address: str, port: int, seconds: float = 5.0) -> socket.socket:
    """A TCP connection from an address."""
    sock = socket.create_connection((address, port), seconds, source_address=(source, 0))
    sock.settimeout(seconds)
    return sock


def ask(sock: socket.socket, path: str = "/hostname") -> str:
    """The body of the answer to GET on a kept connection."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = sock.recv(65536)
        if not chunk:
            raise ConnectionResetError("closed without an answer")
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    while len(body) < length:
        body += sock.recv(65536)
    return body.decode()


def http(source: str, address: str, port: int = 8080, path: str = "/hostname", seconds: float = 5.0) -> str:
    """GET over a connection of its own."""
    with connect(source, address, port, seconds) as sock:
        return ask(sock, path)


def client_seen(source: str, address: str, port: int = 8080) -> str:
    """The client's address as the pod sees it."""
    return http(source, address, port, "/clientip").rpartition(":")[0]


def outcome(source: str, address: str, port: int = 8080, seconds: float = DROPPED_SECONDS) -> str:
    """What becomes of a TCP client: `ok`, `refused`, `dropped` (no byte ever comes) or `reset`."""
    try:
        http(source, address, port, seconds=seconds)
    except TimeoutError:
        return "dropped"
    except ConnectionRefusedError:
        return "refused"
    except ConnectionResetError:
        return "reset"
    return "ok"


def visit(source: str, address: str, port: int = 8080, seconds: float = 5.0) -> Visit:
    """Who answers, and whom it saw, over a connection of its own."""
    with connect(source, address, port, seconds) as sock:
        return Visit(ask(sock), ask(sock, "/clientip").rpartition(":")[0])


def spread(source: str, address: str, tries: int = 24, port: int = 8080) -> set[str]:
    """The pods that answer; an address that does not answer yet has none."""
    names = set()
    for _ in range(tries):
        with contextlib.suppress(OSError):
            names.add(http(source, address, port))
    return names


def at_once(function: Callable[..., T], calls: Iterable[tuple[Any, ...]]) -> list[T]:
    """What a function returns for each tuple of arguments, in their order: many waits in the time of one."""
    with ThreadPoolExecutor(max_workers=32) as threads:
        return [future.result() for future in [threads.submit(function, *call) for call in calls]]


def udp(source: str, address: str, port: int, text: str = "hostname", seconds: float = 2.0) -> Answer:
    """Send one datagram from an address and return the reply."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.settimeout(seconds)
        sock.sendto(text.encode(), (address, port))
        data, sender = sock.recvfrom(65536)
        return Answer(data.decode(), sender)


def udp_outcome(source: str, address: str, port: int, seconds: float = DROPPED_SECONDS) -> str:
    """What becomes of a connected UDP socket's datagram: `ok`, `refused` or `dropped`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.settimeout(seconds)
        sock.connect((address, port))
        try:
            sock.send(b"hostname")
            sock.recv(1000)
        except TimeoutError:
            return "dropped"
        except ConnectionRefusedError:
            return "refused"
        return "ok"


@contextlib.contextmanager
def program_at(address: str, port: int = 0, name: str = "program") -> Iterator[int]:
    """A server outside emu that answers HTTP with its name and `/clientip`; its port."""
    with socket.create_server((address, port)) as server:

        def serve() -> None:
            while True:
                try:
                    sock, client = server.accept()
                except OSError:
                    return
                with sock, contextlib.suppress(OSError):
                    sock.settimeout(5)
                    request = sock.recv(65536)
                    body = f"{client[0]}:{client[1]}" if b"/clientip" in request else name
                    sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
