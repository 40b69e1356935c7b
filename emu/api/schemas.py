"""The structure of the served kinds, out of the published Kubernetes OpenAPI.

Well-formed documents pass a compiled validator; only what it refuses is walked field by field to name what
is wrong: a value of another JSON type, or a field that the kind does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from emu.api import timestamps
from emu.api.errors import BadRequestError, StateError
from emu.api.resource import Document, Resource

DATA = Path(__file__).with_name("data")
_REFERENCE = "#/$defs/"
_INT32 = (-(1 << 31), (1 << 31) - 1)

Node = Mapping[str, Any]


def require_data() -> None:
    """Raise StateError when the build has not put the schemas in place."""
    if not (DATA / "types.json").exists():
        raise StateError(f"{DATA}/types.json is missing: install emu with `pip install`, which makes it")


@cache
def types() -> dict[str, Node]:
    """All definitions by name."""
    definitions: dict[str, Node] = msgspec.json.decode((DATA / "types.json").read_bytes())
    return definitions


@cache
def _names() -> dict[tuple[str, str, str], str]:
    return {
        (entry["group"], entry["version"], entry["kind"]): name
        for name, node in types().items()
        for entry in node.get("x-kubernetes-group-version-kind", ())
    }


class Kind(NamedTuple):
    """A kind that is no resource of its own, such as the Scale of a Deployment."""

    group: str
    version: str
    kind: str


def definition_name(resource: Resource | Kind) -> str:
    """The name of a kind's definition."""
    return _names()[resource.group, resource.version, resource.kind]


def name_of_kind(group: str, version: str, kind: str) -> str | None:
    """The name of the definition of any kind; None for one that is not a document, such as PodExecOptions."""
    return _names().get((group, version, kind))


def root(resource: Resource | Kind) -> Node:
    """The definition of a kind."""
    return types()[definition_name(resource)]


def resolved(node: Node) -> Node:
    """A node, or what it refers to."""
    reference = node.get("$ref")
    return types()[reference.removeprefix(_REFERENCE)] if reference else node


def child(node: Node, key: str) -> Node | None:
    """The node of a field; None when the kind has no such field."""
    properties = node.get("properties")
    if properties is not None:
        found: Node | None = properties.get(key)
        return found
    values: Node | None = node.get("additionalProperties")
    return values


# --- the compiled validator ---


@cache
def _validator(name: str) -> Any:
    # The import takes a tenth of the start-up time of the process, and is needed at the first write only.
    import jsonschema_rs

    needed: dict[str, Any] = {}
    pending = [name]
    while pending:
        current = pending.pop()
        if current in timestamps.STORED_FORMS:
            needed[current] = {"type": "string", "pattern": timestamps.STORED_FORMS[current]}
        elif current not in needed:
            needed[current] = _json_schema(types()[current], pending)
    return jsonschema_rs.Draft202012Validator({"$ref": _REFERENCE + name, "$defs": needed})


def _json_schema(node: Node, references: list[str]) -> dict[str, Any]:
    if "$ref" in node:
        references.append(node["$ref"].removeprefix(_REFERENCE))
        return {"$ref": node["$ref"]}
    if node.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "number"]}
    schema: dict[str, Any] = {}
    if "type" in node:
        schema["type"] = node["type"]
    if node.get("format") == "int32":
        schema["minimum"], schema["maximum"] = _INT32
    if "properties" in node:
        schema["properties"] = {
            key: _json_schema(value, references) for key, value in node["properties"].items()
        }
        schema["additionalProperties"] = False
    elif "additionalProperties" in node:
        schema["additionalProperties"] = _json_schema(node["additionalProperties"], references)
    if "items" in node:
        schema["items"] = _json_schema(node["items"], references)
    return schema


def fits(name: str, value: Any) -> bool:
    """Whether a value has the structure of the definition of that name."""
    return bool(_validator(name).is_valid(value))


# --- what is wrong ---


def check(resource: Resource | Kind, document: Document) -> list[str]:
    """Remove fields that the kind does not have and give their paths; write times as they are stored.

    Raises BadRequestError when a value has the wrong JSON type, or is no time where one belongs.
    """
    name = definition_name(resource)
    if _validator(name).is_valid(document):
        return []
    unknown: list[str] = []
    wrong = next(_walk(document, types()[name], "", unknown), None)
    if wrong is not None:
        raise BadRequestError(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {wrong}'
        )
    return unknown


def _walk(value: Any, node: Node, path: str, unknown: list[str]) -> Iterator[str]:
    node = resolved(node)
    wrong = _type_error(value, node, path)
    if wrong:
        yield wrong
        return
    if isinstance(value, dict) and ("properties" in node or "additionalProperties" in node):
        for key in list(value):
            below = child(node, key)
            here = f"{path}.{key}" if path else key
            if below is None:
                unknown.append(here)
                del value[key]
            else:
                yield from _walk(value[key], below, here, unknown)
                yield from _walk_time(value, key, below)
    elif isinstance(value, list) and "items" in node:
        for index, item in enumerate(value):
            yield from _walk(item, node["items"], f"{path}[{index}]", unknown)


def _walk_time(parent: dict[str, Any], key: str, node: Node) -> Iterator[str]:
    """A time among the fields of `parent`."""
    name = node.get("$ref", "").removeprefix(_REFERENCE)
    if name in timestamps.STORED_FORMS:
        if wrong := timestamps.fault(parent[key], name):
            yield wrong
        else:
            parent[key] = timestamps.stored_form(parent[key], name)


_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
_GO_TYPES = {"object": "map", "array": "slice", "boolean": "bool", "number": "float64"}


def _type_error(value: Any, node: Node, path: str) -> str:
    """In the words of Go's decoder, with the path in place of its struct field."""
    if node.get("x-kubernetes-int-or-string"):
        fits = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        wanted = f"field {path} of type int or string"
        return "" if fits else f"json: cannot unmarshal {json_type(value)} into {wanted}"
    expected = node.get("type")
    if expected is None:
        return ""
    fits = isinstance(value, _JSON_TYPES[expected]) and (expected == "boolean" or not isinstance(value, bool))
    if fits and node.get("format") == "int32" and not _INT32[0] <= value <= _INT32[1]:
        return f"json: cannot unmarshal number {value} into field {path} of type int32"
    if fits:
        return ""
    go_type = node.get("format", "int64") if expected == "integer" else _GO_TYPES.get(expected, expected)
    return f"json: cannot unmarshal {json_type(value)} into field {path} of type {go_type}"


def json_type(value: Any) -> str:
    """What Go's decoder calls the type of a JSON value."""
    if value is None:
        return "null"
    for name, kinds in (
        ("bool", (bool,)),
        ("string", (str,)),
        ("object", (dict,)),
        ("array", (list,)),
    ):
        if isinstance(value, kinds):
            return name
    return "number" if isinstance(value, int) else f"number {value}"
