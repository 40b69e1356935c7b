import base64
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from emu.api.errors import StatusError
from emu.api.lists import listed
from emu.api.registry import Registry
from emu.api.resources import BY_NAME
from emu.api.routes import Route
from emu.api.store import Store

from .conftest import Server, pod
from .test_http import TABLE, call, raw

PODS = "/api/v1/namespaces/default/pods"


def token(**fields: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(fields)).decode().rstrip("=")


def fields_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


@pytest.fixture
def registry() -> Registry:
    """Namespaces a and a-b with Pods; few changes are retained."""
    made = Registry(Store(None, retained=6), BY_NAME, {})
    for namespace in ("a", "a-b"):
        made.create(BY_NAME["namespaces"], "", {"metadata": {"name": namespace}})
        for name in ("x", "y", "z"):
            made.create(
                BY_NAME["pods"],
                namespace,
                {**pod(name), "metadata": {"name": name, "labels": {"odd": str(name != "y").lower()}}},
            )
    return made


def pods(registry: Registry, query: Mapping[str, str], namespace: str = "") -> tuple[list[str], Any]:
    found = listed(registry.store, Route(BY_NAME["pods"], namespace, "", ""), query)
    return [item.path for item in found.items], found.metadata


def add(registry: Registry, name: str) -> None:
    registry.create(BY_NAME["pods"], "a", pod(name))


ALL = ["a-b/x", "a-b/y", "a-b/z", "a/x", "a/y", "a/z"]


@pytest.mark.parametrize("namespace", ["", "a"])
def test_the_pages_of_a_list_are_one_snapshot(registry: Registry, namespace: str):
    expected = [path for path in ALL if not namespace or path.startswith("a/")]
    first, metadata = pods(registry, {"limit": "2"}, namespace)
    version = metadata["resourceVersion"]
    assert fields_of(metadata["continue"]) == {
        "v": "meta.k8s.io/v1",
        "rv": int(version),
        "start": "y\0" if namespace else "a-b/y\0",
    }
    assert metadata["remainingItemCount"] == len(expected) - 2
    # What is made, deleted and changed between the pages does not show.
    add(registry, "w")
    registry.remove(registry.store.items("pods", "a")[-1].key)
    seen = first
    while "continue" in metadata:
        page, metadata = pods(registry, {"limit": "2", "continue": metadata["continue"]}, namespace)
        seen += page
        assert metadata["resourceVersion"] == version
    assert seen == expected


def test_a_page_that_ends_the_list_has_no_token(registry: Registry):
    assert pods(registry, {"limit": "6"})[1] == {"resourceVersion": "8"}


def test_selectors_leave_out_the_remaining_count(registry: Registry):
    paths, metadata = pods(registry, {"limit": "2", "labelSelector": "odd=true"})
    assert paths == ["a-b/x", "a-b/z"]
    assert "remainingItemCount" not in metadata
    query = {"limit": "2", "labelSelector": "odd=true", "continue": metadata["continue"]}
    paths, metadata = pods(registry, query)
    assert paths == ["a/x", "a/z"]
    assert "continue" not in metadata


def test_an_expired_token_offers_one_for_the_rest(registry: Registry):
    first, metadata = pods(registry, {"limit": "2"})
    for number in range(7):
        add(registry, f"new-{number}")
    query = {"limit": "2", "continue": metadata["continue"]}
    with pytest.raises(StatusError) as refused:
        pods(registry, query)
    status = refused.value.status()
    assert (status["code"], status["reason"]) == (410, "Expired")
    assert status["message"].startswith(
        "The provided continue parameter is too old to display a consistent list"
    )
    again = status["metadata"]["continue"]
    assert fields_of(again) == {"v": "meta.k8s.io/v1", "rv": -1, "start": "a-b/y\0"}
    rest, metadata = pods(registry, {"continue": again})
    assert first + rest == [*ALL[:3], *(f"a/new-{number}" for number in range(7)), *ALL[3:]]
    assert metadata["resourceVersion"] == str(registry.store.version)


# Six changes of 8 are retained: the versions 2 to 8 can be listed.
@pytest.mark.parametrize(
    ("rule", "query", "count", "version"),
    [
        ("most recent", {}, 6, 8),
        ("any", {"resourceVersion": "0"}, 6, 8),
        ("any, a page", {"resourceVersion": "0", "limit": "9"}, 6, 8),
        ("not older", {"resourceVersion": "6"}, 6, 8),
        ("not older than one that is gone", {"resourceVersion": "1"}, 6, 8),
        ("not older, said", {"resourceVersion": "6", "resourceVersionMatch": "NotOlderThan"}, 6, 8),
        (
            "not older, a page",
            {"resourceVersion": "6", "resourceVersionMatch": "NotOlderThan", "limit": "9"},
            6,
            8,
        ),
        ("any, said", {"resourceVersion": "0", "resourceVersionMatch": "NotOlderThan"}, 6, 8),
        ("exact", {"resourceVersion": "6", "resourceVersionMatch": "Exact"}, 4, 6),
        ("exact for the oldest", {"resourceVersion": "2", "resourceVersionMatch": "Exact"}, 1, 2),
        ("exact for the newest", {"resourceVersion": "8", "resourceVersionMatch": "Exact"}, 6, 8),
        ("a page of a version is exact", {"resourceVersion": "6", "limit": "9"}, 4, 6),
    ],
)
def test_which_version_is_listed(
    registry: Registry, rule: str, query: Mapping[str, str], count: int, version: int
):
    paths, metadata = pods(registry, query)
    assert (len(paths), metadata["resourceVersion"]) == (count, str(version))


