"""Packing endpoints into EndpointSlices with as few writes as possible.

A plan says what is to become of the slices of one Service; `hints` and `topology` may add to it before
`writes` turns it into actions. Source of the rules: KEP-752 and `reconcileByPortMapping` and `finalize` of
k8s.io/endpointslice (at most 100 endpoints in a slice, changed slices are filled first, slices are never
rebalanced).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from emu.controllers.actions import Action, Create, Delete, Replace, owner_reference, plain
from emu.controllers.replicaset import random_suffix
from emu.core.objects import SERVICE_NAME_LABEL, Endpoint, EndpointPort, EndpointSlice, Object

MAX_ENDPOINTS = 100
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
RESERVED_LABELS = (SERVICE_NAME_LABEL, MANAGED_BY, HEADLESS)
_NAME_LIMIT = 63

Ports = tuple[EndpointPort, ...]
Desired = Mapping[Ports, Sequence[Endpoint]]
"""The endpoints of a Service by the ports that they resolve to."""

Annotate = Callable[[Mapping[str, str]], Mapping[str, str]]
"""The annotations of a slice that is written, by those that it has."""


class Owner(NamedTuple):
    """What the slices are of, and the labels that they all have."""

    owner: Object
    labels: Mapping[str, str]

    def owns(self, item: EndpointSlice) -> bool:
        """Whether a slice is of this owner and not of an earlier one of the same name."""
        metadata = self.owner.metadata
        return any(
            reference.uid == metadata.uid and reference.kind == self.owner.kind
            for reference in item.metadata.owner_references
        )


@dataclass(slots=True)
class Draft:
    """A slice that is to be written."""

    ports: Ports
    endpoints: list[Endpoint]
    present: EndpointSlice | None = None
    """The slice that it replaces, None for a new one."""
    address_type: str = "IPv4"


@dataclass(slots=True)
class Plan:
    """What is to become of the slices of a Service."""

    create: list[Draft] = field(default_factory=list)
    update: list[Draft] = field(default_factory=list)
    unchanged: list[EndpointSlice] = field(default_factory=list)
    delete: list[EndpointSlice] = field(default_factory=list)

    @property
    def drafts(self) -> list[Draft]:
        """All that is to be written."""
        return [*self.create, *self.update]


def pack(owner: Owner, desired: Desired, existing: Iterable[EndpointSlice]) -> Plan:
    """How the existing slices come to hold the desired endpoints, which carry no hints yet.

    A Service without endpoints keeps one empty slice, so that its consumers see that it was looked at.
    Slices of an earlier owner, and of another address type, are neither kept nor used again.
    """
    plan = Plan()
    by_ports: dict[frozenset[EndpointPort], list[EndpointSlice]] = {}
    for item in existing:
        if item.metadata.deletion_timestamp is not None:
            continue
        if owner.owns(item) and item.address_type == "IPv4":
            by_ports.setdefault(frozenset(item.ports), []).append(item)
        else:
            plan.delete.append(item)
    for ports, endpoints in desired.items():
        if endpoints:
            _pack_group(plan, owner, ports, endpoints, by_ports.pop(frozenset(ports), []))
    for slices in by_ports.values():
        plan.delete += slices
    if not plan.create and not plan.update and not plan.unchanged:
        _keep_placeholder(plan, owner)
    return plan


def _keep_placeholder(plan: Plan, owner: Owner) -> None:
    if len(plan.delete) == 1:
        (item,) = plan.delete
        empty = not item.endpoints and not item.ports and item.address_type == "IPv4"
        if empty and item.metadata.labels == owner.labels and owner.owns(item):
            plan.unchanged.append(plan.delete.pop())
            return
    plan.create.append(Draft((), []))


def _pack_group(
    plan: Plan, owner: Owner, ports: Ports, endpoints: Sequence[Endpoint], slices: Sequence[EndpointSlice]
) -> None:
    """Keep endpoints where they are; put new ones where a write is needed anyway, fullest first."""
    left = {identity(endpoint): endpoint for endpoint in endpoints}
    changed: list[Draft] = []
    unchanged: list[EndpointSlice] = []
    for item in slices:
        kept: list[Endpoint] = []
        same = True
        for present in item.endpoints:
            wanted = left.pop(identity(present), None)
            if wanted is None:
                same = False
            else:
                kept.append(wanted)
                same = same and equal(wanted, present)
        if kept and not (same and _labelled(owner, item)):
            changed.append(Draft(item.ports, kept, item))
        elif same:
            unchanged.append(item)
        else:
            plan.delete.append(item)
    rest = list(left.values())
    for draft in sorted(changed, key=lambda draft: -len(draft.endpoints)):
        space = max(MAX_ENDPOINTS - len(draft.endpoints), 0)
        draft.endpoints += rest[:space]
        rest = rest[space:]
    while rest:
        fullest = _closest_fit(unchanged, len(rest))
        if fullest is not None:
            changed.append(Draft(fullest.ports, [*fullest.endpoints, *rest], fullest))
            unchanged = [item for item in unchanged if item is not fullest]
            break
        plan.create.append(Draft(ports, rest[:MAX_ENDPOINTS]))
        rest = rest[MAX_ENDPOINTS:]
    plan.update += changed
    plan.unchanged += unchanged


def _closest_fit(slices: Sequence[EndpointSlice], count: int) -> EndpointSlice | None:
    """The slice that `count` more endpoints fill best. A whole slice of them gets a slice of its own."""
    if count >= MAX_ENDPOINTS:
        return None
    fitting = [item for item in slices if len(item.endpoints) + count <= MAX_ENDPOINTS]
    return max(fitting, key=lambda item: len(item.endpoints), default=None)


def identity(endpoint: Endpoint) -> tuple[Any, ...]:
    """What makes an endpoint the same one: not its conditions, nor where it runs."""
    reference = endpoint.target_ref
    if reference is None:
        return endpoint.addresses, endpoint.hostname, "", ""
    return endpoint.addresses, endpoint.hostname, reference.namespace, reference.name


def equal(one: Endpoint, other: Endpoint) -> bool:
    """Whether two endpoints of the same identity are equal but for their hints."""
    return (
        one.conditions == other.conditions
        and one.node_name == other.node_name
        and one.zone == other.zone
        and one.target_ref == other.target_ref
    )


def _labelled(owner: Owner, item: EndpointSlice) -> bool:
    """Whether a slice has its owner's labels; those that only slices have are not looked at."""
    return unreserved(item.metadata.labels) == unreserved(owner.labels)


