"""The paths and operations of a resource, as OpenAPI v3 describes them.

They follow the published documents of Kubernetes: operation ids, tags, `x-kubernetes-action` and
`x-kubernetes-group-version-kind` are what clients and generators look for.
"""

from __future__ import annotations

from emu.api.discovery import subresources_of
from emu.api.openapi import parameters
from emu.api.openapi.parameters import Document
from emu.api.resource import Resource
from emu.api.schemas import definition_name, name_of_kind

REFERENCE = "#/components/schemas/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_STATUS = f"{_META}Status"

_READ_TYPES = ("application/json", "application/yaml")
_STREAM = "application/json;stream=watch"
_PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)

# The verb of discovery; the method, the action, and the word in operation ids.
_VERBS = {
    "list": ("get", "list", "list"),
    "create": ("post", "post", "create"),
    "deletecollection": ("delete", "deletecollection", "delete"),
    "get": ("get", "get", "read"),
    "update": ("put", "put", "replace"),
    "patch": ("patch", "patch", "patch"),
    "delete": ("delete", "delete", "delete"),
}
_ON_COLLECTIONS = ("list", "create", "deletecollection")
_DONE = {"200": "OK"}
_CODES = {
    "post": {"200": "OK", "201": "Created", "202": "Accepted"},
    "put": {"200": "OK", "201": "Created"},
    "patch": {"200": "OK", "201": "Created"},
    "delete": {"200": "OK", "202": "Accepted"},
}


def paths(resource: Resource) -> Document:
    """The path items of a resource and its subresources, by path."""
    prefix = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    scoped = f"{prefix}/namespaces/{{namespace}}" if resource.namespaced else prefix
    collection, one = f"{scoped}/{resource.plural}", f"{scoped}/{resource.plural}/{{name}}"
    found: Document = {}
    if resource.namespaced and "list" in resource.verbs:
        found[f"{prefix}/{resource.plural}"] = _item(resource, ("list",), everywhere=True)
    found[collection] = _item(resource, [verb for verb in resource.verbs if verb in _ON_COLLECTIONS])
    found[one] = _item(resource, [verb for verb in resource.verbs if verb not in _ON_COLLECTIONS], named=True)
    for name, group, version, kind, verbs in subresources_of(resource):
        found[f"{one}/{name}"] = _subresource_item(resource, name, (group, version, kind), verbs)
    return {path: item for path, item in found.items() if item.keys() != {"parameters"}}


def _tag(resource: Resource) -> str:
    """`core_v1`, `apps_v1`, `rbacAuthorization_v1`."""
    first, *rest = (resource.group or "core").removesuffix(".k8s.io").split(".")
    return "".join((first, *(word.title() for word in rest))) + f"_{resource.version}"


def _operation_id(resource: Resource, word: str, scope: str, suffix: str = "") -> str:
    """`listCoreV1NamespacedPod`, `replaceAppsV1NamespacedDeploymentScale`."""
    group, version = _tag(resource).split("_")
    return f"{word}{group[0].upper()}{group[1:]}{version.title()}{scope}{resource.kind}{suffix}"


def _item(
    resource: Resource, verbs: tuple[str, ...] | list[str], *, everywhere: bool = False, named: bool = False
) -> Document:
    name = definition_name(resource)
    item: Document = {}
    scope = "Namespaced" if resource.namespaced and not everywhere else ""
    for verb in verbs:
        if verb not in _VERBS:
            continue
        method, action, word = _VERBS[verb]
        collection = "Collection" if verb == "deletecollection" else ""
        suffix = "ForAllNamespaces" if everywhere else ""
        item[method] = {
            "tags": [_tag(resource)],
            "description": _described(verb, resource.kind),
            "operationId": _operation_id(resource, word, collection + scope, suffix),
            "parameters": list(parameters.BY_ACTION[action]),
            **_request_body(action, name),
            "responses": _responses(action, _answered(resource, verb, name)),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": _kind(resource.group, resource.version, resource.kind),
        }
    item["parameters"] = [
        *([parameters.name_of(resource.kind)] if named else []),
        *([parameters.NAMESPACE] if resource.namespaced and not everywhere else []),
        parameters.PRETTY,
    ]
    return item


def _subresource_item(
    resource: Resource, subresource: str, kind: tuple[str, str, str], verbs: tuple[str, ...]
) -> Document:
    name = name_of_kind(*kind)
    suffix = subresource.title()
    item: Document = {}
    for verb in verbs:
        method, action, word = _VERBS[verb]
        if name is None:
            action = "connect"
        item[method] = {
            "tags": [_tag(resource)],
            "description": f"{word} {subresource} of the specified {resource.kind}",
            "operationId": _operation_id(resource, word, "Namespaced" if resource.namespaced else "", suffix),
            "parameters": list(parameters.BY_ACTION[action]),
            **(_request_body(action, name) if name else {}),
            "responses": _responses(action, name),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": _kind(*kind),
        }
    item["parameters"] = [
        parameters.name_of(resource.kind),
        *([parameters.NAMESPACE] if resource.namespaced else []),
        parameters.PRETTY,
    ]
    return item


def _described(verb: str, kind: str) -> str:
    return {
        "list": f"list or watch objects of kind {kind}",
        "create": f"create a {kind}",
        "deletecollection": f"delete collection of {kind}",
        "get": f"read the specified {kind}",
        "update": f"replace the specified {kind}",
        "patch": f"partially update the specified {kind}",
        "delete": f"delete a {kind}",
    }[verb]


def _kind(group: str, version: str, kind: str) -> Document:
    return {"group": group, "version": version, "kind": kind}


def _answered(resource: Resource, verb: str, name: str) -> str:
    if verb == "list":
        return f"{name}List"
    if verb == "deletecollection" or (verb == "delete" and not resource.deletion_answers_object):
        return _STATUS
    return name


def _content(types: tuple[str, ...], name: str) -> Document:
    return {kind: {"schema": {"$ref": REFERENCE + name}} for kind in types}


def _request_body(action: str, name: str) -> Document:
    if action in ("post", "put"):
        return {"requestBody": {"required": True, "content": _content(_READ_TYPES, name)}}
    if action == "patch":
        return {"requestBody": {"required": True, "content": _content(_PATCH_TYPES, f"{_META}Patch")}}
    if action in ("delete", "deletecollection"):
        return {"requestBody": {"content": _content(_READ_TYPES, f"{_META}DeleteOptions")}}
    return {}


def _responses(action: str, name: str | None) -> Document:
    """Answers with an object of a definition, or with text."""
    if name is None:
        content: Document = {"*/*": {"schema": {"type": "string"}}}
    else:
        content = _content((*_READ_TYPES, _STREAM) if action == "list" else _READ_TYPES, name)
    codes = _CODES.get(action, _DONE)
    answers = {code: {"description": word, "content": content} for code, word in codes.items()}
    return {**answers, "401": {"description": "Unauthorized"}}
