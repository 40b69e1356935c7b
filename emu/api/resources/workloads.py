"""Workloads: the groups apps, batch, autoscaling and policy."""

from __future__ import annotations

from emu.api.kinds import workloads
from emu.api.resource import Resource

RESOURCES: tuple[Resource, ...] = (
    Resource(
        group="apps",
        plural="deployments",
        singular="deployment",
        kind="Deployment",
        short_names=("deploy",),
        categories=("all",),
        has_status=True,
        has_scale=True,
        has_generation=True,
        columns=workloads.DEPLOYMENT_COLUMNS,
        cells=workloads.deployment_cells,
        default=workloads.default_deployment,
        validate=workloads.validate_deployment,
        validate_update=workloads.validate_selector_update,
    ),
    Resource(
        group="apps",
        plural="replicasets",
        singular="replicaset",
        kind="ReplicaSet",
        short_names=("rs",),
        categories=("all",),
        has_status=True,
        has_scale=True,
        has_generation=True,
        columns=workloads.REPLICA_SET_COLUMNS,
        cells=workloads.replica_set_cells,
        default=workloads.default_replica_set,
        validate=workloads.validate_replica_set,
        validate_update=workloads.validate_selector_update,
        fields=workloads.replica_set_fields,
        field_labels=("status.replicas",),
    ),
)
