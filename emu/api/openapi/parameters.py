"""The parameters of the operations, as OpenAPI v3 describes them."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def _query(name: str, kind: str, description: str) -> Document:
    schema = {"type": kind, "uniqueItems": True}
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _path(name: str, description: str) -> Document:
    schema = {"type": "string", "uniqueItems": True}
    return {"name": name, "in": "path", "description": description, "required": True, "schema": schema}


def _sorted(*parameters: Document) -> tuple[Document, ...]:
    return tuple(sorted(parameters, key=lambda parameter: str(parameter["name"])))


PRETTY = _query("pretty", "string", "If 'true', the output is indented for reading.")
NAMESPACE = _path("namespace", "The namespace of the objects: a DNS label.")


def name_of(kind: str) -> Document:
    """The name in the path of one object."""
    return _path("name", f"name of the {kind}")


_DRY_RUN = _query("dryRun", "string", "With 'All', everything is done but storing the result.")
_FIELD_MANAGER = _query(
    "fieldManager", "string", "Who makes the change, for managedFields: up to 128 printable characters."
)
_FIELD_VALIDATION = _query(
    "fieldValidation",
    "string",
    "What becomes of unknown and duplicate fields: 'Ignore' drops them, 'Warn' (the default) drops them "
    "with a warning, and 'Strict' refuses the request.",
)
_FORCE = _query(
    "force",
    "boolean",
    "Takes over fields of other managers. For apply patches only; must not be set otherwise.",
)
_SELECTORS = (
    _query("fieldSelector", "string", "Restricts the objects by their fields: metadata.name=a."),
    _query("labelSelector", "string", "Restricts the objects by their labels: app=web,tier in (front)."),
)
_PAGE = (
    _query("continue", "string", "The token of the previous page; the other parameters must be the same."),
    _query("limit", "integer", "The largest number of objects to give; metadata.continue leads to the rest."),
)
_VERSION = (
    _query("resourceVersion", "string", "The version that the answer is made of, or the watch starts from."),
    _query(
        "resourceVersionMatch", "string", "How resourceVersion is meant for lists: 'Exact' or 'NotOlderThan'."
    ),
    _query(
        "sendInitialEvents",
        "boolean",
        "A watch starts with an event for each object there is, and a bookmark after the last. Needs "
        "resourceVersionMatch=NotOlderThan.",
    ),
    _query("timeoutSeconds", "integer", "Ends a list or watch after so many seconds."),
)
_WATCH = (
    _query("allowWatchBookmarks", "boolean", "A watch may tell with events of type BOOKMARK how far it is."),
    _query("watch", "boolean", "Gives a stream of changes in place of a list."),
)
_DELETION = (
    _query("gracePeriodSeconds", "integer", "Seconds until the object is removed; 0 removes it at once."),
    _query(
        "ignoreStoreReadErrorWithClusterBreakingPotential", "boolean", "Accepted, and without effect in emu."
    ),
    _query("orphanDependents", "boolean", "The older form of propagationPolicy."),
    _query(
        "propagationPolicy",
        "string",
        "What becomes of dependents: 'Orphan' keeps them, 'Background' deletes them after it, "
        "'Foreground' before.",
    ),
)

_WRITING = (_DRY_RUN, _FIELD_MANAGER, _FIELD_VALIDATION)

BY_ACTION: dict[str, tuple[Document, ...]] = {
    "get": (),
    "list": _sorted(*_SELECTORS, *_PAGE, *_VERSION, *_WATCH),
    "post": _WRITING,
    "put": _WRITING,
    "patch": (*_WRITING, _FORCE),
    "delete": _sorted(_DRY_RUN, *_DELETION),
    "deletecollection": _sorted(_DRY_RUN, *_SELECTORS, *_PAGE, *_VERSION, *_DELETION),
    "connect": (),
}
"""The query parameters of each action, by the name that x-kubernetes-action gives it."""
