from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.api import fieldsets
from emu.api.fieldsets import (
    FieldSet,
    contains,
    difference,
    intersection,
    parse,
    path_text,
    paths,
    single,
    union,
)

A, AB, B = ("f:a",), ("f:a", "f:b"), ("f:b",)
STEPS = ["f:a", "f:b", 'k:{"name":"x"}', 'v:"x"', "i:0"]


def of(*members: fieldsets.Path) -> FieldSet:
    result: FieldSet = {}
    for member in members:
        result = union(result, single(member))
    return result


@pytest.mark.parametrize(
    ("fields", "members"),
    [
        pytest.param({}, [], id="the empty set"),
        pytest.param({"f:a": {}}, [A], id="a leaf is a member"),
        pytest.param({"f:a": {"f:b": {}}}, [AB], id="a parent is no member"),
        pytest.param({"f:a": {".": {}, "f:b": {}}}, [A, AB], id="unless it says so"),
        pytest.param(
            {"f:a": {"f:b": {}}, "f:b": {}}, [B, AB], id="the members of a level come before what is below"
        ),
        pytest.param(
            {'v:"b"': {}, "v:10": {}, "v:9": {}, 'k:{"p":80}': {}, 'k:{"p":443}': {}, "f:z": {}},
            [("f:z",), ('k:{"p":80}',), ('k:{"p":443}',), ("v:9",), ("v:10",), ('v:"b"',)],
            id="fields, keys and values are sorted, numbers by their size",
        ),
    ],
)
def test_the_members_of_a_set(fields: FieldSet, members: list[fieldsets.Path]):
    assert list(paths(fields)) == members
    assert all(contains(fields, member) for member in members)
    assert of(*members) == fields


@pytest.mark.parametrize(
    ("operation", "one", "other", "result"),
    [
        pytest.param(difference, of(A), of(AB), of(A), id="a parent without its child is the parent"),
        pytest.param(difference, of(AB), of(A), of(AB), id="a child without its parent is the child"),
        pytest.param(difference, of(A, AB), of(A), of(AB), id="a parent leaves its child behind"),
        pytest.param(difference, of(A, AB), of(AB), of(A), id="a child leaves its parent behind"),
        pytest.param(difference, of(A, AB), of(A, AB), {}, id="nothing is left of equal sets"),
        pytest.param(intersection, of(A, AB), of(AB, B), of(AB), id="what both have"),
        pytest.param(intersection, of(A), of(AB), {}, id="a parent and its child have nothing in common"),
        pytest.param(union, of(A), of(AB), of(A, AB), id="a parent and its child"),
        pytest.param(union, of(AB), of(A), of(A, AB), id="a child and its parent"),
    ],
)
def test_operations_with_parents(operation: Any, one: FieldSet, other: FieldSet, result: FieldSet):
    assert operation(one, other) == result


members = st.sets(st.lists(st.sampled_from(STEPS), min_size=1, max_size=3).map(tuple), max_size=6)


@given(members, members)
def test_sets_are_sets(one: set[fieldsets.Path], other: set[fieldsets.Path]):
    left, right = of(*one), of(*other)
    assert set(paths(union(left, right))) == one | other
    assert set(paths(intersection(left, right))) == one & other
    assert set(paths(difference(left, right))) == one - other
    assert (left, right) == (of(*one), of(*other)), "operations change no argument"
    assert parse(left) == left


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (fieldsets.field("app.kubernetes.io/name"), ".app.kubernetes.io/name"),
        (fieldsets.item((("name", "web"),)), '[name="web"]'),
        (fieldsets.item((("containerPort", 80), ("protocol", "TCP"))), '[containerPort=80,protocol="TCP"]'),
        (fieldsets.value("a/b"), '[="a/b"]'),
        (fieldsets.value(3), "[=3]"),
        ("i:4", "[4]"),
    ],
)
def test_how_messages_write_a_step(step: str, text: str):
    assert path_text((step,)) == text


@pytest.mark.parametrize(
    ("step", "form"),
    [
        (
            fieldsets.item((("containerPort", 80), ("protocol", "TCP"))),
            'k:{"containerPort":80,"protocol":"TCP"}',
        ),
        (fieldsets.item((("name", "web"),)), 'k:{"name":"web"}'),
        (fieldsets.string_item("name", "a<b"), 'k:{"name":"a\\u003cb"}'),
        (fieldsets.value("x"), 'v:"x"'),
        (fieldsets.value(True), "v:true"),
    ],
)
def test_the_form_of_a_step(step: str, form: str):
    assert step == form


@pytest.mark.parametrize(
    ("given_", "fields"),
    [
        pytest.param(
            {'k:{"protocol":"TCP", "port":80}': {}},
            {'k:{"port":80,"protocol":"TCP"}': {}},
            id="keys are sorted",
        ),
        pytest.param({"f:a": {".": {}}}, {"f:a": {}}, id="a member without children is a leaf"),
        pytest.param({"x:future": {}, "f:a": {}}, {"f:a": {}}, id="unknown kinds of steps are left out"),
        pytest.param({"i:007": {}}, {"i:7": {}}, id="an index is a number"),
    ],
)
def test_what_clients_send_is_brought_in_form(given_: FieldSet, fields: FieldSet):
    assert parse(given_) == fields


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"a": {}}, id="a step of one letter"),
        pytest.param({"fa": {}}, id="no colon"),
        pytest.param({"k:{": {}}, id="keys that are not JSON"),
        pytest.param({"k:3": {}}, id="keys that are no object"),
        pytest.param({'k:{"a":{}}': {}}, id="a key that is an object"),
        pytest.param({"v:": {}}, id="no value"),
        pytest.param({"i:x": {}}, id="an index that is no number"),
        pytest.param({"f:a": 1}, id="a leaf that is no object"),
        pytest.param([], id="no object"),
    ],
)
def test_what_is_no_set_is_refused(wrong: Any):
    with pytest.raises(ValueError):  # noqa: PT011 - whatever the text, it is not shown
        parse(wrong)
