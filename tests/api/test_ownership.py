from typing import Any

import pytest

from emu.api.ownership import (
    APPLY,
    UPDATE,
    Entry,
    Manager,
    check,
    decode,
    encode,
    track,
    track_scale,
)
from emu.api.resource import Document
from emu.api.resources import BY_NAME
from emu.api.schemas import root
from tests.api.ownership_scenes import THING, Write, applies, content, document, owned, scene, updates, write

A, B = '.items[name="a"]', '.items[name="b"]'
NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:10:00Z"


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        pytest.param([updates("one", text="x")], {"one": [".text"]}, id="a creator owns what it sets"),
        pytest.param(
            [updates("one", metadata={"labels": {"a": "b"}, "uid": "u", "resourceVersion": "1"})],
            {"one": [".metadata.labels", ".metadata.labels.a"]},
            id="nobody owns the identity and the server's fields",
        ),
        pytest.param(
            [updates("one", struct={"name": "a"}, map={}, items=[{"name": "a"}], set=["x"], whole=[{}])],
            {
                "one": [
                    ".items", A, f"{A}.name", ".map", ".set", '.set[="x"]', ".struct", ".struct.name",
                    ".whole",
                ]
            },
            id="what is added is owned with all that holds it",
        ),
        pytest.param(
            [updates("one", atomic={"a": "x"}, opaque={"any": {"thing": 1}}, amount="1")],
            {"one": [".amount", ".atomic", ".opaque"]},
            id="atomic maps and objects without a schema are one field",
        ),
        pytest.param(
            [updates("one", text="x", number=1), updates("two", text="y", number=1)],
            {"one": [".number"], "two": [".text"]},
            id="who changes a field takes it",
        ),
        pytest.param(
            [updates("one", text="x", number=1), updates("two", text="x")],
            {"one": [".text"]},
            id="nobody owns what was removed",
        ),
        pytest.param(
            [updates("one", text="x"), updates("two")], {}, id="an entry without fields is dropped",
        ),
        pytest.param(
            [updates("one", text="x"), updates("one", text="x", number=1)],
            {"one": [".number", ".text"]},
            id="writes of one manager add up",
        ),
        pytest.param(
            [updates("one", map={"a": "1", "b": "2"}), updates("two", map={"a": "1", "b": "3", "c": "4"})],
            {"one": [".map", ".map.a"], "two": [".map.b", ".map.c"]},
            id="entries of a map are owned one by one",
        ),
        pytest.param(
            [updates("one", map={"a": "1"}), updates("two", map={})],
            {"one": [".map"]},
            id="a map that was emptied stays with its owner",
        ),
        pytest.param(
            [updates("one", atomic={"a": "x"}), updates("two", atomic={"a": "x", "b": "y"})],
            {"two": [".atomic"]},
            id="an atomic map changes its owner whole",
        ),
        pytest.param(
            [updates("one", set=["a", "b"]), updates("two", set=["b", "c"])],
            {"one": [".set", '.set[="b"]'], "two": ['.set[="c"]']},
            id="items of a set are owned one by one",
        ),
        pytest.param(
            [updates("one", set=["a", "b"]), updates("two", set=["b", "a"])],
            {"one": [".set", '.set[="a"]', '.set[="b"]']},
            id="the order of items is nobody's",
        ),
        pytest.param(
            [
                updates("one", items=[{"name": "a", "value": 1}, {"name": "b"}]),
                updates("two", items=[{"name": "a", "value": 2}]),
            ],
            {"one": [".items", A, f"{A}.name"], "two": [f"{A}.value"]},
            id="fields of list items are owned one by one",
        ),
        pytest.param(
            [updates("one", ports=[{"port": 80}]), updates("two", ports=[{"port": 80, "protocol": "TCP"}])],
            {
                "one": [".ports", '.ports[port=80,protocol="TCP"]', '.ports[port=80,protocol="TCP"].port'],
                "two": ['.ports[port=80,protocol="TCP"].protocol'],
            },
            id="a default counts as a key",
        ),
        pytest.param(
            [updates("one", items=[{"name": "a", "value": 1}, {"name": "a", "value": 2}])],
            {"one": [".items", A]},
            id="items of the same keys are one field",
        ),
        pytest.param(
            [
                updates("one", items=[{"name": "a"}, {"name": "b"}]),
                updates("two", items=[{"name": "a"}, {"name": "a"}, {"name": "b"}]),
            ],
            {"one": [".items", B, f"{B}.name"], "two": [A]},
            id="who doubles an item takes it",
        ),
        pytest.param(
            [
                updates("one", items=[{"name": "a", "value": 1}, {"name": "a"}]),
                updates("two", items=[{"name": "a", "value": 2}, {"name": "a"}]),
            ],
            {"one": [".items"], "two": [A]},
            id="who changes a doubled item takes it",
        ),
        pytest.param(
            [
                updates("one", items=[{"name": "a"}, {"name": "a"}]),
                updates("two", items=[{"name": "a"}]),
            ],
            {"one": [".items"], "two": [A, f"{A}.name"]},
            id="who makes a doubled item single takes it",
        ),
        pytest.param(
            [
                updates("one", items=[{"name": "a"}, {"name": "a"}]),
                updates("two", items=[{"name": "a"}, {"name": "a"}, {"name": "b"}]),
            ],
            {"one": [".items", A], "two": [B, f"{B}.name"]},
            id="a doubled item is left alone by others",
        ),
        pytest.param(
            [
                updates("one", text="x", status={"state": "on"}),
                updates("two", subresource="status", text="y", status={"state": "off"}),
            ],
            {"one": [".text"], "two/status": [".status.state"]},
            id="the status belongs to its subresource, and nothing else does",
        ),
        pytest.param(
            [
                updates("one", text="x"),
                updates("two", subresource="status", text="x", status={"state": "a", "count": 1}),
                updates("three", subresource="status", text="x", status={"state": "b", "count": 1}),
            ],
            {"one": [".text"], "two/status": [".status.count"], "three/status": [".status.state"]},
            id="a status is tracked like anything else",
        ),
        pytest.param(
            [updates("one"), updates("two", text="x")], {}, id="an object that nobody owns is not tracked"
        ),
    ],
)  # fmt: skip
def test_updates(writes: list[Write], expected: dict[str, list[str]]):
    assert owned(scene(*writes)) == expected


