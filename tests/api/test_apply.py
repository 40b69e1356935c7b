import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.api.apply import LAST_APPLIED, ApplyConflictError, apply, apply_scale
from emu.api.errors import BadRequestError
from emu.api.fieldsets import contains, paths
from emu.api.ownership import APPLY, Manager, owners, set_owners
from emu.api.resource import Document
from emu.api.resources import BY_NAME
from emu.api.schemas import root, types
from emu.api.shapes import added, shape_of
from tests.api.ownership_scenes import THING, Write, applies, content, document, owned, scene, updates, write

NOW = "2026-01-01T00:00:00Z"
A, B, C = '.items[name="a"]', '.items[name="b"]', '.items[name="c"]'


def items(names: str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": name, **more} for name in names]


@pytest.mark.parametrize(
    ("writes", "result", "expected"),
    [
        pytest.param(
            [applies("one", text="x", map={"a": "1"}, set=["s"], items=items("a"), atomic={"a": "x"})],
            {"text": "x", "map": {"a": "1"}, "set": ["s"], "items": items("a"), "atomic": {"a": "x"}},
            {"one": [".atomic", A, f"{A}.name", ".map.a", '.set[="s"]', ".text"]},
            id="an applier owns what it names, not what holds it",
        ),
        pytest.param(
            [applies("one", map={}, struct={}, set=[], items=[])],
            {"map": {}, "struct": {}, "set": [], "items": []},
            {"one": [".map", ".struct"]},
            id="an empty map is owned, an empty list is not",
        ),
        pytest.param(
            [applies("one", text="x"), applies("two", number=1)],
            {"text": "x", "number": 1},
            {"one": [".text"], "two": [".number"]},
            id="what others applied stays",
        ),
        pytest.param(
            [applies("one", text="x"), applies("two", text="x")],
            {"text": "x"},
            {"one": [".text"], "two": [".text"]},
            id="the same value is shared",
        ),
        pytest.param(
            [applies("one", text="x"), applies("two", text="x"), applies("one")],
            {"text": "x"},
            {"two": [".text"]},
            id="one who shares may let go",
        ),
        pytest.param(
            [applies("one", text="x", number=1), applies("one", number=1)],
            {"number": 1},
            {"one": [".number"]},
            id="what is applied no more is removed",
        ),
        pytest.param(
            [applies("one", text="x"), updates("two", text="y"), applies("one")],
            {"text": "y"},
            {"two": [".text"]},
            id="unless an updater has taken it",
        ),
        pytest.param(
            [updates("two", text="x"), applies("one", text="x"), applies("one")],
            {"text": "x"},
            {"two": [".text"]},
            id="or owns it too",
        ),
        pytest.param(
            [applies("one", text="x"), updates("two", text="x", number=1), applies("one")],
            {"number": 1},
            {"two": [".number"]},
            id="what others added stays when the rest goes",
        ),
        pytest.param(
            [applies("one", text="x"), applies("two", force=True, text="y")],
            {"text": "y"},
            {"two": [".text"]},
            id="force takes a field",
        ),
        pytest.param(
            [updates("one", text="x", number=1), applies("two", force=True, text="y")],
            {"text": "y", "number": 1},
            {"one": [".number"], "two": [".text"]},
            id="from updaters too",
        ),
        pytest.param(
            [applies("one", struct={"name": "a", "value": 1}), applies("one")],
            {},
            {},
            id="an object goes with the last of its fields",
        ),
        pytest.param(
            [
                applies("one", struct={"name": "a"}),
                updates("two", struct={"name": "a", "value": 1}),
                applies("one"),
            ],
            {"struct": {"value": 1}},
            {"two": [".struct.value"]},
            id="but not while others own some",
        ),
        pytest.param(
            [
                applies("one", struct={"name": "a"}),
                updates("two", struct={"name": "b", "value": 1}),
                applies("one", struct={}),
            ],
            {"struct": {"name": "b", "value": 1}},
            {"one": [".struct"], "two": [".struct.name", ".struct.value"]},
            id="an empty object removes nothing that others took",
        ),
        pytest.param(
            [applies("one", map={"a": "1", "b": "2"}), applies("one", map={"b": "2", "c": "3"})],
            {"map": {"b": "2", "c": "3"}},
            {"one": [".map.b", ".map.c"]},
            id="entries of a map are removed one by one",
        ),
        pytest.param(
            [applies("one", maps={"a": {"b": "x", "c": "y"}}), applies("one", maps={"b": {"a": "x"}})],
            {"maps": {"b": {"a": "x"}}},
            {"one": [".maps.b", ".maps.b.a"]},
            id="maps in maps too",
        ),
        pytest.param(
            [
                applies("one", items=items("ab")),
                applies("two", items=items("c")),
                applies("one", items=items("a")),
            ],
            {"items": items("ac")},
            {"one": [A, f"{A}.name"], "two": [C, f"{C}.name"]},
            id="list items are removed one by one",
        ),
        pytest.param(
            [
                applies("one", items=items("abc")),
                applies("two", items=items("cd")),
                applies("one", items=items("a")),
            ],
            {"items": items("acd")},
            {
                "one": [A, f"{A}.name"],
                "two": [C, f"{C}.name", '.items[name="d"]', '.items[name="d"].name'],
            },
            id="a shared list item stays",
        ),
        pytest.param(
            [applies("one", items=items("a", value=1)), applies("one", items=items("b", value=2))],
            {"items": items("b", value=2)},
            {"one": [B, f"{B}.name", f"{B}.value"]},
            id="a list item is replaced by another",
        ),
        pytest.param(
            [
                applies("one", items=[{"name": "a"}, {"name": "b", "inner": ["c"]}]),
                applies("two", items=[{"name": "b", "inner": ["d"]}]),
                updates("ctl", items=[{"name": "a"}, {"name": "b", "inner": ["c", "d", "e"]}]),
                applies("one", items=items("a")),
            ],
            {"items": [{"name": "a"}, {"name": "b", "inner": ["d", "e"]}]},
            {
                "one": [A, f"{A}.name"],
                "two": [B, f'{B}.inner[="d"]', f"{B}.name"],
                "ctl": [f'{B}.inner[="e"]'],
            },
            id="an item that others applied loses only what was the applier's",
        ),
        pytest.param(
            [
                applies("one", items=[{"name": "a"}, {"name": "b", "inner": ["c"]}]),
                updates("ctl", items=[{"name": "a"}, {"name": "b", "inner": ["c", "d"]}]),
                applies("one", items=items("a")),
            ],
            {"items": [{"name": "a"}]},
            {"one": [A, f"{A}.name"]},
            id="an item that no one else holds goes with what updaters put into it",
        ),
        pytest.param(
            [
                applies("one", set=["a", "c"]),
                updates("two", set=["a", "b", "c", "d"]),
                applies("one", set=["a", "e", "c", "f"]),
            ],
            {"set": ["a", "b", "e", "c", "d", "f"]},
            {
                "one": ['.set[="a"]', '.set[="c"]', '.set[="e"]', '.set[="f"]'],
                "two": ['.set[="b"]', '.set[="d"]'],
            },
            id="others stay before the shared items that they were before, new ones come after them",
        ),
        pytest.param(
            [applies("one", set=["a", "b", "c", "d"]), applies("one", set=["a", "d", "c", "b"])],
            {"set": ["a", "d", "c", "b"]},
            {"one": ['.set[="a"]', '.set[="b"]', '.set[="c"]', '.set[="d"]']},
            id="the applied order counts",
        ),
        pytest.param(
            [
                applies("one", set=["a", "b"]),
                updates("two", set=["b", "x", "a"]),
                applies("one", set=["a", "b"]),
            ],
            {"set": ["x", "a", "b"]},
            {"one": ['.set[="a"]', '.set[="b"]'], "two": ['.set[="x"]']},
            id="and restores itself",
        ),
        pytest.param(
            [applies("one", set=["a", "b"]), applies("one", set=["b"])],
            {"set": ["b"]},
            {"one": ['.set[="b"]']},
            id="an item of a set is removed",
        ),
        pytest.param(
            [
                updates("two", ports=[{"port": 80, "protocol": "TCP"}]),
                applies("one", ports=[{"port": 80, "name": "a"}]),
            ],
            {"ports": [{"port": 80, "protocol": "TCP", "name": "a"}]},
            {
                "one": [
                    '.ports[port=80,protocol="TCP"]',
                    '.ports[port=80,protocol="TCP"].name',
                    '.ports[port=80,protocol="TCP"].port',
                ],
                "two": [
                    ".ports",
                    '.ports[port=80,protocol="TCP"]',
                    '.ports[port=80,protocol="TCP"].port',
                    '.ports[port=80,protocol="TCP"].protocol',
                ],
            },
            id="a key that is left out is its default",
        ),
        pytest.param(
            [
                applies("one", ports=[{"port": 80}, {"port": 80, "protocol": "UDP"}]),
                applies("one", ports=[{"port": 80, "protocol": "TCP"}]),
            ],
            {"ports": [{"port": 80, "protocol": "TCP"}]},
            {
                "one": [
                    '.ports[port=80,protocol="TCP"]',
                    '.ports[port=80,protocol="TCP"].port',
                    '.ports[port=80,protocol="TCP"].protocol',
                ]
            },
            id="items are told apart by all their keys",
        ),
        pytest.param(
            [
                applies("one", atomic={"a": "x", "b": "y"}, whole=[{"a": "1"}]),
                applies("one", atomic={"a": "z"}, whole=[]),
            ],
            {"atomic": {"a": "z"}, "whole": []},
            {"one": [".atomic", ".whole"]},
            id="atomic maps and lists are replaced",
        ),
        pytest.param(
            [updates("two", text="x", map={"a": "1"}), applies("one", force=True, text=None, map=None)],
            {"map": {"a": "1"}},
            {"one": [".map", ".text"], "two": [".map", ".map.a"]},
            id="null clears a scalar and owns it, and leaves the contents of a map",
        ),
        pytest.param(
            [updates("u", items=items("aab")), applies("one", number=5)],
            {"items": items("aab"), "number": 5},
            {"one": [".number"], "u": [".items", A, B, f"{B}.name"]},
            id="doubled live items are left alone",
        ),
        pytest.param(
            [
                updates("u", items=[*items("aa", more=1), {"name": "b"}]),
                applies("one", force=True, items=items("a", value=3)),
            ],
            {"items": [{"name": "a", "value": 3}, {"name": "b"}]},
            {"one": [A, f"{A}.name", f"{A}.value"], "u": [".items", B, f"{B}.name"]},
            id="doubled live items become the applied one",
        ),
        pytest.param(
            [
                applies("one", items=items("ab")),
                updates("u", items=items("aab")),
                applies("one", items=items("b")),
            ],
            {"items": items("aab")},
            {"one": [B, f"{B}.name"], "u": [A]},
            id="items that an updater doubled are its own",
        ),
        pytest.param(
            [applies("one", text="x", status={"state": "on"})],
            {"text": "x", "status": {"state": "on"}},
            {"one": [".text"]},
            id="the status is not owned through the main resource",
        ),
        pytest.param(
            [
                updates("k", text="x"),
                updates("k", subresource="status", text="x", status={"state": "on"}),
                applies("one", text="x", status={"state": "off"}),
            ],
            {"text": "x", "status": {"state": "off"}},
            {"one": [".text"], "k": [".text"], "k/status": [".status.state"]},
            id="nor does it conflict there",
        ),
        pytest.param(
            [
                updates("k", text="x"),
                applies("one", subresource="status", text="y", status={"state": "on"}),
                applies("one", subresource="status", status={"count": 1}),
            ],
            {"text": "y", "status": {"count": 1}},
            {"one/status": [".status.count"], "k": [".text"]},
            id="through the status only the status is owned",
        ),
    ],
)  # fmt: skip
def test_apply(writes: list[Write], result: dict[str, Any], expected: dict[str, list[str]]):
    live = scene(*writes)
    assert (content(live), owned(live)) == (result, expected)


@pytest.mark.parametrize(
    ("before", "applied", "message", "causes"),
    [
        pytest.param(
            [updates("kubectl-client-side-apply", text="x")],
            applies("two", text="y"),
            'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using v1: .text',
            [('conflict with "kubectl-client-side-apply" using v1', ".text")],
            id="an updater is named with its version",
        ),
        pytest.param(
            [applies("one", text="x")],
            applies("two", text="y"),
            'Apply failed with 1 conflict: conflict with "one": .text',
            [('conflict with "one"', ".text")],
            id="an applier is not",
        ),
        pytest.param(
            [updates("k", text="x"), updates("k", subresource="status", text="x", status={"state": "a"})],
            applies("two", subresource="status", status={"state": "b"}),
            "Apply failed with 1 conflict: "
            'conflict with "k" with subresource "status" using v1: .status.state',
            [('conflict with "k" with subresource "status" using v1', ".status.state")],
            id="a subresource is named",
        ),
        pytest.param(
            [applies("one", items=items("a", value=1), text="x"), applies("also", number=1)],
            applies("two", items=items("a", value=2), text="y", number=2),
            'Apply failed with 3 conflicts: conflicts with "also":\n- .number\n'
            'conflicts with "one":\n- .text\n- .items[name="a"].value',
            [
                ('conflict with "also"', ".number"),
                ('conflict with "one"', ".text"),
                ('conflict with "one"', f"{A}.value"),
            ],
            id="several are listed by manager",
        ),
        pytest.param(
            [updates("u", items=items("aa"))],
            applies("two", items=items("a", value=2)),
            'Apply failed with 1 conflict: conflict with "u" using v1: .items[name="a"]',
            [('conflict with "u" using v1', A)],
            id="doubled items conflict as one field",
        ),
        pytest.param(
            [applies("one", atomic={"a": "x"})],
            applies("two", atomic={"b": "y"}),
            'Apply failed with 1 conflict: conflict with "one": .atomic',
            [('conflict with "one"', ".atomic")],
            id="an atomic map conflicts whole",
        ),
        pytest.param(
            [applies("one", text="x")],
            applies("two", text=None),
            'Apply failed with 1 conflict: conflict with "one": .text',
            [('conflict with "one"', ".text")],
            id="null conflicts as a value does",
        ),
    ],
)  # fmt: skip
def test_conflicts(before: list[Write], applied: Write, message: str, causes: list[tuple[str, str]]):
    live = scene(*before)
    with pytest.raises(ApplyConflictError) as caught:
        write(live, applied)
    assert caught.value.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "Conflict",
        "details": {
            "causes": [
                {"reason": "FieldManagerConflict", "message": text, "field": field} for text, field in causes
            ]
        },
        "code": 409,
    }
    assert live == scene(*before)


