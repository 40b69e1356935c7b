"""EndpointSlices out of Endpoints that somebody wrote by hand for a Service without a selector.

Source of the rules: the Kubernetes documentation, "EndpointSlice mirroring".
"""

from __future__ import annotations

from collections.abc import Sequence

from emu.controllers.actions import Action, Context, Delete, perform
from emu.controllers.slices import MANAGED_BY, RESERVED_LABELS, Owner, Ports, pack
from emu.controllers.workqueue import WorkQueue
from emu.core.objects import (
    SERVICE_NAME_LABEL,
    Endpoint,
    EndpointAddress,
    EndpointConditions,
    EndpointPort,
    Endpoints,
    EndpointSlice,
    Service,
)

CONTROLLER = "endpointslicemirroring-controller.k8s.io"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_MAX_ADDRESSES = 1000


def decide(
    service: Service | None, endpoints: Endpoints | None, existing: Sequence[EndpointSlice]
) -> list[Action]:
    """The writes that make the mirrored slices equal to the Endpoints. `existing` are the mirrored ones."""
    if service is None or endpoints is None or not _mirrored(service, endpoints):
        return [
            Delete(EndpointSlice.resource, item.namespace, item.name, item.metadata.uid) for item in existing
        ]
    labels = {
        **{key: value for key, value in endpoints.metadata.labels.items() if key not in RESERVED_LABELS},
        SERVICE_NAME_LABEL: endpoints.name,
        MANAGED_BY: CONTROLLER,
    }
    desired: dict[Ports, list[Endpoint]] = {}
    left = _MAX_ADDRESSES
    for subset in endpoints.subsets:
        ports = tuple(
            EndpointPort(port=port.port, name=port.name, protocol=port.protocol) for port in subset.ports
        )
        group = desired.setdefault(ports, [])
        for addresses, ready in ((subset.addresses, True), (subset.not_ready_addresses, False)):
            group += [_endpoint(address, ready=ready) for address in addresses[:left]]
            left -= len(addresses[:left])
    if not existing and not any(desired.values()):
        return []
    return pack(Owner(endpoints, endpoints.name, labels), desired, existing)


def _mirrored(service: Service, endpoints: Endpoints) -> bool:
    return (
        not service.spec.selector
        and endpoints.metadata.labels.get(SKIP_MIRROR) != "true"
        and _LEADER not in endpoints.metadata.annotations
        and endpoints.metadata.deletion_timestamp is None
    )


def _endpoint(address: EndpointAddress, *, ready: bool) -> Endpoint:
    return Endpoint(
        addresses=(address.ip,),
        conditions=EndpointConditions(ready=ready),
        hostname=address.hostname or None,
        node_name=address.node_name,
    )


class EndpointSliceMirroringController:
    """Mirrors all Endpoints that are written by hand."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._recorder = context.recorder("endpoint-slice-mirroring-controller")
        informers = context.informers
        self._services = informers.reflector(Service)
        self._endpoints = informers.reflector(Endpoints)
        self._slices = informers.index(EndpointSlice, "service", lambda item: (item.service_key,))
        self._queue = WorkQueue("endpointslice-mirroring", self._sync, workers=2)
        self._endpoints.subscribe(lambda key, before, now: self._queue.add(key))
        self._services.subscribe(self._service_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._context.informers.synced()
        await self._queue.run()

    def _service_changed(self, key: str, before: Service | None, now: Service | None) -> None:
        if key in self._endpoints.items:
            self._queue.add(key)

    async def _sync(self, key: str) -> float | None:
        existing = [
            item
            for item in self._slices.get(key).values()
            if item.metadata.labels.get(MANAGED_BY) == CONTROLLER
        ]
        actions = decide(self._services.items.get(key), self._endpoints.items.get(key), existing)
        return await perform(self._context, self._recorder, actions)