@pytest.mark.parametrize(
    ("resource", "body", "expected"),
    [
        pytest.param(
            "pods",
            {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "resources": {}}]},
            },
            {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:containers": {'k:{"name":"c"}': {".": {}, "f:name": {}, "f:resources": {}}},
                },
            },
            id="nobody adds the spec and the containers",
        ),
        pytest.param(
            "deployments.apps",
            {
                "spec": {
                    "replicas": 1,
                    "selector": {"matchLabels": {"a": "b"}},
                    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
                    "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}},
                }
            },
            {
                "f:spec": {
                    "f:replicas": {},
                    "f:selector": {},
                    "f:strategy": {"f:type": {}, "f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
                    "f:template": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}},
                }
            },
            id="nor the parts that every workload has",
        ),
        pytest.param(
            "services",
            {
                "spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "protocol": "TCP"}]},
                "status": {"x": 1},
            },
            {
                "f:spec": {
                    "f:selector": {},
                    "f:ports": {
                        ".": {},
                        'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:protocol": {}},
                    },
                }
            },
            id="a selector is one field, a port is known by number and protocol",
        ),
    ],
)
def test_creates_of_real_kinds(resource: str, body: Document, expected: Any):
    new = {"apiVersion": "x", "kind": "y", **body}
    track(None, new, root(BY_NAME[resource]), Manager("m", UPDATE, BY_NAME[resource].api_version), NOW)
    assert [entry["fieldsV1"] for entry in new["metadata"]["managedFields"]] == [expected]


def test_a_kind_without_schema_is_owned_by_keys():
    live = scene(updates("one", spec={"a": {"b": 1}, "list": [{"name": "x"}]}), node={})
    assert owned(live) == {"one": [".spec", ".spec.a", ".spec.a.b", ".spec.list"]}
    after = write(live, updates("two", spec={"a": {"b": {"c": 1}}, "list": [{"name": "x"}]}), node={})
    assert owned(after) == {"one": [".spec", ".spec.a", ".spec.list"], "two": [".spec.a.b", ".spec.a.b.c"]}
    finalized = write(after, updates("f", **content(after), metadata={"finalizers": ["x/y"]}), node={})
    assert owned(finalized)["f"] == [".metadata.finalizers", '.metadata.finalizers[="x/y"]']


def test_how_an_entry_looks():
    live = scene(
        updates("one", text="x"), updates("two", subresource="status", text="x", status={"count": 1})
    )
    assert live["metadata"]["managedFields"] == [
        {
            "manager": "one",
            "operation": "Update",
            "apiVersion": "v1",
            "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:text": {}},
        },
        {
            "manager": "two",
            "operation": "Update",
            "apiVersion": "v1",
            "time": "2026-01-01T00:00:01Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:status": {"f:count": {}}},
            "subresource": "status",
        },
    ]


