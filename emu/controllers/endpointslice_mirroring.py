"""EndpointSlices out of Endpoints that somebody wrote by hand for a Service without a selector.

One slice for each subset and address family, whatever its size. Source of the rules: the Kubernetes
documentation, "EndpointSlice mirroring", and pkg/controller/endpointslicemirroring.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple

from emu.controllers.actions import Action, Context, Report, perform
from emu.controllers.slices import (
    MANAGED_BY,
    Draft,
    Owner,
    Plan,
    Ports,
    deletion,
    equal,
    identity,
    writes,
)
from emu.controllers.subsets import repack
from emu.controllers.trigger_time import ANNOTATION as TRIGGER_TIME
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
MAX_ADDRESSES = 1000
"""Addresses of a subset that are mirrored."""
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_NOT_COPIED = (TRIGGER_TIME, "kubectl.kubernetes.io/last-applied-configuration")


class _Group(NamedTuple):
    """The endpoints of one family that share their ports, by what makes them the same."""

    ports: Ports
    endpoints: dict[tuple[object, ...], Endpoint]


def decide(
    service: Service | None, endpoints: Endpoints | None, existing: Sequence[EndpointSlice]
) -> list[Action]:
    """The writes that make the mirrored slices equal to the Endpoints. `existing` are the mirrored ones."""
    existing = [item for item in existing if item.metadata.deletion_timestamp is None]
    if service is None or endpoints is None or not _mirrored(service, endpoints):
        return [deletion(item) for item in existing]
    desired, reports = _desired(endpoints)
    owner = Owner(
        endpoints,
        {**endpoints.metadata.labels, SERVICE_NAME_LABEL: endpoints.name, MANAGED_BY: CONTROLLER},
    )
    annotations = {k: v for k, v in endpoints.metadata.annotations.items() if k not in _NOT_COPIED}
    plan = Plan()
    by_group: dict[tuple[str, frozenset[EndpointPort]], list[EndpointSlice]] = {}
    for item in existing:
        by_group.setdefault((item.address_type, frozenset(item.ports)), []).append(item)
    for (family, key), group in desired.items():
        draft = Draft(group.ports, list(group.endpoints.values()), address_type=family)
        slices = by_group.pop((family, key), [])
        if not slices:
            plan.create.append(draft)
            continue
        draft.present, *others = slices
        plan.delete += others
        if not _same(owner, draft.present, group, annotations):
            plan.update.append(draft)
    for slices in by_group.values():
        plan.delete += slices
    return [*writes(owner, plan, lambda present: annotations), *reports]


def _mirrored(service: Service, endpoints: Endpoints) -> bool:
    return (
        not service.spec.selector
        and endpoints.metadata.labels.get(SKIP_MIRROR) != "true"
        and _LEADER not in endpoints.metadata.annotations
    )


def _desired(
    endpoints: Endpoints,
) -> tuple[dict[tuple[str, frozenset[EndpointPort]], _Group], list[Report]]:
    """What is to be mirrored, and what to say of what is not."""
    desired: dict[tuple[str, frozenset[EndpointPort]], _Group] = {}
    invalid = skipped = 0
    for subset in repack(endpoints.subsets):
        ports = tuple(
            EndpointPort(
                port=port.port, name=port.name, protocol=port.protocol, app_protocol=port.app_protocol
            )
            for port in subset.ports
        )
        added = 0
        for addresses, ready in ((subset.addresses, True), (subset.not_ready_addresses, False)):
            for address in addresses:
                if added == MAX_ADDRESSES:
                    skipped += 1
                    continue
                family = _family(address.ip)
                if family is None:
                    invalid += 1
                    continue
                added += 1
                found = _endpoint(address, ready=ready)
                group = desired.setdefault((family, frozenset(ports)), _Group(ports, {}))
                group.endpoints[identity(found)] = found
    reports = []
    if invalid:
        message = f"Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices"
        reports.append(Report(endpoints, "InvalidIPAddress", message, warning=True))
    if skipped:
        message = (
            f"A max of {MAX_ADDRESSES} addresses can be mirrored to EndpointSlices per Endpoints subset. "
            f"{skipped + invalid} addresses were skipped"
        )
        reports.append(Report(endpoints, "TooManyAddressesToMirror", message, warning=True))
    return desired, reports


def _family(address: str) -> str | None:
    try:
        return f"IPv{ip_address(address).version}"
    except ValueError:
        return None


def _endpoint(address: EndpointAddress, *, ready: bool) -> Endpoint:
    return Endpoint(
        addresses=(address.ip,),
        conditions=EndpointConditions(ready=ready),
        hostname=address.hostname or None,
        node_name=address.node_name,
        target_ref=address.target_ref,
    )


def _same(owner: Owner, item: EndpointSlice, group: _Group, annotations: dict[str, str]) -> bool:
    """Whether a slice holds what it is to hold."""
    return (
        owner.owns(item)
        and item.metadata.labels == owner.labels
        and item.metadata.annotations == annotations
        and len(item.endpoints) == len(group.endpoints)
        and all(
            (wanted := group.endpoints.get(identity(present))) is not None and equal(wanted, present)
            for present in item.endpoints
        )
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
        self._said: dict[str, set[tuple[str, str]]] = {}
        self._queue = WorkQueue("endpointslice-mirroring", self._sync, workers=2)
        self._endpoints.subscribe(lambda key, before, now: self._queue.add(key))
        self._services.subscribe(self._service_changed)
        informers.reflector(EndpointSlice).subscribe(self._slice_changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._context.informers.synced()
        await self._queue.run()

    def _service_changed(self, key: str, before: Service | None, now: Service | None) -> None:
        if key in self._endpoints.items:
            self._queue.add(key)

    def _slice_changed(self, key: str, before: EndpointSlice | None, now: EndpointSlice | None) -> None:
        """A mirrored slice that somebody else deleted or changed is put right."""
        for item in (before, now):
            if item is not None and item.metadata.labels.get(MANAGED_BY) == CONTROLLER:
                self._queue.add(item.service_key)

    async def _sync(self, key: str) -> float | None:
        existing = [
            item
            for item in self._slices.get(key).values()
            if item.metadata.labels.get(MANAGED_BY) == CONTROLLER
        ]
        actions = decide(self._services.items.get(key), self._endpoints.items.get(key), existing)
        before = self._said.pop(key, set())
        said = {(action.reason, action.message) for action in actions if isinstance(action, Report)}
        if said:
            self._said[key] = said
        news = [a for a in actions if not isinstance(a, Report) or (a.reason, a.message) not in before]
        return await perform(self._context, self._recorder, news)
