"""Hints by `spec.trafficDistribution`: an endpoint is for its own zone, or for its own node.

Source: KEP-4444, KEP-3015, and `trafficdist` of k8s.io/endpointslice. Only endpoints that are ready have
hints, since only those are chosen by them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from msgspec.structs import replace

from emu.controllers.slices import Draft, Plan
from emu.core.objects import Endpoint, EndpointHints, ForNode, ForZone, Service

Hint = Callable[[Endpoint], EndpointHints | None]
_SAME_ZONE = ("PreferClose", "PreferSameZone")
_SAME_NODE = "PreferSameNode"


def is_ready(endpoint: Endpoint) -> bool:
    """Whether an endpoint is told to be ready, in so many words."""
    return endpoint.conditions.ready is True


def hint_of(service: Service) -> Hint:
    """How the endpoints of a Service are hinted by its trafficDistribution."""
    if service.spec.traffic_distribution == _SAME_NODE:
        return _same_node
    return _same_zone if service.spec.traffic_distribution in _SAME_ZONE else no_hint


def no_hint(endpoint: Endpoint) -> None:
    """Traffic may come from everywhere."""


def _same_zone(endpoint: Endpoint) -> EndpointHints | None:
    return _near(endpoint.zone, None) if is_ready(endpoint) else None


def _same_node(endpoint: Endpoint) -> EndpointHints | None:
    return _near(endpoint.zone, endpoint.node_name) if is_ready(endpoint) else None


@lru_cache(4096)
def _near(zone: str | None, node: str | None) -> EndpointHints | None:
    zones = (ForZone(name=zone),) if zone else ()
    nodes = (ForNode(name=node),) if node else ()
    return EndpointHints(for_zones=zones, for_nodes=nodes) if zones or nodes else None


def add_hints(plan: Plan, hint: Hint) -> None:
    """Hint all that is to be written; a slice that was to stay as it is and has other hints changes."""
    for draft in plan.drafts:
        draft.endpoints = [hinted(endpoint, hint(endpoint)) for endpoint in draft.endpoints]
    unchanged = []
    for item in plan.unchanged:
        if all(endpoint.hints == hint(endpoint) for endpoint in item.endpoints):
            unchanged.append(item)
        else:
            endpoints = [hinted(endpoint, hint(endpoint)) for endpoint in item.endpoints]
            plan.update.append(Draft(item.ports, endpoints, item))
    plan.unchanged = unchanged


def hinted(endpoint: Endpoint, hints: EndpointHints | None) -> Endpoint:
    """An endpoint with other hints."""
    return endpoint if endpoint.hints == hints else replace(endpoint, hints=hints)
