"""Topology aware routing (`service.kubernetes.io/topology-mode: Auto`): endpoints are spread over the zones.

Each zone is given endpoints in proportion to the CPUs of its nodes, its own first. Where no zone could get
its share without some endpoint being overloaded by more than a fifth, no endpoint has hints.
Source: KEP-2433 and `topologycache` of k8s.io/endpointslice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from emu.controllers.hints import add_hints, hinted, is_ready, no_hint
from emu.controllers.slices import Draft, Plan
from emu.core.objects import EndpointHints, EndpointSlice, ForZone, Node, Service

MODE = "service.kubernetes.io/topology-mode"
OLDER_MODE = "service.kubernetes.io/topology-aware-hints"

# Reasons and messages of Events are upstream's.
_FAMILY = ", addressType: IPv4"
HINTS_ENABLED = ("TopologyAwareHintsEnabled", f"Topology Aware Hints has been enabled{_FAMILY}")
HINTS_REMOVED = ("TopologyAwareHintsDisabled", f"Topology Aware Hints has been disabled{_FAMILY}")
_NODES_UNKNOWN = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
_TOO_FEW = "Insufficient number of endpoints"
_OVERLOADED = (
    "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold"
)
_ZONE_UNKNOWN = "One or more endpoints do not have a zone specified"

_OVERLOAD_THRESHOLD = 0.2
_NO_WORKERS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
_SUFFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6}


class Allocation(NamedTuple):
    """How many endpoints a zone is to have."""

    minimum: int
    maximum: int
    desired: float


def asks_for_hints(service: Service) -> bool:
    """Whether a Service's annotations ask for hints; the older one wins."""
    annotations = service.metadata.annotations
    return annotations.get(OLDER_MODE, annotations.get(MODE)) in ("Auto", "auto")


def standing(node: Node) -> tuple[object, ...]:
    """What of a node the zones' shares depend on."""
    labels = node.metadata.labels
    cpu = node.status.allocatable.get("cpu")
    return node.ready, node.zone, cpu, any(label in labels for label in _NO_WORKERS)


def cpu_shares(nodes: Iterable[Node]) -> dict[str, float]:
    """The share of each zone in the CPUs of all ready nodes.

    Empty where a node says nothing about its zone or CPUs, and where there are not two zones.
    """
    millis: dict[str, int] = {}
    for node in nodes:
        if not node.ready or any(label in node.metadata.labels for label in _NO_WORKERS):
            continue
        cpu = _milli_cpu(str(node.status.allocatable.get("cpu", "")))
        if not node.zone or not cpu:
            return {}
        millis[node.zone] = millis.get(node.zone, 0) + cpu
    total = sum(millis.values())
    return {zone: cpu / total for zone, cpu in millis.items()} if len(millis) > 1 else {}


def _milli_cpu(quantity: str) -> int:
    """A quantity of CPUs in thousandths, rounded up; 0 for what is none."""
    factor = _SUFFIXES.get(quantity[-1:], 1.0)
    try:
        return math.ceil(float(quantity[:-1] if quantity[-1:] in _SUFFIXES else quantity) * factor * 1000)
    except ValueError:
        return 0


def allocate(shares: Mapping[str, float], count: int) -> dict[str, Allocation] | str:
    """How many of `count` ready endpoints each zone is to have, or why that cannot be said."""
    if not shares:
        return _NODES_UNKNOWN
    if len(shares) > count:
        return f"{_TOO_FEW} ({count} endpoints, {len(shares)} zones)"
    desired = {zone: share * count for zone, share in shares.items()}
    minimum = {zone: math.ceil(number / (1 + _OVERLOAD_THRESHOLD)) for zone, number in desired.items()}
    spare = count - sum(minimum.values())
    if spare < 0:
        return f"{_OVERLOADED} ({count} endpoints, {len(shares)} zones)"
    return {
        zone: Allocation(least, least + spare, max(desired[zone], least)) for zone, least in minimum.items()
    }


def add_topology_hints(plan: Plan, shares: Mapping[str, float]) -> tuple[str, str]:
    """Hint the endpoints of a plan. Reason and message of an Event: that it was done, or why not."""
    why_not = _distribute(plan, shares)
    if why_not is None:
        return HINTS_ENABLED
    add_hints(plan, no_hint)
    return "TopologyAwareHintsDisabled", f"{why_not}{_FAMILY}"


