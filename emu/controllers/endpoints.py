"""Endpoints objects of Services that have a selector: the older form of EndpointSlices.

Deprecated since Kubernetes 1.33; written because people and tools still look at them. Changes are gathered
for a moment, since nothing on the data path reads them. Source: pkg/controller/endpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from emu.controllers.actions import Action, Context, Create, Delete, Replace, perform, plain
from emu.controllers.endpointslice import hostname, pod_reference
from emu.controllers.service_pods import ServicePods, has_address, target_port
from emu.controllers.slices import HEADLESS
from emu.controllers.subsets import repack, truncate
from emu.controllers.trigger_time import Triggers, annotated, trigger_time, triggers
from emu.controllers.workqueue import WorkQueue
from emu.core.objects import EndpointAddress, Endpoints, EndpointsPort, EndpointSubset, Pod, Service

MANAGED_BY = "endpoints.kubernetes.io/managed-by"
CONTROLLER = "endpoint-controller"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
_GATHER_SECONDS = 0.25


def decide(
    service: Service, pods: Sequence[Pod], present: Endpoints | None, trigger: str | None = None
) -> list[Action]:
    """The write that brings a Service's Endpoints up to date; `trigger` is when what led to it happened."""
    if not service.spec.selector or service.spec.type == "ExternalName":
        return []
    complete = repack(_offers(service, pods))
    subsets = truncate(complete)
    labels = {key: value for key, value in service.metadata.labels.items() if key != HEADLESS}
    labels[MANAGED_BY] = CONTROLLER
    if not service.has_cluster_ip:
        labels[HEADLESS] = ""
    before = present.metadata.annotations if present is not None else {}
    annotations = annotated(before, trigger)
    annotations.pop(OVER_CAPACITY, None)
    if subsets != complete:
        annotations[OVER_CAPACITY] = "truncated"
    metadata: dict[str, Any] = {
        "name": service.name,
        "namespace": service.namespace,
        "labels": labels,
        "annotations": annotations,
    }
    document = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": metadata,
        "subsets": [plain(subset) for subset in subsets],
    }
    if present is None:
        return [Create(Endpoints.resource, document)]
    same_capacity = before.get(OVER_CAPACITY) == annotations.get(OVER_CAPACITY)
    if present.metadata.labels == labels and present.subsets == subsets and same_capacity:
        return []
    metadata["uid"] = present.metadata.uid
    metadata["resourceVersion"] = present.metadata.resource_version
    metadata["finalizers"] = list(present.metadata.finalizers)
    metadata["ownerReferences"] = [plain(reference) for reference in present.metadata.owner_references]
    return [Replace(Endpoints.resource, document)]


def _offers(service: Service, pods: Iterable[Pod]) -> Iterator[EndpointSubset]:
    """Each pod with its ports. A terminating one counts only where readiness does not."""
    publish = service.spec.publish_not_ready_addresses
    for pod in pods:
        if not has_address(pod) or (pod.terminating and not publish):
            continue
        ports = tuple(
            EndpointsPort(port=number, name=port.name, protocol=port.protocol, app_protocol=port.app_protocol)
            for port in service.spec.ports
            if (number := target_port(port, pod)) is not None
        )
        # A headless Service may have no ports at all; one that has some needs a pod that has one of them.
        if not ports and (service.spec.ports or not service.headless):
            continue
        address = EndpointAddress(
            ip=pod.ip,
            hostname=hostname(service, pod) or "",
            node_name=pod.spec.node_name or None,
            target_ref=pod_reference(pod),
        )
        if publish or pod.ready:
            yield EndpointSubset(addresses=(address,), ports=ports)
        else:
            yield EndpointSubset(not_ready_addresses=(address,), ports=ports)


class EndpointsController:
    """Keeps the Endpoints of all Services with selectors, and removes those of Services that are gone."""

    def __init__(self, context: Context, service_pods: ServicePods) -> None:
        self._context = context
        self._recorder = context.recorder("endpoint-controller")
        self._service_pods = service_pods
        self._known: dict[str, Triggers] = {}
        self._endpoints = context.informers.reflector(Endpoints)
        self._queue = WorkQueue("endpoints", self._sync, workers=2)
        service_pods.subscribe(self._later)
        self._endpoints.subscribe(self._endpoints_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._context.informers.synced()
        for key, endpoints in self._endpoints.items.items():
            # Their Services went while nobody worked here. What others write without a Service is theirs.
            managed = endpoints.metadata.labels.get(MANAGED_BY) == CONTROLLER
            if managed and key not in self._service_pods.services.items:
                self._later(key)
        await self._queue.run()

    def _later(self, key: str) -> None:
        self._queue.add_after(key, _GATHER_SECONDS)

    def _endpoints_changed(self, key: str, before: Endpoints | None, now: Endpoints | None) -> None:
        """Endpoints that somebody deleted come back."""
        if now is None and key in self._service_pods.services.items:
            self._later(key)

    async def _sync(self, key: str) -> float | None:
        service = self._service_pods.services.items.get(key)
        present = self._endpoints.items.get(key)
        actions: list[Action] = []
        if service is None:
            self._known.pop(key, None)
            if present is not None:
                actions.append(
                    Delete(Endpoints.resource, present.namespace, present.name, present.metadata.uid)
                )
            return await perform(self._context, self._recorder, actions)
        pods = self._service_pods.pods(service)
        seen = triggers(service, pods)
        actions = decide(service, pods, present, trigger_time(seen, self._known.get(key)))
        after = await perform(self._context, self._recorder, actions)
        self._known[key] = seen
        return after