def test_after_force_another_applier_gives_way_silently():
    live = scene(applies("one", text="x", number=1), applies("two", force=True, text="y"))
    after = write(live, applies("one", number=1))
    assert (content(after), owned(after)) == (
        {"text": "y", "number": 1},
        {"one": [".number"], "two": [".text"]},
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param({"typo": 1}, ".typo: field not declared in schema", id="a field that the kind lacks"),
        pytest.param(
            {"items": items("aa")},
            '.items: duplicate entries for key [name="a"]',
            id="items of the same keys",
        ),
        pytest.param(
            {"ports": [{"port": 80}, {"port": 80, "protocol": "TCP"}]},
            '.ports: duplicate entries for key [port=80,protocol="TCP"]',
            id="the same by default",
        ),
        pytest.param(
            {"items": [{"value": 1}, {"value": 2}]},
            '.items: duplicate entries for key [name=""]',
            id="a key without a default that is left out is empty",
        ),
        pytest.param({"set": ["a", "a"]}, '.set: duplicate entries for key [="a"]', id="a set with doubles"),
        pytest.param(
            {"text": 1}, ".text: expected string, got &value.valueUnstructured{Value:1}", id="no string"
        ),
        pytest.param({"number": "1"}, ".number: expected numeric (int or float), got string", id="no number"),
        pytest.param(
            {"number": True}, ".number: expected numeric (int or float), got bool", id="a boolean is none"
        ),
        pytest.param({"flag": "true"}, ".flag: expected boolean, got &{true}", id="no boolean"),
        pytest.param({"map": ["a", 1]}, ".map: expected map, got &{[a 1]}", id="no map"),
        pytest.param({"items": {"a": "b"}}, ".items: expected list, got &{map[a:b]}", id="no list"),
        pytest.param(
            {"amount": {}}, ".amount: expected any scalar, got &{map[]}", id="neither number nor text"
        ),
        pytest.param(
            {"items": [None]},
            ".items: element 0: associative list with keys may not have a null element",
            id="a null item",
        ),
        pytest.param(
            {"set": [{}]},
            ".set: element 0: associative list without keys has an element that's a map type",
            id="a map in a set",
        ),
        pytest.param(
            {"whole": [{"b": 1}]}, ".whole[0].b: field not declared in schema", id="in an atomic list"
        ),
        pytest.param(
            {"atomic": {"c": "x"}}, ".atomic.c: field not declared in schema", id="in an atomic map"
        ),
        pytest.param(
            {"text": 1, "items": [{"name": "a", "value": "x"}]},
            "errors:\n  .text: expected string, got &value.valueUnstructured{Value:1}\n"
            '  .items[name="a"].value: expected numeric (int or float), got string',
            id="several at once",
        ),
    ],
)
def test_configurations_that_do_not_fit(body: dict[str, Any], text: str):
    with pytest.raises(BadRequestError) as caught:
        scene(applies("one", metadata={"namespace": "default"}, **body))
    assert str(caught.value) == f"failed to create typed patch object (default/x; /v1, Kind=Thing): {text}"


