"""Sets of fields in the form that `managedFields` has: FieldsV1.

A set is a tree of dicts. A key is one step of a path: `f:name` is a field, `k:{"port":80}` the list item with
these keys, `v:"x"` the item of a list of scalars, `i:0` an item by its index. A step is a member of the set
when its value is empty or holds `.`; otherwise it only leads to members below it. So the set
`{"f:a": {".": {}, "f:b": {}}}` holds `.a` and `.a.b`, and `{"f:a": {"f:b": {}}}` holds `.a.b` alone.

The empty set is `{}`; no function returns a step without a member at or below it, none changes its arguments,
and results may share parts with them.

Source: KEP-555, and `fieldpath` of sigs.k8s.io/structured-merge-diff.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

FieldSet = dict[str, Any]
Path = tuple[str, ...]
"""Steps from the root."""

SELF = "."
_ITSELF: FieldSet = {SELF: {}}


def is_member(below: FieldSet) -> bool:
    """Whether the step that holds `below` is itself in the set."""
    return not below or SELF in below


def _node(member: bool, below: FieldSet) -> FieldSet | None:
    """What a step holds; None when neither it nor anything below it is in the set."""
    if not below:
        return {} if member else None
    return {SELF: {}, **below} if member else below


def _below(node: FieldSet) -> FieldSet:
    return {step: inner for step, inner in node.items() if step != SELF} if SELF in node else node


def union(one: FieldSet, other: FieldSet) -> FieldSet:
    """The fields that are in either: the first set itself where it has all of them."""
    result = one
    for step, theirs in other.items():
        ours = one.get(step)
        both = theirs if ours is None else _union_nodes(ours, theirs)
        if both is not ours:
            if result is one:
                result = dict(one)
            result[step] = both
    return result


def _union_nodes(ours: FieldSet, theirs: FieldSet) -> FieldSet:
    if not theirs:
        return ours if is_member(ours) else {SELF: {}, **ours}
    if not ours:
        return theirs if SELF in theirs else {SELF: {}, **theirs}
    return union(ours, theirs)


def difference(one: FieldSet, other: FieldSet) -> FieldSet:
    """The fields of the first that are not in the second: the first set itself where none is.

    A parent does not stand for its children.
    """
    result = one
    for step, theirs in other.items():
        ours = one.get(step)
        if ours is None:
            continue
        left = _difference_nodes(ours, theirs)
        if left is not ours:
            if result is one:
                result = dict(one)
            if left is None:
                del result[step]
            else:
                result[step] = left
    return result


def _difference_nodes(ours: FieldSet, theirs: FieldSet) -> FieldSet | None:
    if not ours:
        return None if is_member(theirs) else ours
    left = difference(ours, theirs or _ITSELF)
    if left is ours:
        return ours
    return None if not left else {} if left == _ITSELF else left


def intersection(one: FieldSet, other: FieldSet) -> FieldSet:
    """The fields that are in both."""
    result: FieldSet = {}
    for step, ours in one.items():
        theirs = other.get(step)
        if theirs is None:
            continue
        member = is_member(ours) and is_member(theirs)
        both = _node(member, intersection(_below(ours), _below(theirs)))
        if both is not None:
            result[step] = both
    return result


def contains(fields: FieldSet, path: Path) -> bool:
    """Whether the field at a path is in the set."""
    node: FieldSet | None = fields
    for step in path:
        node = node.get(step) if node else None
        if node is None:
            return False
    return bool(path) and node is not None and is_member(node)


def single(path: Path) -> FieldSet:
    """The set of one field."""
    result: FieldSet = {}
    for step in reversed(path):
        result = {step: result}
    return result


def paths(fields: FieldSet, prefix: Path = ()) -> Iterator[Path]:
    """All fields of a set, sorted: those of one level before those below any of them."""
    steps = sorted((step for step in fields if step != SELF), key=_order)
    for step in steps:
        if is_member(fields[step]):
            yield (*prefix, step)
    for step in steps:
        yield from paths(fields[step], (*prefix, step))


# --- steps ---


def field(name: str) -> str:
    """The step to a field of an object or an entry of a map."""
    return "f:" + name


@lru_cache(maxsize=8192)
def string_item(name: str, value: str) -> str:
    """The step to a list item that has one key, a string."""
    return f'k:{{"{name}":{_json(value)}}}'


@lru_cache(maxsize=8192)
def item(keys: tuple[tuple[str, Any], ...]) -> str:
    """The step to a list item, given the names and values of its keys sorted by name."""
    return "k:{" + ",".join([f'"{name}":{_json(value)}' for name, value in keys]) + "}"


def value(scalar: Any) -> str:
    """The step to an item of a list of scalars."""
    return "v:" + _json(scalar)


def _json(scalar: Any) -> str:
    """A JSON value as Go writes it."""
    text = msgspec.json.encode(scalar).decode()
    for character in "<>&":
        if character in text:
            text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _order(step: str) -> tuple[Any, ...]:
    kind, rest = step[0], step[2:]
    if kind == "f":
        return (0, rest)
    if kind == "k":
        keys = sorted(json.loads(rest).items())
        return (1, [(name, *_rank(given)) for name, given in keys])
    if kind == "v":
        return (2, *_rank(json.loads(rest)))
    return (3, int(rest))


def _rank(scalar: Any) -> tuple[int, Any]:
    """Numbers before strings before booleans before the rest."""
    if isinstance(scalar, bool):
        return 2, scalar
    if isinstance(scalar, (int, float)):
        return 0, scalar
    return (1, scalar) if isinstance(scalar, str) else (3, _json(scalar))


def path_text(path: Path) -> str:
    """A path as messages have it: `.spec.containers[name="web"].image`."""
    return "".join(map(step_text, path))


def step_text(step: str) -> str:
    """One step of a path as messages have it."""
    kind, rest = step[0], step[2:]
    if kind == "f":
        return "." + rest
    if kind == "k":
        keys = sorted(json.loads(rest).items())
        return "[" + ",".join(f"{name}={_json(given)}" for name, given in keys) + "]"
    return f"[={rest}]" if kind == "v" else f"[{rest}]"


# --- what clients send ---


def parse(given: Any) -> FieldSet:
    """A FieldsV1 that a client sends as a set, with the keys in canonical form.

    Steps of a kind that is not known are left out. Raises ValueError when it is no set.
    """
    if not isinstance(given, dict):
        raise ValueError(f"expected an object, not {given!r}")
    result: FieldSet = {}
    for step, inner in given.items():
        if step == SELF:
            continue
        canonical = _canonical(step)
        if canonical is None:
            continue
        below = parse(inner)
        member = SELF in inner or not below
        node = _node(member, below)
        if node is not None:
            result = union(result, {canonical: node})
    return result


def _canonical(step: str) -> str | None:
    if len(step) < 2:
        raise ValueError("key must be 2 characters long")
    kind, colon, rest = step[0], step[1], step[2:]
    if colon != ":":
        raise ValueError(f"missing colon: {step}")
    if kind == "f":
        return step
    if kind == "i":
        return f"i:{int(rest)}"
    if kind not in "kv":
        return None
    decoded = json.loads(rest)
    if kind == "v":
        return value(decoded)
    if not isinstance(decoded, dict) or any(isinstance(key, (dict, list)) for key in decoded.values()):
        raise ValueError(f"expected the keys of a list item: {step}")
    return item(tuple(sorted(decoded.items())))
