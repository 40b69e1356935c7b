from typing import Any

import pytest

from emu.api.options import DeleteOptions
from emu.api.registry import Registry
from emu.api.resources import BY_NAME

from .refusals import LABEL, LABEL_VALUE, QUALIFIED, SUBDOMAIN, Table, create, refused, rows

OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "u"}
BYTES_63 = "must be no more than 63 bytes"


def config(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "c", **metadata}}


REFUSED: Table = [
    ("no name", {"name": ""}, ["metadata.name: Required value: name or generateName is required"]),
    ("name", {"name": "A"}, [f'metadata.name: Invalid value: "A": {SUBDOMAIN}']),
    (
        "long name",
        {"name": "a" * 254},
        [f'metadata.name: Invalid value: "{"a" * 254}": must be no more than 253 bytes'],
    ),
    (
        "label key",
        {"labels": {"a b": "x"}},
        [f'metadata.labels: Invalid value: "a b": name part {QUALIFIED}'],
    ),
    (
        "empty label key",
        {"labels": {"": "x"}},
        [
            'metadata.labels: Invalid value: "": name part must be non-empty',
            f'metadata.labels: Invalid value: "": name part {QUALIFIED}',
        ],
    ),
    (
        "label prefix",
        {"labels": {"A/b": "x", "/b": "x"}},
        [
            f'metadata.labels: Invalid value: "A/b": prefix part {SUBDOMAIN}',
            'metadata.labels: Invalid value: "/b": prefix part must be non-empty',
        ],
    ),
    (
        "label key of three parts",
        {"labels": {"a/b/c": "x"}},
        [
            f'metadata.labels: Invalid value: "a/b/c": a valid label key {QUALIFIED} with an optional DNS '
            "subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ],
    ),
    (
        "long label key and value",
        {"labels": {"k" * 64: "v" * 64}},
        [
            f'metadata.labels: Invalid value: "{"k" * 64}": name part {BYTES_63}',
            f'metadata.labels: Invalid value: "{"v" * 64}": {BYTES_63}',
        ],
    ),
    ("label value", {"labels": {"a": "-"}}, [f'metadata.labels: Invalid value: "-": {LABEL_VALUE}']),
    (
        "bytes, not characters",
        {"labels": {"a": "é" * 32}},
        [
            f'metadata.labels: Invalid value: "{"é" * 32}": {BYTES_63}',
            f'metadata.labels: Invalid value: "{"é" * 32}": {LABEL_VALUE}',
        ],
    ),
    (
        "annotation key",
        {"annotations": {"a b": "anything at all"}},
        [f'metadata.annotations: Invalid value: "a b": name part {QUALIFIED}'],
    ),
    (
        "size of annotations",
        {"annotations": {"a": "x" * 262144}},
        ["metadata.annotations: Too long: may not be more than 262144 bytes"],
    ),
    (
        "finalizer form",
        {"finalizers": ["a b/c"]},
        [f'metadata.finalizers: Invalid value: "a b/c": prefix part {SUBDOMAIN}'],
    ),
    (
        "finalizer without prefix",
        {"finalizers": ["orphan", "mine"]},
        [
            'metadata.finalizers[1]: Invalid value: "mine": name is neither a standard finalizer name nor is '
            "it fully qualified"
        ],
    ),
    (
        "both propagations",
        {"finalizers": ["orphan", "foregroundDeletion"]},
        [
            'metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and '
            "foregroundDeletion cannot be both set"
        ],
    ),
    (
        "owner",
        {"ownerReferences": [{}]},
        [
            'metadata.ownerReferences.apiVersion: Invalid value: "": version must not be empty',
            'metadata.ownerReferences.kind: Invalid value: "": must not be empty',
            'metadata.ownerReferences.name: Invalid value: "": must not be empty',
            'metadata.ownerReferences.uid: Invalid value: "": must not be empty',
        ],
    ),
    (
        "owner's version",
        {"ownerReferences": [{**OWNER, "apiVersion": "a/b/c"}]},
        ['metadata.ownerReferences.apiVersion: Invalid value: "a/b/c": version must not be empty'],
    ),
    (
        "events own nothing",
        {"ownerReferences": [{**OWNER, "kind": "Event"}]},
        [
            'metadata.ownerReferences: Invalid value: {"apiVersion":"v1","kind":"Event","name":"a","uid":"u"}'
            ": /v1, Kind=Event is disallowed from being an owner"
        ],
    ),
    (
        "one controller",
        {
            "ownerReferences": [
                {**OWNER, "controller": True},
                {**OWNER, "name": "b", "controller": False},
                {**OWNER, "name": "c", "controller": True},
            ]
        },
        [
            'metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","kind":"Pod","name":"a","uid":"u",'
            '"controller":true},{"apiVersion":"v1","kind":"Pod","name":"b","uid":"u","controller":false},'
            '{"apiVersion":"v1","kind":"Pod","name":"c","uid":"u","controller":true}]: Only one reference '
            'can have Controller set to true. Found "true" in references for Pod/a and Pod/c'
        ],
    ),
]


@pytest.mark.parametrize(("given", "errors"), rows(REFUSED))
def test_metadata_that_is_refused(registry: Registry, given: dict[str, Any], errors: list[str]):
    assert refused(lambda: create(registry, "configmaps", config(**given))) == errors


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"name": "a.b-c.1"}, id="name"),
        pytest.param({"labels": {"example.com/My_key.1": "", "a": "A_b.c-1"}}, id="labels"),
        pytest.param({"annotations": {"Example.COM/Key": "any\nthing"}}, id="annotation keys of any case"),
        pytest.param({"annotations": {"a": "x" * 262143}}, id="size of annotations"),
        pytest.param({"finalizers": ["kubernetes", "example.com/f"]}, id="finalizers"),
        pytest.param({"ownerReferences": [{**OWNER, "apiVersion": "apps/v1"}]}, id="owner"),
    ],
)
def test_metadata_that_is_taken(registry: Registry, given: dict[str, Any]):
    create(registry, "configmaps", config(**given))


