"""What people type, with every kubectl that is installed."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from .conftest import Server

FOUND = [
    *([Path(path)] if (path := shutil.which("kubectl")) else []),
    *sorted(Path("/usr/lib/google-cloud-sdk/bin").glob("kubectl.1.*")),
]
pytestmark = pytest.mark.skipif(not FOUND, reason="kubectl is not installed")

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: nginx}
"""


class Kubectl:
    def __init__(self, binary: Path, server: Server, directory: Path) -> None:
        self._binary = binary
        self._arguments = ("--kubeconfig", str(server.kubeconfig), "--cache-dir", str(directory / "cache"))
        self.environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}

    async def run(self, *arguments: str, text: str = "", fails: bool = False) -> str:
        process = await asyncio.create_subprocess_exec(
            self._binary,
            *arguments,
            *self._arguments,
            env=self.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(30):
            output, _ = await process.communicate(text.encode())
        assert (process.returncode != 0) == fails, output.decode()
        return output.decode()


@pytest.fixture(params=FOUND, ids=lambda binary: binary.name)
def kubectl(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Kubectl:
    return Kubectl(request.param, server, tmp_path)


async def test_a_day_with_kubectl(kubectl: Kubectl):
    out = await kubectl.run("apply", "-f", "-", text=MANIFEST)
    assert "service/web created" in out
    assert "deployment.apps/web created" in out
    assert "unchanged" in await kubectl.run("apply", "-f", "-", text=MANIFEST)
    out = await kubectl.run("apply", "-f", "-", text=MANIFEST.replace("port: 80,", "port: 81,"))
    assert "service/web configured" in out
    out = await kubectl.run("get", "svc", "web", "-o", "wide")
    assert out.split()[:7] == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"]
    assert "81/TCP" in out
    assert "80/TCP" not in out
    assert "already exists" in await kubectl.run("create", "-f", "-", text=MANIFEST, fails=True)
    assert "scaled" in await kubectl.run("scale", "deploy", "web", "--replicas=3")
    assert await kubectl.run("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "3"
    assert "labeled" in await kubectl.run("label", "svc", "web", "tier=front")
    patched = await kubectl.run("patch", "svc", "web", "-p", '{"spec":{"type":"NodePort"}}')
    assert "patched" in patched
    assert "kubernetes" in await kubectl.run("get", "all", "-A")
    out = await kubectl.run("get", "pods", "none", fails=True)
    assert 'Error from server (NotFound): pods "none" not found' in out
    assert "FIELD" in await kubectl.run("explain", "service.spec.ports")
    assert "Selector" in await kubectl.run("describe", "svc", "web")
    out = await kubectl.run("delete", "svc,deploy", "web")
    assert 'service "web" deleted' in out


async def test_a_wrong_manifest_is_refused_with_its_field(kubectl: Kubectl):
    out = await kubectl.run(
        "apply", "-f", "-", text=MANIFEST.replace("port: 80,", "port: 99999,"), fails=True
    )
    assert "spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive" in out
    out = await kubectl.run(
        "create", "-f", "-", text=MANIFEST.replace("  selector: {app", "  selctor: {app"), fails=True
    )
    assert "selctor" in out


async def test_get_w_follows(kubectl: Kubectl, server: Server):
    process = await asyncio.create_subprocess_exec(
        kubectl._binary,
        "get",
        "configmaps",
        "-w",
        *kubectl._arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        path = "/api/v1/namespaces/default/configmaps"
        await server.client.request("POST", path, body={"metadata": {"name": "before"}})
        async with asyncio.timeout(20):
            while "before" not in (await process.stdout.readline()).decode():
                pass
            await server.client.request(
                "POST", path, body={"metadata": {"name": "after"}, "data": {"a": "b"}}
            )
            while not (line := (await process.stdout.readline()).decode()).startswith("after"):
                pass
        assert line.split()[1] == "1"
    finally:
        process.kill()
        await process.wait()