def test_a_configuration_has_no_entries():
    with pytest.raises(BadRequestError, match=r"^metadata\.managedFields must be nil$"):
        scene(applies("one", metadata={"managedFields": []}))


@pytest.mark.parametrize(
    ("given_", "text"),
    [
        ({"apiVersion": "apps/v1", "kind": "ReplicaSet"}, "apps/v1, Kind=ReplicaSet"),
        ({"apiVersion": "apps/v2", "kind": "Deployment"}, "apps/v2, Kind=Deployment"),
        ({"kind": "Deployment"}, "/, Kind=Deployment"),
    ],
)
def test_a_configuration_of_another_kind_is_refused(given_: Document, text: str):
    manager = Manager("m", APPLY, "apps/v1")
    with pytest.raises(BadRequestError, match=f"^invalid object type: {text}$"):
        apply(None, given_, root(BY_NAME["deployments.apps"]), manager, "", force=False)


def test_applying_again_changes_nothing_not_even_the_time():
    live = scene(applies("one", text="x", items=items("ab")), updates("two", text="x", items=items("abc")))
    later = "2027-01-01T00:00:00Z"
    assert write(live, applies("one", text="x", items=items("ab")), later) == live
    changed = write(live, applies("one", text="y", items=items("ab")), later)
    times = {entry["manager"]: entry["time"] for entry in changed["metadata"]["managedFields"]}
    assert times == {"one": later, "two": "2026-01-01T00:00:01Z"}


