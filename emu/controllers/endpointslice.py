"""EndpointSlices of Services that have a selector.

Source of the rules: the documentation of EndpointSlices and of their conditions, KEP-752, KEP-1672
(terminating endpoints), KEP-4444 (trafficDistribution).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from emu.controllers.actions import Action, Context, perform
from emu.controllers.service_pods import ServicePods, is_endpoint, target_port
from emu.controllers.slices import (
    HEADLESS,
    MANAGED_BY,
    RESERVED_LABELS,
    TRIGGER_TIME,
    Owner,
    Ports,
    pack,
)
from emu.controllers.workqueue import WorkQueue
from emu.core.objects import (
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    ForNode,
    ForZone,
    Node,
    ObjectReference,
    Pod,
    Service,
)

CONTROLLER = "endpointslice-controller.k8s.io"
_SAME_ZONE = ("PreferClose", "PreferSameZone", "PreferSameNode")


def decide(
    service: Service,
    pods: Iterable[Pod],
    nodes: Mapping[str, Node],
    existing: Sequence[EndpointSlice],
    now: float,
) -> list[Action]:
    """The writes that bring a Service's slices up to date. `existing` are those of this controller."""
    if (
        not service.spec.selector
        or service.spec.type == "ExternalName"
        or service.metadata.deletion_timestamp is not None
    ):
        return []
    desired: dict[Ports, list[Endpoint]] = {}
    for pod in pods:
        if is_endpoint(service, pod, nodes):
            desired.setdefault(resolved_ports(service, pod), []).append(
                endpoint(service, pod, nodes.get(pod.spec.node_name))
            )
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    owner = Owner(service, service.name, slice_labels(service, CONTROLLER), {TRIGGER_TIME: moment})
    return pack(owner, desired, existing)


def slice_labels(service: Service, managed_by: str) -> dict[str, str]:
    """The Service's labels, except those that only a slice may have, and the slice's own."""
    labels = {key: value for key, value in service.metadata.labels.items() if key not in RESERVED_LABELS}
    labels[SERVICE_NAME_LABEL] = service.name
    labels[MANAGED_BY] = managed_by
    if service.headless:
        labels[HEADLESS] = ""
    return labels


def resolved_ports(service: Service, pod: Pod) -> Ports:
    """The ports of a Service as numbers of a pod; a named one that the pod lacks is left out."""
    return tuple(
        EndpointPort(port=number, name=port.name, protocol=port.protocol, app_protocol=port.app_protocol)
        for port in service.spec.ports
        if (number := target_port(port, pod)) is not None
    )


def endpoint(service: Service, pod: Pod, node: Node | None) -> Endpoint:
    """A pod as an endpoint: serving is its readiness, ready also asks that it is not terminating."""
    ready = service.spec.publish_not_ready_addresses or (pod.ready and not pod.terminating)
    zone = node.zone if node is not None else ""
    named = pod.spec.hostname and pod.spec.subdomain == service.name
    return Endpoint(
        addresses=(pod.ip,),
        conditions=EndpointConditions(ready=ready, serving=pod.ready, terminating=pod.terminating),
        hostname=pod.spec.hostname if named else None,
        node_name=pod.spec.node_name or None,
        zone=zone or None,
        hints=_hints(service, pod, zone) if ready else None,
        target_ref=ObjectReference(kind="Pod", namespace=pod.namespace, name=pod.name, uid=pod.metadata.uid),
    )


def _hints(service: Service, pod: Pod, zone: str) -> EndpointHints | None:
    """trafficDistribution prefers the endpoint's own zone; the topology-mode annotation wins over it."""
    mode = service.metadata.annotations.get("service.kubernetes.io/topology-mode", "")
    if service.spec.traffic_distribution not in _SAME_ZONE or mode.lower() == "auto":
        return None
    zones = (ForZone(name=zone),) if zone else ()
    same_node = service.spec.traffic_distribution == "PreferSameNode" and pod.spec.node_name
    nodes = (ForNode(name=pod.spec.node_name),) if same_node else ()
    return EndpointHints(for_zones=zones, for_nodes=nodes) if zones or nodes else None


class EndpointSliceController:
    """Keeps the slices of all Services with selectors."""

    def __init__(self, context: Context, service_pods: ServicePods) -> None:
        self._context = context
        self._recorder = context.recorder("endpoint-slice-controller")
        self._service_pods = service_pods
        slices = context.informers.reflector(EndpointSlice)
        self._slices = context.informers.index(EndpointSlice, "service", lambda item: (item.service_key,))
        self._queue = WorkQueue("endpointslice", self._sync, workers=8)
        service_pods.subscribe(self._queue.add)
        slices.subscribe(self._slice_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._context.informers.synced()
        await self._queue.run()

    def _slice_changed(self, key: str, before: EndpointSlice | None, now: EndpointSlice | None) -> None:
        """A slice that somebody else deleted or changed is put right."""
        for item in (before, now):
            if item is not None and item.metadata.labels.get(MANAGED_BY) == CONTROLLER:
                self._queue.add(item.service_key)

    async def _sync(self, key: str) -> float | None:
        service = self._service_pods.services.items.get(key)
        if service is None:
            return None
        existing = [
            item
            for item in self._slices.get(key).values()
            if item.metadata.labels.get(MANAGED_BY) == CONTROLLER
        ]
        pods = self._service_pods.pods(service)
        actions = decide(service, pods, self._service_pods.nodes.items, existing, time.time())
        return await perform(self._context, self._recorder, actions)
