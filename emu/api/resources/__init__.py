"""The table of everything that is served. One more kind is one more row, in the module of its group."""

from __future__ import annotations

from collections.abc import Mapping

from emu.api.resource import Resource
from emu.api.resources import cluster, core, network, workloads

RESOURCES: tuple[Resource, ...] = (
    *core.RESOURCES,
    *workloads.RESOURCES,
    *network.RESOURCES,
    *cluster.RESOURCES,
)

BY_NAME: Mapping[str, Resource] = {resource.name: resource for resource in RESOURCES if resource.view is None}
BY_PATH: Mapping[tuple[str, str, str], Resource] = {
    (resource.group, resource.version, resource.plural): resource for resource in RESOURCES
}
