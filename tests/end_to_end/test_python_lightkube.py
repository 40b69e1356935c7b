"""The Python package `lightkube`, unmodified."""

from __future__ import annotations

import itertools
import time

import pytest
from lightkube import ApiError, AsyncClient, Client, KubeConfig
from lightkube.codecs import load_all_yaml
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Namespace, Pod, Secret, Service
from lightkube.types import CascadeType, PatchType

SECONDS = 20
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: registry.k8s.io/e2e-test-images/agnhost:2.53, args: [netexec]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: https, port: 443}]}
"""


@pytest.fixture
def client(cluster, namespace):
    kubeconfig = KubeConfig.from_file(str(cluster.kubeconfig))
    with Client(kubeconfig, namespace=namespace) as found:
        yield found


def config_map(name: str, labels: dict[str, str] | None = None, **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, labels=labels), data=data)


def test_create_get_replace_delete(client):
    made = client.create(config_map("a", k="v"))
    assert made.metadata.uid
    with pytest.raises(ApiError) as refused:
        client.create(config_map("a"))
    assert (refused.value.status.code, refused.value.status.reason) == (409, "AlreadyExists")
    found = client.get(ConfigMap, "a")
    found.data = {"k": "w"}
    assert client.replace(found).data == {"k": "w"}
    with pytest.raises(ApiError) as stale:
        client.replace(found)
    assert stale.value.status.reason == "Conflict"
    assert client.create(config_map("tried"), dry_run=True).metadata.name == "tried"
    client.delete(ConfigMap, "a")
    for name in ("a", "tried"):
        with pytest.raises(ApiError) as missing:
            client.get(ConfigMap, name)
        assert missing.value.status.code == 404


def test_each_kind_of_patch(client):
    client.create(config_map("a", k="v", more="x"))
    assert client.patch(ConfigMap, "a", {"data": {"k": "w"}}).data == {"k": "w", "more": "x"}
    patched = client.patch(ConfigMap, "a", {"data": {"more": None}}, patch_type=PatchType.MERGE)
    assert patched.data == {"k": "w"}
    operations = [{"op": "add", "path": "/data/n", "value": "1"}]
    assert client.patch(ConfigMap, "a", operations, patch_type=PatchType.JSON).data == {"k": "w", "n": "1"}
    labelled = client.set(ConfigMap, "a", labels={"tier": "front"}, annotations={"note": "x"})
    assert labelled.metadata.labels == {"tier": "front"}
    assert client.set(ConfigMap, "a", labels={"tier": None}).metadata.labels in (None, {})


def test_apply(client):
    wanted = config_map("a", k="v")
    wanted.apiVersion, wanted.kind = "v1", "ConfigMap"
    assert client.apply(wanted, field_manager="one").data == {"k": "v"}
    wanted.data = {"k": "w"}
    with pytest.raises(ApiError) as refused:
        client.apply(wanted, field_manager="two")
    assert refused.value.status.reason == "Conflict"
    assert client.apply(wanted, field_manager="two", force=True).data == {"k": "w"}


def test_apply_from_yaml_and_wait(client):
    for item in load_all_yaml(WEB):
        client.apply(item, field_manager="lightkube")
    found = client.wait(Deployment, "web", for_conditions=["Available"])
    assert found.status.readyReplicas == 1
    (pod,) = client.list(Pod, labels={"app": "web"})
    assert client.wait(Pod, pod.metadata.name, for_conditions=["Ready"]).status.podIP
    scale = client.get(Deployment.Scale, "web")
    scale.spec.replicas = 2
    assert client.replace(scale, "web").spec.replicas == 2
    patched = client.patch(Service, "web", {"spec": {"ports": [{"port": 80, "targetPort": 9090}]}})
    assert [port.targetPort for port in patched.spec.ports] == [9090, 443]
    client.delete(Deployment, "web", cascade=CascadeType.FOREGROUND)
    deadline = time.monotonic() + SECONDS
    while [*client.list(Pod), *client.list(Deployment)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_lists_in_chunks_by_label_and_field(client):
    for number in range(5):
        client.create(Secret(metadata=ObjectMeta(name=f"s{number}", labels={"odd": str(number % 2)})))
    assert [item.metadata.name for item in client.list(Secret, chunk_size=2)] == [
        "s0",
        "s1",
        "s2",
        "s3",
        "s4",
    ]
    assert [item.metadata.name for item in client.list(Secret, labels={"odd": "1"})] == ["s1", "s3"]
    found = client.list(Secret, labels={"odd": ("0", "2")}, fields={"metadata.name": "s2"})
    assert [item.metadata.name for item in found] == ["s2"]
    client.deletecollection(Secret)
    assert [*client.list(Secret)] == []


def test_watch(client):
    client.create(Secret(metadata=ObjectMeta(name="before")))
    listed = client.list(Secret)
    assert [item.metadata.name for item in listed] == ["before"]
    client.create(Secret(metadata=ObjectMeta(name="a")))
    client.set(Secret, "a", labels={"x": "y"})
    client.delete(Secret, "a")
    events = client.watch(Secret, resource_version=listed.resourceVersion)
    seen = [(event, item.metadata.name) for event, item in itertools.islice(events, 3)]
    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_cluster_scope(client, namespace):
    assert client.get(Namespace, namespace).status.phase == "Active"
    assert namespace in [item.metadata.name for item in client.list(Namespace)]


async def test_async_client(cluster, namespace):
    kubeconfig = KubeConfig.from_file(str(cluster.kubeconfig))
    async with AsyncClient(kubeconfig, namespace=namespace) as client:
        await client.create(config_map("a", k="v"))
        assert "a" in [item.metadata.name async for item in client.list(ConfigMap)]
        async for event, item in client.watch(ConfigMap, fields={"metadata.name": "a"}):
            if event == "DELETED":
                break
            assert item.data == {"k": "v"}
            await client.delete(ConfigMap, "a")
