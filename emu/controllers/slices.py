"""Packing endpoints into EndpointSlices with as few writes as possible.

Source of the rules: the EndpointSlice documentation and KEP-752 (at most 100 endpoints in a slice, changed
slices are filled first, slices are never rebalanced).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from emu.controllers.actions import Action, Create, Delete, Replace, owner_reference, plain
from emu.controllers.replicaset import random_suffix
from emu.core.objects import SERVICE_NAME_LABEL, Endpoint, EndpointPort, EndpointSlice, Object

MAX_ENDPOINTS = 100
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
RESERVED_LABELS = (SERVICE_NAME_LABEL, MANAGED_BY, HEADLESS)
_NAME_LIMIT = 63

Ports = tuple[EndpointPort, ...]
Desired = Mapping[Ports, Sequence[Endpoint]]
"""The endpoints of a Service by the ports that they resolve to."""


class Owner(NamedTuple):
    """What all slices of a Service have in common."""

    owner: Object
    service: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = {}


class _Plan(NamedTuple):
    """What is to become of a group's slices. Endpoints None: as they are."""

    new: list[list[Endpoint]]
    changed: list[tuple[EndpointSlice, list[Endpoint]]]
    surplus: list[EndpointSlice]


def pack(owner: Owner, desired: Desired, existing: Sequence[EndpointSlice]) -> list[Action]:
    """The writes that make the slices of a Service hold the desired endpoints.

    A Service without endpoints keeps one empty slice, so that its consumers see that it was looked at.
    """
    existing = [item for item in existing if item.metadata.deletion_timestamp is None]
    wanted: dict[Ports, Sequence[Endpoint]] = {
        ports: list(group) for ports, group in desired.items() if group
    }
    by_ports: dict[Ports, list[EndpointSlice]] = {}
    for item in existing:
        by_ports.setdefault(item.ports, []).append(item)
    creations: list[tuple[Ports, list[Endpoint]]] = []
    updates: list[tuple[EndpointSlice, Ports, list[Endpoint]]] = []
    surplus: list[EndpointSlice] = []
    for ports, slices in by_ports.items():
        if ports not in wanted:
            surplus += slices
    for ports, endpoints in wanted.items():
        plan = _plan(owner, endpoints, by_ports.get(ports, []))
        creations += [(ports, chunk) for chunk in plan.new]
        updates += [(item, ports, chunk) for item, chunk in plan.changed]
        surplus += plan.surplus
    if not wanted:
        empty = next((item for item in surplus if not item.endpoints and not item.ports), None)
        if empty is None:
            creations.append(((), []))
        else:
            surplus.remove(empty)
            if not _labelled(owner, empty):
                updates.append((empty, (), []))
    # A slice that would go is better used for what would be created.
    while surplus and creations:
        ports, chunk = creations.pop(0)
        updates.append((surplus.pop(0), ports, chunk))
    return [
        *(Replace(EndpointSlice.resource, _document(owner, p, chunk, item)) for item, p, chunk in updates),
        *(Create(EndpointSlice.resource, _document(owner, p, chunk)) for p, chunk in creations),
        *(Delete(EndpointSlice.resource, item.namespace, item.name, item.metadata.uid) for item in surplus),
    ]


def _plan(owner: Owner, endpoints: Sequence[Endpoint], slices: Sequence[EndpointSlice]) -> _Plan:
    """Keep endpoints where they are; put new ones where a write is needed anyway, fullest first."""
    left = {_identity(endpoint): endpoint for endpoint in endpoints}
    changed: list[tuple[EndpointSlice, list[Endpoint]]] = []
    unchanged: list[EndpointSlice] = []
    surplus: list[EndpointSlice] = []
    for item in slices:
        kept = [left.pop(key) for e in item.endpoints if (key := _identity(e)) in left]
        if not kept:
            surplus.append(item)
        elif tuple(kept) != item.endpoints or not _labelled(owner, item):
            changed.append((item, kept))
        else:
            unchanged.append(item)
    remaining = list(left.values())
    for _, kept in sorted(changed, key=lambda entry: -len(entry[1])):
        space = MAX_ENDPOINTS - len(kept)
        kept += remaining[:space]
        remaining = remaining[space:]
    new = []
    while remaining:
        fitting = [item for item in unchanged if len(item.endpoints) + len(remaining) <= MAX_ENDPOINTS]
        if fitting:
            fullest = max(fitting, key=lambda item: len(item.endpoints))
            changed.append((fullest, [*fullest.endpoints, *remaining]))
            break
        new.append(remaining[:MAX_ENDPOINTS])
        remaining = remaining[MAX_ENDPOINTS:]
    return _Plan(new, changed, surplus)


def _identity(endpoint: Endpoint) -> tuple[str, str]:
    return endpoint.addresses[0], endpoint.target_ref.uid if endpoint.target_ref else ""


def _labelled(owner: Owner, item: EndpointSlice) -> bool:
    controller = item.metadata.controller
    return (
        item.metadata.labels == owner.labels
        and controller is not None
        and controller.uid == owner.owner.metadata.uid
    )


def _document(
    owner: Owner, ports: Ports, endpoints: Sequence[Endpoint], present: EndpointSlice | None = None
) -> dict[str, Any]:
    prefix = f"{owner.service}-"
    metadata: dict[str, Any] = {
        "namespace": owner.owner.namespace,
        "generateName": prefix,
        "labels": dict(owner.labels),
        "annotations": dict(owner.annotations),
        "ownerReferences": [owner_reference(owner.owner)],
    }
    if present is None:
        metadata["name"] = f"{prefix[: _NAME_LIMIT - 5]}{random_suffix()}"
    else:
        metadata["name"] = present.name
        metadata["uid"] = present.metadata.uid
        metadata["resourceVersion"] = present.metadata.resource_version
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": [plain(endpoint) for endpoint in endpoints],
        "ports": [_port(port) for port in ports],
    }


def _port(port: EndpointPort) -> dict[str, Any]:
    return {"name": port.name, "protocol": port.protocol, **plain(port)}
