"""Objects as the Tables that `kubectl get` prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from emu.api.errors import BadRequestError, invalid
from emu.api.resource import Document, Resource

_KEPT_METADATA = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
)


def included(query: Mapping[str, str]) -> str:
    """The query parameter includeObject. Raises BadRequestError."""
    include = query.get("includeObject", "")
    if include not in ("", "Metadata", "Object", "None"):
        wrong = invalid("includeObject", include, "must be 'Metadata', 'Object', 'None', or empty")
        raise BadRequestError(f"Unable to convert to Table as requested: {wrong}")
    return include


def partial_metadata(document: Document, version: str = "v1") -> Document:
    """The PartialObjectMetadata of an object."""
    metadata = document["metadata"]
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": {key: metadata[key] for key in _KEPT_METADATA if key in metadata},
    }


def table(
    resource: Resource,
    documents: Iterable[Document],
    *,
    now: float,
    version: str = "v1",
    include: str = "",
    metadata: Document | None = None,
    with_columns: bool = True,
) -> dict[str, Any]:
    """A Table of objects. `include` is the query parameter includeObject: Metadata, Object or None."""
    rows = []
    for document in documents:
        row: dict[str, Any] = {"cells": resource.cells(document, now)}
        if include == "Object":
            row["object"] = document
        elif include != "None":
            row["object"] = partial_metadata(document, version)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata or {},
        "columnDefinitions": [column.definition() for column in resource.columns] if with_columns else None,
        "rows": rows,
    }