def test_an_object_that_nobody_owns_belongs_to_before_first_apply():
    live = {**document({"text": "x", "number": 1}), "status": {"state": "on"}}
    after = write(live, applies("one", text="x"))
    assert owned(after) == {"one": [".text"], "before-first-apply": [".number", ".text"]}
    with pytest.raises(ApplyConflictError, match=r'conflict with "before-first-apply" using v1: \.number$'):
        write(live, applies("one", number=2))


def test_what_nobody_owns_stays_when_its_neighbours_go():
    metadata = {"uid": "u", "labels": {"a": "b"}}
    live = {**scene(applies("one", metadata={"labels": {"a": "b"}}, struct={"name": "x"}))}
    live["metadata"] = {**live["metadata"], **metadata}
    after = write(live, applies("one", text="x"))
    assert {key: value for key, value in after["metadata"].items() if key != "managedFields"} == {
        "name": "x",
        "uid": "u",
    }
    assert content(after) == {"text": "x"}


def test_the_result_shares_nothing_with_the_live_object():
    live = scene(updates("one", map={"a": "1"}, whole=[{"a": "x"}]))
    after = write(live, applies("two", map={"b": "2"}))
    after["map"]["c"] = "3"
    after["whole"][0]["a"] = "y"
    assert content(live) == {"map": {"a": "1"}, "whole": [{"a": "x"}]}


