"""The OpenAPI documents: what they hold, how they are served, and what kubectl makes of them."""

from __future__ import annotations

import gzip
import ssl
import struct
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec
import pytest
from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV30SpecValidator

from emu.api.discovery import answer as discovered
from emu.api.errors import NoSuchPathError, NotAcceptableError
from emu.api.openapi import documents, gnostic, serving
from emu.api.resources import RESOURCES
from emu.client.kubeconfig import read_kubeconfig

from .conftest import Server

Document = dict[str, Any]
METHODS = ("get", "put", "post", "delete", "patch")
NOW = 1_000_000_000.0


def v3(path: str) -> Document:
    document: Document = msgspec.json.decode(documents.v3(path).body)
    return document


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


# --- what they hold ---


@pytest.mark.parametrize("path", documents.group_version_paths())
def test_each_document_is_valid(path: str):
    document = v3(path)
    OpenAPIV30SpecValidator(document).validate()
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))


def test_the_document_of_v2_is_valid():
    OpenAPIV2SpecValidator(msgspec.json.decode(documents.v2_json().body)).validate()


VERBS = {
    "list": ("get", "list"),
    "create": ("post", "post"),
    "deletecollection": ("delete", "deletecollection"),
    "get": ("get", "get"),
    "update": ("put", "put"),
    "patch": ("patch", "patch"),
    "delete": ("delete", "delete"),
}


@pytest.mark.parametrize("path", documents.group_version_paths())
def test_each_verb_of_discovery_has_its_operation(path: str):
    found, _ = discovered(f"/{path}", "") or ({}, "")
    paths = v3(path)["paths"]
    expected = {}
    for resource in found["resources"]:
        plural, _, subresource = resource["name"].partition("/")
        scope = f"/{path}/namespaces/{{namespace}}" if resource["namespaced"] else f"/{path}"
        for verb in resource["verbs"]:
            if verb == "watch":
                continue
            method, action = VERBS[verb]
            many = not subresource and verb in ("list", "create", "deletecollection")
            url = f"{scope}/{plural}" if many else f"{scope}/{plural}/{{name}}"
            expected[f"{url}/{subresource}" if subresource else url, method] = action
            if verb == "list" and resource["namespaced"]:
                expected[f"/{path}/{plural}", "get"] = "list"
    given = {
        (url, method): found["x-kubernetes-action"] for url, method, found in operations({"paths": paths})
    }
    assert given == expected


@pytest.mark.parametrize(
    ("path", "url", "method", "operation_id", "kind", "answer"),
    [
        ("api/v1", "/api/v1/pods", "get", "listCoreV1PodForAllNamespaces", "Pod", "PodList"),
        (
            "api/v1",
            "/api/v1/namespaces/{namespace}/pods",
            "post",
            "createCoreV1NamespacedPod",
            "Pod",
            "Pod",
        ),
        (
            "api/v1",
            "/api/v1/namespaces/{namespace}/pods",
            "delete",
            "deleteCoreV1CollectionNamespacedPod",
            "Pod",
            "Status",
        ),
        ("api/v1", "/api/v1/nodes/{name}", "get", "readCoreV1Node", "Node", "Node"),
        (
            "api/v1",
            "/api/v1/namespaces/{namespace}/configmaps/{name}",
            "delete",
            "deleteCoreV1NamespacedConfigMap",
            "ConfigMap",
            "Status",
        ),
        (
            "api/v1",
            "/api/v1/namespaces/{namespace}/services/{name}",
            "delete",
            "deleteCoreV1NamespacedService",
            "Service",
            "Service",
        ),
        (
            "apis/apps/v1",
            "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale",
            "patch",
            "patchAppsV1NamespacedDeploymentScale",
            "Scale",
            "Scale",
        ),
        (
            "apis/networking.k8s.io/v1",
            "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/{name}",
            "put",
            "replaceNetworkingV1NamespacedNetworkPolicy",
            "NetworkPolicy",
            "NetworkPolicy",
        ),
    ],
)
def test_operations_are_named_as_published(
    path: str, url: str, method: str, operation_id: str, kind: str, answer: str
):
    operation = v3(path)["paths"][url][method]
    assert operation["operationId"] == operation_id
    assert operation["x-kubernetes-group-version-kind"]["kind"] == kind
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    assert schema.rpartition(".")[2] == answer
    assert operation["responses"]["401"]


@pytest.mark.parametrize(
    ("method", "url", "parameters"),
    [
        (
            "get",
            "/api/v1/pods",
            {"watch", "allowWatchBookmarks", "sendInitialEvents", "resourceVersionMatch"},
        ),
        ("get", "/api/v1/pods", {"limit", "continue", "labelSelector", "fieldSelector", "timeoutSeconds"}),
        ("post", "/api/v1/namespaces/{namespace}/pods", {"dryRun", "fieldManager", "fieldValidation"}),
        ("patch", "/api/v1/nodes/{name}", {"dryRun", "fieldManager", "fieldValidation", "force"}),
        ("delete", "/api/v1/nodes/{name}", {"dryRun", "gracePeriodSeconds", "propagationPolicy"}),
        ("delete", "/api/v1/nodes", {"labelSelector", "propagationPolicy"}),
    ],
)
def test_query_parameters(method: str, url: str, parameters: set[str]):
    item = v3("api/v1")["paths"][url]
    assert parameters <= {parameter["name"] for parameter in item[method]["parameters"]}
    in_path = {parameter["name"] for parameter in item["parameters"] if parameter["in"] == "path"}
    assert in_path == {name for name in ("namespace", "name") if f"{{{name}}}" in url}


