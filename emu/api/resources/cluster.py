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
    Resource(
        group="authentication.k8s.io",
        plural="selfsubjectreviews",
        singular="selfsubjectreview",
        kind="SelfSubjectReview",
        namespaced=False,
        verbs=("create",),
        columns=simple.PLAIN_COLUMNS,
        cells=simple.plain_cells,
    ),
    Resource(
        group="authentication.k8s.io",
        plural="tokenreviews",
        singular="tokenreview",
        kind="TokenReview",
        namespaced=False,
        verbs=("create",),
        columns=simple.PLAIN_COLUMNS,
        cells=simple.plain_cells,
    ),
    Resource(
        group="authorization.k8s.io",
        plural="localsubjectaccessreviews",
        singular="localsubjectaccessreview",
        kind="LocalSubjectAccessReview",
        namespaced=True,
        verbs=("create",),
        columns=simple.PLAIN_COLUMNS,
        cells=simple.plain_cells,
    ),
    Resource(
        group="authorization.k8s.io",
        plural="selfsubjectaccessreviews",
        singular="selfsubjectaccessreview",
        kind="SelfSubjectAccessReview",
        namespaced=False,
        verbs=("create",),
        columns=simple.PLAIN_COLUMNS,
        cells=simple.plain_cells,
    ),
    Resource(
        group="authorization.k8s.io",
        plural="selfsubjectrulesreviews",
        singular="selfsubjectrulesreview",
        kind="SelfSubjectRulesReview",
        namespaced=False,
        verbs=("create",),
        columns=simple.PLAIN_COLUMNS,
        cells=simple.plain_cells,
    ),
    Resource(
        group="authorization.k8s.io",
        plural="subjectaccessreviews",
        singular="subjectaccessreview",
        kind="SubjectAccessReview",
        namespaced=False,
        verbs=("create",),
        columns=simple.PLAIN_COLUMNS,
        cells=simple.plain_cells,
    ),
)
