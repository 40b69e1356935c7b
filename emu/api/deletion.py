"""Deleting: who must be meant, how long a pod may take, what holds an object back.

Pure functions over documents.
"""

from __future__ import annotations

from emu.api import namespaces
from emu.api.errors import ConflictError, FieldError, forbidden, go_strings
from emu.api.identity import uid_mismatch
from emu.api.options import DeleteOptions, Preconditions
from emu.api.resource import Document, Resource
from emu.api.store import Item

_PODS = "pods"
_FINALIZERS = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}


def check_preconditions(
    resource: Resource, name: str, item: Item, old: Document, conditions: Preconditions
) -> None:
    """Raise ConflictError when an object is not the one that was meant to be deleted."""
    if conditions.uid and conditions.uid != old["metadata"]["uid"]:
        raise ConflictError(
            resource.target(name),
            uid_mismatch(conditions.uid, old),
        )
    if conditions.resource_version and conditions.resource_version != str(item.version):
        raise ConflictError(
            resource.target(name),
            f"Precondition failed: ResourceVersion in precondition: {conditions.resource_version}, "
            f"ResourceVersion in object meta: {item.version}",
        )


def grace_period(resource: Resource, document: Document, options: DeleteOptions) -> int:
    """Seconds that a Pod on a node is given to end; the kubelet deletes it with 0 when it has."""
    if resource.name != _PODS:
        return 0
    spec, status = document["spec"], document.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0
    asked = options.grace_period_seconds
    if asked is None:
        asked = int(spec.get("terminationGracePeriodSeconds", 30))
    return asked if asked >= 0 else 1


def is_held(resource: Resource, document: Document) -> bool:
    """Whether an object that is marked for deletion stays for now."""
    metadata = document["metadata"]
    if metadata.get("finalizers"):
        return True
    if resource.name == namespaces.RESOURCE:
        return bool((document.get("spec") or {}).get("finalizers"))
    return bool(metadata.get("deletionGracePeriodSeconds")) and resource.name == _PODS


def set_finalizers(metadata: Document, policy: str | None, default: str | None) -> None:
    """Hold an object for the garbage collector, or no longer, as the propagation policy asks.

    Without a policy the finalizers that are there decide, and the kind's default where there are none.
    Source: `deletionFinalizersForGarbageCollection` in apiserver's generic registry.
    """
    if policy is None:
        if default is None or set(metadata.get("finalizers") or ()) & set(_FINALIZERS.values()):
            return
        policy = default
    wanted = _FINALIZERS.get(policy)
    kept = [name for name in metadata.get("finalizers") or () if name not in _FINALIZERS.values()]
    finalizers = [*kept, wanted] if wanted else kept
    if finalizers:
        metadata["finalizers"] = finalizers
    else:
        metadata.pop("finalizers", None)


def new_finalizers(new: Document, old: Document) -> list[FieldError]:
    """An object that is being deleted gets no further finalizers."""
    if not old["metadata"].get("deletionTimestamp"):
        return []
    added = set(new["metadata"].get("finalizers") or ()) - set(old["metadata"].get("finalizers") or ())
    if not added:
        return []
    return [
        forbidden(
            "metadata.finalizers",
            "no new finalizers can be added if the object is being deleted, found new finalizers "
            + go_strings(sorted(added)),
        )
    ]
