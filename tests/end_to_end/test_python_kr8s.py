"""The Python package `kr8s`, unmodified: its synchronous and its asynchronous side."""

from __future__ import annotations

import threading

import kr8s
import kr8s.asyncio
import pytest
from kr8s.asyncio.objects import ConfigMap as AsyncConfigMap
from kr8s.objects import ConfigMap, Deployment, Pod, Secret, Service

SECONDS = 20
WEB = {
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "c",
                        "image": "registry.k8s.io/e2e-test-images/agnhost:2.53",
                        "args": ["netexec"],
                    }
                ],
            },
        },
    },
}


@pytest.fixture
def api(cluster, namespace):
    return kr8s.api(kubeconfig=str(cluster.kubeconfig), namespace=namespace)


def config_map(api, name: str, **data: str) -> ConfigMap:
    document = {"metadata": {"name": name, "namespace": api.namespace}, "data": data}
    return ConfigMap(document, api=api)


def test_create_get_patch_delete(api):
    made = config_map(api, "a", k="v")
    assert not made.exists()
    made.create()
    assert made.exists()
    assert made.metadata.uid
    made.patch({"data": {"k": "w", "more": "x"}})
    assert made.data == {"k": "w", "more": "x"}
    made.patch([{"op": "remove", "path": "/data/more"}], type="json")
    found = ConfigMap.get("a", api=api)
    assert found.data == {"k": "w"}
    with pytest.raises(kr8s.ServerError):
        config_map(api, "a").create()
    found.delete()
    found.wait("delete", timeout=SECONDS)
    assert not made.exists()
    with pytest.raises(kr8s.NotFoundError):
        ConfigMap.get("a", api=api)


def test_label_and_annotate(api):
    made = config_map(api, "a")
    made.create()
    made.label({"tier": "front", "app": "x"})
    made.annotate({"note": "with words"})
    made.refresh()
    assert made.labels == {"tier": "front", "app": "x"}
    assert made.annotations == {"note": "with words"}
    made.remove_label("app")
    assert made.labels == {"tier": "front"}
    assert [item.name for item in api.get("configmaps", label_selector={"tier": "front"})] == ["a"]
    assert [item.name for item in api.get("cm", field_selector="metadata.name=a")] == ["a"]


def test_scale_and_wait(api):
    web = Deployment({**WEB, "metadata": {"name": "web", "namespace": api.namespace}}, api=api)
    web.create()
    web.wait("condition=Available", timeout=SECONDS)
    web.scale(2)
    web.wait("jsonpath='{.status.readyReplicas}'=2", timeout=SECONDS)
    assert web.replicas == 2
    pods = web.pods()
    assert len(pods) == 2
    for pod in pods:
        pod.wait(["condition=Ready", "condition=ContainersReady"], mode="all", timeout=SECONDS)
        assert pod.ready()
    web.delete(propagation_policy="Foreground")
    web.wait("delete", timeout=SECONDS)
    assert [*Pod.list(namespace=api.namespace, api=api)] == []


def test_services(api):
    document = {
        "metadata": {"name": "web", "namespace": api.namespace},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    made = Service(document, api=api)
    made.create()
    assert made.raw.spec.clusterIP.startswith("127.")
    assert made.ready_pods() == []


def test_watch(api):
    made = config_map(api, "a", k="v")
    made.create()
    threading.Timer(0.2, made.delete).start()
    seen = []
    for event, item in api.watch("configmaps", namespace=api.namespace, field_selector="metadata.name=a"):
        seen.append((event, item.name))
        if event == "DELETED":
            break
    assert seen[0] == ("ADDED", "a")
    assert seen[-1] == ("DELETED", "a")


def test_discovery_and_identity(api):
    assert api.version()["gitVersion"].startswith("v1.")
    names = {resource["name"] for resource in api.api_resources()}
    assert {"pods", "deployments", "networkpolicies"} <= names
    assert "apps/v1" in [*api.api_versions()]
    assert api.whoami()
    nodes = [*api.get("nodes")]
    assert [node.name for node in nodes] == ["node-1", "node-2"]


def test_lists_every_page(api):
    for number in range(3):
        Secret({"metadata": {"name": f"s{number}", "namespace": api.namespace}}, api=api).create()
    assert [item.name for item in api.get("secrets")] == ["s0", "s1", "s2"]


async def test_asynchronous(cluster, namespace):
    api = await kr8s.asyncio.api(kubeconfig=str(cluster.kubeconfig), namespace=namespace)
    document = {"metadata": {"name": "a", "namespace": namespace}, "data": {"k": "v"}}
    made = await AsyncConfigMap(document, api=api)
    await made.create()
    await made.patch({"data": {"k": "w"}})
    assert (await AsyncConfigMap.get("a", api=api)).data == {"k": "w"}
    assert "a" in [item.name async for item in api.get("configmaps")]
    await made.delete()
    await made.wait("delete", timeout=SECONDS)
    assert not await made.exists()
