"""The network: the groups discovery.k8s.io, networking.k8s.io and policy.networking.k8s.io."""

from __future__ import annotations

from emu.api.kinds import endpoints, policies
from emu.api.resource import Resource

RESOURCES: tuple[Resource, ...] = (
    Resource(
        group="discovery.k8s.io",
        plural="endpointslices",
        singular="endpointslice",
        kind="EndpointSlice",
        has_generation=True,
        columns=endpoints.SLICE_COLUMNS,
        cells=endpoints.slice_cells,
        default=endpoints.default_slice,
        validate=endpoints.validate_slice,
        validate_update=endpoints.validate_slice_update,
    ),
    Resource(
        group="networking.k8s.io",
        plural="networkpolicies",
        singular="networkpolicy",
        kind="NetworkPolicy",
        short_names=("netpol",),
        has_generation=True,
        columns=policies.COLUMNS,
        cells=policies.row,
        default=policies.default,
        validate=policies.validate,
    ),
)
