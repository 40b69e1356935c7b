"""What the README tells people to type into their shell, with the clients that they have."""

import subprocess

import pytest

from emu.core.objects import Pod, Service
from emu.testing import Cluster

pytestmark = pytest.mark.usefixtures("low_ports")


@pytest.fixture(scope="module")
def low_ports(cluster: Cluster) -> None:
    if not cluster.plane.can_bind(cluster.settings.config.ranges.pods.partition("/")[0], 80):
        pytest.skip("ports below 1024 may not be bound: sysctl net.ipv4.ip_unprivileged_port_start=0")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def dig_at(cluster: Cluster, dig: str, *question: str) -> str:
    return run(dig, "@127.0.0.1", "-p", str(cluster.settings.config.fixed_ports.dns), "+short", *question)


def web(cluster: Cluster) -> dict[str, str]:
    return {pod.name: pod.ip for pod in cluster.objects(Pod, labels="app=web")}


def test_dig_resolves_a_service(cluster, dig):
    address = cluster.object(Service, "my-service").spec.cluster_ip
    assert dig_at(cluster, dig, "my-service.default.svc.cluster.local") == f"{address}\n"


def test_dig_at_the_cluster_ip_of_dns(cluster, dig):
    address = cluster.object(Service, "my-service").spec.cluster_ip
    server = cluster.settings.config.ranges.dns_service
    assert run(dig, f"@{server}", "+short", "my-service.default.svc.cluster.local") == f"{address}\n"


def test_dig_resolves_a_headless_service_to_its_pods(cluster, dig):
    answers = dig_at(cluster, dig, "my-headless.default.svc.cluster.local").split()
    assert sorted(answers) == sorted(web(cluster).values())


def test_dig_follows_an_external_name(cluster, dig):
    answers = dig_at(cluster, dig, "my-external.default.svc.cluster.local").split()
    address = cluster.object(Service, "my-service").spec.cluster_ip
    assert answers == ["my-service.default.svc.cluster.local.", address]


def test_dig_srv_and_ptr(cluster, dig):
    answers = dig_at(cluster, dig, "_http._tcp.my-service.default.svc.cluster.local", "SRV")
    assert answers.split()[2:] == ["80", "my-service.default.svc.cluster.local."]
    address = cluster.object(Service, "my-service").spec.cluster_ip
    assert dig_at(cluster, dig, "-x", address) == "my-service.default.svc.cluster.local.\n"


def test_curl_through_the_cluster_ip(cluster, curl):
    address = cluster.object(Service, "my-service").spec.cluster_ip
    assert run(curl, "-sS", f"http://{address}/hostname") in web(cluster)


def test_curl_as_a_pod_keeps_the_pods_address(cluster, curl):
    address = cluster.object(Service, "my-service").spec.cluster_ip
    frontend = cluster.object(Pod, "frontend").ip
    seen = run(curl, "-sS", "--interface", frontend, f"http://{address}/clientip")
    assert seen.rpartition(":")[0] == frontend


def test_curl_through_the_gateway(cluster, curl):
    gateway = f"127.0.0.1:{cluster.settings.config.fixed_ports.gateway}"
    assert run(curl, "-sS", "-x", f"http://{gateway}", "http://my-service.default/hostname") in web(cluster)


def test_curl_through_the_gateway_as_a_pod(cluster, curl):
    gateway = f"127.0.0.1:{cluster.settings.config.fixed_ports.gateway}"
    as_frontend = f"http://default.frontend@{gateway}"
    assert run(curl, "-sS", "-x", as_frontend, "http://my-service/hostname") in web(cluster)
    seen = run(curl, "-sS", "-x", as_frontend, "http://my-service/clientip")
    assert seen.rpartition(":")[0] == cluster.object(Pod, "frontend").ip


def test_a_service_without_endpoints_refuses_at_once(cluster, tmp_path):
    manifest = tmp_path / "empty.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: empty}\n"
        "spec: {selector: {app: nobody}, ports: [{port: 8080}]}\n"
    )
    cluster.apply(manifest)
    address = cluster.object(Service, "empty").spec.cluster_ip
    with pytest.raises(ConnectionRefusedError):
        cluster.dial("127.0.0.1", address, 8080)
