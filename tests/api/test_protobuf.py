import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.api import schemas
from emu.api.errors import BadRequestError
from emu.api.protobuf import MEDIA_TYPE, decode
from emu.api.protobuf_fields import SCALARS, Field, Shape, fields, kinds
from emu.api.resources import RESOURCES

from .conftest import Server
from .protobuf_writer import body, chunk, flattened, number, varint, written
from .test_http import raw

# --- bodies of the real kubectl ---


class Captured(msgspec.Struct):
    """What a command sent, and the document that the command printed with `--dry-run=client -o json`."""

    command: str
    kubectl: str
    body: bytes
    document: dict[str, Any]


CAPTURED = [
    msgspec.json.decode(line, type=Captured)
    for line in Path(__file__).with_name("protobuf_bodies.jsonl").read_bytes().splitlines()
]


@pytest.mark.parametrize("captured", CAPTURED, ids=lambda captured: captured.command)
def test_what_kubectl_sent(captured: Captured):
    assert decode(captured.body) == captured.document


# --- the rules, one by one ---


def config_map(*content: bytes) -> bytes:
    return body("v1", "ConfigMap", *content)


def deployment(*spec: bytes) -> bytes:
    return body("apps/v1", "Deployment", chunk(2, *spec))


def pod(*spec: bytes) -> bytes:
    return body("v1", "Pod", chunk(2, *spec))


def container(*content: bytes) -> bytes:
    return pod(chunk(2, *content))


def service_port(*content: bytes) -> bytes:
    return body("v1", "Service", chunk(2, chunk(1, *content)))


def lease(*spec: bytes) -> bytes:
    return body("coordination.k8s.io/v1", "Lease", chunk(2, *spec))


def metadata(*content: bytes) -> bytes:
    return config_map(chunk(1, *content))