def test_schemas_say_what_explain_shows():
    schemas = v3("api/v1")["components"]["schemas"]
    port = schemas["io.k8s.api.core.v1.ServicePort"]
    assert port["required"] == ["port"]
    assert port["properties"]["protocol"]["default"] == "TCP"
    assert "port" in port["properties"]["port"]["description"]
    ports = schemas["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"]
    assert ports["x-kubernetes-patch-merge-key"] == "port"
    assert ports["x-kubernetes-list-map-keys"] == ["port", "protocol"]
    kinds = schemas["io.k8s.api.core.v1.PodList"]["x-kubernetes-group-version-kind"]
    assert kinds == [{"group": "", "version": "v1", "kind": "PodList"}]
    number_or_name = schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]
    assert number_or_name["format"] == "int-or-string"
    assert {choice["type"] for choice in number_or_name["oneOf"]} == {"integer", "string"}


def test_v2_says_the_same_in_its_own_form():
    document = msgspec.json.decode(documents.v2_json().body)
    patch = document["paths"]["/api/v1/namespaces/{namespace}/services/{name}"]["patch"]
    assert "application/strategic-merge-patch+json" in patch["consumes"]
    assert [parameter["in"] for parameter in patch["parameters"]][:2] == ["body", "query"]
    definitions = document["definitions"]
    ports = definitions["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"]
    assert ports["items"] == {"$ref": "#/definitions/io.k8s.api.core.v1.ServicePort"}
    target = definitions["io.k8s.api.core.v1.ServicePort"]["properties"]["targetPort"]
    assert target["$ref"] == "#/definitions/io.k8s.apimachinery.pkg.util.intstr.IntOrString"
    assert target["description"]
    assert definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["type"] == "string"
    assert len(document["paths"]) == sum(len(v3(path)["paths"]) for path in documents.group_version_paths())


def fields(message: bytes) -> list[tuple[int, Any]]:
    """The fields of a protobuf message: numbers with integers or bytes."""
    found: list[tuple[int, Any]] = []
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(message):
        key = varint()
        if key & 7 == 0:
            found.append((key >> 3, varint()))
        elif key & 7 == 1:
            found.append((key >> 3, struct.unpack_from("<d", message, position)[0]))
            position += 8
        else:
            assert key & 7 == 2, key
            size = varint()
            found.append((key >> 3, message[position : position + size]))
            position += size
    assert position == len(message)
    return found


def named(message: bytes, number: int) -> dict[str, bytes]:
    """A map, as repeated messages of a name and a value."""
    pairs = (dict(fields(value)) for key, value in fields(message) if key == number)
    return {pair[1].decode(): pair[2] for pair in pairs}


def test_protobuf_has_the_field_numbers_of_gnostic():
    document = dict(fields(documents.v2_protobuf().body))
    assert document[1] == b"2.0"
    item = dict(fields(named(document[8], 2)["/api/v1/namespaces/{namespace}/services/{name}"]))
    operation = fields(item[8])
    assert (5, b"patchCoreV1NamespacedService") in operation
    extensions = {
        dict(fields(value))[1].decode(): dict(fields(dict(fields(value))[2]))[2]
        for number, value in operation
        if number == 13
    }
    kind = msgspec.json.decode(extensions["x-kubernetes-group-version-kind"])
    assert kind == {"group": "", "version": "v1", "kind": "Service"}
    # ParametersItem.parameter, Parameter.non_body_parameter, its query_parameter_sub_schema, name.
    names = []
    for number, value in operation:
        parameter = dict(fields(dict(fields(value))[1])) if number == 8 else {}
        if 2 in parameter:
            names.append(dict(fields(dict(fields(parameter[2]))[3]))[4])
    assert b"fieldValidation" in names
    definition = dict(fields(named(document[9], 1)["io.k8s.api.core.v1.ServiceSpec"]))
    ports = fields(named(definition[25], 1)["ports"])
    assert (22, b"\x0a\x05array") in ports
    items = next(value for number, value in ports if number == 23)
    assert dict(fields(dict(fields(items))[1]))[1] == b"#/definitions/io.k8s.api.core.v1.ServicePort"


def test_protobuf_keeps_the_constraints_of_custom_resources():
    schema = {"maximum": 65535, "minItems": 1, "pattern": "a", "enum": ["a", 5], "type": "string"}
    definition = named(dict(fields(gnostic.encode({"definitions": {"a": schema}})))[9], 1)["a"]
    values = [(20, b'\x12\x03"a"'), (20, b"\x12\x015")]
    assert fields(definition) == [(7, 65535.0), (15, 1), (13, b"a"), *values, (22, b"\x0a\x06string")]


