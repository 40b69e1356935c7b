import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from emu.api.negotiation import answer_form, parse_bool
from emu.client.kubeconfig import read_kubeconfig
from emu.client.rest import JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, ApiError

from .conftest import Server, pod, serving, within

PODS = "/api/v1/namespaces/default/pods"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


async def call(server: Server, method: str, path: str, **options: Any) -> Any:
    return msgspec.json.decode(await server.client.request(method, path, **options))


async def raw(server: Server, method: str, path: str, **options: Any) -> tuple[int, Any, Mapping[str, str]]:
    """A request as any client may send it."""
    credentials = read_kubeconfig(server.kubeconfig)
    headers = {"Authorization": f"Bearer {credentials.token}", **options.pop("headers", {})}
    context = ssl.create_default_context(cadata=credentials.ca.decode())
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.request(method, credentials.server + path, headers=headers, **options) as response,
    ):
        body = await response.read()
        decoded = msgspec.json.decode(body) if "json" in response.content_type and body else body
        return response.status, decoded, response.headers.copy()


async def test_an_object_lives(server: Server):
    created = await call(server, "POST", PODS, body=pod())
    assert created["metadata"]["uid"]
    assert created["status"]["phase"] == "Pending"
    assert await call(server, "GET", f"{PODS}/web") == created
    patched = await call(
        server,
        "PATCH",
        f"{PODS}/web",
        body={"metadata": {"labels": {"a": "b"}}},
        content_type=STRATEGIC_MERGE_PATCH,
    )
    assert int(patched["metadata"]["resourceVersion"]) > int(created["metadata"]["resourceVersion"])
    listed = await call(server, "GET", PODS, params={"labelSelector": "a in (b)"})
    assert [item["metadata"]["name"] for item in listed["items"]] == ["web"]
    # A Service's or Pod's DELETE answers with the object, as its OpenAPI says.
    assert (await call(server, "DELETE", f"{PODS}/web"))["kind"] == "Pod"
    with pytest.raises(ApiError, match='pods "web" not found'):
        await call(server, "GET", f"{PODS}/web")


async def test_the_api_server_has_endpoints_in_both_forms(server: Server):
    found = await call(server, "GET", "/api/v1/namespaces/default/endpoints/kubernetes")
    (subset,) = found["subsets"]
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    (only,) = (await call(server, "GET", slices))["items"]
    assert [address["ip"] for address in subset["addresses"]] == only["endpoints"][0]["addresses"]
    assert [port["port"] for port in subset["ports"]] == [port["port"] for port in only["ports"]]


async def test_metadata_that_holds_nothing_is_left_out(server: Server):
    empty = {"labels": {}, "annotations": {}, "finalizers": [], "ownerReferences": []}
    created = await call(server, "POST", PODS, body=pod() | {"metadata": {"name": "web", **empty}})
    assert not empty.keys() & created["metadata"].keys()
    for value in ("b", None):
        patched = await call(
            server,
            "PATCH",
            f"{PODS}/web",
            body={"metadata": {"annotations": {"a": value}}},
            content_type=STRATEGIC_MERGE_PATCH,
        )
    assert "annotations" not in patched["metadata"]


async def test_status_and_spec_are_written_apart(server: Server):
    created = await call(server, "POST", PODS, body=pod())
    await call(
        server, "PUT", f"{PODS}/web/status", body={**created, "status": {"phase": "Running"}, "spec": {}}
    )
    now = await call(server, "GET", f"{PODS}/web")
    assert now["status"]["phase"] == "Running"
    assert now["spec"] == created["spec"]
    now["status"] = {}
    now["metadata"]["labels"] = {"a": "b"}
    assert (await call(server, "PUT", f"{PODS}/web", body=now))["status"]["phase"] == "Running"


async def test_a_pod_on_a_node_stays_until_its_kubelet_deletes_it(server: Server):
    await call(server, "POST", PODS, body=pod())
    binding = {"target": {"kind": "Node", "name": "node-1"}}
    await call(server, "POST", f"{PODS}/web/binding", body=binding)
    marked = await call(server, "DELETE", f"{PODS}/web")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    by_node = await call(server, "GET", PODS, params={"fieldSelector": "spec.nodeName=node-1"})
    assert len(by_node["items"]) == 1
    await call(server, "DELETE", f"{PODS}/web", body={"gracePeriodSeconds": 0})
    assert (await call(server, "GET", PODS))["items"] == []