def test_entries_are_sorted_by_operation_time_and_name():
    held = {
        Manager(name, operation, "v1").identity: Entry({"f:a": {}}, "v1", time)
        for name, operation, time in (
            ("d", UPDATE, "2"), ("c", UPDATE, "1"), ("b", UPDATE, "1"), ("a", APPLY, "9"), ("e", UPDATE, ""),
        )
    }  # fmt: skip
    assert [entry["manager"] for entry in encode(held)] == ["a", "e", "b", "c", "d"]


def test_the_time_of_an_entry_changes_with_a_change_only():
    first = write(None, updates("one", text="x", number=1), NOW)
    same = write(first, updates("one", text="x", number=1), LATER)
    assert same["metadata"]["managedFields"] == first["metadata"]["managedFields"]
    less = write(first, updates("one", text="x"), LATER)
    assert [(entry["time"], entry["fieldsV1"]) for entry in less["metadata"]["managedFields"]] == [
        (NOW, {"f:text": {}})
    ]
    changed = write(first, updates("one", text="y", number=1), LATER)
    assert [entry["time"] for entry in changed["metadata"]["managedFields"]] == [LATER]


def test_the_old_object_stays_as_it_is():
    old = write(None, updates("one", text="x"), NOW)
    entries = old["metadata"]["managedFields"]
    new = {**old, "text": "y"}
    track(old, new, THING, Manager("two", UPDATE, "v1"), LATER)
    assert old["metadata"]["managedFields"] is entries
    assert owned(old) == {"one": [".text"]}
    assert owned(new) == {"two": [".text"]}


def test_a_manager_without_a_name_is_unknown():
    assert owned(scene(updates("", text="x"))) == {"unknown": [".text"]}


def many(count: int) -> Document:
    """An object that `count` managers wrote an entry of a map each, the first the map as well."""
    entries: dict[str, str] = {}
    writes = []
    for number in range(count):
        entries[f"k{number}"] = "v"
        writes.append(updates(f"m{number:02}", map=dict(entries)))
    return scene(*writes)


def test_ten_updaters_are_kept_apart():
    assert sorted(owned(many(10))) == [f"m{number:02}" for number in range(10)]


def test_older_updaters_become_one():
    found = owned(many(12))
    assert sorted(found) == ["ancient-changes", *(f"m{number:02}" for number in range(3, 12))]
    assert found["ancient-changes"] == [".map", ".map.k0", ".map.k1", ".map.k2"]
    entry = next(e for e in many(12)["metadata"]["managedFields"] if e["manager"] == "ancient-changes")
    assert entry["time"] == "2026-01-01T00:00:02Z", "the time of the latest that it holds"


def test_appliers_are_never_put_together():
    live = many(10)
    for number in range(5):
        live = write(live, applies(f"a{number}", text="x"))
    assert len(owned(live)) == 15


# --- entries that clients send ---


def sends(entries: Any, **more: Any) -> Write:
    return updates("two", metadata={"managedFields": entries}, **more)


MINE = {"manager": "me", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1"}


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param([], {}, id="an empty list forgets all"),
        pytest.param([{}], {}, id="and so does an empty entry"),
        pytest.param(
            [{**MINE, "fieldsV1": {"f:text": {}}}],
            {"me": [".text"], "two": [".number"]},
            id="valid ones count",
        ),
        pytest.param(
            [{**MINE, "fieldsV1": {"f:text": {}, "f:number": {}}}],
            {"me": [".text"], "two": [".number"]},
            id="but for what this write changes",
        ),
        pytest.param(
            [{**MINE, "operation": "Own"}], {"one": [".text"], "two": [".number"]}, id="wrong operation"
        ),
        pytest.param([{**MINE, "apiVersion": ""}], {"one": [".text"], "two": [".number"]}, id="no version"),
        pytest.param([{**MINE, "fieldsType": "V2"}], {"one": [".text"], "two": [".number"]}, id="wrong type"),
        pytest.param(
            [{**MINE, "fieldsV1": {"nothing": {}}}], {"one": [".text"], "two": [".number"]}, id="wrong fields"
        ),
        pytest.param([1], {"one": [".text"], "two": [".number"]}, id="no entry at all"),
        pytest.param("x", {"one": [".text"], "two": [".number"]}, id="no list at all"),
    ],
)
def test_entries_that_an_update_sends(entries: Any, expected: dict[str, list[str]]):
    after = scene(updates("one", text="x"), sends(entries, text="x", number=1))
    assert owned(after) == expected


