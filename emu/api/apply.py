"""Server-side apply: a manager states the fields that it wants, and owns them.

Pure functions over documents. Nulls in a configuration own their fields and leave them to the defaults.

Source: KEP-555, `merge` of sigs.k8s.io/structured-merge-diff, and apimachinery `util/managedfields`.
"""

from __future__ import annotations

import json
from functools import reduce
from typing import Any

from emu.api import fieldsets
from emu.api.errors import BadRequestError, StatusError
from emu.api.fieldsets import FieldSet, difference, intersection, union
from emu.api.merging import copied, merged, misfits, removed, with_named
from emu.api.ownership import (
    BEFORE_FIRST_APPLY,
    UPDATE,
    Entry,
    Manager,
    Owners,
    add_to,
    compared,
    keep_times,
    owners,
    parent_owners,
    scale_owners,
    set_owners,
    taken,
    without_unowned,
    writable,
)
from emu.api.resource import Document
from emu.api.schemas import Node
from emu.api.shapes import Shape, compare, mentioned, shape_of

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_KUBECTL = "kubectl"
_MAX_ANNOTATIONS = 256 * 1024

Conflict = tuple[Manager, fieldsets.Path]


class ApplyConflictError(StatusError):
    """Fields that others own would change."""

    code = 409
    reason = "Conflict"

    def __init__(self, conflicts: list[Conflict]) -> None:
        causes = [
            {
                "reason": "FieldManagerConflict",
                "message": f"conflict with {manager}",
                "field": fieldsets.path_text(path),
            }
            for manager, path in conflicts
        ]
        super().__init__(self._text(conflicts), {"causes": causes})

    @staticmethod
    def _text(conflicts: list[Conflict]) -> str:
        if len(conflicts) == 1:
            manager, path = conflicts[0]
            return f"Apply failed with 1 conflict: conflict with {manager}: {fieldsets.path_text(path)}"
        lines = []
        for owner in dict.fromkeys(manager for manager, _ in conflicts):
            lines.append(f"conflicts with {owner}:")
            lines += [f"- {fieldsets.path_text(path)}" for manager, path in conflicts if manager == owner]
        return f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)


def apply(
    live: Document | None, applied: Document, node: Node, manager: Manager, now: str, *, force: bool
) -> Document:
    """The object that results from applying a configuration; `live` is None for a create.

    `manager` has the operation "Apply". Fields that it applied before and now leaves out are removed unless
    somebody else owns them. Nothing is defaulted. Raises ApplyConflictError when a value that others own
    would change and `force`, which takes these fields from them, is not set; BadRequestError when the
    configuration does not fit the kind.
    """
    shape = shape_of(node)
    _check(applied, node, shape, manager)
    base = _without_entries(live) if live is not None else {}
    held = owners(live)
    if not held and live is not None:
        before = Manager(BEFORE_FIRST_APPLY, UPDATE, manager.api_version, manager.subresource)
        fields = without_unowned(compared({}, base, shape, manager.subresource).changed)
        if fields:
            add_to(held, before, fields, now)
    result, held, conflicts = _applied(base, applied, shape, manager, held, now)
    if conflicts and not force:
        if manager.name == _KUBECTL:
            allowed = _applied_by_client(base, shape, manager)
            conflicts = [conflict for conflict in conflicts if not fieldsets.contains(allowed, conflict[1])]
        if conflicts:
            raise ApplyConflictError(conflicts)
    result = {key: _without_nulls(value) for key, value in result.items() if value is not None}
    if manager.name == _KUBECTL:
        _refresh_last_applied(result, applied)
    set_owners(result, held)
    if live is not None:
        keep_times(result, live)
    return result


def apply_scale(
    parent: Document,
    scale: Document,
    applied: Document,
    node: Node,
    manager: Manager,
    now: str,
    *,
    force: bool,
) -> tuple[Document, Owners]:
    """The Scale that results from applying one, and the entries of its workload `parent` then.

    `scale` is the live Scale and `node` its definition; `manager` has the version and subresource of Scale.
    Raises as `apply` does.
    """
    held = owners(parent)
    live = {**scale}
    set_owners(live, scale_owners(held))
    result = apply(live, applied, node, manager, now, force=force)
    return result, parent_owners(held, owners(result), parent["apiVersion"])


