"""Endpoints objects of Services that have a selector: the older form of EndpointSlices.

Deprecated since Kubernetes 1.33; written because people and tools still look at them. Changes are gathered
for a moment, since nothing on the data path reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from emu.controllers.actions import Action, Context, Create, Delete, Replace, perform
from emu.controllers.endpointslice import resolved_ports
from emu.controllers.service_pods import ServicePods, is_endpoint
from emu.controllers.slices import HEADLESS, Ports
from emu.controllers.workqueue import WorkQueue
from emu.core.addresses import to_int
from emu.core.objects import Endpoints, EndpointSubset, Node, Pod, Service

MANAGED_BY = "endpoints.kubernetes.io/managed-by"
CONTROLLER = "endpoint-controller"
_CAPACITY = 1000
_GATHER_SECONDS = 0.25


def decide(
    service: Service, pods: Iterable[Pod], nodes: Mapping[str, Node], present: Endpoints | None
) -> list[Action]:
    """The write that brings a Service's Endpoints up to date."""
    if not service.spec.selector or service.spec.type == "ExternalName":
        return []
    subsets = _subsets(service, pods, nodes)
    labels = {**service.metadata.labels, MANAGED_BY: CONTROLLER}
    if service.headless:
        labels[HEADLESS] = ""
    same = present is not None and present.metadata.labels == labels
    if present is not None and same and present.subsets == msgspec.convert(subsets, _SUBSETS):
        return []
    metadata: dict[str, Any] = {"name": service.name, "namespace": service.namespace, "labels": labels}
    document = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets}
    if present is None:
        return [Create(Endpoints.resource, document)]
    metadata["resourceVersion"] = present.metadata.resource_version
    return [Replace(Endpoints.resource, document)]


_SUBSETS = tuple[EndpointSubset, ...]


def _subsets(service: Service, pods: Iterable[Pod], nodes: Mapping[str, Node]) -> list[dict[str, Any]]:
    groups: dict[Ports, list[Pod]] = {}
    endpoints = [pod for pod in pods if not pod.terminating and is_endpoint(service, pod, nodes)]
    for pod in sorted(endpoints, key=lambda pod: to_int(pod.ip))[:_CAPACITY]:
        groups.setdefault(resolved_ports(service, pod), []).append(pod)
    subsets = []
    for ports, group in groups.items():
        if not ports and not service.headless:
            continue
        ready = [pod for pod in group if pod.ready or service.spec.publish_not_ready_addresses]
        waiting = [pod for pod in group if pod not in ready]
        subset: dict[str, Any] = {
            "addresses": [_address(service, pod) for pod in ready],
            "notReadyAddresses": [_address(service, pod) for pod in waiting],
            "ports": [_port(port.name, port.port, port.protocol) for port in ports],
        }
        subsets.append({key: value for key, value in subset.items() if value})
    return subsets


def _port(name: str, number: int | None, protocol: str) -> dict[str, Any]:
    port: dict[str, Any] = {"port": number, "protocol": protocol}
    return {"name": name, **port} if name else port


def _address(service: Service, pod: Pod) -> dict[str, Any]:
    address: dict[str, Any] = {
        "ip": pod.ip,
        "nodeName": pod.spec.node_name,
        "targetRef": {
            "kind": "Pod",
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.metadata.uid,
        },
    }
    if pod.spec.hostname and pod.spec.subdomain == service.name:
        address["hostname"] = pod.spec.hostname
    return address


class EndpointsController:
    """Keeps the Endpoints of all Services with selectors."""

    def __init__(self, context: Context, service_pods: ServicePods) -> None:
        self._context = context
        self._recorder = context.recorder("endpoint-controller")
        self._service_pods = service_pods
        self._endpoints = context.informers.reflector(Endpoints)
        self._queue = WorkQueue("endpoints", self._sync, workers=2)
        service_pods.subscribe(self._later)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._context.informers.synced()
        await self._queue.run()

    def _later(self, key: str) -> None:
        self._queue.add_after(key, _GATHER_SECONDS)

    async def _sync(self, key: str) -> float | None:
        service = self._service_pods.services.items.get(key)
        present = self._endpoints.items.get(key)
        if service is None:
            actions: list[Action] = []
            if present is not None and present.metadata.labels.get(MANAGED_BY) == CONTROLLER:
                actions.append(
                    Delete(Endpoints.resource, present.namespace, present.name, present.metadata.uid)
                )
        else:
            pods = self._service_pods.pods(service)
            actions = decide(service, pods, self._service_pods.nodes.items, present)
        return await perform(self._context, self._recorder, actions)