FORBIDDEN = 'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: '


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        (
            {"resourceVersionMatch": "Exact"},
            422,
            f"{FORBIDDEN}resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            {"resourceVersionMatch": "Exact", "resourceVersion": "0"},
            422,
            f'{FORBIDDEN}resourceVersionMatch "exact" is forbidden for resourceVersion "0"',
        ),
        (
            {"resourceVersionMatch": "Exact", "resourceVersion": "5", "continue": "x"},
            422,
            f"{FORBIDDEN}resourceVersionMatch is forbidden when continue is provided",
        ),
        (
            {"resourceVersionMatch": "Newer", "resourceVersion": "5"},
            422,
            'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Unsupported value: "Newer": '
            'supported values: "Exact", "NotOlderThan", ""',
        ),
        (
            {"sendInitialEvents": "false"},
            422,
            'ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is '
            "forbidden for list",
        ),
        ({"resourceVersion": "9"}, 504, "Timeout: Too large resource version: 9, current: 8"),
        (
            {"resourceVersion": "9", "resourceVersionMatch": "Exact"},
            504,
            "Timeout: Too large resource version: 9, current: 8",
        ),
        (
            {"resourceVersion": "1", "resourceVersionMatch": "Exact"},
            410,
            "The resourceVersion for the provided list is too old.",
        ),
        (
            {"resourceVersion": "-1"},
            400,
            'invalid resource version: resourceVersion: Invalid value: "-1": strconv.ParseUint: parsing '
            '"-1": invalid syntax',
        ),
        (
            {"resourceVersion": "9" * 5000},
            400,
            f'invalid resource version: resourceVersion: Invalid value: "{"9" * 5000}": '
            f'strconv.ParseUint: parsing "{"9" * 5000}": value out of range',
        ),
        (
            {"continue": token(v="meta.k8s.io/v1", rv=5, start="a/x\0"), "resourceVersion": "5"},
            400,
            "specifying resource version is not allowed when using continue",
        ),
        (
            {"continue": "ab.c"},
            400,
            "invalid continue token: continue key is not valid: illegal base64 data at input byte 2",
        ),
        (
            {"continue": token(v="v2", rv=5, start="a/x")},
            400,
            "invalid continue token: continue key is not valid: server does not recognize this encoded "
            "version v2",
        ),
        (
            {"continue": token(v="meta.k8s.io/v1", start="a/x")},
            400,
            "invalid continue token: continue key is not valid: incorrect encoded start resourceVersion "
            "(version meta.k8s.io/v1)",
        ),
        (
            {"continue": token(v="meta.k8s.io/v1", rv=5)},
            400,
            "invalid continue token: continue key is not valid: encoded start key empty "
            "(version meta.k8s.io/v1)",
        ),
        (
            {"continue": token(v="meta.k8s.io/v1", rv=5, start="../a/x")},
            400,
            "invalid continue token: continue key is not valid: ../a/x",
        ),
    ],
)
def test_refusals(registry: Registry, query: Mapping[str, str], code: int, message: str):
    with pytest.raises(StatusError) as refused:
        pods(registry, query)
    assert (refused.value.code, refused.value.message) == (code, message)


@pytest.mark.parametrize("text", ["bm90IEpTT04", token(v=1), token(rv="x"), "W10", "x", "_w"])
def test_a_token_that_holds_something_else_is_refused(registry: Registry, text: str):
    with pytest.raises(StatusError) as refused:
        pods(registry, {"continue": text})
    assert refused.value.code == 400
    assert refused.value.message.startswith("invalid continue token: continue key is not valid: ")


# --- over HTTP ---


async def test_tables_page_too(server: Server):
    for name in "abc":
        await call(server, "POST", PODS, body=pod(name))
    _, first, _ = await raw(server, "GET", f"{PODS}?limit=2", headers={"Accept": TABLE})
    await call(server, "DELETE", f"{PODS}/c")
    rest = f"{PODS}?limit=2&continue={first['metadata']['continue']}"
    _, second, _ = await raw(server, "GET", rest, headers={"Accept": TABLE})
    assert [row["cells"][0] for page in (first, second) for row in page["rows"]] == ["a", "b", "c"]
    assert first["metadata"]["remainingItemCount"] == 1


async def test_one_object_as_of_a_version(server: Server):
    created = await call(server, "POST", PODS, body=pod())
    version = int(created["metadata"]["resourceVersion"])
    for text in ("", "0", "1", str(version)):
        status, found, _ = await raw(server, "GET", f"{PODS}/web?resourceVersion={text}")
        assert (status, found) == (200, created)
    status, found, headers = await raw(server, "GET", f"{PODS}/web?resourceVersion={version + 1}")
    assert (status, found["reason"], headers["Retry-After"]) == (504, "Timeout", "1")
    assert found["details"] == {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    status, _, _ = await raw(server, "GET", f"{PODS}/web?resourceVersion=x")
    assert status == 400


async def test_what_a_table_includes(server: Server):
    await call(server, "POST", PODS, body=pod())
    for include, kind in (("", "PartialObjectMetadata"), ("Object", "Pod"), ("None", None)):
        path = f"{PODS}?includeObject={include}"
        _, found, _ = await raw(server, "GET", path, headers={"Accept": TABLE})
        assert found["rows"][0].get("object", {}).get("kind") == kind
    status, found, _ = await raw(server, "GET", f"{PODS}?includeObject=x", headers={"Accept": TABLE})
    assert (status, found["message"]) == (
        400,
        'Unable to convert to Table as requested: includeObject: Invalid value: "x": must be '
        "'Metadata', 'Object', 'None', or empty",
    )
