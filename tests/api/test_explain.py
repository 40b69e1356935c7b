"""`kubectl explain` and `kubectl edit`, which live on the OpenAPI documents, with every kubectl installed."""

import re
from pathlib import Path

import pytest

from .conftest import Server
from .kubectl import FOUND, MANIFEST, Kubectl

pytestmark = [
    pytest.mark.skipif(not FOUND, reason="kubectl is not installed"),
    pytest.mark.parametrize("binary", FOUND, ids=lambda binary: binary.name),
]

# Arguments, and patterns that must be found in the output.
EXPLAINED = [
    ("pods", (r"KIND: +Pod\n", r"VERSION: +v1\n", r"Pod is a collection of containers", r"spec\t<PodSpec>")),
    (
        "pod.spec.containers",
        (r"FIELD: containers <\[\]Container>", r"name\t<string> -required-", r"ports\t<\[\]ContainerPort>"),
    ),
    (
        "service.spec.ports",
        (r"port\t<integer> -required-", r"targetPort\t<IntOrString>", r"protocol\t<string>"),
    ),
    (
        "deploy.spec.strategy",
        (r"GROUP: +apps\n", r"FIELD: strategy <DeploymentStrategy>", r"rollingUpdate\t<"),
    ),
    (
        "netpol --recursive",
        (r"(?s)egress\t.*\n +ports\t.*\n +endPort\t<integer>", r"cidr\t<string> -required-"),
    ),
    ("deployment --api-version=apps/v1", (r"GROUP: +apps\n", r"KIND: +Deployment\n", r"VERSION: +v1\n")),
    ("cm.data --output=plaintext-openapiv2", (r"KIND: +ConfigMap", r"FIELD: +data <map\[string\]string>")),
    (
        "service.spec.ports --output=plaintext-openapiv2",
        (r"RESOURCE: ports <\[\]Object>", r"port\t<integer> -required-", r"ServicePort contains information"),
    ),
]


async def test_explain(binary: Path, server: Server, tmp_path: Path):
    kubectl = Kubectl(binary, server, tmp_path)
    for arguments, patterns in EXPLAINED:
        out = await kubectl.run("explain", *arguments.split())
        for pattern in patterns:
            assert re.search(pattern, out), f"explain {arguments}: {pattern} not in\n{out}"
    out = await kubectl.run("explain", "pod.spec.containers.nothing", fails=True)
    assert 'error: field "nothing" does not exist' in out
    out = await kubectl.run("explain", "nothing", fails=True)
    assert 'the server doesn\'t have a resource type "nothing"' in out


async def test_edit_and_create_check_against_the_documents(binary: Path, server: Server, tmp_path: Path):
    kubectl = Kubectl(binary, server, tmp_path)
    assert "service/web created" in await kubectl.run("create", "-f", "-", text=MANIFEST)
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/port: 80$/port: 82/' \"$1\"\n")
    editor.chmod(0o755)
    kubectl.environment["KUBE_EDITOR"] = str(editor)
    assert "service/web edited" in await kubectl.run("edit", "svc", "web")
    assert await kubectl.run("get", "svc", "web", "-o", "jsonpath={.spec.ports[0].port}") == "82"
    wrong = MANIFEST.replace("  selector: {app", "  selctor: {app")
    assert "selctor" in await kubectl.run("apply", "-f", "-", text=wrong, fails=True)
