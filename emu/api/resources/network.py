"""The network: the groups discovery.k8s.io, networking.k8s.io and policy.networking.k8s.io."""

from __future__ import annotations

from emu.api.kinds import endpoints, ingresses, policies
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
    Resource(
        group="networking.k8s.io",
        plural="ingresses",
        singular="ingress",
        kind="Ingress",
        short_names=("ing",),
        has_status=True,
        has_generation=True,
        columns=ingresses.INGRESS_COLUMNS,
        cells=ingresses.ingress_cells,
        default=ingresses.default_ingress,
        validate=ingresses.validate_ingress,
        validate_status=ingresses.validate_ingress_status,
    ),
    Resource(
        group="networking.k8s.io",
        plural="ingressclasses",
        singular="ingressclass",
        kind="IngressClass",
        namespaced=False,
        has_generation=True,
        columns=ingresses.CLASS_COLUMNS,
        cells=ingresses.class_cells,
        default=ingresses.default_class,
        validate=ingresses.validate_class,
        validate_update=ingresses.validate_class_update,
    ),
)
