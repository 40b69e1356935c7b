"""What the components say of themselves over HTTP."""

import json

import pytest

from emu.core.objects import Node, Pod, Service
from emu.testing import Cluster


def fetch(cluster: Cluster, address: str, port: int, path: str) -> str:
    reply = cluster.dial("127.0.0.1", address, port, path)
    assert reply.status == 200, reply
    return reply.body


@pytest.mark.parametrize("path", ["/healthz", "/livez"])
def test_kube_proxys_health_at_every_node(cluster, path):
    port = cluster.settings.config.fixed_ports.proxy_healthz
    for address in ("127.0.0.1", *(node.internal_ip for node in cluster.objects(Node, ""))):
        assert "lastUpdated" in json.loads(fetch(cluster, address, port, path))


def test_kube_proxys_mode_configuration_and_metrics(cluster):
    port = cluster.settings.config.fixed_ports.proxy_metrics
    assert fetch(cluster, "127.0.0.1", port, "/proxyMode") == "iptables"
    configuration = json.loads(fetch(cluster, "127.0.0.1", port, "/configz"))["kubeproxy.config.k8s.io"]
    assert (configuration["mode"], configuration["ipvs"]["scheduler"]) == ("iptables", "rr")
    assert "kubeproxy_" in fetch(cluster, "127.0.0.1", port, "/metrics")


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
