"""kubectl, unmodified, against a running cluster: each binary that is found."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from emu.core.objects import Pod
from emu.testing import Cluster

VERSIONED = sorted(str(path) for path in Path("/usr/lib/google-cloud-sdk/bin").glob("kubectl.1.*"))
BINARIES = VERSIONED or ([found] if (found := shutil.which("kubectl")) else [])


@pytest.fixture(params=BINARIES or [None], ids=lambda path: Path(path).name if path else "none")
def kubectl(request, cluster: Cluster, tmp_path):
    if request.param is None:
        pytest.skip("kubectl is not installed (https://kubernetes.io/docs/tasks/tools/)")

    def run(*arguments: str, stdin: str | None = None, expect: int = 0) -> str:
        done = subprocess.run(
            [
                request.param,
                f"--kubeconfig={cluster.kubeconfig}",
                f"--cache-dir={tmp_path / 'cache'}",
                *arguments,
            ],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == expect, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout + (done.stderr if expect else "")

    return run


def test_get_nodes_pods_services_wide(kubectl, cluster):
    output = kubectl("get", "nodes,pods,svc", "-o", "wide")
    config = cluster.settings.config
    for text in (
        "node-1",
        config.node_address("node-2"),
        "frontend",
        cluster.object(Pod, "frontend").ip,
        "my-service",
    ):
        assert text in output
    assert "Ready" in output
    assert "80:3" in output


WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: kube}
spec:
  replicas: 2
  selector: {matchLabels: {app: kube}}
  template:
    metadata: {labels: {app: kube}}
    spec:
      containers:
        - {name: c, image: registry.k8s.io/e2e-test-images/agnhost:2.53, args: [netexec]}
---
apiVersion: v1
kind: Service
metadata: {name: kube}
spec:
  selector: {app: kube}
  ports: [{port: 8080}]
"""


def test_apply_rolls_out_serves_scales_and_deletes(kubectl, cluster):
    kubectl("apply", "-f", "-", stdin=WEB)
    kubectl("rollout", "status", "deployment/kube", "--timeout=30s")
    assert "unchanged" in kubectl("apply", "-f", "-", stdin=WEB)
    address = kubectl("get", "service", "kube", "-o", "jsonpath={.spec.clusterIP}")
    cluster.until(lambda: _answers(cluster, address), what="the Service answers")
    assert "configured" in kubectl("apply", "-f", "-", stdin=WEB.replace("replicas: 2", "replicas: 3"))
    kubectl("wait", "deployment/kube", "--for=jsonpath={.status.readyReplicas}=3", "--timeout=30s")
    kubectl("scale", "deployment/kube", "--replicas=1")
    kubectl("wait", "deployment/kube", "--for=jsonpath={.status.readyReplicas}=1", "--timeout=30s")
    kubectl("label", "deployment/kube", "tier=web")
    assert json.loads(kubectl("get", "deployment", "kube", "-o", "json"))["metadata"]["labels"] == {
        "tier": "web"
    }
    kubectl("delete", "-f", "-", stdin=WEB)
    cluster.until(lambda: cluster.objects(Pod, labels="app=kube") == [], what="no pod is left")


def test_errors_read_as_on_any_cluster(kubectl):
    assert 'pods "nobody" not found' in kubectl("get", "pod", "nobody", expect=1)
    manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 99999}]}"
    output = kubectl("apply", "-f", "-", stdin=manifest, expect=1)
    assert "99999" in output
    assert "between 1 and 65535" in output
    unknown = manifest.replace("ports: [{port: 99999}]", "prots: []")
    assert 'unknown field "spec.prots"' in kubectl("apply", "-f", "-", stdin=unknown, expect=1)


def _answers(cluster: Cluster, address: str) -> bool:
    try:
        return cluster.dial("frontend", address, 8080, "/hostname").body.startswith("kube-")
    except OSError:
        return False