async def test_finalizers_hold_an_object(server: Server):
    document = {"metadata": {"name": "held", "finalizers": ["example.org/hold"]}}
    path = "/api/v1/namespaces/default/configmaps"
    await call(server, "POST", path, body=document)
    await call(server, "DELETE", f"{path}/held")
    assert (await call(server, "GET", f"{path}/held"))["metadata"]["deletionTimestamp"]
    await server.client.request(
        "PATCH",
        f"{path}/held",
        body=[{"op": "remove", "path": "/metadata/finalizers"}],
        content_type=JSON_PATCH,
    )
    with pytest.raises(ApiError, match="not found"):
        await call(server, "GET", f"{path}/held")


async def test_a_namespace_takes_its_content_along(server: Server):
    await call(server, "POST", "/api/v1/namespaces", body={"metadata": {"name": "team"}})
    pods = "/api/v1/namespaces/team/pods"
    await call(server, "POST", pods, body=pod("on-a-node", nodeName="node-1"))
    await call(server, "POST", pods, body=pod("waiting"))
    await call(server, "DELETE", "/api/v1/namespaces/team")
    terminating = await call(server, "GET", "/api/v1/namespaces/team")
    assert terminating["status"]["phase"] == "Terminating"
    with pytest.raises(ApiError, match="because it is being terminated") as refused:
        await call(server, "POST", pods, body=pod())
    assert refused.value.code == 403
    await call(server, "DELETE", f"{pods}/on-a-node", body={"gracePeriodSeconds": 0})
    with pytest.raises(ApiError, match='namespaces "team" not found'):
        await call(server, "GET", "/api/v1/namespaces/team")


