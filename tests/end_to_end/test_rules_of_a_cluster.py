"""`emu proxy rules` against a running cluster."""

import subprocess
import sys

import pytest

from emu.core.objects import Node, Pod, Service
from emu.testing import Cluster


def emu(cluster: Cluster, *arguments: str) -> "subprocess.CompletedProcess[str]":
    where = ["--state-dir", str(cluster.settings.state.root)]
    command = [sys.executable, "-m", "emu", "proxy", "rules", *where, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_the_rules_of_a_service_lead_to_its_pods(cluster):
    service = cluster.object(Service, "my-loadbalancer")
    pods = [
        pod for pod in cluster.objects(Pod) if service.spec.selector.items() <= pod.metadata.labels.items()
    ]
    shown = emu(cluster, "--service", "default/my-loadbalancer", "--node", "node-2")
    assert shown.returncode == 0, shown.stderr
    assert f"-d {service.spec.cluster_ip}/32 " in shown.stdout
    assert f"-d {service.status.load_balancer.ingress[0].ip}/32 " in shown.stdout
    assert f"! -s {cluster.object(Node, 'node-2', '').spec.pod_cidr} " in shown.stdout
    assert len(pods) == 3
    assert all(f"--to-destination {pod.ip}:8080\n" in shown.stdout for pod in pods)


@pytest.mark.parametrize(
    ("arguments", "first_line"),
    [
        ((), "# iptables-save on node-1 ({}), iptables mode"),
        (("--mode", "nftables"), "# nft list ruleset on node-1 ({}), nftables mode"),
        (("--mode", "ipvs", "--part", "ipset"), "# ipset list on node-1 ({}), ipvs mode"),
    ],
)
def test_modes_and_parts(cluster, arguments, first_line):
    address = cluster.object(Node, "node-1", "").internal_ip
    assert emu(cluster, *arguments).stdout.splitlines()[0] == first_line.format(address)


def test_what_names_nothing_is_one_sentence_and_exits_with_2(cluster):
    shown = emu(cluster, "--node", "node-9")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == 'emu: there is no node "node-9": `kubectl get nodes` lists those that are there\n'