def test_a_kind_without_schema_is_merged_by_keys():
    live = scene(
        applies("one", spec={"a": {"b": 1}, "list": [1]}),
        applies("two", spec={"a": {"c": 2}}),
        applies("one", spec={"list": [2]}),
        node={},
    )
    assert content(live) == {"spec": {"a": {"c": 2}, "list": [2]}}
    assert owned(live) == {"one": [".spec", ".spec.list"], "two": [".spec", ".spec.a", ".spec.a.c"]}


# --- scale ---


SCALE = types()["io.k8s.api.autoscaling.v1.Scale"]
HPA = Manager("hpa", APPLY, "autoscaling/v1", "scale")


def scale(replicas: int) -> Document:
    named = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "x"}}
    return {**named, "spec": {"replicas": replicas}}


def workload() -> Document:
    manager = Manager("one", APPLY, "apps/v1")
    configuration = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "x"},
        "spec": {"replicas": 1, "paused": True},
    }
    return apply(None, configuration, root(BY_NAME["deployments.apps"]), manager, NOW, force=False)


def test_an_applied_scale_is_an_entry_of_the_workload():
    parent = workload()
    with pytest.raises(ApplyConflictError, match=r'conflict with "one": \.spec\.replicas$'):
        apply_scale(parent, scale(1), scale(2), SCALE, HPA, NOW, force=False)
    result, held = apply_scale(parent, scale(1), scale(2), SCALE, HPA, NOW, force=True)
    assert result["spec"] == {"replicas": 2}
    set_owners(parent, held)
    assert owned(parent) == {"one": [".spec.paused"], "hpa/scale": [".spec.replicas"]}
    assert {entry.api_version for entry in held.values()} == {"apps/v1"}
    again, same = apply_scale(parent, scale(2), scale(2), SCALE, HPA, NOW, force=False)
    assert (again["spec"], same) == ({"replicas": 2}, held)


