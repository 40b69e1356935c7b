from typing import Any

import pytest

from emu.api.errors import BadRequestError, UnprocessableError
from emu.api.patch import json_patch, merge_patch
from emu.api.resources import BY_NAME
from emu.api.schemas import root
from emu.api.strategic import strategic_merge


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        # The examples of RFC 7386, appendix A.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, result: Any):
    assert merge_patch(target, patch) == result


def test_json_patch_applies_its_operations():
    operations = [
        {"op": "test", "path": "/a", "value": 1},
        {"op": "replace", "path": "/a", "value": 2},
        {"op": "add", "path": "/b/-", "value": "x"},
    ]
    assert json_patch({"a": 1, "b": []}, operations) == {"a": 2, "b": ["x"]}


@pytest.mark.parametrize(
    ("operations", "error"),
    [
        ([{"op": "test", "path": "/a", "value": 2}], UnprocessableError),
        ([{"op": "remove", "path": "/none"}], UnprocessableError),
        ([{"op": "bogus", "path": "/a"}], BadRequestError),
        ({"op": "remove"}, BadRequestError),
        (["text"], BadRequestError),
    ],
)
def test_json_patch_refuses(operations: Any, error: type[Exception]):
    with pytest.raises(error):
        json_patch({"a": 1}, operations)


HTTP = {"name": "http", "port": 80, "protocol": "TCP"}
TLS = {"name": "https", "port": 443, "protocol": "TCP"}
A, B, C = ({"name": name, "image": "x"} for name in "abc")


def service(*ports: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"spec": {"ports": [dict(port) for port in ports], **more}}


def workload(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [dict(item) for item in containers]}}, **more}}


@pytest.mark.parametrize(
    ("kind", "original", "patch", "result"),
    [
        pytest.param(
            "services",
            service(HTTP),
            service({"port": 80, "name": "web"}),
            service({**HTTP, "name": "web"}),
            id="an element is merged by its key",
        ),
        pytest.param(
            "services", service(HTTP), service(TLS), service(HTTP, TLS), id="a new element is added"
        ),
        pytest.param(
            "services",
            service(HTTP, TLS),
            {"spec": {"ports": [{"$patch": "delete", "port": 80}]}},
            service(TLS),
            id="$patch: delete removes an element",
        ),
        pytest.param(
            "services",
            service(HTTP),
            {"spec": {"ports": [TLS, {"$patch": "replace"}]}},
            service(TLS),
            id="$patch: replace replaces the list",
        ),
        pytest.param(
            "services",
            service(HTTP, selector={"a": "b"}),
            {"spec": {"selector": {"$patch": "replace", "c": "d"}}},
            service(HTTP, selector={"c": "d"}),
            id="$patch: replace replaces a map",
        ),
        pytest.param(
            "services",
            service(HTTP, selector={"a": "b", "c": "d"}),
            {"spec": {"selector": {"a": None}}},
            service(HTTP, selector={"c": "d"}),
            id="null removes a key",
        ),
        pytest.param(
            "deployments.apps",
            workload(A, B),
            {
                "spec": {
                    "template": {
                        "spec": {
                            "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
                            "containers": [C],
                        }
                    }
                }
            },
            workload(B, C, A),
            id="$setElementOrder orders",
        ),
        pytest.param(
            "deployments.apps",
            workload(A, B, C),
            {"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]}}}},
            workload(B, C, A),
            id="$setElementOrder alone orders, what it does not name keeps its place",
        ),
        pytest.param(
            "deployments.apps",
            workload(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}),
            {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}},
            workload(strategy={"type": "Recreate"}),
            id="$retainKeys drops the others",
        ),
        pytest.param(
            "pods",
            {"metadata": {"finalizers": ["a/a", "b/b", "c/c"]}},
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["b/b"]}},
            {"metadata": {"finalizers": ["a/a", "c/c"]}},
            id="$deleteFromPrimitiveList",
        ),
        pytest.param(
            "pods",
            {"metadata": {"finalizers": ["a/a"]}},
            {"metadata": {"finalizers": ["b/b", "a/a"]}},
            {"metadata": {"finalizers": ["a/a", "b/b"]}},
            id="a list of scalars with strategy merge is a set",
        ),
        pytest.param(
            "pods",
            {"spec": {"containers": [{"name": "a", "args": ["1", "2"]}]}},
            {"spec": {"containers": [{"name": "a", "args": ["3"]}]}},
            {"spec": {"containers": [{"name": "a", "args": ["3"]}]}},
            id="a list without strategy is replaced",
        ),
    ],
)
def test_strategic_merge(kind: str, original: Any, patch: Any, result: Any):
    assert strategic_merge(original, patch, root(BY_NAME[kind])) == result


@pytest.mark.parametrize(
    "patch",
    [
        {"$patch": "bogus"},
        {"spec": {"ports": [{"name": "without its key"}]}},
        {"spec": {"ports": ["text"]}},
        {"spec": {"$retainKeys": ["type"], "ports": []}},
        {"spec": {"$setElementOrder/ports": 1}},
    ],
)
def test_strategic_merge_refuses(patch: Any):
    with pytest.raises(BadRequestError):
        strategic_merge(service(HTTP), patch, root(BY_NAME["services"]))