ONE_CONTAINER = {"spec": {"containers": [{"name": "c"}]}}


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        pytest.param(config_map(), {}, id="nothing"),
        pytest.param(config_map(chunk(1)), {"metadata": {}}, id="an empty struct is an object, as in JSON"),
        pytest.param(
            container(chunk(1, "c"), chunk(2), chunk(5), number(18, 0)),
            ONE_CONTAINER,
            id="zeros that omitempty drops",
        ),
        pytest.param(
            container(chunk(1, "c"), chunk(6, chunk(1), number(2, 0), number(3, 80))),
            {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}},
            id="hostPort 0 and no name",
        ),
        pytest.param(
            container(chunk(1, "")),
            {"spec": {"containers": [{"name": ""}]}},
            id="a zero without omitempty stays",
        ),
        pytest.param(deployment(number(1, 0)), {"spec": {"replicas": 0}}, id="a pointer to 0 stays"),
        pytest.param(
            pod(chunk(3, "Never"), number(21, 0), number(30, 0)),
            {
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                }
            },
            id="a pointer to false stays",
        ),
        pytest.param(
            body("v1", "PersistentVolumeClaim", chunk(2, chunk(5))),
            {"spec": {"storageClassName": ""}},
            id='a pointer to "" stays',
        ),
        pytest.param(
            deployment(number(7, 1), number(7, 0)), {"spec": {}}, id="the last of a scalar counts, a zero too"
        ),
        pytest.param(
            metadata(chunk(1, "a")) + chunk(2, chunk(1, chunk(3, "b"))),
            {"metadata": {"namespace": "b"}},
            id="the last raw counts",
        ),
        pytest.param(
            config_map(chunk(1, chunk(1, "a")), chunk(1, chunk(3, "b"))),
            {"metadata": {"name": "a", "namespace": "b"}},
            id="a message given twice is merged",
        ),
        pytest.param(
            config_map(chunk(2, chunk(1, "k"), chunk(2, "v")), chunk(2, chunk(1, "k"), chunk(2, "w"))),
            {"data": {"k": "w"}},
            id="map to strings, the last counts",
        ),
        pytest.param(config_map(chunk(2)), {"data": {"": ""}}, id="an entry without key and value"),
        pytest.param(
            config_map(chunk(3, chunk(1, "k"), chunk(2, b"\xff\0"))),
            {"binaryData": {"k": "/wA="}},
            id="map to bytes",
        ),
        pytest.param(config_map(chunk(3, chunk(1, "k"))), {"binaryData": {"k": ""}}, id="map to no bytes"),
        pytest.param(
            body("v1", "ResourceQuota", chunk(2, chunk(1, chunk(1, "cpu"), chunk(2, chunk(1, "500m"))))),
            {"spec": {"hard": {"cpu": "500m"}}},
            id="map to quantities",
        ),
        pytest.param(
            body("v1", "ResourceQuota", chunk(2, chunk(1, chunk(1, "cpu")))),
            {"spec": {"hard": {"cpu": "0"}}},
            id="a quantity that is not there is 0",
        ),
        pytest.param(
            service_port(number(3, 80), chunk(4, number(1, 0), number(2, 8080), chunk(3))),
            {"spec": {"ports": [{"port": 80, "targetPort": 8080}]}},
            id="IntOrString, a number",
        ),
        pytest.param(
            service_port(number(3, 80), chunk(4, number(1, 1), number(2, 0), chunk(3, "http"))),
            {"spec": {"ports": [{"port": 80, "targetPort": "http"}]}},
            id="IntOrString, a text",
        ),
        pytest.param(
            service_port(number(3, 80), chunk(4)),
            {"spec": {"ports": [{"port": 80, "targetPort": 0}]}},
            id="IntOrString, zero as Go's JSON has it",
        ),
        pytest.param(
            metadata(chunk(8, number(1, 1_700_000_000), number(2, 999_999_999))),
            {"metadata": {"creationTimestamp": "2023-11-14T22:13:20Z"}},
            id="Time has no fraction",
        ),
        pytest.param(metadata(chunk(8)), {"metadata": {}}, id="zero Time is null"),
        pytest.param(
            metadata(chunk(8, number(1, -62135596800))), {"metadata": {}}, id="zero Time in full is null too"
        ),
        pytest.param(
            metadata(chunk(8, number(1, 0), number(2, 0))),
            {"metadata": {"creationTimestamp": "1970-01-01T00:00:00Z"}},
            id="1970 is a time",
        ),
        pytest.param(
            metadata(chunk(8, number(1, -62135596799))),
            {"metadata": {"creationTimestamp": "0001-01-01T00:00:01Z"}},
            id="a time of the first year",
        ),
        pytest.param(
            lease(chunk(4, number(1, 1_700_000_000), number(2, 1_999))),
            {"spec": {"renewTime": "2023-11-14T22:13:20.000001Z"}},
            id="MicroTime is truncated",
        ),
        pytest.param(
            lease(chunk(4, number(1, 5), number(2, -1_999))),
            {"spec": {"renewTime": "1970-01-01T00:00:04.999999Z"}},
            id="MicroTime is truncated towards zero",
        ),
        pytest.param(
            metadata(chunk(17, chunk(1, "m"), chunk(7, chunk(1, '{"f:data":{}}')))),
            {"metadata": {"managedFields": [{"manager": "m", "fieldsV1": {"f:data": {}}}]}},
            id="FieldsV1",
        ),
        pytest.param(
            body("apps/v1", "ControllerRevision", chunk(2, chunk(1, '{"a":[1]}')), number(3, 0)),
            {"data": {"a": [1]}, "revision": 0},
            id="RawExtension",
        ),
        pytest.param(body("apps/v1", "ControllerRevision", chunk(2)), {}, id="an empty RawExtension is null"),
        pytest.param(
            body(
                "authorization.k8s.io/v1",
                "SubjectAccessReview",
                chunk(2, chunk(5, chunk(1, "k"), chunk(2, chunk(1, "a"), chunk(1, "b")))),
            ),
            {"spec": {"extra": {"k": ["a", "b"]}}},
            id="map to lists",
        ),
        pytest.param(
            pod(chunk(14, number(4, 1), number(4, 1 << 40))),
            {"spec": {"securityContext": {"supplementalGroups": [1, 1 << 40]}}},
            id="unpacked numbers",
        ),
        pytest.param(
            pod(chunk(14, chunk(4, varint(1), varint(300)), number(4, 2), chunk(4))),
            {"spec": {"securityContext": {"supplementalGroups": [1, 300, 2]}}},
            id="packed numbers, and mixed",
        ),
        pytest.param(
            body("scheduling.k8s.io/v1", "PriorityClass", number(2, -5)),
            {"value": -5},
            id="negative, 64 bits",
        ),
        pytest.param(
            body("scheduling.k8s.io/v1", "PriorityClass", number(2, 0xFFFFFFFB)),
            {"value": -5},
            id="negative, 32 bits",
        ),
        pytest.param(
            pod(number(4, -(1 << 63))),
            {"spec": {"terminationGracePeriodSeconds": -(1 << 63)}},
            id="the least number",
        ),
        pytest.param(
            pod(chunk(1, chunk(1, "v"), chunk(2, chunk(6, chunk(1, "s"))))),
            {"spec": {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}},
            id="inlined VolumeSource",
        ),
        pytest.param(
            container(
                chunk(1, "c"),
                chunk(
                    10, chunk(1, chunk(2, chunk(1, "/"), chunk(2, number(1, 0), number(2, 8)))), number(2, 0)
                ),
                chunk(19, chunk(1), chunk(2, chunk(1, chunk(1, "cm")), number(2, 0))),
            ),
            {
                "spec": {
                    "containers": [
                        {
                            "name": "c",
                            "livenessProbe": {"httpGet": {"path": "/", "port": 8}},
                            "envFrom": [{"configMapRef": {"name": "cm", "optional": False}}],
                        }
                    ]
                }
            },
            id="inlined ProbeHandler and LocalObjectReference",
        ),
        pytest.param(
            pod(chunk(34, chunk(1, chunk(1, "e"), chunk(2, "i")), chunk(2, "c"))),
            {"spec": {"ephemeralContainers": [{"name": "e", "image": "i", "targetContainerName": "c"}]}},
            id="inlined EphemeralContainerCommon",
        ),
        pytest.param(
            body("v1", "PersistentVolume", chunk(2, chunk(2, chunk(3, chunk(1, "/d"))))),
            {"spec": {"hostPath": {"path": "/d"}}},
            id="inlined PersistentVolumeSource",
        ),
        pytest.param(
            body(
                "networking.k8s.io/v1",
                "Ingress",
                chunk(2, chunk(3, chunk(1, "h"), chunk(2, chunk(1, chunk(1, chunk(1, "/"), chunk(2)))))),
            ),
            {"spec": {"rules": [{"host": "h", "http": {"paths": [{"path": "/", "backend": {}}]}}]}},
            id="inlined IngressRuleValue",
        ),
        pytest.param(
            body("apps/v1", "DeleteOptions", number(1, 0), chunk(4, "Background"), number(6, 0)),
            {
                "gracePeriodSeconds": 0,
                "propagationPolicy": "Background",
                "ignoreStoreReadErrorWithClusterBreakingPotential": False,
            },
            id="DeleteOptions of any group",
        ),
        pytest.param(
            body("v1", "ConfigMap", b'{"data":{"a":"b"}}', content_type="application/json"),
            {"data": {"a": "b"}},
            id="JSON in it",
        ),
        pytest.param(
            body("v1", "ConfigMap", chunk(2, chunk(1, "a")), content_type=MEDIA_TYPE, encoding=""),
            {"data": {"a": ""}},
            id="the content type by its name",
        ),
    ],
)
def test_documents(encoded: bytes, expected: dict[str, Any]):
    document = decode(encoded)
    assert document.pop("kind")
    assert document.pop("apiVersion")
    assert document == expected