def test_the_same_scale_is_shared():
    parent = workload()
    _, held = apply_scale(parent, scale(1), scale(1), SCALE, HPA, NOW, force=False)
    set_owners(parent, held)
    assert owned(parent) == {"one": [".spec.paused", ".spec.replicas"], "hpa/scale": [".spec.replicas"]}


# --- from client-side to server-side apply ---


def client_applied(**body: Any) -> Document:
    """An object that `kubectl apply` made."""
    annotation = json.dumps(document(body))
    return scene(
        updates("kubectl-client-side-apply", metadata={"annotations": {LAST_APPLIED: annotation}}, **body)
    )


def test_kubectl_takes_over_what_it_applied_on_the_client_side():
    live = client_applied(text="x", number=1)
    after = write(live, applies("kubectl", text="y", number=1))
    assert content(after) == {"text": "y", "number": 1}
    found = owned(after)
    assert found["kubectl"] == [".number", ".text"]
    assert found["kubectl-client-side-apply"] == [
        ".metadata.annotations", f".metadata.annotations.{LAST_APPLIED}", ".number",
    ]  # fmt: skip
    annotation = after["metadata"]["annotations"][LAST_APPLIED]
    assert json.loads(annotation) == document({"text": "y", "number": 1})
    assert annotation.endswith('"text":"y"}\n')


@pytest.mark.parametrize(
    ("live", "applied", "conflict"),
    [
        pytest.param(
            client_applied(text="x"), applies("other", text="y"),
            'conflict with "kubectl-client-side-apply" using v1: .text', id="no other manager does",
        ),
        pytest.param(
            write(
                client_applied(text="x"),
                updates("u", metadata=client_applied(text="x")["metadata"], text="z"),
            ),
            applies("kubectl", text="y"),
            'conflict with "u" using v1: .text', id="nor what was changed since",
        ),
        pytest.param(
            write(
                client_applied(text="x", number=1),
                updates("u", metadata=client_applied(text="x", number=1)["metadata"], text="x", number=2),
            ),
            applies("kubectl", text="y", number=3),
            'Apply failed with 1 conflict: conflict with "u" using v1: .number', id="the rest is no conflict",
        ),
        pytest.param(
            scene(updates("u", metadata={"annotations": {LAST_APPLIED: "{"}}, text="x")),
            applies("kubectl", text="y"),
            'conflict with "u" using v1: .text', id="nor with an annotation that is not JSON",
        ),
        pytest.param(
            scene(updates("u", metadata={"annotations": {LAST_APPLIED: '{"apiVersion":"v0"}'}}, text="x")),
            applies("kubectl", text="y"),
            'conflict with "u" using v1: .text', id="nor of another version",
        ),
    ],
)  # fmt: skip
def test_what_kubectl_does_not_take_over(live: Document, applied: Write, conflict: str):
    with pytest.raises(ApplyConflictError) as caught:
        write(live, applied)
    assert conflict in str(caught.value)


def test_kubectl_last_applied_takes_the_annotation():
    """The second request of `kubectl apply --server-side`."""
    live = client_applied(text="x")
    after = write(
        live,
        applies(
            "kubectl-last-applied", force=True, metadata={"annotations": {LAST_APPLIED: '{"a":"b"}'}}
        ),
    )  # fmt: skip
    assert after["metadata"]["annotations"] == {LAST_APPLIED: '{"a":"b"}'}
    assert owned(after)["kubectl-last-applied"] == [f".metadata.annotations.{LAST_APPLIED}"]