@pytest.mark.parametrize(
    ("method", "path", "options", "code", "message"),
    [
        ("GET", "/api/v1/nothing", {}, 404, "could not find the requested resource"),
        ("GET", f"{PODS}/none", {}, 404, 'pods "none" not found'),
        ("POST", "/api/v1/namespaces/none/pods", {"json": pod()}, 404, 'namespaces "none" not found'),
        ("GET", f"{PODS}/web/log", {}, 501, "emu does not serve pods/log yet"),
        ("POST", f"{PODS}/web/eviction", {"json": {}}, 404, 'pods "web" not found'),
        ("GET", f"{PODS}/web/nothing", {}, 404, "could not find the requested resource"),
        ("PUT", PODS, {"json": pod()}, 405, "does not allow this method"),
        ("GET", PODS, {"headers": {"Accept": "text/html"}}, 406, "only the following media types"),
        ("POST", PODS, {"data": b"{"}, 400, "json parse error"),
        ("POST", PODS, {"data": b"[]"}, 400, "cannot unmarshal array"),
        ("POST", PODS, {"data": b"[" * 100_000}, 400, "exceeded max depth"),
        ("POST", PODS, {"json": {"kind": "Service"}}, 400, "cannot be handled as a Pod"),
        ("POST", PODS, {"json": {"metadata": 1}}, 400, "metadata"),
        ("POST", PODS, {"json": {**pod(), "spec": "text"}}, 400, "cannot unmarshal string into field spec"),
        ("POST", PODS, {"data": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "unknown format"),
        (
            "POST",
            PODS,
            {"data": b"k8s\0", "headers": {"Content-Type": "application/vnd.kubernetes.protobuf"}},
            400,
            'no kind "" is known in protobuf',
        ),
        ("POST", PODS, {"data": b"x" * (3 * 1024 * 1024 + 1)}, 413, "limit is 3145728"),
        ("GET", f"{PODS}?labelSelector=a b", {}, 400, "unable to parse requirement"),
        ("GET", f"{PODS}?fieldSelector=spec.bogus=1", {}, 400, "field label not supported"),
        (
            "GET",
            "/api/v1/configmaps?fieldSelector=data.k=1",
            {},
            400,
            '"data.k" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
        ("GET", f"{PODS}?limit=x", {}, 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("GET", f"{PODS}?continue=x", {}, 400, "continue key is not valid"),
        ("GET", PODS, {"headers": {"Authorization": "Bearer wrong"}}, 401, "Unauthorized"),
        ("GET", PODS, {"headers": {"Authorization": "Bearer a.b.c"}}, 401, "Unauthorized"),
        ("GET", PODS, {"headers": {"Host": "rebound.example"}}, 403, 'is not "rebound.example"'),
        ("POST", f"{PODS}?dryRun=Some", {"json": pod()}, 422, 'dryRun: Unsupported value: ["Some"]'),
        ("POST", f"{PODS}?fieldValidation=No", {"json": pod()}, 422, "fieldValidation: Unsupported value"),
        ("POST", f"{PODS}?fieldManager={'m' * 129}", {"json": pod()}, 422, "fieldManager: Too long"),
        ("DELETE", f"{PODS}/web?propagationPolicy=X", {}, 422, "propagationPolicy: Unsupported value"),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {}, 405, "does not allow"),
    ],
)
async def test_refusals(server: Server, method: str, path: str, options: Any, code: int, message: str):
    headers = {"Content-Type": "application/json", **options.pop("headers", {})}
    status, body, _ = await raw(server, method, path, headers=headers, **options)
    assert (status, body["code"], body["kind"]) == (code, code, "Status")
    assert message in body["message"]


async def test_conflicts(server: Server):
    created = await call(server, "POST", PODS, body=pod())
    with pytest.raises(ApiError, match='pods "web" already exists') as refused:
        await call(server, "POST", PODS, body=pod())
    assert refused.value.already_exists
    await call(
        server,
        "PATCH",
        f"{PODS}/web",
        body={"metadata": {"labels": {"a": "b"}}},
        content_type=STRATEGIC_MERGE_PATCH,
    )
    with pytest.raises(ApiError, match="the object has been modified") as refused:
        await call(server, "PUT", f"{PODS}/web", body=created)
    assert refused.value.conflict
    test = [{"op": "test", "path": "/metadata/resourceVersion", "value": "1"}]
    with pytest.raises(ApiError) as refused:
        await call(server, "PATCH", f"{PODS}/web", body=test, content_type=JSON_PATCH)
    assert refused.value.code == 422
    body = {**created, "metadata": {"name": "web", "uid": "x"}}
    with pytest.raises(ApiError, match="Precondition failed: UID in precondition: x") as refused:
        await call(server, "PUT", f"{PODS}/web", body=body)
    assert refused.value.conflict
    with pytest.raises(ApiError, match=r'metadata\.uid: Invalid value: "x": field is immutable') as refused:
        await call(server, "PATCH", f"{PODS}/web", body={"metadata": {"uid": "x"}}, content_type=MERGE_PATCH)
    assert refused.value.code == 422


async def test_dry_run_leaves_nothing(server: Server):
    created = await call(server, "POST", PODS, body=pod(), params={"dryRun": "All"})
    assert created["metadata"]["uid"]
    assert (await call(server, "GET", PODS))["items"] == []


@pytest.mark.parametrize("mode", ["Strict", "Warn", "Ignore"])
async def test_unknown_fields(server: Server, mode: str):
    status, body, headers = await raw(
        server, "POST", f"{PODS}?fieldValidation={mode}", json=pod(foo=1, bar={"x": 1})
    )
    if mode == "Strict":
        assert status == 400
        assert 'strict decoding error: unknown field "spec.foo", unknown field "spec.bar"' in body["message"]
    else:
        assert status == 201
        assert "foo" not in body["spec"]
        assert headers.get("Warning") == (
            '299 - "unknown field \\"spec.foo\\"", 299 - "unknown field \\"spec.bar\\""'
            if mode == "Warn"
            else None
        )


async def test_chunks_of_a_list(server: Server):
    for name in "abcde":
        await call(server, "POST", PODS, body=pod(name))
    names, token = [], ""
    while True:
        params = {"limit": "2", **({"continue": token} if token else {})}
        page = await call(server, "GET", PODS, params=params)
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert names == list("abcde")


async def read_events(server: Server, count: int, **params: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    async with server.client.stream(PODS, {"watch": "1", **params}) as lines:
        async for line in lines:
            events.append(msgspec.json.decode(line))
            if len(events) == count:
                break
    return events


async def test_a_watch_resumes_from_a_version(server: Server):
    first = await call(server, "POST", PODS, body=pod("a"))
    watching = asyncio.create_task(
        read_events(server, 2, resourceVersion=first["metadata"]["resourceVersion"])
    )
    await call(server, "POST", PODS, body=pod("b"))
    await call(server, "DELETE", f"{PODS}/b")
    events = await within(5, watching)
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "b"),
        ("DELETED", "b"),
    ]


async def test_watch_list_ends_its_initial_events_with_a_bookmark(server: Server):
    await call(server, "POST", PODS, body=pod("a"))
    events = await within(
        5,
        read_events(
            server,
            2,
            sendInitialEvents="true",
            resourceVersionMatch="NotOlderThan",
            allowWatchBookmarks="true",
        ),
    )
    assert [event["type"] for event in events] == ["ADDED", "BOOKMARK"]
    assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_watch_ends_after_its_timeout(server: Server):
    assert (
        await within(
            5,
            read_events(server, 9, timeoutSeconds="1", resourceVersion="1", fieldSelector="metadata.name=x"),
        )
        == []
    )


async def test_a_restart_on_the_same_directory_keeps_objects_and_token(tmp_path: Path):
    async with serving(tmp_path) as server:
        created = await call(server, "POST", PODS, body=pod())
        token = read_kubeconfig(server.kubeconfig).token
    async with serving(tmp_path) as server:
        assert await call(server, "GET", f"{PODS}/web") == created
        assert read_kubeconfig(server.kubeconfig).token == token
        assert (tmp_path / "pki" / "ca.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/version", "/version/"])