def test_kind_and_version_come_first():
    assert list(decode(config_map(chunk(1)))) == ["apiVersion", "kind", "metadata"]


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        pytest.param(b"", "does not begin", id="empty"),
        pytest.param(b'{"kind":"Pod"}', "does not begin", id="JSON"),
        pytest.param(b"k8s\1" + config_map()[4:], "does not begin", id="another magic"),
        pytest.param(b"k8s\0", 'no kind "" is known in protobuf for version ""', id="magic only"),
        pytest.param(body("v1", "Nothing"), 'no kind "Nothing" is known in protobuf', id="unknown kind"),
        pytest.param(body("v2", "Pod"), 'no kind "Pod" is known in protobuf for version "v2"', id="version"),
        pytest.param(body("v1", "PodSpec"), 'no kind "PodSpec"', id="a message that is no kind"),
        pytest.param(config_map(chunk(1))[:-1], "raw of Unknown goes beyond its end", id="truncated"),
        pytest.param(
            config_map(chunk(1, chunk(1, "ab"))[:-1]), "metadata of core.v1.ConfigMap goes", id="inner"
        ),
        pytest.param(config_map(b"\x80"), "ends within a number", id="half a tag"),
        pytest.param(config_map(b"\x0a" + b"\xff" * 11), "more than 64 bits", id="an endless number"),
        pytest.param(config_map(b"\x0a" + b"\xff" * 9 + b"\x02"), "more than 64 bits", id="65 bits"),
        pytest.param(config_map(b"\x0a" + varint((1 << 64) - 1)), "goes beyond its end", id="absurd length"),
        pytest.param(config_map(number(0, 1)), "no field 0", id="field 0"),
        pytest.param(
            config_map(chunk(9)), "core.v1.ConfigMap has no field 9 in Kubernetes", id="unknown field"
        ),
        pytest.param(container(number(99, 1)), "core.v1.Container has no field 99", id="unknown inside"),
        pytest.param(
            pod(chunk(1, chunk(2, chunk(99)))), "core.v1.VolumeSource has no field 99", id="unknown inlined"
        ),
        pytest.param(
            config_map(chunk(2, chunk(3, "x"))),
            "an entry of data of core.v1.ConfigMap has no field 3",
            id="entry",
        ),
        pytest.param(
            config_map(number(2, 1)), "data of core.v1.ConfigMap is not of wire type 0", id="no map"
        ),
        pytest.param(
            config_map(chunk(4, b"\1")), "immutable of core.v1.ConfigMap is not of wire", id="no bool"
        ),
        pytest.param(config_map(b"\x21" + bytes(8)), "is not of wire type 1", id="64-bit wire type"),
        pytest.param(config_map(b"\x0b"), "is not of wire type 3", id="group"),
        pytest.param(config_map(b"\x0c"), "is not of wire type 4", id="end of group"),
        pytest.param(config_map(b"\x0f"), "is not of wire type 7", id="reserved wire type"),
        pytest.param(metadata(chunk(1, b"\xff")), "name of meta.v1.ObjectMeta is not UTF-8", id="bad UTF-8"),
        pytest.param(config_map(chunk(2, chunk(1, b"\xc3"))), "is not UTF-8", id="bad UTF-8 in a key"),
        pytest.param(service_port(chunk(4, number(1, 2))), "an IntOrString is of type 2", id="IntOrString"),
        pytest.param(
            metadata(chunk(8, number(1, 1 << 62))), "is not in the years 1 to 9999", id="far future"
        ),
        pytest.param(metadata(chunk(8, number(1, 253402300800))), "years 1 to 9999", id="the year 10000"),
        pytest.param(metadata(chunk(8, number(1, -62135596801))), "years 1 to 9999", id="the year 0"),
        pytest.param(metadata(chunk(17, chunk(7, chunk(1, "{")))), "the body is not JSON", id="no JSON"),
        pytest.param(metadata(chunk(17, chunk(7, chunk(1, DEEP)))), "exceeded max depth", id="deep"),
        pytest.param(
            body("v1", "Pod", DEEP, content_type="application/json"),
            "exceeded max depth",
            id="deep raw",
        ),
        pytest.param(
            body("v1", "Pod", b"[]", content_type="application/json"), "is not an object", id="a list"
        ),
        pytest.param(body("v1", "Pod", content_type="text/plain"), "text/plain", id="content type"),
        pytest.param(body("v1", "Pod", encoding="gzip"), "gzip", id="content encoding"),
    ],
)
def test_refusals(encoded: bytes, message: str):
    with pytest.raises(BadRequestError) as refused:
        decode(encoded)
    assert message in refused.value.message


