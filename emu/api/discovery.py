"""Which groups, versions and resources are served, in the aggregated and in the older form.

The older form has one document for each group; every Python client uses it.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

from emu.api.negotiation import media_types
from emu.api.resource import Resource
from emu.api.resources import RESOURCES

Document = dict[str, Any]

# Schemas and rules are those of 1.36. The version told is the newest that kubectl's dispatchers have a binary
# for, since an unknown minor makes them warn at each command.
GIT_VERSION = "v1.33.0+emu"
_AGGREGATED = "apidiscovery.k8s.io"
_JSON = "application/json"


def version() -> Document:
    """The answer of /version."""
    return {
        "major": "1",
        "minor": "33",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": f"python{platform.python_version()}",
        "platform": f"{platform.system().lower()}/{platform.machine()}",
    }


def answer(path: str, accept: str) -> tuple[Document, str] | None:
    """The discovery document at a path and its content type; None when there is none."""
    if path in ("/api", "/apis"):
        for media_type in media_types(accept):
            parameters = media_type.parameters
            if parameters.get("g") == _AGGREGATED and parameters.get("v") in ("v2", "v2beta1"):
                if parameters.get("profile"):
                    continue
                wanted = parameters["v"]
                content_type = f"{_JSON};g={_AGGREGATED};v={wanted};as=APIGroupDiscoveryList"
                return _aggregated(core=path == "/api", version=wanted), content_type
            if media_type.name in (_JSON, "*/*", "application/*") and "g" not in parameters:
                break
    document = _legacy().get(path)
    return None if document is None else (document, _JSON)


def group_versions() -> dict[str, tuple[str, ...]]:
    """The versions served of each group, core ("") first."""
    found: dict[str, list[str]] = {}
    for resource in RESOURCES:
        versions = found.setdefault(resource.group, [])
        if resource.version not in versions:
            versions.append(resource.version)
    return {group: tuple(versions) for group, versions in sorted(found.items())}


@cache
def _aggregated(*, core: bool, version: str) -> Document:
    items = [
        {
            "metadata": {"name": group, "creationTimestamp": None},
            "versions": [
                {
                    "version": served,
                    "resources": [
                        _aggregated_resource(r) for r in RESOURCES if (r.group, r.version) == (group, served)
                    ],
                    "freshness": "Current",
                }
                for served in versions
            ],
        }
        for group, versions in group_versions().items()
        if (group == "") == core
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"{_AGGREGATED}/{version}",
        "metadata": {},
        "items": items,
    }


def _aggregated_resource(resource: Resource) -> Document:
    document: Document = {
        "resource": resource.plural,
        "responseKind": _group_kind(resource),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        document["shortNames"] = list(resource.short_names)
    if resource.categories:
        document["categories"] = list(resource.categories)
    if resource.subresources:
        document["subresources"] = [
            {
                "subresource": name,
                "responseKind": {"group": group, "version": version, "kind": kind},
                "verbs": list(verbs),
            }
            for name, group, version, kind, verbs in subresources_of(resource)
        ]
    return document


def _group_kind(resource: Resource) -> Document:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def subresources_of(resource: Resource) -> list[tuple[str, str, str, str, tuple[str, ...]]]:
    """Name, group, version, kind and verbs of each subresource that is served."""
    change = ("get", "patch", "update")
    own = (resource.group, resource.version, resource.kind)
    found: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
        "status": (*own, change),
        "scale": ("autoscaling", "v1", "Scale", change),
        "binding": ("", "v1", "Binding", ("create",)),
        "eviction": ("policy", "v1", "Eviction", ("create",)),
        "finalize": (*own, ("update",)),
        "token": ("authentication.k8s.io", "v1", "TokenRequest", ("create",)),
    }
    return [(name, *found[name]) for name in resource.subresources]


@cache
def _legacy() -> dict[str, Document]:
    documents: dict[str, Document] = {
        "/api": {
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        }
    }
    groups = []
    for group, versions in group_versions().items():
        for served in versions:
            prefix = f"/apis/{group}/{served}" if group else f"/api/{served}"
            documents[prefix] = _resource_list(group, served)
        if group:
            entries = [{"groupVersion": f"{group}/{served}", "version": served} for served in versions]
            described = {"name": group, "versions": entries, "preferredVersion": entries[0]}
            groups.append(described)
            documents[f"/apis/{group}"] = {"kind": "APIGroup", "apiVersion": "v1", **described}
    documents["/apis"] = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    return documents


def _resource_list(group: str, version: str) -> Document:
    resources: list[Document] = []
    for resource in RESOURCES:
        if (resource.group, resource.version) != (group, version):
            continue
        entry: Document = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        resources.append(entry)
        for name, of_group, of_version, kind, verbs in subresources_of(resource):
            described: Document = {
                "name": f"{resource.plural}/{name}",
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": kind,
                "verbs": list(verbs),
            }
            if of_group != group:
                described |= {"group": of_group, "version": of_version}
            resources.append(described)
    group_version = f"{group}/{version}" if group else version
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    }
