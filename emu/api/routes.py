"""Which resource, namespace, object and subresource a path names."""

from __future__ import annotations

from typing import NamedTuple

from emu.api.errors import NoSuchPathError
from emu.api.resource import Resource
from emu.api.resources import BY_PATH


class Route(NamedTuple):
    """What a path names."""

    resource: Resource
    namespace: str
    name: str
    subresource: str


def parse_path(path: str) -> Route | None:
    """What a path names; None when it names no resource. Raises NoSuchPathError for an unknown one."""
    parts = path.split("/")[1:]
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if (
        rest[0] == "namespaces"
        and len(rest) > 2
        and not (len(rest) == 3 and rest[2] in ("status", "finalize"))
    ):
        namespace, rest = rest[1], rest[2:]
    resource = BY_PATH.get((group, version, rest[0]))
    if resource is None or len(rest) > 3 or (namespace and not resource.namespaced) or "" in rest:
        raise NoSuchPathError
    if resource.namespaced and len(rest) > 1 and not namespace:
        raise NoSuchPathError
    name = rest[1] if len(rest) > 1 else ""
    return Route(resource, namespace, name, rest[2] if len(rest) > 2 else "")