@given(st.data())
def test_mutated_bodies_are_refused_or_read(data: st.DataObject):
    encoded = bytearray(data.draw(st.sampled_from(CAPTURED)).body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, len(encoded)))
        gone = data.draw(st.integers(0, 8))
        encoded[at : at + gone] = data.draw(st.binary(max_size=8))
    _refused_or_read(bytes(encoded))


@given(st.sampled_from(sorted(kinds())), st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(kind: tuple[str, str], content: bytes):
    _refused_or_read(body(*kind, content))


def test_every_beginning_of_a_body_is_refused_or_read():
    for captured in CAPTURED:
        for end in range(len(captured.body)):
            _refused_or_read(captured.body[:end])


def _refused_or_read(encoded: bytes) -> None:
    try:
        document = decode(encoded)
    except BadRequestError:
        return
    msgspec.json.encode(document)


def test_the_steps_are_linear():
    def steps(count: int) -> int:
        encoded = pod(chunk(2) * count)
        calls = 0

        def count_calls(_frame: Any, event: str, _argument: Any) -> None:
            nonlocal calls
            calls += event == "call"

        sys.setprofile(count_calls)
        try:
            decode(encoded)
        finally:
            sys.setprofile(None)
        return calls

    steps(1)  # reads the table
    assert steps(8000) < 8.5 * steps(1000)


# --- the table ---


def message_of(definition: str) -> str:
    """The name in the table of an OpenAPI definition."""
    name = definition.removeprefix("io.k8s.api.").removeprefix("io.k8s.apimachinery.pkg.apis.")
    bare = name.rpartition(".")[2]
    return bare if bare in ("FieldsV1", "MicroTime", "RawExtension", "Time") else name


def reachable(definition: str) -> list[str]:
    found: set[str] = set()
    pending = [definition]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += _references(schemas.types()[name])
    return sorted(found)


def _references(node: Any) -> list[str]:
    if not isinstance(node, dict):
        return []
    here = [node["$ref"].removeprefix("#/$defs/")] if "$ref" in node else []
    return here + [name for value in node.values() for name in _references(value)]


def sent(node: Any) -> dict[str, Any]:
    """The properties of a definition that are protobuf fields: the TypeMeta of kinds is not."""
    properties = node.get("properties", {})
    kind = "x-kubernetes-group-version-kind" in node
    return {
        name: value for name, value in properties.items() if not (kind and name in ("apiVersion", "kind"))
    }


def misfit(node: Any, field: Field) -> str:
    """How a field of the table contradicts the OpenAPI property, or nothing."""
    shape = Shape.LIST if "items" in node else Shape.MAP if "additionalProperties" in node else Shape.ONE
    if field.shape is not shape:
        return f"{field.shape} is not {shape}"
    node = node.get("items") or node.get("additionalProperties") or node
    match node:
        case {"$ref": reference}:
            fits = field.type == message_of(reference.removeprefix("#/$defs/"))
        case {"x-kubernetes-int-or-string": True}:
            fits = field.type in ("IntOrString", "Quantity")
        case {"type": "integer", "format": width}:
            fits = field.type == width
        case {"type": "boolean"}:
            fits = field.type == "bool"
        case {"type": "string"}:
            fits = field.type in ("bytes", "string")
        case {"type": "array"}:
            fits = field.type == "ExtraValue"
        case _:
            fits = False
    return "" if fits else f"{field.type} is not {node}"


# Custom resources have no protobuf form.
WITH_PROTOBUF = [resource for resource in RESOURCES if resource.strategic]
CUSTOM = {schemas.definition_name(resource) for resource in RESOURCES if not resource.strategic}

# Served kinds, and those of their subresources. A Status is in answers only.
DEFINITIONS = sorted(
    name
    for name, node in schemas.types().items()
    if "x-kubernetes-group-version-kind" in node
    and not name.endswith(".meta.v1.Status")
    and name not in CUSTOM
)


def test_every_served_kind_is_in_the_table():
    served = {
        (resource.api_version, resource.kind): schemas.definition_name(resource) for resource in WITH_PROTOBUF
    }
    assert set(served.values()) <= set(DEFINITIONS)
    assert {kind: kinds().get(kind) for kind in served} == {
        kind: message_of(definition) for kind, definition in served.items()
    }


@pytest.mark.parametrize("root", DEFINITIONS, ids=message_of)
def test_every_property_of_a_kind_has_its_number(root: str):
    wrong = {}
    for definition in reachable(root):
        properties = sent(schemas.types()[definition])
        if not properties:
            continue
        message = message_of(definition)
        known = flattened(message)
        for name, node in properties.items():
            why = misfit(node, known[name]) if name in known else "has no number"
            if why:
                wrong[f"{message}.{name}"] = why
    assert not wrong


# Required by OpenAPI, and `omitempty` in Go all the same.
OMITTED_THOUGH_REQUIRED = {
    "authentication.v1.TokenReviewSpec": {"token"},
    "core.v1.ContainerRestartRule": {"action"},
    "core.v1.ContainerRestartRuleOnExitCodes": {"operator"},
    "core.v1.PodCertificateProjection": {"keyType", "signerName"},
    "networking.v1.ParentReference": {"name", "resource"},
}


def test_required_scalars_are_kept():
    schema = msgspec.json.decode((schemas.DATA / "openapi.json").read_bytes())
    dropped = {}
    for root in DEFINITIONS:
        for definition in reachable(root):
            message = message_of(definition)
            required = set(schema[definition].get("required", ()))
            known = flattened(message) if required else {}
            names = {
                name
                for name in required
                if known[name].type in SCALARS
                and known[name].shape is Shape.ONE
                and not known[name].keeps_zero
            }
            if names - OMITTED_THOUGH_REQUIRED.get(message, set()):
                dropped[message] = names
    assert not dropped


SAMPLES = {
    "Time": "2023-11-14T22:13:20Z",
    "MicroTime": "2023-11-14T22:13:20.000001Z",
    "FieldsV1": {"f:spec": {}},
    "RawExtension": {"a": 1},
}


def sample(node: Any) -> Any:
    """A value with every property of a node."""
    match node:
        case {"$ref": reference}:
            definition = reference.removeprefix("#/$defs/")
            return SAMPLES.get(message_of(definition)) or sample(schemas.types()[definition])
        case {"items": items}:
            return [sample(items)] * 2
        case {"additionalProperties": values}:
            return {"key": sample(values), "": sample(values)}
        case {"properties": _}:
            return {name: sample(value) for name, value in sent(node).items()}
        case {"x-kubernetes-int-or-string": True}:
            return "10"
        case {"type": "integer"}:
            return -7
        case {"type": "boolean"}:
            return True
        case {"type": "string"}:
            return "text"
        case _:
            return {}


@pytest.mark.parametrize("root", DEFINITIONS, ids=message_of)
def test_a_document_with_every_property_is_read_back(root: str):
    version, kind = next(known for known, message in kinds().items() if message == message_of(root))
    document = {"apiVersion": version, "kind": kind} | sample(schemas.types()[root])
    assert decode(written(document)) == document


def test_messages_do_not_contain_themselves():
    """The depth of recursion is the table's, whatever a body says."""
    done: set[str] = set()

    def visit(message: str, above: tuple[str, ...]) -> None:
        assert message not in above
        if message not in done:
            for field in fields(message).values():
                if field.type not in SCALARS:
                    visit(field.type, (*above, message))
            done.add(message)

    for message in kinds().values():
        visit(message, ())


def test_the_table_is_sorted_and_read_whole():
    table = Path(schemas.__file__).with_name("protobuf_fields.txt").read_text()
    lines = [line for line in table.splitlines() if not line.startswith("#")]
    assert lines == sorted(lines)
    for line in lines:
        message = line.split()[0]
        numbers = [int(word.split(":")[0]) for word in line.split() if ":" in word]
        assert numbers == sorted(set(numbers))
        assert list(fields(message)) == numbers


# --- over HTTP ---

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.mark.parametrize("media_type", [MEDIA_TYPE, f"{MEDIA_TYPE};charset=utf-8", MEDIA_TYPE.upper()])
async def test_create_replace_delete(server: Server, media_type: str):
    headers = {"Content-Type": media_type}

    def encoded(value: str) -> bytes:
        return config_map(chunk(1, chunk(1, "c")), chunk(2, chunk(1, "k"), chunk(2, value)))

    code, created, _ = await raw(server, "POST", CONFIG_MAPS, data=encoded("v"), headers=headers)
    assert (code, created["data"]) == (201, {"k": "v"})
    code, replaced, _ = await raw(server, "PUT", f"{CONFIG_MAPS}/c", data=encoded("w"), headers=headers)
    assert (code, replaced["data"]) == (200, {"k": "w"})
    options = body("v1", "DeleteOptions", chunk(2, chunk(1, "another uid")))
    code, refused, _ = await raw(server, "DELETE", f"{CONFIG_MAPS}/c", data=options, headers=headers)
    assert (code, refused["reason"]) == (409, "Conflict")
    options = body("v1", "DeleteOptions", chunk(2, chunk(1, created["metadata"]["uid"])))
    code, _, _ = await raw(server, "DELETE", f"{CONFIG_MAPS}/c", data=options, headers=headers)
    assert code == 200


async def test_another_kind_is_refused(server: Server):
    headers = {"Content-Type": MEDIA_TYPE}
    code, refused, _ = await raw(server, "POST", CONFIG_MAPS, data=pod(), headers=headers)
    assert (code, refused["reason"]) == (400, "BadRequest")
