"""The Python package `kubernetes_asyncio`, unmodified: typed clients, the dynamic client, watches."""

from __future__ import annotations

import asyncio

import pytest
from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.client.exceptions import ApiException
from kubernetes_asyncio.dynamic import DynamicClient

SECONDS = 20
IMAGE = "registry.k8s.io/e2e-test-images/agnhost:2.53"


@pytest.fixture
async def api(cluster):
    found = await config.new_client_from_config(str(cluster.kubeconfig))
    async with found:
        yield found


@pytest.fixture
def core(api):
    return client.CoreV1Api(api)


@pytest.fixture
def apps(api):
    return client.AppsV1Api(api)


def config_map(name: str, labels: dict[str, str] | None = None, **data: str):
    return {"metadata": {"name": name, "labels": labels or {}}, "data": data}


def service(name: str):
    ports = [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "https", "port": 443}]
    return {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports}}


def deployment(name: str, replicas: int):
    labels = {"app": name}
    container = {"name": "c", "image": IMAGE, "args": ["netexec"]}
    return {
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
            },
        },
    }


async def test_create_read_replace_delete(core, namespace):
    made = await core.create_namespaced_service(namespace, service("web"))
    assert made.spec.cluster_ip.startswith("127.")
    found = await core.read_namespaced_service("web", namespace)
    found.spec.ports[0].target_port = 9090
    replaced = await core.replace_namespaced_service("web", namespace, found)
    assert replaced.spec.ports[0].target_port == 9090
    with pytest.raises(ApiException) as refused:
        await core.replace_namespaced_service("web", namespace, found)
    assert refused.value.status == 409
    deleted = await core.delete_namespaced_service("web", namespace)
    assert deleted.metadata.name == "web"
    with pytest.raises(ApiException) as missing:
        await core.read_namespaced_service("web", namespace)
    assert missing.value.status == 404


async def test_each_kind_of_patch(core, namespace):
    await core.create_namespaced_service(namespace, service("web"))
    await core.create_namespaced_config_map(namespace, config_map("a", k="v", more="x"))
    patched = await core.patch_namespaced_service(
        "web",
        namespace,
        {"spec": {"ports": [{"port": 80, "targetPort": 9090}]}},
        _content_type="application/strategic-merge-patch+json",
    )
    assert [port.target_port for port in patched.spec.ports] == [9090, 443]
    patched = await core.patch_namespaced_config_map(
        "a",
        namespace,
        [{"op": "replace", "path": "/data/k", "value": "w"}],
        _content_type="application/json-patch+json",
    )
    assert patched.data == {"k": "w", "more": "x"}
    patched = await core.patch_namespaced_config_map(
        "a", namespace, {"data": {"more": None}}, _content_type="application/merge-patch+json"
    )
    assert patched.data == {"k": "w"}


async def test_server_side_apply(core, namespace):
    async def apply(manager, data, **options):
        return await core.patch_namespaced_config_map(
            "a",
            namespace,
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data},
            field_manager=manager,
            _content_type="application/apply-patch+yaml",
            **options,
        )

    assert (await apply("one", {"k": "v"})).data == {"k": "v"}
    with pytest.raises(ApiException) as refused:
        await apply("two", {"k": "w", "more": "x"})
    assert refused.value.status == 409
    applied = await apply("two", {"k": "w", "more": "x"}, force=True)
    assert applied.data == {"k": "w", "more": "x"}
    assert (await apply("two", {"k": "w"})).data == {"k": "w"}


async def test_watch_goes_on_where_it_was(core, namespace):
    listed = await core.list_namespaced_secret(namespace)
    await core.create_namespaced_secret(namespace, {"metadata": {"name": "a"}})
    seen = []
    async with watch.Watch() as stream:
        async for event in stream.stream(
            core.list_namespaced_secret,
            namespace,
            resource_version=listed.metadata.resource_version,
            timeout_seconds=SECONDS,
        ):
            seen.append((event["type"], event["object"].metadata.name))
            last = event["object"].metadata.resource_version
            if len(seen) == 2:
                break
            await core.patch_namespaced_secret("a", namespace, {"metadata": {"labels": {"x": "y"}}})
    assert seen == [("ADDED", "a"), ("MODIFIED", "a")]
    await core.delete_namespaced_secret("a", namespace)
    async with watch.Watch() as stream:
        async for event in stream.stream(
            core.list_namespaced_secret, namespace, resource_version=last, timeout_seconds=SECONDS
        ):
            assert event["type"] == "DELETED"
            break


