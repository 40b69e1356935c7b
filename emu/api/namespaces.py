"""The life cycle of namespaces: what may be created in one, and how a deleted one is emptied.

Source: the admission plug-in NamespaceLifecycle and `pkg/controller/namespace/deletion`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.api.errors import ForbiddenError, NotFoundError
from emu.api.options import DeleteOptions
from emu.api.resource import Document, Resource
from emu.api.store import Item, Key, Store

if TYPE_CHECKING:
    from emu.api.registry import Registry

RESOURCE = "namespaces"
_IMMORTAL = ("default", "kube-system", "kube-public")


def is_terminating(item: Item) -> bool:
    """Whether a namespace is being deleted."""
    return item.fields.get("status.phase") == "Terminating"


def check_creation(store: Store, namespaces: Resource, target: Resource, namespace: str, name: str) -> None:
    """Raise NotFoundError for a namespace that is missing, ForbiddenError for one that ends."""
    found = store.get(Key(RESOURCE, "", namespace))
    if found is None:
        raise NotFoundError(namespaces.target(namespace))
    if is_terminating(found):
        raise ForbiddenError(
            target.target(name),
            f"unable to create new content in namespace {namespace} because it is being terminated",
            [
                {
                    "reason": "NamespaceTerminating",
                    "message": f"namespace {namespace} is being terminated",
                    "field": "metadata.namespace",
                }
            ],
        )


def check_deletion(namespaces: Resource, name: str) -> None:
    """Raise ForbiddenError for a namespace that the cluster cannot be without."""
    if name in _IMMORTAL:
        raise ForbiddenError(namespaces.target(name), "this namespace may not be deleted")


def empty(registry: Registry, namespace: str) -> Document | None:
    """Delete what a terminating namespace holds, then the namespace when nothing is left.

    Pods on nodes go when their kubelet says so, and objects with finalizers when those are done; the last of
    them takes the namespace along. Gives what `finish` gives.
    """
    left = False
    for resource in registry.resources.values():
        if not resource.namespaced:
            continue
        for item in registry.store.items(resource.name, namespace):
            _, gone = registry.delete(
                resource, namespace, item.key.name, DeleteOptions(propagation_policy="Background")
            )
            left = left or not gone
    return None if left else finish(registry, namespace)


def finish(registry: Registry, namespace: str) -> Document | None:
    """Remove a terminating namespace that is empty. Gives it as it was last, None if it stays."""
    item = registry.store.get(Key(RESOURCE, "", namespace))
    if item is None or not is_terminating(item):
        return None
    if any(
        registry.store.inhabited(resource.name, namespace)
        for resource in registry.resources.values()
        if resource.namespaced
    ):
        return None
    old, new = item.document(), item.document()
    new["spec"] = {key: value for key, value in new.get("spec", {}).items() if key != "finalizers"}
    if new["metadata"].get("finalizers"):
        registry.store.put(item.key, new)
        return new
    return registry.remove_version(item.key, new, old)
