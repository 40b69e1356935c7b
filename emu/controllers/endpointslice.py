"""EndpointSlices of Services that have a selector.

Source of the rules: k8s.io/endpointslice and its controller, the documentation of EndpointSlices and of their
conditions, KEP-752, KEP-1672 (terminating endpoints).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from emu.controllers.actions import Action, Context, Report, perform
from emu.controllers.hints import add_hints, hint_of
from emu.controllers.service_pods import ServicePods, has_address, target_port
from emu.controllers.slices import HEADLESS, MANAGED_BY, Owner, Ports, pack, unreserved, writes
from emu.controllers.topology import (
    HINTS_ENABLED,
    HINTS_REMOVED,
    add_topology_hints,
    asks_for_hints,
    cpu_shares,
    standing,
)
from emu.controllers.trigger_time import Triggers, annotated, trigger_time, triggers
from emu.controllers.workqueue import WorkQueue
from emu.core.objects import (
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    Node,
    ObjectReference,
    Pod,
    Service,
)

CONTROLLER = "endpointslice-controller.k8s.io"


Saying = tuple[str, str]
"""Reason and message of an Event."""


class Known(NamedTuple):
    """What is remembered of a Service from one decision to the next."""

    triggers: Triggers
    said: frozenset[Saying]
    """What Events told of it: nothing is told twice in a row."""


class Decision(NamedTuple):
    """The writes that bring a Service's slices up to date, and what to remember once they are done."""

    actions: list[Action]
    known: Known


def decide(
    service: Service,
    pods: Sequence[Pod],
    nodes: Mapping[str, Node],
    existing: Iterable[EndpointSlice],
    known: Known | None = None,
) -> Decision | None:
    """What is to be done for a Service, whose selected pods and slices of this controller are given.

    None for a Service whose slices are none of this controller's business. Those that it has from before,
    when it had a selector or another type, are left as they are, as upstream leaves them.
    """
    if not service.spec.selector or service.spec.type == "ExternalName":
        return None
    desired, lost = _endpoints_by_ports(service, pods, nodes)
    owner = Owner(service, slice_labels(service))
    plan = pack(owner, desired, existing)
    said: frozenset[Saying] = known.said if known is not None else frozenset()
    sayings: list[Saying] = []
    if asks_for_hints(service):
        sayings.append(add_topology_hints(plan, cpu_shares(nodes.values())))
    else:
        add_hints(plan, hint_of(service))
        if HINTS_ENABLED in said:
            sayings.append(HINTS_REMOVED)
    if lost:
        sayings.append(("FailedToUpdateEndpointSlices", _nodes_missing(service, lost)))
    seen = triggers(service, pods)
    time = trigger_time(seen, known.triggers if known is not None else None)
    actions = writes(owner, plan, functools.partial(annotated, time=time))
    for saying in sayings:
        if saying not in said:
            actions.append(Report(service, *saying, warning=saying != HINTS_ENABLED))
    return Decision(actions, Known(seen, frozenset(sayings)))


def slice_labels(service: Service) -> dict[str, str]:
    """The Service's labels, except those that only a slice may have, and the slice's own."""
    labels = unreserved(service.metadata.labels)
    labels[SERVICE_NAME_LABEL] = service.name
    labels[MANAGED_BY] = CONTROLLER
    if not service.has_cluster_ip:
        labels[HEADLESS] = ""
    return labels


def _endpoints_by_ports(
    service: Service, pods: Iterable[Pod], nodes: Mapping[str, Node]
) -> tuple[dict[Ports, list[Endpoint]], list[Pod]]:
    """The endpoints, and the pods that are none because their node is not there."""
    named = any(isinstance(port.target_port, str) for port in service.spec.ports)
    shared: Ports | None = None
    desired: dict[Ports, list[Endpoint]] = {}
    lost: list[Pod] = []
    for pod in pods:
        if not has_address(pod):
            continue
        node = nodes.get(pod.spec.node_name)
        if node is None and not service.spec.publish_not_ready_addresses:
            lost.append(pod)
            continue
        ports = resolved_ports(service, pod) if shared is None else shared
        if not named:
            shared = ports
        desired.setdefault(ports, []).append(endpoint(service, pod, node))
    return desired, lost


