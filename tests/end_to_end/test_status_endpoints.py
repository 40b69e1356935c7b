"""What the components say of themselves over HTTP."""

import json

import as_a_client
import pytest
from as_a_client import Space, node_ip
from prometheus_client.parser import text_string_to_metric_families

from emu.core.objects import Event, Node, Pod, Service
from emu.testing import Cluster


def fetch(cluster: Cluster, address: str, port: int, path: str) -> str:
    reply = cluster.dial("127.0.0.1", address, port, path)
    assert reply.status == 200, reply
    return reply.body


@pytest.mark.parametrize(("path", "keys"), [("/healthz", {"nodeEligible"}), ("/livez", set())])
def test_i1_i2_kube_proxys_health_at_every_node(cluster, path, keys):
    port = cluster.settings.config.fixed_ports.proxy_healthz
    for address in ("127.0.0.1", *(node.internal_ip for node in cluster.objects(Node, ""))):
        found = json.loads(fetch(cluster, address, port, path))
        assert found.keys() == {"lastUpdated", "currentTime", "healthy", "status"} | keys
        assert found["healthy"] is True


def test_i1_a_node_that_the_autoscaler_deletes_is_not_eligible(cluster, space: Space):
    port = cluster.settings.config.fixed_ports.proxy_healthz
    address, other = node_ip(cluster, "node-2"), node_ip(cluster, "node-1")
    taint = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "PreferNoSchedule"}

    def status(path: str = "/healthz") -> int:
        return cluster.dial("127.0.0.1", address, port, path).status

    space.patch(Node, "node-2", {"spec": {"taints": [taint]}})
    try:
        cluster.until(lambda: status() == 503, what="node-2 is not eligible")
        assert status("/livez") == 200
        assert cluster.dial("127.0.0.1", other, port, "/healthz").status == 200
    finally:
        space.patch(Node, "node-2", {"spec": {"taints": None}})
    cluster.until(lambda: status() == 200, what="node-2 is eligible again")


def test_i3_health_check_node_port_follows_a_pod(cluster, space: Space):
    """A load balancer sends to the node that has the pod, and to no other."""
    space.apply(as_a_client.service("web", "web", type="LoadBalancer", externalTrafficPolicy="Local"))
    port = cluster.object(Service, "web", space.name).spec.health_check_node_port
    nodes = {name: node_ip(cluster, name) for name in ("node-1", "node-2")}

    def healthy() -> set[str]:
        found = {name: cluster.dial("127.0.0.1", ip, port, "/") for name, ip in nodes.items()}
        for reply in found.values():
            document = json.loads(reply.body)
            assert document["service"] == {"namespace": space.name, "name": "web"}
            assert reply.status == (200 if document["localEndpoints"] else 503)
        return {name for name, reply in found.items() if reply.status == 200}

    cluster.until(lambda: _served(cluster, nodes["node-1"], port), what="the port is served")
    assert healthy() == set()
    for name, node in (("first", "node-1"), ("second", "node-2")):
        space.apply(as_a_client.pod(name, node=node, labels={"app": "web"}))
        cluster.until(lambda node=node: healthy() == {node}, what=f"{node} alone has the pod")
        space.delete(Pod, name, options={"gracePeriodSeconds": 0})
    cluster.until(lambda: healthy() == set(), what="no node has the pod")
    space.delete(Service, "web")
    cluster.until(lambda: not _served(cluster, nodes["node-2"], port), what="the port is closed")


def test_i3_a_health_check_port_that_is_taken_is_an_event_of_the_service(cluster, space: Space):
    address, port = node_ip(cluster, "node-1"), 32767
    with cluster.plane.listen_tcp(address, port):
        local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port}
        space.apply(as_a_client.service("web", "web", **local))

        def messages() -> list[str]:
            events = cluster.objects(Event, space.name)
            return [event.message for event in events if event.reason == "FailedToStartServiceHealthcheck"]

        cluster.until(messages, what="kube-proxy tells of it")
        assert messages() == [
            f'node node-1 failed to start healthcheck "{space.name}/web" on port {port}: '
            f"listen tcp {address}:{port}: bind: address already in use"
        ]


def _served(cluster: Cluster, address: str, port: int) -> bool:
    try:
        cluster.dial("127.0.0.1", address, port)
    except OSError:
        return False
    return True


def test_i4_kube_proxys_mode_and_configuration(cluster):
    port = cluster.settings.config.fixed_ports.proxy_metrics
    assert fetch(cluster, "127.0.0.1", port, "/proxyMode") == "iptables"
    assert fetch(cluster, "127.0.0.1", port, "/healthz") == "ok"
    configuration = json.loads(fetch(cluster, "127.0.0.1", port, "/configz"))["kubeproxy.config.k8s.io"]
    assert (configuration["mode"], configuration["ipvs"]["scheduler"]) == ("iptables", "rr")


def test_i5_kube_proxys_metrics(cluster):
    """The rules followed the readiness of a pod within seconds, and nothing waits now."""
    port = cluster.settings.config.fixed_ports.proxy_metrics
    text = fetch(cluster, "127.0.0.1", port, "/metrics")
    samples = {
        (sample.name, sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    programming = "kubeproxy_network_programming_duration_seconds"
    assert samples[f"{programming}_count", None] > 0
    assert samples[f"{programming}_bucket", "5"] > 0
    assert samples["kubeproxy_sync_full_proxy_rules_duration_seconds_count", None] > 0
    assert samples["kubeproxy_sync_partial_proxy_rules_duration_seconds_count", None] > 0
    assert samples["kubeproxy_sync_proxy_rules_service_changes_pending", None] == 0
    assert samples["kubeproxy_sync_proxy_rules_last_timestamp_seconds", None] > 1e9


def test_cluster_dns_at_each_of_its_pods(cluster):
    pods = cluster.objects(Pod, "kube-system", labels="k8s-app=kube-dns")
    assert len(pods) == 2
    for pod in pods:
        assert fetch(cluster, pod.ip, 8080, "/health") == "OK"
        assert fetch(cluster, pod.ip, 8181, "/ready") == "OK"
        assert "coredns_dns_requests_total" in fetch(cluster, pod.ip, 9153, "/metrics")


def test_flows_of_a_service_at_proxy_and_node(cluster):
    """The proxy records its choice, the node of the pod the arrival: the same client, the same Service."""
    frontend, service = cluster.object(Pod, "frontend"), cluster.object(Service, "my-loadbalancer")
    chosen = cluster.dial("frontend", service.spec.cluster_ip, 8080, "/hostname").body
    pod = cluster.object(Pod, chosen)
    node = cluster.object(Node, pod.spec.node_name, "")
    ports = cluster.settings.config.fixed_ports
    for address, port in (("127.0.0.1", ports.proxy_metrics), (node.internal_ip, ports.kubelet)):
        records = [json.loads(line) for line in fetch(cluster, address, port, "/flows").splitlines()]
        found = [
            record
            for record in records
            if record["source"].startswith(f"{frontend.ip}:")
            and record["destination"] == f"{service.spec.cluster_ip}:8080"
        ]
        assert found[-1]["endpoint"] == f"{pod.ip}:8080"
        assert found[-1]["verdict"] == "forwarded"
        assert found[-1]["path"] == "handover"