async def test_open_paths_need_no_token(server: Server, path: str):
    status, _, _ = await raw(server, "GET", path, headers={"Authorization": ""})
    assert status == 200


@pytest.mark.parametrize("version", ["v2", "v2beta1"])
async def test_aggregated_discovery_echoes_its_content_type(server: Server, version: str):
    accept = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json"
    for path in ("/api", "/apis/"):
        _, body, headers = await raw(server, "GET", path, headers={"Accept": accept})
        assert body["kind"] == "APIGroupDiscoveryList"
        assert f"v={version}" in headers["Content-Type"]


async def test_legacy_discovery(server: Server):
    assert (await call(server, "GET", "/api/"))["versions"] == ["v1"]
    groups = {group["name"] for group in (await call(server, "GET", "/apis"))["groups"]}
    assert {"apps", "networking.k8s.io", "discovery.k8s.io", "coordination.k8s.io"} <= groups
    resources = await call(server, "GET", "/apis/apps/v1")
    assert {"deployments", "deployments/scale", "deployments/status"} <= {
        r["name"] for r in resources["resources"]
    }


async def test_a_table_has_the_columns_of_kubectl(server: Server):
    await call(server, "POST", PODS, body=pod())
    _, body, _ = await raw(server, "GET", PODS, headers={"Accept": TABLE})
    assert [column["name"] for column in body["columnDefinitions"]] == [
        "Name",
        "Ready",
        "Status",
        "Restarts",
        "Age",
        "IP",
        "Node",
        "Nominated Node",
        "Readiness Gates",
    ]
    assert body["rows"][0]["cells"][:4] == ["web", "0/1", "Pending", "0"]
    assert body["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


async def test_scale(server: Server):
    deployment = {
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]},
        },
    }
    path = "/apis/apps/v1/namespaces/default/deployments"
    await call(server, "POST", path, body=deployment)
    scale = await call(server, "GET", f"{path}/web/scale")
    assert (scale["spec"], scale["status"]["selector"]) == ({"replicas": 1}, "a=b")
    scale["spec"]["replicas"] = 4
    await call(server, "PUT", f"{path}/web/scale", body=scale)
    assert (await call(server, "GET", f"{path}/web"))["spec"]["replicas"] == 4


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("True", True), ("t", True), ("", True), ("0", False), (None, False)]
)
def test_booleans_are_those_of_go(text: str | None, value: bool):
    assert parse_bool(text) is value


def test_media_types_are_parsed_not_compared():
    assert answer_form("application/json; g=meta.k8s.io ;v=v1;as=Table").table == "v1"
    assert answer_form("application/vnd.kubernetes.protobuf,application/json").table == ""