def resolved_ports(service: Service, pod: Pod) -> Ports:
    """The ports of a Service as numbers of a pod; a named one that the pod lacks is left out."""
    return tuple(
        EndpointPort(port=number, name=port.name, protocol=port.protocol, app_protocol=port.app_protocol)
        for port in service.spec.ports
        if (number := target_port(port, pod)) is not None
    )


def endpoint(service: Service, pod: Pod, node: Node | None) -> Endpoint:
    """A pod as an endpoint, without hints."""
    return Endpoint(
        addresses=(pod.ip,),
        conditions=_conditions(pod.ready, pod.terminating, service.spec.publish_not_ready_addresses),
        hostname=hostname(service, pod),
        node_name=pod.spec.node_name or None,
        zone=(node.zone if node is not None else "") or None,
        target_ref=pod_reference(pod),
    )


@functools.cache
def _conditions(serving: bool, terminating: bool, publish: bool) -> EndpointConditions:
    """Serving is the pod's readiness, ready asks also that it is not terminating."""
    ready = publish or (serving and not terminating)
    return EndpointConditions(ready=ready, serving=serving, terminating=terminating)


def hostname(service: Service, pod: Pod) -> str | None:
    """The name of an endpoint's own below the Service's, where the pod asks for one."""
    return pod.spec.hostname if pod.spec.hostname and pod.spec.subdomain == service.name else None


def pod_reference(pod: Pod) -> ObjectReference:
    """A reference to a pod."""
    return ObjectReference(kind="Pod", namespace=pod.namespace, name=pod.name, uid=pod.metadata.uid)


def _nodes_missing(service: Service, pods: Sequence[Pod]) -> str:
    faults = [
        f"skipping Pod {pod.name} for Service {service.key}: Node {pod.spec.node_name} Not Found"
        for pod in pods
    ]
    listed = faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
    return f"Error updating Endpoint Slices for Service {service.key}: {listed}"


class EndpointSliceController:
    """Keeps the slices of all Services with selectors."""

    def __init__(self, context: Context, service_pods: ServicePods) -> None:
        self._context = context
        self._recorder = context.recorder("endpoint-slice-controller")
        self._service_pods = service_pods
        self._known: dict[str, Known] = {}
        slices = context.informers.reflector(EndpointSlice)
        self._slices = context.informers.index(EndpointSlice, "service", lambda item: (item.service_key,))
        self._spread = context.informers.index(Service, "topology", lambda item: (asks_for_hints(item),))
        self._queue = WorkQueue("endpointslice", self._sync, workers=8)
        service_pods.subscribe(self._queue.add)
        service_pods.nodes.subscribe(self._node_changed)
        slices.subscribe(self._slice_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._context.informers.synced()
        await self._queue.run()

    def _slice_changed(self, key: str, before: EndpointSlice | None, now: EndpointSlice | None) -> None:
        """A slice that somebody else deleted or changed is put right."""
        if self._context.informers.learning:
            return
        for item in (before, now):
            if item is not None and item.metadata.labels.get(MANAGED_BY) == CONTROLLER:
                self._queue.add(item.service_key)

    def _node_changed(self, key: str, before: Node | None, now: Node | None) -> None:
        """The zones' shares changed: Services whose endpoints are spread by them are looked at again."""
        if before is not None and now is not None and standing(before) == standing(now):
            return
        for service_key in self._spread.get(True):
            self._queue.add(service_key)

    async def _sync(self, key: str) -> float | None:
        service = self._service_pods.services.items.get(key)
        if service is None:
            self._known.pop(key, None)
            return None
        existing = [
            item
            for item in self._slices.get(key).values()
            if item.metadata.labels.get(MANAGED_BY) == CONTROLLER
        ]
        pods = self._service_pods.pods(service)
        decision = decide(service, pods, self._service_pods.nodes.items, existing, self._known.get(key))
        if decision is None:
            return None
        after = await perform(self._context, self._recorder, decision.actions)
        self._known[key] = decision.known
        return after