def _distribute(plan: Plan, shares: Mapping[str, float]) -> str | None:
    """Hint by zones; why not, where that cannot be."""
    slices = [*(draft.endpoints for draft in plan.drafts), *(item.endpoints for item in plan.unchanged)]
    allocations = allocate(shares, sum(is_ready(endpoint) for item in slices for endpoint in item))
    if isinstance(allocations, str):
        return allocations
    counts, doubtful = _sort_out(plan, allocations)
    drafts = [*plan.drafts, *doubtful]
    for draft in drafts:
        for number, endpoint in enumerate(draft.endpoints):
            if not is_ready(endpoint):
                draft.endpoints[number] = hinted(endpoint, None)
                continue
            if not endpoint.zone:
                return _ZONE_UNKNOWN
            counts[endpoint.zone] = counts.get(endpoint.zone, 0) + 1
            draft.endpoints[number] = hinted(endpoint, _for_zone(endpoint.zone))
    giving, receiving = balance(allocations, counts)
    _redistribute(drafts, giving, receiving)
    # An endpoint of a zone without nodes always looks as if its slice were to be hinted anew.
    changed = [d for d in doubtful if d.present is not None and d.present.endpoints != tuple(d.endpoints)]
    plan.update += changed
    written = {draft.present.name for draft in changed if draft.present is not None}
    plan.unchanged = [item for item in plan.unchanged if item.name not in written]
    return None


def _sort_out(plan: Plan, allocations: Mapping[str, Allocation]) -> tuple[dict[str, int], list[Draft]]:
    """The endpoints of each zone in the unchanged slices whose hints fit, and drafts of the other slices."""
    counts: dict[str, int] = {}
    doubtful: list[Draft] = []
    for item in plan.unchanged:
        zones = _hinted_zones(item)
        fits = zones is not None and all(
            zone in allocations and counts.get(zone, 0) + number <= allocations[zone].maximum
            for zone, number in zones.items()
        )
        if zones is None or not fits:
            doubtful.append(Draft(item.ports, list(item.endpoints), item))
            continue
        for zone, number in zones.items():
            counts[zone] = counts.get(zone, 0) + number
    return counts, doubtful


def _hinted_zones(item: EndpointSlice) -> dict[str, int] | None:
    """How many ready endpoints a slice has for each zone; None where one has no hint."""
    zones: dict[str, int] = {}
    for endpoint in item.endpoints:
        if not is_ready(endpoint):
            continue
        if endpoint.hints is None or not endpoint.hints.for_zones:
            return None
        for zone in endpoint.hints.for_zones:
            zones[zone.name] = zones.get(zone.name, 0) + 1
    return zones


def balance(
    allocations: Mapping[str, Allocation], counts: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """How many endpoints each zone gives to others, and how many each receives.

    Nothing moves for less than half an endpoint, nor where neither side has a whole one to move.
    """
    surplus = {zone: counts.get(zone, 0) - wanted.desired for zone, wanted in sorted(allocations.items())}
    lack = {zone: -number for zone, number in surplus.items()}
    giving: dict[str, int] = {}
    receiving: dict[str, int] = {}
    while surplus:
        giver, receiver = max(surplus, key=surplus.__getitem__), max(lack, key=lack.__getitem__)
        give, take = surplus[giver], lack[receiver]
        if min(give, take) < 0.5 or max(give, take) < 1.0:
            break
        giving[giver] = giving.get(giver, 0) + 1
        receiving[receiver] = receiving.get(receiver, 0) + 1
        surplus[giver] -= 1
        lack[receiver] -= 1
    return giving, receiving


def _redistribute(drafts: Sequence[Draft], giving: dict[str, int], receiving: dict[str, int]) -> None:
    takers = [zone for zone, number in sorted(receiving.items()) for _ in range(number)]
    for draft in drafts:
        for number, endpoint in enumerate(draft.endpoints):
            if not takers:
                return
            if endpoint.zone and is_ready(endpoint) and giving.get(endpoint.zone):
                giving[endpoint.zone] -= 1
                draft.endpoints[number] = hinted(endpoint, _for_zone(takers.pop(0)))


def _for_zone(zone: str) -> EndpointHints:
    return EndpointHints(for_zones=(ForZone(name=zone),))