def test_protobuf_refuses_what_it_would_lose():
    with pytest.raises(KeyError, match="deprecated"):
        gnostic.encode({"paths": {"/": {"get": {"deprecated": True}}}})


# --- how they are served ---


def given(path: str, *, query: Mapping[str, str] | None = None, **headers: str) -> serving.OpenApiAnswer:
    return serving.answer(
        path, query or {}, {key.replace("_", "-"): value for key, value in headers.items()}, NOW
    )


def test_the_index_leads_to_each_document():
    index = msgspec.json.decode(given("/openapi/v3").body)["paths"]
    assert set(index) == {f"apis/{r.group}/{r.version}" if r.group else f"api/{r.version}" for r in RESOURCES}
    for path, entry in index.items():
        url, _, digest = entry["serverRelativeURL"].partition("?hash=")
        assert url == f"/openapi/v3/{path}"
        found = given(url, query={"hash": digest})
        assert found.status == 200
        assert found.headers["ETag"] == f'"{digest}"'
        assert found.headers["Cache-Control"] == "public, immutable"
        assert 364 < (parsedate_to_datetime(found.headers["Expires"]).timestamp() - NOW) / 86400 < 366


def test_an_old_hash_leads_to_the_new_one():
    found = given("/openapi/v3/api/v1", query={"hash": "OLD"})
    assert found.status == 301
    assert found.headers["Location"] == f"/openapi/v3/api/v1?hash={documents.v3('api/v1').etag}"
    assert "Expires" not in found.headers


@pytest.mark.parametrize(
    ("condition", "status"),
    [('"{}"', 304), ('W/"{}"', 304), ('"other", "{}"', 304), ("*", 304), ('"other"', 200), ("", 200)],
)
@pytest.mark.parametrize("path", ["/openapi/v3", "/openapi/v3/apis/apps/v1", "/openapi/v2"])
def test_if_none_match(path: str, condition: str, status: int):
    etag = given(path).headers["ETag"].strip('"')
    found = given(path, If_None_Match=condition.format(etag))
    assert (found.status, bool(found.body)) == (status, status == 200)


V2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
V2_NOW = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
V3 = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"


@pytest.mark.parametrize(
    ("path", "accept", "content_type"),
    [
        ("/openapi/v2", "", "application/json"),
        ("/openapi/v2", "application/json", "application/json"),
        ("/openapi/v2", V2, V2_NOW),
        ("/openapi/v2", V2_NOW, V2_NOW),
        ("/openapi/v2", f"{V2},*/*", V2_NOW),
        ("/openapi/v2", f"application/json,{V2}", "application/json"),
        ("/openapi/v2", "text/html", None),
        ("/openapi/v3", "", "application/json"),
        ("/openapi/v3/api/v1", "application/json", "application/json"),
        ("/openapi/v3/api/v1", f"{V3},application/json", "application/json"),
        ("/openapi/v3/api/v1", V3, None),
        ("/openapi/v3/api/v1", V2, None),
    ],
)
def test_content_types(path: str, accept: str, content_type: str | None):
    if content_type is None:
        with pytest.raises(NotAcceptableError):
            given(path, Accept=accept)
    else:
        assert given(path, Accept=accept).headers["Content-Type"] == content_type


@pytest.mark.parametrize("path", ["/openapi/v1", "/openapi/", "/openapi/v3/api/v9", "/openapi/v2/api/v1"])
def test_other_paths_are_not_found(path: str):
    with pytest.raises(NoSuchPathError):
        given(path)


def test_compressed_when_accepted():
    plain, packed = given("/openapi/v3/api/v1"), given("/openapi/v3/api/v1", Accept_Encoding="br, gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 3


async def test_over_a_connection(server: Server):
    credentials = read_kubeconfig(server.kubeconfig)
    context = ssl.create_default_context(cadata=credentials.ca.decode())
    headers = {"Authorization": f"Bearer {credentials.token}"}
    async with aiohttp.ClientSession(
        credentials.server, headers=headers, connector=aiohttp.TCPConnector(ssl=context)
    ) as session:
        async with session.get("/openapi/v3") as response:
            index = await response.json()
        async with session.get(index["paths"]["api/v1"]["serverRelativeURL"]) as response:
            assert "io.k8s.api.core.v1.ServicePort" in (await response.json())["components"]["schemas"]
            assert response.headers["Cache-Control"] == "public, immutable"
            etag = response.headers["ETag"]
        async with session.get("/openapi/v3/api/v1", headers={"If-None-Match": etag}) as response:
            assert (response.status, await response.read()) == (304, b"")
        async with session.get("/openapi/v2", headers={"Accept": V2}) as response:
            assert (response.content_type, await response.read()) == (V2_NOW, documents.v2_protobuf().body)
        async with session.get("/openapi/v3/apis/none/v1") as response:
            assert (response.status, (await response.json())["kind"]) == (404, "Status")
        async with session.head("/openapi/v3") as response:
            assert (response.status, await response.read()) == (200, b"")
