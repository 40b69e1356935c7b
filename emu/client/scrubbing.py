"""Taking from an object what only servers and controllers put there, so that it can be applied anywhere.

Snapshots and imports share this: pure functions that change a document in place and say whether they did.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Document = dict[str, Any]

NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
_SERVER_METADATA = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "managedFields",
)
_CONTROLLERS_ANNOTATIONS = (
    "deployment.kubernetes.io/revision",
    "deprecated.daemonset.template.generation",
    "endpoints.kubernetes.io/last-change-trigger-time",
)
_JOB_LABELS = (
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "controller-uid",
    "job-name",
)
_TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")


def mapping(value: Any) -> Document:
    """The value when it is a mapping, else an empty one that nobody keeps."""
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[Document]:
    """Those elements of a list that are mappings; none when it is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def scrub(document: Document) -> bool:
    """Take out what servers and controllers own. Whether anything that says something was there."""
    metadata = document["metadata"]
    # Empty values, such as `status: {}` or `creationTimestamp: null` of generated manifests, say nothing.
    found = bool(document.pop("status", None))
    for field in _SERVER_METADATA:
        found |= bool(metadata.pop(field, None))
    mapping(mapping(mapping(document.get("spec")).get("template")).get("metadata")).pop(
        "creationTimestamp", None
    )
    found |= remove_entries(metadata, "annotations", _CONTROLLERS_ANNOTATIONS)
    if metadata.get("name"):
        metadata.pop("generateName", None)
    if document["kind"] == "Namespace":
        found |= _scrub_namespace(document)
    elif document["kind"] == "Job":
        found |= _scrub_job(document)
    return found


def _scrub_namespace(document: Document) -> bool:
    remove_entries(document["metadata"], "labels", (NAMESPACE_NAME_LABEL,))
    spec = mapping(document.get("spec"))
    if spec.get("finalizers") == ["kubernetes"]:
        del spec["finalizers"]
        if not spec:
            del document["spec"]
        return True
    return False


def _scrub_job(document: Document) -> bool:
    """The selector and labels that the API server generates for a Job hold its uid."""
    spec = mapping(document.get("spec"))
    if spec.get("manualSelector"):
        return False
    found = bool(spec.pop("selector", None))
    found |= remove_entries(document["metadata"], "labels", _JOB_LABELS)
    template = mapping(spec.get("template")).get("metadata")
    return found | remove_entries(mapping(template), "labels", _JOB_LABELS)


def remove_entries(metadata: Document, field: str, keys: Iterable[str]) -> bool:
    """Remove labels or annotations, and the field when none is left. Whether one was there."""
    entries = metadata.get(field)
    if not isinstance(entries, dict):
        return False
    there = [key for key in keys if key in entries]
    for key in there:
        del entries[key]
    if there and not entries:
        del metadata[field]
    return bool(there)


def remove_token_volumes(spec: Document) -> bool:
    """Remove from a pod's spec the volumes by which a cluster mounts service account tokens."""
    names = {
        mount.get("name")
        for field in _CONTAINERS
        for container in mappings(spec.get(field))
        for mount in mappings(container.get("volumeMounts"))
        if mount.get("mountPath") == _TOKEN_MOUNT
    }
    names = {
        volume.get("name")
        for volume in mappings(spec.get("volumes"))
        if volume.get("name") in names or str(volume.get("name")).startswith("kube-api-access-")
    }
    if not names:
        return False
    for field in _CONTAINERS:
        for container in mappings(spec.get(field)):
            _keep(container, "volumeMounts", names)
    _keep(spec, "volumes", names)
    return True


def _keep(holder: Document, field: str, removed: set[Any]) -> None:
    left = [each for each in mappings(holder.get(field)) if each.get("name") not in removed]
    if left:
        holder[field] = left
    else:
        holder.pop(field, None)