def test_an_annotation_that_grows_too_large_is_dropped():
    live = client_applied(text="x")
    after = write(live, applies("kubectl", force=True, text="y" * (256 * 1024)))
    assert LAST_APPLIED not in after["metadata"].get("annotations", {})


def test_kubectl_adds_no_annotation():
    assert "annotations" not in scene(applies("kubectl", text="x"))["metadata"]


# --- properties ---

NAMES = st.sampled_from("abcd")
TEXTS = st.sampled_from(["x", "y"])
NUMBERS = st.integers(0, 2)
ITEMS = st.lists(
    st.fixed_dictionaries(
        {"name": NAMES}, optional={"value": NUMBERS, "inner": st.lists(NAMES, unique=True)}
    ),
    unique_by=lambda item: item["name"],
    max_size=4,
)
CONTENTS = st.fixed_dictionaries(
    {},
    optional={
        "text": TEXTS,
        "number": NUMBERS,
        "set": st.lists(NAMES, unique=True),
        "items": ITEMS,
        "map": st.dictionaries(NAMES, TEXTS, max_size=3),
        "maps": st.dictionaries(NAMES, st.dictionaries(NAMES, TEXTS, max_size=2), max_size=2),
        "struct": st.fixed_dictionaries({}, optional={"name": TEXTS, "value": NUMBERS}),
        "atomic": st.fixed_dictionaries({}, optional={"a": TEXTS, "b": TEXTS}),
        "whole": st.lists(st.fixed_dictionaries({"a": TEXTS}), max_size=2),
    },
)
WRITES = st.one_of(
    st.builds(lambda name, body: applies(name, force=True, **body), st.sampled_from(["a1", "a2"]), CONTENTS),
    st.builds(lambda name, body: updates(name, **body), st.sampled_from(["u1", "u2"]), CONTENTS),
)
SCENES = st.lists(WRITES, min_size=1, max_size=5)


def every_path(live: Document) -> set[tuple[str, ...]]:
    return set(paths({key: node for key, node in added(live, shape_of(THING)).items() if key != "."}))


@settings(deadline=None, max_examples=60)
@given(SCENES, CONTENTS)
def test_applying_twice_is_applying_once(writes: list[Write], body: dict[str, Any]):
    once = write(scene(*writes), applies("me", force=True, **body), "2026-02-01T00:00:00Z")
    again = write(once, applies("me", **body), "2026-03-01T00:00:00Z")
    assert again == once


@settings(deadline=None, max_examples=60)
@given(SCENES, CONTENTS)
def test_an_applied_configuration_is_in_the_result(writes: list[Write], body: dict[str, Any]):
    after = write(scene(*writes), applies("me", force=True, **body))
    assert write(after, applies("me", **body)) == after
    for key in ("text", "number", "atomic", "whole"):
        if key in body:
            assert after[key] == body[key]
    for key in ("set", "items"):
        order = [item if key == "set" else item["name"] for item in body.get(key, ())]
        found = [item if key == "set" else item["name"] for item in after.get(key, ())]
        assert [item for item in found if item in order] == order


@settings(deadline=None, max_examples=60)
@given(SCENES)
def test_nobody_owns_what_is_not_there(writes: list[Write]):
    live = scene(*writes)
    assert {path for entry in owners(live).values() for path in paths(entry.fields)} <= every_path(live)


@settings(deadline=None, max_examples=60)
@given(SCENES, CONTENTS)
def test_force_leaves_a_changed_field_to_one_owner(writes: list[Write], body: dict[str, Any]):
    before = scene(*writes)
    after = write(before, applies("me", force=True, **body))
    for key in ("text", "number", "atomic", "whole"):
        if key in body and before.get(key) != body[key]:
            holders = [
                who.name for who, entry in owners(after).items() if contains(entry.fields, (f"f:{key}",))
            ]
            assert holders == ["me"]


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(NAMES, TEXTS), st.dictionaries(st.sampled_from("wxyz"), TEXTS), ITEMS)
def test_disjoint_configurations_never_conflict(one: dict[str, str], other: dict[str, str], listed: Any):
    renamed = [{**item, "name": item["name"].upper()} for item in listed]
    live = scene(applies("one", map=one, items=listed), applies("two", map=other, items=renamed))
    assert live["map"] == {**one, **other}
    assert len(live["items"]) == 2 * len(listed)
    alone = write(live, applies("one"))
    assert alone.get("map", {}) == other
    assert alone.get("items", []) == renamed
