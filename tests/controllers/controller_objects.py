"""API objects in few words, as the views that controllers decide on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from emu.controllers.actions import owner_reference
from emu.core.objects import (
    Deployment,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Node,
    Object,
    Pod,
    ReplicaSet,
    Service,
)

NOW = 1_800_000_000.0
T = TypeVar("T", bound=Object)


def view(kind: type[T], document: dict[str, Any]) -> T:
    return msgspec.json.decode(msgspec.json.encode(document), type=kind)


def metadata(name: str, namespace: str = "default", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{name}",
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **more,
    }


def owner(kind: str, name: str) -> dict[str, Any]:
    group = "v1" if kind in ("Service", "Node", "Pod") else "apps/v1"
    return {"apiVersion": group, "kind": kind, "name": name, "uid": f"uid-{name}", "controller": True}


def pod(
    name: str,
    *,
    labels: dict[str, str] | None = None,
    node: str = "node-1",
    ip: str = "127.244.1.2",
    ready: bool = True,
    ready_since: str = "2026-01-01T00:00:00Z",
    terminating: bool = False,
    phase: str = "Running",
    owners: list[dict[str, Any]] | None = None,
    annotations: dict[str, str] | None = None,
    created: str = "2026-01-01T00:00:00Z",
    spec: dict[str, Any] | None = None,
) -> Pod:
    meta = metadata(
        name,
        labels={"app": "web"} if labels is None else labels,
        ownerReferences=owners or [],
        annotations=annotations or {},
        creationTimestamp=created,
    )
    if terminating:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    ready_condition = {
        "type": "Ready",
        "status": "True" if ready else "False",
        "lastTransitionTime": ready_since,
    }
    return view(
        Pod,
        {
            "metadata": meta,
            "spec": {"nodeName": node, "containers": [{"name": "c"}], **(spec or {})},
            "status": {"phase": phase, "podIP": ip, "conditions": [ready_condition]},
        },
    )


def node(
    name: str = "node-1",
    *,
    ready: str | None = "True",
    address: str = "127.168.1.10",
    labels: dict[str, str] | None = None,
    cpu: str = "2",
    **spec: Any,
) -> Node:
    conditions = [] if ready is None else [{"type": "Ready", "status": ready}]
    return view(
        Node,
        {
            "metadata": {**metadata(name, labels=labels or {}), "namespace": ""},
            "spec": spec,
            "status": {
                "allocatable": {"cpu": cpu} if cpu else {},
                "conditions": conditions,
                "addresses": [{"type": "InternalIP", "address": address}] if address else [],
            },
        },
    )


def service(
    name: str = "web",
    *,
    ports: list[dict[str, Any]] | None = None,
    selector: dict[str, str] | None = None,
    ingress: list[str] | None = None,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> Service:
    return view(
        Service,
        {
            "metadata": metadata(name, labels=labels or {}, annotations=annotations or {}),
            "spec": {
                "clusterIP": "127.96.0.20",
                "selector": {"app": "web"} if selector is None else selector,
                "ports": [{"port": 80, "targetPort": 8080}] if ports is None else ports,
                **spec,
            },
            "status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in ingress or []]}},
        },
    )


def template(image: str = "v1", labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": "web", **(labels or {})}},
        "spec": {"containers": [{"name": "c", "image": image}]},
    }


def replica_set(
    name: str,
    *,
    replicas: int,
    available: int | None = None,
    pods: int | None = None,
    image: str = "v1",
    annotations: dict[str, str] | None = None,
    created: str = "2026-01-01T00:00:00Z",
    **spec: Any,
) -> ReplicaSet:
    alive = replicas if pods is None else pods
    up = alive if available is None else available
    label = {"pod-template-hash": name}
    return view(
        ReplicaSet,
        {
            "metadata": metadata(
                name,
                labels={"app": "web", **label},
                annotations=annotations or {},
                ownerReferences=[owner("Deployment", "web")],
                creationTimestamp=created,
                generation=1,
            ),
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "template": template(image, label),
                **spec,
            },
            "status": {
                "replicas": alive,
                "fullyLabeledReplicas": alive,
                "readyReplicas": up,
                "availableReplicas": up,
                "observedGeneration": 1,
            },
        },
    )


def deployment(
    replicas: int = 3,
    *,
    image: str = "v1",
    annotations: dict[str, str] | None = None,
    status: dict[str, Any] | None = None,
    **spec: Any,
) -> Deployment:
    return view(
        Deployment,
        {
            "metadata": metadata("web", generation=2, annotations=annotations or {}),
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "web"}},
                "template": template(image),
                **spec,
            },
            "status": status or {},
        },
    )


def written_slice(document: dict[str, Any]) -> EndpointSlice:
    """A slice as the API server would show it after a write."""
    meta = {"uid": f"uid-{document['metadata']['name']}", "resourceVersion": "9", **document["metadata"]}
    return view(EndpointSlice, {**document, "metadata": meta})


def endpoint_slice(
    name: str,
    endpoints: Sequence[Endpoint],
    ports: Sequence[EndpointPort],
    *,
    owner: Object,
    labels: Mapping[str, str],
    annotations: dict[str, str] | None = None,
    finalizers: list[str] | None = None,
    going: bool = False,
    **fields: Any,
) -> EndpointSlice:
    """A slice of a Service, or of Endpoints, as it is there."""
    meta = metadata(
        name,
        labels=dict(labels),
        annotations=annotations or {},
        finalizers=finalizers or [],
        resourceVersion="9",
        ownerReferences=[owner_reference(owner)],
    )
    if going:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    document = {"metadata": meta, "endpoints": list(endpoints), "ports": list(ports), **fields}
    return view(EndpointSlice, document)
