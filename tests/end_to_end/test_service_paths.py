"""Ways through a Service that only a whole cluster shows: what the pod sees, and what survives."""

from __future__ import annotations

import socket
import threading
from collections import Counter

import pytest

from emu.core.objects import ConfigMap, Deployment, Node, Pod, Service
from emu.testing import Cluster, running_cluster

MANIFESTS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 4
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers:
        - {name: c, image: agnhost, args: [netexec, --http-port=8080, --udp-port=8081]}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports:
    - {name: http, port: 8080}
    - {name: udp, port: 8080, targetPort: 8081, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec:
  selector: {app: echo}
  sessionAffinity: ClientIP
  ports: [{port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec:
  selector: {app: client}
  internalTrafficPolicy: Local
  ports: [{port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: ports}
spec:
  type: NodePort
  selector: {app: client}
  ports: [{port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: ports-local}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  selector: {app: client}
  ports: [{port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec:
  ports: [{port: 8080, name: http}]
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec:
  nodeName: node-1
  containers:
    - {name: c, image: agnhost, args: [netexec, --http-port=8080]}
---
apiVersion: v1
kind: Pod
metadata: {name: far}
spec:
  nodeName: node-2
  containers:
    - {name: c, image: agnhost, args: [netexec, --http-port=8080]}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    manifests = tmp_path_factory.mktemp("manifests") / "all.yaml"
    manifests.write_text(MANIFESTS)
    with running_cluster(manifests) as running:
        yield running


def vip(cluster: Cluster, name: str) -> str:
    return cluster.object(Service, name).spec.cluster_ip


def node_ip(cluster: Cluster, name: str) -> str:
    return cluster.object(Node, name, "").internal_ip


def seen_client(cluster: Cluster, source: str, address: str, port: int = 8080) -> str:
    return cluster.dial(source, address, port, "/clientip").body.rpartition(":")[0]


def set_mode(cluster: Cluster, mode: str) -> None:
    data = {"config.conf": f"kind: KubeProxyConfiguration\nmode: {mode}\n"}
    cluster.call(lambda client: client.patch(ConfigMap.resource, "kube-system", "kube-proxy", {"data": data}))
    port = cluster.settings.config.fixed_ports.proxy_metrics
    cluster.until(
        lambda: cluster.dial("127.0.0.1", "127.0.0.1", port, "/proxyMode").body == mode, what=f"mode {mode}"
    )


@pytest.fixture(params=["iptables", "ipvs", "nftables", "userspace"])
def mode(request, cluster):
    set_mode(cluster, request.param)
    yield request.param
    set_mode(cluster, "iptables")


def test_c8_a_pod_keeps_its_address_at_a_cluster_ip_and_is_the_node_in_userspace_mode(cluster, mode):
    client = cluster.object(Pod, "client")
    expected = node_ip(cluster, "node-1") if mode == "userspace" else client.ip
    assert seen_client(cluster, "client", vip(cluster, "echo")) == expected


def test_udp_through_a_cluster_ip_is_answered_by_the_cluster_ip(cluster, mode):
    client, address = cluster.object(Pod, "client"), vip(cluster, "echo")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((client.ip, 0))
        sock.settimeout(5)
        sock.sendto(b"hostname", (address, 8080))
        name, sender = sock.recvfrom(1000)
        assert sender == (address, 8080)
        assert name.decode().startswith("echo-")
        # H1: one decision for the flow.
        for _ in range(5):
            sock.sendto(b"hostname", (address, 8080))
            assert sock.recv(1000) == name


def test_c12_affinity_keeps_a_client_at_its_endpoint(cluster, mode):
    address = vip(cluster, "sticky")
    names = {cluster.dial("client", address, 8080, "/hostname").body for _ in range(12)}
    assert len(names) == 1


def test_requests_are_spread(cluster, mode):
    address = vip(cluster, "echo")
    counts = Counter(cluster.dial("client", address, 8080, "/hostname").body for _ in range(40))
    assert len(counts) == 4


def test_c14_node_ports_are_masqueraded_to_the_receiving_node(cluster, mode):
    port = cluster.object(Service, "ports").spec.ports[0].node_port
    for name in ("node-1", "node-2"):
        address = node_ip(cluster, name)
        assert seen_client(cluster, "127.0.0.1", address, port) == address


def test_c10_hairpin_shows_the_pod_another_address_than_its_own(cluster):
    client = cluster.object(Pod, "client")
    assert seen_client(cluster, "client", vip(cluster, "ports")) != client.ip


def test_c15_external_policy_local_keeps_the_client_and_drops_elsewhere(cluster):
    port = cluster.object(Service, "ports-local").spec.ports[0].node_port
    assert seen_client(cluster, "127.0.0.1", node_ip(cluster, "node-1"), port) == "127.0.0.1"
    with pytest.raises(TimeoutError):
        cluster.dial("127.0.0.1", node_ip(cluster, "node-2"), port, "/hostname", seconds=1)


def test_c16_internal_policy_local_serves_the_own_node_only(cluster):
    address = vip(cluster, "local")
    assert cluster.dial("client", address, 8080, "/hostname").body == "client"
    with pytest.raises(TimeoutError):
        cluster.dial("far", address, 8080, "/hostname", seconds=1)


def test_b8_a_slice_written_by_hand_leads_out_of_the_cluster(cluster, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        file = tmp_path / "slice.yaml"
        file.write_text(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
            "metadata: {name: outside-1, labels: {kubernetes.io/service-name: outside}}\n"
            f"addressType: IPv4\nports: [{{name: http, port: {port}, protocol: TCP}}]\n"
            "endpoints: [{addresses: ['127.0.0.1']}]\n"
        )
        cluster.apply(file)
        address = vip(cluster, "outside")
        client = cluster.object(Pod, "client").ip
        connected = []

        def connects() -> bool:
            try:
                connected.append(socket.create_connection((address, 8080), 2, source_address=(client, 0)))
            except ConnectionRefusedError:
                return False
            return True

        cluster.until(connects, what="the slice is in force")
        server.settimeout(5)
        accepted, peer = server.accept()
        with accepted, connected[0]:
            # An endpoint that no node hosts sees the client's own address.
            assert peer[0] == client


def held_open(cluster: Cluster, address: str) -> socket.socket:
    sock = socket.create_connection((address, 8080), 5, source_address=(cluster.object(Pod, "client").ip, 0))
    assert b"200 OK" in ask(sock)
    return sock


def ask(sock: socket.socket) -> bytes:
    sock.settimeout(5)
    sock.sendall(b"GET /hostname HTTP/1.1\r\nHost: echo\r\n\r\n")
    return sock.recv(4096)


def test_established_connections_survive_a_change_of_mode_and_the_death_of_the_proxy(cluster):
    address = vip(cluster, "echo")
    with held_open(cluster, address) as sock:
        set_mode(cluster, "ipvs")
        set_mode(cluster, "iptables")
        first = ask(sock)
        cluster.kill("proxy")
        assert ask(sock) == first

    def answers() -> bool:
        try:
            return cluster.dial("client", address, 8080, "/hostname").status == 200
        except OSError:
            return False

    cluster.until(answers, what="the virtual IP is back")


def test_no_connection_is_refused_while_endpoints_come_and_go(cluster):
    address = vip(cluster, "echo")
    failures: list[str] = []
    stop = threading.Event()

    def connect() -> None:
        while not stop.is_set():
            try:
                cluster.dial("127.0.0.1", address, 8080, "/hostname")
            except OSError as error:
                failures.append(repr(error))

    thread = threading.Thread(target=connect)
    thread.start()
    try:
        for replicas in (2, 5, 3):
            cluster.call(
                lambda client, replicas=replicas: client.patch(
                    Deployment.resource, "default", "echo", {"spec": {"replicas": replicas}}
                )
            )
            cluster.until(
                lambda replicas=replicas: (
                    sum(pod.ready and not pod.terminating for pod in cluster.objects(Pod, labels="app=echo"))
                    == replicas
                    == len(cluster.objects(Pod, labels="app=echo"))
                ),
                what=f"{replicas} replicas",
            )
    finally:
        stop.set()
        thread.join()
    assert failures == []
