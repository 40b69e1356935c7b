"""The Python package `kubernetes`, unmodified: typed clients, the dynamic client, watches."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time

import pytest
from kubernetes import client, config, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError

SECONDS = 20
IMAGE = "registry.k8s.io/e2e-test-images/agnhost:2.53"


@pytest.fixture(scope="module")
def api(cluster):
    with config.new_client_from_config(str(cluster.kubeconfig)) as found:
        yield found


@pytest.fixture
def core(api):
    return client.CoreV1Api(api)


@pytest.fixture
def apps(api):
    return client.AppsV1Api(api)


def config_map(name: str, labels: dict[str, str] | None = None, **data: str) -> client.V1ConfigMap:
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels=labels), data=data)


def service(name: str) -> client.V1Service:
    ports = [
        client.V1ServicePort(name="http", port=80, target_port=8080),
        client.V1ServicePort(name="https", port=443, target_port=8443),
    ]
    return client.V1Service(
        metadata=client.V1ObjectMeta(name=name),
        spec=client.V1ServiceSpec(selector={"app": name}, ports=ports),
    )


def deployment(name: str, replicas: int) -> client.V1Deployment:
    labels = {"app": name}
    pod = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(
            termination_grace_period_seconds=0,
            containers=[client.V1Container(name="c", image=IMAGE, args=["netexec"])],
        ),
    )
    return client.V1Deployment(
        metadata=client.V1ObjectMeta(name=name),
        spec=client.V1DeploymentSpec(
            replicas=replicas, selector=client.V1LabelSelector(match_labels=labels), template=pod
        ),
    )


def test_create_read_replace_delete(core, namespace):
    made = core.create_namespaced_service(namespace, service("web"))
    assert made.spec.cluster_ip.startswith("127.")
    assert made.metadata.uid
    found = core.read_namespaced_service("web", namespace)
    found.spec.ports[0].target_port = 9090
    replaced = core.replace_namespaced_service("web", namespace, found)
    assert replaced.spec.ports[0].target_port == 9090
    with pytest.raises(ApiException) as refused:
        core.replace_namespaced_service("web", namespace, found)
    assert (refused.value.status, refused.value.reason) == (409, "Conflict")
    deleted = core.delete_namespaced_service("web", namespace)
    assert deleted.metadata.name == "web"
    with pytest.raises(ApiException) as missing:
        core.read_namespaced_service("web", namespace)
    assert missing.value.status == 404


def test_each_kind_of_patch(api, core, namespace):
    core.create_namespaced_service(namespace, service("web"))
    core.create_namespaced_config_map(namespace, config_map("a", k="v", more="x"))
    # A dict is a strategic merge patch: the list is merged by port.
    patched = core.patch_namespaced_service(
        "web", namespace, {"spec": {"ports": [{"port": 80, "targetPort": 9090}]}}
    )
    assert [port.target_port for port in patched.spec.ports] == [9090, 8443]
    # A list is a JSON patch.
    patched = core.patch_namespaced_config_map(
        "a", namespace, [{"op": "replace", "path": "/data/k", "value": "w"}]
    )
    assert patched.data == {"k": "w", "more": "x"}
    with pytest.raises(ApiException) as refused:
        core.patch_namespaced_config_map("a", namespace, [{"op": "test", "path": "/data/k", "value": "v"}])
    assert refused.value.status == 422
    patched = core.patch_namespaced_config_map(
        "a", namespace, {"data": {"more": None}}, _content_type="application/merge-patch+json"
    )
    assert patched.data == {"k": "w"}


def test_server_side_apply(core, namespace):
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a"},
        "data": {"k": "v"},
    }

    def apply(body, manager, **options):
        return core.patch_namespaced_config_map(
            "a",
            namespace,
            body,
            field_manager=manager,
            _content_type="application/apply-patch+yaml",
            **options,
        )

    assert apply(document, "one").data == {"k": "v"}
    changed = {**document, "data": {"k": "w", "more": "x"}}
    with pytest.raises(ApiException) as refused:
        apply(changed, "two")
    assert refused.value.status == 409
    assert (
        json.loads(refused.value.body)["message"]
        == 'Apply failed with 1 conflict: conflict with "one": .data.k'
    )
    applied = apply(changed, "two", force=True)
    assert applied.data == {"k": "w", "more": "x"}
    assert [entry.manager for entry in applied.metadata.managed_fields] == ["two"]
    # What a manager no longer applies is removed.
    assert apply({**document, "data": {"k": "w"}}, "two").data == {"k": "w"}


def test_watch_goes_on_where_it_was(core, namespace):
    core.create_namespaced_config_map(namespace, config_map("first"))
    listed = core.list_namespaced_config_map(namespace)
    seen = []
    stream = watch.Watch()
    core.create_namespaced_config_map(namespace, config_map("a", {"seen": "yes"}))
    for event in stream.stream(
        core.list_namespaced_config_map,
        namespace,
        label_selector="seen=yes",
        resource_version=listed.metadata.resource_version,
        timeout_seconds=SECONDS,
    ):
        seen.append((event["type"], event["object"].metadata.name))
        last = event["object"].metadata.resource_version
        if event["type"] == "ADDED":
            core.patch_namespaced_config_map("a", namespace, {"data": {"k": "v"}})
        else:
            break
    assert seen == [("ADDED", "a"), ("MODIFIED", "a")]
    core.delete_namespaced_config_map("a", namespace)
    stream = watch.Watch()
    for event in stream.stream(
        core.list_namespaced_config_map, namespace, resource_version=last, timeout_seconds=SECONDS
    ):
        if event["object"].metadata.name == "a":
            assert event["type"] == "DELETED"
            break
    else:
        pytest.fail("the deletion was not seen")


def test_watch_ends_by_its_timeout(core, namespace):
    begun = time.monotonic()
    assert [*watch.Watch().stream(core.list_namespaced_secret, namespace, timeout_seconds=1)] == []
    assert 0.5 < time.monotonic() - begun < SECONDS


def test_lists_in_chunks_by_label_and_field(core, namespace):
    for number in range(5):
        core.create_namespaced_secret(
            namespace,
            client.V1Secret(metadata=client.V1ObjectMeta(name=f"s{number}", labels={"odd": str(number % 2)})),
        )
    names, token = [], None
    while token != "":
        page = core.list_namespaced_secret(namespace, limit=2, _continue=token)
        assert len(page.items) <= 2
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue or ""
    assert names == ["s0", "s1", "s2", "s3", "s4"]
    found = core.list_namespaced_secret(namespace, label_selector="odd=1").items
    assert [item.metadata.name for item in found] == ["s1", "s3"]
    found = core.list_namespaced_secret(namespace, field_selector="metadata.name=s2").items
    assert [item.metadata.name for item in found] == ["s2"]


def test_delete_with_preconditions_and_propagation(core, apps, namespace):
    made = apps.create_namespaced_deployment(namespace, deployment("web", 1))
    wait_available(apps, namespace, "web")
    wrong = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="other"))
    with pytest.raises(ApiException) as refused:
        apps.delete_namespaced_deployment("web", namespace, body=wrong)
    assert refused.value.status == 409
    right = client.V1DeleteOptions(
        preconditions=client.V1Preconditions(uid=made.metadata.uid), propagation_policy="Foreground"
    )
    apps.delete_namespaced_deployment("web", namespace, body=right)

    def gone():
        return not (
            apps.list_namespaced_deployment(namespace).items
            + apps.list_namespaced_replica_set(namespace).items
            + core.list_namespaced_pod(namespace).items
        )

    until(gone, "the Deployment and all that it owned are gone")


def test_delete_of_a_collection(core, namespace):
    for name in ("a", "b", "c"):
        core.create_namespaced_secret(
            namespace,
            client.V1Secret(metadata=client.V1ObjectMeta(name=name, labels={"kept": str(name == "c")})),
        )
    core.delete_collection_namespaced_secret(namespace, label_selector="kept=False")
    assert [item.metadata.name for item in core.list_namespaced_secret(namespace).items] == ["c"]


def test_scale_and_status(core, apps, namespace):
    apps.create_namespaced_deployment(namespace, deployment("web", 1))
    wait_available(apps, namespace, "web")
    scale = apps.read_namespaced_deployment_scale("web", namespace)
    assert (scale.spec.replicas, scale.status.selector) == (1, "app=web")
    apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 2}})
    until(lambda: apps.read_namespaced_deployment("web", namespace).status.ready_replicas == 2, "2 are Ready")
    scale = apps.read_namespaced_deployment_scale("web", namespace)
    scale.spec.replicas = 0
    assert apps.replace_namespaced_deployment_scale("web", namespace, scale).spec.replicas == 0
    core.create_namespaced_service(namespace, service("web"))
    condition = {
        "type": "Fine",
        "status": "True",
        "reason": "Tested",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    patched = core.patch_namespaced_service_status(
        "web", namespace, {"spec": {"type": "NodePort"}, "status": {"conditions": [condition]}}
    )
    assert patched.status.conditions[0].reason == "Tested"
    assert patched.spec.type == "ClusterIP"


def test_events(core, apps, namespace):
    apps.create_namespaced_deployment(namespace, deployment("web", 1))
    wait_available(apps, namespace, "web")
    (pod,) = core.list_namespaced_pod(namespace).items
    found = core.list_namespaced_event(
        namespace, field_selector=f"involvedObject.name={pod.metadata.name}"
    ).items
    assert "Scheduled" in {event.reason for event in found}


def test_events_of_their_own_group(api, core, namespace):
    event = client.EventsV1Event(
        metadata=client.V1ObjectMeta(name="told"),
        event_time=dt.datetime.now(dt.UTC),
        regarding=client.V1ObjectReference(kind="Pod", name="web", namespace=namespace),
        type="Normal",
        reason="Told",
        action="Tell",
        note="with words",
        reporting_controller="example.com/test",
        reporting_instance="test-1",
    )
    events = client.EventsV1Api(api)
    events.create_namespaced_event(namespace, event)
    (found,) = events.list_namespaced_event(namespace).items
    assert (found.reason, found.note, found.regarding.name) == ("Told", "with words", "web")
    older = core.read_namespaced_event("told", namespace)
    assert (older.message, older.involved_object.name) == ("with words", "web")


def test_who_may_do_what(api, namespace):
    attributes = client.V1ResourceAttributes(namespace=namespace, verb="create", resource="pods")
    review = client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
    )
    authorization = client.AuthorizationV1Api(api)
    assert authorization.create_self_subject_access_review(review).status.allowed
    rules = authorization.create_self_subject_rules_review(
        client.V1SelfSubjectRulesReview(spec=client.V1SelfSubjectRulesReviewSpec(namespace=namespace))
    )
    assert rules.status.resource_rules[0].verbs == ["*"]
    me = client.AuthenticationV1Api(api).create_self_subject_review(client.V1SelfSubjectReview())
    assert me.status.user_info.username


def test_version_and_groups(api):
    assert client.VersionApi(api).get_code().git_version.startswith("v1.")
    groups = client.ApisApi(api).get_api_versions().groups
    assert {"apps", "networking.k8s.io"} <= {group.name for group in groups}


def test_create_from_yaml(api, core, apps, namespace, tmp_path):
    file = tmp_path / "web.yaml"
    file.write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n"
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"
    )
    utils.create_from_yaml(api, str(file), namespace=namespace)
    assert core.read_namespaced_service("web", namespace).spec.ports[0].target_port == 80


def test_dynamic_client(api, namespace):
    dynamic = DynamicClient(api)
    maps = dynamic.resources.get(api_version="v1", kind="ConfigMap")
    deployments = dynamic.resources.get(api_version="apps/v1", kind="Deployment")
    assert deployments.subresources["scale"]
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
    made = maps.create(body=body, namespace=namespace)
    assert made.data.k == "v"
    for content_type in ("application/strategic-merge-patch+json", "application/merge-patch+json"):
        body["data"] = {"k": content_type}
        patched = maps.patch(body=body, namespace=namespace, content_type=content_type)
        assert patched.data.k == content_type
    body["data"] = {"k": "mine", "applied": "yes"}
    with pytest.raises(ConflictError):
        maps.server_side_apply(body=body, namespace=namespace, field_manager="applier")
    applied = maps.server_side_apply(
        body=body, namespace=namespace, field_manager="applier", force_conflicts=True
    )
    assert applied.data.applied == "yes"
    replaced = maps.replace(body={**body, "data": {"only": "this"}}, namespace=namespace)
    assert replaced.data.to_dict() == {"only": "this"}
    assert "a" in [item.metadata.name for item in maps.get(namespace=namespace).items]
    threading.Timer(0.1, lambda: maps.delete(name="a", namespace=namespace)).start()
    for event in maps.watch(namespace=namespace, name="a", timeout=SECONDS):
        if event["type"] == "DELETED":
            break
    else:
        pytest.fail("the deletion was not seen")
    with pytest.raises(NotFoundError):
        maps.get(name="a", namespace=namespace)


def wait_available(apps, namespace: str, name: str) -> None:
    for event in watch.Watch().stream(
        apps.list_namespaced_deployment,
        namespace,
        field_selector=f"metadata.name={name}",
        timeout_seconds=SECONDS,
    ):
        found = event["object"]
        if found.status.available_replicas == found.spec.replicas:
            return
    pytest.fail(f"{name} did not become available")


def until(holds, what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"still not so: {what}"
        time.sleep(0.05)