async def test_lists_in_chunks_by_label_and_field(core, namespace):
    for number in range(5):
        labels = {"odd": str(number % 2)}
        await core.create_namespaced_secret(namespace, {"metadata": {"name": f"s{number}", "labels": labels}})
    names, token = [], None
    while token != "":
        page = await core.list_namespaced_secret(namespace, limit=2, _continue=token)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue or ""
    assert names == ["s0", "s1", "s2", "s3", "s4"]
    found = await core.list_namespaced_secret(namespace, label_selector="odd=1")
    assert [item.metadata.name for item in found.items] == ["s1", "s3"]
    found = await core.list_namespaced_secret(namespace, field_selector="metadata.name=s2")
    assert [item.metadata.name for item in found.items] == ["s2"]


async def test_scale_status_events_and_deletion(core, apps, namespace):
    made = await apps.create_namespaced_deployment(namespace, deployment("web", 1))
    await available(apps, namespace, "web")
    scale = await apps.read_namespaced_deployment_scale("web", namespace)
    scale.spec.replicas = 2
    await apps.replace_namespaced_deployment_scale("web", namespace, scale)
    await available(apps, namespace, "web", 2)
    events = await core.list_namespaced_event(namespace, field_selector="involvedObject.kind=Pod")
    assert "Scheduled" in {event.reason for event in events.items}
    options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="other"))
    with pytest.raises(ApiException) as refused:
        await apps.delete_namespaced_deployment("web", namespace, body=options)
    assert refused.value.status == 409
    options.preconditions.uid = made.metadata.uid
    options.propagation_policy = "Foreground"
    await apps.delete_namespaced_deployment("web", namespace, body=options)
    owned = (core.list_namespaced_pod, apps.list_namespaced_replica_set, apps.list_namespaced_deployment)
    for listed in owned:
        await emptied(listed, namespace)


async def test_who_may_do_what(api, namespace):
    attributes = client.V1ResourceAttributes(namespace=namespace, verb="create", resource="pods")
    spec = client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
    review = await client.AuthorizationV1Api(api).create_self_subject_access_review(
        client.V1SelfSubjectAccessReview(spec=spec)
    )
    assert review.status.allowed


async def test_dynamic_client(api, namespace):
    dynamic = await DynamicClient(api)
    maps = await dynamic.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
    assert (await maps.create(body=body, namespace=namespace)).data.k == "v"
    body["data"] = {"k": "w"}
    patched = await maps.patch(body=body, namespace=namespace, content_type="application/merge-patch+json")
    assert patched.data.k == "w"
    body["data"] = {"applied": "yes"}
    applied = await maps.server_side_apply(body=body, namespace=namespace, field_manager="applier")
    assert applied.data.to_dict() == {"k": "w", "applied": "yes"}
    await maps.delete(name="a", namespace=namespace)
    assert "a" not in [item.metadata.name for item in (await maps.get(namespace=namespace)).items]


async def available(apps, namespace: str, name: str, replicas: int = 1) -> None:
    async with asyncio.timeout(SECONDS), watch.Watch() as stream:
        async for event in stream.stream(
            apps.list_namespaced_deployment, namespace, field_selector=f"metadata.name={name}"
        ):
            if event["object"].status.available_replicas == replicas:
                return


async def emptied(list_function, namespace: str) -> None:
    """Wait until a collection has no objects."""
    async with asyncio.timeout(SECONDS), watch.Watch() as stream:
        listed = await list_function(namespace)
        left = {item.metadata.name for item in listed.items}
        if left:
            version = listed.metadata.resource_version
            async for event in stream.stream(list_function, namespace, resource_version=version):
                change = left.discard if event["type"] == "DELETED" else left.add
                change(event["object"].metadata.name)
                if not left:
                    return
