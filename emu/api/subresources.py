"""Subresources that are more than a part of their object: binding, scale, finalize, eviction.

Sources: `pkg/registry/core/pod/storage` (binding, eviction), `pkg/registry/apps/deployment/storage` (scale).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from emu.api import apply, namespaces, schemas
from emu.api.errors import (
    BadRequestError,
    ConflictError,
    FieldError,
    InternalError,
    InvalidError,
    MethodNotAllowedError,
    Target,
    TooManyRequestsError,
    invalid,
    not_supported,
    required,
)
from emu.api.kinds.label_selectors import matches
from emu.api.options import DeleteOptions, WriteOptions
from emu.api.ownership import APPLY, Manager, set_owners
from emu.api.registry import Registry, now_text
from emu.api.resource import Document, Resource

EVICTION = schemas.Kind("policy", "v1", "Eviction")
TOKEN_REQUEST = schemas.Kind("authentication.k8s.io", "v1", "TokenRequest")
_BINDING = schemas.Kind("", "v1", "Binding")
_SCALE = schemas.Kind("autoscaling", "v1", "Scale")
_PODS = "pods"
_DISRUPTION_BUDGETS = "poddisruptionbudgets.policy"
_ENDED = ("Succeeded", "Failed")
# Source: `pkg/apis/authentication/validation`.
_TOKEN_SECONDS = range(600, (1 << 32) + 1)


# --- binding ---


def bind(registry: Registry, namespace: str, name: str, binding: Document, options: WriteOptions) -> None:
    """`pods/binding`: put a pod on a node."""
    pods = registry.resources[_PODS]
    schemas.check(_BINDING, binding)
    given = (binding.get("metadata") or {}).get("name")
    if given and given != name:
        raise BadRequestError("name in URL does not match name in Binding object")
    target = binding.get("target") or {}
    errors: list[FieldError] = []
    if target.get("kind") and target["kind"] != "Node":
        errors.append(not_supported("target.kind", target["kind"], ("Node", "<empty>")))
    if not target.get("name"):
        errors.append(required("target.name"))
    if errors:
        raise InvalidError(pods.target(name), errors)
    item = registry.get(pods, namespace, name)
    old, new = item.document(), item.document()
    why = ""
    if new["metadata"].get("deletionTimestamp"):
        why = f"pod {name} is being deleted, cannot be assigned to a host"
    elif new["spec"].get("nodeName"):
        why = f'pod {name} is already assigned to node "{new["spec"]["nodeName"]}"'
    elif new["spec"].get("schedulingGates"):
        why = f"pod {name} has non-empty .spec.schedulingGates"
    if why:
        raise ConflictError(pods.target(name)._replace(plural="pods/binding"), why)
    new["spec"]["nodeName"] = target["name"]
    conditions = new.setdefault("status", {}).setdefault("conditions", [])
    conditions[:] = [entry for entry in conditions if entry.get("type") != "PodScheduled"]
    conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": now_text()})
    if not options.dry_run:
        registry.store_version(pods, item.key, new, old)


# --- scale ---


def scale_of(resource: Resource, document: Document) -> Document:
    """The autoscaling/v1 Scale of a workload."""
    metadata, spec, status = document["metadata"], document["spec"], document.get("status") or {}
    selector = spec.get("selector") or {}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            key: metadata[key]
            for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
            if key in metadata
        },
        "spec": {"replicas": spec.get("replicas", 0)},
        "status": {
            "replicas": status.get("replicas", 0),
            "selector": _selector_text(selector if resource.label_selector else {"matchLabels": selector}),
        },
    }


def set_scale(
    registry: Registry,
    resource: Resource,
    namespace: str,
    name: str,
    change: Callable[[Document], Document],
    options: WriteOptions,
) -> Document:
    """Change the replicas of a workload through its Scale; gives the new Scale."""

    def changed(document: Document) -> Document:
        return _scaled(resource, document, change(scale_of(resource, document)))

    return scale_of(
        resource, registry.update(resource, namespace, name, changed, options, subresource="scale")
    )


def apply_scale(
    registry: Registry,
    resource: Resource,
    namespace: str,
    name: str,
    configuration: Document,
    options: WriteOptions,
) -> Document:
    """Server-side apply of a Scale; gives the new Scale. Raises ApplyConflictError."""
    manager = Manager(options.manager, APPLY, "autoscaling/v1", "scale")

    def changed(document: Document) -> Document:
        scale, held = apply.apply_scale(
            document,
            scale_of(resource, document),
            configuration,
            schemas.root(_SCALE),
            manager,
            now_text(),
            force=options.force,
        )
        scaled = _scaled(resource, document, scale)
        set_owners(scaled, held)
        return scaled

    updated = registry.update(resource, namespace, name, changed, options, subresource="scale", applied=True)
    return scale_of(resource, updated)


def _scaled(resource: Resource, document: Document, scale: Document) -> Document:
    """The workload with the replicas of a Scale."""
    schemas.check(_SCALE, scale)
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if replicas < 0:
        raise InvalidError(
            resource.target(document["metadata"]["name"]),
            [invalid("spec.replicas", replicas, "must be greater than or equal to 0")],
        )
    document["spec"]["replicas"] = replicas
    given = (scale.get("metadata") or {}).get("resourceVersion")
    if given:
        document["metadata"]["resourceVersion"] = given
    return document


def _selector_text(document: Mapping[str, Any]) -> str:
    """A label selector in the form of a query."""
    terms = [f"{key}={value}" for key, value in sorted((document.get("matchLabels") or {}).items())]
    for entry in document.get("matchExpressions") or ():
        match entry["operator"]:
            case "Exists":
                terms.append(entry["key"])
            case "DoesNotExist":
                terms.append(f"!{entry['key']}")
            case _:
                values = ",".join(entry.get("values") or ())
                terms.append(f"{entry['key']} {entry['operator'].lower()} ({values})")
    return ",".join(terms)


# --- finalize ---


def finalize(registry: Registry, name: str, document: Document) -> Document:
    """`namespaces/finalize`: only the finalizers of the spec change."""
    resource = registry.resources[namespaces.RESOURCE]
    schemas.check(resource, document)
    item = registry.get(resource, "", name)
    old = item.document()
    new = {**item.document(), "spec": document.get("spec") or {}}
    if not new["metadata"].get("deletionTimestamp"):
        raise MethodNotAllowedError("finalize")
    return registry.store_version(resource, item.key, new, old)


# --- eviction ---


def evict(registry: Registry, namespace: str, name: str, options: DeleteOptions) -> None:
    """`pods/eviction`: delete a pod if its PodDisruptionBudget can spare it.

    Raises TooManyRequestsError when it cannot.
    """
    pods = registry.resources[_PODS]
    item = registry.get(pods, namespace, name)
    pod = item.document()
    status = pod.get("status") or {}
    if status.get("phase") not in (*_ENDED, "Pending") and not pod["metadata"].get("deletionTimestamp"):
        _take_from_budget(registry, namespace, pod, dry_run=options.dry_run)
    registry.delete(pods, namespace, name, options)


def _take_from_budget(registry: Registry, namespace: str, pod: Document, *, dry_run: bool) -> None:
    budgets = registry.resources[_DISRUPTION_BUDGETS]
    labels = pod["metadata"].get("labels") or {}
    found = [
        item
        for item in registry.store.items(budgets.name, namespace)
        if _selects(item.document()["spec"].get("selector"), labels)
    ]
    if not found:
        return
    if len(found) > 1:
        raise InternalError(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        )
    old, new = found[0].document(), found[0].document()
    name, status = old["metadata"]["name"], new.setdefault("status", {})
    if status.get("observedGeneration", 0) < old["metadata"].get("generation", 0):
        raise TooManyRequestsError(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            f"The disruption budget {name} is still being processed by the server.",
            retry_after=10,
        )
    if status.get("disruptionsAllowed", 0) <= 0:
        healthy, desired = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
        raise TooManyRequestsError(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently",
        )
    status["disruptionsAllowed"] -= 1
    status.setdefault("disruptedPods", {})[pod["metadata"]["name"]] = now_text()
    if not dry_run:
        registry.store_version(budgets, found[0].key, new, old)


def _selects(selector: Document | None, labels: Mapping[str, str]) -> bool:
    # policy/v1: an empty selector selects every pod of the namespace, an absent one none.
    return selector is not None and matches(selector, labels)


# --- token ---


def check_token_request(spec: Mapping[str, Any]) -> None:
    """Raise InvalidError for a life of a token that is too short or too long, in seconds."""
    seconds = spec.get("expirationSeconds")
    if seconds is None:
        return
    if seconds < _TOKEN_SECONDS.start:
        why = "may not specify a duration less than 10 minutes"
    elif seconds >= _TOKEN_SECONDS.stop:
        why = "may not specify a duration larger than 2^32 seconds"
    else:
        return
    target = Target(TOKEN_REQUEST.group, "", TOKEN_REQUEST.kind)
    raise InvalidError(target, [invalid("spec.expirationSeconds", seconds, why)])
