"""schemathesis against the served OpenAPI documents over a real connection: whatever is sent, no 5xx.

Each run of the tests tries some of the paths, `make fuzz` all of them and for longer. What fails is printed
as a command of curl.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import random
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emu.api.openapi import documents
from emu.api.resources import RESOURCES
from emu.client.kubeconfig import read_kubeconfig
from emu.client.rest import ApiError

from .conftest import Server, pod

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed"
)

SECONDS = int(os.environ.get("EMU_FUZZ_SECONDS", "0"))
"""How long `make fuzz` works on each document; 0 is the short form of the test suite."""

SHORT = ("--phases", "fuzzing", "--max-examples", "2", "--max-time", "30", "--no-shrink")
LONG = ("--phases", "coverage,fuzzing", "--max-examples", "50", "--max-time", str(SECONDS))

TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]}
JOB_TEMPLATE = {"spec": {**pod()["spec"], "restartPolicy": "Never"}}
WORKLOAD = {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}}
SEEDS: dict[str, dict[str, Any]] = {
    "Pod": {"spec": pod()["spec"]},
    "Service": {"spec": {"ports": [{"port": 80}]}},
    "Event": {"involvedObject": {"namespace": "default"}},
    "Deployment": WORKLOAD,
    "ReplicaSet": WORKLOAD,
    "StatefulSet": WORKLOAD,
    "DaemonSet": WORKLOAD,
    "ReplicationController": {"spec": {"selector": {"a": "b"}, "template": TEMPLATE}},
    "Job": {"spec": {"template": JOB_TEMPLATE}},
    "CronJob": {"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": JOB_TEMPLATE}}}},
    "EndpointSlice": {"addressType": "IPv4", "endpoints": []},
    "NetworkPolicy": {"spec": {"podSelector": {}}},
    "Ingress": {"spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}},
}


async def _seed(server: Server) -> set[str]:
    """Create the object `web` of each kind; gives the kinds that there are then."""
    found = set()
    for resource in RESOURCES:
        prefix = (
            f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
        )
        scope = "/namespaces/default" if resource.namespaced else ""
        document = {"metadata": {"name": "web"}, **SEEDS.get(resource.kind, {})}
        try:
            await server.client.request("POST", f"{prefix}{scope}/{resource.plural}", body=document)
        except ApiError:
            # Reviews and the like have no name, and some kinds need more than one.
            continue
        found.add(resource.kind)
    return found


def _sample() -> str:
    """A pattern of some of the paths: not every machine comes through all in so short a time."""
    paths = msgspec.json.decode(documents.v2_json().body)["paths"]
    return f"^(?:{'|'.join(map(re.escape, random.sample(sorted(paths), 30)))})$"


# One document of v2 holds every path, and is read once.
DOCUMENTS = (
    [f"/openapi/v3/{path}" for path in documents.group_version_paths()] if SECONDS else ["/openapi/v2"]
)


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_no_server_error(server: Server, tmp_path: Path, document: str):
    assert await _seed(server) > SEEDS.keys() & {resource.kind for resource in RESOURCES}
    credentials = read_kubeconfig(server.kubeconfig)
    (tmp_path / "ca.crt").write_bytes(credentials.ca)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{credentials.server}{document}",
        "--header",
        f"Authorization: Bearer {credentials.token}",
        "--tls-verify",
        str(tmp_path / "ca.crt"),
        "--checks",
        "not_a_server_error",
        "--request-timeout",
        "10",
        "--warnings",
        "off",
        *(LONG if SECONDS else (*SHORT, "--include-path-regex", _sample())),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "SCHEMATHESIS_HOOKS": "fuzzing"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(SECONDS + 90):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    assert "Test cases:" in output.decode()
