"""OpenAPI v3: one document for each group and version, made from the published schemas on request.

URLs carry a hash of their document, so clients may keep it for good.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, NamedTuple

import msgspec

from emu.api.discovery import GIT_VERSION, group_versions
from emu.api.resource import Resource
from emu.api.resources import RESOURCES
from emu.api.schemas import DATA, definition_name

Document = dict[str, Any]

_REFERENCE = "#/components/schemas/"
_PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)


class OpenApi(NamedTuple):
    """A document and its hash."""

    body: bytes
    etag: str


def group_version_paths() -> list[str]:
    """`api/v1`, `apis/apps/v1`, ..."""
    return [
        f"apis/{group}/{version}" if group else f"api/{version}"
        for group, versions in group_versions().items()
        for version in versions
    ]


@cache
def index() -> OpenApi:
    """The document at /openapi/v3."""
    paths = {
        path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={document(path).etag}"}
        for path in group_version_paths()
    }
    return _hashed({"paths": paths})


@cache
def document(path: str) -> OpenApi:
    """The document of a group and version, by its path. Raises KeyError for one that is not served."""
    if path not in group_version_paths():
        raise KeyError(path)
    group, version = ("", path.split("/")[1]) if path.startswith("api/") else tuple(path.split("/")[1:])
    served = [resource for resource in RESOURCES if (resource.group, resource.version) == (group, version)]
    names = [definition_name(resource) for resource in served]
    paths: Document = {}
    for resource, name in zip(served, names, strict=True):
        paths |= _paths(resource, name, path)
    return _hashed(
        {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": GIT_VERSION},
            "paths": paths,
            "components": {"schemas": _reachable(names)},
        }
    )


def _hashed(content: Document) -> OpenApi:
    body = msgspec.json.encode(content)
    return OpenApi(body, hashlib.sha256(body).hexdigest().upper())


@cache
def _schemas() -> dict[str, Document]:
    schemas: dict[str, Document] = msgspec.json.decode((DATA / "openapi.json").read_bytes())
    return schemas


def _reachable(names: list[str]) -> dict[str, Document]:
    found: dict[str, Document] = {}
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = _schemas()[name]
            pending += _references(found[name])
    return dict(sorted(found.items()))


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [name for item in node for name in _references(item)]
    if not isinstance(node, dict):
        return []
    found = [node["$ref"].removeprefix(_REFERENCE)] if isinstance(node.get("$ref"), str) else []
    return found + [name for value in node.values() for name in _references(value)]


def _paths(resource: Resource, name: str, prefix: str) -> Document:
    reference = {"$ref": _REFERENCE + name}
    content = {"application/json": {"schema": reference}}
    answer = {"200": {"description": "OK", "content": content}}
    base = f"/{prefix}/" + ("namespaces/{namespace}/" if resource.namespaced else "") + resource.plural

    def operation(action: str, **more: Any) -> Document:
        return {
            "tags": [resource.kind],
            "operationId": f"{action}{resource.group.title().replace('.', '')}{resource.kind}",
            "parameters": [],
            "responses": answer,
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {
                "group": resource.group,
                "version": resource.version,
                "kind": resource.kind,
            },
            **more,
        }

    writing = [
        {"name": key, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
        for key in ("dryRun", "fieldManager", "fieldValidation")
    ]
    patch_body = {"content": {kind: {"schema": {"type": "object"}} for kind in _PATCH_TYPES}}
    body = {"required": True, "content": {"*/*": {"schema": reference}}}
    return {
        base: {
            "get": operation("list"),
            "post": operation("post", parameters=writing, requestBody=body),
        },
        f"{base}/{{name}}": {
            "get": operation("get"),
            "put": operation("put", parameters=writing, requestBody=body),
            "patch": operation("patch", parameters=writing, requestBody=patch_body),
            "delete": operation("delete"),
        },
    }
