"""Sequences of writes by several managers, for the tests of ownership and of apply."""

from __future__ import annotations

from typing import Any, NamedTuple

from emu.api.apply import apply
from emu.api.fieldsets import path_text, paths
from emu.api.ownership import APPLY, UPDATE, Manager, owners, track
from emu.api.resource import Document

_META = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
_STRING, _NUMBER = {"type": "string"}, {"type": "integer"}
_SET = {"type": "array", "x-kubernetes-list-type": "set", "items": _STRING}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _keyed(*keys: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": list(keys),
        "items": _object(**properties),
    }


THING = _object(
    apiVersion=_STRING,
    kind=_STRING,
    metadata=_META,
    text=_STRING,
    number=_NUMBER,
    flag={"type": "boolean"},
    set=_SET,
    items=_keyed("name", name=_STRING, value=_NUMBER, more=_NUMBER, inner=_SET),
    ports=_keyed("port", "protocol", port=_NUMBER, protocol=_STRING, name=_STRING),
    map={"type": "object", "additionalProperties": _STRING},
    maps={"type": "object", "additionalProperties": {"type": "object", "additionalProperties": _STRING}},
    struct=_object(name=_STRING, value=_NUMBER),
    atomic={**_object(a=_STRING, b=_STRING), "x-kubernetes-map-type": "atomic"},
    whole={"type": "array", "items": _object(a=_STRING)},
    opaque={"type": "object"},
    amount={"x-kubernetes-int-or-string": True},
    status=_object(state=_STRING, count=_NUMBER),
)
"""A kind with a field of each sort."""


class Write(NamedTuple):
    """One write of a scene: of the whole content by an update, or of a configuration by an apply."""

    manager: str
    content: dict[str, Any]
    operation: str = APPLY
    force: bool = False
    subresource: str = ""


def applies(manager: str, *, force: bool = False, subresource: str = "", **content: Any) -> Write:
    return Write(manager, content, APPLY, force, subresource)


def updates(manager: str, *, subresource: str = "", **content: Any) -> Write:
    return Write(manager, content, UPDATE, subresource=subresource)


def document(content: dict[str, Any], api_version: str = "v1") -> Document:
    metadata = {"name": "x", **content.get("metadata", {})}
    return {"apiVersion": api_version, "kind": "Thing", **content, "metadata": metadata}


def write(
    live: Document | None, one: Write, now: str = "2026-01-01T00:00:00Z", node: Any = THING
) -> Document:
    """What a write makes of an object."""
    manager = Manager(one.manager, one.operation, "v1", one.subresource)
    if one.operation == APPLY:
        return apply(live, document(one.content), node, manager, now, force=one.force)
    new = document(one.content)
    track(live, new, node, manager, now)
    return new


def scene(*writes: Write, node: Any = THING) -> Document:
    """What writes make of an object, a second after each other."""
    live: Document | None = None
    for second, one in enumerate(writes):
        live = write(live, one, f"2026-01-01T00:00:{second:02}Z", node)
    assert live is not None
    return live


def content(live: Document) -> dict[str, Any]:
    """An object without what every object has."""
    return {key: value for key, value in live.items() if key not in ("apiVersion", "kind", "metadata")}


def owned(live: Document) -> dict[str, list[str]]:
    """The paths that each manager owns; a subresource is named with the manager."""
    found: dict[str, list[str]] = {}
    for manager, entry in owners(live).items():
        name = f"{manager.name}/{manager.subresource}" if manager.subresource else manager.name
        found[name] = sorted(map(path_text, paths(entry.fields)))
    return found
