"""Subsets of Endpoints in their one canonical form, and no more of them than an object may hold.

Source: `RepackSubsets` in pkg/api/v1/endpoints, and `truncateEndpoints` of the Endpoints controller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from emu.core.objects import EndpointAddress, EndpointsPort, EndpointSubset

CAPACITY = 1000
"""Addresses in one Endpoints object."""

_Key = tuple[str, str]


def repack(subsets: Iterable[EndpointSubset]) -> tuple[EndpointSubset, ...]:
    """Ports that the same addresses offer, equally ready, share a subset; addresses are told by IP and pod.

    What is once not ready on a port is not ready on it. Everything is sorted, so that equal content is equal.
    """
    known: dict[_Key, EndpointAddress] = {}
    offers: dict[EndpointsPort | None, dict[_Key, bool]] = {}
    for subset in subsets:
        for port in subset.ports or (None,):
            offer = offers.setdefault(port, {})
            for addresses, ready in ((subset.addresses, True), (subset.not_ready_addresses, False)):
                for address in addresses:
                    key = _key(address)
                    known.setdefault(key, address)
                    offer[key] = offer.get(key, True) and ready
    groups: dict[frozenset[tuple[_Key, bool]], list[EndpointsPort | None]] = {}
    for port, offer in offers.items():
        if offer:
            groups.setdefault(frozenset(offer.items()), []).append(port)
    packed = []
    for offered, ports in groups.items():
        keys = sorted(offered)
        packed.append(
            EndpointSubset(
                addresses=tuple(known[key] for key, ready in keys if ready),
                not_ready_addresses=tuple(known[key] for key, ready in keys if not ready),
                ports=tuple(sorted((port for port in ports if port is not None), key=_order)),
            )
        )
    return tuple(sorted(packed, key=lambda subset: [_order(port) for port in subset.ports]))


def _key(address: EndpointAddress) -> _Key:
    return address.ip, address.target_ref.uid if address.target_ref is not None else ""


def _order(port: EndpointsPort) -> tuple[str, str, int]:
    return port.name, port.protocol, port.port


def truncate(subsets: Sequence[EndpointSubset]) -> tuple[EndpointSubset, ...]:
    """At most CAPACITY addresses, ready ones first, from each subset in proportion to what it has."""
    ready = sum(len(subset.addresses) for subset in subsets)
    waiting = sum(len(subset.not_ready_addresses) for subset in subsets)
    if ready + waiting <= CAPACITY:
        return tuple(subsets)
    room = CAPACITY if ready > CAPACITY else CAPACITY - ready
    left = room
    kept = []
    for subset in subsets:
        if ready > CAPACITY:
            share = min(math.ceil(len(subset.addresses) / ready * room), left)
            subset = replace(subset, addresses=subset.addresses[:share], not_ready_addresses=())
            left -= len(subset.addresses)
        else:
            share = min(math.ceil(len(subset.not_ready_addresses) / waiting * room), left)
            subset = replace(subset, not_ready_addresses=subset.not_ready_addresses[:share])
            left -= len(subset.not_ready_addresses)
        if subset.addresses or subset.not_ready_addresses:
            kept.append(subset)
    return tuple(kept)