def test_a_generated_name_is_judged_with_its_prefix(registry: Registry):
    prefix = {"metadata": {"generateName": "Web-"}}
    found = refused(lambda: create(registry, "configmaps", prefix))
    assert found[0] == f'metadata.generateName: Invalid value: "Web-": {SUBDOMAIN}'
    assert found[1].startswith('metadata.name: Invalid value: "Web-')
    made = create(registry, "configmaps", {"metadata": {"generateName": "web-"}})
    assert made["metadata"]["name"].startswith("web-")


def test_names_of_namespaces_are_labels(registry: Registry):
    namespaces = BY_NAME["namespaces"]
    for name, fault in (("a.b", "must not contain dots"), ("a_b", LABEL)):
        errors = refused(lambda: registry.create(namespaces, "", {"metadata": {"name": name}}))  # noqa: B023
        assert errors == [f'metadata.name: Invalid value: "{name}": {fault}']


def test_names_of_events_need_only_stand_in_a_path(registry: Registry):
    about = {"kind": "Pod", "namespace": "default", "name": "p"}
    made = create(registry, "events", {"metadata": {"name": "Pod.17ab:x"}, "involvedObject": about})
    assert made["metadata"]["name"] == "Pod.17ab:x"
    slashed = {"metadata": {"name": "a/b%"}, "involvedObject": about}
    assert refused(lambda: create(registry, "events", slashed))[0] == (
        "metadata.name: Invalid value: \"a/b%\": may not contain '/'"
    )


def test_no_finalizer_is_added_to_what_is_being_deleted(registry: Registry):
    maps = BY_NAME["configmaps"]
    create(registry, "configmaps", config(finalizers=["a/b"]))
    registry.delete(maps, "default", "c", DeleteOptions())

    def set_to(*finalizers: str) -> Any:
        return registry.update(maps, "default", "c", lambda _: config(finalizers=list(finalizers)))

    assert refused(lambda: set_to("a/b", "z/z", "c/d")) == [
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, "
        'found new finalizers []string{"c/d", "z/z"}'
    ]
    set_to()
    assert registry.store.items("configmaps", "default") == []


def test_a_fault_that_is_told_twice_is_once_in_the_message(registry: Registry):
    with pytest.raises(Exception, match="is invalid") as error:
        create(registry, "configmaps", config(labels={"a": "-", "b": "-"}))
    assert error.value.message.count("a valid label must be") == 1  # type: ignore[attr-defined]
    assert len(error.value.details["causes"]) == 2  # type: ignore[attr-defined]