def unreserved(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels without those that only a slice's controller may set."""
    return {key: value for key, value in labels.items() if key not in RESERVED_LABELS}


def writes(owner: Owner, plan: Plan, annotate: Annotate) -> list[Action]:
    """The actions of a plan: a slice that would go is better used for one that would be created.

    Nothing is created for an owner that is being deleted: the garbage collector is about to take its slices.
    """
    create, update, delete = list(plan.create), list(plan.update), []
    for item in plan.delete:
        draft = next((draft for draft in create if draft.address_type == item.address_type), None)
        if draft is None or not owner.owns(item):
            delete.append(item)
        else:
            create = [other for other in create if other is not draft]
            draft.present = item
            update.append(draft)
    if owner.owner.metadata.deletion_timestamp is not None:
        create = []
    return [
        *(Create(EndpointSlice.resource, _document(owner, draft, annotate)) for draft in create),
        *(Replace(EndpointSlice.resource, _document(owner, draft, annotate)) for draft in update),
        *(deletion(item) for item in delete),
    ]


def deletion(item: EndpointSlice) -> Delete:
    """Delete a slice."""
    return Delete(EndpointSlice.resource, item.namespace, item.name, item.metadata.uid)


def _document(owner: Owner, draft: Draft, annotate: Annotate) -> dict[str, Any]:
    prefix = f"{owner.owner.name}-"
    metadata: dict[str, Any] = {
        "namespace": owner.owner.namespace,
        "generateName": prefix,
        "labels": dict(owner.labels),
        "annotations": annotate(draft.present.metadata.annotations if draft.present is not None else {}),
    }
    if draft.present is None:
        metadata["name"] = f"{prefix[: _NAME_LIMIT - 5]}{random_suffix()}"
        metadata["ownerReferences"] = [owner_reference(owner.owner)]
    else:
        present = draft.present.metadata
        metadata["name"] = present.name
        metadata["uid"] = present.uid
        metadata["resourceVersion"] = present.resource_version
        metadata["ownerReferences"] = [
            *(plain(reference) for reference in present.owner_references if not reference.controller),
            owner_reference(owner.owner),
        ]
        metadata["finalizers"] = list(present.finalizers)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": draft.address_type,
        "endpoints": [plain(endpoint) for endpoint in draft.endpoints],
        "ports": [{"name": port.name, "protocol": port.protocol, **plain(port)} for port in draft.ports],
    }
