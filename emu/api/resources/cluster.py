"""What runs a cluster: coordination.k8s.io, events.k8s.io, rbac.authorization.k8s.io, and other groups."""

from __future__ import annotations

from emu.api.kinds import simple
from emu.api.resource import Resource

RESOURCES: tuple[Resource, ...] = (
    Resource(
        group="coordination.k8s.io",
        plural="leases",
        singular="lease",
        kind="Lease",
        columns=simple.LEASE_COLUMNS,
        cells=simple.lease_cells,
        validate=simple.validate_lease,
    ),
)