def _check(applied: Document, node: Node, shape: Shape, manager: Manager) -> None:
    kinds = node.get("x-kubernetes-group-version-kind", ())
    group, _, version = applied.get("apiVersion", "").rpartition("/")
    kind = applied.get("kind", "")
    given = {"group": group, "version": version, "kind": kind}
    if applied.get("apiVersion") != manager.api_version or (kinds and given not in kinds):
        raise BadRequestError(f"invalid object type: {group}/{version}, Kind={kind}")
    metadata = applied.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("managedFields"), list):
        raise BadRequestError("metadata.managedFields must be nil")
    wrong = misfits(applied, shape)
    if wrong:
        named = metadata if isinstance(metadata, dict) else {}
        what = f"{named.get('namespace', '')}/{named.get('name', '')}; {group}/{version}, Kind={kind}"
        text = wrong[0] if len(wrong) == 1 else "\n  ".join(["errors:", *wrong])
        # Upstream answers with this text and 500 (kubernetes/kubernetes#139253): the client is at fault.
        raise BadRequestError(f"failed to create typed patch object ({what}): {text}")


def _without_entries(document: Document) -> Document:
    metadata = {key: value for key, value in document["metadata"].items() if key != "managedFields"}
    return {**document, "metadata": metadata}


def _applied(
    live: Document, applied: Document, shape: Shape, manager: Manager, held: Owners, now: str
) -> tuple[Document, Owners, list[Conflict]]:
    """The merged object and its entries, as if forced, and what that takes from others."""
    last = held.get(manager.identity)
    others = {owner: entry for owner, entry in held.items() if owner != manager.identity}
    own = writable(mentioned(applied, shape), manager.subresource)
    result = merged(live, applied, shape)
    if last is not None and last.fields:
        managed = reduce(union, (entry.fields for entry in others.values()), own)
        result = _pruned(result, last.fields, managed, shape)
    found = compared(live, result, shape, manager.subresource)
    conflicts = [
        (owner, path)
        for owner, entry in sorted(others.items())
        for path in fieldsets.paths(intersection(entry.fields, found.changed))
    ]
    entries = taken(others, found)
    own = without_unowned(own)
    if own:
        entries[manager.identity] = Entry(own, manager.api_version, now)
    return result, entries, conflicts


def _pruned(result: Document, last: FieldSet, managed: FieldSet, shape: Shape) -> Document:
    """Without the fields of the last configuration that nobody wants now."""
    whole = with_named(mentioned(result, shape), shape)
    last = with_named(last, shape)
    left = with_named(mentioned(removed(result, last, shape), shape), shape)
    wanted = union(left, with_named(managed, shape))
    left = with_named(mentioned(removed(result, difference(whole, wanted), shape), shape), shape)
    pruned: Document = removed(result, intersection(difference(whole, left), last), shape)
    return pruned


# --- what `kubectl apply` leaves behind ---


def _annotations(document: Document) -> dict[str, Any]:
    metadata = document.get("metadata")
    found = metadata.get("annotations") if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}


def _applied_by_client(live: Document, shape: Shape, manager: Manager) -> FieldSet:
    """The fields that `kubectl apply` set on the client's side and that are still as it set them.

    `kubectl apply --server-side` may take them over without conflict.
    """
    text = _annotations(live).get(LAST_APPLIED)
    try:
        last = json.loads(text) if text else None
    except ValueError:
        return {}
    if not isinstance(last, dict) or last.get("apiVersion") != manager.api_version or misfits(last, shape):
        return {}
    found = compare(last, live, shape)
    return difference(difference(mentioned(last, shape), found.changed), found.removed)


def _refresh_last_applied(document: Document, applied: Document) -> None:
    """Keep the annotation of `kubectl apply` in step, so that one may go back to it."""
    annotations = _annotations(document)
    if not annotations.get(LAST_APPLIED):
        return
    configuration = copied(applied)
    _annotations(configuration).pop(LAST_APPLIED, None)
    text = json.dumps(configuration, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    annotations[LAST_APPLIED] = text + "\n"
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _MAX_ANNOTATIONS:
        del annotations[LAST_APPLIED]


def _without_nulls(value: Any) -> Any:
    """A copy without the keys whose value is null."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value