def test_entries_that_a_create_sends_are_taken_over_by_it():
    assert owned(scene(sends([{**MINE, "fieldsV1": {"f:text": {}}}], text="x"))) == {"two": [".text"]}


def test_a_subresource_cannot_set_entries():
    live = scene(updates("one", text="x"))
    after = write(
        live,
        updates("two", subresource="status", text="x", status={"count": 1}, metadata={"managedFields": []}),
    )
    assert owned(after) == {"one": [".text"], "two/status": [".status.count"]}


def test_an_update_without_entries_keeps_them():
    assert owned(scene(updates("one", text="x"), updates("two", text="x"))) == {"one": [".text"]}


def test_a_new_time_alone_is_no_change():
    live = write(None, updates("one", text="x"), NOW)
    entries = [{**entry, "time": LATER} for entry in live["metadata"]["managedFields"]]
    after = write(live, updates("one", text="x", metadata={"managedFields": entries}), LATER)
    assert after == live


@pytest.mark.parametrize("stored", [[{}], [{"manager": "x"}], ["text"], 7])
def test_stored_entries_of_another_form_are_none(stored: Any):
    old = document({"text": "x", "metadata": {"managedFields": stored}})
    new = document({"text": "y"})
    track(old, new, THING, Manager("two", UPDATE, "v1"), NOW)
    assert "managedFields" not in new["metadata"]


def test_decoding_merges_an_applier_over_its_versions():
    found = decode(
        [{**MINE, "operation": "Apply", "apiVersion": version, "fieldsV1": {}} for version in ("v1", "v2")]
    )
    assert [(manager.name, entry.api_version) for manager, entry in found.items()] == [("me", "v2")]


@pytest.mark.parametrize(
    ("entry", "errors"),
    [
        ({"manager": "fine"}, []),
        (
            {"manager": "x" * 129},
            ["metadata.managedFields[0].manager: Too long: may not be more than 128 bytes"],
        ),
        (
            {"manager": "é\n"},
            [
                'metadata.managedFields[0].manager: Invalid value: "é\\n": '
                "invalid character U+000A (at position 2)"
            ],
        ),
        (
            {"subresource": "x" * 257},
            ["metadata.managedFields[0].subresource: Too long: may not be more than 256 bytes"],
        ),
    ],
)
def test_names_that_are_refused(entry: dict[str, str], errors: list[str]):
    assert [str(error) for error in check([entry])] == errors


# --- scale ---


def workload(*entries: tuple[str, str, list[str]], replicas: int = 1) -> Document:
    held = {
        Manager(name, operation, "apps/v1", "").identity: Entry(
            {"f:spec": {f"f:{field}": {} for field in fields}}, "apps/v1", NOW
        )
        for name, operation, fields in entries
    }
    return {
        **document({}, "apps/v1"),
        "metadata": {"managedFields": encode(held)},
        "spec": {"replicas": replicas},
    }


SCALER = Manager("scaler", UPDATE, "apps/v1", "scale")


@pytest.mark.parametrize(
    ("entries", "replicas", "expected"),
    [
        pytest.param(
            [("a", APPLY, ["replicas", "paused"])],
            2,
            {"a": [".spec.paused"], "scaler/scale": [".spec.replicas"]},
            id="a scale takes the replicas",
        ),
        pytest.param(
            [("a", APPLY, ["replicas"]), ("b", UPDATE, ["paused"])],
            2,
            {"b": [".spec.paused"], "scaler/scale": [".spec.replicas"]},
            id="an entry that owned nothing else goes",
        ),
        pytest.param(
            [("a", APPLY, ["replicas"])], 1, {"a": [".spec.replicas"]}, id="the same number changes nothing"
        ),
        pytest.param(
            [("b", UPDATE, ["paused"])], 2, {"b": [".spec.paused"]}, id="replicas that nobody owns stay so"
        ),
    ],
)
def test_scaling(entries: list[tuple[str, str, list[str]]], replicas: int, expected: dict[str, list[str]]):
    old = workload(*entries)
    new = {**old, "spec": {"replicas": replicas}}
    track_scale(old, new, SCALER, LATER)
    assert owned(new) == expected


def test_scaling_again_keeps_one_entry_without_a_time():
    old = workload(("a", APPLY, ["replicas"]))
    for replicas in (2, 3):
        new = {**old, "spec": {"replicas": replicas}}
        track_scale(old, new, SCALER, LATER)
        old = new
    assert new["metadata"]["managedFields"] == [
        {
            "manager": "scaler",
            "operation": "Update",
            "apiVersion": "apps/v1",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
            "subresource": "scale",
        }
    ]
