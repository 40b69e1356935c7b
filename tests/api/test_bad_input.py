"""Bad input over a real connection gets the Status that Kubernetes sends, and leaves the store untouched."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec
import pytest
import pytest_asyncio

from emu.client.kubeconfig import read_kubeconfig

from .conftest import Server, pod, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

PODS = "/api/v1/namespaces/default/pods"
WEB = f"{PODS}/web"
LIMIT = 3 * 1024 * 1024
TOKEN = "/api/v1/namespaces/default/serviceaccounts/robot/token"
JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


class Reply(NamedTuple):
    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = msgspec.json.decode(self.body)
        return document


class Wire:
    """Sends bytes as they are, and reads one answer."""

    def __init__(self, server: Server) -> None:
        credentials = read_kubeconfig(server.kubeconfig)
        self.token = credentials.token
        host, _, port = credentials.server.removeprefix("https://").partition(":")
        self._address = (host, int(port))
        self._context = ssl.create_default_context(cadata=credentials.ca.decode())

    async def send(self, data: bytes) -> Reply:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(*self._address, ssl=self._context)
            try:
                writer.write(data)
                return await _read(reader, head_only=data.startswith(b"HEAD "))
            finally:
                writer.close()

    async def request(
        self,
        method: str,
        path: str | bytes,
        body: bytes | None = None,
        content_type: str = JSON,
        **headers: str,
    ) -> Reply:
        path = path if isinstance(path, bytes) else path.encode()
        lines = {"Host": "127.0.0.1", "Authorization": f"Bearer {self.token}"}
        if body is not None:
            lines |= {"Content-Type": content_type, "Content-Length": str(len(body))}
        lines |= {key.replace("_", "-"): value for key, value in headers.items()}
        head = b"".join(f"{key}: {value}\r\n".encode() for key, value in lines.items() if value)
        return await self.send(
            method.encode() + b" " + path + b" HTTP/1.1\r\n" + head + b"\r\n" + (body or b"")
        )


async def _read(reader: asyncio.StreamReader, *, head_only: bool) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {key.lower(): value.strip() for key, _, value in pairs}
    body = b""
    if not head_only and "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    return Reply(int(head[0].split()[1]), headers, body)


DEPLOYMENT = {
    "metadata": {"name": "web"},
    "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]},
    },
}
SEEDS = [
    (PODS, pod()),
    ("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "robot"}}),
    ("/apis/apps/v1/namespaces/default/deployments", DEPLOYMENT),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wire(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    """To one server for all, since none of the requests changes anything."""
    async with serving(tmp_path_factory.mktemp("state")) as server:
        made = Wire(server)
        for path, document in SEEDS:
            assert (await made.request("POST", path, msgspec.json.encode(document))).code == 201
        yield made


async def _version(wire: Wire) -> str:
    listed = (await wire.request("GET", "/api/v1/namespaces?limit=1")).status
    version: str = listed["metadata"]["resourceVersion"]
    return version


def encoded(**changes: Any) -> bytes:
    return msgspec.json.encode({**pod("other"), **changes})


def metadata(**changes: Any) -> bytes:
    return encoded(metadata={"name": "other", **changes})


class Row(NamedTuple):
    """A request, and the code, reason and a part of the message of its answer."""

    name: str
    method: str
    path: str | bytes
    body: bytes | None
    content_type: str
    code: int
    reason: str
    message: str


def post(name: str, body: bytes, message: str, *, kind: str = JSON, code: int = 400, reason: str = "") -> Row:
    return Row(name, "POST", PODS, body, kind, code, reason or REASONS[code], message)


def patch(name: str, kind: str, body: bytes, message: str, code: int = 400) -> Row:
    return Row(name, "PATCH", WEB, body, kind, code, REASONS[code], message)


def get(name: str, path: str | bytes, message: str, code: int = 400) -> Row:
    return Row(name, "GET", path, None, "", code, REASONS[code], message)


def verb(method: str, path: str, code: int = 405) -> Row:
    message = NO_METHOD if code == 405 else NO_RESOURCE
    return Row(f"{method} {path}", method, path, None, "", code, REASONS[code], message)


REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
}
NO_METHOD = "the server does not allow this method on the requested resource"
NO_RESOURCE = "the server could not find the requested resource"
UNRECOGNIZED = "the object provided is unrecognized (must be of type Pod): "
AS_POD = 'Pod in version "v1" cannot be handled as a Pod: '

ROWS = [
    # --- JSON ---
    post("no body", b"", UNRECOGNIZED),
    post("an open brace", b"{", UNRECOGNIZED + "couldn't get version/kind; json parse error: "),
    post("no JSON at all", b"hello", UNRECOGNIZED),
    post("text after the object", encoded() + b"}", UNRECOGNIZED),
    post("not UTF-8", b'{"metadata":{"name":"\xff\xfe"}}', UNRECOGNIZED),
    post("a lone surrogate", b'{"metadata":{"name":"\\ud800"}}', UNRECOGNIZED),
    post("NaN", b'{"metadata":{"generation":NaN}}', UNRECOGNIZED),
    post("a deep array", b"[" * 100_000 + b"]" * 100_000, "exceeded max depth"),
    post("a deep object", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "exceeded max depth"),
    post(
        "a deep object in a field",
        encoded(spec=None)[:-5] + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        "max depth",
    ),
    post("a huge number", b'{"metadata":{"generation":' + b"9" * 5000 + b"}}", ""),
    post("a number beyond float", b'{"metadata":{"generation":1e999}}', ""),
    post("an array", b"[]", "json: cannot unmarshal array into Go value of type struct { APIVersion string "),
    post("null", b"null", ""),
    post("a string", b'"pod"', ""),
    # --- shapes ---
    post("metadata of a number", encoded(metadata=1), "metadata"),
    post("metadata of a list", encoded(metadata=[]), "metadata"),
    post("a name of a number", metadata(name=5), AS_POD),
    post("labels with numbers", metadata(labels={"a": 1}), AS_POD),
    post("labels of a list", metadata(labels=["a"]), AS_POD),
    post("finalizers with objects", metadata(finalizers=[{}]), AS_POD),
    post("ownerReferences of a string", metadata(ownerReferences="me"), AS_POD),
    post("a list as spec", encoded(spec=[]), AS_POD),
    post("containers of an object", encoded(spec={"containers": {}}), AS_POD),
    post(
        "a port that is no int32",
        encoded(spec={"containers": [{"ports": [{"containerPort": 1 << 40}]}]}),
        AS_POD,
    ),
    post("another kind", encoded(kind="Service", apiVersion="v1"), "cannot be handled as a Pod"),
    post("a kind of a number", encoded(kind=5), ""),
    post("an apiVersion of a list", encoded(apiVersion=["v1"]), ""),
    post("another apiVersion", encoded(kind="Pod", apiVersion="apps/v1"), ""),
    post("a name with NUL", metadata(name="a\0b"), "a lowercase RFC 1123 subdomain", code=422),
    post("a name with a slash", metadata(name="a/b"), "metadata.name", code=422),
    post("an endless name", metadata(name="a" * 100_000), "metadata.name", code=422),
    post("a label key with NUL", metadata(labels={"a\0": "b"}), "metadata.labels", code=422),
    post("another namespace", metadata(namespace="elsewhere"), "does not match the namespace"),
    # --- YAML ---
    post("YAML that ends too early", b"{a: [", UNRECOGNIZED, kind=YAML),
    post("YAML with a tab", b"a:\n\t- b", UNRECOGNIZED, kind=YAML),
    post("YAML not UTF-8", b"a: \xff\xfe", UNRECOGNIZED, kind=YAML),
    post("YAML that makes Python objects", b"!!python/object/apply:os.system [ls]", UNRECOGNIZED, kind=YAML),
    post("YAML that refers to itself", b"&a [*a]", "", kind=YAML),
    post(
        "YAML that grows a billionfold",
        b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(b"a%d: &a%d [%b]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 10)),
        "",
        kind=YAML,
    ),
    post("deep YAML", b"[" * 20_000 + b"]" * 20_000, "", kind=YAML),
    post("YAML keys that are no text", b"? [a]\n: b", "", kind=YAML),
    post("empty YAML", b"", "", kind=YAML),
    # --- media types ---
    post(
        "text",
        b"x",
        "the body of the request was in an unknown format - accepted media types include: ",
        kind="text/plain",
        code=415,
    ),
    post(
        "no media type", b"x", "the body of the request was in an unknown format", kind="nonsense", code=415
    ),
    post("a form", b"a=b", "in an unknown format", kind="application/x-www-form-urlencoded", code=415),
    post("protobuf that is none", b"k8s\0\xff\xff", "protobuf", kind=PROTOBUF),
    post("protobuf without its mark", b"\x0a\x00", "protobuf", kind=PROTOBUF),
    patch("a patch as JSON", JSON, b"{}", "in an unknown format", 415),
    patch("a patch as text", "text/plain", b"{}", "in an unknown format", 415),
    # --- patches ---
    patch("a merge patch of no JSON", MERGE, b"{", ""),
    patch("a merge patch of a list", MERGE, b"[]", ""),
    patch("a JSON patch of an object", JSON_PATCH, b"{}", ""),
    patch("a JSON patch of numbers", JSON_PATCH, b"[1]", ""),
    patch("a JSON patch with an unknown operation", JSON_PATCH, b'[{"op":"steal","path":"/metadata"}]', ""),
    patch("a JSON patch without a path", JSON_PATCH, b'[{"op":"remove"}]', ""),
    patch("a JSON patch with a path of a number", JSON_PATCH, b'[{"op":"remove","path":5}]', ""),
    patch("a JSON patch to nowhere", JSON_PATCH, b'[{"op":"remove","path":"/nothing/here"}]', "", 422),
    patch(
        "a JSON patch that removes everything", JSON_PATCH, b'[{"op":"replace","path":"","value":5}]', "", 422
    ),
    patch("a strategic patch of a list", STRATEGIC, b"[]", ""),
    patch("a strategic patch with a wrong directive", STRATEGIC, b'{"spec":{"$patch":"steal"}}', ""),
    patch("a strategic patch of wrong shapes", STRATEGIC, b'{"spec":{"containers":[5]}}', ""),
    patch("a merge patch of wrong types", MERGE, b'{"spec":{"containers":5}}', "", 422),
    patch("a merge patch of the metadata", MERGE, b'{"metadata":5}', "", 422),
    patch("a deep merge patch", MERGE, b'{"metadata":' * 5000 + b"1" + b"}" * 5000, ""),
    # --- deletions ---
    Row("DeleteOptions of a list", "DELETE", WEB, b"[]", JSON, 400, "BadRequest", ""),
    Row("preconditions of a number", "DELETE", WEB, b'{"preconditions":5}', JSON, 400, "BadRequest", ""),
    Row("a grace of text", "DELETE", WEB, b'{"gracePeriodSeconds":"x"}', JSON, 400, "BadRequest", ""),
    Row(
        "a bad policy",
        "DELETE",
        f"{WEB}?propagationPolicy=steal",
        None,
        "",
        422,
        "Invalid",
        "propagationPolicy",
    ),
    Row(
        "another uid",
        "DELETE",
        WEB,
        b'{"preconditions":{"uid":"x"}}',
        JSON,
        409,
        "Conflict",
        "Precondition failed: UID in precondition: x",
    ),
    # --- queries ---
    get("a bad label selector", f"{PODS}?labelSelector=a%20b", "unable to parse requirement"),
    get("an open label selector", f"{PODS}?labelSelector=a+in+(", "unable to parse requirement"),
    get("a bad field selector", f"{PODS}?fieldSelector=x", "unable to parse requirement"),
    get(
        "a field that is no label",
        f"{PODS}?fieldSelector=spec.bogus=1",
        "field label not supported: spec.bogus",
    ),
    get("a limit of text", f"{PODS}?limit=x", ""),
    get("a continue token of text", f"{PODS}?continue=x", "continue key is not valid"),
    get("a continue token of other JSON", f"{PODS}?continue=e30", "continue key is not valid"),
    get("a continue token of a list", f"{PODS}?continue=W10", "continue key is not valid"),
    get("a continue token not UTF-8", f"{PODS}?continue=_w", "continue key is not valid"),
    get("a continue token beyond ASCII", f"{PODS}?continue=%C3%A9", "continue key is not valid"),
    get("a watch from a text", f"{PODS}?watch=1&resourceVersion=x", "resourceVersion", 422),
    get("a resourceVersion of text", f"{PODS}?resourceVersion=x", "invalid resource version"),
    get("a negative resourceVersion", f"{PODS}?resourceVersion=-1", "invalid resource version"),
    get("a timeout of text", f"{PODS}?watch=1&timeoutSeconds=x", 'strconv.ParseInt: parsing "x"'),
    Row("a bad dryRun", "POST", f"{PODS}?dryRun=Some", encoded(), JSON, 422, "Invalid", "dryRun"),
    Row(
        "a bad fieldValidation",
        "POST",
        f"{PODS}?fieldValidation=x",
        encoded(),
        JSON,
        422,
        "Invalid",
        "fieldValidation",
    ),
    Row(
        "an unprintable manager",
        "POST",
        f"{PODS}?fieldManager=%00",
        encoded(),
        JSON,
        422,
        "Invalid",
        "fieldManager",
    ),
    # --- verbs ---
    verb("PUT", PODS),
    verb("PATCH", PODS),
    verb("POST", WEB),
    verb("OPTIONS", PODS),
    verb("TRACE", WEB),
    verb("PROPFIND", PODS),
    verb("POST", f"{WEB}/status"),
    verb("DELETE", f"{WEB}/status"),
    verb("GET", f"{WEB}/binding"),
    verb("POST", "/api/v1/pods"),
    verb("PUT", "/openapi/v3", 404),
    verb("POST", "/nothing", 404),
    # --- paths ---
    get("nowhere", "/nothing", NO_RESOURCE, 404),
    get("no such kind", "/api/v1/nothing", NO_RESOURCE, 404),
    get("no such group", "/apis/nothing/v1/pods", NO_RESOURCE, 404),
    get("no such version", "/api/v9/pods", NO_RESOURCE, 404),
    get("no such subresource", f"{WEB}/nothing", NO_RESOURCE, 404),
    get("too long a path", f"{WEB}/status/more", NO_RESOURCE, 404),
    get("a pod outside its namespace", "/api/v1/pods/web", NO_RESOURCE, 404),
    get("a name with NUL", f"{PODS}/a%00b", "not found", 404),
    get("a name not UTF-8", f"{PODS}/%ff", "not found", 404),
    get("a name of half an escape", f"{PODS}/%f", "not found", 404),
    get("a name with an escaped slash", f"{PODS}/a%2fb", "", 404),
    get("up and away", "/api/v1/../../etc/passwd", NO_RESOURCE, 404),
    get("up and away, escaped", "/openapi/v3/%2e%2e/%2e%2e/etc/passwd", NO_RESOURCE, 404),
    get("an empty name", f"{PODS}//status", NO_RESOURCE, 404),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_refused(row: Row, wire: Wire):
    before = await _version(wire)
    reply = await wire.request(row.method, row.path, row.body, row.content_type)
    assert (reply.code, reply.headers["content-type"]) == (row.code, JSON), reply.body
    status = reply.status
    assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
    assert (status["code"], status["reason"]) == (row.code, row.reason), status
    assert row.message in status["message"], status
    assert await _version(wire) == before


SUBRESOURCES = [
    ("binding", f"{WEB}/binding", {"target": 5}, 400),
    ("eviction", f"{WEB}/eviction", {"deleteOptions": [1]}, 400),
    ("token of a list", TOKEN, {"spec": [1]}, 400),
    ("token for a text of seconds", TOKEN, {"spec": {"expirationSeconds": "x"}}, 400),
    ("token for a minute", TOKEN, {"spec": {"expirationSeconds": 60}}, 422),
    ("token for ever", TOKEN, {"spec": {"expirationSeconds": 1 << 60}}, 422),
    ("token for an audience of numbers", TOKEN, {"spec": {"audiences": [1]}}, 400),
]


@pytest.mark.parametrize(
    ("path", "body", "code"), [row[1:] for row in SUBRESOURCES], ids=[row[0] for row in SUBRESOURCES]
)
async def test_subresources_check_what_they_are_given(wire: Wire, path: str, body: Any, code: int):
    before = await _version(wire)
    reply = await wire.request("POST", path, msgspec.json.encode(body))
    assert (reply.code, reply.status["reason"]) == (code, REASONS[code]), reply.status
    assert await _version(wire) == before


@pytest.mark.parametrize(
    ("method", "content_type", "body", "code"),
    [
        ("PUT", JSON, {"spec": 5}, 400),
        ("PUT", JSON, {"spec": {"replicas": "three"}}, 400),
        ("PUT", JSON, {"spec": {"replicas": 1 << 40}}, 400),
        ("PUT", JSON, {"spec": {"replicas": -1}}, 422),
        ("PUT", JSON, {"metadata": []}, 400),
        ("PATCH", MERGE, {"spec": {"replicas": True}}, 400),
        ("PATCH", MERGE, {"spec": []}, 400),
    ],
)
async def test_scale_checks_what_it_is_given(
    wire: Wire, method: str, content_type: str, body: Any, code: int
):
    before = await _version(wire)
    reply = await wire.request(method, f"{SEEDS[2][0]}/web/scale", msgspec.json.encode(body), content_type)
    assert (reply.code, reply.status["reason"]) == (code, REASONS[code]), reply.status
    assert await _version(wire) == before


# --- sizes ---


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_body_that_says_it_is_too_large(wire: Wire, method: str):
    path = PODS if method == "POST" else WEB
    # Nothing of it is sent: the announced length is enough.
    reply = await wire.request(
        method, path, b"", MERGE if method == "PATCH" else JSON, Content_Length=str(LIMIT + 1)
    )
    assert (reply.code, reply.status["reason"]) == (413, "RequestEntityTooLarge")
    assert reply.status["message"] == f"Request entity too large: limit is {LIMIT}"


async def test_a_body_in_chunks_that_is_too_large(wire: Wire):
    before = await _version(wire)
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    head = (
        f"POST {PODS} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {wire.token}\r\n"
        f"Content-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    reply = await wire.send(head.encode() + chunk * (LIMIT // 0x10000 + 1) + b"0\r\n\r\n")
    assert (reply.code, reply.status["reason"]) == (413, "RequestEntityTooLarge")
    assert await _version(wire) == before


async def test_a_body_at_the_limit_is_read(wire: Wire):
    body = encoded()
    reply = await wire.request("POST", f"{PODS}?dryRun=All", body + b" " * (LIMIT - len(body)))
    assert reply.code == 201


# --- who asks ---


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer a.b.c",
        "Bearer \xff\xfe",
        "Basic YTpi",
        "{}",
        "bearer{}",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", PODS), ("POST", PODS), ("GET", "/nothing"), ("GET", "/openapi/v2")]
)
async def test_a_wrong_or_missing_token(wire: Wire, authorization: str, method: str, path: str):
    before = await _version(wire)
    body = encoded() if method == "POST" else None
    reply = await wire.request(method, path, body, Authorization=authorization.format(wire.token))
    assert (reply.code, reply.status["reason"]) == (401, "Unauthorized")
    assert reply.status["message"] == "Unauthorized"
    assert await _version(wire) == before


@pytest.mark.parametrize("host", ["evil.example", "evil.example:6443", "127.0.0.1.evil.example"])
async def test_a_host_that_is_not_the_server(wire: Wire, host: str):
    before = await _version(wire)
    reply = await wire.request("POST", PODS, encoded(), Host=host)
    assert (reply.code, reply.status["reason"]) == (403, "Forbidden")
    assert await _version(wire) == before


# --- what is no HTTP, or hardly ---


async def test_an_unknown_method(wire: Wire):
    reply = await wire.send(b"STEAL / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert (reply.code, reply.status["reason"]) == (405, "MethodNotAllowed")
    assert (await wire.request("GET", WEB)).code == 200


async def test_the_scheme_of_a_token_in_any_case(wire: Wire):
    reply = await wire.request("GET", WEB, None, Authorization=f"bearer {wire.token}")
    assert reply.code == 200


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nA: b\0c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
    ids=lambda data: data[:24].decode("latin-1").encode("unicode_escape").decode() + f" of {len(data)}",
)
async def test_invalid_http(wire: Wire, data: bytes):
    reply = await wire.send(data)
    assert (reply.code, reply.status["reason"]) == (400, "BadRequest")
    # The next client is served.
    assert (await wire.request("GET", WEB)).code == 200


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        (WEB, {"Accept": "text/html"}, 406),
        (WEB, {"Accept": "application/json;q=x;;;,"}, 200),
        (WEB, {"Accept": ",;=,"}, 406),
        (WEB, {"Accept": "application/json;as=Nothing;v=v1;g=meta.k8s.io"}, 406),
        (WEB, {"Accept": "*/*;as=Table;g=meta.k8s.io;v=v9, application/json"}, 200),
        (WEB, {"Accept": "\xff\xfe"}, 406),
        (f"{PODS}?labelSelector=a&labelSelector=b", {}, 200),
        (f"{PODS}?limit=1&limit=x", {}, 200),
        (f"{PODS}?=&&&==", {}, 200),
        (f"{PODS}?%ff=%ff&a=%", {}, 200),
        (f"{WEB}?pretty=%00", {}, 200),
        ("/openapi/v3?pretty=true", {"Accept-Encoding": "gzip", "User-Agent": "curl/8"}, 200),
        ("/openapi/v3", {"Accept": "application/yaml,*/*", "Accept-Encoding": "gzip"}, 200),
        (WEB, {"User-Agent": "\xff" * 2000}, 200),
    ],
)
async def test_odd_headers_and_queries(wire: Wire, path: str, headers: dict[str, str], code: int):
    assert (await wire.request("GET", path, **headers)).code == code
    assert (await wire.request("HEAD", path, **headers)).code == code


# --- warnings ---


@pytest.mark.parametrize(
    ("keys", "warned"),
    [
        (["a"], ['unknown field "a"']),
        (["a\r\nSet-Cookie: b", "\x85", "b"], ['unknown field "b"']),
        (["\u00e9\U0001f600"], ['unknown field "\u00e9\U0001f600"']),
        ([f"{letter * 3000}" for letter in "abc"], [f'unknown field "{letter * 241}' for letter in "abc"]),
        ([f"{number:04}" + "x" * 300 for number in range(100)], None),
    ],
    ids=["one", "control characters", "beyond ASCII", "long", "many"],
)
async def test_warnings_fit_into_a_header(wire: Wire, keys: list[str], warned: list[str] | None):
    body = msgspec.json.encode({**pod("other"), **dict.fromkeys(keys, 1)})
    reply = await wire.request("POST", f"{PODS}?dryRun=All", body)
    assert reply.code == 201
    header = reply.headers["warning"].encode("latin-1").decode()
    assert len(header) < 6000
    if warned is not None:
        texts = [text.replace('"', '\\"') for text in warned]
        assert header == ", ".join(f'299 - "{text}"' for text in texts)


async def test_the_head_of_a_watch_is_that_of_the_list(wire: Wire):
    reply = await wire.request("HEAD", f"{PODS}?watch=1")
    assert reply.code == 200
    assert "content-length" in reply.headers
